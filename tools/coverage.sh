#!/usr/bin/env bash
# How many lines of the engine the scenarios and properties run through; fails below the given part (95 %).
# Needs the llvm-tools of the toolchain (rustup component add llvm-tools), or an LLVM as new as rustc's.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
least=${1:-95}

host=$(rustc -vV | sed -n 's/^host: //p')
tools="$(rustc --print sysroot)/lib/rustlib/$host/bin"
find_tool() {
  if [ -x "$tools/$1" ]; then
    printf '%s\n' "$tools/$1"
  else
    # The newest that is installed: an old one cannot read what rustc writes.
    for version in -24 -23 -22 -21 -20 -19 ''; do
      command -v "$1$version" && return
    done
    printf 'no %s: run `rustup component add llvm-tools`, or install llvm-19 or later\n' "$1" >&2
    return 1
  fi
}
profdata=$(find_tool llvm-profdata)
cov=$(find_tool llvm-cov)

work=${CARGO_TARGET_DIR:-$root/target}/coverage
mkdir -p "$work"
rm -f "$work"/*.profraw
# Only the workspace is instrumented: dependencies would be built once more, for nothing.
wrapper=$work/instrument
printf '#!/bin/sh\nexec "$@" -Cinstrument-coverage\n' > "$wrapper"
chmod +x "$wrapper"
export RUSTC_WORKSPACE_WRAPPER=$wrapper CARGO_TARGET_DIR=$work CARGO_INCREMENTAL=0
export LLVM_PROFILE_FILE=$work/%p-%m.profraw

run=$(cargo test --locked -p throughline-engine --test it --no-run --message-format=json |
  sed -n 's/.*"executable":"\([^"]*\/it-[^"]*\)".*/\1/p' | tail -n 1)
(cd crates/engine && "$run" --quiet)
"$profdata" merge -sparse "$work"/*.profraw -o "$work/engine.profdata"
"$cov" report "$run" -instr-profile="$work/engine.profdata" "$root"/crates/engine/src |
  awk 'BEGIN { print "file", "lines", "missed", "covered" } /\.rs/ || /^TOTAL/ { print $1, $8, $9, $10 }' | column -t
"$cov" export "$run" -instr-profile="$work/engine.profdata" -summary-only "$root"/crates/engine/src |
  python3 -c '
import json, sys
lines = json.load(sys.stdin)["data"][0]["totals"]["lines"]
least = float(sys.argv[1])
print("lines of the engine: {covered} of {count}, {percent:.1f} %".format(**lines))
sys.exit(lines["percent"] < least and f"below {least} %")
' "$least"
