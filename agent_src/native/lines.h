/* A buffer of lines, one behind the other in a ring of bytes. Whoever calls sees to it that nobody else does. */
#ifndef WATCHKEEPER_LINES_H
#define WATCHKEEPER_LINES_H

#include "output.h"

typedef struct {
    char *bytes;
    uint32_t *lengths; /* of the lines, a ring of `slots` */
    size_t start, used;
    size_t first, lines;
} line_buffer;

/* Zero when there is no memory; what was got is freed by buffer_free all the same. */
int buffer_init(line_buffer *buffer, size_t capacity, size_t slots);
void buffer_free(line_buffer *buffer);
void buffer_clear(line_buffer *buffer);

/* Bytes at the end; there is room. Lines are counted by the caller. */
void buffer_put(line_buffer *buffer, size_t capacity, const char *text, size_t size);
void buffer_drop_first(line_buffer *buffer, size_t capacity, size_t slots);

/* The bytes behind the first `done`, as one segment or, across the end of the buffer, two. */
int buffer_segments(const line_buffer *buffer, size_t capacity, size_t done, segment *into);

/* How many lines end within the first `done` bytes, and whether the last of them ends there exactly. */
size_t buffer_whole_lines(const line_buffer *buffer, size_t slots, size_t done, int *torn);

#endif
