/* What the files of watchkeeper._native share.
 *
 * One binary for CPython 3.11 and everything after it: only the limited API is used (PEP 384), unless the build says
 * -DWATCHKEEPER_FULL_API, as it does for a free-threaded interpreter, which has no limited API (docs/extension.md).
 */
#ifndef WATCHKEEPER_NATIVE_H
#define WATCHKEEPER_NATIVE_H

#if !defined(WATCHKEEPER_FULL_API) && !defined(Py_LIMITED_API)
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* All that lives as long as the module, one per interpreter. No variable of file scope ever changes. */
typedef struct {
    PyTypeObject *process_type; /* the struct sequence of which processes() answers a list */
    PyTypeObject *ring_type;
} module_state;

/* processes.c */
extern PyStructSequence_Desc process_description;
PyObject *processes(PyObject *module, PyObject *args, PyObject *kwargs);
extern const char processes_doc[];

/* allocator.c */
PyObject *give_memory_back(PyObject *module, PyObject *nothing);
extern const char give_memory_back_doc[];

/* ring_type.c */
extern PyType_Spec ring_spec;

#endif
