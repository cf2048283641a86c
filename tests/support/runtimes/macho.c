/* Not an interpreter: what a reader of files looks at in one. */
const char ferryman_test_version[] = "\0" PY_VERSION;

const char *Py_GetVersion(void)
{
    return ferryman_test_version + 1;
}
