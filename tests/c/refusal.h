/*
 * System calls that the kernel refuses from now on, by a filter of this process's own, and children
 * to put under one. Linux only.
 */
#ifndef REFUSAL_H
#define REFUSAL_H

#include "test.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define REFUSAL_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define REFUSAL_ARCH AUDIT_ARCH_AARCH64
#else
#define REFUSAL_ARCH 0
#endif

/* What a child ends with that cannot be put under a filter. */
enum { NO_FILTERS = 77 };

/* Refuses a system call on all threads, for good: `code` is its errno. With `argument` not
 * negative, only where that argument is `value`. */
static inline void refuse_where(long number, int code, int argument, uint32_t value)
{
    const size_t where =
        offsetof(struct seccomp_data, args) + 8 * (size_t)(argument < 0 ? 0 : argument);
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, REFUSAL_ARCH, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)where),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter;
    filter.len = sizeof program / sizeof program[0];
    filter.filter = program;
    if (argument < 0) {
        /* Whatever the arguments are. */
        program[4].code = BPF_JMP | BPF_JA;
        program[4].k = 1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0) {
        _exit(NO_FILTERS);
    }
}

static inline void refuse(long number, int code)
{
    refuse_where(number, code, -1, 0);
}

/* Calls run(argument) in a child, whose checks count as this process's; one that does not end is
 * ended, and fails. */
static inline void in_child(void (*run)(int argument), int argument)
{
    int outcome = 0;
    pid_t child;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(60);
        run(argument);
        fflush(NULL);
        _exit(test.failures != 0);
    }
    waitpid(child, &outcome, 0);
    if (WIFEXITED(outcome) && WEXITSTATUS(outcome) == NO_FILTERS) {
        skip("the system lets nobody filter system calls");
    } else if (!CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0)) {
        fprintf(stderr, "  %s %d\n", WIFSIGNALED(outcome) ? "signal" : "status",
                WIFSIGNALED(outcome) ? WTERMSIG(outcome) : WEXITSTATUS(outcome));
    }
}

#endif
