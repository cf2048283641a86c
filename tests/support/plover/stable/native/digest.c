#include "digest.h"

/* FNV-1a, 64 bits. */
uint64_t plover_digest(const unsigned char *data, size_t size) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t index = 0; index < size; index++) {
        hash ^= data[index];
        hash *= UINT64_C(0x100000001b3);
    }
    return hash;
}
