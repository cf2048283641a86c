/* What every file of the launcher shares: a problem in words, text buffers, and the exit codes. */
#ifndef FERRYMAN_COMMON_H
#define FERRYMAN_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sysexits.h has these numbers; docs/launcher.md explains them to people. */
enum exit_code {
    EXIT_USAGE = 64,
    EXIT_DAMAGED = 65,
    EXIT_HOST = 69,
    EXIT_INTERPRETER = 70,
    EXIT_NO_PLACE = 73,
};

/* Paths are UTF-8 on Windows and bytes elsewhere, and never longer than this with their terminating zero. */
enum { PATH_SIZE = 4096 };

/* Why something did not work: a sentence and a cure, each without a line break at its end. */
struct problem {
    int code;
    char sentence[2 * PATH_SIZE];
    char cure[512];
};

/* Fill `problem`; always answers false, so that a caller can `return problem_set(...)`. Printf formats; %s %d %u %zu
   and %llu are enough for everybody. */
bool problem_set(struct problem *problem, int code, const char *cure, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Print "name: sentence" and the cure to standard error. */
void problem_print(const char *name, const struct problem *problem);

/* `folder`, a separator, `name` into `path` of PATH_SIZE bytes; false when it is too long. Either slash may be in
   `name`; on Windows they are made into backslashes. */
bool path_join(char *path, const char *folder, const char *name);

/* The folder of a path, cut in place; "/" stays. */
void path_parent(char *path);

/* The whole content of a small file, zero-terminated and malloc'ed, or NULL. `limit` is the largest size accepted. */
char *read_text(const char *path, size_t limit, size_t *size);

#endif
