#!/bin/bash
# Runs Python's tests on every CPython from 3.10 on that this machine has, each in an environment of
# its own: with the one wheel for all of them where there is the limited API, else built for it.
#
#   pythons.sh [--oldest] [PYTHON…]   default: python3.10 and up on PATH and of pyenv
#
# --oldest: with the oldest NumPy that is supported and that this Python can have, not the newest.
# MEMMGR_SYSTEMS_DIR: where the environments are kept; default ~/.cache/memmgr-systems.
set -eu
cd "$(dirname "$0")/../.."

numpy=numpy
if [ "${1-}" = --oldest ]; then
    numpy='numpy==1.26.*;python_version<"3.13" numpy==2.1.*;python_version=="3.13"'
    shift
fi

# Its version, and a t if it is one without the GIL.
name_of() {
    "$1" -c 'import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))'
}

if [ $# -eq 0 ]; then
    seen=' '
    for python in "$HOME"/.pyenv/versions/3.1[0-9]*/bin/python \
        $(compgen -c | grep -E '^python3\.1[0-9]+t?$' | sort -u); do
        name=$(name_of "$python" 2>/dev/null) || continue
        case $seen in *" $name "*) continue ;; esac
        seen="$seen$name "
        set -- "$@" "$python"
    done
fi
environments=${MEMMGR_SYSTEMS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/memmgr-systems}/pythons
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

code=0
for python in "$@"; do
    name=$(name_of "$python")
    echo "== Python $name"
    environment=$environments/$name
    [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
    pip() { "$environment/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
    # The first Python builds the wheel of them all.
    case $name in
    *t) wheels=$work/$name ;;
    *) wheels=$work/abi3 ;;
    esac
    compgen -G "$wheels/*.whl" >/dev/null ||
        "$environment/bin/python" -m pip wheel -q --no-deps --wheel-dir "$wheels" .
    pip --force-reinstall --no-deps "$wheels"/*.whl
    IFS=' ' read -r -a numpys <<<"$numpy"
    pip "${numpys[@]}" "memmgr[test] @ file://$(compgen -G "$wheels/*.whl")"
    "$environment/bin/python" -c 'import numpy; print("NumPy", numpy.__version__)'
    "$environment/bin/python" -m pytest -q tests/python || code=1
done
exit $code
