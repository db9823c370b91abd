/*
 * What blocks of memory cost, and how much memory stands behind them.
 *
 *     pool pair|batch_64|batch_4k|random_1k|random_64k THREADS
 *     pool handover_64|handover_1k|stress|memory_none|memory_1k|memory_64k
 *
 * Compiled once with memmgr and once with each peer; one run is one measurement of one allocator
 * in a process of its own, and prints one number: nanoseconds of one block taken and given back, or
 * KiB. Cost is the processor time of the threads themselves, except for what is handed over, where
 * threads wait for each other.
 */
#define _GNU_SOURCE
#include "blocks.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define LINE 128 /* two cache lines: neighbours are fetched in pairs */
#define THREADS_MAX 8

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* A peer that is linked but not used would measure the C library. */
static void check_allocator(void)
{
#ifdef ALLOCATOR
    Dl_info found;
    must(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &found) != 0, "find malloc");
    must(strstr(found.dli_fname, ALLOCATOR) != NULL, "use " ALLOCATOR);
#endif
}

/* Threads that each do the same =============================================================== */

#define CHUNK 10000
#define DURATION_NS 25000000u

struct thread {
    pthread_t id;
    uint64_t seed;
    double ns;
    struct holder holder;
};

static void chunk_pair(struct thread *self)
{
    (void)self;
    use_pairs(CHUNK, 64);
}

static void chunk_batch_64(struct thread *self)
{
    use_batches(&self->holder, CHUNK, 64);
}

static void chunk_batch_4k(struct thread *self)
{
    use_batches(&self->holder, CHUNK, 4096);
}

static void chunk_random(struct thread *self)
{
    use_at_random(&self->holder, CHUNK);
}

static const struct workload {
    const char *name;
    void (*chunk)(struct thread *self);
    uint32_t size_max;
} workloads[] = {
    { "pair", chunk_pair, 0 },
    { "batch_64", chunk_batch_64, 0 },
    { "batch_4k", chunk_batch_4k, 0 },
    { "random_1k", chunk_random, 1 << 10 },
    { "random_64k", chunk_random, 64 << 10 },
};

static const struct workload *workload;
static pthread_barrier_t barrier;

static void *thread_main(void *argument)
{
    struct thread *self = argument;
    if (workload->size_max > 0) holder_begin(&self->holder, self->seed, workload->size_max);
    /* Until it is as it stays. */
    for (unsigned i = 0; i < 3; i++) workload->chunk(self);
    pthread_barrier_wait(&barrier);
    uint64_t begin_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t end_ns, done = 0;
    do {
        workload->chunk(self);
        done += CHUNK;
        end_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
    } while (end_ns - begin_ns < DURATION_NS);
    self->ns = (double)(end_ns - begin_ns) / (double)done;
    if (workload->size_max > 0) holder_end(&self->holder);
    return NULL;
}

static double measure_cost(unsigned count)
{
    static struct thread threads[THREADS_MAX];
    double ns = 0;
    must(count > 0 && count <= THREADS_MAX, "start so many threads");
    must(pthread_barrier_init(&barrier, NULL, count) == 0, "make a barrier");
    for (unsigned i = 0; i < count; i++) {
        threads[i].seed = i + 1;
        must(pthread_create(&threads[i].id, NULL, thread_main, &threads[i]) == 0,
             "start a thread");
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i].id, NULL);
        ns += threads[i].ns / count;
    }
    return ns;
}

/* One thread takes blocks, and another gives them back ======================================== */

#define RING 1024
#define PUBLISHED_AT_ONCE 32
#define HANDED_OVER 500000u

static struct {
    _Alignas(LINE) _Atomic uint64_t sent;
    _Alignas(LINE) _Atomic uint64_t received;
    _Alignas(LINE) uint64_t *blocks[RING];
    uint32_t sizes[STEPS];
} ring;

static uint64_t wait_beyond(_Atomic uint64_t *counter, uint64_t value)
{
    uint64_t seen;
    for (unsigned i = 1; (seen = atomic_load_explicit(counter, memory_order_acquire)) <= value; i++)
        if (i % 1024 == 0) sched_yield();
    return seen;
}

static void *consume(void *argument)
{
    uint64_t sent = 0;
    for (uint64_t i = 0; i < HANDED_OVER; i++) {
        if (i == sent) sent = wait_beyond(&ring.sent, i);
        uint64_t *block = ring.blocks[i % RING];
        must(*block == i, "read what was written");
        give(block);
        if ((i + 1) % PUBLISHED_AT_ONCE == 0)
            atomic_store_explicit(&ring.received, i + 1, memory_order_release);
    }
    return argument;
}

static double measure_handover(uint32_t size_min, uint32_t size_max)
{
    uint64_t random = 1;
    for (size_t i = 0; i < STEPS; i++)
        ring.sizes[i] = size_min == size_max ? size_max : random_size(&random, size_max);
    pthread_t consumer;
    must(pthread_create(&consumer, NULL, consume, NULL) == 0, "start a thread");
    uint64_t begin_ns = now_ns(CLOCK_MONOTONIC);
    uint64_t received = 0;
    for (uint64_t i = 0; i < HANDED_OVER; i++) {
        if (i - received == RING) received = wait_beyond(&ring.received, received);
        uint64_t *block = take(ring.sizes[i % STEPS]);
        *block = i;
        ring.blocks[i % RING] = block;
        if ((i + 1) % PUBLISHED_AT_ONCE == 0)
            atomic_store_explicit(&ring.sent, i + 1, memory_order_release);
    }
    pthread_join(consumer, NULL);
    return (double)(now_ns(CLOCK_MONOTONIC) - begin_ns) / HANDED_OVER;
}

/* The pattern of mimalloc's stress test ======================================================= */

/*
 * Threads that come and go. Each takes objects of a few words, rarely of some hundred; holds on to
 * a share of them until its end, gives others back in no order, and leaves some in a place where
 * any thread exchanges them for its own. An object says of each of its words what that has to be.
 */
#define STRESS_THREADS 8
#define STRESS_ITERATIONS 6
#define STRESS_OBJECTS 1000
#define MEETING_PLACES 1000

static _Atomic(uintptr_t *) meeting[MEETING_PLACES];
static _Atomic uint64_t stress_objects;

static int chance(uint64_t *random, unsigned percent)
{
    return next_random(random) % 100 < percent;
}

static uintptr_t *take_object(uint64_t *random, unsigned doublings)
{
    uintptr_t words = (uintptr_t)2 << next_random(random) % doublings;
    if (chance(random, 1)) words *= 100;
    uintptr_t *object = take(words * sizeof *object);
    object[0] = words;
    for (uintptr_t i = 1; i < words; i++) object[i] = words ^ i;
    return object;
}

static void give_object(uintptr_t *object)
{
    if (object == NULL) return;
    for (uintptr_t i = 1; i < object[0]; i++)
        must((object[0] ^ i) == object[i], "find an object as it was");
    give(object);
}

static void *stress_main(void *argument)
{
    uintptr_t number = (uintptr_t)argument;
    uint64_t random = (number + 1) * 0x9e3779b97f4a7c15u;
    /* Some do more than others. */
    size_t passing = STRESS_OBJECTS * (number % 4 + 1), lasting = passing / 2;
    uintptr_t **held = take((passing + lasting) * sizeof *held);
    uintptr_t **lasts = held + passing;
    size_t held_count = 0, lasts_count = 0;
    atomic_fetch_add(&stress_objects, passing + lasting);
    while (held_count < passing || lasts_count < lasting) {
        if (held_count < passing && (lasts_count == lasting || chance(&random, 50)))
            held[held_count++] = take_object(&random, 5);
        else
            lasts[lasts_count++] = take_object(&random, 7);
        if (held_count == 0) continue;
        uintptr_t **any = &held[next_random(&random) % held_count];
        if (chance(&random, 66)) {
            give_object(*any);
            *any = NULL;
        }
        if (chance(&random, 25)) {
            any = &held[next_random(&random) % held_count];
            *any = atomic_exchange(&meeting[next_random(&random) % MEETING_PLACES], *any);
        }
    }
    for (size_t i = 0; i < lasts_count; i++) give_object(lasts[i]);
    for (size_t i = 0; i < held_count; i++) give_object(held[i]);
    give(held);
    return NULL;
}

static double measure_stress(void)
{
    uint64_t begin_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (unsigned i = 0; i < STRESS_ITERATIONS; i++) {
        pthread_t threads[STRESS_THREADS];
        for (uintptr_t t = 0; t < STRESS_THREADS; t++)
            must(pthread_create(&threads[t], NULL, stress_main, (void *)t) == 0,
                 "start a thread");
        for (unsigned t = 0; t < STRESS_THREADS; t++) pthread_join(threads[t], NULL);
    }
    for (size_t i = 0; i < MEETING_PLACES; i++) give_object(meeting[i]);
    uint64_t end_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    return (double)(end_ns - begin_ns) / (double)stress_objects;
}

/* The memory behind the random workloads ====================================================== */

/* Pages in memory that no file stands behind, counted one by one. */
static double anonymous_kib(void)
{
    char line[256];
    double kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    must(file != NULL, "read what is in memory");
    while (kib < 0 && fgets(line, sizeof line, file) != NULL) sscanf(line, "Anonymous: %lf", &kib);
    fclose(file);
    must(kib >= 0, "find what is in memory");
    return kib;
}

/* All of every block is written, as whoever asks for so much does. With 0, there are no blocks. */
static double measure_memory(uint32_t size_max)
{
    static struct holder holder;
    memset(&holder, 1, sizeof holder);
    double peak = anonymous_kib();
    if (size_max == 0) return peak;
    holder_begin(&holder, 1, size_max);
    for (size_t i = 0; i < SLOTS; i++) memset(holder.blocks[i], 1, holder.sizes[i]);
    for (unsigned chunk = 0; chunk < 40; chunk++) {
        for (unsigned i = 0; i < 5000; i++) {
            uint32_t size;
            void **slot = replace_next(&holder, &size);
            memset(*slot, 1, size);
        }
        double now = anonymous_kib();
        if (now > peak) peak = now;
    }
    holder_end(&holder);
    return peak;
}

static double measure(const char *name, unsigned threads)
{
    if (strcmp(name, "handover_64") == 0) return measure_handover(64, 64);
    if (strcmp(name, "handover_1k") == 0) return measure_handover(SMALLEST, 1 << 10);
    if (strcmp(name, "stress") == 0) return measure_stress();
    if (strcmp(name, "memory_none") == 0) return measure_memory(0);
    if (strcmp(name, "memory_1k") == 0) return measure_memory(1 << 10);
    if (strcmp(name, "memory_64k") == 0) return measure_memory(64 << 10);
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (strcmp(name, workloads[i].name) == 0) workload = &workloads[i];
    must(workload != NULL, "find the workload");
    return measure_cost(threads);
}

int main(int argc, char **argv)
{
    must(argc == 2 || argc == 3, "read the workload and the threads");
    check_allocator();
    open_allocator();
    printf("%.4f\n", measure(argv[1], argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 1));
    return 0;
}
