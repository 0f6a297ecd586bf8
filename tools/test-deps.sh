#!/usr/bin/env bash
# Installs what the system tests need besides cargo: a browser with its driver, and the stock Python
# client in .venv. Does nothing where it is there already.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

say() { printf '%s\n' "$*" >&2; }

packages=()
if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
  packages+=(chromium)
fi
command -v chromedriver >/dev/null || packages+=(chromium-driver)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)

if [ ${#packages[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    say "installing ${packages[*]}"
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2
  else
    say "please install: ${packages[*]} (by whatever name your system has for them)"
    exit 1
  fi
fi

requirements=tools/python-client.txt
if ! cmp -s "$requirements" .venv/installed.txt; then
  say "installing the Python client into .venv"
  rm -rf .venv
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --requirement "$requirements" >&2
  cp "$requirements" .venv/installed.txt
fi
