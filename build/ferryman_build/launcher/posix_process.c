/* The process itself on Linux and macOS: its executable, its signals, the libraries that it loads. */
#ifndef _WIN32
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __APPLE__
#define section apple_section /* loader.h has one of that name */
#include <mach-o/dyld.h>
#undef section
#include <sys/sysctl.h>
#else
#include <sys/auxv.h>
#include <sys/syscall.h>
#endif

#include "platform.h"

bool os_self(char path[PATH_SIZE], struct problem *problem)
{
    char found[PATH_MAX];
#ifdef __APPLE__
    uint32_t size = sizeof found;
    char raw[PATH_MAX];
    size = sizeof raw;
    bool known = !_NSGetExecutablePath(raw, &size) && realpath(raw, found);
#else
    ssize_t length = readlink("/proc/self/exe", found, sizeof found - 1);
    bool known = length > 0;
    if (known) {
        found[length] = 0;
    } else { /* no /proc: what the kernel was asked to execute; relative to the working directory, which is still that */
        const char *executed = (const char *)getauxval(AT_EXECFN);
        known = executed && !os_raised() && realpath(executed, found); /* its caller says that */
    }
#endif
    if (!known || strlen(found) >= PATH_SIZE)
        return problem_set(problem, EXIT_HOST, "Start it by its absolute path, or mount /proc.",
                           "the system does not say where this executable lies.");
    strcpy(path, found);
    return true;
}

/* ---- time and chance -------------------------------------------------------------------------------------- */

int64_t os_now(void)
{
    return time(NULL);
}

void os_pause(unsigned milliseconds)
{
    struct timespec pause = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

void os_boot_id(char id[80])
{
    id[0] = 0;
#ifdef __APPLE__
    size_t size = 79;
    if (sysctlbyname("kern.bootsessionuuid", id, &size, NULL, 0))
        id[0] = 0;
#else
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return;
    ssize_t got = read(file, id, 79);
    close(file);
    id[got > 0 ? got : 0] = 0;
    id[strcspn(id, "\n")] = 0;
#endif
}

bool os_random(void *data, size_t size)
{
    int file = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
    bool done = file >= 0 && read(file, data, size) == (ssize_t)size;
    if (file >= 0)
        close(file);
    if (!done) { /* no /dev: two drafts at once are prevented by the lock, the name only has to be a fresh one */
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t mixed = (uint64_t)now.tv_nsec * 2654435761u ^ (uint64_t)getpid() << 40 ^ (uint64_t)now.tv_sec;
        memcpy(data, &mixed, size < sizeof mixed ? size : sizeof mixed);
    }
    return true;
}

/* ---- signals ---------------------------------------------------------------------------------------------- */

static const int guarded[] = {SIGINT, SIGTERM, SIGHUP};
enum { GUARDED = sizeof guarded / sizeof *guarded };
static struct sigaction before[GUARDED], before_size;
static volatile sig_atomic_t requested;

static void note(int number)
{
    requested = number;
}

void os_guard_begin(void)
{
    struct sigaction action = {.sa_handler = note};
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < GUARDED; i++) {
        sigaction(guarded[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN)
            sigaction(guarded[i], &action, NULL);
    }
    action.sa_handler = SIG_IGN; /* a limit on the size of files is an error like a full disk, and not a death */
    sigaction(SIGXFSZ, &action, &before_size);
}

bool os_stop_requested(void)
{
    return requested;
}

void os_guard_end(void)
{
    for (int i = 0; i < GUARDED; i++)
        sigaction(guarded[i], &before[i], NULL);
    sigaction(SIGXFSZ, &before_size, NULL);
    if (!requested)
        return;
    raise(requested);
    /* As the first process of a PID namespace it has no default action. */
    _exit(128 + requested);
}

/* ---- the interpreter -------------------------------------------------------------------------------------- */

void *os_load(const char *library, const char *contents, struct problem *problem)
{
    (void)contents; /* the libraries of a tree find each other by $ORIGIN */
    void *loaded = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (loaded)
        return loaded;
    const char *said = dlerror();
    said = said ? said : "";
    if (strstr(said, "GLIBC_"))
        problem_set(problem, EXIT_HOST, "Use a machine with a newer C library, or a build for an older one.",
                    "the C library of this machine is too old for it: %s.", said);
    else if (strstr(said, "failed to map segment") || strstr(said, "Operation not permitted"))
        problem_set(problem, EXIT_HOST, "Set FERRYMAN_CACHE to a folder on a file system that is not mounted noexec.",
                    "the system does not allow to execute from the program's folder: %s.", said);
    else
        problem_set(problem, EXIT_HOST, "Install what is missing, or use the build for this system.",
                    "its interpreter does not load here: %s.", said);
    return NULL;
}

void *os_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

/* ---- words ------------------------------------------------------------------------------------------------- */

static void say(int file, const char *text)
{
    for (size_t left = strlen(text); left;) {
        ssize_t done = write(file, text, left);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        text += done, left -= (size_t)done;
    }
}

void os_write_error(const char *text)
{
    say(2, text);
}

void os_write_output(const char *text)
{
    say(1, text);
}

/* ---- who uses a tree --------------------------------------------------------------------------------------- */

#ifdef __linux__
static bool maps_from(const char *pid, const char *folder)
{
    char path[64], line[PATH_SIZE + 128];
    snprintf(path, sizeof path, "/proc/%.20s/maps", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    size_t length = strlen(folder);
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) {
        const char *at = strchr(line, '/');
        found = at && !strncmp(at, folder, length) && at[length] == '/';
    }
    fclose(file);
    return found;
}
#endif

/* A daemon that closed all its descriptors holds no lock; but it has libpython mapped. */
bool os_in_use(const char *folder)
{
#ifdef __linux__
    char real[PATH_MAX];
    DIR *list = opendir("/proc");
    bool found = false;
    if (!list)
        return false;
    if (realpath(folder, real)) /* the kernel tells paths without links */
        folder = real;
    for (struct dirent *entry; !found && (entry = readdir(list));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            found = maps_from(entry->d_name, folder);
    closedir(list);
    return found;
#else
    (void)folder;
    return false;
#endif
}
#endif
