/* What is added to the module that cffi makes, which has a place for functions of C and none for
 * Python's objects. */

static PyMethodDef functions[] = {
    { "call_and_raise", call_and_raise, METH_VARARGS, NULL },
    { "set_log_function", set_log_function, METH_O, NULL },
    { "use_numpy", use_numpy, METH_O, NULL },
    { "new_numpy_handler", new_numpy_handler, METH_VARARGS, NULL },
    { "take_was_refused", take_was_refused, METH_NOARGS, NULL },
    { "call_under_handler", call_under_handler, METH_VARARGS, NULL },
    { NULL, NULL, 0, NULL },
};

static PyTypeObject *add_type(PyObject *module, const char *name, PyType_Spec *spec)
{
    PyObject *type = PyType_FromSpec(spec);
    if (type != NULL && PyObject_SetAttrString(module, name, type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

/* Adds all this to the module of that name; 0 if it could not. */
static int memmgr_python_extend(const char *name)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *module = PyImport_ImportModule(name);
    int done = module != NULL && PyModule_AddFunctions(module, functions) == 0 &&
               intern_argument_names() && add_type(module, "Block", &block_spec) != NULL &&
               add_type(module, "Under", &under_spec) != NULL &&
               add_type(module, "Views", &views_spec) != NULL &&
               (layout_type = add_type(module, "Layout", &layout_spec)) != NULL &&
               (pin_type = add_type(module, "Pin", &pin_spec)) != NULL;
    Py_XDECREF(module);
    /* cffi lets no exception pass: the caller raises its own. */
    PyErr_Clear();
    PyGILState_Release(state);
    return done;
}
