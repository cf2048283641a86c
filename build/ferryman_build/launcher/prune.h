/* The trees of a program that are there, and which of them go. */
#ifndef FERRYMAN_PRUNE_H
#define FERRYMAN_PRUNE_H

#include "common.h"

struct cached {
    char folder[PATH_SIZE];
    const char *key; /* the tree's name: 32 hex digits */
    int64_t used;    /* when it was last started, seconds since 1970 */
    bool running;    /* somebody holds it */
    bool removed;
};

/* Every tree of the program in every place; `days` >= 0 removes those that nobody uses and that were not used for so many
   days. `visit` may be NULL. */
void prune_walk(const char *name, int days, void (*visit)(void *context, const struct cached *cached), void *context);

/* What a start does, at most once a day: remove what is old, except `spare`, in `place` alone. Not on network file
   systems, where nobody sees what runs on another machine. */
void prune_old(const char *name, const char *spare, int days, const char *place);

#endif
