/* The payload in an ELF file: a section that no segment loads, so that it costs no address space, and that lies behind
   all code, so that a truncated file can still say so. */
#ifdef __linux__
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "payload.h"
#include "platform.h"

static const char SECTION[] = ".ferryman";

/* Defined, among the loaded data, by what is linked in together with a payload: so a file whose section table was changed
   or stripped is known to have lost its payload, and is not taken for the launcher of a tree. */
extern const uint64_t ferryman_payload_size __attribute__((weak, visibility("hidden")));

static bool read_at(int file, void *into, size_t size, uint64_t offset)
{
    return pread(file, into, size, (off_t)offset) == (ssize_t)size;
}

static bool damaged(struct problem *problem, const char *what)
{
    return problem_set(problem, EXIT_DAMAGED, DAMAGED_CURE, "this executable is damaged: %s.", what);
}

static bool truncated(struct problem *problem)
{
    return damaged(problem, "it was truncated");
}

static bool none(struct problem *problem)
{
    return !&ferryman_payload_size || damaged(problem, "its payload is not to be found");
}

static bool map(int file, uint64_t offset, uint64_t size, struct section *section, struct problem *problem)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), before = offset % page;
    void *mapped = mmap(NULL, (size_t)(size + before), PROT_READ, MAP_PRIVATE, file, (off_t)(offset - before));
    if (mapped == MAP_FAILED)
        return problem_set(problem, EXIT_HOST, "", "this executable cannot be mapped: %s.", strerror(errno));
    section->data = (const uint8_t *)mapped + before;
    section->size = (size_t)size;
    return true;
}

/* The payload is the last section but for the names of the sections; both are looked for from the end. */
static bool find(int file, uint64_t file_size, struct section *section, struct problem *problem)
{
    ElfW(Ehdr) header;
    ElfW(Shdr) row, names;
    char name[sizeof SECTION];
    if (!read_at(file, &header, sizeof header, 0))
        return truncated(problem);
    if (!header.e_shoff || header.e_shentsize != sizeof row || header.e_shstrndx >= header.e_shnum)
        return none(problem);
    if (!read_at(file, &names, sizeof names, header.e_shoff + (uint64_t)header.e_shstrndx * sizeof names))
        return truncated(problem);
    for (unsigned i = header.e_shnum; i-- > 1;) {
        if (!read_at(file, &row, sizeof row, header.e_shoff + (uint64_t)i * sizeof row))
            return truncated(problem);
        if (row.sh_type == SHT_NOBITS || !read_at(file, name, sizeof name, names.sh_offset + row.sh_name) ||
            memcmp(name, SECTION, sizeof name))
            continue;
        if (row.sh_offset > file_size || row.sh_size > file_size - row.sh_offset)
            return truncated(problem);
        if (&ferryman_payload_size && row.sh_size != ferryman_payload_size)
            return damaged(problem, "its table of sections was changed");
        return map(file, row.sh_offset, row.sh_size, section, problem);
    }
    return none(problem);
}

void os_payload_done(const struct section *section)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), start = (uintptr_t)section->data / page * page;
    munmap((void *)start, (size_t)((uintptr_t)section->data + section->size - start));
}

bool os_payload(const char *self, struct section *section, struct problem *problem)
{
    struct stat status;
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC); /* works when the file was replaced just now, too */
    if (file < 0)
        file = open(self, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return problem_set(problem, EXIT_HOST, "Give it read permission as well (chmod a+r).",
                           "this executable cannot be read: %s.", strerror(errno));
    bool done = !fstat(file, &status) && find(file, (uint64_t)status.st_size, section, problem);
    close(file);
    return done;
}
#endif
