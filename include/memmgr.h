/*
 * memmgr: a memory budget for your memory-mapped tables.
 *
 * This file is the whole contract: what does not stand here is not published. It is also the
 * manual, so it is written to be read from top to bottom once.
 *
 * Model. A manager owns one contiguous range of addresses, one budget (an exact count of bytes
 * and its limit) and N dimensions. A dimension is a named place of fixed capacity; its region is
 * the page-aligned address range reserved for it when the manager opens. Loading maps a file over
 * the region; one mapping of one version of a file is a generation. A layer is a named segment of
 * a dimension. A view is read access to a byte range of a generation: while it is held, the
 * generation is pinned, which means that it stays mapped and that writers stay out.
 *
 * Ownership. memmgr_manager_open gives a handle that memmgr_manager_close ends. Every other
 * object is a struct of the caller's that the library fills and keeps no pointer to, except that
 * a log function and its user pointer are kept until they are replaced. Strings given to a call
 * are copied before it returns. `data` pointers are valid from acquire to release.
 *
 * Threads. Every function may be called from any thread at any time, with any handle, unless its
 * comment says otherwise. Acquiring and releasing views takes no lock, allocates nothing and makes
 * no system call, except the first time a thread meets a manager and when it has to wait for a
 * writer. None of it is async-signal-safe. A thread that is cancelled within a call (POSIX,
 * deferred) ends after it, at the next cancellation point of its own: no call is one, and a log
 * function or another callback cannot be cancelled either.
 * A thread that calls the library has a stack of 64 KiB at least: a call needs up to 48 KiB, and on
 * a smaller stack may step over the page that guards its end.
 *
 * Forks. The child of a fork can use the managers of its parent with their views and blocks, and
 * open its own. Views and writes that it inherits stay valid for good: to release one, or end it,
 * is allowed and does nothing, so they count as held ever after. There a dimension is in
 * MEMMGR_MODE_READ that was loaded in MEMMGR_MODE_READ_WRITE, and one that was being written is
 * not loaded. Budgets and exclusion are those of one process.
 *
 * Unloading. Threads that used the library call it when they end, so from the first manager on it
 * stays loaded to the end of the process, as does a plugin that contains it: dlclose or FreeLibrary
 * succeeds, and loading it again finds what there was.
 *
 * Sandboxes. What a filter of system calls refuses is an error of the call that needs it, and at
 * once, unless there is another way. The one call that readers of MEMMGR_GATE_ASYMMETRIC rely on is
 * membarrier: refused from the start, the gate is the other one; refused later, the calling thread
 * visits every processor instead (sched_setaffinity; milliseconds where they are busy). If that is
 * refused too, memmgr_dimension_reload, _unload, _deallocate, memmgr_write_begin, memmgr_pool_trim
 * and memmgr_manager_close with REFUSE or WAIT fail with ALLOCATION, and change nothing; closing
 * with DEFER succeeds, but what nobody can prove to be free stays in memory, and charged, for good.
 * So a program that will refuse both opens its managers after it has, or with
 * MEMMGR_OPEN_GATE_ATOMIC. A filter that ends the process ends it here too.
 *
 * Errors. A function that can fail returns a memmgr_status: MEMMGR_OK is 0, everything else is
 * positive and says what the program can do about it. What happened, in numbers and in one
 * sentence, is written to the memmgr_error that the caller passes last; it may be NULL. Functions
 * that hand out one block return it instead, or NULL: the status is in the error, too. After a
 * failure everything is as it was before the call, and outputs are zero. New statuses may be
 * added: treat an unknown one as a failure. The library never aborts, prints or exits.
 *
 * Structs. A struct of the caller's starts with `struct_size`: set it to sizeof the struct and
 * everything else to zero (the _INIT macros do). Zero means default in every field of an options
 * struct. Fields are only ever appended, and the library writes no more than struct_size bytes.
 * A larger struct of a newer caller is accepted if what this version does not know is zero, but
 * none of more than 64 KiB: struct_size was not set then.
 *
 * Text is UTF-8 and ends with NUL, file names on Windows included. Sizes are in bytes and times
 * in nanoseconds. A timeout is 0 (do not wait), positive, or MEMMGR_FOREVER.
 *
 * Versions. The ABI is compatible within one MEMMGR_VERSION_MAJOR. 64-bit little-endian only.
 */
#ifndef MEMMGR_H
#define MEMMGR_H

#ifndef MEMMGR_CFFI
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef MEMMGR_CFFI
#define MEMMGR_API
#elif defined(_WIN32) && defined(MEMMGR_SHARED)
#define MEMMGR_API __declspec(dllimport)
#else
#define MEMMGR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==== Version =============================================================================== */

#define MEMMGR_VERSION_MAJOR 0
#define MEMMGR_VERSION_MINOR 1
#define MEMMGR_VERSION_PATCH 0

/* The version of the library that is running: major << 16 | minor << 8 | patch. A program built
 * for another MEMMGR_VERSION_MAJOR must not go on.
 * Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API uint32_t memmgr_version(void);

/* ==== Limits and special values ============================================================= */

/* Bytes of a dimension's name, of a layer's name, of a file name in an error and of a message,
 * each with its NUL. A longer dimension or layer name is refused, a longer file name in an error
 * is cut at its front. */
#define MEMMGR_DIMENSION_NAME_SIZE 64
#define MEMMGR_LAYER_NAME_SIZE 256
#define MEMMGR_FILE_NAME_SIZE 4096
#define MEMMGR_MESSAGE_SIZE 1024

/* Axes of a layer at the most (NumPy 1.x has as many). */
#define MEMMGR_RANK_MAX 32

/* Dimensions of one manager, managers open at one time in one process. Each dimension that is loaded
 * takes two or three entries of the process's map besides, of which Linux gives a process 65,530
 * (vm.max_map_count); each of up to 4,096 takes two at once, so that the map shows its region. */
#define MEMMGR_DIMENSIONS_MAX 65536
#define MEMMGR_MANAGERS_MAX 1024

/* No dimension, or no layer, in a field that could name one. */
#define MEMMGR_NONE 0xffffffff

/* A number that the system does not tell. */
#define MEMMGR_UNKNOWN 0x7fffffffffffffff

/* As a timeout: wait until it is done. */
#define MEMMGR_FOREVER -1

/* ==== Status ================================================================================ */

/* What a call came to: MEMMGR_OK or one of MEMMGR_ERR_..., by value below. */
typedef int32_t memmgr_status;

enum {
    MEMMGR_OK = 0,
    /* An argument that no state of the manager would make right; the message names it. */
    MEMMGR_ERR_INVALID_ARGUMENT = 1,
    /* It would pass the budget's limit, or a capacity: requested, used and limit are set. */
    MEMMGR_ERR_LIMIT_EXCEEDED = 2,
    /* The system refused memory or address space, or the barrier between threads that it granted
     * before: requested and system_code are set. */
    MEMMGR_ERR_ALLOCATION = 3,
    /* The dimension is loaded, or the file is mapped in a way that excludes this load, or is to be
     * saved over while it is mapped: then dimension is the one that maps it. */
    MEMMGR_ERR_ALREADY_LOADED = 4,
    /* The dimension holds no file. */
    MEMMGR_ERR_NOT_LOADED = 5,
    /* No dimension of that name or index. */
    MEMMGR_ERR_UNKNOWN_DIMENSION = 6,
    /* No layer of that name or index in what is loaded. */
    MEMMGR_ERR_UNKNOWN_LAYER = 7,
    /* offset + length is not within what is loaded: requested is the offset, used the length,
     * limit the loaded size. */
    MEMMGR_ERR_OUT_OF_BOUNDS = 8,
    /* Views or a writer are in the way, and the caller did not ask to wait: views is set. */
    MEMMGR_ERR_VIEWS_HELD = 9,
    /* The timeout passed first: views is set. */
    MEMMGR_ERR_WAIT_TIMEOUT = 10,
    /* The region is being deallocated, or the manager was closed. */
    MEMMGR_ERR_INVALID_ACCESS = 11,
    /* The system refused an operation on a file: file_name and system_code are set. */
    MEMMGR_ERR_FILE_ACCESS = 12,
    /* The bytes of a file or a manifest are not what its format demands; offset is where. */
    MEMMGR_ERR_FORMAT = 13,
    /* A page of the mapped file could not be read; the dimension needs a reload: offset and
     * system_code are set, and the layer, if it is in one. */
    MEMMGR_ERR_FAULTED = 14,
    /* A block that the pools did not hand out, or that was freed before. */
    MEMMGR_ERR_POOL_CORRUPTION = 15,
    /* The disk, a quota or the process's limit of file sizes has no room: requested, file_name and
     * system_code are set. */
    MEMMGR_ERR_DISK_FULL = 16,
    /* A progress function of the caller's asked for it. */
    MEMMGR_ERR_CANCELLED = 17
};

/* The name of a status without its prefix, in lower case ("limit_exceeded"), or "unknown".
 * Ownership: static. Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API const char *memmgr_status_name(memmgr_status status);

/* ==== Error ================================================================================= */

/* What was being done when it failed, and in log records. */
enum {
    MEMMGR_OPERATION_NONE = 0,
    MEMMGR_OPERATION_OPEN = 1,
    MEMMGR_OPERATION_CLOSE = 2,
    MEMMGR_OPERATION_FIND = 3,
    MEMMGR_OPERATION_LOAD = 4,
    MEMMGR_OPERATION_RELOAD = 5,
    MEMMGR_OPERATION_UNLOAD = 6,
    MEMMGR_OPERATION_DEALLOCATE = 7,
    MEMMGR_OPERATION_ACQUIRE = 8,
    MEMMGR_OPERATION_RELEASE = 9,
    MEMMGR_OPERATION_WRITE = 10,
    MEMMGR_OPERATION_FLUSH = 11,
    MEMMGR_OPERATION_EVICT = 12,
    MEMMGR_OPERATION_STATS = 13,
    MEMMGR_OPERATION_LOG = 14,
    /* The last view of an unloaded or replaced generation was released: it is gone. */
    MEMMGR_OPERATION_RETIRE = 15,
    /* The budget passed a soft threshold, or is about to refuse. */
    MEMMGR_OPERATION_PRESSURE = 16,
    /* A block handed out, resized, or taken back. */
    MEMMGR_OPERATION_ALLOC = 17,
    MEMMGR_OPERATION_RESIZE = 18,
    MEMMGR_OPERATION_FREE = 19,
    /* Free slabs given back to the system. */
    MEMMGR_OPERATION_TRIM = 20,
    /* A slab charged and taken for a pool. */
    MEMMGR_OPERATION_GROW = 21,
    MEMMGR_OPERATION_SAVE = 22,
    MEMMGR_OPERATION_VERIFY = 23,
    MEMMGR_OPERATION_INJECT = 24,
    MEMMGR_OPERATION_WARM = 25,
    MEMMGR_OPERATION_LOCK = 26,
    MEMMGR_OPERATION_UNLOCK = 27,
    MEMMGR_OPERATION_SCAN = 28,
    MEMMGR_OPERATION_INTERRUPT = 29
};

/* The name of an operation without its prefix, in lower case ("load"), or "unknown".
 * Ownership: static. Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API const char *memmgr_operation_name(uint32_t operation);

/* Which limit it is that was reached, in errors, and that a budget's limit comes from, in
 * memmgr_stats. Those of the system are told with the system's own numbers, as far as it tells. */
enum {
    /* Not a matter of a limit, or of none that is known. */
    MEMMGR_LIMIT_NONE = 0,
    /* The manager's own, as given or by default. */
    MEMMGR_LIMIT_BUDGET = 1,
    /* Of the dimension. */
    MEMMGR_LIMIT_CAPACITY = 2,
    /* The machine's memory. */
    MEMMGR_LIMIT_MEMORY = 3,
    /* The control group's: memory.max, memory.limit_in_bytes. */
    MEMMGR_LIMIT_CONTROL_GROUP = 4,
    /* What the system promises at most: the commit limit of Windows, or of a strict Linux. */
    MEMMGR_LIMIT_COMMIT = 5,
    /* RLIMIT_AS. */
    MEMMGR_LIMIT_ADDRESS_SPACE = 6,
    /* RLIMIT_DATA: private writable memory. */
    MEMMGR_LIMIT_DATA = 7,
    /* RLIMIT_MEMLOCK: what is locked, and all that is mapped if mlockall says so. On Windows, the
     * smallest working set. */
    MEMMGR_LIMIT_LOCKED_MEMORY = 8,
    /* vm.max_map_count; in entries, not bytes. */
    MEMMGR_LIMIT_MAP_ENTRIES = 9,
    /* RLIMIT_NOFILE; in descriptors. */
    MEMMGR_LIMIT_DESCRIPTORS = 10,
    /* fs.file-max; in files. */
    MEMMGR_LIMIT_SYSTEM_FILES = 11,
    /* The file system's size; used is what is not free of it. */
    MEMMGR_LIMIT_DISK = 12,
    /* RLIMIT_FSIZE. */
    MEMMGR_LIMIT_FILE_SIZE = 13,
    /* The disk quota of a user, a group or a folder, of which the system does not tell how much. */
    MEMMGR_LIMIT_QUOTA = 14,
    /* What a process can address at all on this processor, which no setting raises. */
    MEMMGR_LIMIT_ADDRESSABLE = 15
};

/* The name of a limit without its prefix, in lower case ("map_entries"), or "unknown".
 * Ownership: static. Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API const char *memmgr_limit_name(uint32_t limit_kind);

/* What happened. Owned by the caller, written only by a call that fails. */
typedef struct memmgr_error {
    uint32_t struct_size;
    memmgr_status status;
    /* MEMMGR_OPERATION_... */
    uint32_t operation;
    /* Index of the dimension, or MEMMGR_NONE. */
    uint32_t dimension;
    /* Index of the layer, or MEMMGR_NONE. */
    uint32_t layer;
    /* MEMMGR_LIMIT_...: what requested, used and limit below are about, if it is not NONE. */
    uint32_t limit_kind;
    /* Views held, and writers (a writer counts as one), that were in the way. */
    uint64_t views;
    /* errno on Linux and macOS, GetLastError on Windows; 0 if the system was not the reason. */
    int64_t system_code;
    /* Bytes asked for, bytes in use at that moment, and the limit they ran into; of some limits
     * not bytes, see MEMMGR_LIMIT_.... A limit of 0 is not known. */
    uint64_t requested;
    uint64_t used;
    uint64_t limit;
    /* Where in the file, for MEMMGR_ERR_FORMAT and MEMMGR_ERR_FAULTED: of the latter the first byte
     * that could not be read. */
    uint64_t offset;
    /* Each "" where there is none. A layer's name with a NUL inside is escaped. */
    char dimension_name[MEMMGR_DIMENSION_NAME_SIZE];
    char layer_name[MEMMGR_LAYER_NAME_SIZE];
    char file_name[MEMMGR_FILE_NAME_SIZE];
    /* One sentence in lower case without a full stop, all of the above that matters in it. It is
     * one line of UTF-8: in names, what is not printable is escaped (\x1b), and of a name that is
     * too long the middle is left out. */
    char message[MEMMGR_MESSAGE_SIZE];
} memmgr_error;

#define MEMMGR_ERROR_INIT { sizeof(memmgr_error), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "", "", "", "" }

/* ==== Capabilities ========================================================================== */

/* How readers and the rare side (writers, unload, reload) agree on who is inside. */
enum {
    /* Atomic additions on both sides: everywhere. */
    MEMMGR_GATE_ATOMIC = 1,
    /* Readers use plain stores, the rare side a process-wide barrier of the system. */
    MEMMGR_GATE_ASYMMETRIC = 2
};

/* What the library does on this machine. */
typedef struct memmgr_capabilities {
    uint32_t struct_size;
    /* MEMMGR_GATE_...: what a manager uses unless MEMMGR_OPEN_GATE_ATOMIC asks for the other. */
    uint32_t gate;
    /* Unit of protection and of residency. */
    uint64_t page_size;
    /* Alignment that the system demands of a mapping's address (64 KiB on Windows). */
    uint64_t granularity;
    /* 1 if a file can be mapped over a reserved range in one step, so that no other thread of the
     * process can take the address meanwhile; 0 on Windows before 10 version 1803. */
    uint32_t atomic_placement;
    /* 1 if system codes are errno values, 2 if they are those of GetLastError. */
    uint32_t system_code_kind;
    /* 1 if MEMMGR_OPEN_FAULT_GUARD is to be had. */
    uint32_t fault_guard;
    /* 1 if MEMMGR_LOAD_HUGE_PAGES may bring something: on a Linux that has huge pages. */
    uint32_t huge_pages;
} memmgr_capabilities;

#define MEMMGR_CAPABILITIES_INIT { sizeof(memmgr_capabilities), 0, 0, 0, 0, 0, 0, 0 }

/* Reports what the library does on this machine; the answer is the same for the whole process.
 * Threads: any. Errors: INVALID_ARGUMENT. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_capabilities_get(memmgr_capabilities *capabilities_out,
                                                 memmgr_error *error);

/* ==== Log =================================================================================== */

/* Levels, with the values that Python's logging has. */
#define MEMMGR_LOG_DEBUG 10
#define MEMMGR_LOG_INFO 20
#define MEMMGR_LOG_WARNING 30
#define MEMMGR_LOG_ERROR 40

/* One event. Every allocation and deallocation is a DEBUG record, every crossing of a soft
 * threshold, every refusal by a limit, and the end of every version of which a page could not
 * be read a WARNING, written before the call returns. Soft thresholds are 80 % and 95 % of what
 * the limit leaves beyond the regions; one that was crossed counts again once the use has fallen
 * 10 points below it. */
typedef struct memmgr_log_record {
    uint32_t struct_size;
    /* MEMMGR_LOG_... */
    int32_t level;
    /* MEMMGR_OPERATION_... */
    uint32_t operation;
    /* Index of the dimension, or MEMMGR_NONE. */
    uint32_t dimension;
    /* Bytes this event is about, bytes the budget holds after it, and the budget's limit; of a
     * refusal, the limit that refused, and what is used of it. */
    uint64_t bytes;
    uint64_t allocated;
    uint64_t limit;
    /* One sentence, valid during the call. */
    const char *message;
    /* The soft threshold that was crossed upwards, as a percentage; 0 for everything else. */
    uint32_t threshold_percent;
    uint32_t reserved;
} memmgr_log_record;

/* Called with no lock held, on the thread whose call caused the record, never while a view is
 * acquired. It may call any function of this library but memmgr_log_set; records it causes itself
 * are dropped. */
typedef void (*memmgr_log_function)(const memmgr_log_record *record, void *user);

/* Sets the process's log function; NULL switches the log off. No record is lost: a thread's next
 * one goes to the new function. When it returns, no thread is inside the old function any more;
 * since it waits for that, it is not to be called with a lock held that the old function may
 * take. With the function and user of the call before it sets the level alone, and waits for no
 * log function.
 * level: records below it are not made.
 * Threads: any. Errors: INVALID_ARGUMENT (called by the log function). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_log_set(int32_t level, memmgr_log_function function, void *user,
                                        memmgr_error *error);

/* Sets the level of the log function that is set; while there is none, nothing happens. It waits
 * for no log function, no record of another level is lost, and the log function may call it too.
 * level: as for memmgr_log_set.
 * Threads: any. Errors: none. Since: 0.2. */
MEMMGR_API memmgr_status memmgr_log_set_level(int32_t level, memmgr_error *error);

/* ==== Interrupt ============================================================================= */

/* Asked whether the call that it interrupts is to end: returns 0 to go on; anything else ends it
 * with CANCELLED, and everything is as before the call. It is asked on the thread of the call, with
 * no lock held: about every 100 ms in every wait, and between the pieces of what takes long
 * (reading a file into memory or bringing it in, locking, flushing, warming, scanning, verifying,
 * saving, reading a header). Blocks are allocated and freed without it. One call of the system's
 * is never interrupted: opening a file, or making it durable, takes as long as its device does.
 * It may call any function of this library but memmgr_interrupt_set. Whatever would wait for the
 * very call that is interrupted fails at once with VIEWS_HELD, in which that call counts as a view;
 * MEMMGR_ON_VIEWS_DEFER never waits. */
typedef int32_t (*memmgr_interrupt_function)(void *user);

/* Sets the process's interrupt function; NULL: nobody is asked. When it returns, no thread is
 * inside the old function any more. A call that was asleep already hears of the first function
 * once something else has woken it up.
 * Threads: any. Errors: INVALID_ARGUMENT (called by the interrupt function), ALLOCATION.
 * Since: 0.2. */
MEMMGR_API memmgr_status memmgr_interrupt_set(memmgr_interrupt_function function, void *user,
                                              memmgr_error *error);

/* ==== Manager =============================================================================== */

/* An open manager. Not an address: a stale or a foreign value is recognised and refused. */
typedef struct memmgr_manager memmgr_manager;

/* A dimension to open. */
typedef struct memmgr_dimension_spec {
    uint32_t struct_size;
    uint32_t reserved;
    /* 1 to 63 bytes of UTF-8, unique in the manager; NULL: D01, D02, ... by position. */
    const char *name;
    /* Bytes, rounded up to the page; 0: the manager's. */
    uint64_t capacity;
} memmgr_dimension_spec;

#define MEMMGR_DIMENSION_SPEC_INIT { sizeof(memmgr_dimension_spec), 0, NULL, 0 }

/* Flags of memmgr_manager_options. */
/* Touch every page of every region at open. Checked first against the memory that the machine
 * and its control group have left. */
#define MEMMGR_OPEN_POPULATE 1
/* Use MEMMGR_GATE_ATOMIC even where the other is to be had. */
#define MEMMGR_OPEN_GATE_ATOMIC 2
/* Remember who holds which view, for memmgr_holders_get. Each view costs a lock and a system call
 * then; and a thread that would wait for itself is told at once. */
#define MEMMGR_OPEN_TRACK_VIEWS 4
/* Fill blocks with 0xa5 when they are handed out and with 0x5a when they are freed. */
#define MEMMGR_OPEN_POISON 8
/* Put each block at the end of pages of its own, behind which there is no access: a write beyond
 * its end is a fault at once. For debugging: every block costs at least two pages of addresses. */
#define MEMMGR_OPEN_GUARD_PAGES 16
/* Outlive pages that cannot be read, because the file became shorter or its device failed: where
 * the process would end by a signal, zeros stand from that page to the end of that version of the
 * file (on Windows, in place of all of it), for reading and for writing. The dimension is
 * MEMMGR_STATE_FAULTED from then on: what was being read ends with zeros, views that are held stay
 * valid, and acquiring, flushing, beginning and ending a write fail with FAULTED until a reload,
 * which takes the same file too, or an unload. A fault in a version that was replaced already is
 * told by the WARNING that its last view causes. A system call that is given such a page fails
 * with EFAULT, and no fault is noticed. Handlers of SIGBUS and SIGSEGV that were installed before
 * get every signal that is not about a mapped file; those installed later do from the next open or
 * load on, until when faults are theirs. The library's own handler stays to the end of the
 * process, as the library does. A load is refused with ALLOCATION once other
 * handlers were put over the library's 64 times. A thread that blocks SIGBUS or SIGSEGV is not
 * guarded (POSIX): the system ends the process at its first fault, and no handler is asked. Leave
 * the two out of the set that a thread blocks. Reading costs nothing more. */
#define MEMMGR_OPEN_FAULT_GUARD 32
/* In place of a limit of the budget's: what the tightest limit of the system leaves to this process
 * now, MEMMGR_LIMIT_MEMORY, CONTROL_GROUP, COMMIT, ADDRESS_SPACE or DATA, less what it uses already
 * itself. limit_kind of memmgr_stats says which it was; if the system tells none, it is the
 * default, and MEMMGR_LIMIT_BUDGET. A limit that is changed later changes nothing. */
#define MEMMGR_OPEN_LIMIT_AUTO 64

typedef struct memmgr_manager_options {
    uint32_t struct_size;
    /* Number of dimensions; 0: 14. */
    uint32_t dimension_count;
    /* dimension_count specs, or NULL: all named by position with the capacity below. */
    const memmgr_dimension_spec *dimensions;
    /* Of each dimension that does not say, rounded up to the page; 0: 20 MiB. */
    uint64_t capacity;
    /* Of the budget; 0: all regions + the largest capacity once more (one reload at a time) +
     * pool_limit. */
    uint64_t limit;
    /* Of the pools, within the budget; 0: 64 MiB; at most 32 GiB. The default limit leaves room for
     * it. */
    uint64_t pool_limit;
    /* How long a reader waits for a writer: 0: one second; MEMMGR_FOREVER; 1 is in effect not
     * at all. */
    int64_t read_timeout_ns;
    /* MEMMGR_OPEN_... */
    uint32_t flags;
    uint32_t reserved;
} memmgr_manager_options;

#define MEMMGR_MANAGER_OPTIONS_INIT { sizeof(memmgr_manager_options), 0, NULL, 0, 0, 0, 0, 0, 0 }

/* What to do about views that are held. */
enum {
    /* Fail with VIEWS_HELD and change nothing. Readers wait during the look, and do not fail. */
    MEMMGR_ON_VIEWS_REFUSE = 0,
    /* Wait for them, refusing new ones with INVALID_ACCESS; on timeout, go back to how it was. */
    MEMMGR_ON_VIEWS_WAIT = 1,
    /* Return at once; the memory goes when the last view is released. */
    MEMMGR_ON_VIEWS_DEFER = 2
};

/* Opens a manager: reserves the address range of all dimensions and charges their capacities to
 * the budget. No page of memory is used until it is touched.
 * options: NULL for all defaults.
 * Ownership: the handle is the caller's, to be closed once.
 * Threads: any. Errors: INVALID_ARGUMENT, LIMIT_EXCEEDED (the regions do not fit the limit, or
 * MEMMGR_OPEN_POPULATE does not fit the machine), ALLOCATION. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_manager_open(const memmgr_manager_options *options,
                                             memmgr_manager **manager_out, memmgr_error *error);

/* Closes a manager. From then on every call with the handle fails with INVALID_ACCESS, except
 * that views of it can be released, a write of it can be ended, and blocks of it can be freed.
 * Live blocks are not in the way of closing. NULL is a no-op.
 * on_views: MEMMGR_ON_VIEWS_...; a writer counts as a view. timeout_ns: with WAIT, for all
 * dimensions together. With DEFER the address range is given back with the last view.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS (closed before), VIEWS_HELD,
 * WAIT_TIMEOUT, ALLOCATION (no barrier, see Sandboxes; not with DEFER). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_manager_close(memmgr_manager *manager, uint32_t on_views,
                                              int64_t timeout_ns, memmgr_error *error);

/* ==== Dimension ============================================================================= */

enum {
    /* Nothing loaded; the region is reserved and charged. */
    MEMMGR_STATE_EMPTY = 0,
    MEMMGR_STATE_LOADED = 1,
    /* A writer has, or waits for, exclusive access. */
    MEMMGR_STATE_WRITING = 2,
    /* Going away: new access is refused with INVALID_ACCESS until it is gone. */
    MEMMGR_STATE_UNLOADING = 3,
    /* Nothing loaded, and the region's memory was given back: nothing charged. */
    MEMMGR_STATE_DEALLOCATED = 4,
    /* Loaded, but a page could not be read: access is refused until a reload. Only with
     * MEMMGR_OPEN_FAULT_GUARD. */
    MEMMGR_STATE_FAULTED = 5
};

enum {
    /* "r": read only, shared with the file. */
    MEMMGR_MODE_READ = 0,
    /* "r+": a writer changes the file. Its holes are allocated when it is loaded, and on XFS blocks
     * that it shares with another file are made its own (cp makes such copies), so that a full disk
     * is an error of the load and not a signal later. A load that fails for want of room gives back
     * what it took for holes. On file systems that write every block anew, such as btrfs, ZFS and
     * APFS, a full disk is a signal of the writer's nonetheless; so it is where the file's blocks
     * were shared after the load. MEMMGR_OPEN_FAULT_GUARD makes it the error FAULTED there. */
    MEMMGR_MODE_READ_WRITE = 1,
    /* "c": copy on write; a writer changes this process's pages only. */
    MEMMGR_MODE_COPY = 2,
    /* "ram": the bytes are read into memory of the region: the only true snapshot. */
    MEMMGR_MODE_RAM = 3
};

enum {
    /* Pages come in as they are touched. */
    MEMMGR_PREFETCH_LAZY = 0,
    /* All pages are in before the load returns. */
    MEMMGR_PREFETCH_POPULATE = 1
};

enum {
    /* Told by the file's first bytes. */
    MEMMGR_FORMAT_AUTO = 0,
    /* Bytes without a header; layers come from the caller or from a manifest, if from anywhere. */
    MEMMGR_FORMAT_RAW = 1,
    /* NumPy's .npy, versions 1 to 3; its one layer is called "data". */
    MEMMGR_FORMAT_NPY = 2,
    /* .safetensors: its tensors are the layers. */
    MEMMGR_FORMAT_SAFETENSORS = 3
};

/* Element types. OPAQUE is an .npy type that is none of the others: a view of it is bytes. */
enum {
    MEMMGR_DTYPE_OPAQUE = 0,
    MEMMGR_DTYPE_BOOL = 1,
    MEMMGR_DTYPE_U8 = 2,
    MEMMGR_DTYPE_I8 = 3,
    MEMMGR_DTYPE_U16 = 4,
    MEMMGR_DTYPE_I16 = 5,
    MEMMGR_DTYPE_F16 = 6,
    MEMMGR_DTYPE_BF16 = 7,
    MEMMGR_DTYPE_U32 = 8,
    MEMMGR_DTYPE_I32 = 9,
    MEMMGR_DTYPE_F32 = 10,
    MEMMGR_DTYPE_U64 = 11,
    MEMMGR_DTYPE_I64 = 12,
    MEMMGR_DTYPE_F64 = 13,
    MEMMGR_DTYPE_C64 = 14,
    MEMMGR_DTYPE_C128 = 15,
    MEMMGR_DTYPE_F8_E4M3 = 16,
    MEMMGR_DTYPE_F8_E5M2 = 17,
    MEMMGR_DTYPE_F8_E8M0 = 18,
    MEMMGR_DTYPE_F8_E4M3FNUZ = 19,
    MEMMGR_DTYPE_F8_E5M2FNUZ = 20,
    /* Below a byte: packed, so a view of it is bytes. */
    MEMMGR_DTYPE_F6_E2M3 = 21,
    MEMMGR_DTYPE_F6_E3M2 = 22,
    MEMMGR_DTYPE_F4 = 23
};

/* The name of an element type as safetensors writes it ("F32"), "OPAQUE", or "unknown".
 * Ownership: static. Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API const char *memmgr_dtype_name(uint32_t dtype);

/* Bits of one element, 0 for OPAQUE and for an unknown type.
 * Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API uint32_t memmgr_dtype_bits(uint32_t dtype);

/* Order of a layer's elements. */
enum {
    /* The last axis is the densest. */
    MEMMGR_ORDER_C = 0,
    /* The first axis is the densest (an .npy file may say so). */
    MEMMGR_ORDER_FORTRAN = 1
};

/* A named segment of a dimension. */
typedef struct memmgr_layer {
    uint32_t struct_size;
    /* Position among the dimension's layers, which are in the order of their offsets. */
    uint32_t index;
    /* MEMMGR_DTYPE_... */
    uint32_t dtype;
    /* MEMMGR_ORDER_... */
    uint32_t order;
    /* Number of axes; 0 is a scalar. */
    uint32_t rank;
    /* The largest power of two, at most the page size, that divides the layer's address. */
    uint32_t alignment;
    /* In bytes, from the start of the file. */
    uint64_t offset;
    uint64_t length;
    uint64_t shape[MEMMGR_RANK_MAX];
    char name[MEMMGR_LAYER_NAME_SIZE];
} memmgr_layer;

#define MEMMGR_LAYER_INIT { sizeof(memmgr_layer), 0, 0, 0, 0, 0, 0, 0, { 0 }, "" }

/* Flags of memmgr_load_options. */
/* Ask for huge pages for what has to be read from the device: then a touch brings 2 MiB in, a page
 * table of them is 512 times smaller, and as long as the system keeps them, so is that of every
 * later load of the file. A hint, and only for a file of which no page is in memory yet, in a
 * dimension of at least 2 MiB. A file that memmgr_array_save or memmgr_dimension_save wrote has
 * huge pages without asking, until the system has given them up. What came of it is `huge` of
 * memmgr_residency. */
#define MEMMGR_LOAD_HUGE_PAGES 1

typedef struct memmgr_load_options {
    uint32_t struct_size;
    /* MEMMGR_MODE_..., MEMMGR_PREFETCH_..., MEMMGR_FORMAT_... */
    uint32_t mode;
    uint32_t prefetch;
    uint32_t format;
    /* For a raw file, at most one of the two. A manifest is a JSON file in the shape of the
     * header of safetensors, its offsets counted from the start of the raw file. Of each layer
     * here name, offset, dtype, order and shape are read; length is computed, and may be 0 or
     * right, except that an OPAQUE layer gives it. Layers must not overlap. */
    const char *manifest;
    const memmgr_layer *layers;
    size_t layer_count;
    /* MEMMGR_LOAD_... */
    uint32_t flags;
    uint32_t reserved;
} memmgr_load_options;

#define MEMMGR_LOAD_OPTIONS_INIT { sizeof(memmgr_load_options), 0, 0, 0, NULL, NULL, 0, 0, 0 }

/* Finds a dimension by its name.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_find(memmgr_manager *manager, const char *name,
                                               uint32_t *dimension_out, memmgr_error *error);

/* Loads a file into a dimension that holds none. The file's descriptor is closed again before it
 * returns. The file must be a regular one of 1 byte to the dimension's capacity. One that is
 * mapped by this process already is refused if either of the two is MEMMGR_MODE_READ_WRITE.
 * On POSIX systems that close drops the record locks (fcntl, F_SETLK) that this process holds on
 * the file, as every close of it does; so do a reload, memmgr_dimension_would_fit and
 * memmgr_dimension_verify. Locks of an open file description (F_OFD_SETLK, flock) stay.
 * options: NULL for all defaults.
 * Threads: any; loads of different dimensions go on in parallel.
 * Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, ALREADY_LOADED, LIMIT_EXCEEDED
 * (the file is larger than the capacity, or the dimension was deallocated or still has views of
 * an unloaded file, and its charge does not fit the budget), VIEWS_HELD (views of two unloaded
 * files are held), ALLOCATION, FILE_ACCESS, FORMAT, FAULTED (the file became shorter while its
 * pages were brought in), DISK_FULL (no room for the holes of a file in MEMMGR_MODE_READ_WRITE).
 * Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_load(memmgr_manager *manager, uint32_t dimension,
                                               const char *path,
                                               const memmgr_load_options *options,
                                               memmgr_error *error);

/* Loads a new version into a dimension that is loaded, without ever refusing a reader: new views
 * are of the new version from one moment on, those held stay what they are, and the old version
 * goes with its last view. Costs the dimension's capacity once more while both live. The same
 * file, unchanged in place, is refused unless mode is MEMMGR_MODE_RAM: a mapping shows a rewrite
 * in place anyway. A dimension that is MEMMGR_STATE_FAULTED takes it: it may be whole again.
 * Threads: any. Errors: those of memmgr_dimension_load except ALREADY_LOADED for the dimension
 * itself, and NOT_LOADED. A writer is waited for, for the manager's read timeout: WAIT_TIMEOUT.
 * Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_reload(memmgr_manager *manager, uint32_t dimension,
                                                 const char *path,
                                                 const memmgr_load_options *options,
                                                 memmgr_error *error);

/* Says whether a load, or a reload if a file is loaded, would fit: into the capacity, the budget,
 * memory, the process's map and, for MEMMGR_MODE_READ_WRITE, the disk, as far as each can be known
 * before. Promises nothing: it is true of the moment. Changes nothing, except that the pools give
 * free slabs back before the budget is said to be full, as they do for the load. It does not read
 * the file's bytes.
 * path: the file, or NULL. size: without a path, the bytes of a file that there need not be; 0 with
 * one. mode: MEMMGR_MODE_....
 * Threads: any. Errors: those that the load would fail with for want of room, their limit_kind set:
 * LIMIT_EXCEEDED, ALLOCATION, FILE_ACCESS, DISK_FULL; and INVALID_ARGUMENT, INVALID_ACCESS,
 * UNKNOWN_DIMENSION, VIEWS_HELD (both slots are in use), FORMAT (the file is empty). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_would_fit(memmgr_manager *manager, uint32_t dimension,
                                                    const char *path, uint64_t size,
                                                    uint32_t mode, memmgr_error *error);

/* Takes the file out of a dimension; the region stays reserved and charged.
 * on_views: MEMMGR_ON_VIEWS_...; timeout_ns: with WAIT.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED,
 * VIEWS_HELD, WAIT_TIMEOUT, ALLOCATION (no barrier, see Sandboxes). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_unload(memmgr_manager *manager, uint32_t dimension,
                                                 uint32_t on_views, int64_t timeout_ns,
                                                 memmgr_error *error);

/* Takes the file out of a dimension, if one is in, and uncharges the region. A later load charges
 * it again. Deallocating what is deallocated changes nothing and succeeds.
 * Threads: any. Errors: those of memmgr_dimension_unload except NOT_LOADED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_deallocate(memmgr_manager *manager, uint32_t dimension,
                                                     uint32_t on_views, int64_t timeout_ns,
                                                     memmgr_error *error);

/* Writes what writers changed to the disk, and waits for it. Only MEMMGR_MODE_READ_WRITE has
 * anything to write; for the others it succeeds at once.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED,
 * FILE_ACCESS, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_flush(memmgr_manager *manager, uint32_t dimension,
                                                memmgr_error *error);

/* Drops the dimension's pages from resident memory without disturbing any view: they come back
 * when touched, from the system's cache of the file or else from the device. Pages that have no
 * file to come back from are swapped out, or stay; those that are locked stay. A hint: what the
 * system gives is in memmgr_residency_get.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED, FAULTED.
 * Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_evict(memmgr_manager *manager, uint32_t dimension,
                                                memmgr_error *error);

/* ==== Layer ================================================================================= */

/* Describes a layer, by its name or by its index. What it says is true of the generation that is
 * loaded now; memmgr_layer_acquire describes and acquires in one step. Writers change no layer, and
 * are not waited for.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED,
 * UNKNOWN_LAYER, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_layer_find(memmgr_manager *manager, uint32_t dimension,
                                           const char *name, memmgr_layer *layer_out,
                                           memmgr_error *error);
MEMMGR_API memmgr_status memmgr_layer_at(memmgr_manager *manager, uint32_t dimension,
                                         uint32_t index, memmgr_layer *layer_out,
                                         memmgr_error *error);

/* ==== View ================================================================================== */

/* Read access to bytes of a generation. Filled by acquire, emptied by release. A view may be
 * released on another thread than it was acquired on. Releasing a byte copy of a view, once the
 * view itself was released, is undefined. */
typedef struct memmgr_view {
    uint32_t struct_size;
    uint32_t dimension;
    const void *data;
    size_t length;
    /* In bytes, from the start of the file. */
    uint64_t offset;
    /* Of the version it shows: every version loaded into this dimension has a larger number than
     * those before it. */
    uint64_t generation;
    /* The library's own. */
    uint64_t token[2];
} memmgr_view;

#define MEMMGR_VIEW_INIT { sizeof(memmgr_view), 0, NULL, 0, 0, 0, { 0, 0 } }

/* Acquires length bytes at offset. Waits for a writer for the manager's read timeout at the most;
 * a thread that holds a view which that writer waits for gets VIEWS_HELD at once if the manager was
 * opened with MEMMGR_OPEN_TRACK_VIEWS. A length of 0 is allowed up to the end of the file.
 * Ownership: the view is held until memmgr_view_release.
 * Threads: any; no lock, no allocation, no system call.
 * Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED, OUT_OF_BOUNDS,
 * VIEWS_HELD, WAIT_TIMEOUT, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_view_acquire(memmgr_manager *manager, uint32_t dimension,
                                             uint64_t offset, uint64_t length,
                                             memmgr_view *view_out, memmgr_error *error);

/* The same without ever waiting, for threads that must not sleep, or that hold what a writer may
 * need: a writer in the way is VIEWS_HELD at once. A refusal with NULL as error costs little.
 * Ownership, threads: as memmgr_view_acquire. Errors: as well, except WAIT_TIMEOUT. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_view_try_acquire(memmgr_manager *manager, uint32_t dimension,
                                                 uint64_t offset, uint64_t length,
                                                 memmgr_view *view_out, memmgr_error *error);

/* Acquires a layer, all of it. layer_out: NULL if its description is not wanted.
 * Threads, ownership: as memmgr_view_acquire. Errors: as well, and UNKNOWN_LAYER. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_layer_acquire(memmgr_manager *manager, uint32_t dimension,
                                              const char *name, memmgr_layer *layer_out,
                                              memmgr_view *view_out, memmgr_error *error);

/* A view that is held, of a manager opened with MEMMGR_OPEN_TRACK_VIEWS. */
typedef struct memmgr_holder {
    uint32_t struct_size;
    uint32_t dimension;
    /* Index of the layer, or MEMMGR_NONE if a range was acquired. */
    uint32_t layer;
    /* The upper half of token[1] in its memmgr_view: tells views apart while they are held. */
    uint32_t ticket;
    uint64_t generation;
    uint64_t offset;
    uint64_t length;
    /* The system's number of the thread that acquired it, and how long ago. */
    uint64_t thread;
    uint64_t age_ns;
} memmgr_holder;

#define MEMMGR_HOLDER_INIT { sizeof(memmgr_holder), 0, 0, 0, 0, 0, 0, 0, 0 }

/* Lists who holds views of a dimension; MEMMGR_NONE: of all. Nobody, if the manager does not track.
 * holders: capacity structs that the library fills, each with its struct_size set; NULL with a
 * capacity of 0 to learn the count. count_out: how many views are held, of which no more than
 * capacity are listed.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_holders_get(memmgr_manager *manager, uint32_t dimension,
                                            memmgr_holder *holders, size_t capacity,
                                            size_t *count_out, memmgr_error *error);

/* Releases a view. Its pointer is not to be used any more. Works after the manager was closed.
 * Threads: any. Errors: INVALID_ARGUMENT (not held, or another manager's). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_view_release(memmgr_manager *manager, memmgr_view *view,
                                             memmgr_error *error);

/* ==== Write ================================================================================= */

/* Exclusive access to all of a loaded dimension. */
typedef struct memmgr_write {
    uint32_t struct_size;
    uint32_t dimension;
    void *data;
    size_t length;
    uint64_t generation;
    /* The library's own. */
    uint64_t token[2];
} memmgr_write;

#define MEMMGR_WRITE_INIT { sizeof(memmgr_write), 0, NULL, 0, 0, { 0, 0 } }

/* Flags of memmgr_write_begin. */
/* Any thread may end the write, not only the one that began it. */
#define MEMMGR_WRITE_ANY_THREAD 1

/* Begins to write: new readers of this dimension wait, and it returns when the last view of it is
 * released. Readers of other dimensions notice nothing.
 * Ownership: access is held until memmgr_write_end.
 * Threads: any; one writer of a dimension at a time, others wait within their timeout. A thread
 * that holds a view of the dimension itself waits for itself: WAIT_TIMEOUT, or VIEWS_HELD at once
 * with MEMMGR_OPEN_TRACK_VIEWS.
 * Errors: INVALID_ARGUMENT (also for a dimension loaded in MEMMGR_MODE_READ), INVALID_ACCESS,
 * UNKNOWN_DIMENSION, NOT_LOADED, VIEWS_HELD, WAIT_TIMEOUT, FAULTED, ALLOCATION (no barrier, see
 * Sandboxes). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_write_begin(memmgr_manager *manager, uint32_t dimension,
                                            uint32_t flags, int64_t timeout_ns,
                                            memmgr_write *write_out, memmgr_error *error);

/* Ends a write: readers go on. Its pointer is not to be used any more.
 * Threads: the one that began it, unless it was begun with MEMMGR_WRITE_ANY_THREAD.
 * Errors: INVALID_ARGUMENT (not begun, or by another thread), FAULTED (it has ended; what was
 * written behind the fault is lost). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_write_end(memmgr_manager *manager, memmgr_write *write,
                                          memmgr_error *error);

/* ==== Pool ================================================================================== */

/* Working memory inside the same budget: blocks of any size, from pools by size. A pool grows by
 * slabs, which are charged when they are taken and stay charged while any of their memory is kept;
 * free slabs are kept for the next request until memmgr_pool_trim, or until a charge would be
 * refused otherwise. Blocks that are live when the manager is closed stay valid, keep what they
 * need of it, and can be freed as before. */

/* Hands out a block of at least size bytes, aligned to 16, with any content. A size of 0 is 1. The
 * room of a block is at most 15 bytes or an eighth of it larger than what was asked for (beyond
 * 64 KiB, less than a page, where that is more).
 * Returns the block; or NULL, and then why is in error, whose status is set: alone in this header,
 * these four functions return no status. It would take a store and a load of every block to hand
 * it out by an argument, and that is felt.
 * Ownership: the block is the caller's until memmgr_block_free.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS (the manager was closed), LIMIT_EXCEEDED
 * (of the pools or of the budget: limit tells which), ALLOCATION. Since: 0.1. */
MEMMGR_API void *memmgr_block_alloc(memmgr_manager *manager, size_t size, memmgr_error *error);

/* The same, aligned to a power of two of at most the page size.
 * Threads, errors: as memmgr_block_alloc. Since: 0.1. */
MEMMGR_API void *memmgr_block_alloc_aligned(memmgr_manager *manager, size_t size,
                                            size_t alignment, memmgr_error *error);

/* The same, of zeros. Pages that the system has just given are zeros, and are not touched.
 * Threads, errors: as memmgr_block_alloc. Since: 0.1. */
MEMMGR_API void *memmgr_block_alloc_zeroed(memmgr_manager *manager, size_t size,
                                           size_t alignment, memmgr_error *error);

/* Hands out count blocks of the same size, or none.
 * blocks_out: room for count pointers. Threads, errors: as memmgr_block_alloc. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_block_alloc_batch(memmgr_manager *manager, size_t size,
                                                  size_t count, void **blocks_out,
                                                  memmgr_error *error);

/* Makes a block larger or smaller, moving it if it must: the first bytes stay what they were. If it
 * fails the block is as it was. NULL as block hands out a new one. An alignment beyond 16 is not
 * kept. Returns the block; or NULL, and then why is in error.
 * Threads: any, one at a time for a block. Errors: those of memmgr_block_alloc, and
 * POOL_CORRUPTION. Since: 0.1. */
MEMMGR_API void *memmgr_block_resize(memmgr_manager *manager, void *block, size_t size,
                                     memmgr_error *error);

/* Takes a block back, on any thread. NULL is a no-op. Works after the manager was closed, until
 * the last block is freed.
 * A block that was freed before is reported, on whatever thread. Of two threads that free a block at
 * the same moment, at least one succeeds; the other one succeeds too, or gets POOL_CORRUPTION.
 * Either way the block is free once and handed out once. Where both succeed, it is counted later:
 * see double_frees. Nothing can report a block that is freed again after it was handed out anew.
 * Threads: any. Errors: INVALID_ARGUMENT, POOL_CORRUPTION (it is no block of this manager's, not
 * the start of one, or was freed before; nothing changed). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_block_free(memmgr_manager *manager, void *block,
                                           memmgr_error *error);

/* Takes count blocks back; NULLs among them are skipped. If one is none of this manager's, those
 * before it are freed, those after it are not, and error.offset is its index.
 * Threads, errors: as memmgr_block_free. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_block_free_batch(memmgr_manager *manager, void *const *blocks,
                                                 size_t count, memmgr_error *error);

/* Bytes that a block has room for: at least what was asked for.
 * Threads: any. Errors: as memmgr_block_free. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_block_size(memmgr_manager *manager, const void *block,
                                           size_t *size_out, memmgr_error *error);

/* Gives every slab that holds no live block back to the system, and its charge to the budget; what
 * other threads keep at hand is included. bytes_out: how many; may be NULL.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, ALLOCATION (no barrier, see Sandboxes).
 * Since: 0.1. */
MEMMGR_API memmgr_status memmgr_pool_trim(memmgr_manager *manager, uint64_t *bytes_out,
                                          memmgr_error *error);

/* All pools together. Exact while no thread allocates or frees. */
typedef struct memmgr_pool_stats {
    uint32_t struct_size;
    /* Pools: the indices of memmgr_pool_class_get are below it. */
    uint32_t class_count;
    /* Bytes charged now, the most there ever were, and the limit. */
    uint64_t allocated;
    uint64_t peak;
    uint64_t limit;
    /* Live blocks and their room; of these, blocks beyond the largest class. */
    uint64_t blocks;
    uint64_t bytes;
    uint64_t large_blocks;
    uint64_t large_bytes;
    /* Charged bytes of slabs that no class uses. */
    uint64_t free_bytes;
    /* Refusals by the limit of the pools or by the budget. */
    uint64_t refusals;
    /* Blocks that two threads freed at the same moment, with success for both. Counted when the
     * pools come across the second of the two, at the latest by memmgr_pool_trim; it is never handed
     * out. Each is in an ERROR record of the log. */
    uint64_t double_frees;
} memmgr_pool_stats;

#define MEMMGR_POOL_STATS_INIT { sizeof(memmgr_pool_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_pool_stats_get(memmgr_manager *manager,
                                               memmgr_pool_stats *stats_out,
                                               memmgr_error *error);

/* One pool. */
typedef struct memmgr_pool_class {
    uint32_t struct_size;
    uint32_t index;
    /* Bytes of a block, and of a slab. */
    uint64_t block_size;
    uint64_t slab_size;
    uint64_t slabs;
    /* Blocks live, and blocks free in the slabs. */
    uint64_t blocks;
    uint64_t free_blocks;
    /* Requests that a thread had a block at hand for, and that had to ask the pool. */
    uint64_t hits;
    uint64_t misses;
} memmgr_pool_class;

#define MEMMGR_POOL_CLASS_INIT { sizeof(memmgr_pool_class), 0, 0, 0, 0, 0, 0, 0, 0 }

/* Threads: any. Errors: INVALID_ARGUMENT (no such index), INVALID_ACCESS. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_pool_class_get(memmgr_manager *manager, uint32_t index,
                                               memmgr_pool_class *class_out, memmgr_error *error);

/* ==== Stats ================================================================================= */

/* The budget, and what the manager did since it opened. Reading it makes no system call. */
typedef struct memmgr_stats {
    uint32_t struct_size;
    uint32_t dimension_count;
    /* Of dimensions: how many are loaded. */
    uint32_t loaded_count;
    /* MEMMGR_GATE_... of this manager. */
    uint32_t gate;
    /* The budget: bytes charged now, the most there ever were, and the limit. */
    uint64_t allocated;
    uint64_t peak;
    uint64_t limit;
    uint64_t pool_limit;
    /* Bytes of address space reserved. */
    uint64_t reserved;
    /* Bytes of all generations that are mapped, replaced ones with views included. */
    uint64_t mapped;
    /* Views held now. */
    uint64_t views;
    /* Calls that succeeded, and charges that the budget refused. */
    uint64_t loads;
    uint64_t reloads;
    uint64_t unloads;
    uint64_t refusals;
    /* MEMMGR_LIMIT_...: where the limit comes from. */
    uint32_t limit_kind;
    uint32_t unused;
} memmgr_stats;

#define MEMMGR_STATS_INIT { sizeof(memmgr_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_stats_get(memmgr_manager *manager, memmgr_stats *stats_out,
                                          memmgr_error *error);

/* Sets the budget's peak to what is charged now.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_stats_reset_peak(memmgr_manager *manager, memmgr_error *error);

typedef struct memmgr_dimension_stats {
    uint32_t struct_size;
    uint32_t dimension;
    /* MEMMGR_STATE_...; the rest is 0 or "" where the state has no such thing. */
    uint32_t state;
    uint32_t mode;
    uint32_t prefetch;
    uint32_t format;
    uint32_t layer_count;
    /* MEMMGR_LOAD_... */
    uint32_t load_flags;
    /* Of the region: page-aligned address, bytes of capacity, bytes charged for this dimension. */
    uint64_t address;
    uint64_t capacity;
    uint64_t charged;
    /* Of the generation that is loaded: its number and address, the file's size and identity. */
    uint64_t generation;
    uint64_t generation_address;
    uint64_t file_size;
    uint64_t file_device;
    uint64_t file_inode;
    int64_t file_mtime_ns;
    /* Views held of it, and of generations before it that wait for their last view. */
    uint64_t views;
    uint64_t retiring_views;
    char name[MEMMGR_DIMENSION_NAME_SIZE];
    /* From the root on, also if it was given relative to the current folder, which may change. */
    char file_name[MEMMGR_FILE_NAME_SIZE];
} memmgr_dimension_stats;

#define MEMMGR_DIMENSION_STATS_INIT \
    { sizeof(memmgr_dimension_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, "", "" }

/* Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_stats_get(memmgr_manager *manager, uint32_t dimension,
                                                    memmgr_dimension_stats *stats_out,
                                                    memmgr_error *error);

/* The four numbers that "how much memory is it?" can mean, and two about how it is there. */
typedef struct memmgr_memory {
    uint32_t struct_size;
    uint32_t dimension;
    /* Bytes of address space. */
    uint64_t reserved;
    /* Bytes of it that a file or memory stands behind, to the byte: resident pages can be more. */
    uint64_t mapped;
    /* Bytes of pages of it that this process has in memory now. This and the next two are
     * MEMMGR_UNKNOWN where the system does not tell: on Linux without /proc, or of a process that is
     * not dumpable. */
    uint64_t resident;
    /* Bytes of pages of it that only this process has and that have no file to go back to. */
    uint64_t private_dirty;
    /* Bytes of resident ones that are mapped as huge pages; 0 also where the system does not tell:
     * on Linux before 6.7, macOS and Windows. */
    uint64_t huge;
    /* Bytes that memmgr_dimension_lock keeps in memory. */
    uint64_t locked;
} memmgr_memory;

#define MEMMGR_MEMORY_INIT { sizeof(memmgr_memory), 0, 0, 0, 0, 0, 0, 0 }

/* Asks the system how much of a dimension is in memory; MEMMGR_NONE: of all together.
 * Threads: any. Cost: a walk through what is mapped. Errors: INVALID_ARGUMENT, INVALID_ACCESS,
 * UNKNOWN_DIMENSION. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_memory_get(memmgr_manager *manager, uint32_t dimension,
                                           memmgr_memory *memory_out, memmgr_error *error);

/* Writes the manager's whole state as one JSON object, the same in every language: budget,
 * memory, and per dimension state, file, views and layers. Of a name that is not UTF-8, the bytes
 * that are not are escaped (\xff).
 * buffer: NULL with a capacity of 0 to learn the length. length_out: bytes without the NUL, also
 * if the buffer is too small, which is INVALID_ARGUMENT; what a small buffer holds is no JSON.
 * NULL if the length is not wanted. What the system does not tell is null.
 * Threads: any; each dimension is described as it was at one moment.
 * Errors: INVALID_ARGUMENT, INVALID_ACCESS. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dump_json(memmgr_manager *manager, char *buffer, size_t capacity,
                                          size_t *length_out, memmgr_error *error);

/* ==== Save ================================================================================== */

/* Told between the chunks of a long operation how many bytes of how many are done, first 0 of all.
 * On the thread of the call, which may hold what is loaded as a view does: it may call anything, and
 * what would wait for that view fails at once with VIEWS_HELD. Returns 0 to go on; anything else
 * ends the call with CANCELLED, except that memmgr_dimension_warm then succeeds with what it has
 * done. */
typedef int32_t (*memmgr_progress_function)(uint64_t done, uint64_t total, void *user);

/* Flags of memmgr_save_options. */
/* Write a checksum of each layer beside it, for memmgr_dimension_verify: XXH64 with seed 0, as
 * 16 hexadecimal digits under "xxh64:" and the layer's name, in the __metadata__ of safetensors or
 * of the manifest. It tells decay, not forgery. */
#define MEMMGR_SAVE_CHECKSUMS 1

typedef struct memmgr_save_options {
    uint32_t struct_size;
    /* MEMMGR_FORMAT_.... AUTO: arrays by how the name ends, .npy, .safetensors, or else raw; a
     * dimension in the format that it was loaded in, which is the only one it can be saved in. */
    uint32_t format;
    /* MEMMGR_SAVE_... */
    uint32_t flags;
    uint32_t reserved;
    /* A JSON file to be written, for formats that cannot describe their layers (raw) or have no
     * room for checksums (raw, npy); a raw file is loaded with it. It is a file of its own, which
     * gets its name after the data: should just that fail, file_name is the manifest's. That its
     * name is another spelling of the file's is an error before anything is written, or, where only
     * the folder knows (it takes A for a) and had no such file, when the file is in place. */
    const char *manifest;
    /* NULL: nobody is told. */
    memmgr_progress_function progress;
    void *user;
} memmgr_save_options;

#define MEMMGR_SAVE_OPTIONS_INIT { sizeof(memmgr_save_options), 0, 0, 0, NULL, NULL, NULL }

/* An array in memory, to be saved as a layer. */
typedef struct memmgr_array {
    uint32_t struct_size;
    /* MEMMGR_DTYPE_..., MEMMGR_ORDER_..., number of axes. */
    uint32_t dtype;
    uint32_t order;
    uint32_t rank;
    /* 1 to 255 bytes of UTF-8; "data" in an .npy file. */
    const char *name;
    /* Without gaps; NULL if it has no bytes. */
    const void *data;
    /* In bytes: computed, and may be 0 or right, except that an OPAQUE array gives it. */
    uint64_t length;
    uint64_t shape[MEMMGR_RANK_MAX];
} memmgr_array;

#define MEMMGR_ARRAY_INIT { sizeof(memmgr_array), 0, 0, 0, NULL, NULL, 0, { 0 } }

/* Saves arrays as a file, all of it or nothing: under a name of its own in the same folder
 * (.memmgr-*.tmp, which only a killed process leaves behind), with its room on the disk taken first,
 * brought to the disk, and renamed over what has the name. Whoever has the old file open keeps it.
 * A hard link to the old one stays the old one's. A name that is a symbolic link is refused, and so
 * is a file that this process maps. On Windows the new file has the permissions of its folder. On
 * Linux and macOS it has those of the old one, if there was one: mode, owner and group as far as
 * this user may give it away, access control list, and the attributes of users (Linux: "user.*").
 * Where group or list cannot be kept, rights shrink.
 * A file that this user may not write to is refused, though its folder would let it be replaced; so
 * is one that nobody may write to (its mode has no w, or on Windows its attribute is read-only), to
 * root as well, and one that its folder (mode +t) keeps for another user.
 * A manifest gets its name right after the file, before either folder is waited for; its name must
 * not lead to the file. If only the last step fails, which makes the folder durable, both are in
 * place nonetheless. Where this user may not read the folder (mode 1733), that step is left out:
 * the bytes are on the disk, the name is once the system gets to it, which on most file systems is
 * when the file itself was brought to the disk after its renaming, as is done then. On Windows there
 * is no such step.
 * Layers begin at multiples of 64 in a raw file, and in an .npy file. In safetensors, which has no
 * gaps, those do whose lengths are multiples of 64, and the others at multiples of their elements.
 * arrays: count structs of one size. options: NULL for all defaults.
 * Threads: any. Errors: INVALID_ARGUMENT (also: the format cannot hold it), ALREADY_LOADED (the file
 * is mapped: dimension says where), FILE_ACCESS, DISK_FULL, ALLOCATION, CANCELLED, FAULTED (the
 * arrays are themselves mapped from a file that was cut). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_array_save(const char *path, const memmgr_array *arrays,
                                           size_t count, const memmgr_save_options *options,
                                           memmgr_error *error);

/* Saves what a dimension shows now, as memmgr_array_save does, in the format it was loaded in. It is
 * held as by a view meanwhile: writers wait, readers and reloads do not. The header of safetensors
 * is written anew, with the notes of the old one but without its checksums; other bytes are copied.
 * Threads: any. Errors: those of memmgr_array_save, and INVALID_ACCESS, UNKNOWN_DIMENSION,
 * NOT_LOADED, VIEWS_HELD, WAIT_TIMEOUT (as memmgr_view_acquire), FAULTED (a page of it cannot be
 * read; layer and offset say where). Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_save(memmgr_manager *manager, uint32_t dimension,
                                               const char *path,
                                               const memmgr_save_options *options,
                                               memmgr_error *error);

/* ==== Verify ================================================================================ */

/* What has become of a file since it was loaded, or last flushed by memmgr_dimension_flush. */
/* The same file, with more bytes or fewer. */
#define MEMMGR_CHANGE_GROWN 1
#define MEMMGR_CHANGE_SHRUNK 2
/* The same file and size, written to at another time. Not told between a write of this library's
 * and the flush after it, since that moves the time as well. */
#define MEMMGR_CHANGE_REWRITTEN 4
/* Another file has its name. What is loaded is still the old one. */
#define MEMMGR_CHANGE_REPLACED 8
/* Nothing has its name. What is loaded is still there. */
#define MEMMGR_CHANGE_GONE 16
/* The bytes of a layer are not those that its checksum was made of. */
#define MEMMGR_CHANGE_CORRUPT 32

/* Flags of memmgr_verify_options. */
/* Read the whole file and compare its layers with their checksums, if it has any. */
#define MEMMGR_VERIFY_CHECKSUMS 1

typedef struct memmgr_verify_options {
    uint32_t struct_size;
    /* MEMMGR_VERIFY_... */
    uint32_t flags;
    /* Where the checksums are; NULL: in the file's header, or in the manifest it was loaded with. */
    const char *manifest;
    /* NULL: nobody is told. */
    memmgr_progress_function progress;
    void *user;
    /* Filled with the indices of corrupt layers, as many as there is room for. */
    uint32_t *corrupt_layers;
    size_t corrupt_capacity;
} memmgr_verify_options;

#define MEMMGR_VERIFY_OPTIONS_INIT { sizeof(memmgr_verify_options), 0, NULL, NULL, NULL, NULL, 0 }

typedef struct memmgr_verification {
    uint32_t struct_size;
    /* MEMMGR_CHANGE_...; 0: unchanged. */
    uint32_t changes;
    /* The version that was verified. */
    uint64_t generation;
    /* At the load, or at the last flush. */
    uint64_t old_device;
    uint64_t old_inode;
    uint64_t old_size;
    int64_t old_mtime_ns;
    /* Now; 0 if it is gone. */
    uint64_t new_device;
    uint64_t new_inode;
    uint64_t new_size;
    int64_t new_mtime_ns;
    /* Layers that were compared with their checksums; that were not, for want of one, or because
     * the file is another one or has another size; and of the first, those that are corrupt. */
    uint32_t checked_count;
    uint32_t unchecked_count;
    uint32_t corrupt_count;
    uint32_t reserved;
} memmgr_verification;

#define MEMMGR_VERIFICATION_INIT \
    { sizeof(memmgr_verification), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Tells what has become of the file of a dimension; that something has is no error. A relative name
 * is one in the folder that was current at the load. With checksums the file is read in chunks, never the
 * mapping, and held as by a view meanwhile, so that writers wait.
 * options: NULL for all defaults.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED,
 * FILE_ACCESS; with checksums also ALLOCATION, FORMAT, CANCELLED, VIEWS_HELD, WAIT_TIMEOUT,
 * FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_verify(memmgr_manager *manager, uint32_t dimension,
                                                 const memmgr_verify_options *options,
                                                 memmgr_verification *verification_out,
                                                 memmgr_error *error);

/* ==== Failure =============================================================================== */

/* System calls that can be refused, by what they are for: what a program can make fail, to see what
 * it does then. Those that a system lacks are never made there. */
enum {
    /* The addresses of all regions; their division into slots; a file over a slot; memory in a slot
     * (MEMMGR_MODE_RAM, MEMMGR_OPEN_POPULATE); a slot emptied. Refused the last, a call succeeds
     * nonetheless: what could not be unmapped stays charged until a later call can. */
    MEMMGR_CALL_RESERVE = 1,
    MEMMGR_CALL_CARVE = 2,
    MEMMGR_CALL_MAP = 3,
    MEMMGR_CALL_COMMIT = 4,
    MEMMGR_CALL_UNMAP = 5,
    /* The addresses of the pools; memory for some of them; that memory made zeros again; and given
     * back. */
    MEMMGR_CALL_RESERVE_ARENA = 6,
    MEMMGR_CALL_TAKE = 7,
    MEMMGR_CALL_RENEW = 8,
    MEMMGR_CALL_GIVE = 9,
    /* Memory of the library's own: for good, and for a while. The latter has no system code. */
    MEMMGR_CALL_PERMANENT = 10,
    MEMMGR_CALL_HEAP = 11,
    /* Pages brought in, and written to the disk; what of them is in memory. */
    MEMMGR_CALL_POPULATE = 12,
    MEMMGR_CALL_FLUSH = 13,
    MEMMGR_CALL_MEMORY_USE = 14,
    /* The handler of MEMMGR_OPEN_FAULT_GUARD; the zeros that it puts. Without them the fault is the
     * program's. */
    MEMMGR_CALL_CATCH_FAULTS = 15,
    MEMMGR_CALL_ZERO = 16,
    /* A file opened, looked at, read; its holes given blocks. */
    MEMMGR_CALL_OPEN = 17,
    MEMMGR_CALL_IDENTIFY = 18,
    MEMMGR_CALL_READ = 19,
    MEMMGR_CALL_FILL = 20,
    /* What a name stands for; then the steps of a save. */
    MEMMGR_CALL_IDENTIFY_PATH = 21,
    MEMMGR_CALL_CREATE = 22,
    MEMMGR_CALL_ALLOCATE = 23,
    MEMMGR_CALL_WRITE = 24,
    MEMMGR_CALL_SYNC_FILE = 25,
    MEMMGR_CALL_RENAME = 26,
    MEMMGR_CALL_SYNC_FOLDER = 27,
    /* Pages locked in memory; what of a file is in the system's cache. */
    MEMMGR_CALL_LOCK = 28,
    MEMMGR_CALL_CACHED = 29,
    /* The barrier between threads of MEMMGR_GATE_ASYMMETRIC. */
    MEMMGR_CALL_BARRIER = 30
};

/* The name of a system call without its prefix, in lower case ("map"), or "unknown".
 * Ownership: static. Threads: any. Errors: none. Since: 0.1. */
MEMMGR_API const char *memmgr_call_name(uint32_t call);

/* System calls of one kind that are to fail. */
typedef struct memmgr_failure {
    uint32_t struct_size;
    /* MEMMGR_CALL_... */
    uint32_t call;
    /* What they fail with: errno on Linux and macOS, GetLastError on Windows. */
    int64_t system_code;
    /* So many are made before, UINT64_MAX: all, which are only counted. Then so many fail; 0: one,
     * UINT64_MAX: all. */
    uint64_t after;
    uint64_t count;
    /* Only what is done by functions that are called for the dimension of this name, in whatever
     * manager: not by memmgr_manager_close, nor by memmgr_memory_get for all. NULL: everything. */
    const char *dimension;
} memmgr_failure;

#define MEMMGR_FAILURE_INIT { sizeof(memmgr_failure), 0, 0, 0, 0, NULL }

/* Makes system calls fail from now on, in the whole process, in place of what was injected for the
 * same call before. They are not made: whoever makes one is told the code, as by the system. The
 * child of a fork goes on where its parent stood. While nothing is injected, this costs nothing
 * where no system call is made, and one load of memory where one is.
 * Threads: any, one at a time for a call. Errors: INVALID_ARGUMENT. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_failure_inject(const memmgr_failure *failure,
                                               memmgr_error *error);

/* Counts the system calls of one kind, of those that failure is about, since it was injected; and
 * those of them that failed. calls_out, failures_out: may be NULL.
 * Threads: any. Errors: INVALID_ARGUMENT. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_failure_count(uint32_t call, uint64_t *calls_out,
                                              uint64_t *failures_out, memmgr_error *error);

/* Ends what was injected. call: MEMMGR_CALL_..., or 0 for all.
 * Threads: any, one at a time for a call. Errors: INVALID_ARGUMENT. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_failure_clear(uint32_t call, memmgr_error *error);
/* ==== Residency ============================================================================= */

/* Why memmgr_dimension_warm stopped. */
enum {
    /* All of the file is in memory. */
    MEMMGR_WARM_COMPLETE = 0,
    /* More would have been read than was allowed. */
    MEMMGR_WARM_BUDGET = 1,
    MEMMGR_WARM_TIMEOUT = 2,
    /* The next bytes would have driven others out of memory, or these: limit_kind says by which
     * limit. */
    MEMMGR_WARM_MEMORY = 3,
    /* The progress function asked for it. */
    MEMMGR_WARM_CANCELLED = 4,
    /* What was being warmed was unloaded or replaced meanwhile. */
    MEMMGR_WARM_UNLOADED = 5
};

typedef struct memmgr_warm_options {
    uint32_t struct_size;
    uint32_t reserved;
    /* Of what is read from the device, on average; 0: as fast as it can. */
    uint64_t bytes_per_second;
    /* Bytes to be read from the device at most; 0: all that are missing. */
    uint64_t budget;
    /* 0 or MEMMGR_FOREVER: until it is done. */
    int64_t timeout_ns;
    /* Also called while the rate is waited for. NULL: nobody is told. */
    memmgr_progress_function progress;
    void *user;
} memmgr_warm_options;

#define MEMMGR_WARM_OPTIONS_INIT { sizeof(memmgr_warm_options), 0, 0, 0, 0, NULL, NULL }

typedef struct memmgr_warming {
    uint32_t struct_size;
    /* MEMMGR_WARM_... */
    uint32_t stop;
    /* MEMMGR_LIMIT_..., with MEMMGR_WARM_MEMORY; otherwise NONE. */
    uint32_t limit_kind;
    uint32_t reserved;
    /* The version that was warmed, and the bytes of its file. */
    uint64_t generation;
    uint64_t size;
    /* Bytes from the start of the file that are in memory and mapped, and how many became so: bytes
     * of whole pages that were not in memory before. */
    uint64_t warm;
    uint64_t read;
} memmgr_warming;

#define MEMMGR_WARMING_INIT { sizeof(memmgr_warming), 0, 0, 0, 0, 0, 0, 0 }

/* Brings what is loaded into memory, in steps of 2 MiB from its start, and says how far it came and
 * why no further; none of the reasons is an error. Before each step that has to be read, the memory
 * that the machine and its control groups have left is looked at, where files that this process has
 * in memory count as used, although the system would take them: a sixteenth of the limit, at most
 * 256 MiB, is left to others. Writers, reloads and unloads wait for a step at the most.
 * options: NULL for all defaults.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED,
 * FILE_ACCESS, ALLOCATION, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_warm(memmgr_manager *manager, uint32_t dimension,
                                               const memmgr_warm_options *options,
                                               memmgr_warming *warming_out,
                                               memmgr_error *error);

/* Brings what is loaded into memory, and has the system keep it there until it is unlocked,
 * unloaded or replaced; the new version of a reload is not locked, nor is anything in the child of a fork.
 * In MEMMGR_MODE_COPY this may copy every page. Windows is asked for a larger working set, which
 * stays as large. What is locked already stays so.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED,
 * LIMIT_EXCEEDED (memory has no room for what is missing), ALLOCATION (the system refused: if
 * for MEMMGR_LIMIT_LOCKED_MEMORY, limit_kind says so), FILE_ACCESS, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_lock(memmgr_manager *manager, uint32_t dimension,
                                               memmgr_error *error);

/* Lets the system take the pages of what is loaded again, if they are locked.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED, FAULTED.
 * Since: 0.1. */
MEMMGR_API memmgr_status memmgr_dimension_unlock(memmgr_manager *manager, uint32_t dimension,
                                                 memmgr_error *error);

/* What of a range of a loaded file is in memory, in bytes of the whole pages that it stands on. */
typedef struct memmgr_residency {
    uint32_t struct_size;
    uint32_t dimension;
    /* The version, and the range. */
    uint64_t generation;
    uint64_t offset;
    uint64_t length;
    /* In memory and mapped by this process: a touch costs nothing. */
    uint64_t resident;
    /* In the system's memory: a touch does not wait for the device. At least those that are
     * resident; no more is known on Windows, and on Linux of a file that this process neither owns
     * nor may write to. This one, resident and huge are MEMMGR_UNKNOWN where the system does not
     * tell, as in memmgr_memory. */
    uint64_t cached;
    /* Of the resident ones: mapped as huge pages, and locked; as in memmgr_memory. */
    uint64_t huge;
    uint64_t locked;
} memmgr_residency;

#define MEMMGR_RESIDENCY_INIT { sizeof(memmgr_residency), 0, 0, 0, 0, 0, 0, 0, 0 }

/* Asks the system what of a range of what is loaded is in memory.
 * length: 0: up to the end.
 * Threads: any. Cost: a walk through the pages of the range. Errors: INVALID_ARGUMENT,
 * INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED, OUT_OF_BOUNDS, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_residency_get(memmgr_manager *manager, uint32_t dimension,
                                              uint64_t offset, uint64_t length,
                                              memmgr_residency *residency_out,
                                              memmgr_error *error);

/* ==== Scan ================================================================================== */

/* What a scan computes with. Each rounds in another way, and so may score the last digits
 * differently; each has the same scores on every processor that has it. */
enum {
    /* The newest that this processor has. */
    MEMMGR_INSTRUCTIONS_AUTO = 0,
    /* What all processors of the architecture have: SSE2, or NEON. */
    MEMMGR_INSTRUCTIONS_BASELINE = 1,
    /* AVX2, FMA and F16C. */
    MEMMGR_INSTRUCTIONS_AVX2 = 2,
    /* AVX-512: F, DQ, BW and VL. */
    MEMMGR_INSTRUCTIONS_AVX512 = 3
};

typedef struct memmgr_scan_options {
    uint32_t struct_size;
    /* MEMMGR_INSTRUCTIONS_...; INVALID_ARGUMENT if this processor has not got them. */
    uint32_t instructions;
    /* NULL: nobody is told. Told of bytes, about a MiB at a time. */
    memmgr_progress_function progress;
    void *user;
} memmgr_scan_options;

#define MEMMGR_SCAN_OPTIONS_INIT { sizeof(memmgr_scan_options), 0, NULL, NULL }

/* Finds the k rows of a layer that have the largest dot products with a query, in one pass over its
 * bytes and without memory of its own. The layer has two axes and the order MEMMGR_ORDER_C; its
 * elements are F32, F16, BF16 or I8, and are multiplied and added as F32, in an order that is the
 * same for every row. The dimension is held as by a view meanwhile: writers wait, readers and
 * reloads do not.
 * layer: its name; NULL if it is the only one. query: query_length floats, as many as a row has
 * elements.
 * rows_out, scores_out: room for k each, or for as many as there are rows. The best row comes first;
 * of rows with one score, that of the lower index; and last come those whose score is no number.
 * count_out: how many there are, the smaller of k and the layer's rows. What stands in the room
 * beyond that, and all of it after a failure, is undefined.
 * options: NULL for all defaults.
 * Threads: any. Cost: reading the layer. Errors: INVALID_ARGUMENT (also: a layer or a query of
 * another shape or type), INVALID_ACCESS, UNKNOWN_DIMENSION, UNKNOWN_LAYER (also: none is named, and
 * there is not exactly one), NOT_LOADED, WAIT_TIMEOUT, VIEWS_HELD (as memmgr_view_acquire),
 * CANCELLED, FAULTED. Since: 0.1. */
MEMMGR_API memmgr_status memmgr_scan_topk(memmgr_manager *manager, uint32_t dimension,
                                          const char *layer, const float *query,
                                          size_t query_length, size_t k,
                                          const memmgr_scan_options *options, uint64_t *rows_out,
                                          float *scores_out, size_t *count_out,
                                          memmgr_error *error);

/* Asks the system to read what is loaded, and does not wait for it: for the dimension that comes
 * next, while this one is worked on. A hint.
 * Threads: any. Errors: INVALID_ARGUMENT, INVALID_ACCESS, UNKNOWN_DIMENSION, NOT_LOADED, FAULTED.
 * Since: 0.1. */
MEMMGR_API memmgr_status memmgr_scan_ahead(memmgr_manager *manager, uint32_t dimension,
                                           memmgr_error *error);

#ifdef __cplusplus
}
#endif

#endif /* MEMMGR_H */
