/* What differs between operating systems: posix_*.c, elf.c and macho.c, or platform_windows.c and windows_*.c.
   Paths are UTF-8 on Windows and bytes elsewhere. Functions that answer bool fill `problem` when they answer false,
   if they have one. */
#ifndef FERRYMAN_PLATFORM_H
#define FERRYMAN_PLATFORM_H

#include <stdio.h>

#include "common.h"

#ifdef _WIN32
#define SEPARATOR '\\'
typedef wchar_t native_char;
#else
#define SEPARATOR '/'
typedef char native_char;
#endif

/* ---- the executable itself ------------------------------------------------------------------------------- */

/* Absolute path of the running executable, links resolved: what it was started as makes no difference. */
bool os_self(char path[PATH_SIZE], struct problem *problem);

/* The payload section of the executable, mapped read-only for the life of the process. `data` is NULL when there is
   none. A section that reaches beyond the end of the file is a problem (EXIT_DAMAGED): the file was truncated. */
struct section {
    const uint8_t *data;
    size_t size;
};
bool os_payload(const char *self, struct section *section, struct problem *problem);

/* The payload is not needed any more: give its pages back, so that they do not count as the program's memory. */
void os_payload_done(const struct section *section);

/* Whether the process runs with rights that whoever started it does not have (set-uid, file capabilities): then nothing
   that this user says is believed. */
bool os_raised(void);

/* ---- places for the cache -------------------------------------------------------------------------------- */

/* One folder in which trees may lie, in the order in which they are tried. */
struct place {
    char path[PATH_SIZE]; /* "": not available, for the reason below */
    const char *source;   /* "FERRYMAN_CACHE", "XDG_CACHE_HOME", "HOME", …: where it comes from, for people */
    char reason[256];     /* why it is not available */
    bool shared;          /* other users read what is unpacked here: 0755 and 0644 whatever the umask (root's place) */
    bool readonly;        /* use trees that are there, never write (the machine-wide place, for other users) */
    bool pending;         /* os_place_complete has to be asked before the path is used */
    bool swept;           /* something outside deletes old files here (/var/tmp, /tmp) */
};
enum { PLACES = 8 };
size_t os_places(struct place places[PLACES]);
/* Fill in what takes long to find out and is rarely needed. */
void os_place_complete(struct place *place);

/* Whether nobody but root and this user can change anything along `path`, which exists. Fills `problem->sentence`.
   A symbolic link among the components is followed only when the same holds for the folder that it lies in. */
bool os_trusted(const char *path, struct problem *problem);

/* ---- files ----------------------------------------------------------------------------------------------- */

enum kind { KIND_MISSING, KIND_FILE, KIND_FOLDER, KIND_LINK, KIND_OTHER };
struct facts {
    enum kind kind;
    uint64_t size;
    int64_t modified; /* seconds since 1970 */
};
/* Does not follow a link at the end of `path`. */
struct facts os_facts(const char *path);

/* Make `path` and what is missing above it, for this user alone (0700; machine-wide: 0755, owned by root). */
bool os_make_folders(const char *path, bool shared, struct problem *problem);
/* One folder that must not exist yet. */
bool os_make_folder(const char *path, bool shared, struct problem *problem);
/* A new file with `mode` (permission bits; on Windows only what is writable counts). */
bool os_write_file(const char *path, const void *data, size_t size, unsigned mode, struct problem *problem);
bool os_symlink(const char *target, const char *path, struct problem *problem);
bool os_read_link(const char *path, char target[PATH_SIZE]);
bool os_rename(const char *from, const char *to, struct problem *problem);
/* A file or an empty folder; false when it is still there. */
bool os_remove(const char *path);
/* A folder with everything below it; links are removed and not followed. */
bool os_remove_tree(const char *path);
bool os_touch(const char *path); /* modification time = now */
/* Write to the disk what a file holds. */
bool os_flush(const char *path);

/* Calls `visit` for every name in a folder but . and .. until it answers false. */
bool os_list(const char *folder, bool (*visit)(void *context, const char *name), void *context);

/* The start of a file mapped or read for hashing: calls `take` with pieces. False when it cannot be read. */
bool os_read_pieces(const char *path, void (*take)(void *context, const void *data, size_t size), void *context);

/* Whether programs and libraries may be mapped from a folder (noexec mounts answer false). */
bool os_executable_place(const char *folder);
/* Whether other machines may use a folder as well. */
bool os_remote(const char *folder);
/* Bytes that this user may still write there; UINT64_MAX when unknown. */
uint64_t os_free_space(const char *folder);

/* ---- locks ----------------------------------------------------------------------------------------------- */

/* An advisory lock that ends with the process, is not inherited by programs that it executes, and holds for children
   that it forks. Locks of files: path.lock. A tree is locked at its folder where the
   system can do that (POSIX: systemd-tmpfiles leaves locked folders alone), else at a file in it. */
typedef intptr_t lock_handle;
enum lock_result { LOCK_HELD, LOCK_BUSY, LOCK_GONE, LOCK_FAILED };
/* Creates the file. LOCK_GONE: it was unlinked while we waited: try again. */
enum lock_result os_lock_file(const char *path, bool wait, lock_handle *lock, struct problem *problem);
/* A shared (`exclusive` false) or exclusive lock on a tree's folder. */
enum lock_result os_lock_tree(const char *folder, bool exclusive, bool wait, lock_handle *lock);
void os_unlock(lock_handle lock);
/* Whether some process uses a file below `folder` although it holds no lock. False where that cannot be known. */
bool os_in_use(const char *folder);

/* ---- time, chance, signals ------------------------------------------------------------------------------- */

int64_t os_now(void); /* seconds since 1970 */
void os_pause(unsigned milliseconds);
/* What is another one after the machine was started again; "" when the system does not say. */
void os_boot_id(char id[80]);
bool os_random(void *data, size_t size);

/* While guarded, a request to stop (SIGINT, SIGTERM, SIGHUP; Ctrl-C) is noted instead of ending the process; signals
   that were ignored stay ignored. os_guard_end puts things back and, if a request came, ends the process as that
   signal would have. */
void os_guard_begin(void);
bool os_stop_requested(void);
void os_guard_end(void);

/* ---- the interpreter ------------------------------------------------------------------------------------- */

/* Load libpython (and make what lies beside it findable); NULL with `problem` when the system refuses. */
void *os_load(const char *library, const char *contents, struct problem *problem);
void *os_symbol(void *library, const char *name);

#ifdef _WIN32
/* A path as the interpreter wants it: wide characters, malloc'ed. Elsewhere the interpreter itself decodes it. */
wchar_t *os_wide(const char *path);
#endif

const char *os_getenv(const char *name); /* NULL when not set or empty, or when the process runs with raised rights */
void os_write_error(const char *text);   /* to standard error, UTF-8, whatever stands behind it */
void os_write_output(const char *text);

#endif
