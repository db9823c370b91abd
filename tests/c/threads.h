/*
 * Threads, time and random numbers, the same on every system.
 */
#ifndef THREADS_H
#define THREADS_H

#include "test.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

typedef struct thread {
    void (*run)(void *context);
    void *context;
#ifdef _WIN32
    HANDLE id;
#else
    pthread_t id;
#endif
} thread;

#ifdef _WIN32
static DWORD WINAPI thread_main(void *argument)
#else
static void *thread_main(void *argument)
#endif
{
    thread *self = (thread *)argument;
    self->run(self->context);
    return 0;
}

/* `self` stays where it is until it is joined. */
static inline void thread_start(thread *self, void (*run)(void *context), void *context)
{
    self->run = run;
    self->context = context;
#ifdef _WIN32
    self->id = CreateThread(NULL, 0, thread_main, self, 0, NULL);
    if (self->id == NULL) {
#else
    if (pthread_create(&self->id, NULL, thread_main, self) != 0) {
#endif
        fprintf(stderr, "cannot start a thread\n");
        exit(2);
    }
}

static inline void thread_join(thread *self)
{
#ifdef _WIN32
    WaitForSingleObject(self->id, INFINITE);
    CloseHandle(self->id);
#else
    pthread_join(self->id, NULL);
#endif
}

/* Calls run(context) on another thread, and waits for it. */
static inline void thread_call(void (*run)(void *context), void *context)
{
    thread other;
    thread_start(&other, run, context);
    thread_join(&other);
}

/* Lets others go on, where there are more threads than processors. */
static inline void thread_yield(void)
{
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

static inline void sleep_ms(unsigned ms)
{
#ifdef _WIN32
    Sleep(ms);
#else
    struct timespec time;
    time.tv_sec = ms / 1000;
    time.tv_nsec = ms % 1000 * 1000000L;
    nanosleep(&time, NULL);
#endif
}

static inline uint64_t now_ms(void)
{
#ifdef _WIN32
    return GetTickCount64();
#else
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
#endif
}

/* The next random number after *state, which is not 0. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
