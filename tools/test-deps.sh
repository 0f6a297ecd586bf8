#!/usr/bin/env bash
# Installs what the system tests need besides cargo: a browser with its driver, an IMAP and an SMTP
# server, and the stock Python client in .venv. Does nothing where it is there already.
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

# The tests start mail servers of their own, with their own settings and ports, so those of the system
# stay off. Servers are not always on the path of an ordinary user.
has_server() { PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null; }
services=()
if ! has_server dovecot || ! [ -x /usr/lib/dovecot/imap ]; then
  has_server dovecot || services+=(dovecot)
  packages+=(dovecot-imapd)
fi
if ! has_server exim4; then
  services+=(exim4)
  packages+=(exim4-daemon-light)
fi
has_server openssl || packages+=(openssl)
# Sets the clock of one process wrong, and judges the alert rules.
compgen -G '/usr/lib*/faketime/libfaketimeMT.so.1' >/dev/null ||
  compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(libfaketime)
if ! has_server promtool; then
  has_server prometheus || services+=(prometheus)
  packages+=(prometheus)
fi

if [ ${#packages[@]} -gt 0 ]; then
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo -n)
  if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    say "installing ${packages[*]}"
    "${as_root[@]}" apt-get update -qq >&2
    # Whatever is installed is not started: packages ask this program, and 101 means no.
    policy=/usr/sbin/policy-rc.d
    if [ ${#services[@]} -gt 0 ] && ! [ -e "$policy" ]; then
      printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
      "${as_root[@]}" chmod 755 "$policy"
      trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    # A mail server that somebody uses here is not replaced by ours.
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends --no-remove "${packages[@]}" >&2; then
      say "could not install ${packages[*]}; is another mail server in the way?"
      exit 1
    fi
    for service in "${services[@]}"; do
      # Nor at the next boot.
      if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl disable --quiet "$service" >&2 || true
      fi
    done
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
