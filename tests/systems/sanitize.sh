#!/bin/bash
# Runs the C programs under AddressSanitizer and UndefinedBehaviorSanitizer, linked with a library
# that checks itself (mode safe): the header's functions write nowhere but where they may, nothing
# is used after it was freed, and nothing in C is undefined.
#
#   sanitize.sh [NAME…]     the programs of tests/c of these names; default: all that can
#
# Exit code 77: skipped, because setting up needs root on Debian.
# ZIG: the compiler of the library; default: python3 -m ziglang.
set -eu
. "$(dirname "$0")/debian.sh"
cd "$(dirname "$0")/../.."

if ! command -v gcc >/dev/null; then
    needs_root_on_debian gcc
    install_packages gcc libc6-dev
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
${ZIG:-python3 -m ziglang} build-lib core/libmemmgr.zig -mcpu=baseline -O ReleaseSafe -fPIC \
    -fno-stack-check -fcompiler-rt -lc -femit-bin="$folder/libmemmgr.a"

# exhaustion lowers the limit of addresses below what the sanitizer has taken for itself.
if [ $# -eq 0 ]; then
    for path in tests/c/*.c; do
        name=$(basename "$path" .c)
        [ "$name" = exhaustion ] || set -- "$@" "$name"
    done
fi
# Faults in mapped files are the library's to handle.
export ASAN_OPTIONS=handle_segv=0:handle_sigbus=0 TMPDIR=$folder
for name; do
    gcc -std=c11 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Iinclude \
        "tests/c/$name.c" "$folder/libmemmgr.a" -o "$folder/$name" -pthread
    echo "$name"
    "$folder/$name"
done
