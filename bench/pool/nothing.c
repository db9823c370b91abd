/*
 * The calls of pool.c, doing nothing: what any allocator behind this interface costs at least.
 */
#include <memmgr.h>

static char block[64 << 10];

memmgr_status memmgr_manager_open(const memmgr_manager_options *options,
                                  memmgr_manager **manager_out, memmgr_error *error)
{
    (void)options, (void)error;
    *manager_out = NULL;
    return MEMMGR_OK;
}

void *memmgr_block_alloc(memmgr_manager *manager, size_t size, memmgr_error *error)
{
    (void)manager, (void)size, (void)error;
    return block;
}

memmgr_status memmgr_block_free(memmgr_manager *manager, void *freed, memmgr_error *error)
{
    (void)manager, (void)freed, (void)error;
    return MEMMGR_OK;
}
