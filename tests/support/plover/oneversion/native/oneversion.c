#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Macros that read fields of a list: compiled in, and different in another version. */
static PyObject *last(PyObject *Py_UNUSED(module), PyObject *argument) {
    if (!PyList_Check(argument) || PyList_GET_SIZE(argument) == 0) {
        PyErr_SetString(PyExc_ValueError, "a list that is not empty is wanted");
        return NULL;
    }
    return Py_NewRef(PyList_GET_ITEM(argument, PyList_GET_SIZE(argument) - 1));
}

static PyMethodDef methods[] = {
    {"last", last, METH_O, "The last thing of a list."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "plover_oneversion", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit_plover_oneversion(void) {
    return PyModuleDef_Init(&definition);
}
