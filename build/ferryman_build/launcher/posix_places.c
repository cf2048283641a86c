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
#include <sys/vfs.h>
#define MACHINE_WIDE "/var/cache/ferryman"
#define BELOW_HOME ".cache/ferryman"
#endif

#include "platform.h"

/* Started with rights that its user does not have (set-uid, file capabilities): nothing that the user says about places
   or modes is believed, because whoever writes the tree decides what runs with those rights. */
bool os_raised(void)
{
#ifdef __APPLE__
    return issetugid();
#else
    return getauxval(AT_SECURE) != 0;
#endif
}

const char *os_getenv(const char *name)
{
    const char *value = os_raised() ? NULL : getenv(name);
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

/* A service may be started without HOME. The user database knows as well, but asking it loads libraries into the process
   and may wait for a network: only when it is this place's turn. */
static void add_home(struct list *list)
{
    const char *home = os_getenv("HOME");
    struct place *place = add(list, home ? "HOME" : "home of the user", home, BELOW_HOME);
    place->pending = !home;
}

void os_place_complete(struct place *place)
{
    static char home[PATH_SIZE];
    static bool asked;
    if (!place->pending)
        return;
    if (!asked) {
        struct passwd *entry = getpwuid(geteuid());
        snprintf(home, sizeof home, "%s", entry ? entry->pw_dir : "");
        asked = true;
    }
    place->pending = false;
    if (home[0] != '/' || !path_join(place->path, home, BELOW_HOME))
        snprintf(place->reason, sizeof place->reason, "HOME is not set, and the user database names none");
}

static void add_swept(struct list *list, const char *source, const char *folder)
{
    char own[64];
    snprintf(own, sizeof own, "ferryman-%lu", (unsigned long)geteuid());
    for (size_t i = 0; folder && i < list->count; i++) {
        size_t length = strlen(folder);
        const char *path = list->places[i].path;
        if (!strncmp(path, folder, length) && path[length] == '/' && !strcmp(path + length + 1, own))
            return; /* TMPDIR is one of the others */
    }
    if (folder)
        add(list, source, folder, own)->swept = true;
}

size_t os_places(struct place places[PLACES])
{
    struct list list = {places, 0};
    bool root = geteuid() == 0;
    const char *named = os_getenv("FERRYMAN_CACHE");
    if (named) {
        /* What root puts there is read by others, as in the machine-wide place: an image or a package is made that way. */
        add(&list, "FERRYMAN_CACHE", named, NULL)->shared = root;
        return list.count;
    }
    struct place *machine = add(&list, "machine-wide", MACHINE_WIDE, NULL);
    machine->shared = root;
    machine->readonly = !root;
    if (os_raised()) {
        add(&list, "this user's places", NULL, NULL);
        snprintf(places[list.count - 1].reason, sizeof places->reason, "not believed, because it runs with raised rights");
        return list.count;
    }
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
   which nobody else may write to were put there by whoever made the namespace; what lies in a folder that all may write to
   (/tmp of the host) may be anybody's. Where the number belongs to a user of the namespace it is that user. */
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
    bool mapped = false;
    while (fscanf(file, "%lu %lu %lu", &inside, &outside, &count) == 3)
        mapped |= overflow >= inside && overflow - inside < count;
    fclose(file);
    return !mapped;
}

/* `open`: it lies in a folder that all may write to. */
static bool trusted_owner(uid_t uid, bool open)
{
    return uid == 0 || (uid == geteuid() && !os_raised()) || (!open && is_unmapped_root(uid));
}

/* One component: of root or of us, and not to be changed by others. In a sticky folder (/tmp) others may add entries but
   not touch ours, and what is ours is looked at for itself. */
static bool component_trusted(const char *path, const struct stat *status, bool open, struct problem *problem)
{
    if (!trusted_owner(status->st_uid, open))
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
    bool open = false;
    while (start <= length) {
        size_t end = start + strcspn(path + start, "/");
        bool last = end + strspn(path + end, "/") == length;
        size_t size = end ? end : 1; /* the root folder itself */
        memcpy(at, path, size);
        at[size] = 0;
        if (lstat(at, &status))
            return problem_set(problem, EXIT_NO_PLACE, "", "%s cannot be looked at: %s", at, strerror(errno));
        if (!component_trusted(at, &status, open, problem))
            return false;
        open = status.st_mode & S_IWOTH;
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
    uint64_t block = statfs(folder, &status) ? 0 : (uint64_t)status.f_bsize;
#else
    struct statvfs status;
    uint64_t block = statvfs(folder, &status) ? 0 : (uint64_t)status.f_frsize;
#endif
    /* A file system in memory without a limit counts no blocks at all. */
    return block && status.f_blocks ? (uint64_t)status.f_bavail * block : UINT64_MAX;
}

bool os_remote(const char *folder)
{
#ifdef __APPLE__
    struct statfs status;
    return !statfs(folder, &status) && !(status.f_flags & MNT_LOCAL);
#else
    /* statfs(2): NFS, SMB, CIFS, SMB2, 9P, Ceph, AFS (two), Lustre, GFS2, OCFS2, and FUSE, where nobody knows. */
    static const uint32_t kinds[] = {0x6969,     0x517b,     0xff534d42, 0xfe534d42, 0x01021997, 0x00c36400,
                                     0x5346414f, 0x6b414653, 0x0bd00bd0, 0x01161970, 0x7461636f, 0x65735546};
    struct statfs status;
    if (statfs(folder, &status))
        return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if ((uint32_t)status.f_type == kinds[i])
            return true;
    return false;
#endif
}
#endif
