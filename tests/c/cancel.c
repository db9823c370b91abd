/*
 * Threads that are cancelled, and that end, within the library: what a call has begun it ends, and
 * nobody waits for what a thread left behind.
 *
 * Every cancellation is pending before the call, so that the first place for it within would do.
 */
#include "test.h"
#include "files.h"
#include "threads.h"

#ifndef _WIN32
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

static memmgr_manager *manager;
static const char *path, *saved;

static void set_up(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    options.dimension_count = 2;
    options.capacity = MIB;
    OK(memmgr_manager_open(&options, &manager, &error));
    path = file_fill("table", 3, 3 * 4096);
    saved = file_path("saved.bin");
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static memmgr_status load(uint32_t mode, memmgr_error *out)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = mode;
    return memmgr_dimension_load(manager, 0, path, &options, out);
}

static memmgr_status call_load(memmgr_error *out)
{
    return load(MEMMGR_MODE_READ_WRITE, out);
}

static memmgr_status call_load_missing(memmgr_error *out)
{
    return memmgr_dimension_load(manager, 1, "nowhere/at/all", NULL, out);
}

static memmgr_status call_reload(memmgr_error *out)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = MEMMGR_MODE_RAM;
    return memmgr_dimension_reload(manager, 0, path, &options, out);
}

static memmgr_status call_flush(memmgr_error *out)
{
    return memmgr_dimension_flush(manager, 0, out);
}

static memmgr_status call_save(memmgr_error *out)
{
    return memmgr_dimension_save(manager, 0, saved, NULL, out);
}

static memmgr_status call_verify(memmgr_error *out)
{
    memmgr_verification verification = MEMMGR_VERIFICATION_INIT;
    return memmgr_dimension_verify(manager, 0, NULL, &verification, out);
}

static memmgr_status call_would_fit(memmgr_error *out)
{
    return memmgr_dimension_would_fit(manager, 1, path, 0, MEMMGR_MODE_RAM, out);
}

#ifdef __linux__
static memmgr_status call_memory(memmgr_error *out)
{
    memmgr_memory memory = MEMMGR_MEMORY_INIT;
    return memmgr_memory_get(manager, MEMMGR_NONE, &memory, out);
}
#endif

static memmgr_status call_open(memmgr_error *out)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *other = NULL;
    memmgr_status status;
    options.flags = MEMMGR_OPEN_LIMIT_AUTO;
    options.dimension_count = 1;
    options.capacity = 4096;
    status = memmgr_manager_open(&options, &other, out);
    if (status == MEMMGR_OK) {
        status = memmgr_manager_close(other, MEMMGR_ON_VIEWS_REFUSE, 0, out);
    }
    return status;
}

static memmgr_status call_refused_block(memmgr_error *out)
{
    return memmgr_block_alloc(manager, 64, out) == NULL ? out->status : MEMMGR_OK;
}

static memmgr_status call_unload(memmgr_error *out)
{
    return memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, out);
}

typedef struct victim {
    memmgr_status (*call)(memmgr_error *out);
    memmgr_status status; /* -1: it did not return */
    int state;            /* of being cancelled, after the call */
} victim;

static void *end_in_call(void *context)
{
    victim *self = (victim *)context;
    memmgr_error out = MEMMGR_ERROR_INIT;
    pthread_cancel(pthread_self());
    self->status = self->call(&out);
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &self->state);
    pthread_testcancel();
    return NULL;
}

static void expect_whole(memmgr_status expected, memmgr_status (*call)(memmgr_error *out))
{
    victim self;
    pthread_t thread;
    void *result = NULL;
    self.call = call;
    self.status = -1;
    self.state = -1;
    CHECK(pthread_create(&thread, NULL, end_in_call, &self) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    EQUAL(expected, self.status);
    EQUAL(PTHREAD_CANCEL_ENABLE, self.state);
    CHECK(result == PTHREAD_CANCELED);
}

/* A call that a thread is cancelled in ends as any other, and the thread after it. */
static void cancelled_thread_ends_its_call(void)
{
    expect_whole(MEMMGR_OK, call_load);
    expect_whole(MEMMGR_ERR_FILE_ACCESS, call_load_missing);
    expect_whole(MEMMGR_OK, call_flush);
    expect_whole(MEMMGR_OK, call_save);
    expect_whole(MEMMGR_OK, call_verify);
    expect_whole(MEMMGR_OK, call_would_fit);
#ifdef __linux__
    expect_whole(MEMMGR_OK, call_memory);
#endif
    expect_whole(MEMMGR_OK, call_open);
    expect_whole(MEMMGR_OK, call_unload);
    OK(load(MEMMGR_MODE_READ, &error));
    expect_whole(MEMMGR_OK, call_reload);
    expect_whole(MEMMGR_OK, call_unload);
}

/* Which limit a block was refused for is asked of the system's files: with no lock held, and the
 * thread has its exit hook to come. */
static void cancelled_thread_leaves_no_lock(void)
{
    memmgr_failure failure = MEMMGR_FAILURE_INIT;
    void *block;
    pid_t child;
    int status = -1;
    failure.call = MEMMGR_CALL_TAKE;
    failure.system_code = ENOMEM;
    failure.count = UINT64_MAX;
    block = GET(memmgr_block_alloc(manager, 5000, &error));
    OK(memmgr_failure_inject(&failure, &error));
    expect_whole(MEMMGR_ERR_ALLOCATION, call_refused_block);
    OK(memmgr_failure_clear(0, &error));
    OK(memmgr_block_free(manager, block, &error));
    block = GET(memmgr_block_alloc(manager, 64, &error));
    OK(memmgr_block_free(manager, block, &error));
    child = fork();
    if (child == 0) _exit(0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void *end_with_blocks(void *context)
{
    (void)context;
    OK(memmgr_block_free(manager, GET(memmgr_block_alloc(manager, 64, &error)), &error));
    /* It ends before it meets a place for it. */
    pthread_cancel(pthread_self());
    return NULL;
}

/* The hook of a thread that ends goes through, whether the thread was cancelled or not. */
static void cancelled_thread_ends_its_exit_hook(void)
{
    memmgr_pool_stats stats = MEMMGR_POOL_STATS_INIT;
    unsigned round;
    for (round = 0; round < 20; round++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, end_with_blocks, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    OK(memmgr_pool_trim(manager, NULL, &error));
    OK(memmgr_pool_stats_get(manager, &stats, &error));
    EQUAL(0, stats.blocks);
    EQUAL(0, stats.allocated);
}

static memmgr_status cancelled_in_log(memmgr_error *out)
{
    return memmgr_dimension_load(manager, 0, path, NULL, out);
}

static void log_slowly(const memmgr_log_record *record, void *user)
{
    (void)record;
    /* A place for cancellations, as a write to a file would be. */
    pthread_testcancel();
    ++*(unsigned *)user;
}

/* A log function cannot end the thread in the middle of a call either. */
static void cancelled_thread_ends_its_log_function(void)
{
    unsigned records = 0;
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, log_slowly, &records, &error));
    expect_whole(MEMMGR_OK, cancelled_in_log);
    OK(memmgr_log_set(MEMMGR_LOG_DEBUG, NULL, NULL, &error));
    CHECK(records > 0);
    expect_whole(MEMMGR_OK, call_unload);
}

int main(void)
{
    /* A thread that waits for what another has left behind does so for ever. */
    alarm(120);
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(cancelled_thread_ends_its_call);
    RUN(cancelled_thread_leaves_no_lock);
    RUN(cancelled_thread_ends_its_exit_hook);
    RUN(cancelled_thread_ends_its_log_function);
    return test_end();
}

#else

static void threads_are_cancelled(void)
{
    skip("threads are not cancelled here");
}

int main(void)
{
    RUN(threads_are_cancelled);
    return test_end();
}

#endif
