/* The cache: which folder a payload's tree lies in, and how it gets there. */
#ifndef FERRYMAN_CACHE_H
#define FERRYMAN_CACHE_H

#include "payload.h"

struct tree {
    char folder[PATH_SIZE];
    const struct place *place;
};

/* The tree of `payload`, whole and locked for the life of this process; unpacked if no place has it yet. */
bool cache_find(const struct payload *payload, struct tree *tree, struct problem *problem);

/* Make the tree whole again, every file compared by content, and flush all of it to the disk. `mended` counts the files
   that were wrong. */
bool cache_seal(const struct payload *payload, const struct tree *tree, uint32_t *mended, struct problem *problem);

#endif
