/* watchkeeper._native: the module, its state, and the slots of PEP 489. */

#include "native.h"

static int
module_exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "ABI", 1);
}

static struct PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)module_exec},
#ifdef Py_mod_multiple_interpreters /* 3.12; without it the default is the same as MULTIPLE_INTERPRETERS_SUPPORTED */
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil /* 3.13 */
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "watchkeeper._native",
    .m_doc = "What the agent spends its time on, in C. watchkeeper.native is the door to it.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
