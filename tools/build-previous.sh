#!/bin/sh
# Builds the program as an earlier commit has it, in a folder of its own, and prints where it is.
set -eu

commit=$(git rev-parse --verify "$1^{commit}")
folder="$PWD/target/previous/$commit"
if [ ! -x "$folder/target/debug/throughline" ]; then
    git worktree remove --force "$folder" >&2 2>/dev/null || true
    git worktree add --detach --force "$folder" "$commit" >&2
    (cd "$folder" && CARGO_TARGET_DIR="$folder/target" cargo build --locked --workspace --bins >&2)
fi
echo "$folder/target/debug/throughline"
