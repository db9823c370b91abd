#!/bin/bash
# Runs the core's unit tests, and the C program of the pools, under valgrind's memcheck: no byte is
# used that nothing was written to, or that is not there any more, and nothing is lost.
#
#   valgrind.sh [NAME…]     the unit tests with a NAME in theirs; default: pool
#
# Exit code 77: skipped, because setting up needs root on Debian.
# ZIG: the compiler; default: python3 -m ziglang.
set -eu
. "$(dirname "$0")/debian.sh"
cd "$(dirname "$0")/../.."

if ! command -v valgrind >/dev/null; then
    needs_root_on_debian valgrind
    install_packages valgrind
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
zig=${ZIG:-python3 -m ziglang}
filters=()
for name in "${@:-pool}"; do filters+=(--test-filter "$name"); done

# memcheck knows neither this machine's newest instructions nor the other backend's debugging data.
flags=(-mcpu=baseline -fllvm -fvalgrind -lc)
# Without optimizing it would take hours.
$zig test core/memmgr.zig -O ReleaseSafe "${flags[@]}" "${filters[@]}" --test-no-exec -femit-bin="$folder/unit"
$zig cc -mcpu=baseline -O1 -g -fno-sanitize=all -Iinclude tests/c/pool.c \
    -c -o "$folder/pool.o"
$zig build-lib core/libmemmgr.zig "${flags[@]}" -O ReleaseSafe -fno-stack-check -fcompiler-rt \
    -femit-bin="$folder/libmemmgr.a"
$zig cc -mcpu=baseline "$folder/pool.o" "$folder/libmemmgr.a" -o "$folder/pool" -pthread

# Fails if it found anything, whatever the program says of itself. A child of a fork has lost what
# the threads had that it does not have.
check() {
    valgrind --quiet --error-exitcode=99 --fair-sched=yes "$@"
}
check --leak-check=full --errors-for-leak-kinds=definite "$folder/pool"
check "$folder/unit"
