#!/bin/bash
# Runs Windows test programs under Wine 10, where placeholders work, and under Wine 8, where they
# answer error 87 and the library takes its fallback path.
#
#   wine.sh setup 10|8                    once; takes minutes, later no time
#   wine.sh run 10|8 PROGRAM.exe [ARG…]   sets up if needed; the exit code is the program's
#
# Wine 8 is Debian bookworm's, Wine 10 is trixie's. The one of this machine's own release is
# installed on it; for the other one its release is unpacked into a folder (1.4 GB) and entered by
# chroot in a mount namespace of its own, so that nothing stays mounted. The folders of the program
# and of the caller have the same paths there.
#
# Exit code 77: skipped, because setting up needs root on Debian.
# MEMMGR_SYSTEMS_DIR: where everything is kept; default ~/.cache/memmgr-systems.
set -eu
. "$(dirname "$0")/debian.sh"

usage() {
    sed -n '5,6s/^#  *//p' "$0" >&2
    exit 2
}

[ $# -ge 2 ] || usage
command=$1 version=$2
shift 2
case $version in
10) wine_release=trixie ;;
8) wine_release=bookworm ;;
*) usage ;;
esac

systems=${MEMMGR_SYSTEMS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/memmgr-systems}
home=$systems/wine$version
root=
[ "$release" = "$wine_release" ] || root=$systems/$wine_release

# inside [FOLDER…] -- COMMAND [ARG…]: runs in the release that has this Wine; the folders are seen
# there as they are here.
inside() {
    if [ -z "$root" ]; then
        while [ "$1" != -- ]; do shift; done
        shift
        "$@"
        return
    fi
    unshare --mount --propagation private bash -eu -c '
        set -- /proc /sys /dev "$@"
        while [ "$1" != -- ]; do
            if [ "$1" != / ]; then
                mkdir -p "$0$1"
                mount --rbind "$1" "$0$1"
            fi
            shift
        done
        shift
        exec chroot "$0" env -C "$PWD" "$@"
    ' "$root" "$@"
}

# Wine with a home and a prefix of its own, silent about itself.
wine() {
    inside "$home" "$PWD" "$(dirname "$(realpath "$1")")" -- env \
        HOME="$home" XDG_RUNTIME_DIR="$home" WINEPREFIX="$home/prefix" \
        WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml= /usr/lib/wine/wine64 "$@"
}

setup() {
    [ ! -e "$home/ready" ] || return 0
    needs_root_on_debian "Wine $version"
    mkdir -p "$home"
    if [ -n "$root" ] && [ ! -d "$root" ]; then
        install_packages debootstrap
        rm -rf "$root.part"
        debootstrap --variant=minbase "$wine_release" "$root.part" "$(apt-get indextargets \
            --format '$(REPO_URI)' "Codename: $release" 'Component: main' | head -n 1)" >&2
        mv "$root.part" "$root"
    fi
    (cd / && install_packages wine wine64 -- inside --)
    # The prefix; without the installers that Wine would offer there (WINEDLLOVERRIDES).
    (cd / && wine wineboot.exe --init >&2)
    touch "$home/ready"
}

case $command in
setup) setup ;;
run)
    [ $# -ge 1 ] || usage
    setup
    wine "$@"
    ;;
*) usage ;;
esac
