/* Starting the interpreter of a tree in this process. */
#ifndef FERRYMAN_PYTHON_H
#define FERRYMAN_PYTHON_H

#include "launch.h"
#include "platform.h"

struct program {
    const struct launch *launch;
    const char *self;     /* becomes sys.executable */
    const char *contents; /* the tree's _internal folder */
    int argc;
    native_char **argv;
    bool plain; /* an interpreter and not the program */
};

/* Run it to its end and set its exit code; false with a problem when it could not be started. */
bool python_run(const struct program *program, int *code, struct problem *problem);

#endif
