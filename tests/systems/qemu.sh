#!/bin/bash
# Runs aarch64 Linux test programs, statically linked, on pages of 4, 16 or 64 KiB.
#
#   qemu.sh setup                           once
#   qemu.sh run PAGESIZE PROGRAM [ARG…]     sets up if needed; the exit code is the program's
#
# Exit code 77: skipped, because setting up needs root on Debian.
set -eu
. "$(dirname "$0")/debian.sh"

usage() {
    sed -n '4,5s/^#  *//p' "$0" >&2
    exit 2
}

setup() {
    ! command -v qemu-aarch64 >/dev/null || return 0
    needs_root_on_debian qemu
    install_packages qemu-user
}

case ${1-} in
setup) setup ;;
run)
    [ $# -ge 3 ] || usage
    setup
    shift
    # With pages larger than the machine's the emulator loses memory of the program now and then,
    # by where the system happened to put it, and may hang in forks beside threads: so always to
    # the same place, in bounded time, and once more if it failed. A fault of ours would be there
    # again.
    for attempt in 1 2; do
        code=0
        timeout 300 setarch -R qemu-aarch64 -p "$@" || code=$?
        [ "$code" -ne 0 ] && [ "$code" -ne 77 ] || break
        echo "attempt $attempt of $2: exit code $code" >&2
    done
    exit "$code"
    ;;
*) usage ;;
esac
