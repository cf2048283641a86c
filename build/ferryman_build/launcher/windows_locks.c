/* Locks of Windows: a byte range of an open file, which ends with the handle, and so with the process at the latest. A
   handle is not inherited unless that is asked for, and a Windows process does not fork. */
#include "windows_api.h"

#include <winternl.h>

enum { SHARED_MODES = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, TREE_WAIT = 2000, TREE_STEP = 10 };

/* Nobody else can read or write locked bytes on Windows, so the lock is on a byte far behind the end of the file. */
static enum lock_result lock_byte(HANDLE file, DWORD flags)
{
    OVERLAPPED where = {.Offset = 0, .OffsetHigh = 0x7FFFFFFF};
    if (LockFileEx(file, flags, 0, 1, 0, &where))
        return LOCK_HELD;
    DWORD error = GetLastError();
    return error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING ? LOCK_BUSY : LOCK_FAILED;
}

static bool same_file(HANDLE one, HANDLE other)
{
    BY_HANDLE_FILE_INFORMATION first, second;
    return GetFileInformationByHandle(one, &first) && GetFileInformationByHandle(other, &second) &&
           first.dwVolumeSerialNumber == second.dwVolumeSerialNumber && first.nFileIndexHigh == second.nFileIndexHigh &&
           first.nFileIndexLow == second.nFileIndexLow;
}

/* Whether the name still leads to the file that was locked. */
static bool is_still_there(HANDLE file, const wchar_t *wide)
{
    HANDLE again = windows_open_facts(wide, 0);
    if (again == INVALID_HANDLE_VALUE)
        return false;
    bool same = same_file(file, again);
    CloseHandle(again);
    return same;
}

/* A deleted file keeps its name until the last handle is closed, and cannot be opened meanwhile; for the Windows API
   that is the same error as a missing right, so the kernel's own code is asked for. */
static bool is_being_deleted(void)
{
    const NTSTATUS delete_pending = (NTSTATUS)0xC0000056;
    typedef NTSTATUS(NTAPI * status_function)(void);
    HMODULE kernel = GetModuleHandleW(L"ntdll.dll");
    status_function last = kernel == NULL ? NULL : (status_function)os_symbol(kernel, "RtlGetLastNtStatus");
    return last != NULL && last() == delete_pending;
}

static enum lock_result lock_gone(void)
{
    Sleep(TREE_STEP); /* the caller tries again at once */
    return LOCK_GONE;
}

/* The file is for this user (and the administrators) alone: who may read a file may lock it as well, and could stop
   others from unpacking. */
enum lock_result os_lock_file(const char *path, bool wait, lock_handle *lock, struct problem *problem)
{
    wchar_t wide[WIDE_SIZE];
    HANDLE file = INVALID_HANDLE_VALUE;
    if (windows_wide(wide, path))
        file = CreateFileW(wide, GENERIC_READ | GENERIC_WRITE, SHARED_MODES, windows_security(FOR_USER_FILE), OPEN_ALWAYS,
                           FILE_ATTRIBUTE_NORMAL, NULL);
    DWORD error = GetLastError();
    if (file == INVALID_HANDLE_VALUE) {
        if (is_being_deleted())
            return lock_gone();
        windows_failed(problem, EXIT_NO_PLACE, "open", path, error);
        return LOCK_FAILED;
    }
    enum lock_result result = lock_byte(file, LOCKFILE_EXCLUSIVE_LOCK | (wait ? 0 : LOCKFILE_FAIL_IMMEDIATELY));
    error = GetLastError();
    if (result == LOCK_HELD && !is_still_there(file, wide))
        result = LOCK_GONE;
    if (result != LOCK_HELD)
        CloseHandle(file);
    if (result == LOCK_FAILED)
        windows_failed(problem, EXIT_NO_PLACE, "lock", path, error);
    *lock = (lock_handle)file;
    return result == LOCK_GONE ? lock_gone() : result;
}

/* Windows cannot lock a folder. Of the files in a tree the marker is replaced now and then, and with it the lock would
   go; the launch file stays as it was unpacked. While it is open the tree can also not be renamed or removed. Waiting
   has an end, because whoever may read the tree may lock it. */
enum lock_result os_lock_tree(const char *folder, bool exclusive, bool wait, lock_handle *lock)
{
    char path[PATH_SIZE];
    wchar_t wide[WIDE_SIZE];
    if (!path_join(path, folder, "_internal\\_ferryman\\launch") || !windows_wide(wide, path))
        return LOCK_FAILED;
    HANDLE file = CreateFileW(wide, GENERIC_READ, SHARED_MODES, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return os_facts(folder).kind == KIND_MISSING ? LOCK_GONE : LOCK_FAILED;
    DWORD flags = LOCKFILE_FAIL_IMMEDIATELY | (exclusive ? LOCKFILE_EXCLUSIVE_LOCK : 0);
    enum lock_result result = lock_byte(file, flags);
    for (int waited = 0; result == LOCK_BUSY && wait && waited < TREE_WAIT; waited += TREE_STEP) {
        Sleep(TREE_STEP);
        result = lock_byte(file, flags);
    }
    if (result == LOCK_HELD && !is_still_there(file, wide))
        result = LOCK_GONE;
    if (result != LOCK_HELD)
        CloseHandle(file);
    *lock = (lock_handle)file;
    return result;
}

/* Unlocked by hand, because Windows only promises to do so some time after the handle was closed. */
void os_unlock(lock_handle lock)
{
    OVERLAPPED where = {.Offset = 0, .OffsetHigh = 0x7FFFFFFF};
    UnlockFileEx((HANDLE)lock, 0, 1, 0, &where);
    CloseHandle((HANDLE)lock);
}
