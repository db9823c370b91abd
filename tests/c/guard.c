/*
 * The guard against faults: what cannot be read ends as zeros and FAULTED and never as a signal,
 * and every other signal goes where it would go without the guard.
 *
 * What is expected to end a process, or changes its handlers, runs in a child.
 */
#include "test.h"
#include "faults.h"
#include "files.h"
#include "snapshot.h"
#include "threads.h"

#include <stdatomic.h>
#ifndef _WIN32
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#endif

#define MIB ((uint64_t)1 << 20)

static memmgr_manager *manager;
static size_t page;
/* Of ones. The names are new each time: a file that was cut may be mapped still. */
static const char *path;

static const char *ones(size_t size)
{
    static unsigned number;
    char name[40];
    snprintf(name, sizeof name, "ones-%u", number++);
    return file_fill(name, 1, size);
}

static memmgr_manager *open_guarded(uint64_t capacity, uint32_t flags)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.dimension_count = 3;
    options.capacity = capacity;
    options.flags = flags;
    OK(memmgr_manager_open(&options, &opened, &error));
    return opened;
}

static void set_up(void)
{
    manager = open_guarded(MIB, MEMMGR_OPEN_FAULT_GUARD);
    path = ones(4 * page);
}

static void tear_down(void)
{
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
}

static void load(uint32_t dimension, uint32_t mode)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    options.mode = mode;
    OK(memmgr_dimension_load(manager, dimension, path, &options, &error));
}

static memmgr_view acquire(uint32_t dimension)
{
    memmgr_view view = MEMMGR_VIEW_INIT;
    OK(memmgr_view_acquire(manager, dimension, 0, 4 * page, &view, &error));
    return view;
}

/* Bytes from start to end of a view are all of this value. */
static int bytes_are(const void *data, size_t start, size_t end, int value)
{
    const volatile unsigned char *bytes = (const volatile unsigned char *)data;
    for (; start < end; start++) {
        if (bytes[start] != value) return 0;
    }
    return 1;
}

static uint32_t state_of(uint32_t dimension)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    OK(memmgr_dimension_stats_get(manager, dimension, &stats, &error));
    return stats.state;
}

static void check_faulted(uint32_t operation, uint64_t offset)
{
    EQUAL(operation, error.operation);
    EQUAL(1, error.dimension);
    EQUAL(offset, error.offset);
    CHECK(strcmp(error.dimension_name, "D02") == 0);
    CHECK(error.system_code != 0);
    CHECK(strstr(error.message, "D02") != NULL && strstr(error.message, "could not be read") != NULL);
}

/* R7.1, R9.1: whatever needs the file says what could not be read, until it is replaced. */
static void r7_1_faulted_until_reload(void)
{
    uint32_t mode;
    for (mode = MEMMGR_MODE_READ; mode <= MEMMGR_MODE_COPY; mode++) {
        memmgr_stats before = MEMMGR_STATS_INIT, after = MEMMGR_STATS_INIT;
        memmgr_view held, refused = MEMMGR_VIEW_INIT;
        memmgr_write write = MEMMGR_WRITE_INIT;
        memmgr_layer layer = MEMMGR_LAYER_INIT;
        static char dump[1 << 16];
        path = ones(4 * page);
        load(1, mode);
        OK(memmgr_stats_get(manager, &before, &error));
        held = acquire(1);
        EQUAL(0, fault_at(path, held.data, 2 * page));
#ifndef _WIN32
        CHECK(bytes_are(held.data, 0, 2 * page, 1));
#endif
        CHECK(bytes_are(held.data, 2 * page, 4 * page, 0));

        EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
        FAILS(FAULTED, memmgr_view_acquire(manager, 1, 0, 1, &refused, &error));
        check_faulted(MEMMGR_OPERATION_ACQUIRE, 2 * page);
        CHECK(refused.data == NULL);
        FAILS(FAULTED, memmgr_layer_at(manager, 1, 0, &layer, &error));
        FAILS(FAULTED, memmgr_layer_acquire(manager, 1, "a", NULL, &refused, &error));
        CHECK(strcmp(error.layer_name, "a") == 0);
        FAILS(FAULTED, memmgr_dimension_flush(manager, 1, &error));
        check_faulted(MEMMGR_OPERATION_FLUSH, 2 * page);
        FAILS(FAULTED, memmgr_dimension_evict(manager, 1, &error));
        FAILS(FAULTED, memmgr_write_begin(manager, 1, 0, 0, &write, &error));
        check_faulted(MEMMGR_OPERATION_WRITE, 2 * page);
        OK(memmgr_dump_json(manager, dump, sizeof dump, NULL, &error));
        CHECK(strstr(dump, "\"faulted\"") != NULL && strstr(dump, "\"system_code\"") != NULL);
        FAILS(VIEWS_HELD, memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
        OK(memmgr_stats_get(manager, &after, &error));
        EQUAL(before.allocated, after.allocated);
        EQUAL(before.mapped, after.mapped);

        path = ones(4 * page);
        OK(memmgr_dimension_reload(manager, 1, path, NULL, &error));
        EQUAL(MEMMGR_STATE_LOADED, state_of(1));
        refused = acquire(1);
        CHECK(bytes_are(refused.data, 0, 4 * page, 1));
        CHECK(bytes_are(held.data, 2 * page, 4 * page, 0));
        OK(memmgr_view_release(manager, &refused, &error));
        OK(memmgr_view_release(manager, &held, &error));
        OK(memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    }
}

#ifndef _WIN32
/* A reload takes the file that faulted, once it is whole, in every mode and with views held. */
static void same_file_again(void)
{
    uint32_t mode, next;
    for (mode = MEMMGR_MODE_READ; mode <= MEMMGR_MODE_COPY; mode++) {
        for (next = MEMMGR_MODE_READ; next <= MEMMGR_MODE_RAM; next++) {
            memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
            memmgr_view held, fresh;
            options.mode = next;
            path = ones(4 * page);
            load(1, mode);
            held = acquire(1);
            EQUAL(0, fault_at(path, held.data, 2 * page));
            EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
            CHECK(truncate(path, (off_t)(4 * page)) == 0);
            OK(memmgr_dimension_reload(manager, 1, path, &options, &error));
            EQUAL(MEMMGR_STATE_LOADED, state_of(1));
            fresh = acquire(1);
            CHECK(bytes_are(fresh.data, 0, 2 * page, 1));
            /* Another dimension is kept away from a writable mapping as before. */
            options.mode = MEMMGR_MODE_READ_WRITE;
            if (next != MEMMGR_MODE_RAM) {
                FAILS(ALREADY_LOADED, memmgr_dimension_load(manager, 2, path, &options, &error));
            }
            OK(memmgr_view_release(manager, &fresh, &error));
            OK(memmgr_view_release(manager, &held, &error));
            OK(memmgr_dimension_unload(manager, 1, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
        }
    }
}
#endif

/* R7.1: a writer is told when he ends, and it has ended. */
static void r7_1_writer(void)
{
    memmgr_write write = MEMMGR_WRITE_INIT;
    memmgr_view view = MEMMGR_VIEW_INIT;
    load(1, MEMMGR_MODE_READ_WRITE);
    OK(memmgr_write_begin(manager, 1, 0, 0, &write, &error));
    EQUAL(0, fault_at(path, write.data, page));
    memset((char *)write.data + page, 3, page);
    FAILS(FAULTED, memmgr_view_acquire(manager, 1, 0, 1, &view, &error));
    FAILS(FAULTED, memmgr_write_end(manager, &write, &error));
    check_faulted(MEMMGR_OPERATION_WRITE, page);
    FAILS(INVALID_ARGUMENT, memmgr_write_end(manager, &write, &error));
    FAILS(FAULTED, memmgr_dimension_flush(manager, 1, &error));
}

/* R9.1: the layer that was being read is named. */
static void r9_1_layer(void)
{
    memmgr_load_options options = MEMMGR_LOAD_OPTIONS_INIT;
    memmgr_layer layers[2] = { MEMMGR_LAYER_INIT, MEMMGR_LAYER_INIT };
    memmgr_view view;
    unsigned index;
    for (index = 0; index < 2; index++) {
        snprintf(layers[index].name, sizeof layers[index].name, "layer %u", index);
        layers[index].dtype = MEMMGR_DTYPE_U8;
        layers[index].rank = 1;
        layers[index].offset = index * 2 * page;
        layers[index].shape[0] = 2 * page;
    }
    options.layers = layers;
    options.layer_count = 2;
    OK(memmgr_dimension_load(manager, 1, path, &options, &error));
    view = acquire(1);
    EQUAL(0, fault_at(path, view.data, 3 * page));
    OK(memmgr_view_release(manager, &view, &error));
    FAILS(FAULTED, memmgr_view_acquire(manager, 1, 0, 1, &view, &error));
    EQUAL(1, error.layer);
    CHECK(strcmp(error.layer_name, "layer 1") == 0);
}

/* Only the dimension concerned, of the manager concerned. */
static void several_managers(void)
{
    memmgr_manager *first = manager;
    memmgr_view views[3];
    const char *paths[3];
    unsigned index;
    for (index = 0; index < 3; index++) {
        paths[index] = path = ones(4 * page);
        if (index == 2) manager = open_guarded(MIB, MEMMGR_OPEN_FAULT_GUARD);
        load(index, MEMMGR_MODE_READ);
        views[index] = acquire(index);
    }
    EQUAL(0, fault_at(paths[2], views[2].data, page));
    EQUAL(MEMMGR_STATE_FAULTED, state_of(2));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_DEFER, 0, &error));
    CHECK(bytes_are(views[2].data, page, 4 * page, 0));
    OK(memmgr_view_release(manager, &views[2], &error));
    manager = first;
    EQUAL(0, fault_at(paths[1], views[1].data, page));
    EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
    EQUAL(MEMMGR_STATE_LOADED, state_of(0));
    CHECK(bytes_are(views[0].data, 0, 4 * page, 1));
    OK(memmgr_view_release(manager, &views[0], &error));
    OK(memmgr_view_release(manager, &views[1], &error));
}

/* Where there is no guard, asking for one says so. */
static void not_to_be_had(void)
{
    memmgr_manager_options options = MEMMGR_MANAGER_OPTIONS_INIT;
    memmgr_manager *opened = NULL;
    options.flags = MEMMGR_OPEN_FAULT_GUARD;
    FAILS(INVALID_ARGUMENT, memmgr_manager_open(&options, &opened, &error));
    CHECK(opened == NULL);
}

#ifndef _WIN32

static atomic_uint scans;

/* Reads all, again and again, until it is refused: what it sees is ones, and then zeros. */
static void scan(void *context)
{
    int *whole = (int *)context;
    while (1) {
        memmgr_view view = MEMMGR_VIEW_INIT;
        const memmgr_status status = memmgr_view_acquire(manager, 1, 0, 4 * page, &view, &error);
        const volatile unsigned char *bytes = (const volatile unsigned char *)view.data;
        unsigned char last = 1;
        size_t index;
        if (status != MEMMGR_OK) {
            EQUAL(MEMMGR_ERR_FAULTED, status);
            /* The first to meet it may have been within what was cut off. */
            CHECK(error.offset >= 2 * page && error.offset < 4 * page);
            return;
        }
        for (index = 0; index < view.length; index += 64) {
            if (bytes[index] > last) *whole = 0;
            last = bytes[index];
        }
        CHECK(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK);
        atomic_fetch_add(&scans, 1);
    }
}

/* R4.2, R7.5: a hundred readers outlive a file that is cut short under them. */
static void r7_5_readers(void)
{
    static thread threads[100];
    int whole = 1;
    unsigned index;
    load(1, MEMMGR_MODE_READ);
    for (index = 0; index < 100; index++) thread_start(&threads[index], scan, &whole);
    while (atomic_load(&scans) < 200) sleep_ms(1);
    CHECK(truncate(path, (off_t)(2 * page)) == 0);
    for (index = 0; index < 100; index++) thread_join(&threads[index]);
    CHECK(whole);
    EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
}

static atomic_int stop;

/* Reads on whatever happens. */
static void read_on(void *context)
{
    int *right = (int *)context;
    while (!atomic_load(&stop)) {
        memmgr_view view = MEMMGR_VIEW_INIT;
        const memmgr_status status = memmgr_view_acquire(manager, 1, 0, 4 * page, &view, &error);
        if (status == MEMMGR_OK) {
            const volatile unsigned char *bytes = (const volatile unsigned char *)view.data;
            size_t index;
            for (index = 0; index < view.length; index += 64) {
                if (bytes[index] > 1) *right = 0;
            }
            if (bytes[0] != 1) *right = 0;
            CHECK(memmgr_view_release(manager, &view, NULL) == MEMMGR_OK);
            atomic_fetch_add(&scans, 1);
        } else if (status != MEMMGR_ERR_FAULTED) {
            *right = 0;
        }
    }
}

/* R7.5: files are cut and replaced, again and again, under readers who never stop. */
static void r7_5_rounds(void)
{
    static const char *const names[] = { "this", "that" };
    thread threads[8];
    memmgr_stats before = MEMMGR_STATS_INIT, after = MEMMGR_STATS_INIT;
    unsigned round, index, faults = 0;
    int right = 1;
    load(1, MEMMGR_MODE_READ);
    OK(memmgr_stats_get(manager, &before, &error));
    for (index = 0; index < 8; index++) thread_start(&threads[index], read_on, &right);
    for (round = 0; round < 300; round++) {
        const unsigned seen = atomic_load(&scans);
        unsigned tries = 0;
        CHECK(truncate(path, (off_t)page) == 0);
        while (state_of(1) != MEMMGR_STATE_FAULTED && ++tries < 10000) sleep_ms(round % 2);
        faults += state_of(1) == MEMMGR_STATE_FAULTED;
        /* A new file: the old one may be mapped still. */
        path = file_path(names[round % 2]);
        remove(path);
        file_fill(names[round % 2], 1, 4 * page);
        /* Those who still hold the versions before have to leave one first. */
        while (memmgr_dimension_reload(manager, 1, path, NULL, &error) == MEMMGR_ERR_VIEWS_HELD)
            sleep_ms(0);
        while (atomic_load(&scans) == seen) sleep_ms(0);
    }
    atomic_store(&stop, 1);
    for (index = 0; index < 8; index++) thread_join(&threads[index]);
    CHECK(right);
    EQUAL(300, faults);
    EQUAL(MEMMGR_STATE_LOADED, state_of(1));
    OK(memmgr_stats_get(manager, &after, &error));
    EQUAL(before.allocated, after.allocated);
    EQUAL(before.mapped, after.mapped);
    EQUAL(0, after.views);
}

/* Reads on: what it sees is what the file had when it was loaded, or what was written over that. */
static void read_either(void *context)
{
    int *right = (int *)context;
    while (!atomic_load(&stop)) {
        memmgr_view view = acquire(1);
        const volatile unsigned char *bytes = (const volatile unsigned char *)view.data;
        size_t index;
        for (index = 0; bytes != NULL && index < view.length; index += 64) {
            if (bytes[index] != 1 && bytes[index] != 2) *right = 0;
        }
        OK(memmgr_view_release(manager, &view, &error));
        atomic_fetch_add(&scans, 1);
    }
}

/* Each of the readers has looked at what was done to the file; verifying tells it. */
static void looked_at(uint32_t changes)
{
    const unsigned seen = atomic_load(&scans);
    memmgr_verification found = MEMMGR_VERIFICATION_INIT;
    OK(memmgr_dimension_verify(manager, 1, NULL, &found, &error));
    EQUAL(changes, found.changes);
    while (atomic_load(&scans) < seen + 500) sleep_ms(1);
}

/* R7.5: a hundred readers do not notice that their file is rewritten, replaced and deleted. */
static void r7_5_files(void)
{
    static thread threads[100];
    const char *other;
    FILE *file;
    int right = 1;
    unsigned index;
    load(1, MEMMGR_MODE_READ);
    atomic_store(&stop, 0);
    for (index = 0; index < 100; index++) thread_start(&threads[index], read_either, &right);
    looked_at(0);
    sleep_ms(20); /* times of files move in steps */
    file = fopen(path, "r+b");
    for (index = 0; index < 4 * page; index++) fputc(2, file);
    fclose(file);
    looked_at(MEMMGR_CHANGE_REWRITTEN);
    other = file_fill("other", 9, 4 * page);
    CHECK(rename(other, path) == 0);
    looked_at(MEMMGR_CHANGE_REPLACED);
    CHECK(remove(path) == 0);
    looked_at(MEMMGR_CHANGE_GONE);
    atomic_store(&stop, 1);
    for (index = 0; index < 100; index++) thread_join(&threads[index]);
    CHECK(right);
    EQUAL(MEMMGR_STATE_LOADED, state_of(1));
}

/* Runs a function in a child, with `alarm` against one that does not end; returns how it ended. */
static int in_child(int (*function)(void))
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(function());
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return status;
}

#define EXITS(code, function)                                                     \
    do {                                                                          \
        const int how = in_child(function);                                       \
        CHECK(WIFEXITED(how));                                                    \
        EQUAL(code, WEXITSTATUS(how));                                            \
    } while (0)

#define DIES(signal, function)                                                    \
    do {                                                                          \
        const int how = in_child(function);                                       \
        CHECK(WIFSIGNALED(how));                                                  \
        EQUAL(signal, WTERMSIG(how));                                             \
    } while (0)

/* A fault of the kind that the guard heals, in dimension 2. True if it did. */
static int heals(void)
{
    memmgr_view view;
    unsigned char got;
    path = ones(4 * page);
    load(2, MEMMGR_MODE_READ);
    view = acquire(2);
    got = fault_at(path, view.data, page);
    memmgr_view_release(manager, &view, NULL);
    memmgr_dimension_unload(manager, 2, MEMMGR_ON_VIEWS_REFUSE, 0, NULL);
    return got == 0;
}

/* One of a kind that it does not. */
static void fault_elsewhere(void)
{
    *(volatile int *)(uintptr_t)64 = 1;
}

/* One at an address of the manager, where nothing is loaded. */
static void fault_in_empty(void)
{
    memmgr_dimension_stats stats = MEMMGR_DIMENSION_STATS_INIT;
    memmgr_dimension_stats_get(manager, 0, &stats, NULL);
    *(volatile char *)(uintptr_t)stats.address;
}

static int unguarded_reader(void)
{
    memmgr_view view;
    manager = open_guarded(MIB, 0);
    load(1, MEMMGR_MODE_READ);
    view = acquire(1);
    return fault_at(path, view.data, page);
}

/* The negative control: this is what the guard is for, and it is for those who asked. */
static void without_the_guard(void)
{
    DIES(SIGBUS, unguarded_reader);
}

static int killed(void)
{
    kill(getpid(), SIGBUS);
    return 1;
}

static int raised(void)
{
    raise(SIGSEGV);
    return 1;
}

static int segfaulted(void)
{
    fault_elsewhere();
    return 1;
}

static int segfaulted_inside(void)
{
    fault_in_empty();
    return 1;
}

/* Writes where only reading is allowed: a mistake, and no fault. */
static int stored(void)
{
    memmgr_view view;
    load(1, MEMMGR_MODE_READ);
    view = acquire(1);
    *(volatile char *)(uintptr_t)view.data = 1;
    return 1;
}

/* What is not about a mapped file ends the process as ever. */
static void nobody_elses(void)
{
    DIES(SIGBUS, killed);
    DIES(SIGSEGV, raised);
    DIES(SIGSEGV, segfaulted);
#ifdef __linux__
    DIES(SIGSEGV, segfaulted_inside);
    DIES(SIGSEGV, stored);
#else
    (void)segfaulted_inside;
    (void)stored;
#endif
}

static sigjmp_buf jump;
static volatile sig_atomic_t visits[2]; /* of the handler before ours, and of the one after */
static volatile sig_atomic_t sent_visits;
static struct sigaction found; /* by the handler that was installed last */

static void install(void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO | flags;
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGSEGV, &action, &found);
}

static void jump_out(int signal, siginfo_t *info, void *context)
{
    (void)context;
    if (info->si_code <= 0) {
        sent_visits++;
        return;
    }
    visits[0]++;
    if (signal == SIGSEGV && info->si_addr == (void *)64) siglongjmp(jump, 1);
    _exit(9);
}

static void jump_out_plainly(int signal)
{
    (void)signal;
    visits[0]++;
    siglongjmp(jump, 1);
}

/* A manager in a child that already has its handler. */
static void reopen(void)
{
    manager = open_guarded(MIB, MEMMGR_OPEN_FAULT_GUARD);
}

static int before_ours(void)
{
    volatile int round;
    install(jump_out, 0);
    /* The parent's guard stands above or below it, whichever way this one is put on top. */
    reopen();
    for (round = 0; round < 3; round++) {
        if (!heals()) return 1;
        if (sigsetjmp(jump, 1) == 0) fault_elsewhere();
    }
    kill(getpid(), SIGBUS);
    raise(SIGSEGV);
    return visits[0] == 3 && sent_visits == 2 && heals() ? 0 : 2;
}

static int before_ours_plainly(void)
{
    volatile int round;
    signal(SIGSEGV, jump_out_plainly);
    reopen();
    for (round = 0; round < 3; round++) {
        if (sigsetjmp(jump, 1) == 0) fault_elsewhere();
        if (!heals()) return 1;
    }
    return visits[0] == 3 ? 0 : 2;
}

static int ignored_before_ours(void)
{
    signal(SIGSEGV, SIG_IGN);
    reopen();
    raise(SIGSEGV);
    if (!heals()) return 1;
    fault_elsewhere();
    return 2;
}

static int nothing_before_ours(void)
{
    /* As good as SIG_DFL. */
    install(NULL, 0);
    reopen();
    if (!heals()) return 1;
    fault_elsewhere();
    return 2;
}

static void do_nothing(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
}

static pthread_t reading;
static int pipes[2];

static void interrupt(void *context)
{
    (void)context;
    sleep_ms(50);
    pthread_kill(reading, SIGBUS);
    sleep_ms(50);
    if (write(pipes[1], "x", 1) != 1) _exit(9);
}

/* What a system call that is interrupted by the signal comes to with the guard. */
static int interrupted(int flags)
{
    thread other;
    char byte;
    ssize_t got;
    install(do_nothing, flags);
    reopen();
    reading = pthread_self();
    if (pipe(pipes) != 0) return 1;
    thread_start(&other, interrupt, NULL);
    got = read(pipes[0], &byte, 1);
    if (flags & SA_RESTART) return got != 1;
    return got != -1 || errno != EINTR;
}

static int restarts_below_ours(void)
{
    return interrupted(SA_RESTART);
}

static int interrupts_below_ours(void)
{
    return interrupted(0);
}

static void count_and_return(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    visits[0]++;
    if (visits[0] > 1) _exit(9);
}

static int once_before_ours(void)
{
    install(count_and_return, (int)SA_RESETHAND);
    reopen();
    fault_elsewhere();
    return 2;
}

/* A handler from before gets what is not ours, with all that the system says of it, as often as it
 * likes, and may leave by a jump. */
static void handler_before(void)
{
    EXITS(0, before_ours);
    EXITS(0, before_ours_plainly);
    DIES(SIGSEGV, ignored_before_ours);
    DIES(SIGSEGV, once_before_ours);
    DIES(SIGSEGV, nothing_before_ours);
    /* The emulator whose map is not true restarts no call that such a signal has interrupted. */
    if (map_is_true()) EXITS(0, restarts_below_ours);
    EXITS(0, interrupts_below_ours);
}

/* As Python's faulthandler: restores what it found, and raises the signal again. */
static void restore_and_raise(int signal, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    if (++visits[1] > 1) _exit(9);
    sigaction(SIGSEGV, &found, NULL);
    raise(signal);
}

/* As others do: restores what it found, and lets the instruction be tried again. */
static void restore_and_return(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    if (++visits[1] > 1) _exit(9);
    sigaction(SIGSEGV, &found, NULL);
}

/* As still others do: asks whoever it found. */
static void ask_below(int signal, siginfo_t *info, void *context)
{
    visits[1]++;
    found.sa_sigaction(signal, info, context);
}

static int raised_above_ours(void)
{
    install(restore_and_raise, SA_NODEFER);
    if (!heals()) return 1;
    fault_elsewhere();
    return 2;
}

static int returned_above_ours(void)
{
    install(restore_and_return, 0);
    if (!heals()) return 1;
    fault_elsewhere();
    return 2;
}

static int asked_above_ours(void)
{
    memmgr_view view;
    install(jump_out, 0);
    reopen();
    load(1, MEMMGR_MODE_READ);
    view = acquire(1);
    install(ask_below, 0);
    /* Ours is asked before it is put on top, and is on top afterwards. */
    if (fault_at(path, view.data, page) != 0 || visits[1] != 1) return 1;
    if (!heals() || visits[1] != 1) return 2;
    if (sigsetjmp(jump, 1) == 0) fault_elsewhere();
    /* Theirs, ours below it, and the first one. */
    return visits[1] == 2 && visits[0] == 1 ? 0 : 3;
}

static int many_above_ours(void)
{
    unsigned round;
    for (round = 0; round < 100; round++) {
        install(round % 2 ? restore_and_raise : ask_below, SA_NODEFER);
        if (round < 60 && !heals()) return 1;
    }
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
    fault_elsewhere();
    return 2;
}

/* One that came later is put below ours by the next load, and the two do not go round for ever. */
static void handler_after(void)
{
    DIES(SIGSEGV, raised_above_ours);
    DIES(SIGSEGV, returned_above_ours);
    EXITS(0, asked_above_ours);
    DIES(SIGSEGV, many_above_ours);
}

/* R7.5: a thread whose handlers run on a small stack of its own. */
static void small_stack(void *context)
{
    static char memory[16 << 10];
    stack_t stack;
    memset(&stack, 0, sizeof stack);
    stack.ss_sp = memory;
    stack.ss_size = sizeof memory;
    CHECK(sigaltstack(&stack, NULL) == 0);
    EQUAL(0, fault_at(path, context, page));
    stack.ss_flags = SS_DISABLE;
    CHECK(sigaltstack(&stack, NULL) == 0);
}

static void alternate_stack(void)
{
    memmgr_view view;
    load(1, MEMMGR_MODE_READ);
    view = acquire(1);
    thread_call(small_stack, (void *)(uintptr_t)view.data);
    EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
    OK(memmgr_view_release(manager, &view, &error));
}

static memmgr_view inherited;

static int inherited_read(void)
{
    return fault_at(path, inherited.data, page);
}

/* A child reads on what it inherited, and its fault is its own. */
static void after_fork(void)
{
    load(1, MEMMGR_MODE_READ);
    inherited = acquire(1);
    EXITS(0, inherited_read);
    EQUAL(MEMMGR_STATE_LOADED, state_of(1));
    CHECK(bytes_are(inherited.data, 0, page, 1));
    CHECK(bytes_are(inherited.data, page, 4 * page, 0));
    EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
    OK(memmgr_view_release(manager, &inherited, &error));
}

/* A system call that is given such a page fails, and nobody learns of a fault. */
static void system_call(void)
{
    memmgr_view view;
    char bytes[1];
    load(1, MEMMGR_MODE_READ);
    view = acquire(1);
    CHECK(pipe(pipes) == 0);
    CHECK(truncate(path, (off_t)page) == 0);
    errno = 0;
    CHECK(write(pipes[1], (const char *)view.data + page, 1) == -1 && errno == EFAULT);
    EQUAL(MEMMGR_STATE_LOADED, state_of(1));
    CHECK(bytes_are(view.data, page, page + 1, 0));
    EQUAL(MEMMGR_STATE_FAULTED, state_of(1));
    CHECK(write(pipes[1], (const char *)view.data + page, 1) == 1);
    CHECK(read(pipes[0], bytes, 1) == 1 && bytes[0] == 0);
    close(pipes[0]);
    close(pipes[1]);
    OK(memmgr_view_release(manager, &view, &error));
}

/* More pages than a process has map entries, read from the last to the first. */
static void map_entries(void)
{
    const size_t pages = 70000;
    memmgr_manager *first = manager;
    memmgr_view view = MEMMGR_VIEW_INIT, refused = MEMMGR_VIEW_INIT;
    map_entry entry;
    unsigned entries = 0;
    size_t index;
    uint64_t address;
    if (page != 4096 || !map_is_true()) {
        skip("needs a true map of pages of 4 KiB");
        return;
    }
    manager = open_guarded(pages * page, MEMMGR_OPEN_FAULT_GUARD);
    path = file_fill("pages", 1, page);
    CHECK(truncate(path, (off_t)(pages * page)) == 0);
    load(1, MEMMGR_MODE_READ);
    OK(memmgr_view_acquire(manager, 1, 0, pages * page, &view, &error));
    CHECK(truncate(path, (off_t)page) == 0);
    for (index = pages - 1; index > 0; index--) {
        if (((const volatile unsigned char *)view.data)[index * page] != 0) break;
    }
    EQUAL(0, index);
    CHECK(bytes_are(view.data, 0, page, 1));
    address = (uint64_t)(uintptr_t)view.data;
    for (entry.end = address; entry.end < address + pages * page; entries++) {
        if (!CHECK(map_next(entry.end, &entry))) break;
    }
    EQUAL(2, entries);
    FAILS(FAULTED, memmgr_view_acquire(manager, 1, 0, 1, &refused, &error));
    EQUAL(page, error.offset);
    OK(memmgr_view_release(manager, &view, &error));
    OK(memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, &error));
    manager = first;
}

static void pass_nothing_on(int signal)
{
    (void)signal;
    _exit(7);
}

/* Another handler is put over the library's before each load, more often than it can be put over
 * that one again. */
static int loads_under_other_handlers(void)
{
    unsigned round;
    for (round = 0; round < 70; round++) {
        memmgr_status status;
        signal(SIGBUS, pass_nothing_on);
        status = memmgr_dimension_load(manager, 0, path, NULL, &error);
        if (status != MEMMGR_OK) return status == MEMMGR_ERR_ALLOCATION && round > 32 ? 3 : 4;
        if (memmgr_dimension_unload(manager, 0, MEMMGR_ON_VIEWS_REFUSE, 0, &error)) return 5;
    }
    return 6;
}

/* A load never succeeds without the guard that it was asked for. */
static void load_that_cannot_be_guarded_is_refused(void)
{
    EXITS(3, loads_under_other_handlers);
}

#if defined(__linux__) && defined(__x86_64__)
/* As the kernel tells a process that wants to know early of memory which is going to fail. */
static int told_of_failing_memory(void)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGBUS;
    info.si_code = BUS_MCEERR_AO;
    OK(memmgr_dimension_load(manager, 0, path, NULL, &error));
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info);
    return 3;
}

/* It ends the process, as it does without the library; it is not lost, and the guard with it. */
static void signal_of_no_instruction_is_not_swallowed(void)
{
    const int how = in_child(told_of_failing_memory);
    CHECK(WIFSIGNALED(how));
    EQUAL(SIGBUS, WTERMSIG(how));
}
#endif
#endif

int main(void)
{
    page = fault_page_size();
    if (!fault_guard()) {
        RUN(not_to_be_had);
        return test_end();
    }
    test.set_up = set_up;
    test.tear_down = tear_down;
    RUN(r7_1_faulted_until_reload);
#ifndef _WIN32
    RUN(same_file_again);
#endif
    RUN(r7_1_writer);
    RUN(r9_1_layer);
    RUN(several_managers);
#ifndef _WIN32
    RUN(r7_5_readers);
    RUN(r7_5_rounds);
    RUN(r7_5_files);
    RUN(without_the_guard);
    RUN(nobody_elses);
    RUN(handler_before);
    RUN(handler_after);
    RUN(alternate_stack);
    RUN(after_fork);
    RUN(system_call);
    RUN(map_entries);
    RUN(load_that_cannot_be_guarded_is_refused);
#endif
#if defined(__linux__) && defined(__x86_64__)
    /* An emulator hands such a signal on as one that a process has sent. */
    RUN(signal_of_no_instruction_is_not_swallowed);
#endif
    return test_end();
}
