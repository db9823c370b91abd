/*
 * Pages that cannot be read.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include "test.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <unistd.h>
#endif

/* Whether MEMMGR_OPEN_FAULT_GUARD is to be had. */
static inline int fault_guard(void)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    OK(memmgr_capabilities_get(&capabilities, &error));
    return capabilities.fault_guard == 1;
}

static inline size_t fault_page_size(void)
{
    memmgr_capabilities capabilities = MEMMGR_CAPABILITIES_INIT;
    OK(memmgr_capabilities_get(&capabilities, &error));
    return (size_t)capabilities.page_size;
}

/* Reads a byte that the file at `path` does not have any more from `offset` on, a multiple of the
 * page, and returns what was read. Windows does not cut a file that is mapped; there the thread
 * does as the system does when the device fails. */
static inline unsigned char fault_at(const char *path, const void *data, size_t offset)
{
    const volatile unsigned char *bytes = (const volatile unsigned char *)data;
#ifdef _WIN32
    const ULONG_PTR parameters[] = { 0, (ULONG_PTR)data + offset, 0xc0000185 };
    (void)path;
    RaiseException(EXCEPTION_IN_PAGE_ERROR, 0, 3, parameters);
#else
    if (!CHECK(truncate(path, (off_t)offset) == 0)) return 1;
#endif
    return bytes[offset];
}

#endif
