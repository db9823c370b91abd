/*
 * The log function: what it is told at which level, that it may call the library but not replace
 * itself, and that it is never called once it has been replaced.
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
    return test_end();
}
