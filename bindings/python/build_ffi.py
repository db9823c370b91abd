"""Builds memmgr._native: libmemmgr by Zig, and round it the module that cffi derives from C.

What Python knows of the library is include/memmgr.h itself: `cdef` takes out of it what cffi's
parser does not read, and names nothing that the header declares. The module is compiled by the
system's compiler, or by Zig's where there is none, so that Python is all a machine has to have;
and for another platform if MEMMGR_WHEEL has that platform's tag (wheels.py goes through them).
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cffi
from setuptools import Extension
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import PlatformError

from distutils.ccompiler import new_compiler  # setuptools' copy, which it puts in place

ROOT = Path(__file__).resolve().parents[2]
ZIG = [Path(sys.executable).as_posix(), "-m", "ziglang"]

# One binary for every CPython from 3.10 on, except those without the GIL: they have no such ABI.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")

# What Python has to have in C, within the limited API of Python 3.10, in this order.
OWN_SOURCES = ("callbacks.c", "numpy_api.c", "pool.c", "view.c", "module.c")

# The core is the module's own, also in a process that has a libmemmgr.so.
LINUX_OPTIONS = ["-s", "-Wl,-Bsymbolic"]

# What can be made on any machine, by Zig: the wheel's platform, and Zig's name of the target.
WHEELS = {
    "manylinux_2_17_x86_64": "x86_64-linux-gnu.2.17",
    "manylinux_2_17_aarch64": "aarch64-linux-gnu.2.17",
    "musllinux_1_2_x86_64": "x86_64-linux-musl",
    "musllinux_1_2_aarch64": "aarch64-linux-musl",
    "macosx_11_0_x86_64": "x86_64-macos.11.0",
    "macosx_11_0_arm64": "aarch64-macos.11.0",
    "win_amd64": "x86_64-windows-gnu",
}

# Processors that Zig has another name for than Apple.
ZIG_MACHINES = {"arm64": "aarch64"}

# What Python.h asks of a 64-bit system in the limited API, which is the same for all of a kind.
PYCONFIG = """
#define SIZEOF_VOID_P 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_LONG_LONG 8
#define SIZEOF_INT 4
#define SIZEOF_SHORT 2
#define SIZEOF_DOUBLE 8
#define SIZEOF_FLOAT 4
#define SIZEOF_PID_T 4
#define SIZEOF_TIME_T 8
#define HAVE_SSIZE_T 1
#define HAVE_STDDEF_H 1
#define HAVE_UINTPTR_T 1
#define HAVE_INTPTR_T 1
#define HAVE_WCHAR_H 1
#define WITH_DOC_STRINGS 1
#define WITH_THREAD 1
#ifdef _WIN32
#define MS_WINDOWS
#define MS_WIN32
#define MS_WIN64
#define HAVE_DECLSPEC_DLL
#define Py_ENABLE_SHARED 1
#define SIZEOF_LONG 4
#define SIZEOF_WCHAR_T 2
#else
#define HAVE_UNISTD_H 1
#define HAVE_SYS_TYPES_H 1
#define SIZEOF_LONG 8
#define SIZEOF_WCHAR_T 4
#endif
"""

# What gives back what arrays hold, in C: a destructor in Python could be interrupted by Ctrl-C.
DESTRUCTORS = """
static void memmgr_python_release(memmgr_manager *manager, memmgr_view *view, void *data)
{
    (void)data;
    memmgr_view_release(manager, view, NULL);
}

static void memmgr_python_write_end(memmgr_manager *manager, memmgr_write *write,
                                    memmgr_error *error, void *data)
{
    (void)data;
    memmgr_write_end(manager, write, error);
}
"""


def cdef(header: str) -> str:
    """Returns the declarations and the integer constants of a header in the dialect of ours.

    The dialect: comments are `/* */`, conditionals hold no declaration that is for cffi, and a
    constant is a literal.
    """
    text = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL).replace("\\\n", "")
    text = re.sub(r"^#ifdef __cplusplus$.*?^#endif$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [
        line
        for line in text.replace("MEMMGR_API ", "").splitlines()
        if not line.startswith("#") or re.fullmatch(r"#define \w+ -?(0x)?[0-9a-f]+", line)
    ]
    return "\n".join(lines)


def make_ffi() -> cffi.FFI:
    """Returns the cffi builder of memmgr._native."""
    ffi = cffi.FFI()
    ffi.cdef(cdef((ROOT / "include" / "memmgr.h").read_text(encoding="utf-8")))
    for prototype in re.findall(r"^static ([^{]*)", DESTRUCTORS, re.MULTILINE):
        ffi.cdef(f"{prototype};")
    # The log function and the progress function that Python hands to C.
    ffi.cdef("void memmgr_python_log(const memmgr_log_record *, void *);")
    ffi.cdef("int32_t memmgr_python_progress(uint64_t, uint64_t, void *);")
    ffi.cdef("int32_t memmgr_python_interrupt(void *);")
    ffi.cdef("int memmgr_python_extend(const char *);")
    own = [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in OWN_SOURCES]
    includes = "#include <structmember.h>\n#include <memmgr.h>"
    ffi.set_source("memmgr._native", "\n".join([includes, DESTRUCTORS, *own]))
    return ffi


class BuildExt(build_ext):
    """Builds the core, then the one extension module, whose sources it makes first."""

    def finalize_options(self) -> None:
        """Chooses the ABI before setuptools derives the module's file name from it."""
        extension = self._extension()
        extension.py_limited_api = LIMITED_API
        extension.define_macros = [
            ("Py_LIMITED_API", "0x030A0000") if LIMITED_API else ("_CFFI_NO_LIMITED_API", None)
        ]
        super().finalize_options()

    def run(self) -> None:
        """Builds into build_temp, with Zig's cache in the source tree if it can be written to.

        Setuptools makes folders of its own there, so a tree that is read-only has to be copied.
        """
        temp = Path(self.build_temp).resolve()
        temp.mkdir(parents=True, exist_ok=True)
        check_headers(Path(sysconfig.get_path("include")))
        source = temp / "_native.c"
        make_ffi().emit_c_code(str(source))
        extension = self._extension()
        if wheel := os.environ.get("MEMMGR_WHEEL"):
            module = Path(self.get_ext_fullpath(extension.name))
            module.parent.mkdir(parents=True, exist_ok=True)
            cross_compile(source, module, temp, WHEELS[wheel])
            return
        target = self._choose_compiler()
        build_core(temp / "core", target)
        extension.sources = [str(source)]
        extension.include_dirs = [str(temp / "core" / "include")]
        name = "memmgr_static.lib" if os.name == "nt" else "libmemmgr.a"
        extension.extra_objects = [str(temp / "core" / "lib" / name)]
        if sys.platform == "linux":
            extension.extra_link_args = LINUX_OPTIONS
        super().run()

    def get_ext_filename(self, fullname: str) -> str:
        """Returns the name that the interpreter of the wheel looks for."""
        wheel = os.environ.get("MEMMGR_WHEEL")
        if wheel is None:
            return str(super().get_ext_filename(fullname))
        suffix = ".pyd" if wheel.startswith("win") else ".abi3.so"
        return os.path.join(*fullname.split(".")) + suffix

    def _extension(self) -> Extension:
        (extension,) = self.distribution.ext_modules
        return extension

    def _choose_compiler(self) -> list[str]:
        """Falls back to `zig cc`; returns what the core has to be built for to fit."""
        if os.name == "nt":
            if has_msvc():
                return ["-Dtarget=native-windows-msvc"]
            self.compiler = "mingw32"
        elif system_compiler() is not None:
            return macos_target() if sys.platform == "darwin" else []
        # Wheels are copied to other machines: no instruction that only this one has.
        compiler = shlex.join([*ZIG, "cc", "-mcpu=baseline"])
        os.environ["CC"] = compiler
        if sys.platform == "linux":
            # The interpreter's own has options of GNU's linker that Zig's does not know.
            os.environ["LDSHARED"] = f"{compiler} -shared"
        return macos_target() if sys.platform == "darwin" else []


class BdistWheel(bdist_wheel):
    """Names the wheel after the ABI that the module is built for."""

    def finalize_options(self) -> None:
        """Says cp310-abi3 where the module uses the limited API."""
        self.py_limited_api = "cp310" if LIMITED_API else False
        if wheel := os.environ.get("MEMMGR_WHEEL"):
            self.plat_name = wheel
        elif sys.platform == "darwin" and len(processors(interpreter_flags())) > 1:
            # The name would say universal2, as the interpreter is.
            machine = macos_machine(os.environ.get("ARCHFLAGS"), interpreter_flags())
            self.plat_name = f"macosx_11_0_{machine}"
        super().finalize_options()


def check_headers(folder: Path) -> None:
    """Says what to do where a system packs Python's headers apart, before a compiler fails."""
    if not (folder / "Python.h").exists():
        raise PlatformError(
            f"Python's headers are not in {folder}: install them (Debian and Ubuntu: python3-dev)"
        )


def build_core(prefix: Path, target: list[str]) -> None:
    """Installs libmemmgr and its header into `prefix`."""
    command = [*ZIG, "build", "--prefix", str(prefix), *target]
    if not os.access(ROOT, os.W_OK):
        command += ["--cache-dir", str(prefix / "cache")]
    # Zig compiles its own build system first: without optimizing it, in a fifth of the time.
    subprocess.run(command, cwd=ROOT, env=os.environ | {"ZIG_DEBUG_CMD": "1"}, check=True)


def cross_compile(source: Path, module: Path, temp: Path, target: str) -> None:
    """Compiles the module, and a core for it, for a target of Zig's, in the limited API.

    Python's headers are the running interpreter's, without what they know of its machine. Its
    functions are found by the interpreter that loads the module; on Windows that takes the name of
    a library, python3.dll, and an import library made of what the module calls.
    """
    if not LIMITED_API:
        raise PlatformError("the limited API takes an interpreter with a GIL")
    build_core(temp / "core", [f"-Dtarget={target}"])
    headers = temp / "headers"
    shutil.copytree(sysconfig.get_path("include"), headers, dirs_exist_ok=True)
    (headers / "pyconfig.h").write_text(PYCONFIG, encoding="utf-8")
    compiler = [*ZIG, "cc", "-target", target, "-mcpu=baseline"]
    object_file = temp / "_native.o"
    flags = ["-O2", "-fPIC", "-DNDEBUG", "-fno-sanitize=all", "-DPy_LIMITED_API=0x030A0000"]
    folders = [f"-I{headers}", f"-I{temp / 'core' / 'include'}"]
    run([*compiler, *flags, *folders, "-c", source, "-o", object_file])
    library = temp / "core" / "lib" / "libmemmgr.a"
    options: Sequence[str | Path]
    if "windows" in target:
        library = library.with_name("memmgr_static.lib")
        options = ["-s", import_library(object_file, temp)]
    elif "macos" in target:
        options = ["-undefined", "dynamic_lookup"]
    else:
        options = LINUX_OPTIONS
    # For Windows the linker puts an import library beside it, which is no part of a wheel.
    linked = temp / module.name
    run([*compiler, "-shared", object_file, library, *options, "-o", linked])
    shutil.copyfile(linked, module)


def import_library(object_file: Path, temp: Path) -> Path:
    """Makes the import library of python3.dll for what an object file imports from it."""
    names = re.findall(rb"\0__imp_(_?Py\w+)(?=\0)", object_file.read_bytes())
    definition, library = temp / "python3.def", temp / "python3.lib"
    exports = sorted({name.decode() for name in names})
    definition.write_text("\n".join(["LIBRARY python3.dll", "EXPORTS", *exports]), "utf-8")
    run([*ZIG, "dlltool", "-m", "i386:x86-64", "-d", definition, "-l", library])
    return library


def run(command: Sequence[str | Path]) -> None:
    """Runs a command that has to succeed."""
    subprocess.run(command, check=True, env=os.environ | {"ZIG_DEBUG_CMD": "1"})


def system_compiler() -> str | None:
    """Returns the path of the compiler that setuptools would call; None if there is none."""
    command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return shutil.which(shlex.split(command)[0])


def has_msvc() -> bool:
    """Whether setuptools finds Visual C++."""
    compiler: Any = new_compiler(compiler="msvc")
    try:
        compiler.initialize()
    except PlatformError:
        return False
    return True


def macos_target() -> list[str]:
    """Returns the processor to build for, with the oldest macOS that every ARM Mac can run.

    The compiler is told the same: it goes by ARCHFLAGS, or else by the interpreter's own flags.
    """
    machine = macos_machine(os.environ.get("ARCHFLAGS"), interpreter_flags())
    os.environ["ARCHFLAGS"] = f"-arch {machine}"
    return [f"-Dtarget={ZIG_MACHINES.get(machine, machine)}-macos.11.0"]


def macos_machine(archflags: str | None, flags: str) -> str:
    """Returns the one processor that the compiler would build for; this machine's, of two.

    python.org's interpreters name two. The core is of one, so that the wheel has to be.
    """
    named = set(processors(flags if archflags is None else archflags))
    if archflags is not None and len(named) > 1:
        raise PlatformError(
            f"ARCHFLAGS names {' and '.join(sorted(named))}: build a wheel for each of them"
        )
    return named.pop() if len(named) == 1 else platform.machine()


def processors(flags: str) -> list[str]:
    """Returns those that flags of Apple's compiler name."""
    return re.findall(r"-arch\s+(\w+)", flags)


def interpreter_flags() -> str:
    """Returns the flags that the interpreter was compiled with."""
    return str(sysconfig.get_config_var("CFLAGS") or "")


if __name__ == "__main__":
    print(cdef(Path(sys.argv[1]).read_text(encoding="utf-8")))
