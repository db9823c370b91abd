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
    # by where the system happened to put it: so always to the same place, in bounded time, and once
    # more if it failed. A fault of ours would be there again.
    # Its table of the names below -L has a lock that its fork does not look after: the child of a
    # program that does nothing but open files on eight threads waits for it for ever. Below / there
    # is nothing to look up.
    for attempt in 1 2; do
        code=0
        timeout 600 setarch -R qemu-aarch64 -L / -p "$@" || code=$?
        [ "$code" -ne 0 ] && [ "$code" -ne 77 ] || break
        echo "attempt $attempt of $2: exit code $code" >&2
    done
    exit "$code"
    ;;
*) usage ;;
esac
