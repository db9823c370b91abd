/*
 * Takes and gives back so many blocks, for a tool that counts instructions.
 *
 *     count pair|batch|random COUNT
 *
 * Run twice with different COUNTs, the difference is what the additional blocks did: everything
 * else is the same in both runs.
 */
#include "blocks.h"

#include <string.h>

int main(int argc, char **argv)
{
    static struct holder holder;
    must(argc == 3, "read the workload and the count");
    uint64_t count = strtoull(argv[2], NULL, 10);
    open_allocator();
    if (strcmp(argv[1], "pair") == 0) {
        use_pairs(count, 64);
    } else if (strcmp(argv[1], "batch") == 0) {
        use_batches(&holder, count, 64);
    } else if (strcmp(argv[1], "random") == 0) {
        holder_begin(&holder, 1, 1 << 10);
        use_at_random(&holder, count);
        holder_end(&holder);
    } else {
        must(0, "find the workload");
    }
    return 0;
}
