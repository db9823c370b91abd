/* Arrays over a dimension when nothing is in the way: `d["layer"]` and `d.view(...)`, from the check
 * to the ndarray, whose base is the pin.
 *
 * Everything else (a layer that nobody asked for yet, a version that was just loaded, a writer in
 * the way, unusual arguments, every error) is left to Dimension._layer and Dimension._view, which
 * start over. Those are the reference: they work without this file, and say what an array is like.
 *
 * All of it runs with the GIL held, for nothing in it waits. Without a GIL it needs none: whatever
 * of it two threads may see does not change, except the dict, which locks itself. */

#if defined(Py_LIMITED_API) || PY_VERSION_HEX < 0x030D0000
static int PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **value_out)
{
    *value_out = PyDict_GetItemWithError(dict, key);
    Py_XINCREF(*value_out);
    return *value_out != NULL;
}
#endif

/* ==== Pin =================================================================================== */

/* A view, held as long as this lives. It exports no buffer, so an array over it stays read-only. */
typedef struct {
    PyObject_HEAD
    memmgr_manager *manager;
    memmgr_view view;
} Pin;

static PyTypeObject *pin_type;

static void pin_release(Pin *pin)
{
    memmgr_view_release(pin->manager, &pin->view, NULL);
}

static void pin_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    /* The last view of a version writes to the log, which may be Python's. */
    if (PyErr_Occurred()) {
        PyObject *kind, *value, *traceback;
        PyErr_Fetch(&kind, &value, &traceback);
        pin_release((Pin *)self);
        PyErr_Restore(kind, value, traceback);
    } else {
        pin_release((Pin *)self);
    }
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyType_Slot pin_slots[] = {
    { Py_tp_dealloc, pin_dealloc },
    { 0, NULL },
};

static PyType_Spec pin_spec = {
    "memmgr._native.Pin", sizeof(Pin), 0, Py_TPFLAGS_DEFAULT, pin_slots
};

/* ==== Layout ================================================================================ */

#define FLAG_C 1
#define FLAG_FORTRAN 2

/* How the array of a layer is made, in one version of the file. */
typedef struct {
    PyObject_HEAD
    unsigned long long generation;
    unsigned long long address;
    unsigned long long offset;
    unsigned long long length;
    PyObject *dtype;
    PyObject *shape;
    PyObject *order;
    int flag;
    int rank;
    Py_ssize_t axes[MEMMGR_RANK_MAX];
} Layout;

static PyTypeObject *layout_type;

/* The shape as numbers; -1 if it is not as plain as that. */
static int read_shape(PyObject *shape, Py_ssize_t *axes)
{
    Py_ssize_t rank = PyTuple_CheckExact(shape) ? PyTuple_Size(shape) : MEMMGR_RANK_MAX + 1;
    if (rank > MEMMGR_RANK_MAX)
        return -1;
    for (Py_ssize_t i = 0; i < rank; i++) {
        PyObject *axis = PyTuple_GetItem(shape, i);
        axes[i] = PyLong_CheckExact(axis) ? PyLong_AsSsize_t(axis) : -1;
        if (axes[i] < 0)
            return -1;
    }
    return (int)rank;
}

static PyObject *layout_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    (void)keywords;
    Layout *layout = (Layout *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (layout == NULL)
        return NULL;
    if (!PyArg_ParseTuple(arguments, "KKKKOOU", &layout->generation, &layout->address,
                          &layout->offset, &layout->length, &layout->dtype, &layout->shape,
                          &layout->order)) {
        layout->dtype = layout->shape = layout->order = NULL;
        Py_DECREF(layout);
        return NULL;
    }
    Py_INCREF(layout->dtype);
    Py_INCREF(layout->shape);
    Py_INCREF(layout->order);
    layout->flag = PyUnicode_CompareWithASCIIString(layout->order, "F") ? FLAG_C : FLAG_FORTRAN;
    layout->rank = read_shape(layout->shape, layout->axes);
    if (layout->rank < 0) {
        Py_DECREF(layout);
        PyErr_SetString(PyExc_ValueError, "a layer has no such shape");
        return NULL;
    }
    return (PyObject *)layout;
}

static void layout_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Layout *layout = (Layout *)self;
    Py_XDECREF(layout->dtype);
    Py_XDECREF(layout->shape);
    Py_XDECREF(layout->order);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyMemberDef layout_members[] = {
    { "generation", T_ULONGLONG, offsetof(Layout, generation), READONLY, NULL },
    { "address", T_ULONGLONG, offsetof(Layout, address), READONLY, NULL },
    { "length", T_ULONGLONG, offsetof(Layout, length), READONLY, NULL },
    { "dtype", T_OBJECT_EX, offsetof(Layout, dtype), READONLY, NULL },
    { "shape", T_OBJECT_EX, offsetof(Layout, shape), READONLY, NULL },
    { "order", T_OBJECT_EX, offsetof(Layout, order), READONLY, NULL },
    { NULL, 0, 0, 0, NULL },
};

static PyType_Slot layout_slots[] = {
    { Py_tp_new, layout_new },
    { Py_tp_dealloc, layout_dealloc },
    { Py_tp_members, layout_members },
    { 0, NULL },
};

static PyType_Spec layout_spec = {
    "memmgr._native.Layout", sizeof(Layout), 0, Py_TPFLAGS_DEFAULT, layout_slots
};

/* ==== Views ================================================================================= */

/* What Dimension derives from. */
typedef struct {
    PyObject_HEAD
    /* NULL: everything is left to the reference. */
    memmgr_manager *manager;
    unsigned dimension;
    /* Layouts by the layer's name, and that of the whole file by None. */
    PyObject *known;
} Views;

static int views_init(PyObject *self, PyObject *arguments, PyObject *keywords)
{
    Views *views = (Views *)self;
    unsigned long long manager;
    unsigned dimension;
    PyObject *known;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "KIO!", &manager, &dimension, &PyDict_Type, &known))
        return -1;
    int was_new;
    Py_BEGIN_CRITICAL_SECTION(self);
    was_new = views->known == NULL;
    if (was_new) {
        Py_INCREF(known);
        views->known = known;
        views->dimension = dimension;
        views->manager = numpy_api ? (memmgr_manager *)(uintptr_t)manager : NULL;
    }
    Py_END_CRITICAL_SECTION();
    if (!was_new)
        PyErr_SetString(PyExc_TypeError, "it was made before");
    return was_new ? 0 : -1;
}

static void views_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Views *)self)->known);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* A new reference; NULL if there is none. */
static Layout *find_layout(const Views *views, PyObject *key)
{
    PyObject *layout;
    PyDict_GetItemRef(views->known, key, &layout);
    if (layout == NULL || Py_TYPE(layout) == layout_type)
        return (Layout *)layout;
    Py_DECREF(layout);
    return NULL;
}

static Pin *acquire(const Views *views, uint64_t offset, uint64_t length)
{
    Pin *pin = PyObject_New(Pin, pin_type);
    if (pin == NULL)
        return NULL;
    pin->manager = views->manager;
    pin->view = (memmgr_view)MEMMGR_VIEW_INIT;
    if (memmgr_view_try_acquire(views->manager, views->dimension, offset, length, &pin->view,
                                NULL) == MEMMGR_OK)
        return pin;
    Py_DECREF(pin);
    return NULL;
}

/* An array over what is pinned, which it takes. */
static PyObject *make_array(Pin *pin, void *descr, int rank, const Py_ssize_t *axes, int flag)
{
    typedef PyObject *NewFromDescr(PyTypeObject *, void *, int, const Py_ssize_t *,
                                   const Py_ssize_t *, void *, int, PyObject *);
    typedef int SetBaseObject(PyObject *, PyObject *);
    Py_INCREF((PyObject *)descr); /* for the array, also if there will be none */
    PyObject *array = ((NewFromDescr *)numpy_api[NEW_FROM_DESCR])(
        numpy_api[ARRAY_TYPE], descr, rank, axes, NULL, (void *)pin->view.data, flag, NULL);
    if (array == NULL) {
        Py_DECREF(pin);
        return NULL;
    }
    if (((SetBaseObject *)numpy_api[SET_BASE_OBJECT])(array, (PyObject *)pin) < 0)
        Py_CLEAR(array);
    return array;
}

static PyObject *array_of_layout(const Views *views, const Layout *layout)
{
    Pin *pin = acquire(views, layout->offset, layout->length);
    if (pin != NULL && pin->view.generation == layout->generation)
        return make_array(pin, layout->dtype, layout->rank, layout->axes, layout->flag);
    Py_XDECREF(pin);
    return NULL;
}

static PyObject *views_subscript(PyObject *self, PyObject *name)
{
    const Views *views = (Views *)self;
    if (views->manager != NULL && PyUnicode_CheckExact(name)) {
        Layout *layout = find_layout(views, name);
        PyObject *array = layout ? array_of_layout(views, layout) : NULL;
        Py_XDECREF(layout);
        if (array != NULL)
            return array;
        PyErr_Clear();
    }
    PyObject *reference = PyObject_GetAttrString(self, "_layer");
    PyObject *array = reference ? PyObject_CallFunctionObjArgs(reference, name, NULL) : NULL;
    Py_XDECREF(reference);
    return array;
}

/* ---- view(...) ---- */

enum { OFFSET, LENGTH, DTYPE, SHAPE, ARGUMENT_COUNT };

/* Interned, as are the names in a call. */
static PyObject *argument_names[ARGUMENT_COUNT];

/* Sorts the arguments of a call; 0 if there are others. */
static int read_arguments(PyObject *const *values, Py_ssize_t count, PyObject *names,
                          PyObject **given)
{
    if (count > DTYPE)
        return 0;
    for (Py_ssize_t i = 0; i < count; i++)
        given[i] = values[i];
    Py_ssize_t named = names ? PyTuple_Size(names) : 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        int place = 0;
        while (place < ARGUMENT_COUNT && argument_names[place] != PyTuple_GetItem(names, i))
            place++;
        if (place == ARGUMENT_COUNT || given[place] != NULL)
            return 0;
        given[place] = values[count + i];
    }
    return 1;
}

static int read_size(PyObject *value, uint64_t *size_out)
{
    if (!PyLong_CheckExact(value))
        return 0;
    *size_out = PyLong_AsUnsignedLongLong(value);
    return *size_out != UINT64_MAX;
}

/* What np.dtype makes of it, as a new reference. */
static PyObject *read_type(PyObject *value)
{
    typedef int Converter(PyObject *, PyObject **);
    PyObject *descr = numpy_uint8;
    if (value == NULL)
        Py_INCREF(descr);
    else if (!((Converter *)numpy_api[DESCR_CONVERTER])(value, &descr))
        return NULL;
    return descr;
}

/* Elements of an array of that shape; UINT64_MAX if there are too many. */
static uint64_t product(const Py_ssize_t *axes, int rank)
{
    uint64_t count = 1;
    for (int i = 0; i < rank; i++) {
        if (axes[i] != 0 && count > (uint64_t)PY_SSIZE_T_MAX / (uint64_t)axes[i])
            return UINT64_MAX;
        count *= (uint64_t)axes[i];
    }
    return count;
}

static PyObject *array_of_range(const Views *views, PyObject *const *given, const Descr *descr)
{
    const uint64_t size = number_size(descr);
    uint64_t offset = 0, length = 0, generation = 0;
    Py_ssize_t axes[MEMMGR_RANK_MAX];
    int rank = 1;
    const int has_shape = given[SHAPE] != NULL && given[SHAPE] != Py_None;
    const int has_length = given[LENGTH] != NULL && given[LENGTH] != Py_None;
    if (size == 0 || (given[OFFSET] && !read_size(given[OFFSET], &offset)) ||
        (has_length && !read_size(given[LENGTH], &length)))
        return NULL;
    if (has_shape) {
        rank = read_shape(given[SHAPE], axes);
        const uint64_t count = rank < 0 ? UINT64_MAX : product(axes, rank);
        if (count > PY_SSIZE_T_MAX / size || (has_length && length != count * size))
            return NULL;
        length = count * size;
    } else if (!has_length) {
        Layout *whole = find_layout(views, Py_None);
        if (whole == NULL)
            return NULL;
        generation = whole->generation;
        length = whole->length - offset;
        Py_DECREF(whole);
    }
    if (length % size != 0)
        return NULL;
    if (!has_shape)
        axes[0] = (Py_ssize_t)(length / size);
    /* Refused, if the offset was beyond the end. */
    Pin *pin = acquire(views, offset, length);
    if (pin != NULL && (generation == 0 || pin->view.generation == generation))
        return make_array(pin, (void *)descr, rank, axes, FLAG_C);
    Py_XDECREF(pin);
    return NULL;
}

static PyObject *call_reference(PyObject *self, PyObject *const *values, Py_ssize_t count,
                                PyObject *names)
{
    PyObject *reference = PyObject_GetAttrString(self, "_view");
    PyObject *arguments = PyTuple_New(count), *keywords = PyDict_New(), *array = NULL;
    if (reference == NULL || arguments == NULL || keywords == NULL)
        goto end;
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_INCREF(values[i]);
        PyTuple_SetItem(arguments, i, values[i]);
    }
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_Size(names); i++)
        if (PyDict_SetItem(keywords, PyTuple_GetItem(names, i), values[count + i]) < 0)
            goto end;
    array = PyObject_Call(reference, arguments, keywords);
end:
    Py_XDECREF(reference);
    Py_XDECREF(arguments);
    Py_XDECREF(keywords);
    return array;
}

static PyObject *views_view(PyObject *self, PyObject *const *values, Py_ssize_t count,
                            PyObject *names)
{
    const Views *views = (Views *)self;
    PyObject *given[ARGUMENT_COUNT] = { NULL };
    if (views->manager != NULL && read_arguments(values, count, names, given)) {
        PyObject *descr = read_type(given[DTYPE]);
        PyObject *array = descr ? array_of_range(views, given, (Descr *)descr) : NULL;
        Py_XDECREF(descr);
        if (array != NULL)
            return array;
        PyErr_Clear();
    }
    return call_reference(self, values, count, names);
}

PyDoc_STRVAR(views_view_doc,
"view($self, /, offset=0, length=None, *, dtype='uint8', shape=None, writable=False)\n"
"--\n"
"\n"
"Any bytes of the file as an ndarray, without a copy; it pins as a layer's does.\n"
"\n"
"offset: in bytes from the start of the file.\n"
"length: in bytes; None: as many as `shape` needs, or up to the end of the file.\n"
"dtype, shape: of the array; no shape: one axis. One axis of the shape may be -1.\n"
"writable: only in mode \"c\": an array that may be written to, without the exclusion that\n"
"    `write` gives.\n"
"\n"
"Raises OutOfBoundsError. InvalidArgumentError: the length is not that of the shape, the\n"
"dtype holds Python objects, or `writable` in another mode. NotLoadedError,\n"
"WaitTimeoutError, FaultedError.");

static PyMethodDef views_methods[] = {
    { "view", (PyCFunction)(void (*)(void))views_view, METH_FASTCALL | METH_KEYWORDS,
      views_view_doc },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot views_slots[] = {
    { Py_tp_init, views_init },
    { Py_tp_dealloc, views_dealloc },
    { Py_tp_methods, views_methods },
    { Py_mp_subscript, views_subscript },
    { 0, NULL },
};

static PyType_Spec views_spec = {
    "memmgr._native.Views", sizeof(Views), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, views_slots
};

static int intern_argument_names(void)
{
    static const char *const names[] = { "offset", "length", "dtype", "shape" };
    for (int i = 0; i < ARGUMENT_COUNT; i++)
        if ((argument_names[i] = PyUnicode_InternFromString(names[i])) == NULL)
            return 0;
    return 1;
}
