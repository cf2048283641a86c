#define _GNU_SOURCE
#include "ring.h"

#include <stdlib.h>
#include <string.h>

enum {
    BYTES_A_SLOT = 16, /* capacity / BYTES_A_SLOT lines at most, however short */
    SLICE = 100,       /* milliseconds for which a drainer waits before it looks at `abandon` again */
    FIRST_PAUSE = 10,  /* between tries on a full device; doubled up to LAST_PAUSE */
    LAST_PAUSE = 1000,
    LAST_GRACE = 200, /* for a drainer that was told to give up */
};

/* -- life -- */

int
ring_init(ring *self, output_target target, ring_policy policy, size_t capacity, int64_t linger, int64_t block, int hold)
{
    memset(self, 0, sizeof *self);
    self->target = target;
    self->policy = policy;
    self->capacity = capacity;
    self->slots = capacity / BYTES_A_SLOT;
    self->linger = linger;
    self->block = block;
    self->hold = hold;
    int made = buffer_init(&self->active, capacity, self->slots);
    if (!buffer_init(&self->flight, capacity, self->slots) || !made) {
        buffer_free(&self->active);
        buffer_free(&self->flight);
        return 0;
    }
    wk_mutex_init(&self->mutex);
    wk_condition_init(&self->filled);
    wk_condition_init(&self->moved);
    return 1;
}

void
ring_free(ring *self)
{
    wk_condition_destroy(&self->moved);
    wk_condition_destroy(&self->filled);
    wk_mutex_destroy(&self->mutex);
    buffer_free(&self->active);
    buffer_free(&self->flight);
}

/* -- notices -- */

int
ring_set_notice(ring *self, const char *pattern, size_t size)
{
    if (size > MOST_NOTICE) {
        return 0;
    }
    memcpy(self->notice, pattern, size);
    self->notice[size] = 0;
    return 1;
}

static uint64_t
missing(const ring_counts *counts)
{
    return counts->dropped_oldest + counts->dropped_newest + counts->too_long + counts->lost;
}

/* With the mutex: make a notice where lines are missing. */
static void
take_off_notice(ring *self)
{
    uint64_t count = missing(&self->counts) - self->announced;
    if (self->notice[0] == 0 || count == 0 || self->abandon) {
        return;
    }
    size_t size = notice_format(self->notice, count, wk_wall(), self->heading, sizeof self->heading);
    if (size <= self->capacity) {
        self->heading_size = size;
        self->announcing = count;
    }
}

/* The notice is over: what it has not said, the next one will. */
static void
finish_notice(ring *self)
{
    if (self->announcing == 0) {
        return;
    }
    if (self->heading_done == self->heading_size) {
        self->announced += self->announcing;
        self->counts.notices++;
    }
    else if (self->heading_done > 0) {
        self->torn = 1;
    }
    self->heading_size = self->heading_done = 0;
    self->announcing = 0;
}

/* -- waiting, with the mutex -- */

static int64_t
shorter(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

static void
wait_moved(ring *self, int64_t milliseconds)
{
    self->waiting++;
    wk_wait(&self->moved, &self->mutex, milliseconds);
    self->waiting--;
}

static void
tell_moved(ring *self)
{
    if (self->waiting > 0) {
        wk_wake_all(&self->moved);
    }
}

/* Whether nothing of the first `mark` lines is still on its way. Lines are numbered as they are appended: `active` ends
 * with the newest, `flight` with the one that was the newest when it took off. (Counting what is done would not do: the
 * policy drops lines that are younger than those in flight.) */
static int
is_settled(const ring *self, uint64_t mark)
{
    size_t flying = self->flight.lines;
    uint64_t before = flying > 0 ? self->flight_last - flying : self->counts.appended - self->active.lines;
    return before >= mark;
}

/* Wake the drainer where it sleeps, or where it has lingered for long enough: a signal costs more than a line. */
static void
tell_filled(ring *self, int enough)
{
    enough = enough || self->active.used >= self->capacity / 2 || self->active.lines >= self->slots / 2;
    if (self->sleeping || (self->lingering && enough)) {
        self->sleeping = self->lingering = 0;
        wk_wake_all(&self->filled);
    }
}

/* -- producers -- */

static int
has_room(const ring *self, size_t size)
{
    return self->active.used + size <= self->capacity && self->active.lines < self->slots;
}

static void
put_line(ring *self, const char *line, size_t size, size_t whole)
{
    line_buffer *buffer = &self->active;
    buffer->lengths[(buffer->first + buffer->lines) % self->slots] = (uint32_t)whole;
    buffer->lines++;
    buffer_put(buffer, self->capacity, line, size);
    if (whole > size) {
        buffer_put(buffer, self->capacity, "\n", 1);
    }
    self->counts.appended++;
    if (buffer->used > self->counts.most_bytes) {
        self->counts.most_bytes = buffer->used;
    }
}

/* With the mutex. Full and waiting makes sense: RING_WAIT; nobody has been counted yet. */
static ring_answer
append_locked(ring *self, const char *line, size_t size, int *through)
{
    size_t whole = size + (size == 0 || line[size - 1] != '\n');
    *through = 0;
    if (self->closing || whole > self->capacity) {
        *(self->closing ? &self->counts.dropped_newest : &self->counts.too_long) += 1;
        return RING_DROPPED;
    }
    while (self->policy == POLICY_DROP_OLDEST && !has_room(self, whole)) {
        buffer_drop_first(&self->active, self->capacity, self->slots);
        self->counts.dropped_oldest++;
        tell_moved(self);
    }
    if (!has_room(self, whole)) {
        /* A device that is full does not get emptier by waiting for it in every line. */
        if (self->policy == POLICY_BLOCK && self->block > 0 && !self->failing) {
            tell_filled(self, 1);
            return RING_WAIT;
        }
        self->counts.dropped_newest++;
        return RING_DROPPED;
    }
    put_line(self, line, size, whole);
    tell_filled(self, 0);
    *through = !self->running && !self->hold;
    return RING_TAKEN;
}

ring_answer
ring_append(ring *self, const char *line, size_t size, int *through)
{
    wk_lock(&self->mutex);
    ring_answer answer = append_locked(self, line, size, through);
    wk_unlock(&self->mutex);
    return answer;
}

int
ring_try_append(ring *self, const char *line, size_t size, int *through, ring_answer *answer)
{
    if (!wk_try_lock(&self->mutex)) {
        return 0;
    }
    *answer = append_locked(self, line, size, through);
    wk_unlock(&self->mutex);
    return 1;
}

static int
drain_locked(ring *self, int64_t deadline);

ring_answer
ring_append_waiting(ring *self, const char *line, size_t size, int *through)
{
    int64_t deadline = wk_now() + self->block, left;
    wk_lock(&self->mutex);
    self->counts.waits++;
    ring_answer answer;
    while ((answer = append_locked(self, line, size, through)) == RING_WAIT && (left = deadline - wk_now()) > 0) {
        if (self->running || self->hold || self->draining) {
            wait_moved(self, shorter(left, SLICE));
        }
        else {
            drain_locked(self, deadline);
        }
    }
    if (answer == RING_WAIT) {
        self->counts.dropped_newest++;
        answer = RING_DROPPED;
    }
    wk_unlock(&self->mutex);
    return answer;
}

/* -- the drainer -- */

/* `flight` is over: what was not written is lost. */
static void
finish_flight(ring *self)
{
    int torn;
    finish_notice(self);
    size_t lines = buffer_whole_lines(&self->flight, self->slots, self->flight_done, &torn);
    self->counts.written += lines;
    self->counts.lost += self->flight.lines - lines;
    if (self->flight_done > 0) {
        self->torn = torn;
    }
    buffer_clear(&self->flight);
    self->flight_done = 0;
    tell_moved(self);
}

/* What is to be written next: the rest of the notice, behind it that of the lines. */
static int
rest_segments(const ring *self, segment *segments, size_t *wanted)
{
    if (self->announcing > 0) {
        *wanted = self->heading_size - self->heading_done;
        segments[0] = (segment){self->heading + self->heading_done, *wanted};
        return 1;
    }
    *wanted = self->flight.used - self->flight_done;
    return buffer_segments(&self->flight, self->capacity, self->flight_done, segments);
}

/* One system call without the mutex. What was given up within a line left it open: end it first. */
static output_result
write_some(ring *self, int *error)
{
    segment segments[3] = {{"\n", 1}};
    int mend = self->torn;
    size_t wanted, written = 0;
    size_t *done = self->announcing > 0 ? &self->heading_done : &self->flight_done;
    int count = mend + rest_segments(self, segments + mend, &wanted);
    wk_unlock(&self->mutex);
    output_result result = output_write(self->target, segments, count, &written, error);
    wk_lock(&self->mutex);
    if (result == OUTPUT_WROTE) {
        self->torn = 0;
        *done += written - (size_t)mend;
        self->failing = 0;
        self->counts.bytes += written;
        self->counts.writes++;
        self->counts.partial += written < wanted + (size_t)mend;
    }
    return result;
}

/* What to do about a write that wrote nothing. Zero: give the batch up. */
static int
after_failure(ring *self, output_result result, int error, int64_t *pause, int64_t deadline)
{
    int64_t left = deadline - wk_now();
    if (result == OUTPUT_INTERRUPTED) {
        self->counts.interrupted++;
        return 1;
    }
    if (result == OUTPUT_BUSY) {
        self->counts.busy++;
        wk_unlock(&self->mutex);
        output_wait(self->target, left > 0 ? (int)shorter(left, SLICE) : 0);
        wk_lock(&self->mutex);
        return 1;
    }
    self->counts.errors++;
    self->counts.last_error = (uint64_t)error;
    if (result == OUTPUT_BROKEN) {
        return 0;
    }
    self->failing = 1;
    tell_moved(self); /* who waits for room waits in vain */
    for (int64_t until = wk_now() + shorter(*pause, left > 0 ? left : 1); wk_now() < until && !self->abandon;) {
        wk_wait(&self->filled, &self->mutex, shorter(until - wk_now(), SLICE));
    }
    *pause = shorter(*pause * 2, LAST_PAUSE);
    return 1;
}

/* Write the notice and `flight` to their end. Zero: the deadline came first, and the rest stays for the next drainer. */
static int
write_flight(ring *self, int64_t deadline)
{
    int64_t pause = FIRST_PAUSE;
    while ((self->announcing > 0 || self->flight_done < self->flight.used) && !self->abandon) {
        int error = 0;
        output_result result = write_some(self, &error);
        if (result == OUTPUT_WROTE) {
            pause = FIRST_PAUSE;
            if (self->heading_done == self->heading_size) {
                finish_notice(self);
            }
            continue;
        }
        if (!after_failure(self, result, error, &pause, deadline)) {
            if (self->announcing == 0) {
                break;
            }
            finish_notice(self); /* the lines have a try of their own */
            continue;
        }
        if (result != OUTPUT_INTERRUPTED && wk_now() >= deadline) {
            return 0;
        }
    }
    finish_flight(self);
    return 1;
}

static int
is_empty(const ring *self)
{
    return self->active.lines == 0 && self->flight.lines == 0;
}

/* With the mutex: `flight` is empty, `active` is not. The notice is made at the same moment, so that it counts what is
 * missing before this batch and nothing else: what is dropped while it is written is missing before the next one. */
static void
take_off(ring *self)
{
    take_off_notice(self);
    line_buffer full = self->active;
    self->active = self->flight;
    self->flight = full;
    self->flight_last = self->counts.appended;
    tell_moved(self);
}

/* With the mutex, which is given up for the writes. Writes batch after batch until nothing is left; zero: not all. */
static int
drain_locked(ring *self, int64_t deadline)
{
    int complete = 1;
    self->draining = 1;
    while (complete && !is_empty(self)) {
        if (self->flight.lines == 0) {
            take_off(self);
        }
        complete = write_flight(self, deadline);
    }
    self->draining = 0;
    tell_moved(self);
    return complete;
}

void
ring_drain(ring *self, int64_t deadline)
{
    wk_lock(&self->mutex);
    /* Whoever drains already goes on until nothing is left, so it takes this thread's line as well. */
    if (!self->draining) {
        drain_locked(self, deadline);
    }
    wk_unlock(&self->mutex);
}

static void
wait_for_lines(ring *self)
{
    while (is_empty(self) && !self->closing) {
        self->sleeping = 1;
        wk_wait(&self->filled, &self->mutex, 60 * 1000);
    }
    self->sleeping = 0;
}

/* Let more lines come, so that they share a system call; but nobody who flushes waits for that. */
static void
linger(ring *self)
{
    int64_t until = wk_now() + self->linger, left;
    self->lingering = 1;
    while (self->lingering && !self->closing && is_settled(self, self->hurry) && (left = until - wk_now()) > 0) {
        wk_wait(&self->filled, &self->mutex, left);
    }
    self->lingering = 0;
}

int
ring_run(ring *self)
{
    wk_lock(&self->mutex);
    if (self->running || self->closed) {
        wk_unlock(&self->mutex);
        return 0;
    }
    self->running = 1;
    for (;;) {
        wait_for_lines(self);
        if (is_empty(self)) {
            break;
        }
        linger(self);
        if (self->draining) { /* a flush that began before this thread did */
            wait_moved(self, SLICE);
            continue;
        }
        drain_locked(self, INT64_MAX);
    }
    self->running = 0;
    tell_moved(self);
    wk_unlock(&self->mutex);
    return 1;
}

/* -- flush and close -- */

uint64_t
ring_mark(ring *self)
{
    wk_lock(&self->mutex);
    uint64_t mark = self->counts.appended;
    if (mark > self->hurry) {
        self->hurry = mark;
    }
    self->sleeping = self->lingering = 0;
    wk_wake_all(&self->filled);
    wk_unlock(&self->mutex);
    return mark;
}

/* With the mutex. */
static int
wait_done(ring *self, uint64_t mark, int64_t deadline)
{
    int64_t left;
    while (!is_settled(self, mark) && (left = deadline - wk_now()) > 0) {
        if (self->running || self->draining) {
            wait_moved(self, shorter(left, SLICE));
        }
        else {
            drain_locked(self, deadline);
        }
    }
    return is_settled(self, mark);
}

int
ring_flushed(ring *self, uint64_t mark, int64_t deadline)
{
    wk_lock(&self->mutex);
    if (!is_settled(self, mark) && !self->running && !self->draining) {
        drain_locked(self, deadline); /* one try, also when there is no time at all */
    }
    int done = wait_done(self, mark, deadline);
    wk_unlock(&self->mutex);
    return done;
}

/* With the mutex. Lines that nobody will write any more. */
static void
give_up(ring *self)
{
    finish_flight(self);
    self->counts.lost += self->active.lines;
    buffer_clear(&self->active);
}

int
ring_close(ring *self, int64_t deadline)
{
    wk_lock(&self->mutex);
    self->closing = 1;
    self->hurry = self->counts.appended;
    uint64_t lost = self->counts.lost;
    self->sleeping = self->lingering = 0;
    wk_wake_all(&self->filled);
    tell_moved(self);
    if (!self->running && !self->draining && !is_empty(self)) {
        drain_locked(self, deadline);
    }
    wait_done(self, self->counts.appended, deadline);
    if (!is_empty(self)) {
        self->abandon = 1;
        wk_wake_all(&self->filled);
    }
    for (int64_t until = wk_now() + LAST_GRACE, left; self->running || self->draining;) {
        if ((left = until - wk_now()) <= 0) {
            break; /* it is within a write that does not return; the lines stay counted as queued */
        }
        wait_moved(self, left);
    }
    if (!self->running && !self->draining) {
        give_up(self);
    }
    self->closed = 1;
    int complete = is_empty(self) && self->counts.lost == lost;
    tell_moved(self);
    wk_unlock(&self->mutex);
    return complete;
}

void
ring_read_counts(ring *self, ring_counts *into)
{
    wk_lock(&self->mutex);
    *into = self->counts;
    into->queued = self->active.lines + self->flight.lines;
    wk_unlock(&self->mutex);
}

/* -- fork -- */

void
ring_before_fork(ring *self)
{
    wk_lock(&self->mutex);
}

void
ring_after_fork_in_parent(ring *self)
{
    wk_unlock(&self->mutex);
}

/* No thread but this one came along, so nothing is in use: the mutex is made anew, also where ring_before_fork failed and
 * some other thread held it. What was queued is the parent's to write; a ring that was open is open. */
void
ring_after_fork_in_child(ring *self)
{
    buffer_clear(&self->active);
    buffer_clear(&self->flight);
    memset(&self->counts, 0, sizeof self->counts);
    self->flight_done = 0;
    self->hurry = 0;
    self->waiting = 0;
    self->running = self->draining = self->sleeping = self->lingering = 0;
    self->failing = self->torn = self->abandon = 0;
    self->heading_size = self->heading_done = 0;
    self->announced = self->announcing = 0;
    self->closed = self->closing;
    wk_condition_init(&self->filled);
    wk_condition_init(&self->moved);
    wk_mutex_init(&self->mutex);
}
