/* What the library calls of Python: the log function, the progress functions and the interrupt
 * function, with the GIL, on the thread of the call that led to them.
 *
 * A callback may run within any dealloc, so it leaves the exception that is pending as it found it.
 * What it raises itself is raised by the call: `call_and_raise` keeps it until the C function
 * returns. Any other caller (a dealloc, NumPy's memory handler) has nobody to raise it to: there the
 * interpreter raises it as soon as it next runs code of the thread. */

#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#define THREAD_LOCAL __declspec(thread)
#else
#define THREAD_LOCAL __thread
#endif

/* An exception as PyErr_Fetch gives it; the type is NULL if there is none. */
typedef struct {
    PyObject *type, *value, *traceback;
} Raised;

/* Whether what a callback raises now is raised by a `call_and_raise` of this thread. */
static THREAD_LOCAL int call_raises;
static THREAD_LOCAL Raised kept;

static Raised fetch(void)
{
    Raised raised;
    PyErr_Fetch(&raised.type, &raised.value, &raised.traceback);
    return raised;
}

static void restore(Raised raised)
{
    PyErr_Restore(raised.type, raised.value, raised.traceback);
}

/* Raises what a callback kept; 0 if there is nothing. */
static int raise_kept(void)
{
    const Raised raised = kept;
    if (raised.type == NULL)
        return 0;
    kept = (Raised){ NULL, NULL, NULL };
    restore(raised);
    return 1;
}

static int is_main_thread(void)
{
    PyObject *threading = PyImport_ImportModule("threading");
    PyObject *thread = threading ? PyObject_CallMethod(threading, "main_thread", NULL) : NULL;
    PyObject *ident = thread ? PyObject_GetAttrString(thread, "ident") : NULL;
    const int is_main =
        ident != NULL && PyLong_AsUnsignedLong(ident) == PyThread_get_thread_ident();
    Py_XDECREF(ident);
    Py_XDECREF(thread);
    Py_XDECREF(threading);
    PyErr_Clear();
    return is_main;
}

static int raise_now(void *exception)
{
    PyErr_SetObject((PyObject *)Py_TYPE((PyObject *)exception), exception);
    Py_DECREF((PyObject *)exception);
    return -1;
}

/* Has the interpreter raise it. Only the main thread can be given an exception with what it holds:
 * any other thread gets a new one of the same class. */
static void raise_later(Raised raised)
{
    int done;
    PyErr_NormalizeException(&raised.type, &raised.value, &raised.traceback);
    if (raised.traceback != NULL)
        PyException_SetTraceback(raised.value, raised.traceback);
    if (is_main_thread()) {
        Py_INCREF(raised.value);
        done = Py_AddPendingCall(raise_now, raised.value) == 0;
        if (!done)
            Py_DECREF(raised.value);
    } else {
        done = PyThreadState_SetAsyncExc(PyThread_get_thread_ident(), raised.type) > 0;
    }
    restore(raised);
    if (done)
        PyErr_Clear();
    else
        PyErr_WriteUnraisable(NULL);
}

/* Takes the exception that a callback has set, for whoever can raise it. The last one is raised;
 * one that was kept before is its context. */
static void keep_raised(void)
{
    Raised raised = fetch();
    if (raised.type == NULL)
        return;
    if (!call_raises) {
        raise_later(raised);
        return;
    }
    if (kept.type != NULL) {
        PyErr_NormalizeException(&kept.type, &kept.value, &kept.traceback);
        PyErr_NormalizeException(&raised.type, &raised.value, &raised.traceback);
        if (kept.value != raised.value) {
            Py_INCREF(kept.value);
            PyException_SetContext(raised.value, kept.value);
        }
        Py_DECREF(kept.type);
        Py_XDECREF(kept.value);
        Py_XDECREF(kept.traceback);
    }
    kept = raised;
}

/* (function, argument...) -> what the C function returns, unless a callback raised: in one step, so
 * that no signal gets between what was raised and its raising. */
static PyObject *call_and_raise(PyObject *module, PyObject *arguments)
{
    (void)module;
    PyObject *rest = PyTuple_GetSlice(arguments, 1, PY_SSIZE_T_MAX);
    if (rest == NULL)
        return NULL;
    const int before = call_raises;
    call_raises = 1;
    PyObject *result = PyObject_Call(PyTuple_GetItem(arguments, 0), rest, NULL);
    call_raises = before;
    Py_DECREF(rest);
    if (kept.type != NULL) {
        Py_CLEAR(result);
        PyErr_Clear();
        raise_kept();
    }
    return result;
}

/* ==== Callbacks ============================================================================= */

/* What a callback finds, and leaves: it is entered with nothing pending and nothing kept, and calls
 * that it makes itself are on their own. */
typedef struct {
    PyGILState_STATE gil;
    Raised pending, kept;
    int call_raises;
} Entry;

static Entry enter(void)
{
    Entry entry;
    entry.gil = PyGILState_Ensure();
    entry.pending = fetch();
    entry.kept = kept;
    kept = (Raised){ NULL, NULL, NULL };
    entry.call_raises = call_raises;
    call_raises = 0;
    return entry;
}

static void leave(Entry entry)
{
    call_raises = entry.call_raises;
    kept = entry.kept;
    keep_raised();
    restore(entry.pending);
    PyGILState_Release(entry.gil);
}

/* memmgr._log's, never replaced. */
static PyObject *log_function;

static PyObject *set_log_function(PyObject *module, PyObject *function)
{
    (void)module;
    Py_INCREF(function);
    Py_XDECREF(log_function);
    log_function = function;
    Py_RETURN_NONE;
}

/* A memmgr_log_function. Whatever a handler does wrong is reported by memmgr._log: what leaves it
 * came from a signal, but for what the lack of memory or of stack raises, which ends here. */
static void memmgr_python_log(const memmgr_log_record *record, void *user)
{
    (void)user;
    const Entry entry = enter();
    PyObject *message =
        PyUnicode_DecodeUTF8(record->message, (Py_ssize_t)strlen(record->message), "surrogateescape");
    PyObject *none = message ? PyObject_CallFunction(
        log_function, "OiiIKKKi", message, (int)record->level, (int)record->operation,
        (unsigned)record->dimension, (unsigned long long)record->bytes,
        (unsigned long long)record->allocated, (unsigned long long)record->limit,
        (int)record->threshold_percent) : NULL;
    if (none == NULL && (PyErr_ExceptionMatches(PyExc_MemoryError) ||
                         PyErr_ExceptionMatches(PyExc_RecursionError)))
        PyErr_Clear();
    Py_XDECREF(none);
    Py_XDECREF(message);
    leave(entry);
}

/* A memmgr_progress_function, whose user pointer is the `Listener` of a call that goes on. */
static int32_t memmgr_python_progress(uint64_t done, uint64_t total, void *user)
{
    /* What a record's handler raised meanwhile ends the call, too. */
    if (kept.type != NULL)
        return 1;
    const Entry entry = enter();
    PyObject *goes_on = PyObject_CallMethod((PyObject *)user, "hear", "KK",
                                            (unsigned long long)done, (unsigned long long)total);
    const int ends = goes_on == NULL || goes_on == Py_False;
    Py_XDECREF(goes_on);
    leave(entry);
    return ends;
}

/* A memmgr_interrupt_function, whose user pointer is the number of the main thread: Python's signal
 * handlers run there. What one raises ends the call, which raises it. */
static int32_t memmgr_python_interrupt(void *user)
{
    if (kept.type != NULL)
        return 1;
    const int is_main = PyThread_get_thread_ident() == (unsigned long)(uintptr_t)user;
#ifdef Py_GIL_DISABLED
    /* What one thread made and another dropped goes when the first one next runs, which a thread
     * that waits does not: the collector sees to it. */
    const Entry entry = enter();
    PyObject *module = PyImport_ImportModule("memmgr._interrupt");
    PyObject *none = module ? PyObject_CallMethod(module, "collect", NULL) : NULL;
    Py_XDECREF(module);
    const int ends = none == NULL || (is_main && PyErr_CheckSignals() != 0);
    Py_XDECREF(none);
#else
    if (!is_main)
        return 0;
    const Entry entry = enter();
    const int ends = PyErr_CheckSignals() != 0;
#endif
    leave(entry);
    return ends;
}
