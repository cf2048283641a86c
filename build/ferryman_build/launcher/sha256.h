/* SHA-256 (FIPS 180-4). */
#ifndef FERRYMAN_SHA256_H
#define FERRYMAN_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes taken so far */
    uint8_t block[64];
};

void sha256_begin(struct sha256 *hash);
void sha256_take(void *hash, const void *data, size_t size); /* a struct sha256; void * so that it serves as a callback */
void sha256_end(struct sha256 *hash, uint8_t digest[32]);
void sha256_of(const void *data, size_t size, uint8_t digest[32]);

#endif
