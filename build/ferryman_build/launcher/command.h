/* --ferryman-cache: what a person asks the cache. */
#ifndef FERRYMAN_COMMAND_H
#define FERRYMAN_COMMAND_H

#include "payload.h"

/* `word` and `value` are the arguments behind --ferryman-cache, NULL when missing; `payload` is NULL in a tree. Answers the
   exit code; with -1 the problem is filled. */
int command_run(const char *word, const char *value, const struct payload *payload, struct problem *problem);

#endif
