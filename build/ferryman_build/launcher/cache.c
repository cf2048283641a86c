/* Rules.

   1. A tree gets its name by a rename, when all of it has been written: kill -9 leaves a draft, never half a tree.
   2. A draft is only ever written by the holder of the tree's lock file; so whoever holds that lock next may remove
      every draft of that tree.
   3. Nothing is flushed to the disk when a tree is unpacked. Its marker holds the identity of the machine's boot; a
      tree is believed as it is during that boot, because the kernel shows every process the same content, written out
      or not. After a power cut the boot is another one: then every file is compared with the index once, and what is
      wrong is written again. A tree that was right is flushed, which costs little where it came from the disk, and its
      marker says `sealed`: from then on it is believed.
   4. Mending replaces single files by rename. A process that runs from the tree keeps what it has opened. (Windows
      replaces no file that is in use; there the place is passed over.)
   5. Whoever uses a tree holds a shared lock on it for life. Pruning takes an exclusive one, without waiting, and
      moves the tree away before it deletes it.
   6. A place counts only if nobody but root and this user can change anything along its path.
   7. A place that does not work is passed over for the next one, with a reason; no place at all is a message. */
#include "cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prune.h"
#include "unpack.h"
#include "whole.h"

enum { TRIES = 200 };
enum { PAUSE = 20, SPEAK_AFTER = 10 * 1000, GIVE_UP_AFTER = 60 * 1000 }; /* milliseconds */

#ifdef _WIN32
#define WHO "an administrator"
#else
#define WHO "root"
#endif

enum outcome { FOUND, REFUSED, FATAL };

/* ---- one place ---------------------------------------------------------------------------------------------- */

/* Rules 5 and 6. A tree that is not there answers false, with an empty sentence. */
static bool hold_tree(struct attempt *attempt)
{
    attempt->problem->code = 0;
    attempt->problem->sentence[0] = 0;
    for (int tries = 0; !attempt->held && tries < TRIES; tries++) {
        enum kind kind = os_facts(attempt->tree).kind;
        if (kind == KIND_MISSING)
            return false;
        if (kind != KIND_FOLDER)
            return problem_set(attempt->problem, EXIT_NO_PLACE, "", "%s is not a folder", attempt->tree);
        if (!os_trusted(attempt->tree, attempt->problem))
            return false;
        /* Held, or somebody else has had it for seconds: whoever prunes is done sooner, and a lock that another user
           holds for ever must not hinder a start. */
        enum lock_result result = os_lock_tree(attempt->tree, false, true, &attempt->lock);
        attempt->held = result != LOCK_GONE;
        if (result != LOCK_HELD)
            attempt->lock = NO_LOCK;
    }
    return attempt->held || problem_set(attempt->problem, EXIT_NO_PLACE, "", "%s keeps changing", attempt->tree);
}

/* A tree in use is marked once a day, and then the old ones beside it are looked for. */
static void keep_house(const struct attempt *attempt, bool fresh)
{
    char path[PATH_SIZE];
    if (attempt->place->readonly || (!fresh && marker_used(attempt->tree) > os_now() - DAY))
        return;
    if (!fresh && !(path_join(path, attempt->tree, MARKER) && os_touch(path)))
        return; /* where nothing can be marked nothing can be removed */
    if (attempt->payload->keep_days)
        prune_old(attempt->payload->name, attempt->payload->key, (int)attempt->payload->keep_days, attempt->place->path);
}

static enum outcome make_whole(struct attempt *attempt, bool *fresh)
{
    struct index index;
    if (!payload_check(attempt->payload, attempt->problem) ||
        !payload_index(attempt->payload, &index, attempt->problem))
        return FATAL;
    remove_drafts(attempt->program, attempt->payload->key);
    bool done;
    if (hold_tree(attempt)) {
        done = mend(attempt, &index, marker_read(attempt->tree) != MARKER_BELIEVED, NULL);
    } else {
        done = !attempt->problem->sentence[0] && unpack_fresh(attempt, &index) && hold_tree(attempt);
        *fresh = done;
    }
    index_free(&index);
    return done ? FOUND : attempt->problem->code == EXIT_DAMAGED ? FATAL : REFUSED;
}

/* Whether every file is there, with its size or with its content. */
static bool all_right(const struct attempt *attempt, bool contents)
{
    struct index index;
    if ((contents && !payload_check(attempt->payload, attempt->problem)) ||
        !payload_index(attempt->payload, &index, attempt->problem))
        return false;
    bool *wrong = calloc((size_t)index.entry_count + 1, sizeof *wrong);
    bool whole = wrong && !unpack_compare(&index, attempt->tree, contents, wrong);
    free(wrong);
    index_free(&index);
    return whole;
}

/* Whether the tree that is held may be used as it is. Where something sweeps old files away, every file is looked at,
   which costs a stat each. */
static bool usable(const struct attempt *attempt)
{
    return marker_read(attempt->tree) == MARKER_BELIEVED && (!attempt->place->swept || all_right(attempt, false));
}

/* Whoever removes a lock file holds it; the next one makes it anew. Another start that unpacks is done in a moment, unless it
   was stopped, or its file system hangs. */
static bool lock_for_writing(const struct attempt *attempt, lock_handle *lock)
{
    for (int waited = 0; waited < GIVE_UP_AFTER; waited += PAUSE) {
        enum lock_result result = os_lock_file(attempt->lock_file, false, lock, attempt->problem);
        if (result == LOCK_HELD || result == LOCK_FAILED)
            return result == LOCK_HELD;
        if (waited == SPEAK_AFTER) {
            os_write_error(attempt->payload->name);
            os_write_error(": another start holds ");
            os_write_error(attempt->lock_file);
            os_write_error(" for unpacking; waiting for it\n");
        }
        os_pause(PAUSE);
    }
    return problem_set(attempt->problem, EXIT_NO_PLACE, "", "another start has been unpacking there for a minute");
}

static enum outcome locked_unpack(struct attempt *attempt, bool *fresh)
{
    lock_handle lock;
    if (!lock_for_writing(attempt, &lock)) /* on a read-only file system: nothing can be mended, but the tree may be right */
        return attempt->held && all_right(attempt, true) ? FOUND : REFUSED;
    os_guard_begin();
    enum outcome outcome = hold_tree(attempt) && usable(attempt) ? FOUND : make_whole(attempt, fresh);
    if (outcome != FOUND && os_facts(attempt->tree).kind == KIND_MISSING)
        os_remove(attempt->lock_file); /* a place that did not work is left as it was; who waits tries again */
    os_guard_end(); /* does not come back when a stop was requested */
    os_unlock(lock);
    return outcome;
}

static bool may_execute(const struct attempt *attempt, const char *folder)
{
    return os_executable_place(folder) ||
           problem_set(attempt->problem, EXIT_NO_PLACE, "", "it is mounted noexec");
}

/* Rule 6 holds before the first folder is made: nothing is left behind where it does not. */
static bool make_program_folder(const struct attempt *attempt)
{
    char there[PATH_SIZE];
    memcpy(there, attempt->program, sizeof there);
    while (os_facts(there).kind == KIND_MISSING && strlen(there) > 1)
        path_parent(there);
    return os_trusted(there, attempt->problem) && may_execute(attempt, there) &&
           os_make_folders(attempt->program, attempt->place->shared, attempt->problem) &&
           os_trusted(attempt->program, attempt->problem);
}

static enum outcome try_place(struct attempt *attempt)
{
    bool fresh = false;
    if (!attempt_begin(attempt, attempt->payload->name, attempt->payload->key))
        return REFUSED;
    if (hold_tree(attempt)) {
        if (!may_execute(attempt, attempt->tree))
            return REFUSED;
        if (usable(attempt)) {
            keep_house(attempt, false);
            return FOUND;
        }
    } else if (attempt->problem->sentence[0]) {
        return REFUSED;
    }
    if (attempt->place->readonly) {
        if (attempt->held && all_right(attempt, true))
            return FOUND;
        problem_set(attempt->problem, EXIT_NO_PLACE, "", "no tree is there, and only " WHO " may put one there");
        return REFUSED;
    }
    if (!attempt->held && !make_program_folder(attempt))
        return REFUSED;
    enum outcome outcome = locked_unpack(attempt, &fresh);
    if (outcome == FOUND)
        keep_house(attempt, fresh);
    return outcome;
}

/* ---- all places --------------------------------------------------------------------------------------------- */

static void add_reason(char *reasons, size_t size, const struct place *place, const char *reason)
{
    size_t used = strlen(reasons);
    snprintf(reasons + used, size - used, "\n  %s (%s): %s", place->path[0] ? place->path : "-", place->source, reason);
}

/* Rule 7. */
bool cache_find(const struct payload *payload, struct tree *tree, struct problem *problem)
{
    static struct place places[PLACES];
    static char reasons[PATH_SIZE];
    size_t count = os_places(places);
    for (size_t i = 0; i < count; i++) {
        os_place_complete(&places[i]);
        struct attempt attempt = {.payload = payload, .place = &places[i], .problem = problem};
        if (!places[i].path[0]) {
            add_reason(reasons, sizeof reasons, &places[i], places[i].reason);
            continue;
        }
        switch (try_place(&attempt)) {
        case FOUND:
            memcpy(tree->folder, attempt.tree, sizeof tree->folder);
            tree->place = &places[i];
            return true;
        case FATAL:
            return false;
        case REFUSED:
            if (attempt.held && attempt.lock != NO_LOCK) /* it is not used, so it must not count as running */
                os_unlock(attempt.lock);
            add_reason(reasons, sizeof reasons, &places[i], problem->sentence);
        }
    }
    return problem_set(problem, EXIT_NO_PLACE,
                       os_raised() ? "Start it once as " WHO ": a program with raised rights believes no variable."
                                   : "Set FERRYMAN_CACHE to a folder that this user may write to and that is not mounted noexec.",
                       "there is no place to unpack %s to:%s", payload->name, reasons);
}

/* Flushed by hand, a tree may be sealed in the boot that unpacked it (rule 3): an image that is built here and started
   elsewhere needs that. */
bool cache_seal(const struct payload *payload, const struct tree *tree, uint32_t *mended, struct problem *problem)
{
    struct attempt attempt = {.payload = payload, .place = tree->place, .problem = problem};
    struct index index;
    lock_handle lock;
    if (!payload_check(payload, problem) || !payload_index(payload, &index, problem))
        return false;
    bool done = attempt_begin(&attempt, payload->name, payload->key) && lock_for_writing(&attempt, &lock);
    if (done) {
        os_guard_begin();
        done = mend(&attempt, &index, true, mended) && seal(&attempt, &index);
        os_guard_end();
        os_unlock(lock);
    }
    index_free(&index);
    return done;
}
