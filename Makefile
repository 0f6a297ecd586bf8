# make run    build and start everything on this machine
# make test   all tests, with what they need
# make help   the rest

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
BIN := $(TARGET_DIR)/fast/throughline

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1\t\2/' | expand -t 14

.PHONY: tools
tools: ## fetch nats-server where no new enough one is installed
	@tools/fetch-nats-server.sh

.PHONY: build
build: ## the program, quick to build and nearly as quick as a release
	cargo build --locked --profile fast -p throughline-daemon

.PHONY: run
run: build ## start with the demo policy and the demo page
	@THROUGHLINE_NATS_SERVER="$$(tools/fetch-nats-server.sh)"
	export THROUGHLINE_NATS_SERVER
	exec $(BIN) run --config config/throughline.toml

.PHONY: test
test: ## every test, installing what they need; of a development build, which asserts more and is built from the same parts
	@tools/test-deps.sh
	cargo build --locked --workspace --bins
	THROUGHLINE_NATS_SERVER="$$(tools/fetch-nats-server.sh)"
	export THROUGHLINE_NATS_SERVER
	export THROUGHLINE_BIN=$(TARGET_DIR)/debug/throughline
	export THROUGHLINE_PYTHON=$(CURDIR)/.venv/bin/python
	cargo test --locked --workspace
	cargo test --locked -p throughline-contract --features schema --config profile.dev.package.throughline-contract.opt-level=0

.PHONY: crash
crash: build ## the long crash test: 500 kills (THROUGHLINE_CRASHES to change)
	@THROUGHLINE_NATS_SERVER="$$(tools/fetch-nats-server.sh)"
	export THROUGHLINE_NATS_SERVER
	export THROUGHLINE_BIN=$(BIN)
	export THROUGHLINE_CRASHES="$${THROUGHLINE_CRASHES:-500}"
	cargo test --locked -p throughline-tests --test it -- crash --nocapture

.PHONY: upgrade
upgrade: build ## this version after and beside an earlier one (PREVIOUS=<commit>; the last but one when left out)
	@THROUGHLINE_NATS_SERVER="$$(tools/fetch-nats-server.sh)"
	export THROUGHLINE_NATS_SERVER
	export THROUGHLINE_BIN=$(BIN)
	export THROUGHLINE_PREVIOUS="$$(tools/build-previous.sh "$(or $(PREVIOUS),HEAD~1)")"
	cargo test --locked -p throughline-tests --test it -- upgrade --nocapture

.PHONY: chaos
chaos: build ## the long tests: 200 things go wrong on a cluster, and three minutes without a server (THROUGHLINE_CHAOS to change, THROUGHLINE_SEED to repeat)
	@THROUGHLINE_NATS_SERVER="$$(tools/fetch-nats-server.sh)"
	export THROUGHLINE_NATS_SERVER
	export THROUGHLINE_BIN=$(BIN)
	export THROUGHLINE_CHAOS="$${THROUGHLINE_CHAOS:-200}" THROUGHLINE_AWAY_SECONDS="$${THROUGHLINE_AWAY_SECONDS:-180}"
	cargo test --locked -p throughline-tests --test it -- chaos away --nocapture

.PHONY: bench
bench: build ## the benches, as ratios to a bare publish loop
	@THROUGHLINE_NATS_SERVER="$$(tools/fetch-nats-server.sh)"
	export THROUGHLINE_NATS_SERVER
	export THROUGHLINE_BIN=$(BIN)
	cargo run --locked --profile fast -p throughline-benches

.PHONY: simulate
simulate: build ## 100,000 seeds of the world in which everything goes wrong (THROUGHLINE_SEEDS to change)
	@THROUGHLINE_COMMIT="$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
	export THROUGHLINE_COMMIT
	exec nice $(BIN) simulate --scenario chaos --seed 0 --seeds "$${THROUGHLINE_SEEDS:-100000}"

DEB_DIR ?= $(TARGET_DIR)/debian
.PHONY: deb
deb: ## the Debian package, with its nats-server, in target/debian
	cargo build --locked --release -p throughline-daemon
	tools/deb.sh $(TARGET_DIR)/release/throughline $(DEB_DIR)

.PHONY: coverage
coverage: ## the part of the engine that the scenarios and properties run through; at least 95 %
	@tools/coverage.sh

.PHONY: lint
lint: ## formatting, clippy and the rules of the house
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked -p throughline-tests --test it house

.PHONY: lint-deploy
lint-deploy: ## what is in deploy/ for containers, by the linters made for it (needs kubectl and python3)
	@tools/lint-deploy.sh

.PHONY: clean
clean: ## what was built and what `make run` stored
	cargo clean
	rm -rf data
