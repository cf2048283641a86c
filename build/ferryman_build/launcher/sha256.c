/* SHA-256 (FIPS 180-4), in plain C: it hashes a payload of some 10 MB once per machine, and a few hundred bytes at
   every other start, so tables of one instruction set would be weight without use. On x86-64 processors that have the
   instructions for it (SHA-NI), they are used: that makes the first start shorter by about a third. */
#include "sha256.h"

#include <string.h>

#if defined(__x86_64__) && !defined(SHA256_PLAIN)
#include <cpuid.h>
#include <immintrin.h>
#endif

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes (section 4.2.2). */
static const uint32_t K[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, int bits)
{
    return x >> bits | x << (32 - bits);
}

static uint32_t big_endian(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Section 6.2.2, with the message schedule in a ring of sixteen words. */
static void blocks_plain(uint32_t state[8], const uint8_t *data, size_t count)
{
    for (; count; count--, data += 64) {
        uint32_t w[16], v[8];
        memcpy(v, state, sizeof v);
        for (int t = 0; t < 64; t++) {
            if (t < 16) {
                w[t] = big_endian(data + 4 * t);
            } else {
                uint32_t a = w[(t + 1) & 15], b = w[(t + 14) & 15];
                uint32_t s0 = rotate(a, 7) ^ rotate(a, 18) ^ a >> 3;
                uint32_t s1 = rotate(b, 17) ^ rotate(b, 19) ^ b >> 10;
                w[t & 15] += s0 + w[(t + 9) & 15] + s1;
            }
            uint32_t e = v[4], a = v[0];
            uint32_t t1 = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                          K[t] + w[t & 15];
            uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (int i = 0; i < 8; i++)
            state[i] += v[i];
    }
}

#if defined(__x86_64__) && !defined(SHA256_PLAIN)
/* The instructions keep the state as (A B E F) and (C D G H), and do two rounds each (Intel SDM, SHA256RNDS2). */
__attribute__((target("sha,sse4.1,ssse3"))) static void blocks_shani(uint32_t state[8], const uint8_t *data, size_t count)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bULL, 0x0405060700010203ULL);
    __m128i abef = _mm_set_epi32((int)state[0], (int)state[1], (int)state[4], (int)state[5]);
    __m128i cdgh = _mm_set_epi32((int)state[2], (int)state[3], (int)state[6], (int)state[7]);
    for (; count; count--, data += 64) {
        __m128i w[4], abef_before = abef, cdgh_before = cdgh;
        for (int t = 0; t < 16; t++) {
            __m128i *now = &w[t & 3];
            if (t < 4) {
                *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + t), swap);
            } else {
                __m128i last = w[(t + 3) & 3];
                __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(t + 1) & 3]),
                                            _mm_alignr_epi8(last, w[(t + 2) & 3], 4));
                *now = _mm_sha256msg2_epu32(sum, last);
            }
            __m128i add = _mm_add_epi32(*now, _mm_load_si128((const __m128i *)K + t));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, add);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(add, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    state[0] = (uint32_t)_mm_extract_epi32(abef, 3), state[1] = (uint32_t)_mm_extract_epi32(abef, 2);
    state[4] = (uint32_t)_mm_extract_epi32(abef, 1), state[5] = (uint32_t)_mm_extract_epi32(abef, 0);
    state[2] = (uint32_t)_mm_extract_epi32(cdgh, 3), state[3] = (uint32_t)_mm_extract_epi32(cdgh, 2);
    state[6] = (uint32_t)_mm_extract_epi32(cdgh, 1), state[7] = (uint32_t)_mm_extract_epi32(cdgh, 0);
}

/* CPUID leaf 7, EBX bit 29: SHA; leaf 1, ECX bits 9 and 19: SSSE3 and SSE4.1. */
static int has_shani(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 9) || !(c & 1u << 19))
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29;
}

static void blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    static int known = -1;
    if (known < 0)
        known = has_shani();
    (known ? blocks_shani : blocks_plain)(state, data, count);
}
#else
static void blocks(uint32_t state[8], const uint8_t *data, size_t count)
{
    blocks_plain(state, data, count);
}
#endif

void sha256_begin(struct sha256 *hash)
{
    /* The fractional parts of the square roots of the first eight primes (section 5.3.3). */
    static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(hash->state, first, sizeof first);
    hash->length = 0;
}

void sha256_take(void *context, const void *data, size_t size)
{
    struct sha256 *hash = context;
    const uint8_t *bytes = data;
    size_t held = hash->length % 64;
    hash->length += size;
    if (held) {
        size_t part = size < 64 - held ? size : 64 - held;
        memcpy(hash->block + held, bytes, part);
        bytes += part, size -= part;
        if (held + part < 64)
            return;
        blocks(hash->state, hash->block, 1);
    }
    blocks(hash->state, bytes, size / 64);
    memcpy(hash->block, bytes + size / 64 * 64, size % 64);
}

void sha256_end(struct sha256 *hash, uint8_t digest[32])
{
    uint64_t bits = hash->length * 8;
    uint8_t tail[72] = {0x80};
    size_t padding = (119 - hash->length % 64) % 64 + 1; /* up to eight bytes before the end of a block */
    for (int i = 0; i < 8; i++)
        tail[padding + i] = (uint8_t)(bits >> (56 - 8 * i));
    sha256_take(hash, tail, padding + 8);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_of(const void *data, size_t size, uint8_t digest[32])
{
    struct sha256 hash;
    sha256_begin(&hash);
    sha256_take(&hash, data, size);
    sha256_end(&hash, digest);
}
