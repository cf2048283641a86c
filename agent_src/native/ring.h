/* The log ring: producers append lines to a bounded buffer, one drainer at a time writes them in batches.
 *
 * There are two buffers of `capacity` bytes. Producers fill `active`; a drainer swaps it with the empty `flight` under the
 * mutex and writes that one without it. So producers never wait for a write, only for each other's memcpy; and what the
 * policy may still drop is exactly what is not on its way yet.
 *
 * This file knows nothing of Python. Every function takes the mutex itself, unless it says otherwise. A thread that holds the
 * GIL must not wait for the mutex: around a fork the mutex is held by a thread that runs Python code and may wait for the
 * GIL. ring_try_append is for such a thread.
 */
#ifndef WATCHKEEPER_RING_H
#define WATCHKEEPER_RING_H

#include "lines.h"
#include "notice.h"
#include "output.h"
#include "sync.h"

typedef enum { POLICY_BLOCK, POLICY_DROP_NEWEST, POLICY_DROP_OLDEST } ring_policy;

/* Lines, where it does not say otherwise. At any moment
 * appended == written + lost + dropped_oldest + queued. */
typedef struct {
    uint64_t appended;       /* taken into the ring */
    uint64_t written;        /* handed to the system as a whole */
    uint64_t lost;           /* given up after an error, or at a close that could not wait */
    uint64_t dropped_oldest; /* pushed out by newer ones */
    uint64_t dropped_newest; /* not taken: the ring was full, or closed */
    uint64_t too_long;       /* not taken: longer than the ring */
    uint64_t queued;         /* in the ring now, those on their way among them */
    uint64_t bytes;          /* handed to the system */
    uint64_t writes;         /* calls that wrote something */
    uint64_t partial;        /* of them, those that wrote less than was there */
    uint64_t interrupted;    /* calls that a signal ended */
    uint64_t busy;           /* calls that would have had to wait for a reader */
    uint64_t errors;         /* calls that failed otherwise */
    uint64_t last_error;     /* errno of the last of them; on Windows the system's code */
    uint64_t waits;          /* producers that had to wait for room */
    uint64_t most_bytes;     /* that `active` ever held */
    uint64_t notices;        /* written; no other count has them, but their bytes and calls are among the others */
} ring_counts;

enum { MOST_NOTICE = 512 }; /* bytes of a notice's pattern */

typedef struct {
    wk_mutex mutex;
    wk_condition filled; /* the drainer waits for lines */
    wk_condition moved;  /* producers wait for room, flush and close for the end of a batch */
    output_target target;
    ring_policy policy;
    size_t capacity, slots;
    int64_t linger, block; /* milliseconds */
    int hold;              /* without a drainer's thread lines stay until somebody flushes */
    char notice[MOST_NOTICE + 1]; /* the pattern; empty: what is missing is only counted */
    line_buffer active, flight;
    size_t flight_done;    /* bytes of `flight` that are written */
    uint64_t flight_last;  /* the number of its last line */
    uint64_t hurry;        /* no lingering before so many lines are done */
    unsigned waiting;      /* threads that wait for `moved` */
    int running;           /* a thread is in ring_run */
    int draining;          /* a thread is writing `flight` */
    int sleeping;          /* the drainer waits for `filled` until anything comes */
    int lingering;         /* it waits for more to come */
    int failing;           /* the last try found no space */
    int torn;              /* what was given up last ended within a line */
    uint64_t announced;    /* lines that notices have said are missing */
    uint64_t announcing;   /* `heading` is a notice about so many; 0: there is none */
    char heading[MOST_NOTICE * 5]; /* goes before `flight`; {count} may become 20 bytes, {time} 24 */
    size_t heading_size, heading_done; /* its bytes, and those of them that are written */
    int closing, closed, abandon;
    ring_counts counts;
} ring;

/* Zero when there is no memory; then nothing has to be freed. */
int ring_init(ring *self, output_target target, ring_policy policy, size_t capacity, int64_t linger, int64_t block, int hold);
void ring_free(ring *self); /* nobody uses it any more */

typedef enum { RING_TAKEN, RING_DROPPED, RING_WAIT } ring_answer;

/* Append one line; a line break is added when it has none at its end. RING_WAIT: the ring is full and its policy is to
 * wait, which is ring_append_waiting's business. `through` tells that nobody else will write the line: call ring_drain. */
ring_answer ring_append(ring *self, const char *line, size_t size, int *through);
int ring_try_append(ring *self, const char *line, size_t size, int *through, ring_answer *answer); /* 0: it was held */
ring_answer ring_append_waiting(ring *self, const char *line, size_t size, int *through);

/* Write what is there, in this thread, until `deadline` of wk_now(). */
void ring_drain(ring *self, int64_t deadline);

/* What stands in the stream where lines are missing (dropped, too long or lost): in `pattern`, which ends with a line break,
 * {count} becomes their number and {time} the time, as in 2026-01-31T23:59:59.999Z. It comes before the next batch, and
 * there is one between two batches at most. Zero: the pattern is too long. */
int ring_set_notice(ring *self, const char *pattern, size_t size);

/* Be the drainer until the ring is closed. Zero: another thread already is. */
int ring_run(ring *self);

uint64_t ring_mark(ring *self);                                  /* flush: what counts from here */
int ring_flushed(ring *self, uint64_t mark, int64_t deadline);   /* wait for it: 1 done, 0 deadline */
int ring_close(ring *self, int64_t deadline);                    /* 1: every line has been written */
void ring_read_counts(ring *self, ring_counts *into);

/* Around fork(): the mutex is held, so that the child gets it in a known state. The lines stay the parent's. */
void ring_before_fork(ring *self);
void ring_after_fork_in_parent(ring *self);
void ring_after_fork_in_child(ring *self);

#endif
