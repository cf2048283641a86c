/* watchkeeper._native: the module, its state, and the slots of PEP 489. */

#include "native.h"

static PyMethodDef functions[] = {
    {"give_memory_back", give_memory_back, METH_NOARGS, give_memory_back_doc},
    {"processes", (PyCFunction)(void *)processes, METH_VARARGS | METH_KEYWORDS, processes_doc},
    {NULL, NULL, 0, NULL},
};

static int
module_exec(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->process_type = PyStructSequence_NewType(&process_description);
    if (state->process_type == NULL || PyModule_AddObjectRef(module, "Process", (PyObject *)state->process_type) < 0) {
        return -1;
    }
    state->ring_type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ring_spec, NULL);
    if (state->ring_type == NULL || PyModule_AddType(module, state->ring_type) < 0) {
        return -1;
    }
    return PyModule_AddIntConstant(module, "ABI", 3);
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->process_type);
    Py_VISIT(state->ring_type);
    return 0;
}

static int
module_clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->process_type);
    Py_CLEAR(state->ring_type);
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

/* Two slots are younger than the limited API of 3.11, which therefore has no names for them; their numbers are part of the
 * stable ABI since then. An older interpreter refuses a number that it does not know, so PyInit__native asks which one it is.
 * They tell no more than what holds: nothing here is shared between interpreters or relies on the GIL, except what is said
 * in ring_type.c. (A free-threaded interpreter loads no abi3 file, so there the second slot speaks in builds of its own.) */
#ifndef Py_mod_multiple_interpreters /* 3.12 */
#define Py_mod_multiple_interpreters 3
#define Py_MOD_PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#endif
#ifndef Py_mod_gil /* 3.13 */
#define Py_mod_gil 4
#define Py_MOD_GIL_NOT_USED ((void *)1)
#endif

static struct PyModuleDef_Slot slots_311[] = {
    {Py_mod_exec, (void *)module_exec},
    {0, NULL},
};

static struct PyModuleDef_Slot slots_312[] = {
    {Py_mod_exec, (void *)module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static struct PyModuleDef_Slot slots_313[] = {
    {Py_mod_exec, (void *)module_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
    {0, NULL},
};

/* One definition for each, so that none of them is ever written to: interpreters may import at the same time. */
#define DEFINITION(slots)                                                                      \
    {                                                                                          \
        PyModuleDef_HEAD_INIT, .m_name = "watchkeeper._native",                                \
        .m_doc = "What the agent spends its time on, in C; watchkeeper.native is the door to it.", \
        .m_size = sizeof(module_state), .m_methods = functions, .m_slots = slots,              \
        .m_traverse = module_traverse, .m_clear = module_clear, .m_free = module_free,         \
    }

static struct PyModuleDef definition_311 = DEFINITION(slots_311);
static struct PyModuleDef definition_312 = DEFINITION(slots_312);
static struct PyModuleDef definition_313 = DEFINITION(slots_313);

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(Py_Version >= 0x030D0000   ? &definition_313
                            : Py_Version >= 0x030C0000 ? &definition_312
                                                       : &definition_311);
}
