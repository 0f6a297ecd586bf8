#!/usr/bin/env bash
# Looks at deploy/ with the linters that are made for it. They are fetched into .tools/deploy-lint, 50 MB, the first time.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
linters=.tools/deploy-lint
if ! cmp -s tools/deploy-lint.txt "$linters/installed.txt"; then
  rm -rf "$linters"
  python3 -m venv "$linters"
  "$linters/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: --requirement tools/deploy-lint.txt
  cp tools/deploy-lint.txt "$linters/installed.txt"
fi

"$linters/bin/hadolint" deploy/container/Containerfile
"$linters/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose/compose.yaml
manifests=$(mktemp)
trap 'rm -f "$manifests"' EXIT
if command -v kubectl >/dev/null; then
  kubectl kustomize deploy/kubernetes > "$manifests"
  "$linters/bin/kubernetes-validate" --strict "$manifests"
else
  echo "no kubectl: the manifests for Kubernetes are not looked at" >&2
fi
if command -v systemd-analyze >/dev/null; then
  # How much is open to the service, of 10: more than this needs a reason.
  systemd-analyze security --offline=true --threshold=15 --no-pager deploy/systemd/throughline.service | tail -n 1
fi
