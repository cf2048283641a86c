/* The interpreter is configured as python itself would be, less what a program of its own must not take from the
   machine: PYTHON* variables, the user's site-packages, a search for its home. Two more differences:

   - The C locale is not coerced (PEP 538), because that changes the environment that children get; UTF-8 mode (PEP 540)
     is on in the C locale as always.
   - The search path is what the launch file says; `site` is imported for a plain interpreter only. */
#include "python.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#ifndef _WIN32
#include <signal.h>
#include <unistd.h>
#endif

/* Of CPython's headers only those that describe PyConfig are used: its layout belongs to the version of the interpreter,
   and to nothing else of the machine that it was built on. */
typedef struct _object PyObject;
typedef ptrdiff_t Py_ssize_t;
#ifdef _WIN32
#define MS_WINDOWS
#endif
#define PyAPI_FUNC(type) type
#include <patchlevel.h>

#include <cpython/initconfig.h>

#define FUNCTIONS(X)              \
    X(PyPreConfig_InitPythonConfig) \
    X(Py_PreInitialize)             \
    X(Py_PreInitializeFromArgs)     \
    X(Py_PreInitializeFromBytesArgs) \
    X(PyConfig_InitPythonConfig)    \
    X(PyConfig_SetString)           \
    X(PyConfig_SetArgv)             \
    X(PyConfig_SetBytesArgv)        \
    X(PyConfig_Clear)               \
    X(PyWideStringList_Append)      \
    X(PyStatus_Exception)           \
    X(PyStatus_IsExit)              \
    X(Py_InitializeFromConfig)      \
    X(Py_DecodeLocale)              \
    X(PyMem_RawFree)                \
    X(Py_RunMain)

/* These are declared in headers that need the rest. */
extern PyStatus Py_PreInitialize(const PyPreConfig *config);
extern PyStatus Py_PreInitializeFromArgs(const PyPreConfig *config, Py_ssize_t argc, wchar_t **argv);
extern PyStatus Py_PreInitializeFromBytesArgs(const PyPreConfig *config, Py_ssize_t argc, char **argv);
extern PyStatus Py_InitializeFromConfig(const PyConfig *config);
extern wchar_t *Py_DecodeLocale(const char *text, size_t *size);
extern void PyMem_RawFree(void *memory);
extern int Py_RunMain(void);

static struct {
#define DECLARE(name) __typeof__(&name) name;
    FUNCTIONS(DECLARE)
#undef DECLARE
} py;

static const char CURE[] = "Unpack or download the program again; if that does not help, report it to whoever publishes it.";

static bool find_functions(void *library, struct problem *problem)
{
    static const struct {
        const char *name;
        size_t offset;
    } table[] = {
#define ROW(name) {#name, offsetof(__typeof__(py), name)},
        FUNCTIONS(ROW)
#undef ROW
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        void *found = os_symbol(library, table[i].name);
        if (!found)
            return problem_set(problem, EXIT_INTERPRETER, CURE, "the interpreter of this program has no %s.", table[i].name);
        memcpy((char *)&py + table[i].offset, &found, sizeof found);
    }
    return true;
}

static wchar_t *wide(const char *path)
{
#ifdef _WIN32
    return os_wide(path);
#else
    return py.Py_DecodeLocale(path, NULL);
#endif
}

/* -X dev and PYTHONMALLOC give a plain interpreter another allocator than malloc's. */
static void wide_free(wchar_t *text)
{
#ifdef _WIN32
    free(text);
#else
    py.PyMem_RawFree(text);
#endif
}

/* The interpreter's own words end up in the problem. */
static bool refused(PyStatus status, struct problem *problem)
{
    if (!py.PyStatus_Exception(status))
        return false;
    problem_set(problem, EXIT_INTERPRETER, CURE, "the interpreter does not start: %s%s%s.", status.func ? status.func : "",
                status.func ? ": " : "", status.err_msg ? status.err_msg : "it gave no reason");
    return true;
}

/* -X, -E and -I of a plain interpreter say how it starts as well. */
static PyStatus preinitialize_as(const PyPreConfig *config, const struct program *program)
{
    if (!program->plain)
        return py.Py_PreInitialize(config);
#ifdef _WIN32
    return py.Py_PreInitializeFromArgs(config, program->argc, program->argv);
#else
    return py.Py_PreInitializeFromBytesArgs(config, program->argc, program->argv);
#endif
}

static bool preinitialize(const struct program *program, struct problem *problem)
{
    PyPreConfig config;
    py.PyPreConfig_InitPythonConfig(&config);
    config.parse_argv = program->plain;
    config.use_environment = program->plain;
    config.coerce_c_locale = 0;
    config.coerce_c_locale_warn = 0;
    return !refused(preinitialize_as(&config, program), problem);
}

static bool set_text(PyConfig *config, wchar_t **field, const char *path)
{
    wchar_t *text = wide(path);
    bool done = text && !py.PyStatus_Exception(py.PyConfig_SetString(config, field, text));
    wide_free(text);
    return done;
}

/* Everything that the interpreter would otherwise look for on the machine. */
static bool set_paths(PyConfig *config, const struct program *program)
{
    wchar_t **places[] = {&config->home, &config->prefix, &config->base_prefix, &config->exec_prefix,
                          &config->base_exec_prefix,
#if PY_VERSION_HEX >= 0x030b0000
                          &config->stdlib_dir,
#endif
    };
    wchar_t **executables[] = {&config->program_name, &config->executable, &config->base_executable};
    /* getpath.py would cut a home with a colon in two, where it separates prefix and exec_prefix. */
    bool divided = SEPARATOR == '/' && strchr(program->contents, ':');
    for (size_t i = divided ? 1 : 0; i < sizeof places / sizeof *places; i++)
        if (!set_text(config, places[i], program->contents))
            return false;
    for (size_t i = 0; i < sizeof executables / sizeof *executables; i++)
        if (!set_text(config, executables[i], program->self))
            return false;
    config->module_search_paths_set = 1;
    for (size_t i = 0; i < program->launch->path_count; i++) {
        char path[PATH_SIZE];
        const char *relative = program->launch->paths[i];
        if (!strcmp(relative, "."))
            strcpy(path, program->contents);
        else if (!path_join(path, program->contents, relative))
            return false;
        wchar_t *text = wide(path);
        bool done = text && !py.PyStatus_Exception(py.PyWideStringList_Append(&config->module_search_paths, text));
        wide_free(text);
        if (!done)
            return false;
    }
    return true;
}

static PyStatus set_arguments(PyConfig *config, const struct program *program)
{
#ifdef _WIN32
    return py.PyConfig_SetArgv(config, program->argc, program->argv);
#else
    return py.PyConfig_SetBytesArgv(config, program->argc, program->argv);
#endif
}

static bool set_program(PyConfig *config, const struct program *program)
{
    char path[PATH_SIZE];
    config->parse_argv = 0;
    config->use_environment = 0;
    config->site_import = 0;
    config->optimization_level = program->launch->optimize;
#if PY_VERSION_HEX >= 0x030b0000
    config->safe_path = 1;
#else
    config->isolated = 1; /* the only way to keep the folder of argv[0] out of sys.path; the rest of it is set already */
#endif
    return path_join(path, program->contents, program->launch->main) && set_text(config, &config->run_filename, path);
}

static bool configure(PyConfig *config, const struct program *program)
{
    config->user_site_directory = 0;
    config->write_bytecode = 0;
    config->pathconfig_warnings = 0;
    if (!set_paths(config, program))
        return false;
    if (!program->plain)
        return set_program(config, program);
    config->parse_argv = 1;
    return true;
}

/* Ctrl-C in the first milliseconds would be an error of whatever module is being imported, and the message that the
   interpreter does not start. It waits, and ends the process as it ends any that has not begun. */
static PyStatus start_interpreter(const PyConfig *config)
{
#ifdef _WIN32
    return py.Py_InitializeFromConfig(config);
#else
    sigset_t interrupt, before, pending;
    struct sigaction action;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    sigprocmask(SIG_BLOCK, &interrupt, &before);
    PyStatus status = py.Py_InitializeFromConfig(config);
    sigpending(&pending);
    bool came = sigismember(&pending, SIGINT) && !sigismember(&before, SIGINT);
    if (came && !sigaction(SIGINT, NULL, &action) && action.sa_handler != SIG_IGN) {
        signal(SIGINT, SIG_DFL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        _exit(128 + SIGINT); /* as the first process of a PID namespace it has no default action */
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return status;
#endif
}

/* `ended`: it has nothing to run (python --version), and `code` is its exit code. */
static bool initialize(const struct program *program, bool *ended, int *code, struct problem *problem)
{
    PyConfig config;
    py.PyConfig_InitPythonConfig(&config);
    if (!configure(&config, program))
        return problem_set(problem, EXIT_INTERPRETER, CURE, "the interpreter's configuration does not fit into memory.");
    PyStatus status = set_arguments(&config, program);
    if (!py.PyStatus_Exception(status))
        status = start_interpreter(&config);
    py.PyConfig_Clear(&config);
    *ended = py.PyStatus_IsExit(status);
    *code = *ended ? status.exitcode : 0;
    return *ended || !refused(status, problem);
}

/* The interpreter would say that it cannot open a file, and end with 2. */
static bool has_main(const struct program *program, struct problem *problem)
{
    char path[PATH_SIZE];
    return (path_join(path, program->contents, program->launch->main) && os_facts(path).kind == KIND_FILE) ||
           problem_set(problem, EXIT_INTERPRETER, CURE, "%s is not there, so there is nothing to start.", path);
}

bool python_run(const struct program *program, int *code, struct problem *problem)
{
    char path[PATH_SIZE];
    bool ended;
    if (strcmp(program->launch->python, FERRYMAN_PYTHON))
        return problem_set(problem, EXIT_INTERPRETER, CURE,
                           "the tree in %s holds Python %s, and this launcher is made for %s.", program->contents,
                           program->launch->python, FERRYMAN_PYTHON);
    if (!path_join(path, program->contents, program->launch->library))
        return problem_set(problem, EXIT_INTERPRETER, "Move it to a shorter path.", "the path of the program is too long.");
    if (!program->plain && !has_main(program, problem))
        return false;
    void *library = os_load(path, program->contents, problem);
    if (!library || !find_functions(library, problem) || !preinitialize(program, problem) ||
        !initialize(program, &ended, code, problem))
        return false;
    if (!ended)
        *code = py.Py_RunMain();
    return true;
}
