# Sourced by wine.sh and qemu.sh: Debian packages, from wherever this machine gets them.

# The exit code that test runners read as "skipped".
readonly skipped=77

# Debian's name for the release of this machine; empty elsewhere.
release=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || release=

skip() {
    echo "${0##*/}: skipped: $1" >&2
    exit "$skipped"
}

# Said before anything is changed.
needs_root_on_debian() {
    if [ "$(id -u)" != 0 ] || [ -z "$release" ]; then
        skip "$1 needs root on Debian"
    fi
}

# install_packages PACKAGE… [-- PREFIX…]: with a prefix, apt-get runs as `PREFIX… apt-get`.
# The index is fetched only where the packages are not to be had without: on a fresh machine.
install_packages() {
    local packages=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        packages+=("$1")
        shift
    done
    [ $# -eq 0 ] || shift
    local apt=("$@" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)
    "${apt[@]}" install --no-install-recommends "${packages[@]}" >&2 || {
        "${apt[@]}" update >&2
        "${apt[@]}" install --no-install-recommends "${packages[@]}" >&2
    }
}
