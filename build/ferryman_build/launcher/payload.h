/* Reading a payload: docs/launcher.md has the layout. */
#ifndef FERRYMAN_PAYLOAD_H
#define FERRYMAN_PAYLOAD_H

#include "common.h"
#include "platform.h"

struct payload {
    const uint8_t *body;
    uint64_t body_size, unpacked;
    uint32_t segments, index_size, index_packed, keep_days;
    uint8_t hash[32];
    char key[33]; /* the first half of the hash in hex: the tree's name in the cache */
    char name[128], version[128];
};

struct segment {
    uint64_t position; /* in the body */
    uint32_t packed, unpacked, dictionary;
};

enum entry_kind { ENTRY_FILE = 0, ENTRY_LINK = 1 };
struct entry {
    enum entry_kind kind;
    uint16_t mode;
    uint32_t segment, offset;
    uint64_t size;
    const uint8_t *sha256;
    char *path, *link; /* zero-terminated, `/` */
};

struct index {
    struct segment *segments; /* from 1; segments[0] is the index itself */
    uint32_t segment_count;
    struct entry *entries;
    uint32_t entry_count;
    char *names;
    uint8_t *memory;
};

/* Read and check the head; cheap, done at every start. */
bool payload_open(const struct section *section, struct payload *payload, struct problem *problem);
/* Hash the body. Whoever unpacks calls it first: nothing is run that was changed on its way. */
bool payload_check(const struct payload *payload, struct problem *problem);
/* Unpack and check the index; freed by index_free. */
bool payload_index(const struct payload *payload, struct index *index, struct problem *problem);
void index_free(struct index *index);

/* The cure of every damage. */
extern const char *const DAMAGED_CURE;

#endif
