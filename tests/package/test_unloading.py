"""A process may unload the shared library, or a plugin that contains it, at any time."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = r"""
#include <memmgr.h>

int use(void) {
    memmgr_manager *manager;
    void *block;
    if (memmgr_manager_open(NULL, &manager, NULL) != MEMMGR_OK) return 1;
    block = memmgr_block_alloc(manager, 64, NULL);
    if (block == NULL || memmgr_block_free(manager, block, NULL) != MEMMGR_OK) return 2;
    return memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, NULL);
}
"""

PROGRAM = r"""
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static const char *path;
static pthread_barrier_t used, unloaded;

static void *load_and_use(void) {
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    int (*use)(void) = plugin ? (int (*)(void))dlsym(plugin, "use") : NULL;
    if (use == NULL || use() != 0) {
        puts("cannot be loaded or used");
        _exit(1);
    }
    return plugin;
}

static void *work(void *plugin) {
    *(void **)plugin = load_and_use();
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&unloaded);
    return NULL; /* calls the library */
}

static long pages(void) {
    long count = -1;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%ld", &count) != 1) puts("cannot read statm");
    if (file != NULL) fclose(file);
    return count;
}

int main(int count, char **arguments) {
    pthread_t thread;
    pthread_key_t key;
    void *plugin;
    long before;
    int keys = 0;
    (void)count;
    path = arguments[1];
    pthread_barrier_init(&used, NULL, 2);
    pthread_barrier_init(&unloaded, NULL, 2);
    pthread_create(&thread, NULL, work, &plugin);
    pthread_barrier_wait(&used);
    if (dlclose(plugin) != 0) puts("cannot be closed");
    pthread_barrier_wait(&unloaded);
    pthread_join(thread, NULL);

    dlclose(load_and_use());
    before = pages();
    for (int cycle = 0; cycle < 1100; cycle++) dlclose(load_and_use());
    while (pthread_key_create(&key, NULL) == 0) keys++;
    /* Each cycle would take a key of 1024, and 130 KiB. */
    printf("%s ", keys > 900 ? "keys" : "no keys");
    puts(pages() - before < 1024 ? "memory" : "grown");
    return 0;
}
"""


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.skipif(sys.platform != "linux", reason="the linker's options are those of ELF")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
@pytest.mark.parametrize("linkage", ["shared", "static"])
def test_library_that_is_unloaded_still_ends_its_threads_and_leaves_nothing_behind(
    prefix: Path, tmp_path: Path, linkage: str
) -> None:
    (tmp_path / "plugin.c").write_text(PLUGIN)
    (tmp_path / "program.c").write_text(PROGRAM)
    plugin, program, lib = tmp_path / "plugin.so", tmp_path / "program", prefix / "lib"
    contained = [lib / "libmemmgr.a"] if linkage == "static" else ["-lmemmgr", f"-Wl,-rpath,{lib}"]
    include = f"-I{prefix / 'include'}"
    run(
        "gcc",
        "-shared",
        "-fPIC",
        include,
        tmp_path / "plugin.c",
        f"-L{lib}",
        *contained,
        "-o",
        plugin,
    )
    run("gcc", tmp_path / "program.c", "-pthread", "-ldl", "-o", program)
    assert run(program, plugin) == "keys memory\n"
