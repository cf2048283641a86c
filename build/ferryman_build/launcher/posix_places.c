/* Where trees may lie on Linux and macOS, and whether such a folder can be trusted. */
#ifndef _WIN32
#define _GNU_SOURCE
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/mount.h>
#define MACHINE_WIDE "/Library/Caches/ferryman"
#define BELOW_HOME "Library/Caches/ferryman"
#else
#include <sys/auxv.h>
#include <sys/statvfs.h>
#define MACHINE_WIDE "/var/cache/ferryman"
#define BELOW_HOME ".cache/ferryman"
#endif

#include "platform.h"

/* Started with rights that its user does not have (set-uid, file capabilities): nothing that the user says about places
   or modes is believed, because whoever writes the tree decides what runs with those rights. */
static bool raised(void)
{
#ifdef __APPLE__
    return issetugid();
#else
    return getauxval(AT_SECURE) != 0;
#endif
}

const char *os_getenv(const char *name)
{
    const char *value = raised() ? NULL : getenv(name);
    return value && *value ? value : NULL;
}

/* ---- places ----------------------------------------------------------------------------------------------- */

struct list {
    struct place *places;
    size_t count;
};

static struct place *add(struct list *list, const char *source, const char *folder, const char *below)
{
    static struct place nowhere;
    struct place *place = list->count < PLACES ? &list->places[list->count++] : &nowhere;
    memset(place, 0, sizeof *place);
    place->source = source;
    if (!folder)
        snprintf(place->reason, sizeof place->reason, "not set");
    else if (folder[0] != '/')
        snprintf(place->reason, sizeof place->reason, "%.200s is not an absolute path", folder);
    else if (below ? !path_join(place->path, folder, below) : strlen(folder) >= PATH_SIZE)
        snprintf(place->reason, sizeof place->reason, "its path is too long");
    else if (!below)
        strcpy(place->path, folder);
    return place;
}

static void add_home(struct list *list)
{
    const char *home = os_getenv("HOME"), *source = "HOME";
    if (!home) {
        /* A service may be started without it; the user database knows as well. */
        struct passwd *entry = getpwuid(geteuid());
        home = entry && entry->pw_dir[0] == '/' ? entry->pw_dir : NULL;
        source = home ? "home of the user" : source;
    }
    add(list, source, home, BELOW_HOME);
}

static void add_swept(struct list *list, const char *source, const char *folder)
{
    char own[64];
    snprintf(own, sizeof own, "ferryman-%lu", (unsigned long)geteuid());
    if (folder)
        add(list, source, folder, own)->swept = true;
}

size_t os_places(struct place places[PLACES])
{
    struct list list = {places, 0};
    bool root = geteuid() == 0;
    const char *named = os_getenv("FERRYMAN_CACHE");
    if (named) {
        add(&list, "FERRYMAN_CACHE", named, NULL);
        return list.count;
    }
    struct place *machine = add(&list, "machine-wide", MACHINE_WIDE, NULL);
    machine->shared = root;
    machine->readonly = !root;
    if (raised())
        return list.count;
    char first[PATH_SIZE];
    const char *managed = os_getenv("CACHE_DIRECTORY"); /* systemd.exec(5), CacheDirectory=; several are joined by : */
    if (managed) {
        snprintf(first, sizeof first, "%s", managed);
        first[strcspn(first, ":")] = 0;
        add(&list, "CACHE_DIRECTORY", first, "ferryman");
    }
#ifndef __APPLE__
    const char *xdg = os_getenv("XDG_CACHE_HOME");
    if (xdg && xdg[0] == '/') /* a relative one is to be ignored, says the base directory specification */
        add(&list, "XDG_CACHE_HOME", xdg, "ferryman");
    else
#endif
        add_home(&list);
    add_swept(&list, "last resort", "/var/tmp");
    add_swept(&list, "TMPDIR", os_getenv("TMPDIR"));
    add_swept(&list, "last resort", "/tmp");
    return list.count;
}

/* ---- trust -------------------------------------------------------------------------------------------------- */

/* Inside a user namespace whoever is not mapped appears as one user, root of the host among them. Folders of that user
   which nobody else may write to were put there by whoever made the namespace. */
static bool is_unmapped_root(uid_t uid)
{
    unsigned long overflow = 65534, inside, outside, count;
    FILE *file = fopen("/proc/sys/kernel/overflowuid", "re");
    if (file) {
        if (fscanf(file, "%lu", &overflow) != 1)
            overflow = 65534;
        fclose(file);
    }
    if (uid != overflow || !(file = fopen("/proc/self/uid_map", "re")))
        return false;
    bool identity = fscanf(file, "%lu %lu %lu", &inside, &outside, &count) == 3 && count >= 0xffffffffUL;
    fclose(file);
    return !identity;
}

static bool trusted_owner(uid_t uid)
{
    return uid == 0 || (uid == geteuid() && !raised()) || is_unmapped_root(uid);
}

/* One component: of root or of us, and not to be changed by others. In a sticky folder (/tmp) others may add entries but
   not touch ours, and what is ours is looked at for itself. */
static bool component_trusted(const char *path, const struct stat *status, struct problem *problem)
{
    if (!trusted_owner(status->st_uid))
        return problem_set(problem, EXIT_NO_PLACE, "", "%s belongs to another user (%lu)", path,
                           (unsigned long)status->st_uid);
    if (S_ISLNK(status->st_mode) || status->st_mode & S_ISVTX)
        return true;
    if (status->st_mode & S_IWOTH || (status->st_mode & S_IWGRP && status->st_gid != 0))
        return problem_set(problem, EXIT_NO_PLACE, "", "other users may write to %s", path);
    return true;
}

/* `path` with its component that ends at `end`, a link, replaced by where that leads. */
static bool follow(const char *path, size_t start, size_t end, char next[PATH_SIZE])
{
    char link[PATH_SIZE], target[PATH_SIZE];
    memcpy(link, path, end);
    link[end] = 0;
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length <= 0)
        return false;
    target[length] = 0;
    int written = target[0] == '/' ? snprintf(next, PATH_SIZE, "%s%s", target, path + end)
                                   : snprintf(next, PATH_SIZE, "%.*s%s%s", (int)start, path, target, path + end);
    return written > 0 && written < PATH_SIZE;
}

/* Every folder on the way and every link, and what each link leads to: nobody who is not trusted can exchange any part
   of the way, now or after it was looked at. */
static bool walk(const char *path, int links, struct problem *problem)
{
    char at[PATH_SIZE], next[PATH_SIZE];
    struct stat status;
    size_t start = 0, length = strlen(path);
    while (start <= length) {
        size_t end = start + strcspn(path + start, "/");
        bool last = end + strspn(path + end, "/") == length;
        size_t size = end ? end : 1; /* the root folder itself */
        memcpy(at, path, size);
        at[size] = 0;
        if (lstat(at, &status))
            return problem_set(problem, EXIT_NO_PLACE, "", "%s cannot be looked at: %s", at, strerror(errno));
        if (!component_trusted(at, &status, problem))
            return false;
        if (S_ISLNK(status.st_mode)) {
            if (!links || !follow(path, start, end, next))
                return problem_set(problem, EXIT_NO_PLACE, "", "%s is a link that leads nowhere", at);
            return walk(next, links - 1, problem);
        }
        if (last)
            return true;
        start = end + strspn(path + end, "/");
    }
    return true;
}

bool os_trusted(const char *path, struct problem *problem)
{
    if (path[0] != '/' || strlen(path) >= PATH_SIZE)
        return problem_set(problem, EXIT_NO_PLACE, "", "%s is not an absolute path", path);
    return walk(path, 8, problem);
}

/* ---- what a file system allows -------------------------------------------------------------------------------- */

bool os_executable_place(const char *folder)
{
#ifdef __APPLE__
    struct statfs status;
    return statfs(folder, &status) || !(status.f_flags & MNT_NOEXEC);
#else
    struct statvfs status;
    return statvfs(folder, &status) || !(status.f_flag & 8 /* ST_NOEXEC */);
#endif
}

uint64_t os_free_space(const char *folder)
{
#ifdef __APPLE__
    struct statfs status;
    return statfs(folder, &status) ? UINT64_MAX : (uint64_t)status.f_bavail * (uint64_t)status.f_bsize;
#else
    struct statvfs status;
    return statvfs(folder, &status) ? UINT64_MAX : (uint64_t)status.f_bavail * status.f_frsize;
#endif
}
#endif
