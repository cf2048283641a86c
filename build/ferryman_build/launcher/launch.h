/* `_internal/_ferryman/launch`: how a tree is started. */
#ifndef FERRYMAN_LAUNCH_H
#define FERRYMAN_LAUNCH_H

#include "common.h"

#define CONTENTS "_internal"

enum { LAUNCH_PATHS = 16 };

/* The strings point into `text`, which lives as long as the process. */
struct launch {
    char *text;
    const char *name, *version, *python, *library, *main;
    const char *paths[LAUNCH_PATHS];
    size_t path_count;
    int optimize;
    bool interpreter;
};

/* Read the launch file of the tree in `folder`. */
bool launch_read(const char *folder, struct launch *launch, struct problem *problem);

#endif
