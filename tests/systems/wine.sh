#!/bin/bash
# Runs Windows test programs under Wine 10, where placeholders work, and under Wine 8, where they
# answer error 87 and the library takes its fallback path.
#
#   wine.sh setup 10|8                    once; takes a minute, later no time
#   wine.sh run 10|8 PROGRAM.exe [ARG…]   sets up if needed; the exit code is the program's
#
# Wine 8 is Debian bookworm's, Wine 10 is trixie's. The one of this machine's own release is
# installed on it; for the other one its release is unpacked into a folder (1.4 GB) and entered by
# chroot in a mount namespace of its own, so that nothing stays mounted. All folders but the
# system's own (/usr, /var, …) have the same paths there, for every run, since runs share a server
# that opens their files.
#
# Exit code 77: skipped, because it needs root on Debian, and the right to mount.
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

# inside COMMAND [ARG…]: runs it in the release that has this Wine.
inside() {
    if [ -z "$root" ]; then
        "$@"
        return
    fi
    unshare --mount --propagation private bash -eu -c '
        for folder in /*/; do
            folder=${folder%/}
            case $folder in
            /bin | /boot | /etc | /lib* | /lost+found | /run | /sbin | /usr | /var) ;;
            *)
                mkdir -p "$0$folder"
                mount --rbind "$folder" "$0$folder"
                ;;
            esac
        done
        exec chroot "$0" env -C "$PWD" "$@"
    ' "$root" "$@"
}

# Wine with a home and a prefix of its own, silent about itself.
wine() {
    inside env HOME="$home" XDG_RUNTIME_DIR="$home" WINEPREFIX="$home/prefix" \
        WINEDEBUG=-all WINEDLLOVERRIDES=mscoree,mshtml= /usr/lib/wine/wine64 "$@"
}

setup() {
    # Entering the other release takes root each time, and a kernel that lets it mount.
    if [ -n "$root" ] || [ ! -x /usr/lib/wine/wine64 ]; then
        needs_root_on_debian "Wine $version"
    fi
    if [ -n "$root" ] && ! unshare --mount true 2>/dev/null; then
        skip "Wine $version needs the right to mount"
    fi
    [ ! -e "$home/ready" ] || return 0
    mkdir -p "$home"
    if [ -n "$root" ] && [ ! -d "$root" ]; then
        install_packages debootstrap
        rm -rf "$root.part"
        debootstrap --variant=minbase "$wine_release" "$root.part" "$(apt-get indextargets \
            --format '$(REPO_URI)' "Codename: $release" 'Component: main' | head -n 1)" >&2
        mv "$root.part" "$root"
    fi
    if [ ! -x "$root/usr/lib/wine/wine64" ]; then
        (cd / && install_packages wine wine64 -- inside)
    fi
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
