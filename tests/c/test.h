/*
 * What a test program needs to say what it expects.
 *
 * A test is a function without arguments; RUN counts it as failed if any check in it failed, on
 * any thread. A check that fails prints where it stands, what it expected and the message of
 * `error`, and goes on. Tests that pass are named if MEMMGR_TESTS_LISTED is set.
 * Included first, because it chooses what the system's headers declare.
 */
#ifndef TEST_H
#define TEST_H

#ifndef _WIN32
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef _DARWIN_C_SOURCE
#define _DARWIN_C_SOURCE
#endif
#endif

#include <memmgr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#define THREAD_LOCAL thread_local
#else
#define THREAD_LOCAL _Thread_local
#endif

/* Of the calls in OK and FAILS, which pass its address. */
static THREAD_LOCAL memmgr_error error = MEMMGR_ERROR_INIT;

static struct {
    unsigned failures; /* of checks; threads add to it */
    unsigned passed, failed, skipped;
    unsigned seen; /* statuses that calls came to, a bit each */
    const char *skip_reason;
    void (*set_up)(void); /* called before and after every test, if set */
    void (*tear_down)(void);
} test;

/* The condition holds. Returns it, so that a test can stop where going on makes no sense. */
#define CHECK(condition) test_check(!!(condition), #condition, "", __FILE__, __LINE__)

/* Two numbers are the same. */
#define EQUAL(expected, got)                                                        \
    test_equal((uint64_t)(expected), (uint64_t)(got), #got, __FILE__, __LINE__)

/* The call, with &error as its last argument, succeeds and leaves error alone. */
#define OK(call) (test_forget(), test_status(MEMMGR_OK, (call), #call, __FILE__, __LINE__))

/* The call, with &error as its last argument, fails with MEMMGR_ERR_NAME and says so in error. */
#define FAILS(NAME, call) \
    (test_forget(), test_status(MEMMGR_ERR_##NAME, (call), #call, __FILE__, __LINE__))

/* The call, with &error as its last argument, returns a pointer and leaves error alone. Returns
 * what the call does. */
#define GET(call) (test_forget(), test_pointer(MEMMGR_OK, (call), #call, __FILE__, __LINE__))

/* The call, with &error as its last argument, returns NULL and says MEMMGR_ERR_NAME in error. */
#define GET_FAILS(NAME, call) \
    (test_forget(), test_pointer(MEMMGR_ERR_##NAME, (call), #call, __FILE__, __LINE__))

#define RUN(function) test_run(#function, function)

static inline int test_check(int holds, const char *text, const char *more, const char *file,
                             int line)
{
    if (!holds) {
        __atomic_fetch_add(&test.failures, 1, __ATOMIC_RELAXED);
        fprintf(stderr, "%s:%d: %s%s\n", file, line, text, more);
        if (error.status != MEMMGR_OK) fprintf(stderr, "  error: %s\n", error.message);
    }
    return holds;
}

static inline int test_equal(uint64_t expected, uint64_t got, const char *text, const char *file,
                             int line)
{
    char more[80];
    snprintf(more, sizeof more, ": expected %llu, got %llu", (unsigned long long)expected,
             (unsigned long long)got);
    return test_check(expected == got, text, more, file, line);
}

static inline void test_forget(void)
{
    error.status = MEMMGR_OK;
    error.message[0] = 0;
}

static inline int test_status(memmgr_status expected, memmgr_status got, const char *text,
                              const char *file, int line)
{
    char more[120];
    const int told = error.status == expected && (expected == MEMMGR_OK) == !error.message[0];
    __atomic_fetch_or(&test.seen, 1u << (got & 31), __ATOMIC_RELAXED);
    snprintf(more, sizeof more, ": expected %s, got %s%s", memmgr_status_name(expected),
             memmgr_status_name(got), expected == got ? ", and error says something else" : "");
    return test_check(expected == got && told, text, more, file, line);
}

static inline void *test_pointer(memmgr_status expected, void *got, const char *text,
                                 const char *file, int line)
{
    /* A failure that says nothing is none of the statuses. */
    const memmgr_status failed = error.status != MEMMGR_OK ? error.status : -1;
    test_status(expected, got != NULL ? MEMMGR_OK : failed, text, file, line);
    return got;
}

/* The test that runs cannot be made here, and returns. */
static inline void skip(const char *reason)
{
    test.skip_reason = reason;
}

static inline void test_run(const char *name, void (*function)(void))
{
    const unsigned failures = test.failures;
    test.skip_reason = NULL;
    test_forget();
    if (test.set_up != NULL) test.set_up();
    function();
    if (test.tear_down != NULL) test.tear_down();
    if (test.failures != failures) {
        test.failed++;
        fprintf(stderr, "%s failed\n", name);
    } else if (test.skip_reason != NULL) {
        test.skipped++;
        printf("%s skipped: %s\n", name, test.skip_reason);
    } else {
        test.passed++;
        if (getenv("MEMMGR_TESTS_LISTED") != NULL) printf("%s passed\n", name);
    }
    /* A child of a fork would print it again. */
    fflush(stdout);
}

/* Prints the closing line; returns what main returns. Checks of main itself count as one test. */
static inline int test_end(void)
{
    if (test.failures != 0 && test.failed == 0) test.failed = 1;
    printf("%u passed, %u failed", test.passed, test.failed);
    if (test.skipped != 0) printf(", %u skipped", test.skipped);
    printf("\n");
    return test.failed != 0;
}

#endif
