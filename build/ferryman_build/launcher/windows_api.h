/* What the Windows files of the launcher share. Inside the launcher a path is UTF-8 and plain (C:\…, \\server\…); it
   becomes UTF-16 with the prefix \\?\ only at the call, so that 260 characters are no limit anywhere. */
#ifndef FERRYMAN_WINDOWS_API_H
#define FERRYMAN_WINDOWS_API_H

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include "platform.h"

enum { WIDE_SIZE = PATH_SIZE + 8 }; /* no UTF-16 text is longer than its UTF-8; and the prefix */

/* `path` for a call to Windows, made absolute; false when it is no path or too long. */
bool windows_wide(wchar_t wide[WIDE_SIZE], const char *path);
/* Any text to UTF-16, without making a path of it. */
bool windows_text(wchar_t *wide, size_t size, const char *text);
/* A path from Windows: UTF-8, without the prefix. False when it is too long or has half a surrogate pair in it. */
bool windows_plain(char path[PATH_SIZE], const wchar_t *wide);

/* Fills `problem` with "cannot <what> <path>: <the system's words for `error`>"; always false. */
bool windows_failed(struct problem *problem, int code, const char *what, const char *path, DWORD error);

/* A function of a library in the System32 folder. Libraries that are not among Windows' "known DLLs" are loaded like
   this and not imported: an import is looked for beside the executable first, and that may be a folder of downloads. */
void *windows_function(const wchar_t *library, const char *name);

/* ---- windows_rights.c: who this process is, and who may change what ------------------------------------------ */

/* LocalSystem, or Administrators is an enabled group of this process. */
bool windows_elevated(void);
/* Elevated, while other programs of the same user are not: then that user is not believed. */
bool windows_guarded(void);
/* Whether a variable is one that this process must not believe. */
bool windows_withheld(const wchar_t *name);
/* S-1-5-…; "" when the system does not say. */
const char *windows_user_sid(void);
/* For whom something new is: everybody reads and the administrators write; this user alone; the same, for a file. */
enum audience { FOR_ALL, FOR_USER, FOR_USER_FILE };
/* What is wrong with a folder of that owner and access list: words that go behind its path; NULL: nothing. The root of a
   drive cannot be removed or renamed; what lies in a tree is used as it is, so that nobody else may add to it either. */
enum role { ROLE_ROOT, ROLE_ABOVE, ROLE_TREE };
const char *windows_danger(PSID owner, PACL list, enum role role);
/* For CreateDirectoryW and CreateFileW; NULL (what the folder above says holds) when the system does not make it. */
SECURITY_ATTRIBUTES *windows_security(enum audience audience);

/* ---- windows_files.c ----------------------------------------------------------------------------------------- */

/* For handles of folders and files whose attributes are looked at; does not follow a link at the end. */
HANDLE windows_open_facts(const wchar_t *wide, DWORD access);
/* By its name. */
bool windows_is_library(const char *name);
/* Whether an opened file stands for another one: a symbolic link or a junction (a cloud placeholder does not). */
bool windows_is_link(HANDLE file);

#endif
