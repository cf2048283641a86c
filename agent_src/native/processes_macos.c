/* Processes from libproc and sysctl. What belongs to another user gives its name, parent and state and no more, unless the
 * caller is root. Compiled and format-checked by the project, and run by nobody there: see docs/extension.md.
 */
#ifdef __APPLE__

#include "processes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/sysctl.h>
#include <mach/mach_time.h>

/* libproc.h and sys/proc_info.h are not in every cross compiler's set of headers. What is used of them is part of the
 * system's stable interface (libproc has exported it with this layout since 10.5). */
extern int proc_listallpids(void *buffer, int size);
extern int proc_pidinfo(int pid, int flavor, uint64_t argument, void *buffer, int size);

enum { TASK_ALL_INFO = 2, SHORT_INFO = 13 };
enum { COMMAND_LIMIT = 1024 * 1024 };

typedef struct {
    uint32_t flags, status, exit_status, pid, ppid;
    uint32_t uid, gid, real_uid, real_gid, saved_uid, saved_gid, reserved;
    char command[16];
    char name[32];
    uint32_t files, group, job_control, terminal, foreground;
    int32_t nice;
    uint64_t started_seconds, started_microseconds;
} bsd_info;

typedef struct {
    uint64_t virtual_size, resident_size;
    uint64_t user_time, system_time; /* in units of mach_absolute_time */
    uint64_t threads_user, threads_system;
    int32_t policy, faults, pageins, copies, sent, received, mach_calls, unix_calls, switches, threads, running, priority;
} task_info;

typedef struct {
    bsd_info bsd;
    task_info task;
} all_info;

typedef struct {
    uint32_t pid, ppid, group, status;
    char command[16];
    uint32_t flags, uid, gid, real_uid, real_gid, saved_uid, saved_gid, reserved;
} short_info;

_Static_assert(sizeof(bsd_info) == 136, "struct proc_bsdinfo");
_Static_assert(sizeof(task_info) == 96, "struct proc_taskinfo");
_Static_assert(sizeof(short_info) == 64, "struct proc_bsdshortinfo");

typedef struct {
    double seconds_a_tick;
    int want_command;
    char *scratch; /* of COMMAND_LIMIT bytes, for arguments */
} reader;

static char
letter(uint32_t status)
{
    static const char letters[] = "?IRSTZ"; /* SIDL 1, SRUN 2, SSLEEP 3, SSTOP 4, SZOMB 5 */
    return letters[status < sizeof letters - 1 ? status : 0];
}

static int
add_text(collection *into, const char *text, size_t size, size_t *at)
{
    char *room = collection_text(into, size);
    if (room == NULL) {
        return ENOMEM;
    }
    memcpy(room, text, size);
    *at = into->text_size;
    into->text_size += size;
    return 0;
}

/* KERN_PROCARGS2: the number of arguments, the path of the program, NULs up to a boundary, the arguments. */
static int
add_command(collection *into, process_record *record, const reader *how)
{
    int name[] = {CTL_KERN, KERN_PROCARGS2, (int)record->pid};
    size_t size = COMMAND_LIMIT;
    if (sysctl(name, 3, how->scratch, &size, NULL, 0) != 0 || size < sizeof(int)) {
        return 0;
    }
    int count;
    memcpy(&count, how->scratch, sizeof count);
    const char *at = how->scratch + sizeof count, *limit = how->scratch + size;
    while (at < limit && *at != 0) {
        at++;
    }
    while (at < limit && *at == 0) {
        at++;
    }
    const char *end = at;
    for (; count > 0 && end < limit; count--) {
        const char *nul = memchr(end, 0, (size_t)(limit - end));
        end = nul ? nul + 1 : limit;
    }
    record->command_size = (size_t)(end - at);
    record->has |= HAS_COMMAND;
    return add_text(into, at, record->command_size, &record->command_at);
}

static void
take_all(process_record *record, const all_info *info, const reader *how)
{
    record->ppid = info->bsd.ppid;
    record->state = letter(info->bsd.status);
    record->user_seconds = (double)info->task.user_time * how->seconds_a_tick;
    record->system_seconds = (double)info->task.system_time * how->seconds_a_tick;
    record->rss_bytes = info->task.resident_size;
    record->started = (double)info->bsd.started_seconds + (double)info->bsd.started_microseconds / 1e6;
    record->has = HAS_CPU | HAS_RSS | HAS_STARTED;
}

static int
add_process(collection *into, int pid, const reader *how)
{
    all_info all;
    short_info brief;
    process_record record = {.pid = pid};
    const char *name;
    size_t room;
    if (proc_pidinfo(pid, TASK_ALL_INFO, 0, &all, sizeof all) == (int)sizeof all) {
        take_all(&record, &all, how);
        name = all.bsd.name[0] ? all.bsd.name : all.bsd.command;
        room = all.bsd.name[0] ? sizeof all.bsd.name : sizeof all.bsd.command;
    }
    else if (proc_pidinfo(pid, SHORT_INFO, 0, &brief, sizeof brief) == (int)sizeof brief) {
        record.ppid = brief.ppid;
        record.state = letter(brief.status);
        name = brief.command;
        room = sizeof brief.command;
    }
    else {
        return 0; /* it has ended */
    }
    record.name_size = strnlen(name, room);
    int error = add_text(into, name, record.name_size, &record.name_at);
    if (error == 0 && how->want_command) {
        error = add_command(into, &record, how);
    }
    process_record *kept = error ? NULL : collection_add(into);
    if (kept != NULL) {
        *kept = record;
    }
    return error ? error : kept ? 0 : ENOMEM;
}

/* Numbers of all processes in a block that the caller frees; there may be more by the time they are asked for. */
static int *
all_pids(int *count, int *error)
{
    int room = proc_listallpids(NULL, 0);
    if (room <= 0) {
        *error = room < 0 ? errno : ENOENT;
        return NULL;
    }
    room += 256;
    int *pids = malloc((size_t)room * sizeof *pids);
    *count = pids ? proc_listallpids(pids, room * (int)sizeof *pids) : 0;
    *error = pids == NULL ? ENOMEM : *count <= 0 ? errno : 0;
    return pids;
}

int
collect_processes(collection *into, const char *root, int want_command)
{
    (void)root;
    mach_timebase_info_data_t base = {1, 1};
    mach_timebase_info(&base);
    reader how = {
        .seconds_a_tick = (double)base.numer / (double)base.denom / 1e9,
        .want_command = want_command,
        .scratch = want_command ? malloc(COMMAND_LIMIT) : NULL,
    };
    int count = 0, error = 0;
    int *pids = want_command && how.scratch == NULL ? NULL : all_pids(&count, &error);
    error = pids == NULL && error == 0 ? ENOMEM : error;
    for (int index = 0; error == 0 && index < count; index++) {
        error = add_process(into, pids[index], &how);
    }
    free(pids);
    free(how.scratch);
    return error;
}

#endif
