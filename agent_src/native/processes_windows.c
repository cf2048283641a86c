/* Processes from NtQuerySystemInformation: everything but the command line in one call, for all users' processes and
 * without opening any of them. The structures are declared here as winternl.h leaves half of their fields unnamed; their
 * layout has been the same since Windows NT 4 (Nebbett, "Windows NT/2000 Native API Reference") and Wine's is equal.
 *
 * The command line is asked for process by process and cut into arguments as the C runtime does it; of a process that may
 * not be opened it stays unknown.
 */
#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00
#endif
#include "processes.h"

#include <stdlib.h>
#include <string.h>
#include <windows.h>

enum { SYSTEM_PROCESSES = 5, PROCESS_COMMAND_LINE = 60, THREAD_RUNNING = 2, THREAD_WAITING = 5, WAITS_SUSPENDED = 5 };

#define STATUS_TOO_SMALL ((LONG)0xC0000004) /* STATUS_INFO_LENGTH_MISMATCH */
#define EPOCH_1601 116444736000000000LL     /* from 1601 to 1970, in units of 100 ns */
#define TICKS_A_SECOND 1e7

typedef struct {
    USHORT size, room; /* bytes */
    WCHAR *text;
} counted_text;

typedef struct {
    LARGE_INTEGER kernel_time, user_time, create_time;
    ULONG wait_time;
    void *start_address;
    HANDLE process, thread;
    LONG priority, base_priority;
    ULONG context_switches, state, wait_reason;
} thread_entry;

typedef struct {
    ULONG next;    /* bytes to the next entry; 0: the last */
    ULONG threads; /* entries behind this one */
    LARGE_INTEGER reserved[3];
    LARGE_INTEGER create_time, user_time, kernel_time;
    counted_text image;
    LONG base_priority;
    HANDLE pid, parent;
    ULONG handles, session;
    ULONG_PTR page_directory;
    SIZE_T peak_virtual, virtual_size;
    ULONG page_faults;
    SIZE_T peak_working_set, working_set;
    SIZE_T quotas[4];
    SIZE_T pagefile, peak_pagefile, private_pages;
    LARGE_INTEGER io[6];
} process_entry;

typedef LONG(WINAPI *query_system)(ULONG what, void *into, ULONG size, ULONG *needed);
typedef LONG(WINAPI *query_process)(HANDLE process, ULONG what, void *into, ULONG size, ULONG *needed);

typedef struct {
    query_system system;
    query_process process;
    int want_command;
} reader;

/* All entries in one block that the caller frees; NULL with the error set. The table grows while it is asked for, so each
 * try has room for more than was needed. */
static process_entry *
read_entries(const reader *how, int *error)
{
    ULONG room = 256 * 1024, needed = 0;
    for (int attempt = 0; attempt < 16; attempt++) {
        void *block = malloc(room);
        if (block == NULL) {
            *error = ERROR_NOT_ENOUGH_MEMORY;
            return NULL;
        }
        LONG status = how->system(SYSTEM_PROCESSES, block, room, &needed);
        if (status >= 0) {
            return block;
        }
        free(block);
        if (status != STATUS_TOO_SMALL) {
            *error = ERROR_GEN_FAILURE;
            return NULL;
        }
        room = (needed > room ? needed : room) + 64 * 1024;
    }
    *error = ERROR_MORE_DATA;
    return NULL;
}

/* As ps(1) would say it: R when a thread runs, T when all are suspended, else S. */
static char
state_of(const process_entry *entry)
{
    const thread_entry *thread = (const thread_entry *)(const void *)(entry + 1);
    ULONG suspended = 0;
    for (ULONG index = 0; index < entry->threads; index++, thread++) {
        if (thread->state == THREAD_RUNNING) {
            return 'R';
        }
        suspended += thread->state == THREAD_WAITING && thread->wait_reason == WAITS_SUSPENDED;
    }
    return entry->threads > 0 && suspended == entry->threads ? 'T' : 'S';
}

static int
add_text(collection *into, const WCHAR *text, size_t units, size_t *at, size_t *size)
{
    /* Room for a NUL more than is asked for: an argument that ends the line is ended as well. */
    char *room = collection_text(into, (units + 1) * sizeof(WCHAR));
    if (room == NULL) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    memcpy(room, text, units * sizeof(WCHAR));
    *at = into->text_size;
    *size = units * sizeof(WCHAR);
    into->text_size += *size;
    return 0;
}

static int
is_blank(WCHAR one)
{
    return one == L' ' || one == L'\t';
}

/* The program's name: up to the next quote when it begins with one, else up to a blank. Backslashes mean nothing here. */
static const WCHAR *
take_program(const WCHAR *from, const WCHAR *limit, WCHAR **out)
{
    int quoted = 0;
    for (; from < limit && (quoted || !is_blank(*from)); from++) {
        if (*from == L'"') {
            quoted = !quoted;
        }
        else {
            *(*out)++ = *from;
        }
    }
    return from;
}

/* Any other argument, by the rules of the C runtime: 2n backslashes before a quote are n and the quote counts, 2n+1 are n
 * and a plain quote; within quotes, two of them are one. */
static const WCHAR *
take_argument(const WCHAR *from, const WCHAR *limit, WCHAR **out)
{
    int quoted = 0;
    while (from < limit && (quoted || !is_blank(*from))) {
        size_t slashes = 0;
        while (from < limit && *from == L'\\') {
            slashes++;
            from++;
        }
        int at_quote = from < limit && *from == L'"';
        for (size_t keep = at_quote ? slashes / 2 : slashes; keep > 0; keep--) {
            *(*out)++ = L'\\';
        }
        if (!at_quote) {
            if (slashes == 0) {
                *(*out)++ = *from++;
            }
            continue;
        }
        from++;
        if (slashes % 2) {
            *(*out)++ = L'"';
        }
        else if (quoted && from < limit && *from == L'"') {
            *(*out)++ = L'"';
            from++;
        }
        else {
            quoted = !quoted;
        }
    }
    return from;
}

/* Arguments, each ended by NUL, never take more room than the line and one NUL: blanks become NULs, quotes vanish. */
static int
add_arguments(collection *into, const counted_text *line, process_record *record)
{
    size_t units = line->size / sizeof(WCHAR);
    char *room = collection_text(into, (units + 1) * sizeof(WCHAR));
    if (room == NULL) {
        return ERROR_NOT_ENOUGH_MEMORY;
    }
    WCHAR *out = (WCHAR *)(void *)room;
    const WCHAR *from = line->text, *limit = line->text + units;
    for (int first = 1; units > 0 && (first || from < limit); first = 0) {
        from = first ? take_program(from, limit, &out) : take_argument(from, limit, &out);
        *out++ = 0;
        while (from < limit && is_blank(*from)) {
            from++;
        }
    }
    record->command_at = into->text_size;
    record->command_size = (size_t)((char *)out - room);
    record->has |= HAS_COMMAND;
    into->text_size += record->command_size;
    return 0;
}

/* The line as the system tells it: a counted text in a block that the caller frees. NULL: it does not. */
static counted_text *
told_line(HANDLE process, const reader *how)
{
    ULONG size = 0;
    how->process(process, PROCESS_COMMAND_LINE, NULL, 0, &size);
    counted_text *line = size ? malloc(size) : NULL;
    if (line != NULL && how->process(process, PROCESS_COMMAND_LINE, line, size, &size) < 0) {
        free(line);
        line = NULL;
    }
    return line;
}

static int
peek(HANDLE process, const char *address, void *into, SIZE_T size)
{
    SIZE_T got = 0;
    return ReadProcessMemory(process, address, into, size, &got) && got == size;
}

/* The same out of the process's own memory, where the system does not tell: Windows before 8.1, and Wine 8. */
static counted_text *
peeked_line(HANDLE process, const reader *how)
{
    enum { WIDE = sizeof(void *) == 8, AT_PARAMETERS = WIDE ? 0x20 : 0x10, AT_LINE = WIDE ? 0x70 : 0x40 }; /* PEB, its parameters */
    struct {
        LONG_PTR status;
        const char *environment; /* the PEB */
        ULONG_PTR rest[4];
    } basic;
    const char *parameters;
    counted_text there;
    if (how->process(process, 0, &basic, sizeof basic, NULL) < 0 || basic.environment == NULL
        || !peek(process, basic.environment + AT_PARAMETERS, &parameters, sizeof parameters)
        || !peek(process, parameters + AT_LINE, &there, sizeof there)) {
        return NULL;
    }
    counted_text *line = malloc(sizeof *line + there.size);
    if (line != NULL) {
        line->size = there.size;
        line->text = (WCHAR *)(void *)(line + 1);
        if (!peek(process, (const char *)there.text, line->text, there.size)) {
            free(line);
            line = NULL;
        }
    }
    return line;
}

static int
add_command(collection *into, process_record *record, const reader *how)
{
    HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)record->pid);
    counted_text *line = process ? told_line(process, how) : NULL;
    if (process != NULL && line == NULL) {
        CloseHandle(process);
        process = OpenProcess(PROCESS_QUERY_INFORMATION | PROCESS_VM_READ, FALSE, (DWORD)record->pid);
        line = process ? peeked_line(process, how) : NULL;
    }
    int error = line ? add_arguments(into, line, record) : 0;
    free(line);
    if (process != NULL) {
        CloseHandle(process);
    }
    return error;
}

static int
add_process(collection *into, const process_entry *entry, const reader *how)
{
    static const WCHAR idle[] = L"System Idle Process"; /* pid 0 has no image */
    process_record record = {
        .pid = (int64_t)(ULONG_PTR)entry->pid,
        .ppid = (int64_t)(ULONG_PTR)entry->parent,
        .user_seconds = (double)entry->user_time.QuadPart / TICKS_A_SECOND,
        .system_seconds = (double)entry->kernel_time.QuadPart / TICKS_A_SECOND,
        .started = (double)(entry->create_time.QuadPart - EPOCH_1601) / TICKS_A_SECOND,
        .rss_bytes = entry->working_set,
        .state = state_of(entry),
        .has = HAS_CPU | HAS_RSS | (entry->create_time.QuadPart > 0 ? HAS_STARTED : 0),
    };
    int nameless = entry->image.text == NULL || entry->image.size == 0;
    const WCHAR *name = nameless && record.pid == 0 ? idle : entry->image.text;
    size_t units = !nameless ? entry->image.size / sizeof(WCHAR) : name == idle ? sizeof idle / sizeof *idle - 1 : 0;
    int error = units ? add_text(into, name, units, &record.name_at, &record.name_size) : 0;
    if (error == 0 && how->want_command && record.pid != 0) {
        error = add_command(into, &record, how);
    }
    process_record *kept = error ? NULL : collection_add(into);
    if (kept != NULL) {
        *kept = record;
    }
    return error ? error : kept ? 0 : ERROR_NOT_ENOUGH_MEMORY;
}

int
collect_processes(collection *into, const char *root, int want_command)
{
    (void)root;
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    reader how = {
        .system = (query_system)(void *)GetProcAddress(ntdll, "NtQuerySystemInformation"),
        .process = (query_process)(void *)GetProcAddress(ntdll, "NtQueryInformationProcess"),
        .want_command = want_command,
    };
    if (how.system == NULL || how.process == NULL) {
        return ERROR_PROC_NOT_FOUND;
    }
    int error = 0;
    process_entry *entries = read_entries(&how, &error), *entry = entries;
    while (error == 0 && entry != NULL) {
        error = add_process(into, entry, &how);
        entry = entry->next ? (process_entry *)(void *)((char *)entry + entry->next) : NULL;
    }
    free(entries);
    return error;
}

#endif
