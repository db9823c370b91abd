"""What the library needs of a thread's stack, measured by painting one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
#include <memmgr.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { SIZE = 1 << 20 };
static memmgr_manager *manager;
static const char *path;
static memmgr_error error = MEMMGR_ERROR_INIT;

static void *nothing(void *none) { return none; }

static void *refuse(void *none) {
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *other;
    options.dimension_count = 4;
    options.capacity = (uint64_t)1 << 46;
    return memmgr_manager_open(&options, &other, &error) == MEMMGR_OK ? &manager : none;
}

static void *open_it(void *none) {
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 2;
    options.capacity = 1 << 20;
    options.flags = MEMMGR_OPEN_LIMIT_AUTO;
    return memmgr_manager_open(&options, &manager, &error) == MEMMGR_OK ? none : &manager;
}

static void *load(void *none) {
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = MEMMGR_MODE_RAM;
    return memmgr_dimension_load(manager, 0, path, &options, &error) == MEMMGR_OK ? none : &error;
}

static long used(void *(*call)(void *)) {
    unsigned char *stack = mmap(
        NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_t thread;
    void *failed;
    long left = 0;
    memset(stack, 0xAA, SIZE);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, SIZE);
    pthread_create(&thread, &attributes, call, NULL);
    pthread_join(thread, &failed);
    if (failed != NULL) printf("unexpected ");
    while (left < SIZE && stack[left] == 0xAA) left++;
    munmap(stack, SIZE);
    return SIZE - left;
}

int main(int count, char **arguments) {
    long least;
    (void)count;
    path = arguments[1];
    least = used(nothing);
    printf("%ld ", used(refuse) - least);
    printf("%ld ", used(open_it) - least);
    printf("%ld\n", used(load) - least);
    return 0;
}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the stack is painted by means of Linux")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_what_needs_most_of_a_stack_leaves_a_quarter_of_64_kib(
    prefix: Path, tmp_path: Path
) -> None:
    (tmp_path / "stacks.c").write_text(PROGRAM)
    data, program = tmp_path / "data.bin", tmp_path / "stacks"
    data.write_bytes(bytes(300_000))
    library = prefix / "lib" / "libmemmgr.a"
    build: list[str | Path] = ["gcc", tmp_path / "stacks.c", library, f"-I{prefix / 'include'}"]
    subprocess.run([*build, "-pthread", "-o", program], check=True)
    output = subprocess.run([program, data], check=True, capture_output=True, text=True).stdout
    needs = [int(need) for need in output.split()]
    assert len(needs) == 3
    assert min(needs) > 0
    assert max(needs) <= 48 << 10
