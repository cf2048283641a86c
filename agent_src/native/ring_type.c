/* Ring: the log ring as a Python type. The GIL is released wherever a thread may wait or write; ring.h says why that
 * includes every wait for the mutex.
 *
 * An object belongs to one process and one interpreter; its descriptor is the caller's to keep open and to close.
 */

#include "native.h"
#include "ring.h"

#include <stddef.h>
#include <string.h>

enum { LEAST_CAPACITY = 64, MOST_CAPACITY = 1 << 30, SIGNAL_SLICE = 100 };
#define MOST_SECONDS 86400.0

typedef struct {
    PyObject_HEAD
    ring ring;
    int made;
} ring_object;

static const struct {
    const char *name;
    size_t at;
} count_fields[] = {
#define FIELD(name) {#name, offsetof(ring_counts, name)}
    FIELD(appended), FIELD(written),   FIELD(lost),   FIELD(dropped_oldest), FIELD(dropped_newest), FIELD(too_long),
    FIELD(queued),   FIELD(bytes),     FIELD(writes), FIELD(partial),        FIELD(interrupted),    FIELD(busy),
    FIELD(errors),   FIELD(last_error), FIELD(waits), FIELD(most_bytes),     FIELD(notices),
#undef FIELD
};

/* -- arguments -- */

static int
policy_of(const char *name, ring_policy *policy)
{
    static const char *const names[] = {"block", "drop-newest", "drop-oldest"};
    for (int index = 0; index < 3; index++) {
        if (strcmp(name, names[index]) == 0) {
            *policy = (ring_policy)index;
            return 1;
        }
    }
    PyErr_Format(PyExc_ValueError, "policy is block, drop-newest or drop-oldest, and not '%s'", name);
    return 0;
}

static int
span_of(const char *name, double seconds, int64_t *milliseconds)
{
    if (!(seconds >= 0 && seconds <= MOST_SECONDS)) {
        PyErr_Format(PyExc_ValueError, "%s is a number of seconds from 0 to %d", name, (int)MOST_SECONDS);
        return 0;
    }
    *milliseconds = (int64_t)(seconds * 1000);
    return 1;
}

/* The moment by which something has to be done: None is never. */
static int
deadline_of(PyObject *timeout, int64_t *deadline)
{
    *deadline = INT64_MAX;
    if (timeout == NULL || timeout == Py_None) {
        return 1;
    }
    double seconds = PyFloat_AsDouble(timeout);
    int64_t span;
    if ((seconds == -1.0 && PyErr_Occurred()) || !span_of("timeout", seconds, &span)) {
        return 0;
    }
    *deadline = wk_now() + span;
    return 1;
}

/* What output.c writes to. The C runtime's table of descriptors is asked through Python, whose runtime it is. */
static int
target_of(int descriptor, output_target *target)
{
#ifdef _WIN32
    PyObject *module = PyImport_ImportModule("msvcrt");
    PyObject *handle = module ? PyObject_CallMethod(module, "get_osfhandle", "i", descriptor) : NULL;
    Py_XDECREF(module);
    *target = handle ? (output_target)PyLong_AsSsize_t(handle) : -1;
    Py_XDECREF(handle);
    return handle != NULL && !PyErr_Occurred();
#else
    *target = descriptor;
    if (descriptor < 0) {
        PyErr_SetString(PyExc_ValueError, "a descriptor is not negative");
    }
    return descriptor >= 0;
#endif
}

/* A line break is added where the pattern has none at its end. */
static int
set_notice(ring *target, const char *pattern, Py_ssize_t size)
{
    char ended[MOST_NOTICE + 1];
    size_t whole = (size_t)size;
    if (whole < sizeof ended && whole > 0) {
        memcpy(ended, pattern, whole);
        if (ended[whole - 1] != '\n') {
            ended[whole++] = '\n';
        }
    }
    if (memchr(pattern, 0, (size_t)size) != NULL || !ring_set_notice(target, ended, whole)) {
        PyErr_Format(PyExc_ValueError, "notice is at most %d bytes with its line break, and none of them is 0", MOST_NOTICE);
        return 0;
    }
    return 1;
}

/* -- life -- */

static PyObject *
ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "capacity", "policy", "linger", "block_seconds", "hold", "notice", NULL};
    int descriptor, hold = 0;
    Py_ssize_t capacity = 1 << 20;
    const char *policy_name = "block", *notice = "";
    Py_ssize_t notice_size = 0;
    double linger = 0.01, block = 1.0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|nsddpy#:Ring", names, &descriptor, &capacity, &policy_name, &linger,
                                     &block, &hold, &notice, &notice_size)) {
        return NULL;
    }
    ring_policy policy;
    int64_t linger_ms, block_ms;
    output_target target;
    if (!policy_of(policy_name, &policy) || !span_of("linger", linger, &linger_ms)
        || !span_of("block_seconds", block, &block_ms)) {
        return NULL;
    }
    if (capacity < LEAST_CAPACITY || capacity > MOST_CAPACITY) {
        return PyErr_Format(PyExc_ValueError, "capacity is %d to %d bytes", LEAST_CAPACITY, MOST_CAPACITY);
    }
    if (!target_of(descriptor, &target)) {
        return NULL;
    }
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    ring_object *self = (ring_object *)alloc(type, 0);
    if (self != NULL) {
        self->made = ring_init(&self->ring, target, policy, (size_t)capacity, linger_ms, block_ms, hold);
    }
    if (self != NULL && !self->made) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    if (self != NULL && !set_notice(&self->ring, notice, notice_size)) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

/* A thread in run() holds a reference, so nobody uses the ring any more. Its descriptor may be another file's by now:
 * what was not flushed is not written here. */
static void
ring_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    ring_object *self = (ring_object *)object;
    if (self->made) {
        ring_free(&self->ring);
    }
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

/* -- methods -- */

static PyObject *
write_line(ring *target, const char *line, size_t size)
{
    int through;
    ring_answer answer;
    int quick = ring_try_append(target, line, size, &through, &answer);
    if (!quick || answer == RING_WAIT || through) {
        Py_BEGIN_ALLOW_THREADS
        if (!quick) {
            answer = ring_append(target, line, size, &through);
        }
        if (answer == RING_WAIT) {
            answer = ring_append_waiting(target, line, size, &through);
        }
        if (through) {
            ring_drain(target, wk_now() + target->block);
        }
        Py_END_ALLOW_THREADS
    }
    return PyBool_FromLong(answer == RING_TAKEN);
}

static PyObject *
write_text(ring *target, PyObject *text)
{
    Py_ssize_t size;
    const char *line = PyUnicode_AsUTF8AndSize(text, &size);
    if (line != NULL) {
        return write_line(target, line, (size_t)size);
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return NULL;
    }
    PyErr_Clear();
    /* Half of a surrogate pair has no UTF-8: it is written as an escape. */
    PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace");
    char *start;
    PyObject *answer = NULL;
    if (bytes != NULL && PyBytes_AsStringAndSize(bytes, &start, &size) == 0) {
        answer = write_line(target, start, (size_t)size);
    }
    Py_XDECREF(bytes);
    return answer;
}

static PyObject *
ring_write(PyObject *self, PyObject *line)
{
    ring *target = &((ring_object *)self)->ring;
    if (PyUnicode_Check(line)) {
        return write_text(target, line);
    }
    char *start;
    Py_ssize_t size;
    if (!PyBytes_Check(line)) {
        return PyErr_Format(PyExc_TypeError, "a line is bytes or str");
    }
    return PyBytes_AsStringAndSize(line, &start, &size) < 0 ? NULL : write_line(target, start, (size_t)size);
}

static PyObject *
ring_run_method(PyObject *self, PyObject *Py_UNUSED(none))
{
    int ran;
    Py_BEGIN_ALLOW_THREADS
    ran = ring_run(&((ring_object *)self)->ring);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(ran);
}

/* In slices, so that ^C is heard. */
static PyObject *
ring_flush(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:flush", names, &timeout) || !deadline_of(timeout, &deadline)) {
        return NULL;
    }
    ring *target = &((ring_object *)self)->ring;
    uint64_t mark;
    Py_BEGIN_ALLOW_THREADS
    mark = ring_mark(target);
    Py_END_ALLOW_THREADS
    for (;;) {
        int64_t slice = wk_now() + SIGNAL_SLICE;
        int done;
        Py_BEGIN_ALLOW_THREADS
        done = ring_flushed(target, mark, slice < deadline ? slice : deadline);
        Py_END_ALLOW_THREADS
        if (done || wk_now() >= deadline) {
            return PyBool_FromLong(done);
        }
        if (PyErr_CheckSignals() < 0) {
            return NULL;
        }
    }
}

static PyObject *
ring_close_method(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"timeout", NULL};
    PyObject *timeout = NULL;
    int64_t deadline;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:close", names, &timeout) || !deadline_of(timeout, &deadline)) {
        return NULL;
    }
    int complete;
    Py_BEGIN_ALLOW_THREADS
    complete = ring_close(&((ring_object *)self)->ring, deadline);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(complete);
}

static PyObject *
ring_stats(PyObject *self, PyObject *Py_UNUSED(none))
{
    ring_counts counts;
    Py_BEGIN_ALLOW_THREADS
    ring_read_counts(&((ring_object *)self)->ring, &counts);
    Py_END_ALLOW_THREADS
    PyObject *answer = PyDict_New();
    for (size_t index = 0; answer != NULL && index < sizeof count_fields / sizeof *count_fields; index++) {
        uint64_t value;
        memcpy(&value, (const char *)&counts + count_fields[index].at, sizeof value);
        PyObject *number = PyLong_FromUnsignedLongLong(value);
        if (number == NULL || PyDict_SetItemString(answer, count_fields[index].name, number) < 0) {
            Py_CLEAR(answer);
        }
        Py_XDECREF(number);
    }
    return answer;
}

static PyObject *
ring_is_running(PyObject *self, void *Py_UNUSED(closure))
{
    ring *target = &((ring_object *)self)->ring;
    int running;
    Py_BEGIN_ALLOW_THREADS
    wk_lock(&target->mutex);
    running = target->running;
    wk_unlock(&target->mutex);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(running);
}

#define FORK_METHOD(name)                                                     \
    static PyObject *name##_method(PyObject *self, PyObject *Py_UNUSED(none)) \
    {                                                                         \
        Py_BEGIN_ALLOW_THREADS                                                \
        name(&((ring_object *)self)->ring);                                   \
        Py_END_ALLOW_THREADS                                                  \
        Py_RETURN_NONE;                                                       \
    }

FORK_METHOD(ring_before_fork)
FORK_METHOD(ring_after_fork_in_parent)
FORK_METHOD(ring_after_fork_in_child)

static PyMethodDef methods[] = {
    {"write", ring_write, METH_O, "write(line, /)\n--\n\nAppend a line (bytes or str); whether it was taken."},
    {"run", ring_run_method, METH_NOARGS,
     "run()\n--\n\nBe the drainer in this thread until close(); False: another thread is."},
    {"flush", (PyCFunction)(void *)ring_flush, METH_VARARGS | METH_KEYWORDS,
     "flush(timeout=None)\n--\n\nWait until every line so far is out; whether that was so in time."},
    {"close", (PyCFunction)(void *)ring_close_method, METH_VARARGS | METH_KEYWORDS,
     "close(timeout=None)\n--\n\nTake no more lines and write the rest; whether all of it was written in time."},
    {"stats", ring_stats, METH_NOARGS, "stats()\n--\n\nCounts since the ring was made."},
    {"_before_fork", ring_before_fork_method, METH_NOARGS, NULL},
    {"_after_fork_in_parent", ring_after_fork_in_parent_method, METH_NOARGS, NULL},
    {"_after_fork_in_child", ring_after_fork_in_child_method, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
    {"running", ring_is_running, NULL, "whether a thread is in run()", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Ring(fd, capacity=1048576, policy='block', linger=0.01, block_seconds=1.0, hold=False, "
                "notice=b'')\n--\n\n"
                "A bounded buffer of lines in front of a descriptor."},
    {Py_tp_new, (void *)ring_new},
    {Py_tp_dealloc, (void *)ring_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, attributes},
    {0, NULL},
};

PyType_Spec ring_spec = {
    .name = "watchkeeper._native.Ring",
    .basicsize = sizeof(ring_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
