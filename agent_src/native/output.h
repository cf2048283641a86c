/* Writing, and what came of it. */
#ifndef WATCHKEEPER_OUTPUT_H
#define WATCHKEEPER_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

typedef intptr_t output_target; /* a file descriptor; on Windows a HANDLE */

typedef struct {
    const char *text;
    size_t size;
} segment;

typedef enum {
    OUTPUT_WROTE,       /* some of it, perhaps not all */
    OUTPUT_INTERRUPTED, /* by a signal: again at once */
    OUTPUT_BUSY,        /* the reader is slow: again when it has read (output_wait) */
    OUTPUT_FULL,        /* no space on the device or in the quota: again later */
    OUTPUT_BROKEN,      /* for good */
} output_result;

/* Write the segments one behind the other, in one system call where there is one for that. */
output_result output_write(output_target target, const segment *segments, int count, size_t *written, int *error);

/* Wait until there may be room, at most so long. */
void output_wait(output_target target, int milliseconds);

#endif
