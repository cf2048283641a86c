/* The payload in a Mach-O file: a section of a segment of its own, which the kernel has mapped already. */
#ifdef __APPLE__
#define section apple_section /* loader.h has one of that name */
#include <mach-o/getsect.h>
#include <mach-o/ldsyms.h>
#undef section

#include <sys/mman.h>
#include <unistd.h>

#include "platform.h"

void os_payload_done(const struct section *section)
{
    uintptr_t page = (uintptr_t)getpagesize(), start = (uintptr_t)section->data / page * page;
    madvise((void *)start, (size_t)((uintptr_t)section->data + section->size - start), MADV_DONTNEED);
}

bool os_payload(const char *self, struct section *section, struct problem *problem)
{
    unsigned long size = 0;
    (void)self;
    (void)problem;
    section->data = getsectiondata(&_mh_execute_header, "__FERRYMAN", "__payload", &size);
    section->size = size;
    return true;
}
#endif
