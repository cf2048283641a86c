/* Files and folders of Windows. */
#include "windows_api.h"

#include <stdlib.h>
#include <string.h>
#include <wchar.h>

enum { SHARED_MODES = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, PIECE = 1 << 18 };

/* ---- looking --------------------------------------------------------------------------------------------- */

HANDLE windows_open_facts(const wchar_t *wide, DWORD access)
{
    return CreateFileW(wide, access, SHARED_MODES, NULL, OPEN_EXISTING,
                       FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT, NULL);
}

bool windows_is_link(HANDLE file)
{
    FILE_ATTRIBUTE_TAG_INFO tag;
    return GetFileInformationByHandleEx(file, FileAttributeTagInfo, &tag, sizeof tag) &&
           (tag.FileAttributes & FILE_ATTRIBUTE_REPARSE_POINT) && IsReparseTagNameSurrogate(tag.ReparseTag);
}

static int64_t unix_time(FILETIME time)
{
    uint64_t ticks = (uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime;
    return (int64_t)(ticks / 10000000) - 11644473600; /* Windows counts from 1601 */
}

/* What there is but cannot be opened is something, and not missing: nobody may be told that its name is free. */
static enum kind kind_of_error(DWORD error)
{
    bool missing = error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || error == ERROR_INVALID_NAME ||
                   error == ERROR_BAD_NETPATH || error == ERROR_BAD_NET_NAME;
    return missing ? KIND_MISSING : KIND_OTHER;
}

struct facts os_facts(const char *path)
{
    struct facts facts = {.kind = KIND_MISSING};
    BY_HANDLE_FILE_INFORMATION found;
    wchar_t wide[WIDE_SIZE];
    if (!windows_wide(wide, path))
        return facts;
    HANDLE file = windows_open_facts(wide, 0);
    if (file == INVALID_HANDLE_VALUE) {
        facts.kind = kind_of_error(GetLastError());
        return facts;
    }
    facts.kind = KIND_OTHER;
    if (GetFileInformationByHandle(file, &found)) {
        bool folder = found.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY;
        facts.kind = windows_is_link(file) ? KIND_LINK : folder ? KIND_FOLDER : KIND_FILE;
        facts.size = (uint64_t)found.nFileSizeHigh << 32 | found.nFileSizeLow;
        facts.modified = unix_time(found.ftLastWriteTime);
    }
    CloseHandle(file);
    return facts;
}

bool os_read_pieces(const char *path, void (*take)(void *context, const void *data, size_t size), void *context)
{
    static uint8_t piece[PIECE];
    wchar_t wide[WIDE_SIZE];
    DWORD got = 0;
    if (!windows_wide(wide, path))
        return false;
    HANDLE file = CreateFileW(wide, GENERIC_READ, SHARED_MODES, NULL, OPEN_EXISTING, FILE_FLAG_SEQUENTIAL_SCAN, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return false;
    bool read;
    while ((read = ReadFile(file, piece, PIECE, &got, NULL)) && got > 0)
        take(context, piece, got);
    CloseHandle(file);
    return read;
}

/* Puts "\name" (or "\*") behind a folder's path; false when it becomes too long. */
static bool append(wchar_t wide[WIDE_SIZE], size_t length, const wchar_t *name)
{
    if (length + 1 + wcslen(name) >= WIDE_SIZE)
        return false;
    bool separated = length > 0 && wide[length - 1] == L'\\';
    wide[length] = L'\\';
    wcscpy(wide + length + !separated, name);
    return true;
}

static bool is_dots(const wchar_t *name)
{
    return wcscmp(name, L".") == 0 || wcscmp(name, L"..") == 0;
}

bool os_list(const char *folder, bool (*visit)(void *context, const char *name), void *context)
{
    WIN32_FIND_DATAW found;
    wchar_t wide[WIDE_SIZE];
    char name[PATH_SIZE];
    if (!windows_wide(wide, folder) || !append(wide, wcslen(wide), L"*"))
        return false;
    HANDLE search = FindFirstFileW(wide, &found);
    if (search == INVALID_HANDLE_VALUE)
        return false;
    bool wanted = true;
    do /* a name with half a surrogate pair is none of ours */
        if (!is_dots(found.cFileName) && windows_plain(name, found.cFileName))
            wanted = visit(context, name);
    while (wanted && FindNextFileW(search, &found));
    FindClose(search);
    return true;
}

/* ---- making ---------------------------------------------------------------------------------------------- */

bool os_make_folder(const char *path, bool shared, struct problem *problem)
{
    wchar_t wide[WIDE_SIZE];
    if (!windows_wide(wide, path))
        return windows_failed(problem, EXIT_NO_PLACE, "create the folder", path, ERROR_FILENAME_EXCED_RANGE);
    if (CreateDirectoryW(wide, windows_security(shared ? FOR_ALL : FOR_USER)))
        return true;
    return windows_failed(problem, EXIT_NO_PLACE, "create the folder", path, GetLastError());
}

static bool is_folder(const char *path)
{
    wchar_t wide[WIDE_SIZE];
    DWORD attributes = windows_wide(wide, path) ? GetFileAttributesW(wide) : INVALID_FILE_ATTRIBUTES;
    return attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY);
}

/* From the top down; another process may make the same folder at the same time. Not by recursion: a path may have two
   thousand folders, and the stack is small. */
bool os_make_folders(const char *path, bool shared, struct problem *problem)
{
    char part[PATH_SIZE];
    if (is_folder(path))
        return true;
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = strchr(part, SEPARATOR); slash != NULL; slash = strchr(slash + 1, SEPARATOR)) {
        if (slash == part || slash[-1] == ':' || slash[-1] == SEPARATOR || slash[1] == SEPARATOR)
            continue; /* C:\, or the beginning of \\server\share */
        *slash = 0;
        if (!is_folder(part) && strchr(part, SEPARATOR) != NULL && !os_make_folder(part, shared, problem) &&
            !is_folder(part))
            return false;
        *slash = SEPARATOR;
    }
    return os_make_folder(path, shared, problem) || is_folder(path);
}

static bool write_all(HANDLE file, const uint8_t *data, size_t size)
{
    DWORD written;
    for (; size > 0; data += written, size -= written) {
        DWORD part = size > (1 << 30) ? 1 << 30 : (DWORD)size;
        if (!WriteFile(file, data, part, &written, NULL))
            return false;
    }
    return true;
}

/* `mode` is not used: what may be executed or read is in the access list that comes from the folder, and the read-only
   attribute would above all keep the file from being deleted and replaced. */
bool os_write_file(const char *path, const void *data, size_t size, unsigned mode, struct problem *problem)
{
    wchar_t wide[WIDE_SIZE];
    (void)mode;
    if (!windows_wide(wide, path))
        return windows_failed(problem, EXIT_NO_PLACE, "write", path, ERROR_FILENAME_EXCED_RANGE);
    HANDLE file = CreateFileW(wide, GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_DELETE, NULL, CREATE_NEW,
                              FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return windows_failed(problem, EXIT_NO_PLACE, "create", path, GetLastError());
    bool written = write_all(file, data, size);
    DWORD error = GetLastError();
    CloseHandle(file);
    if (written)
        return true;
    DeleteFileW(wide);
    return windows_failed(problem, EXIT_NO_PLACE, "write", path, error);
}

/* Symbolic links need a right that users do not have, so trees for Windows have none in them. */
bool os_symlink(const char *target, const char *path, struct problem *problem)
{
    (void)target;
    return windows_failed(problem, EXIT_DAMAGED, "make the link", path, ERROR_NOT_SUPPORTED);
}

bool os_read_link(const char *path, char target[PATH_SIZE])
{
    (void)path;
    target[0] = 0;
    return false;
}

/* ---- changing -------------------------------------------------------------------------------------------- */

enum { RENAME_WAIT = 3000, RENAME_STEP = 20 };

/* Errors that pass by themselves: a virus scanner or an indexer has just opened what is new. */
static bool is_passing(DWORD error)
{
    return error == ERROR_ACCESS_DENIED || error == ERROR_SHARING_VIOLATION || error == ERROR_LOCK_VIOLATION;
}

bool os_rename(const char *from, const char *to, struct problem *problem)
{
    wchar_t old_name[WIDE_SIZE], new_name[WIDE_SIZE];
    if (!windows_wide(old_name, from) || !windows_wide(new_name, to))
        return windows_failed(problem, EXIT_NO_PLACE, "rename", from, ERROR_FILENAME_EXCED_RANGE);
    DWORD error = 0;
    for (int waited = 0; waited <= RENAME_WAIT; waited += RENAME_STEP) {
        if (MoveFileExW(old_name, new_name, MOVEFILE_REPLACE_EXISTING))
            return true;
        error = GetLastError();
        /* A folder is never replaced on Windows: that "access denied" does not pass. */
        if (!is_passing(error) || is_folder(to))
            break;
        Sleep(RENAME_STEP);
    }
    return windows_failed(problem, EXIT_NO_PLACE, "rename to", to, error);
}

/* A file, an empty folder, or a link to one of them, which is not followed. */
static bool remove_one(const wchar_t *wide, DWORD attributes)
{
    if (attributes & FILE_ATTRIBUTE_READONLY)
        SetFileAttributesW(wide, attributes & ~(DWORD)FILE_ATTRIBUTE_READONLY);
    return attributes & FILE_ATTRIBUTE_DIRECTORY ? RemoveDirectoryW(wide) : DeleteFileW(wide);
}

bool os_remove(const char *path)
{
    wchar_t wide[WIDE_SIZE];
    if (!windows_wide(wide, path))
        return false;
    DWORD attributes = GetFileAttributesW(wide);
    return attributes == INVALID_FILE_ATTRIBUTES ? GetLastError() == ERROR_FILE_NOT_FOUND : remove_one(wide, attributes);
}

static bool remove_below(wchar_t wide[WIDE_SIZE], size_t length);

/* One entry of the folder whose path is the first `length` characters of `wide`. */
static bool remove_entry(wchar_t wide[WIDE_SIZE], size_t length, const WIN32_FIND_DATAW *found)
{
    DWORD attributes = found->dwFileAttributes;
    if (is_dots(found->cFileName))
        return true;
    if (!append(wide, length, found->cFileName))
        return false;
    bool folder = (attributes & FILE_ATTRIBUTE_DIRECTORY) && !(attributes & FILE_ATTRIBUTE_REPARSE_POINT);
    bool emptied = !folder || remove_below(wide, wcslen(wide));
    return remove_one(wide, attributes) && emptied;
}

/* `wide` has room for the names of what lies below; it is as it was when this returns. Goes on after a file that does
   not go, so that as little as possible stays. What is found is not on the stack, because folders may be deep. */
static bool remove_below(wchar_t wide[WIDE_SIZE], size_t length)
{
    WIN32_FIND_DATAW *found = malloc(sizeof *found);
    bool removed = found != NULL && append(wide, length, L"*");
    HANDLE search = removed ? FindFirstFileW(wide, found) : INVALID_HANDLE_VALUE;
    if (search != INVALID_HANDLE_VALUE) {
        do
            removed = remove_entry(wide, length, found) && removed;
        while (FindNextFileW(search, found));
        FindClose(search);
    }
    free(found);
    wide[length] = 0;
    return removed;
}

bool os_remove_tree(const char *path)
{
    wchar_t wide[WIDE_SIZE];
    if (!windows_wide(wide, path))
        return false;
    DWORD attributes = GetFileAttributesW(wide);
    if (attributes == INVALID_FILE_ATTRIBUTES)
        return true;
    if ((attributes & FILE_ATTRIBUTE_DIRECTORY) && !(attributes & FILE_ATTRIBUTE_REPARSE_POINT))
        remove_below(wide, wcslen(wide));
    return remove_one(wide, attributes);
}

bool os_touch(const char *path)
{
    wchar_t wide[WIDE_SIZE];
    FILETIME now;
    if (!windows_wide(wide, path))
        return false;
    HANDLE file = windows_open_facts(wide, FILE_WRITE_ATTRIBUTES);
    if (file == INVALID_HANDLE_VALUE)
        return false;
    GetSystemTimeAsFileTime(&now);
    bool touched = SetFileTime(file, NULL, NULL, &now);
    CloseHandle(file);
    return touched;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t length = strlen(name), size = strlen(ending);
    return length > size && _stricmp(name + length - size, ending) == 0;
}

bool windows_is_library(const char *name)
{
    return ends_with(name, ".dll");
}

/* Windows writes names to the disk in the order in which they changed; only what files hold needs asking for. A library
   that a process has loaded cannot be opened for writing, but its pages are read from the disk: Windows wrote there what
   it held before it was loaded. Flushing any other file empties the disk's own buffer. */
bool os_flush(const char *path)
{
    wchar_t wide[WIDE_SIZE];
    if (is_folder(path))
        return true;
    if (!windows_wide(wide, path))
        return false;
    HANDLE file = CreateFileW(wide, GENERIC_WRITE, SHARED_MODES, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return GetLastError() == ERROR_SHARING_VIOLATION && (windows_is_library(path) || ends_with(path, ".pyd"));
    bool flushed = FlushFileBuffers(file);
    CloseHandle(file);
    return flushed;
}

/* ---- the place ------------------------------------------------------------------------------------------- */

/* Windows has no mounts without execution. Policies (AppLocker, WDAC) can forbid libraries; only loading one tells. */
bool os_executable_place(const char *folder)
{
    (void)folder;
    return true;
}

/* A share, or a drive letter that stands for one. */
bool os_remote(const char *folder)
{
    wchar_t root[] = {(wchar_t)folder[0], L':', L'\\', 0};
    return folder[0] == SEPARATOR || GetDriveTypeW(root) == DRIVE_REMOTE;
}

uint64_t os_free_space(const char *folder)
{
    wchar_t wide[WIDE_SIZE];
    ULARGE_INTEGER available;
    if (!windows_wide(wide, folder) || !GetDiskFreeSpaceExW(wide, &available, NULL, NULL))
        return UINT64_MAX;
    return available.QuadPart;
}

/* A library that a process has loaded cannot be opened for writing. Every program that runs from a tree has loaded
   those that lie in _internal itself. */
struct search {
    const char *folder;
    bool used;
};

static bool probe_library(void *context, const char *name)
{
    struct search *search = context;
    char path[PATH_SIZE];
    wchar_t wide[WIDE_SIZE];
    if (!windows_is_library(name) || !path_join(path, search->folder, name) || !windows_wide(wide, path))
        return true;
    HANDLE file = CreateFileW(wide, FILE_WRITE_DATA, SHARED_MODES, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file != INVALID_HANDLE_VALUE)
        CloseHandle(file);
    else
        search->used = GetLastError() == ERROR_SHARING_VIOLATION;
    return !search->used;
}

bool os_in_use(const char *folder)
{
    char contents[PATH_SIZE];
    struct search search = {.folder = contents};
    if (path_join(contents, folder, "_internal"))
        os_list(contents, probe_library, &search);
    return search.used;
}
