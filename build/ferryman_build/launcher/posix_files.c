/* Files, folders and locks on Linux and macOS. */
#ifndef _WIN32
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform.h"

/* A 32-bit system sees no file whose inode has more than 32 bits otherwise. */
_Static_assert(sizeof(off_t) == 8, "compile with _FILE_OFFSET_BITS=64");

static bool failed(struct problem *problem, const char *path, const char *what)
{
    return problem_set(problem, EXIT_NO_PLACE, "", "%s cannot be %s: %s", path, what, strerror(errno));
}

struct facts os_facts(const char *path)
{
    struct stat status;
    struct facts facts = {.kind = KIND_MISSING};
    if (lstat(path, &status))
        return facts;
    facts.kind = S_ISREG(status.st_mode)   ? KIND_FILE
                 : S_ISDIR(status.st_mode) ? KIND_FOLDER
                 : S_ISLNK(status.st_mode) ? KIND_LINK
                                           : KIND_OTHER;
    facts.size = (uint64_t)status.st_size;
    facts.modified = status.st_mtime;
    return facts;
}

bool os_make_folder(const char *path, bool shared, struct problem *problem)
{
    mode_t mode = shared ? 0755 : 0700;
    if (mkdir(path, mode) || (shared && chmod(path, mode))) /* a umask of 077 must not hide it */
        return failed(problem, path, "made");
    return true;
}

static bool make_missing_folder(const char *path, bool shared, struct problem *problem)
{
    struct stat status;
    if (!mkdir(path, shared ? 0755 : 0700)) {
        if (shared)
            chmod(path, 0755);
        return true;
    }
    /* Another start may have been faster. */
    return (errno == EEXIST && !stat(path, &status) && S_ISDIR(status.st_mode)) || failed(problem, path, "made");
}

/* Up to what is there, and down again; in one buffer, because a path may have two thousand components. */
bool os_make_folders(const char *path, bool shared, struct problem *problem)
{
    char folder[PATH_SIZE];
    struct stat status;
    size_t length = strlen(path), end = length;
    if (length >= sizeof folder)
        return problem_set(problem, EXIT_NO_PLACE, "", "its path is too long");
    memcpy(folder, path, length + 1);
    while (stat(folder, &status) && strcmp(folder, "/")) {
        path_parent(folder);
        end = strlen(folder);
    }
    if (!S_ISDIR(status.st_mode))
        return problem_set(problem, EXIT_NO_PLACE, "", "%s is not a folder", folder);
    while (end < length) {
        end += strspn(path + end, "/");
        end += strcspn(path + end, "/");
        memcpy(folder, path, end);
        folder[end] = 0;
        if (!make_missing_folder(folder, shared, problem))
            return false;
    }
    return true;
}

static bool write_all(int file, const char *data, size_t size)
{
    while (size) {
        ssize_t done = write(file, data, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        data += done, size -= (size_t)done;
    }
    return true;
}

bool os_write_file(const char *path, const void *data, size_t size, unsigned mode, struct problem *problem)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (file < 0)
        return failed(problem, path, "written");
    bool done = write_all(file, data, size) && !fchmod(file, mode);
    if (!done)
        failed(problem, path, "written");
    /* Quotas of network file systems are heard of here at the latest. */
    if (close(file) && done)
        done = failed(problem, path, "written");
    return done;
}

bool os_symlink(const char *target, const char *path, struct problem *problem)
{
    return !symlink(target, path) || failed(problem, path, "linked");
}

bool os_read_link(const char *path, char target[PATH_SIZE])
{
    ssize_t length = readlink(path, target, PATH_SIZE - 1);
    target[length > 0 ? length : 0] = 0;
    return length > 0;
}

bool os_rename(const char *from, const char *to, struct problem *problem)
{
    return !rename(from, to) || failed(problem, to, "put in place");
}

bool os_remove(const char *path)
{
    return !unlink(path) || errno == ENOENT || !rmdir(path);
}

static bool remove_at(int parent, const char *name)
{
    if (!unlinkat(parent, name, 0) || errno == ENOENT)
        return true;
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = folder < 0 ? NULL : fdopendir(folder);
    if (!list) {
        if (folder >= 0)
            close(folder);
        return false;
    }
    bool done = true;
    for (struct dirent *entry; (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            done &= remove_at(folder, entry->d_name);
    closedir(list);
    return done && !unlinkat(parent, name, AT_REMOVEDIR);
}

bool os_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path);
}

bool os_touch(const char *path)
{
    return !utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
}

bool os_flush(const char *path)
{
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
#ifdef __APPLE__
    /* fsync only hands it to the disk, which may keep it in its own memory; not every file system has the other. */
    bool done = file >= 0 && (fcntl(file, F_FULLFSYNC) != -1 || !fsync(file));
#else
    bool done = file >= 0 && !fsync(file);
#endif
    if (file >= 0)
        close(file);
    return done;
}

bool os_list(const char *folder, bool (*visit)(void *context, const char *name), void *context)
{
    DIR *list = opendir(folder);
    if (!list)
        return false;
    for (struct dirent *entry; (entry = readdir(list));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..") && !visit(context, entry->d_name))
            break;
    closedir(list);
    return true;
}

bool os_read_pieces(const char *path, void (*take)(void *context, const void *data, size_t size), void *context)
{
    char piece[16 * 1024];
    ssize_t got = -1;
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0)
        return false;
    while ((got = read(file, piece, sizeof piece)) > 0 || (got < 0 && errno == EINTR))
        if (got > 0)
            take(context, piece, (size_t)got);
    close(file);
    return got == 0;
}

/* ---- locks -------------------------------------------------------------------------------------------------- */

/* flock and not fcntl: it belongs to the open file, so children that are forked keep it, and closing another descriptor
   of the same file does not end it. It is moved out of the way of 0, 1 and 2, which may have been closed when the
   program was started and must stay so. */
static int out_of_the_way(int file)
{
    if (file < 0 || file > 2)
        return file;
    int moved = fcntl(file, F_DUPFD_CLOEXEC, 3);
    close(file);
    return moved;
}

static bool still_there(int file, const char *path)
{
    struct stat by_file, by_path;
    return !fstat(file, &by_file) && !lstat(path, &by_path) && by_file.st_ino == by_path.st_ino &&
           by_file.st_dev == by_path.st_dev;
}

static enum lock_result locked(int file, const char *path, int how, lock_handle *lock)
{
    int result;
    do
        result = flock(file, how);
    while (result && errno == EINTR);
    if (result) {
        enum lock_result answer = errno == EWOULDBLOCK ? LOCK_BUSY : LOCK_FAILED;
        close(file);
        return answer;
    }
    if (!still_there(file, path)) {
        close(file);
        return LOCK_GONE;
    }
    *lock = file;
    return LOCK_HELD;
}

enum lock_result os_lock_file(const char *path, bool wait, lock_handle *lock, struct problem *problem)
{
    int file = out_of_the_way(open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (file < 0) {
        failed(problem, path, "opened");
        return LOCK_FAILED;
    }
    enum lock_result result = locked(file, path, LOCK_EX | (wait ? 0 : LOCK_NB), lock);
    if (result == LOCK_FAILED)
        failed(problem, path, "locked");
    return result;
}

enum lock_result os_lock_tree(const char *folder, bool exclusive, bool wait, lock_handle *lock)
{
    for (int tries = wait ? 100 : 1;; tries--) { /* two seconds */
        int file = out_of_the_way(open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
        if (file < 0)
            return errno == ENOENT ? LOCK_GONE : LOCK_FAILED;
        enum lock_result result = locked(file, folder, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB, lock);
        if (result != LOCK_BUSY || tries == 1)
            return result;
        os_pause(20);
    }
}

void os_unlock(lock_handle lock)
{
    close((int)lock);
}
#endif
