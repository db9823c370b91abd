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
    code=0
    qemu-aarch64 -p "$@" || code=$?
    # With pages larger than the machine's the emulator now and then refuses the C library memory,
    # which ends the program by a signal: once more, then. A fault of ours would be there again.
    if [ "$code" -ge 128 ]; then
        echo "$1: ended by a signal, once more" >&2
        code=0
        qemu-aarch64 -p "$@" || code=$?
    fi
    exit "$code"
    ;;
*) usage ;;
esac
