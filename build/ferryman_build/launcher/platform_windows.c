/* Windows 10 and newer: the border between UTF-8 and UTF-16, the executable and its payload, time, chance, Ctrl-C and
   the interpreter's library. Files, places, rights and locks are in windows_*.c. */
#include "windows_api.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

static const wchar_t PREFIX[] = L"\\\\?\\";
static const wchar_t UNC_PREFIX[] = L"\\\\?\\UNC\\";
enum { PREFIX_LENGTH = 4, UNC_PREFIX_LENGTH = 8 };

/* ---- text ------------------------------------------------------------------------------------------------ */

bool windows_text(wchar_t *wide, size_t size, const char *text)
{
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, (int)size) > 0;
}

bool windows_wide(wchar_t wide[WIDE_SIZE], const char *path)
{
    wchar_t given[WIDE_SIZE];
    if (!windows_text(given, WIDE_SIZE, path))
        return false;
    if (wcsncmp(given, PREFIX, PREFIX_LENGTH) == 0) {
        wcscpy(wide, given);
        return true;
    }
    wchar_t *start = wide + PREFIX_LENGTH;
    DWORD room = WIDE_SIZE - UNC_PREFIX_LENGTH;
    /* With the prefix Windows takes a path literally: "/", "." and ".." must be gone before. */
    DWORD length = GetFullPathNameW(given, room, start, NULL);
    if (length == 0 || length >= room)
        return false;
    if (start[0] == L'\\' && start[1] == L'\\') {
        memmove(wide + UNC_PREFIX_LENGTH, start + 2, (length - 1) * sizeof *wide);
        wmemcpy(wide, UNC_PREFIX, UNC_PREFIX_LENGTH);
    } else {
        wmemcpy(wide, PREFIX, PREFIX_LENGTH);
    }
    return true;
}

bool windows_plain(char path[PATH_SIZE], const wchar_t *wide)
{
    size_t skipped = 0;
    char *start = path;
    if (wcsncmp(wide, UNC_PREFIX, UNC_PREFIX_LENGTH) == 0) {
        skipped = UNC_PREFIX_LENGTH;
        *start++ = '\\';
        *start++ = '\\';
    } else if (wcsncmp(wide, PREFIX, PREFIX_LENGTH) == 0 && wide[PREFIX_LENGTH + 1] == L':') {
        skipped = PREFIX_LENGTH;
    }
    int room = (int)(path + PATH_SIZE - start);
    return WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, wide + skipped, -1, start, room, NULL, NULL) > 0;
}

/* The system's words for an error, in its language, without the line break at their end. */
static void describe(DWORD error, char *text, size_t size)
{
    wchar_t wide[512];
    DWORD length = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, error, 0, wide,
                                  sizeof wide / sizeof *wide, NULL);
    while (length > 0 && (wide[length - 1] == L'\n' || wide[length - 1] == L'\r' || wide[length - 1] == L'.'))
        length--;
    int written = WideCharToMultiByte(CP_UTF8, 0, wide, (int)length, text, (int)size - 1, NULL, NULL);
    text[written > 0 ? written : 0] = 0;
}

bool windows_failed(struct problem *problem, int code, const char *what, const char *path, DWORD error)
{
    char words[1024];
    describe(error, words, sizeof words);
    const char *cure = error == ERROR_DISK_FULL || error == ERROR_HANDLE_DISK_FULL
                           ? "Make room on that drive, or set FERRYMAN_CACHE to a folder on another one."
                           : "Set FERRYMAN_CACHE to a folder that this user can write to.";
    return problem_set(problem, code, cure, "cannot %s %s: %s (Windows error %u)", what, path, words,
                       (unsigned)error);
}

/* ---- the executable itself ------------------------------------------------------------------------------- */

/* Where the executable really lies if it was started through a symbolic link: package managers make those. Only the
   file's own link counts; folders that are links work as they are, and a mapped drive keeps its letter. */
static void resolve_link(wchar_t wide[WIDE_SIZE])
{
    wchar_t target[WIDE_SIZE];
    HANDLE link = windows_open_facts(wide, 0);
    bool linked = link != INVALID_HANDLE_VALUE && windows_is_link(link);
    if (link != INVALID_HANDLE_VALUE)
        CloseHandle(link);
    if (!linked)
        return;
    HANDLE file = CreateFileW(wide, 0, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL, OPEN_EXISTING, 0,
                              NULL);
    if (file == INVALID_HANDLE_VALUE)
        return;
    DWORD length = GetFinalPathNameByHandleW(file, target, WIDE_SIZE, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
    CloseHandle(file);
    if (length > 0 && length < WIDE_SIZE)
        wcscpy(wide, target);
}

bool os_self(char path[PATH_SIZE], struct problem *problem)
{
    wchar_t wide[WIDE_SIZE];
    DWORD length = GetModuleFileNameW(NULL, wide, WIDE_SIZE);
    if (length > 0 && length < WIDE_SIZE) {
        resolve_link(wide);
        if (windows_plain(path, wide))
            return true;
    }
    return problem_set(problem, EXIT_HOST, "Put the program into a folder with a shorter name of ordinary letters.",
                       "the path of this executable is too long, or is no text");
}

/* Windows maps the payload with the rest of the image; its pages are read from the file when they are needed. */
static const IMAGE_SECTION_HEADER *find_section(const uint8_t *image)
{
    const IMAGE_DOS_HEADER *dos = (const IMAGE_DOS_HEADER *)image;
    const IMAGE_NT_HEADERS *headers = (const IMAGE_NT_HEADERS *)(image + dos->e_lfanew);
    const IMAGE_SECTION_HEADER *section = IMAGE_FIRST_SECTION(headers);
    for (unsigned left = headers->FileHeader.NumberOfSections; left > 0; left--, section++)
        if (memcmp(section->Name, ".fman\0\0", IMAGE_SIZEOF_SHORT_NAME) == 0)
            return section;
    return NULL;
}

bool os_payload(const char *self, struct section *section, struct problem *problem)
{
    const uint8_t *image = (const uint8_t *)GetModuleHandleW(NULL);
    const IMAGE_SECTION_HEADER *header = find_section(image);
    section->data = NULL;
    section->size = 0;
    if (header == NULL)
        return true;
    struct facts facts = os_facts(self);
    /* Windows refuses to start a truncated image; this is for whatever starts it all the same. */
    if ((uint64_t)header->PointerToRawData + header->SizeOfRawData > facts.size ||
        header->Misc.VirtualSize > header->SizeOfRawData)
        return problem_set(problem, EXIT_DAMAGED, "Copy or download it again.", "%s is truncated", self);
    section->data = image + header->VirtualAddress;
    section->size = header->Misc.VirtualSize;
    return true;
}

/* To unlock pages that are not locked takes them out of the process's working set; that it then "fails" is documented. */
void os_payload_done(const struct section *section)
{
    VirtualUnlock((void *)(uintptr_t)section->data, section->size);
}

/* ---- time and chance ------------------------------------------------------------------------------------- */

static uint64_t now_100ns(void)
{
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return (uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime;
}

int64_t os_now(void)
{
    return (int64_t)(now_100ns() / 10000000) - 11644473600; /* Windows counts from 1601 */
}

/* When the kernel was started, as its clock said then. When somebody sets the clock, the kernel moves its "time of the
   boot" along and adds the step to the bias: the difference of both stays what it was. 0 when the system does not say. */
static uint64_t boot_time(void)
{
    struct {
        int64_t boot, now, zone;
        uint32_t zone_id, reserved;
        uint64_t boot_bias, sleep_bias;
    } said = {0}; /* SYSTEM_TIMEOFDAY_INFORMATION */
    enum { TIME_OF_DAY = 3 };
    typedef LONG(NTAPI * query_function)(int, void *, ULONG, ULONG *);
    query_function query = (query_function)windows_function(L"ntdll.dll", "NtQuerySystemInformation");
    if (query == NULL || query(TIME_OF_DAY, &said, sizeof said, NULL) < 0)
        return 0;
    return (uint64_t)said.boot - said.boot_bias;
}

void os_pause(unsigned milliseconds)
{
    Sleep(milliseconds);
}

/* Windows' loader counts the starts of the machine (in bootstat.dat), and the kernel shows the number to every process
   on a page that is mapped at a fixed address (KUSER_SHARED_DATA.BootId; 0 where there is none). Two machines, between
   which a disk moves, may have counted alike, so the time of the start comes with it. Neither changes before the next
   start, whatever becomes of the clock. A resume from hibernation is none: the kernel goes on with what it remembers. */
void os_boot_id(char id[80])
{
    const volatile uint32_t *boots = (const volatile uint32_t *)(uintptr_t)0x7FFE02C4;
    unsigned count = *boots;
    uint64_t time = boot_time();
    if (count == 0 && time == 0)
        id[0] = 0;
    else
        snprintf(id, 80, "windows-%u-%llu", count, (unsigned long long)time);
}

void *windows_function(const wchar_t *library, const char *name)
{
    HMODULE module = LoadLibraryExW(library, NULL, LOAD_LIBRARY_SEARCH_SYSTEM32);
    return module == NULL ? NULL : os_symbol(module, name);
}

bool os_random(void *data, size_t size)
{
    typedef LONG(WINAPI * generate_function)(void *, unsigned char *, ULONG, ULONG);
    const ULONG system_preferred = 2;
    generate_function generate = (generate_function)windows_function(L"bcrypt.dll", "BCryptGenRandom");
    return generate != NULL && generate(NULL, data, (ULONG)size, system_preferred) == 0;
}

/* ---- Ctrl-C ---------------------------------------------------------------------------------------------- */

static volatile LONG stop_requested;

/* Runs in a thread of its own. Windows ends the process when the answer to "the window was closed", "the user logs
   off" or "the machine stops" returns, so that one waits for os_guard_end; Windows gives it some seconds. */
static BOOL WINAPI note_stop(DWORD event)
{
    InterlockedExchange(&stop_requested, 1);
    if (event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT)
        Sleep(INFINITE);
    return TRUE;
}

/* A process that ignores Ctrl-C (its parent can ask for that) ignores it here too: then note_stop is not called. */
void os_guard_begin(void)
{
    SetConsoleCtrlHandler(note_stop, TRUE);
}

bool os_stop_requested(void)
{
    return stop_requested != 0;
}

void os_guard_end(void)
{
    SetConsoleCtrlHandler(note_stop, FALSE);
    if (stop_requested)
        ExitProcess(0xC000013A); /* STATUS_CONTROL_C_EXIT, as Windows' own handler does */
}

/* ---- the interpreter ------------------------------------------------------------------------------------- */

/* Names the library for LoadLibraryExW, with the prefix only where it is needed: Python shows this path to programs
   (sys.dllhandle's file name), and some compare it. */
static const wchar_t *loadable(wchar_t wide[WIDE_SIZE])
{
    bool is_short = wcslen(wide) < MAX_PATH && wcsncmp(wide, UNC_PREFIX, UNC_PREFIX_LENGTH) != 0;
    return is_short ? wide + PREFIX_LENGTH : wide;
}

/* Beside the library, in the tree, in System32. Not LOAD_LIBRARY_SEARCH_DEFAULT_DIRS: that begins with the folder of the
   executable, which may be one of downloads. */
enum {
    SEARCH = LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_USER_DIRS | LOAD_LIBRARY_SEARCH_SYSTEM32,
    LOAD_WAIT = 2000,
    LOAD_STEP = 20,
};

/* A file that somebody has open for writing cannot be loaded: a virus scanner, or `--ferryman-cache list` that looks
   whether the library is in use (os_in_use). Both are done soon. */
static HMODULE load_patiently(const wchar_t *file, DWORD *error)
{
    for (int waited = 0;; waited += LOAD_STEP) {
        HMODULE module = LoadLibraryExW(file, NULL, SEARCH);
        *error = GetLastError();
        if (module != NULL || *error != ERROR_SHARING_VIOLATION || waited >= LOAD_WAIT)
            return module;
        Sleep(LOAD_STEP);
    }
}

/* One name beside the executable. */
static bool load_true_one(void *context, const char *name)
{
    const char *contents = context;
    char path[PATH_SIZE];
    wchar_t wide[WIDE_SIZE];
    if (!windows_is_library(name))
        return true;
    if (path_join(path, contents, name) && windows_wide(wide, path) && LoadLibraryExW(loadable(wide), NULL, SEARCH))
        return true;
    if (windows_text(wide, WIDE_SIZE, name))
        LoadLibraryExW(wide, NULL, LOAD_LIBRARY_SEARCH_SYSTEM32);
    return true;
}

/* Python loads its extension modules with LOAD_LIBRARY_SEARCH_DEFAULT_DIRS, and SetDefaultDllDirectories does not change
   what that means. But a name that is loaded already is not looked for at all: so of each library that lies beside the
   executable, the one of that name in the tree or in System32 is loaded now. Mostly there is none. */
static void forestall_rivals(const char *contents)
{
    wchar_t wide[WIDE_SIZE];
    char folder[PATH_SIZE];
    DWORD length = GetModuleFileNameW(NULL, wide, WIDE_SIZE);
    if (length == 0 || length >= WIDE_SIZE || !windows_plain(folder, wide))
        return;
    path_parent(folder);
    os_list(folder, load_true_one, (void *)(uintptr_t)contents);
}

/* `contents` becomes a folder in which the libraries of all extension modules are looked for, wherever they lie below
   it. The library's own needs (vcruntime140.dll) are looked for beside it before all else; PATH, the current folder and
   the executable's are never asked. */
void *os_load(const char *library, const char *contents, struct problem *problem)
{
    wchar_t folder[WIDE_SIZE], file[WIDE_SIZE];
    if (!windows_wide(folder, contents) || !windows_wide(file, library)) {
        problem_set(problem, EXIT_HOST, "Put the program into a folder with a shorter name.", "%s: no such path",
                    library);
        return NULL;
    }
    AddDllDirectory(loadable(folder));
    DWORD before = 0, error = 0;
    /* A missing library is told by the exit code and a sentence, not by a window that waits for a click. */
    SetThreadErrorMode(SEM_FAILCRITICALERRORS, &before);
    HMODULE module = load_patiently(loadable(file), &error);
    if (module != NULL)
        forestall_rivals(contents);
    SetThreadErrorMode(before, NULL);
    if (module == NULL) {
        windows_failed(problem, EXIT_HOST, "load", library, error);
        const char *cure = error == ERROR_SHARING_VIOLATION
                               ? "Another program has it open; start this one again when that is done."
                               : "It needs Windows 10 or newer on the processor that it was built for, and every file "
                                 "beside it.";
        snprintf(problem->cure, sizeof problem->cure, "%s", cure);
    }
    return module;
}

void *os_symbol(void *library, const char *name)
{
    return (void *)(uintptr_t)GetProcAddress(library, name);
}

/* Python opens files with functions that stop at 260 characters unless the path has the prefix. A folder is given to
   it to look for files below, so it gets the prefix earlier. */
enum { ROOM_BELOW = 100 };

wchar_t *os_wide(const char *path)
{
    wchar_t wide[WIDE_SIZE];
    if (!windows_wide(wide, path))
        return NULL;
    DWORD attributes = GetFileAttributesW(wide);
    bool folder = attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY);
    const wchar_t *text = wide;
    wchar_t plain[WIDE_SIZE];
    if (wcslen(wide) - PREFIX_LENGTH + (folder ? ROOM_BELOW : 0) < MAX_PATH) {
        char narrow[PATH_SIZE];
        if (windows_plain(narrow, wide) && windows_text(plain, WIDE_SIZE, narrow))
            text = plain;
    }
    wchar_t *copy = malloc((wcslen(text) + 1) * sizeof *copy);
    return copy == NULL ? NULL : wcscpy(copy, text);
}

/* The copies stay: the launcher asks for a handful of variables, once each. */
const char *os_getenv(const char *name)
{
    wchar_t wide_name[128];
    if (!windows_text(wide_name, sizeof wide_name / sizeof *wide_name, name) || windows_withheld(wide_name))
        return NULL;
    DWORD size = GetEnvironmentVariableW(wide_name, NULL, 0);
    wchar_t *value = size > 1 ? malloc(size * sizeof *value) : NULL;
    char *text = value != NULL ? malloc((size_t)size * 3) : NULL;
    bool known = text != NULL && GetEnvironmentVariableW(wide_name, value, size) == size - 1 &&
                 WideCharToMultiByte(CP_UTF8, 0, value, -1, text, (int)size * 3, NULL, NULL) > 0;
    free(value);
    if (!known) {
        free(text);
        return NULL;
    }
    return text;
}

/* A console wants UTF-16, whatever its code page; pipes and files get the bytes. A process without a console, such as
   a service, has nowhere to write to. */
static void write_text(DWORD which, const char *text)
{
    HANDLE stream = GetStdHandle(which);
    DWORD mode, written;
    wchar_t wide[2 * PATH_SIZE + 1024];
    if (stream == NULL || stream == INVALID_HANDLE_VALUE)
        return;
    if (GetConsoleMode(stream, &mode) && windows_text(wide, sizeof wide / sizeof *wide, text)) {
        WriteConsoleW(stream, wide, (DWORD)wcslen(wide), &written, NULL);
        return;
    }
    for (size_t left = strlen(text); left > 0; text += written, left -= written)
        if (!WriteFile(stream, text, (DWORD)left, &written, NULL) || written == 0)
            return;
}

void os_write_error(const char *text)
{
    write_text(STD_ERROR_HANDLE, text);
}

void os_write_output(const char *text)
{
    write_text(STD_OUTPUT_HANDLE, text);
}
