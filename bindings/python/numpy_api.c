/* NumPy's C API without NumPy's headers: the table that NumPy exports as a capsule, and the places
 * in it that this module knows. Each major version of NumPy keeps its ABI, and those places are the
 * same in 1.x and 2.x; of any other version nothing is called. */

#include <stdint.h>

#define NUMPY_1 0x01000009
#define NUMPY_2 0x02000000

/* Places in the table. */
enum {
    GET_ABI_VERSION = 0,
    ARRAY_TYPE = 2,
    DESCR_FROM_TYPE = 45,
    NEW_FROM_DESCR = 94,
    DESCR_CONVERTER = 174,
    SET_BASE_OBJECT = 282,
    SET_HANDLER = 304,
    GET_HANDLER = 305,
};

/* NULL if there is none that is known here. Set once, before anything of it is used. */
static void **numpy_api;
static unsigned numpy_abi;
/* The type that an array of bytes has. */
static PyObject *numpy_uint8;

/* The start of PyArray_Descr in both versions, and what follows it in each. */
typedef struct {
    PyObject_HEAD
    PyTypeObject *type;
    char kind;
    char letter;
    char byte_order;
    char flags;
    int number;
    union {
        int size_1;
        struct {
            uint64_t flags;
            intptr_t size;
        } numpy_2;
    };
} Descr;

/* Type numbers: of booleans and numbers are those below the object's, and float16's. */
#define NUMPY_UINT8 2
#define NUMPY_OBJECT 17
#define NUMPY_FLOAT16 23

/* Bytes of an element of a boolean's or a number's type; 0 of any other. */
static size_t number_size(const Descr *descr)
{
    if ((unsigned)descr->number >= NUMPY_OBJECT && descr->number != NUMPY_FLOAT16)
        return 0;
    return numpy_abi == NUMPY_1 ? (size_t)descr->size_1 : (size_t)descr->numpy_2.size;
}

/* (numpy's _ARRAY_API) -> whether it is one that is known here */
static PyObject *use_numpy(PyObject *module, PyObject *capsule)
{
    (void)module;
    void **api = PyCapsule_GetPointer(capsule, NULL);
    if (api == NULL)
        return NULL;
    const unsigned abi = ((unsigned (*)(void))api[GET_ABI_VERSION])();
    if (abi != NUMPY_1 && abi != NUMPY_2)
        Py_RETURN_FALSE;
    numpy_uint8 = ((PyObject *(*)(int))api[DESCR_FROM_TYPE])(NUMPY_UINT8);
    numpy_abi = abi;
    numpy_api = api;
    Py_RETURN_TRUE;
}
