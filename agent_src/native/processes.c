/* processes(): records of the platform's collector become struct sequences, in the order of their pids. */

#include "native.h"
#include "processes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 512, FIRST_TEXT = 64 * 1024 };

const char processes_doc[] =
    "processes(proc='/proc', command=True)\n--\n\n"
    "Every process of this machine that could be read, in the order of pids, as a list of Process.";

static PyStructSequence_Field fields[] = {
    {"pid", "number of the process"},
    {"ppid", "number of its parent"},
    {"state", "one letter as in ps(1): R S D Z T t I X"},
    {"user_seconds", "processor time in its own code, or None"},
    {"system_seconds", "processor time in the kernel, or None"},
    {"rss_bytes", "resident memory, or None"},
    {"started", "start in seconds since the epoch, or None"},
    {"name", "what the system calls it"},
    {"command", "arguments with which it was started, or None"},
    {NULL, NULL},
};

PyStructSequence_Desc process_description = {
    .name = "watchkeeper._native.Process",
    .doc = "One process, as processes() saw it.",
    .fields = fields,
    .n_in_sequence = 9,
};

process_record *
collection_add(collection *into)
{
    if (into->count == into->room) {
        size_t room = into->room ? into->room * 2 : FIRST_ROOM;
        process_record *records = realloc(into->records, room * sizeof *records);
        if (records == NULL) {
            return NULL;
        }
        into->records = records;
        into->room = room;
    }
    process_record *record = &into->records[into->count++];
    memset(record, 0, sizeof *record);
    return record;
}

char *
collection_text(collection *into, size_t bytes)
{
    if (into->text == NULL || into->text_room - into->text_size < bytes) { /* also for no bytes: NULL means no memory */
        size_t room = into->text_room ? into->text_room : FIRST_TEXT;
        while (room - into->text_size < bytes) {
            room *= 2;
        }
        char *text = realloc(into->text, room);
        if (text == NULL) {
            return NULL;
        }
        into->text = text;
        into->text_room = room;
    }
    return into->text + into->text_size;
}

static int
by_pid(const void *left, const void *right)
{
    int64_t a = ((const process_record *)left)->pid, b = ((const process_record *)right)->pid;
    return (a > b) - (a < b);
}

#ifdef _WIN32
typedef wchar_t unit;
#else
typedef char unit;
#endif

static PyObject *
decoded(const unit *text, size_t units)
{
#ifdef _WIN32
    return PyUnicode_FromWideChar(text, (Py_ssize_t)units);
#else
    return PyUnicode_DecodeFSDefaultAndSize(text, (Py_ssize_t)units);
#endif
}

/* How many arguments there are: one for each NUL, and one for what follows the last of them. */
static Py_ssize_t
count_arguments(const unit *text, size_t units)
{
    Py_ssize_t count = 0;
    for (size_t at = 0; at < units; at++) {
        count += text[at] == 0;
    }
    return count + (units > 0 && text[units - 1] != 0);
}

static PyObject *
command_tuple(const char *bytes, size_t size)
{
    const unit *text = (const unit *)(const void *)bytes;
    size_t units = size / sizeof(unit);
    Py_ssize_t count = count_arguments(text, units);
    PyObject *answer = PyTuple_New(count);
    for (Py_ssize_t index = 0; answer != NULL && index < count; index++) {
        size_t length = 0;
        while (length < units && text[length] != 0) {
            length++;
        }
        PyObject *argument = decoded(text, length);
        if (argument == NULL || PyTuple_SetItem(answer, index, argument) < 0) {
            Py_CLEAR(answer);
            break;
        }
        size_t used = length < units ? length + 1 : length;
        text += used;
        units -= used;
    }
    return answer;
}

static PyObject *
none(void)
{
    return Py_NewRef(Py_None);
}

static PyObject *
process_object(module_state *state, const collection *all, const process_record *record)
{
    PyObject *process = PyStructSequence_New(state->process_type);
    if (process == NULL) {
        return NULL;
    }
    int has = record->has;
    PyObject *values[] = {
        PyLong_FromLongLong(record->pid),
        PyLong_FromLongLong(record->ppid),
        PyUnicode_FromStringAndSize(&record->state, 1),
        has & HAS_CPU ? PyFloat_FromDouble(record->user_seconds) : none(),
        has & HAS_CPU ? PyFloat_FromDouble(record->system_seconds) : none(),
        has & HAS_RSS ? PyLong_FromUnsignedLongLong(record->rss_bytes) : none(),
        has & HAS_STARTED ? PyFloat_FromDouble(record->started) : none(),
        decoded((const unit *)(const void *)(all->text + record->name_at), record->name_size / sizeof(unit)),
        has & HAS_COMMAND ? command_tuple(all->text + record->command_at, record->command_size) : none(),
    };
    int complete = 1;
    for (size_t index = 0; index < sizeof values / sizeof *values; index++) {
        complete = complete && values[index] != NULL;
        PyStructSequence_SetItem(process, (Py_ssize_t)index, values[index]); /* takes the reference, NULL or not */
    }
    if (!complete) {
        Py_DECREF(process);
        return NULL;
    }
    return process;
}

static PyObject *
process_list(module_state *state, const collection *all)
{
    PyObject *answer = PyList_New((Py_ssize_t)all->count);
    for (size_t index = 0; answer != NULL && index < all->count; index++) {
        PyObject *process = process_object(state, all, &all->records[index]);
        if (process == NULL || PyList_SetItem(answer, (Py_ssize_t)index, process) < 0) {
            Py_CLEAR(answer);
        }
    }
    return answer;
}

static PyObject *
failure(int error, PyObject *root)
{
#ifdef _WIN32
    (void)root;
    return PyErr_SetFromWindowsErr(error);
#else
    errno = error;
    return error == ENOMEM ? PyErr_NoMemory() : PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, root);
#endif
}

PyObject *
processes(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"proc", "command", NULL};
    PyObject *root = NULL;
    int want_command = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O&p:processes", names, PyUnicode_FSConverter, &root,
                                     &want_command)) {
        Py_XDECREF(root);
        return NULL;
    }
    collection all = {0};
    const char *path = root ? PyBytes_AsString(root) : "/proc";
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = collect_processes(&all, path, want_command);
    if (error == 0 && all.count > 1) {
        qsort(all.records, all.count, sizeof *all.records, by_pid);
    }
    Py_END_ALLOW_THREADS
    PyObject *answer = error ? failure(error, root) : process_list(PyModule_GetState(module), &all);
    free(all.records);
    free(all.text);
    Py_XDECREF(root);
    return answer;
}
