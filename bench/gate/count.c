/*
 * Acquires and releases a view so many times, and prints how often memory was allocated and a page
 * was missing meanwhile.
 *
 *     count PAIRS
 *
 * Run twice with different PAIRS under a tool that counts instructions or system calls, the
 * difference is what the additional pairs did: everything else is the same in both runs.
 */
#include "../table.h"
#include "../usage.h"

int main(int argc, char **argv)
{
    must(argc == 2, "read the number of pairs");
    unsigned long pairs = strtoul(argv[1], NULL, 10);
    memmgr_manager *manager = table_open(0, MEMMGR_MODE_READ, 0);

    /* Not counted: what a thread does the first time it meets a manager. */
    memmgr_view view = MEMMGR_VIEW_INIT;
    must(memmgr_view_acquire(manager, 0, 0, 4096, &view, NULL) == MEMMGR_OK, "acquire");
    must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release");

    struct usage before = usage_now();
    for (unsigned long i = 0; i < pairs; i++) {
        must(memmgr_view_acquire(manager, 0, i % 8 * 4096, 4096, &view, NULL) == MEMMGR_OK,
             "acquire");
        must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release");
    }
    usage_print(before);
    return 0;
}
