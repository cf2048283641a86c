/* Processes from /proc (proc_pid_stat(5), proc_pid_cmdline(5)).
 *
 * Nearly all of the time is the kernel's, so a long list is shared among a few threads, which live as long as the pass.
 * Three system calls for `stat` and three for `cmdline` of each process, all relative to one descriptor of /proc. Resident
 * memory is field 24 of stat: it needs no statm. The twin (watchkeeper/native/proc.py) states the same rules in Python, and
 * tests hold the two together: what one of them skips, cuts or leaves empty, the other does as well.
 */
#ifdef __linux__

#define _GNU_SOURCE
#include "processes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STAT_LIMIT = 4096,           /* of <pid>/stat: more is not read */
    COMMAND_LIMIT = 1024 * 1024, /* of <pid>/cmdline */
    COMMAND_STEP = 4096,
    PATH_ROOM = 32,     /* "2147483647/cmdline" */
    MOST_WORKERS = 4,   /* threads that read, the caller among them */
    LEAST_SHARE = 96,   /* processes that are worth a thread */
    CHUNK = 16,         /* that a worker takes at a time */
    STACK = 128 * 1024, /* of a worker */
};

/* Places in <pid>/stat, counted from the state, which is field 3. */
enum { AT_PPID = 1, AT_USER = 11, AT_SYSTEM = 12, AT_STARTED = 19, AT_RSS = 21, NUMBERS = 22 };

typedef struct {
    int proc; /* descriptor of /proc */
    double ticks;
    uint64_t page_size;
    int64_t boot; /* seconds since the epoch; -1: /proc/stat does not tell */
    int want_command;
} reader;

static ssize_t
read_some(int descriptor, char *into, size_t size)
{
    ssize_t got;
    do {
        got = read(descriptor, into, size);
    } while (got < 0 && errno == EINTR);
    return got;
}

static int
open_below(int folder, const char *path)
{
    int descriptor;
    do {
        descriptor = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    } while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

/* A decimal number that fills [text, end): -1 for anything else, and for what an int64 cannot hold. */
static int64_t
number(const char *text, const char *end)
{
    uint64_t value = 0;
    if (text == end || end - text > 19) {
        return -1;
    }
    for (; text < end; text++) {
        if (*text < '0' || *text > '9') {
            return -1;
        }
        value = value * 10 + (uint64_t)(*text - '0');
    }
    return value > INT64_MAX ? -1 : (int64_t)value;
}

static int
is_space(char one)
{
    return one == ' ' || (one >= '\t' && one <= '\r');
}

/* Where the next word begins and ends; NULL when there is none. */
static const char *
next_word(const char *text, const char *limit, const char **end)
{
    while (text < limit && is_space(*text)) {
        text++;
    }
    if (text == limit) {
        return NULL;
    }
    for (*end = text; *end < limit && !is_space(**end); ++*end) {
    }
    return text;
}

/* The words behind the name: state, then numbers of which five count. Zero when one is missing or is none. */
static int
parse_numbers(const char *text, const char *limit, process_record *record, const reader *how)
{
    int64_t values[NUMBERS] = {0};
    for (int index = 0; index < NUMBERS; index++) {
        const char *end;
        text = next_word(text, limit, &end);
        if (text == NULL) {
            return 0;
        }
        if (index == 0) {
            record->state = *text;
            values[0] = end - text == 1 && *text > ' ' && *text < 127 ? 0 : -1;
        }
        else if (index == AT_PPID || index == AT_USER || index == AT_SYSTEM || index == AT_STARTED || index == AT_RSS) {
            values[index] = number(text, end);
        }
        if (values[index] < 0) {
            return 0;
        }
        text = end;
    }
    if ((uint64_t)values[AT_RSS] > INT64_MAX / how->page_size) {
        return 0;
    }
    record->ppid = values[AT_PPID];
    record->user_seconds = (double)values[AT_USER] / how->ticks;
    record->system_seconds = (double)values[AT_SYSTEM] / how->ticks;
    record->rss_bytes = (uint64_t)values[AT_RSS] * how->page_size;
    record->has = HAS_CPU | HAS_RSS;
    if (how->boot >= 0) {
        record->started = (double)how->boot + (double)values[AT_STARTED] / how->ticks;
        record->has |= HAS_STARTED;
    }
    return 1;
}

/* The name stands between the first "(" and the last ")": it may itself hold both, blanks and line breaks.
 * 1: parsed; 0: this is no stat; -1: no memory. */
static int
parse_stat(const char *data, size_t size, process_record *record, collection *into, const reader *how)
{
    const char *opening = memchr(data, '(', size), *closing = memrchr(data, ')', size);
    if (opening == NULL || closing == NULL || closing < opening
        || !parse_numbers(closing + 1, data + size, record, how)) {
        return 0;
    }
    record->name_size = (size_t)(closing - opening - 1);
    char *name = collection_text(into, record->name_size);
    if (name == NULL) {
        return -1;
    }
    memcpy(name, opening + 1, record->name_size);
    record->name_at = into->text_size;
    into->text_size += record->name_size;
    return 1;
}

/* All of cmdline up to the limit. A short read is the end: the kernel fills the buffer as long as there is more. */
static int
read_command(int descriptor, process_record *record, collection *into)
{
    size_t size = 0;
    ssize_t got;
    size_t step = COMMAND_STEP;
    do {
        char *room = collection_text(into, size + step);
        if (room == NULL) {
            return ENOMEM;
        }
        got = read_some(descriptor, room + size, step);
        if (got < 0) {
            return 0; /* it has ended, or is somebody else's: no command is known */
        }
        size += (size_t)got;
        if ((size_t)got < step) {
            break;
        }
        step = size < COMMAND_LIMIT - size ? size : COMMAND_LIMIT - size;
    } while (step > 0);
    record->command_at = into->text_size;
    record->command_size = size;
    record->has |= HAS_COMMAND;
    into->text_size += size;
    return 0;
}

/* `path` is "<pid>/" with `slash` bytes; what is read goes behind that. */
static int
add_command(char *path, size_t slash, process_record *record, collection *into, const reader *how)
{
    memcpy(path + slash, "cmdline", sizeof "cmdline");
    int descriptor = open_below(how->proc, path);
    if (descriptor < 0) {
        return 0;
    }
    int error = read_command(descriptor, record, into);
    close(descriptor);
    return error;
}

static int
add_process(int32_t pid, collection *into, const reader *how)
{
    char path[PATH_ROOM], data[STAT_LIMIT];
    size_t slash = (size_t)snprintf(path, sizeof path, "%d/", pid);
    memcpy(path + slash, "stat", sizeof "stat");
    int descriptor = open_below(how->proc, path);
    if (descriptor < 0) {
        return 0;
    }
    ssize_t size = read_some(descriptor, data, sizeof data);
    close(descriptor);
    process_record record = {.pid = pid};
    int parsed = size > 0 ? parse_stat(data, (size_t)size, &record, into, how) : 0;
    if (parsed < 0) {
        return ENOMEM;
    }
    if (parsed && how->want_command && add_command(path, slash, &record, into, how) != 0) {
        return ENOMEM;
    }
    process_record *kept = parsed ? collection_add(into) : NULL;
    if (kept != NULL) {
        *kept = record;
    }
    return parsed && kept == NULL ? ENOMEM : 0;
}

/* A folder's name as the kernel writes a pid: decimal, no leading zero, fits an int. -1: some other name. */
static int64_t
pid_of(const char *name)
{
    size_t length = strnlen(name, 11);
    int64_t value = length > 10 || name[0] == '0' ? -1 : number(name, name + length);
    return value > INT32_MAX ? -1 : value;
}

/* btime of <proc>/stat. It is whole seconds and stays the same until the clock is set, so (pid, started) names a process;
 * the clocks' difference would be finer and another one at every call. */
static int64_t
boot_time(int proc)
{
    FILE *file;
    int descriptor = open_below(proc, "stat");
    if (descriptor < 0 || (file = fdopen(descriptor, "r")) == NULL) {
        if (descriptor >= 0) {
            close(descriptor);
        }
        return -1;
    }
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    int64_t boot = -1;
    while (boot < 0 && (length = getline(&line, &room, file)) >= 0) {
        if (length > 6 && memcmp(line, "btime ", 6) == 0) {
            const char *end, *word = next_word(line + 6, line + length, &end);
            boot = word ? number(word, end) : -1;
        }
    }
    free(line);
    fclose(file);
    return boot;
}

typedef struct {
    int32_t *values;
    size_t count, room;
} pid_list;

static int
add_pid(pid_list *list, int32_t pid)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 1024;
        int32_t *values = realloc(list->values, room * sizeof *values);
        if (values == NULL) {
            return ENOMEM;
        }
        list->values = values;
        list->room = room;
    }
    list->values[list->count++] = pid;
    return 0;
}

/* A folder that cannot be read to its end is an error, as in the twin: half a list would look like a whole one. */
static int
list_pids(DIR *folder, pid_list *list)
{
    for (;;) {
        errno = 0; /* NULL is the end and also the error: only this tells them apart */
        struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            return errno;
        }
        int64_t pid = pid_of(entry->d_name);
        int error = pid > 0 ? add_pid(list, (int32_t)pid) : 0;
        if (error != 0) {
            return error;
        }
    }
}

/* What one worker has, and what all of them share. */
typedef struct {
    const reader *how;
    const pid_list *list;
    atomic_size_t *next;
    collection found;
    int error;
    pthread_t thread;
} worker;

static void *
work(void *argument)
{
    worker *self = argument;
    size_t from;
    while (self->error == 0 && (from = atomic_fetch_add(self->next, CHUNK)) < self->list->count) {
        for (size_t at = from; at < from + CHUNK && at < self->list->count && self->error == 0; at++) {
            self->error = add_process(self->list->values[at], &self->found, self->how);
        }
    }
    return NULL;
}

/* How many threads a list is worth: never more than this process may use processors. */
static int
count_workers(size_t processes)
{
    cpu_set_t allowed;
    int processors = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    int most = processors < MOST_WORKERS ? processors : MOST_WORKERS;
    size_t wanted = processes / LEAST_SHARE;
    return wanted < 1 ? 1 : wanted < (size_t)most ? (int)wanted : most;
}

/* Start workers 1 to count - 1; the answer says how many run, with the caller. Signals are no business of theirs. */
static int
start_workers(worker *workers, int count)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int started = 1;
    if (count == 1 || pthread_attr_init(&attributes) != 0) {
        return 1;
    }
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < count && pthread_create(&workers[started].thread, &attributes, work, &workers[started]) == 0) {
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

/* Take over what another worker found; its texts move, so their places do. */
static int
join_found(collection *into, const collection *found)
{
    char *text = collection_text(into, found->text_size);
    if (text == NULL) {
        return ENOMEM;
    }
    if (found->text_size > 0) {
        memcpy(text, found->text, found->text_size);
    }
    for (size_t index = 0; index < found->count; index++) {
        process_record *record = collection_add(into);
        if (record == NULL) {
            return ENOMEM;
        }
        *record = found->records[index];
        record->name_at += into->text_size;
        record->command_at += into->text_size;
    }
    into->text_size += found->text_size;
    return 0;
}

static int
read_all(collection *into, const pid_list *list, const reader *how)
{
    atomic_size_t next = 0;
    worker workers[MOST_WORKERS];
    int wanted = count_workers(list->count);
    for (int index = 0; index < wanted; index++) {
        workers[index] = (worker){.how = how, .list = list, .next = &next};
    }
    int started = start_workers(workers, wanted);
    work(&workers[0]);
    *into = workers[0].found;
    int error = workers[0].error;
    for (int index = 1; index < started; index++) {
        pthread_join(workers[index].thread, NULL);
        error = error ? error : workers[index].error ? workers[index].error : join_found(into, &workers[index].found);
        free(workers[index].found.records);
        free(workers[index].found.text);
    }
    return error;
}

int
collect_processes(collection *into, const char *root, int want_command)
{
    DIR *folder = opendir(root);
    if (folder == NULL) {
        return errno;
    }
    reader how = {
        .proc = dirfd(folder),
        .ticks = (double)sysconf(_SC_CLK_TCK),
        .page_size = (uint64_t)sysconf(_SC_PAGESIZE),
        .boot = boot_time(dirfd(folder)),
        .want_command = want_command,
    };
    pid_list list = {0};
    int error = list_pids(folder, &list);
    if (error == 0) {
        error = read_all(into, &list, &how);
    }
    free(list.values);
    closedir(folder);
    return error;
}

#endif
