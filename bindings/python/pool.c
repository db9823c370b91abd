/* What of the pools Python has to have in C: a type whose instances export the memory of a block,
 * and NumPy's memory handler (NEP 49).
 *
 * A call that fails fills a memmgr_error on the stack, of which memmgr._extension makes what Python
 * gets to see: an exception, or, as a memory handler can only answer NULL, a note for whoever gets
 * NumPy's exception. Only that needs the GIL: NumPy may free on any thread. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Nothing but the size is read of an error, and nothing is written unless the call fails. */
#define ERROR(name) memmgr_error name; name.struct_size = sizeof name

/* Calls a function of memmgr._extension; an exception is set if it raises. */
static void tell(const char *function, const memmgr_error *error)
{
    PyObject *module = PyImport_ImportModule("memmgr._extension");
    unsigned long long address = (uintptr_t)error;
    Py_XDECREF(module ? PyObject_CallMethod(module, function, "K", address) : NULL);
    Py_XDECREF(module);
}

/* The same where nobody can catch what it raises: that goes to sys.unraisablehook. */
static void tell_aside(const char *function, const memmgr_error *error)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    tell(function, error);
    if (PyErr_Occurred())
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
    PyGILState_Release(state);
}

static void give_back(memmgr_manager *manager, void *block)
{
    ERROR(error);
    if (memmgr_block_free(manager, block, &error) != MEMMGR_OK)
        tell_aside("raise_error", &error);
}

/* ==== Block ================================================================================= */

/* The buffer protocol is in the limited API since Python 3.11, which froze it as 3.10 has it. */
#ifndef Py_bf_getbuffer
#define Py_bf_getbuffer 1
#define Py_bf_releasebuffer 2
#endif
#define BUFFER_FORMAT 0x4
#define BUFFER_ND 0x8
#define BUFFER_STRIDES 0x10

typedef struct {
    void *buf;
    PyObject *obj;
    Py_ssize_t len;
    Py_ssize_t itemsize;
    int readonly;
    int ndim;
    char *format;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    Py_ssize_t *suboffsets;
    void *internal;
} Buffer;

/* With a GIL, it is what keeps the fields of a Block together. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

typedef struct {
    PyObject_HEAD
    memmgr_manager *manager;
    /* NULL when it was given back. */
    void *data;
    Py_ssize_t length;
    Py_ssize_t exports;
    /* No new exports; it is given back with the last of those there are. */
    int ended;
} Block;

static PyObject *block_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    unsigned long long handle;
    Py_ssize_t length, alignment;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "Knn", &handle, &length, &alignment))
        return NULL;
    Block *block = (Block *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (block == NULL)
        return NULL;
    block->manager = (memmgr_manager *)(uintptr_t)handle;
    block->length = length;
    ERROR(error);
    block->data = memmgr_block_alloc_aligned(block->manager, (size_t)length, (size_t)alignment,
                                             &error);
    if (block->data == NULL) {
        Py_DECREF(block);
        tell("raise_error", &error);
        return NULL;
    }
    return (PyObject *)block;
}

static void block_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    give_back(((Block *)self)->manager, ((Block *)self)->data);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static void give_back_unless_exported(Block *block)
{
    if (block->ended && block->exports == 0) {
        void *data = block->data;
        block->data = NULL;
        give_back(block->manager, data);
    }
}

static PyObject *block_end(PyObject *self, PyObject *none)
{
    (void)none;
    Py_BEGIN_CRITICAL_SECTION(self);
    ((Block *)self)->ended = 1;
    give_back_unless_exported((Block *)self);
    Py_END_CRITICAL_SECTION();
    Py_RETURN_NONE;
}

static int block_getbuffer(PyObject *self, Buffer *view, int flags)
{
    Block *block = (Block *)self;
    int ended;
    Py_BEGIN_CRITICAL_SECTION(self);
    ended = block->ended;
    block->exports += !ended;
    Py_END_CRITICAL_SECTION();
    memset(view, 0, sizeof *view);
    if (ended) {
        const memmgr_error freed = { sizeof freed, MEMMGR_ERR_INVALID_ACCESS, 0, MEMMGR_NONE,
                                     MEMMGR_NONE, 0, 0, 0, 0, 0, 0, 0, "", "", "",
                                     "the block was freed" };
        tell("raise_error", &freed);
        return -1;
    }
    Py_INCREF(self);
    view->obj = self;
    view->buf = block->data;
    view->len = block->length;
    view->itemsize = 1;
    view->ndim = 1;
    view->format = flags & BUFFER_FORMAT ? "B" : NULL;
    view->shape = flags & BUFFER_ND ? &view->len : NULL;
    view->strides = flags & BUFFER_STRIDES ? &view->itemsize : NULL;
    return 0;
}

static void block_releasebuffer(PyObject *self, Buffer *view)
{
    (void)view;
    Py_BEGIN_CRITICAL_SECTION(self);
    ((Block *)self)->exports -= 1;
    give_back_unless_exported((Block *)self);
    Py_END_CRITICAL_SECTION();
}

static PyMethodDef block_methods[] = {
    { "_end", block_end, METH_NOARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot block_slots[] = {
    { Py_tp_new, block_new },
    { Py_tp_dealloc, block_dealloc },
    { Py_tp_methods, block_methods },
    { Py_bf_getbuffer, block_getbuffer },
    { Py_bf_releasebuffer, block_releasebuffer },
    { 0, NULL },
};

static PyType_Spec block_spec = {
    "memmgr._native.Block", sizeof(Block), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, block_slots
};

/* ==== NumPy's memory handler ================================================================ */

/* PyDataMem_Handler, of version 1. */
typedef struct {
    char name[127];
    uint8_t version;
    void *context;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *, size_t);
} NumpyHandler;

/* Alive as long as its capsule, which each of its arrays holds. The manager is a handle, which may
 * be closed before. */
typedef struct {
    NumpyHandler numpy;
    memmgr_manager *manager;
    size_t alignment;
    /* Of an Entry: who entered, and the handler that the context had before. NumPy's handler is a
     * context variable, so these are a stack for each context. NULL in a handler of no entry. */
    PyObject *owner, *previous;
} Handler;

/* Whether the last request of this thread was refused, and noted. */
static THREAD_LOCAL int was_refused;

static void *answer(void *block, const memmgr_error *error)
{
    was_refused = block == NULL;
    if (was_refused)
        tell_aside("note_refusal", error);
    return block;
}

static void *numpy_malloc(void *context, size_t size)
{
    Handler *handler = context;
    ERROR(error);
    return answer(
        memmgr_block_alloc_aligned(handler->manager, size, handler->alignment, &error), &error);
}

static void *numpy_calloc(void *context, size_t count, size_t size)
{
    Handler *handler = context;
    ERROR(error);
    if (size != 0 && count > SIZE_MAX / size)
        return NULL;
    return answer(
        memmgr_block_alloc_zeroed(handler->manager, count * size, handler->alignment, &error),
        &error);
}

static void numpy_free(void *context, void *block, size_t size)
{
    (void)size;
    give_back(((Handler *)context)->manager, block);
}

/* Not by memmgr_block_resize alone: that keeps no alignment beyond 16. */
static void *numpy_realloc(void *context, void *block, size_t size)
{
    Handler *handler = context;
    void *moved;
    size_t room = 0;
    ERROR(error);
    if (block == NULL)
        return numpy_malloc(context, size);
    if (handler->alignment <= 16)
        return answer(memmgr_block_resize(handler->manager, block, size, &error), &error);
    if (memmgr_block_size(handler->manager, block, &room, &error) != MEMMGR_OK)
        return answer(NULL, &error);
    moved = numpy_malloc(context, size);
    if (moved != NULL) {
        memcpy(moved, block, room < size ? room : size);
        give_back(handler->manager, block);
    }
    return moved;
}

static void handler_destroy(PyObject *capsule)
{
    Handler *handler = PyCapsule_GetPointer(capsule, "mem_handler");
    Py_XDECREF(handler->owner);
    Py_XDECREF(handler->previous);
    free(handler);
}

/* Takes no references; gives the capsule, which has its own. */
static PyObject *make_handler(memmgr_manager *manager, size_t alignment, PyObject *owner,
                              PyObject *previous)
{
    Handler *handler = malloc(sizeof *handler);
    if (handler == NULL)
        return PyErr_NoMemory();
    *handler = (Handler){
        { "memmgr", 1, handler, numpy_malloc, numpy_calloc, numpy_realloc, numpy_free },
        manager, alignment, owner, previous,
    };
    PyObject *capsule = PyCapsule_New(handler, "mem_handler", handler_destroy);
    if (capsule == NULL) {
        free(handler);
        return NULL;
    }
    Py_XINCREF(owner);
    Py_XINCREF(previous);
    return capsule;
}

/* (manager, alignment) -> the capsule of a handler */
static PyObject *new_numpy_handler(PyObject *module, PyObject *arguments)
{
    unsigned long long manager;
    Py_ssize_t alignment;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "Kn", &manager, &alignment))
        return NULL;
    return make_handler((memmgr_manager *)(uintptr_t)manager, (size_t)alignment, NULL, NULL);
}

/* () -> whether the last request of this thread to any handler was refused; answers once */
static PyObject *take_was_refused(PyObject *module, PyObject *none)
{
    (void)module;
    (void)none;
    const int answered = was_refused;
    was_refused = 0;
    return PyBool_FromLong(answered);
}

static PyObject *set_handler(PyObject *handler)
{
    if (numpy_api != NULL)
        return ((PyObject *(*)(PyObject *))numpy_api[SET_HANDLER])(handler);
    PyErr_SetString(PyExc_ImportError, "memmgr knows the C API of NumPy 1 and 2, and not this one");
    return NULL;
}

/* (handler, function, argument...) -> what the function returns under it. In one step: no signal
 * can get between setting and restoring. */
static PyObject *call_under_handler(PyObject *module, PyObject *arguments)
{
    (void)module;
    if (PyTuple_Size(arguments) < 2) {
        PyErr_SetString(PyExc_TypeError, "want a handler and a function");
        return NULL;
    }
    PyObject *rest = PyTuple_GetSlice(arguments, 2, PY_SSIZE_T_MAX);
    PyObject *previous = rest ? set_handler(PyTuple_GetItem(arguments, 0)) : NULL;
    PyObject *result = NULL;
    if (previous != NULL) {
        result = PyObject_Call(PyTuple_GetItem(arguments, 1), rest, NULL);
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        PyObject *ours = set_handler(previous);
        Py_XDECREF(ours);
        if (ours == NULL)
            Py_CLEAR(result);
        else
            PyErr_Restore(type, value, traceback);
    }
    Py_XDECREF(previous);
    Py_XDECREF(rest);
    return result;
}

/* ==== The block under a handler ============================================================== */

/* A context manager that may be entered again while it holds, and in several contexts at once.
 * Entering and leaving are one step each: no signal gets between a handler and who restores it. */
typedef struct {
    PyObject_HEAD
    PyObject *handler;
} Under;

static PyObject *under_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    PyObject *handler;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "O", &handler) ||
        PyCapsule_GetPointer(handler, "mem_handler") == NULL)
        return NULL;
    Under *under = (Under *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (under == NULL)
        return NULL;
    Py_INCREF(handler);
    under->handler = handler;
    return (PyObject *)under;
}

static void under_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_DECREF(((Under *)self)->handler);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* The handler of this context, as a new reference. */
static PyObject *get_handler(void)
{
    if (numpy_api != NULL)
        return ((PyObject *(*)(void))numpy_api[GET_HANDLER])();
    PyErr_SetString(PyExc_ImportError, "memmgr knows the C API of NumPy 1 and 2, and not this one");
    return NULL;
}

static PyObject *under_enter(PyObject *self, PyObject *none)
{
    const Handler *handler = PyCapsule_GetPointer(((Under *)self)->handler, "mem_handler");
    (void)none;
    PyObject *previous = get_handler();
    PyObject *entry =
        previous ? make_handler(handler->manager, handler->alignment, self, previous) : NULL;
    PyObject *replaced = entry ? set_handler(entry) : NULL;
    Py_XDECREF(previous);
    Py_XDECREF(entry);
    if (replaced == NULL)
        return NULL;
    Py_DECREF(replaced);
    was_refused = 0;
    Py_RETURN_NONE;
}

/* What a capsule holds, if it is the library's. */
static Handler *own_handler(PyObject *capsule)
{
    Handler *handler = capsule ? PyCapsule_GetPointer(capsule, "mem_handler") : NULL;
    if (handler == NULL)
        PyErr_Clear();
    return handler && handler->numpy.malloc == numpy_malloc ? handler : NULL;
}

/* Takes the last entry of `self` off the stack of this context. It is the top one, unless blocks end
 * in another order than they began. In a context that has none, nothing happens. 0: it failed. */
static int pop_entry(PyObject *self)
{
    PyObject *top = get_handler();
    if (top == NULL)
        return 0;
    Handler *above = NULL, *entry = own_handler(top);
    while (entry != NULL && entry->owner != self) {
        above = entry;
        entry = own_handler(entry->previous);
    }
    PyObject *replaced = NULL;
    int done = 1;
    if (entry != NULL && above != NULL) {
        replaced = above->previous;
        Py_INCREF(entry->previous);
        above->previous = entry->previous;
    } else if (entry != NULL) {
        replaced = set_handler(entry->previous);
        done = replaced != NULL;
    }
    Py_XDECREF(replaced);
    Py_DECREF(top);
    return done;
}

static PyObject *under_exit(PyObject *self, PyObject *arguments)
{
    PyObject *kind, *error, *traceback;
    if (!PyArg_ParseTuple(arguments, "OOO", &kind, &error, &traceback) || !pop_entry(self))
        return NULL;
    if (error == Py_None || !was_refused)
        Py_RETURN_NONE;
    PyObject *module = PyImport_ImportModule("memmgr._extension");
    PyObject *none = module ? PyObject_CallMethod(module, "raise_refusal", "O", error) : NULL;
    Py_XDECREF(module);
    return none;
}

static PyMethodDef under_methods[] = {
    { "__enter__", under_enter, METH_NOARGS, NULL },
    { "__exit__", under_exit, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot under_slots[] = {
    { Py_tp_new, under_new },
    { Py_tp_dealloc, under_dealloc },
    { Py_tp_methods, under_methods },
    { 0, NULL },
};

static PyType_Spec under_spec = {
    "memmgr._native.Under", sizeof(Under), 0, Py_TPFLAGS_DEFAULT, under_slots
};
