/* One pass over all processes: what a platform's file collects without Python, and what processes.c makes of it. */
#ifndef WATCHKEEPER_PROCESSES_H
#define WATCHKEEPER_PROCESSES_H

#include <stddef.h>
#include <stdint.h>

enum { HAS_CPU = 1, HAS_RSS = 2, HAS_STARTED = 4, HAS_COMMAND = 8 };

/* Texts are bytes of `collection.text`: the platform's own encoding, lengths in bytes. */
typedef struct {
    int64_t pid;
    int64_t ppid;
    double user_seconds;
    double system_seconds;
    double started; /* seconds since the epoch */
    uint64_t rss_bytes;
    size_t name_at, name_size;
    size_t command_at, command_size; /* arguments, each ended by NUL (the last one perhaps not) */
    char state;
    unsigned char has; /* HAS_*: what is not there becomes None */
} process_record;

typedef struct {
    process_record *records;
    size_t count, room;
    char *text;
    size_t text_size, text_room;
} collection;

/* Zero, or the errno (on Windows: the system's error code) for which there is no answer at all. A process that ends
 * meanwhile is no error. Called without the GIL. `root`: where /proc is; only Linux looks at it. */
int collect_processes(collection *into, const char *root, int want_command);

/* What collectors use. Each answers NULL when there is no memory. */
process_record *collection_add(collection *into);
char *collection_text(collection *into, size_t bytes); /* room at the end; not taken before text_size grows */

#endif
