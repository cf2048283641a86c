/* The payload in a Mach-O file: a section of a segment of its own, which the kernel has mapped already. */
#ifdef __APPLE__
#define section apple_section /* loader.h has one of that name */
#include <mach-o/getsect.h>
#include <mach-o/ldsyms.h>
#undef section

#include "platform.h"

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
