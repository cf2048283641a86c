#include "lines.h"

#include <stdlib.h>
#include <string.h>

int
buffer_init(line_buffer *buffer, size_t capacity, size_t slots)
{
    buffer->bytes = malloc(capacity);
    buffer->lengths = malloc(slots * sizeof *buffer->lengths);
    return buffer->bytes != NULL && buffer->lengths != NULL;
}

void
buffer_free(line_buffer *buffer)
{
    free(buffer->bytes);
    free(buffer->lengths);
}

void
buffer_clear(line_buffer *buffer)
{
    buffer->start = buffer->used = buffer->first = buffer->lines = 0;
}

void
buffer_put(line_buffer *buffer, size_t capacity, const char *text, size_t size)
{
    size_t at = (buffer->start + buffer->used) % capacity;
    size_t head = size < capacity - at ? size : capacity - at;
    memcpy(buffer->bytes + at, text, head);
    memcpy(buffer->bytes, text + head, size - head);
    buffer->used += size;
}

void
buffer_drop_first(line_buffer *buffer, size_t capacity, size_t slots)
{
    uint32_t length = buffer->lengths[buffer->first];
    buffer->start = (buffer->start + length) % capacity;
    buffer->used -= length;
    buffer->first = (buffer->first + 1) % slots;
    buffer->lines--;
}

/* The bytes behind the first `done`, as one segment or, across the end of the buffer, two. */
int
buffer_segments(const line_buffer *buffer, size_t capacity, size_t done, segment *into)
{
    size_t at = (buffer->start + done) % capacity, left = buffer->used - done;
    size_t head = left < capacity - at ? left : capacity - at;
    into[0] = (segment){buffer->bytes + at, head};
    into[1] = (segment){buffer->bytes, left - head};
    return left > head ? 2 : 1;
}

/* How many lines end within the first `done` bytes, and whether the last of them ends there exactly. */
size_t
buffer_whole_lines(const line_buffer *buffer, size_t slots, size_t done, int *torn)
{
    size_t lines = 0, end = 0;
    while (lines < buffer->lines) {
        size_t next = end + buffer->lengths[(buffer->first + lines) % slots];
        if (next > done) {
            break;
        }
        end = next;
        lines++;
    }
    *torn = end < done;
    return lines;
}
