/* What the files of watchkeeper._native share.
 *
 * One binary for CPython 3.11 and everything after it: only the limited API is used (PEP 384), unless the build is told
 * otherwise with -DWATCHKEEPER_FULL_API (free-threaded builds have no limited API before 3.15; see docs/extension.md).
 */
#ifndef WATCHKEEPER_NATIVE_H
#define WATCHKEEPER_NATIVE_H

#if !defined(WATCHKEEPER_FULL_API) && !defined(Py_LIMITED_API)
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* All that lives as long as the module, one per interpreter: there is no variable of file scope that changes. */
typedef struct {
    PyTypeObject *process_type; /* the struct sequence that processes() answers */
    PyTypeObject *ring_type;
} module_state;

#endif
