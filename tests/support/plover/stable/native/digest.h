#include <stddef.h>
#include <stdint.h>

uint64_t plover_digest(const unsigned char *data, size_t size);
