/* The C library's allocator, asked to give back what is freed.
 *
 * glibc raises the size from which a block is mapped by itself each time such a block is freed (mallopt(3), "Note: Nowadays,
 * glibc uses a dynamic mmap threshold by default"), up to 32 MB: one large answer, and from then on everything smaller lies in
 * the heap between things that stay, where its room is not given back. And each thread may get an arena of its own, with the
 * same fate. An agent that runs for months is better off with a fixed size and one arena; the GIL lets one thread allocate at a
 * time anyway. Other C libraries need no telling.
 */

#include "native.h"

#if defined(__linux__)
#include <malloc.h>
#endif

const char give_memory_back_doc[] =
    "give_memory_back()\n--\n\nLet the allocator return freed memory to the system sooner; whether it has such a setting.";

PyObject *
give_memory_back(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing))
{
#if defined(__GLIBC__)
    return PyBool_FromLong(mallopt(M_ARENA_MAX, 1) && mallopt(M_MMAP_THRESHOLD, 128 * 1024));
#else
    Py_RETURN_FALSE;
#endif
}
