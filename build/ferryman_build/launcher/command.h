/* --ferryman-cache: what a person asks the cache. */
#ifndef FERRYMAN_COMMAND_H
#define FERRYMAN_COMMAND_H

#include "payload.h"

/* `word` and `value` are the arguments behind --ferryman-cache, NULL when missing; `payload` is NULL in a tree. Answers whether
   it was done; otherwise the problem says why. */
bool command_run(const char *word, const char *value, const struct payload *payload, struct problem *problem);

#endif
