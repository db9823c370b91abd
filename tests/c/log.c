/*
 * The log function: what it is told at which level, that it may call the library but not replace
 * itself, that it is never called once it has been replaced, and that a new level neither waits for
 * it nor loses a record.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#include <stdatomic.h>

#define MIB ((uint64_t)1 << 20)

static memmgr_manager *manager;
static const char *path, *other_path;

static memmgr_manager *open_manager(uint64_t limit)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = 2;
    options.capacity = MIB;
    options.limit = limit;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static void close_manager(memmgr_manager *opened)
{
    OK(memmgr_manager_close(opened, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void tear_down(void)
{
    OK(memmgr_log_set(0, NULL, NULL, &error));
}

typedef struct tally {
    unsigned debug, info, warning, error, other;
    char last[MEMMGR_MESSAGE_SIZE];
    memmgr_log_record record;
} tally;

static void count(const memmgr_log_record *record, void *user)
{
    tally *counts = (tally *)user;
    switch (record->level) {
    case MEMMGR_LOG_DEBUG: counts->debug++; break;
    case MEMMGR_LOG_INFO: counts->info++; break;
    case MEMMGR_LOG_WARNING: counts->warning++; break;
    case MEMMGR_LOG_ERROR: counts->error++; break;
    default: counts->other++;
    }
    CHECK(record->struct_size >= sizeof *record);
    CHECK(strlen(record->message) < sizeof counts->last);
    strcpy(counts->last, record->message);
    counts->record = *record;
}

/* At DEBUG everything, at WARNING what is one, above it nothing, and nothing at all without a
 * function. */
static void levels(void)
{
    static const int32_t levels_set[] = { -1, 10, 11, 20, 30, 31, 40, 100 };
    size_t index;
    for (index = 0; index < sizeof levels_set / sizeof levels_set[0]; index++) {
        const int32_t level = levels_set[index];
        tally counts;
        memset(&counts, 0, sizeof counts);
        OK(memmgr_log_set(level, count, &counts, &error));
        manager = open_manager(2 * MIB);
        OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
        FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(manager, 0, other_path, NULL, &error));
        OK(memmgr_dimension_evict(manager, 0, &error));
        close_manager(manager);
        CHECK((counts.debug >= 4) == (level <= MEMMGR_LOG_DEBUG));
        CHECK((counts.debug > 0) == (level <= MEMMGR_LOG_DEBUG));
        CHECK((counts.warning == 1) == (level <= MEMMGR_LOG_WARNING));
        EQUAL(0, counts.info + counts.error + counts.other);
        /* Off: not one more. */
        OK(memmgr_log_set(MEMMGR_LOG_DEBUG, NULL, &counts, &error));
        counts.debug = counts.warning = 0;
        close_manager(open_manager(0));
        EQUAL(0, counts.debug + counts.warning);
    }
}

/* A refusal is a warning that is written before the call returns, and so is a soft threshold that
 * was crossed, before anything is refused (R7.4). */
static void pressure(void)
{
    tally counts;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memset(&counts, 0, sizeof counts);
    OK(memmgr_log_set(MEMMGR_LOG_WARNING, count, &counts, &error));
    manager = open_manager(3 * MIB);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    OK(memmgr_dimension_load(manager, 1, path, NULL, &error));
    EQUAL(0, counts.warning);
    OK(memmgr_view_acquire(manager, 0, 0, 1, &view, &error));
    /* All of the room above the regions is taken. */
    OK(memmgr_dimension_reload(manager, 0, other_path, NULL, &error));
    EQUAL(1, counts.warning);
    EQUAL(MEMMGR_OPERATION_PRESSURE, counts.record.operation);
    EQUAL(3 * MIB, counts.record.allocated);
    CHECK(strstr(counts.last, "95 %") != NULL);
    FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(manager, 1, other_path, NULL, &error));
    EQUAL(2, counts.warning);
    EQUAL(MIB, counts.record.bytes);
    EQUAL(3 * MIB, counts.record.allocated);
    EQUAL(3 * MIB, counts.record.limit);
    OK(memmgr_view_release(manager, &view, &error));
    close_manager(manager);
}

/* Calls everything that it may, and what it may not. */
static void call_back(const memmgr_log_record *record, void *user)
{
    unsigned *calls = (unsigned *)user;
    memmgr_stats stats = MEMMGR_STATS_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    memmgr_manager *inner;
    ++*calls;
    FAILS(INVALID_ARGUMENT, memmgr_log_set(MEMMGR_LOG_DEBUG, NULL, NULL, &error));
    FAILS(INVALID_ARGUMENT, memmgr_log_set(MEMMGR_LOG_DEBUG, call_back, user, &error));
    /* Records of its own would lead here again. */
    inner = open_manager(0);
    OK(memmgr_dimension_load(inner, 0, path, NULL, &error));
    close_manager(inner);
    if (record->operation != MEMMGR_OPERATION_LOAD) return;
    /* The call that made the record holds no lock: the dimension itself can be used. */
    OK(memmgr_stats_get(manager, &stats, &error));
    OK(memmgr_view_acquire(manager, record->dimension, 0, 1, &view, &error));
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_dimension_reload(manager, record->dimension, other_path, NULL, &error));
    OK(memmgr_dimension_unload(manager, record->dimension, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void calling_back(void)
{
    unsigned calls = 0;
    manager = open_manager(0);
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, call_back, &calls, &error));
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    EQUAL(1, calls);
    FAILS(NOT_LOADED, memmgr_dimension_evict(manager, 0, &error));
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    EQUAL(2, calls);
    close_manager(manager);
    EQUAL(3, calls);
}

/* Every release of a last view is a record, on the thread that released it. */
static THREAD_LOCAL unsigned heard_here;

static void hear_here(const memmgr_log_record *record, void *user)
{
    (void)record;
    (void)user;
    heard_here++;
}

static void release_last(void *view)
{
    EQUAL(0, heard_here);
    OK(memmgr_view_release(manager, (memmgr_view *)view, &error));
    EQUAL(1, heard_here);
}

static void on_the_thread_of_the_call(void)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    manager = open_manager(0);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, hear_here, NULL, &error));
    OK(memmgr_view_acquire(manager, 0, 0, 1, &view, &error));
    EQUAL(0, heard_here); /* the read path makes no records */
    OK(memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    EQUAL(1, heard_here);
    thread_call(release_last, &view);
    EQUAL(1, heard_here);
    OK(memmgr_log_set(0, NULL, NULL, &error));
    close_manager(manager);
}

/* Two receivers that take turns while threads make records: whoever was replaced is not inside,
 * and is not called again. */
static atomic_int stop;

typedef struct receiver {
    atomic_int active;
    atomic_uint calls, late;
} receiver;

static void receive(const memmgr_log_record *record, void *user)
{
    receiver *self = (receiver *)user;
    (void)record;
    atomic_fetch_add(&self->calls, 1);
    if (!atomic_load(&self->active)) atomic_fetch_add(&self->late, 1);
    sleep_ms(0);
    if (!atomic_load(&self->active)) atomic_fetch_add(&self->late, 1);
}

static void make_records(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) OK(memmgr_dimension_evict(manager, 0, &error));
}

static int is_missing(receiver *receivers)
{
    return atomic_load(&receivers[0].calls) == 0 || atomic_load(&receivers[1].calls) == 0;
}

static void replaced_under_load(void)
{
    static receiver receivers[2];
    thread threads[4];
    const uint64_t end = now_ms() + 200;
    unsigned turn, index;
    manager = open_manager(0);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    atomic_store(&stop, 0);
    for (index = 0; index < 4; index++) thread_start(&threads[index], make_records, NULL);
    for (turn = 0; now_ms() < end || (is_missing(receivers) && now_ms() < end + 10000); turn++) {
        receiver *next = &receivers[turn % 2], *last = &receivers[(turn + 1) % 2];
        atomic_store(&next->active, 1);
        if (turn % 3 == 2) {
            OK(memmgr_log_set(0, NULL, NULL, &error));
        } else {
            OK(memmgr_log_set(MEMMGR_LOG_DEBUG, receive, next, &error));
        }
        atomic_store(&last->active, 0);
        if (turn % 3 == 2) atomic_store(&next->active, 0);
    }
    OK(memmgr_log_set(0, NULL, NULL, &error));
    atomic_store(&receivers[0].active, 0);
    atomic_store(&receivers[1].active, 0);
    sleep_ms(20);
    atomic_store(&stop, 1);
    for (index = 0; index < 4; index++) thread_join(&threads[index]);
    close_manager(manager);
    CHECK(!is_missing(receivers));
    EQUAL(0, atomic_load(&receivers[0].late));
    EQUAL(0, atomic_load(&receivers[1].late));
}

/* A log function that does not return until the level was changed, both ways, by another thread. */
static atomic_int entered, left;

static void wait_inside(const memmgr_log_record *record, void *user)
{
    (void)record;
    (void)user;
    atomic_store(&entered, 1);
    while (!atomic_load(&left)) sleep_ms(1);
}

static void evict_once(void *unused)
{
    (void)unused;
    OK(memmgr_dimension_evict(manager, 0, &error));
}

static void level_waits_for_nobody(void)
{
    thread other;
    manager = open_manager(0);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, wait_inside, NULL, &error));
    atomic_store(&entered, 0);
    atomic_store(&left, 0);
    thread_start(&other, evict_once, NULL);
    while (!atomic_load(&entered)) sleep_ms(1);
    OK(memmgr_log_set_level(MEMMGR_LOG_DEBUG, &error));
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, wait_inside, NULL, &error));
    OK(memmgr_log_set_level(MEMMGR_LOG_WARNING, &error));
    OK(memmgr_log_set(MEMMGR_LOG_WARNING, wait_inside, NULL, &error));
    OK(memmgr_dimension_evict(manager, 0, &error));
    atomic_store(&left, 1);
    thread_join(&other);
    OK(memmgr_log_set(0, NULL, NULL, &error));
    close_manager(manager);
}

/* At the level that was set last, whoever set it; and none of it without a function. */
static void make_quiet(const memmgr_log_record *record, void *user)
{
    count(record, user);
    OK(memmgr_log_set_level(MEMMGR_LOG_ERROR, &error));
}

static void level_alone(void)
{
    static const int32_t levels_set[] = { INT32_MIN, 10, 11, 30, 31, INT32_MAX };
    size_t index;
    tally counts;
    memset(&counts, 0, sizeof counts);
    OK(memmgr_log_set_level(MEMMGR_LOG_DEBUG, &error));
    manager = open_manager(2 * MIB);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    OK(memmgr_log_set(MEMMGR_LOG_ERROR, count, &counts, &error));
    for (index = 0; index < sizeof levels_set / sizeof levels_set[0]; index++) {
        const int32_t level = levels_set[index];
        counts.debug = counts.warning = 0;
        OK(memmgr_log_set_level(level, &error));
        FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(manager, 0, other_path, NULL, &error));
        OK(memmgr_dimension_evict(manager, 0, &error));
        EQUAL(level <= MEMMGR_LOG_DEBUG, counts.debug);
        EQUAL(level <= MEMMGR_LOG_WARNING, counts.warning);
    }
    counts.debug = 0;
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, make_quiet, &counts, &error));
    OK(memmgr_dimension_evict(manager, 0, &error));
    OK(memmgr_dimension_evict(manager, 0, &error));
    EQUAL(1, counts.debug);
    OK(memmgr_log_set(0, NULL, NULL, &error));
    OK(memmgr_log_set_level(MEMMGR_LOG_DEBUG, &error));
    close_manager(manager);
    EQUAL(1, counts.debug);
}

/* A thread that allocated before block records were wanted makes them too. */
static void level_of_blocks(void)
{
    tally counts;
    memset(&counts, 0, sizeof counts);
    OK(memmgr_log_set(MEMMGR_LOG_WARNING, count, &counts, &error));
    manager = open_manager(0);
    OK(memmgr_block_free(manager, memmgr_block_alloc(manager, 100, &error), &error));
    counts.debug = 0;
    OK(memmgr_log_set_level(MEMMGR_LOG_DEBUG, &error));
    OK(memmgr_block_free(manager, memmgr_block_alloc(manager, 100, &error), &error));
    EQUAL(2, counts.debug);
    OK(memmgr_log_set(0, NULL, NULL, &error));
    close_manager(manager);
}

/* Every refusal is a record, also while the level changes and one receiver replaces the other. */
enum { REFUSALS = 20000 };
static atomic_uint refusals_heard;

static void hear_refusal(const memmgr_log_record *record, void *user)
{
    (void)user;
    if (record->operation == MEMMGR_OPERATION_PRESSURE) atomic_fetch_add(&refusals_heard, 1);
}

static void hear_refusal_too(const memmgr_log_record *record, void *user)
{
    hear_refusal(record, user);
}

static void be_refused(void *unused)
{
    unsigned turn;
    (void)unused;
    for (turn = 0; turn < REFUSALS; turn++)
        FAILS(LIMIT_EXCEEDED, memmgr_dimension_reload(manager, 0, other_path, NULL, &error));
    atomic_store(&stop, 1);
}

static void no_record_is_lost(void)
{
    thread other;
    unsigned turn;
    manager = open_manager(2 * MIB);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    OK(memmgr_log_set(MEMMGR_LOG_WARNING, hear_refusal, NULL, &error));
    atomic_store(&refusals_heard, 0);
    atomic_store(&stop, 0);
    thread_start(&other, be_refused, NULL);
    for (turn = 0; !atomic_load(&stop); turn++) {
        const int32_t level = turn % 2 ? MEMMGR_LOG_DEBUG : MEMMGR_LOG_WARNING;
        OK(memmgr_log_set_level(level, &error));
        OK(memmgr_log_set(level, turn % 4 < 2 ? hear_refusal : hear_refusal_too, NULL, &error));
    }
    thread_join(&other);
    OK(memmgr_log_set(0, NULL, NULL, &error));
    close_manager(manager);
    EQUAL(REFUSALS, atomic_load(&refusals_heard));
}

/* What a close gives back is its own: not what becomes of blocks meanwhile. */
static void free_meanwhile(const memmgr_log_record *record, void *user)
{
    void **block = (void **)user;
    if (record->operation == MEMMGR_OPERATION_RETIRE) {
        OK(memmgr_block_free(manager, *block, &error));
        *block = NULL;
    }
    if (record->operation == MEMMGR_OPERATION_CLOSE) EQUAL(2 * MIB, record->bytes);
}

static void close_record(void)
{
    void *block;
    manager = open_manager(8 * MIB);
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    block = memmgr_block_alloc(manager, 3 * MIB, &error);
    CHECK(block != NULL);
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, free_meanwhile, &block, &error));
    close_manager(manager);
    CHECK(block == NULL);
}

int main(void)
{
    path = file_fill("one", 1, 100);
    other_path = file_fill("two", 2, 100);
    test.tear_down = tear_down;
    RUN(levels);
    RUN(pressure);
    RUN(calling_back);
    RUN(on_the_thread_of_the_call);
    RUN(replaced_under_load);
    RUN(level_waits_for_nobody);
    RUN(level_alone);
    RUN(level_of_blocks);
    RUN(no_record_is_lost);
    RUN(close_record);
    return test_end();
}
