/* A tree that is whole: its marker, its drafts, unpacking and mending. The rules are at the head of cache.c. */
#ifndef FERRYMAN_WHOLE_H
#define FERRYMAN_WHOLE_H

#include "payload.h"

#define MARKER ".ferryman"

/* What is known while one place is tried. */
struct attempt {
    const struct payload *payload;
    const struct place *place;
    char program[PATH_SIZE];   /* place/name */
    char tree[PATH_SIZE];      /* place/name/key */
    char lock_file[PATH_SIZE]; /* place/name/key.lock */
    bool held;                 /* the tree is there, and this process holds it, by `lock` if that is not NO_LOCK */
    lock_handle lock;
    struct problem *problem;
};

enum { NO_LOCK = -1, DAY = 24 * 60 * 60 };

/* The lock file of the tree `key` in a program's folder. */
bool lock_path(char path[PATH_SIZE], const char *program, const char *key);

/* The paths of an attempt; false when one is too long, with a problem. */
bool attempt_begin(struct attempt *attempt, const char *name, const char *key);

/* Rule 3: what is written about a tree. OTHER is text that says nothing to this launcher, or a boot where the system names
   none; EARLIER is another boot than this one. */
enum marker { MARKER_NONE, MARKER_OTHER, MARKER_EARLIER, MARKER_BELIEVED };
enum marker marker_read(const char *tree);
int64_t marker_used(const char *tree); /* when the tree was started last, within a day; seconds since 1970 */

/* Rule 2: the caller holds the lock file of `key`. */
void remove_drafts(const char *folder, const char *key);

/* The caller of these holds the tree's lock file. */
bool unpack_fresh(struct attempt *attempt, const struct index *index);
/* `mended` counts the files that were wrong, if it is not NULL. */
bool mend(struct attempt *attempt, const struct index *index, bool contents, uint32_t *mended);
/* Write all of the tree to the disk and say so in its marker. */
bool seal(struct attempt *attempt, const struct index *index);

#endif
