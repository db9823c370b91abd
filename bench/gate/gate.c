/*
 * The gate beside what else keeps readers and writers apart, in one process and in turns.
 *
 *     gate pin|throughput|drain|refusal ROUNDS
 *
 * Every line printed is a JSON object: one measurement of one round. Rounds go through all schemes
 * before the next one begins, so that a busy machine disturbs them alike; cost is the processor
 * time of the threads themselves, so that 100 threads on few cores compare with one.
 *
 * Peers are compiled into the loop, while memmgr is called through its C ABI; every scheme checks
 * bounds, and every scheme but the locks and RCU looks whether a writer is in.
 */
#define _GNU_SOURCE
#include "../table.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#ifdef WITH_URCU
#define _LGPL_SOURCE /* its functions inline */
#include <urcu/urcu-memb.h>
#undef urcu_memb_read_lock
#undef urcu_memb_read_unlock
/* The same as calls, which is what a program under another licence gets. */
extern void urcu_memb_read_lock(void);
extern void urcu_memb_read_unlock(void);
#endif

#define LINE 128 /* two cache lines: neighbours are fetched in pairs */
#define THREADS_MAX 128
#define COUNT(array) (sizeof(array) / sizeof *(array))

static uint64_t now_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void sleep_ns(uint64_t ns)
{
    struct timespec time = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    nanosleep(&time, NULL);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* What is read, and who guards it ============================================================= */

struct table {
    const uint8_t *data;
    uint64_t size;
};

static struct table table;
#ifdef WITH_URCU
static struct table *current = &table;
#endif
static memmgr_manager *asymmetric;
static memmgr_manager *by_atomics;
static memmgr_manager *tracked;

static _Alignas(LINE) atomic_int writer;
static _Alignas(LINE) pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static _Alignas(LINE) pthread_rwlock_t writers_first =
    PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static _Alignas(LINE) atomic_ulong shared_count;
static struct {
    _Alignas(LINE) atomic_ulong count;
} stripes[THREADS_MAX];
static _Thread_local atomic_ulong *stripe = &stripes[0].count;

static inline const uint8_t *within(const struct table *of, uint64_t offset, uint64_t length)
{
    must(offset <= of->size && length <= of->size - offset, "stay within the table");
    return of->data + offset;
}

static inline uint64_t touch(const uint8_t *data)
{
    return *(const volatile uint64_t *)data;
}

/* Every use of a scheme is a function of its own, with the scheme inline. */
#define SCHEMES(USE)                                                                              \
    USE(payload, , within(&table, offset, length), )                                              \
    USE(empty_calls, empty_acquire(&view), within(&table, offset, length), empty_release(&view))  \
    USE(memmgr, ACQUIRE(asymmetric), view.data, RELEASE(asymmetric))                              \
    USE(memmgr_atomic, ACQUIRE(by_atomics), view.data, RELEASE(by_atomics))                       \
    USE(memmgr_tracked, ACQUIRE(tracked), view.data, RELEASE(tracked))                            \
    USE(rwlock, pthread_rwlock_rdlock(&rwlock), within(&table, offset, length),                   \
        pthread_rwlock_unlock(&rwlock))                                                           \
    USE(shared_count, ADD(&shared_count), within(&table, offset, length), SUB(&shared_count))     \
    USE(striped_adds, ADD(stripe), within(&table, offset, length), SUB(stripe))                   \
    USE(striped_call, striped_acquire(offset, length, &view), view.data, striped_release(&view))  \
    URCU_SCHEMES(USE)

#ifdef WITH_URCU
#define URCU_SCHEMES(USE)                                                                         \
    USE(urcu_inline, _urcu_memb_read_lock(), within(rcu_dereference(current), offset, length),    \
        _urcu_memb_read_unlock())                                                                 \
    USE(urcu_call, urcu_memb_read_lock(), within(rcu_dereference(current), offset, length),       \
        urcu_memb_read_unlock())
#else
#define URCU_SCHEMES(USE)
#endif

#define ACQUIRE(manager)                                                                          \
    must(memmgr_view_acquire(manager, 0, offset, length, &view, NULL) == MEMMGR_OK, "acquire")
#define RELEASE(manager) must(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK, "release")
#define ADD(count)                                                                                \
    do {                                                                                          \
        atomic_fetch_add(count, 1);                                                               \
        must(!atomic_load(&writer), "enter");                                                     \
    } while (0)
#define SUB(count) atomic_fetch_sub(count, 1)

/* What any scheme behind two calls costs at least. */
__attribute__((noinline)) static void empty_acquire(memmgr_view *view)
{
    __asm__ volatile("" : : "r"(view) : "memory");
}

__attribute__((noinline)) static void empty_release(memmgr_view *view)
{
    __asm__ volatile("" : : "r"(view) : "memory");
}

/* The striped adds behind two calls, with a view to fill: the same work at the same distance. */
__attribute__((noinline)) static void striped_acquire(uint64_t offset, uint64_t length,
                                                      memmgr_view *view)
{
    ADD(stripe);
    view->data = within(&table, offset, length);
    view->length = length;
    view->offset = offset;
}

__attribute__((noinline)) static void striped_release(memmgr_view *view)
{
    must(view->data != NULL, "release");
    view->data = NULL;
    view->length = 0;
    SUB(stripe);
}

/* Threads ===================================================================================== */

struct thread {
    pthread_t id;
    uint64_t (*chunk)(struct thread *self);
    pthread_barrier_t *start;
    uint64_t random;
    unsigned index;
    /* Of chunks; processor time and when the last one ended. */
    uint64_t done;
    uint64_t cpu_ns;
    uint64_t end_ns;
    uint64_t sum;
};

static atomic_int stop;

static void *thread_main(void *argument)
{
    struct thread *self = argument;
    stripe = &stripes[self->index].count;
#ifdef WITH_URCU
    urcu_memb_register_thread();
#endif
    self->sum = self->chunk(self);
    pthread_barrier_wait(self->start);
    uint64_t begin = now_ns(CLOCK_THREAD_CPUTIME_ID);
    do {
        self->sum += self->chunk(self);
        self->done++;
    } while (!atomic_load_explicit(&stop, memory_order_relaxed));
    self->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - begin;
    self->end_ns = now_ns(CLOCK_MONOTONIC);
#ifdef WITH_URCU
    urcu_memb_unregister_thread();
#endif
    return NULL;
}

/* Sums over all threads. */
struct totals {
    uint64_t done;
    uint64_t cpu_ns;
    uint64_t wall_ns;
};

static struct thread threads[THREADS_MAX];
static pthread_barrier_t start;

static void threads_start(unsigned count, uint64_t (*chunk)(struct thread *self))
{
    atomic_store(&stop, 0);
    must(pthread_barrier_init(&start, NULL, count + 1) == 0, "make a barrier");
    for (unsigned i = 0; i < count; i++) {
        threads[i] = (struct thread){ .chunk = chunk, .start = &start, .random = i + 1, .index = i };
        must(pthread_create(&threads[i].id, NULL, thread_main, &threads[i]) == 0,
             "start a thread");
    }
    pthread_barrier_wait(&start);
}

static struct totals threads_stop(unsigned count, uint64_t begin_ns)
{
    struct totals totals = { 0, 0, 0 };
    uint64_t end_ns = begin_ns;
    atomic_store(&stop, 1);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i].id, NULL);
        totals.done += threads[i].done;
        totals.cpu_ns += threads[i].cpu_ns;
        if (threads[i].end_ns > end_ns) end_ns = threads[i].end_ns;
    }
    pthread_barrier_destroy(&start);
    totals.wall_ns = end_ns - begin_ns;
    return totals;
}

static struct totals threads_run(unsigned count, uint64_t (*chunk)(struct thread *self),
                                 uint64_t duration_ns)
{
    threads_start(count, chunk);
    uint64_t begin_ns = now_ns(CLOCK_MONOTONIC);
    sleep_ns(duration_ns);
    return threads_stop(count, begin_ns);
}

/* One view after another of eight layers of 4 KiB, one word of each touched ==================== */

#define PIN_CHUNK 2048

#define DEFINE_PIN(name, lock, bytes, unlock)                                                     \
    static uint64_t pin_##name(struct thread *self)                                               \
    {                                                                                             \
        memmgr_view view = MEMMGR_VIEW_INIT;                                                      \
        const uint64_t length = 4096;                                                             \
        uint64_t sum = 0;                                                                         \
        for (uint64_t i = 0; i < PIN_CHUNK; i++) {                                                \
            const uint64_t offset = i % 8 * length;                                               \
            lock;                                                                                 \
            sum += touch(bytes);                                                                  \
            unlock;                                                                               \
        }                                                                                         \
        (void)self, (void)view;                                                                   \
        return sum;                                                                               \
    }
SCHEMES(DEFINE_PIN)

#define NAME_PIN(name, lock, bytes, unlock) { #name, pin_##name },
static const struct {
    const char *name;
    uint64_t (*chunk)(struct thread *self);
} pins[] = { SCHEMES(NAME_PIN) };

static void measure_pin(unsigned rounds)
{
    static const struct {
        unsigned count;
        uint64_t duration_ns;
    } runs[] = { { 1, 8000000 }, { 2, 8000000 }, { 100, 120000000 } };
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t run = 0; run < COUNT(runs); run++) {
            for (size_t i = 0; i < COUNT(pins); i++) {
                struct totals totals =
                    threads_run(runs[run].count, pins[i].chunk, runs[run].duration_ns);
                printf("{\"scheme\": \"%s\", \"threads\": %u, \"round\": %u, \"ns\": %.4f}\n",
                       pins[i].name, runs[run].count, round,
                       (double)totals.cpu_ns / (double)(totals.done * PIN_CHUNK));
            }
        }
    }
}

/* All of a random layer of 64 KiB summed ====================================================== */

#define LAYER_SIZE ((uint64_t)64 << 10)

/* Two words, in a register that every processor of 64 bits has. */
typedef uint64_t words __attribute__((vector_size(16), aligned(16)));

static inline uint64_t sum_of(const void *bytes, uint64_t length)
{
    const words *all = bytes;
    words sums[8] = { { 0 } };
    for (uint64_t i = 0; i < length / sizeof *all; i += 8)
        for (unsigned j = 0; j < 8; j++) sums[j] += all[i + j];
    uint64_t sum = 0;
    for (unsigned j = 0; j < 8; j++) sum += sums[j][0] + sums[j][1];
    return sum;
}

#define DEFINE_SCAN(name, lock, bytes, unlock)                                                    \
    static uint64_t scan_##name(struct thread *self)                                              \
    {                                                                                             \
        memmgr_view view = MEMMGR_VIEW_INIT;                                                      \
        const uint64_t length = LAYER_SIZE;                                                       \
        const uint64_t offset = next_random(&self->random) % (TABLE_SIZE / length) * length;      \
        lock;                                                                                     \
        const uint64_t sum = sum_of(bytes, length);                                               \
        unlock;                                                                                   \
        (void)view;                                                                               \
        return sum;                                                                               \
    }
DEFINE_SCAN(payload, , within(&table, offset, length), )
DEFINE_SCAN(memmgr, ACQUIRE(asymmetric), view.data, RELEASE(asymmetric))
DEFINE_SCAN(rwlock, pthread_rwlock_rdlock(&rwlock), within(&table, offset, length),
            pthread_rwlock_unlock(&rwlock))

static void measure_throughput(unsigned rounds)
{
    static const struct {
        const char *name;
        uint64_t (*chunk)(struct thread *self);
    } scans[] = { { "payload", scan_payload }, { "memmgr", scan_memmgr }, { "rwlock", scan_rwlock } };
    static const unsigned counts[] = { 1, 2, 4, 8, 16, 32, 64, 100 };
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < COUNT(scans); i++) {
            for (size_t j = 0; j < COUNT(counts); j++) {
                struct totals totals = threads_run(counts[j], scans[i].chunk, 250000000);
                double bytes = (double)totals.done * (double)LAYER_SIZE;
                printf("{\"scheme\": \"%s\", \"threads\": %u, \"round\": %u, "
                       "\"gb_per_s\": %.3f, \"gb_per_core_s\": %.3f}\n",
                       scans[i].name, counts[j], round, bytes / (double)totals.wall_ns,
                       bytes / (double)totals.cpu_ns);
            }
        }
    }
}

/* How long a writer waits for readers who come and go ========================================= */

#define POLITE_SIZE ((uint64_t)32 << 10) /* about a microsecond */
#define WRITES 50
#define DRAIN_NS_MAX 5000000000u /* fewer writes where they take that long */

static uint64_t read_memmgr(struct thread *self)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    const uint64_t offset = next_random(&self->random) % (TABLE_SIZE / POLITE_SIZE) * POLITE_SIZE;
    const uint64_t length = POLITE_SIZE;
    ACQUIRE(asymmetric);
    const uint64_t sum = sum_of(view.data, length);
    RELEASE(asymmetric);
    return sum;
}

static uint64_t read_rwlock(struct thread *self)
{
    const uint64_t offset = next_random(&self->random) % (TABLE_SIZE / POLITE_SIZE) * POLITE_SIZE;
    pthread_rwlock_rdlock(&writers_first);
    const uint64_t sum = sum_of(table.data + offset, POLITE_SIZE);
    pthread_rwlock_unlock(&writers_first);
    return sum;
}

static uint64_t write_memmgr(void)
{
    memmgr_write access = MEMMGR_WRITE_INIT;
    memmgr_error error = MEMMGR_ERROR_INIT;
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    must(memmgr_write_begin(asymmetric, 0, 0, MEMMGR_FOREVER, &access, &error) == MEMMGR_OK,
         error.message);
    uint64_t end = now_ns(CLOCK_MONOTONIC);
    must(memmgr_write_end(asymmetric, &access, NULL) == MEMMGR_OK, "end the write");
    return end - begin;
}

static uint64_t write_rwlock(void)
{
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    pthread_rwlock_wrlock(&writers_first);
    uint64_t end = now_ns(CLOCK_MONOTONIC);
    pthread_rwlock_unlock(&writers_first);
    return end - begin;
}

static void measure_drain(unsigned rounds)
{
    static const struct {
        const char *name;
        uint64_t (*chunk)(struct thread *self);
        uint64_t (*write)(void);
    } schemes[] = {
        { "memmgr", read_memmgr, write_memmgr },
        { "rwlock", read_rwlock, write_rwlock },
    };
    static const unsigned counts[] = { 1, 100 };
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < COUNT(schemes); i++) {
            for (size_t j = 0; j < COUNT(counts); j++) {
                threads_start(counts[j], schemes[i].chunk);
                uint64_t begin_ns = now_ns(CLOCK_MONOTONIC);
                for (unsigned writes = 0; writes < WRITES; writes++) {
                    if (now_ns(CLOCK_MONOTONIC) - begin_ns > DRAIN_NS_MAX) break;
                    sleep_ns(2000000);
                    printf("{\"scheme\": \"%s\", \"threads\": %u, \"round\": %u, \"us\": %.3f}\n",
                           schemes[i].name, counts[j], round,
                           (double)schemes[i].write() / 1000);
                }
                threads_stop(counts[j], begin_ns);
            }
        }
    }
}

/* What readers do while a writer is in for longer than they wait ============================== */

#define READ_TIMEOUT_NS 20000000

/* By thread; a reader that has to be refused is refused once. */
static struct {
    _Alignas(LINE) uint64_t wall_ns;
    uint64_t cpu_ns;
    memmgr_status status;
} refusals[THREADS_MAX];
static atomic_int written;

static uint64_t read_refused(struct thread *self)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    if (!atomic_load(&written)) return 0;
    if (refusals[self->index].wall_ns != 0) return (uint64_t)usleep(1000);
    uint64_t cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    uint64_t begin = now_ns(CLOCK_MONOTONIC);
    memmgr_status status = memmgr_view_acquire(asymmetric, 0, 0, 4096, &view, NULL);
    refusals[self->index].wall_ns = now_ns(CLOCK_MONOTONIC) - begin;
    refusals[self->index].cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    refusals[self->index].status = status;
    return 0;
}

static void measure_refusal(unsigned rounds)
{
    enum { readers = 100 };
    for (unsigned round = 0; round < rounds; round++) {
        memset(refusals, 0, sizeof refusals);
        atomic_store(&written, 0);
        memmgr_write access = MEMMGR_WRITE_INIT;
        must(memmgr_write_begin(asymmetric, 0, 0, MEMMGR_FOREVER, &access, NULL) == MEMMGR_OK,
             "begin to write");
        atomic_store(&written, 1);
        threads_start(readers, read_refused);
        uint64_t begin_ns = now_ns(CLOCK_MONOTONIC);
        sleep_ns(5 * READ_TIMEOUT_NS);
        threads_stop(readers, begin_ns);
        must(memmgr_write_end(asymmetric, &access, NULL) == MEMMGR_OK, "end the write");
        for (unsigned i = 0; i < readers; i++) {
            printf("{\"round\": %u, \"status\": \"%s\", \"late_us\": %.3f, \"cpu_us\": %.3f}\n",
                   round, memmgr_status_name(refusals[i].status),
                   ((double)refusals[i].wall_ns - READ_TIMEOUT_NS) / 1000,
                   (double)refusals[i].cpu_ns / 1000);
        }
    }
}

int main(int argc, char **argv)
{
    must(argc == 3, "read the arguments: pin|throughput|drain|refusal ROUNDS");
    const char *what = argv[1];
    unsigned rounds = (unsigned)strtoul(argv[2], NULL, 10);
    const int refusal = strcmp(what, "refusal") == 0;

    asymmetric = table_open(0, MEMMGR_MODE_COPY, refusal ? READ_TIMEOUT_NS : MEMMGR_FOREVER);
    by_atomics = table_open(MEMMGR_OPEN_GATE_ATOMIC, MEMMGR_MODE_READ, MEMMGR_FOREVER);
    tracked = table_open(MEMMGR_OPEN_TRACK_VIEWS, MEMMGR_MODE_READ, MEMMGR_FOREVER);
    memmgr_view view = MEMMGR_VIEW_INIT;
    must(memmgr_view_acquire(asymmetric, 0, 0, TABLE_SIZE, &view, NULL) == MEMMGR_OK, "acquire");
    table = (struct table){ view.data, view.length };
    must(memmgr_view_release(asymmetric, &view, NULL) == MEMMGR_OK, "release");

    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    if (strcmp(what, "pin") == 0) measure_pin(rounds);
    else if (strcmp(what, "throughput") == 0) measure_throughput(rounds);
    else if (strcmp(what, "drain") == 0) measure_drain(rounds);
    else if (refusal) measure_refusal(rounds);
    else must(0, "do anything but pin, throughput, drain and refusal");
    return 0;
}
