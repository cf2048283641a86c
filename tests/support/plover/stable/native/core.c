/* An extension as small as one can be that uses functions, types and exceptions of CPython, state of its own, the C
   library, mathematics, and two files of C. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "digest.h"

typedef struct {
    PyObject *error;
    PyObject *counter;
} State;

typedef struct {
    PyObject_HEAD
    long long count;
} Counter;

static PyObject *digest(PyObject *module, PyObject *argument) {
    State *state = PyModule_GetState(module);
    char *data;
    Py_ssize_t size;
    if (!PyBytes_Check(argument)) {
        PyErr_SetString(state->error, "bytes are wanted");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(argument, &data, &size) < 0)
        return NULL;
    return PyLong_FromUnsignedLongLong(plover_digest((unsigned char *)data, (size_t)size));
}

static PyObject *facts(PyObject *module, PyObject *Py_UNUSED(none)) {
    char text[32];
    const unsigned one = 1;
    snprintf(text, sizeof text, "%.3f", pow(2.0, 0.5));
    return Py_BuildValue("{s:n,s:s,s:s,s:O}", "pointer", (Py_ssize_t)sizeof(void *), "order",
                         *(const char *)&one ? "little" : "big", "root", text, "time",
                         time(NULL) > 0 ? Py_True : Py_False);
}

static PyObject *count(PyObject *self, PyObject *Py_UNUSED(none)) {
    return PyLong_FromLongLong(++((Counter *)self)->count);
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF((PyObject *)type);
}

static PyMethodDef counter_methods[] = {
    {"count", count, METH_NOARGS, "One more."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot counter_slots[] = {
    {Py_tp_methods, counter_methods},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

static PyType_Spec counter_spec = {
    .name = "plover._core.Counter",
    .basicsize = sizeof(Counter),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = counter_slots,
};

static int start(PyObject *module) {
    State *state = PyModule_GetState(module);
    state->error = PyErr_NewException("plover.Error", PyExc_ValueError, NULL);
    state->counter = PyType_FromModuleAndSpec(module, &counter_spec, NULL);
    if (state->error == NULL || state->counter == NULL)
        return -1;
    if (PyModule_AddObjectRef(module, "Error", state->error) < 0)
        return -1;
    return PyModule_AddObjectRef(module, "Counter", state->counter);
}

static PyMethodDef methods[] = {
    {"digest", digest, METH_O, "A number that stands for some bytes."},
    {"facts", facts, METH_NOARGS, "What the C compiler knew of its target."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, start},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_core", .m_size = sizeof(State), .m_methods = methods, .m_slots = slots,
};

PyMODINIT_FUNC PyInit__core(void) {
    return PyModuleDef_Init(&definition);
}
