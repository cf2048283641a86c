/* Rules.

   1. A tree gets its name by a rename, when all of it has been written: kill -9 leaves a draft, never half a tree.
   2. A draft is only ever written by the holder of the tree's lock file; so whoever holds that lock next may remove
      every draft of that tree.
   3. Nothing is flushed to the disk when a tree is unpacked. Its marker holds the identity of the machine's boot; a
      tree is believed as it is during that boot, because the kernel shows every process the same content, written out
      or not. After a power cut the boot is another one: then every file is compared with the index once, what is wrong
      is written again, and the marker is flushed and says `sealed`: from then on it is believed.
   4. Mending replaces single files by rename. A process that runs from the tree keeps what it has opened.
   5. Whoever uses a tree holds a shared lock on it for life. Pruning takes an exclusive one, without waiting, and
      moves the tree away before it deletes it.
   6. A place counts only if nobody but root and this user can change anything along its path.
   7. A place that does not work is passed over for the next one, with a reason; no place at all is a message. */
#include "cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unpack.h"

#define MARKER ".ferryman"
#define MARKER_HEAD "ferryman 1\n"

enum { DAY = 24 * 60 * 60, SHARED_MODE = 0644 };

enum outcome { FOUND, REFUSED, FATAL };

/* What is known while one place is tried. */
struct attempt {
    const struct payload *payload;
    const struct place *place;
    bool shared;               /* other users will read what root unpacks */
    char program[PATH_SIZE];   /* place/name */
    char tree[PATH_SIZE];      /* place/name/key */
    char lock_file[PATH_SIZE]; /* place/name/key.lock */
    bool held; /* the tree is there, and this process holds it */
    struct problem *problem;
};

static bool attempt_begin(struct attempt *attempt, const char *name, const char *key)
{
    char file[64];
    snprintf(file, sizeof file, "%s.lock", key);
    return path_join(attempt->program, attempt->place->path, name) && path_join(attempt->tree, attempt->program, key) &&
           path_join(attempt->lock_file, attempt->program, file);
}

/* ---- markers ---------------------------------------------------------------------------------------------- */

/* Rule 3: what is written about a tree. OTHER is text that says nothing to this launcher, or a boot where the system names
   none; EARLIER is an earlier boot, in which case what is read back comes from the disk. */
enum marker { MARKER_NONE, MARKER_OTHER, MARKER_EARLIER, MARKER_BELIEVED };

static enum marker marker_read(const char *tree)
{
    char path[PATH_SIZE], boot[80], expected[128];
    if (!path_join(path, tree, MARKER))
        return MARKER_NONE;
    char *text = read_text(path, 256, NULL);
    if (!text)
        return MARKER_NONE;
    os_boot_id(boot);
    snprintf(expected, sizeof expected, MARKER_HEAD "boot %s\n", boot);
    size_t common = strlen(MARKER_HEAD "boot ");
    enum marker marker = MARKER_OTHER;
    if (!strcmp(text, MARKER_HEAD "sealed\n") || (boot[0] && !strcmp(text, expected)))
        marker = MARKER_BELIEVED;
    else if (boot[0] && !strncmp(text, expected, common) && strlen(text) > common + 1)
        marker = MARKER_EARLIER;
    free(text);
    return marker;
}

static bool marker_write(const char *tree, bool sealed, struct problem *problem)
{
    char path[PATH_SIZE], draft[PATH_SIZE], boot[80], text[128];
    os_boot_id(boot);
    snprintf(text, sizeof text, sealed ? MARKER_HEAD "sealed\n" : MARKER_HEAD "boot %s\n", boot);
    if (!path_join(path, tree, MARKER) || !path_join(draft, tree, MARKER ".draft"))
        return false;
    os_remove(draft);
    if (!os_write_file(draft, text, strlen(text), SHARED_MODE, problem))
        return false;
    return (!sealed || os_flush(draft)) && os_rename(draft, path, problem);
}

static int64_t marker_used(const char *tree)
{
    char path[PATH_SIZE];
    struct facts facts = {0};
    if (path_join(path, tree, MARKER))
        facts = os_facts(path);
    return facts.kind == KIND_FILE ? facts.modified : 0;
}

/* ---- drafts ----------------------------------------------------------------------------------------------- */

static bool draft_name(const struct attempt *attempt, char path[PATH_SIZE])
{
    uint64_t chance = 0;
    char name[64];
    if (!os_random(&chance, sizeof chance))
        return false;
    snprintf(name, sizeof name, ".%s.%016llx", attempt->payload->key, (unsigned long long)chance);
    return path_join(path, attempt->program, name);
}

struct draft_hunt {
    const char *folder, *key;
};

static bool remove_draft(void *context, const char *name)
{
    const struct draft_hunt *hunt = context;
    char path[PATH_SIZE];
    if (name[0] == '.' && !strncmp(name + 1, hunt->key, strlen(hunt->key)) && path_join(path, hunt->folder, name))
        os_remove_tree(path);
    return true;
}

/* Rule 2: the caller holds the lock file of `key`. */
static void remove_drafts(const char *folder, const char *key)
{
    struct draft_hunt hunt = {folder, key};
    os_list(folder, remove_draft, &hunt);
}

/* ---- unpacking and mending: the caller holds the lock file -------------------------------------------------- */

static bool enough_space(const struct attempt *attempt)
{
    /* Blocks and folders cost more than the bytes: an eighth, and a megabyte. */
    uint64_t needed = attempt->payload->unpacked + attempt->payload->unpacked / 8 + (1 << 20);
    uint64_t there = os_free_space(attempt->program);
    return there >= needed ||
           problem_set(attempt->problem, EXIT_NO_PLACE, "", "%llu MB are free and %llu MB are needed",
                       (unsigned long long)(there >> 20), (unsigned long long)(needed >> 20) + 1);
}

/* Rule 1. */
static bool unpack_fresh(struct attempt *attempt, const struct index *index)
{
    char draft[PATH_SIZE];
    if (!enough_space(attempt) || !draft_name(attempt, draft) || !os_make_folder(draft, attempt->shared, attempt->problem))
        return false;
    if (unpack(attempt->payload, index, NULL, draft, attempt->shared, attempt->problem) &&
        marker_write(draft, false, attempt->problem) && os_rename(draft, attempt->tree, attempt->problem))
        return true;
    os_remove_tree(draft);
    return false;
}

/* The folders that a file lies in; a file that took the place of one of them goes. */
static bool make_room(struct attempt *attempt, const char *file)
{
    char folder[PATH_SIZE];
    for (const char *at = file + strlen(attempt->tree) + 1; (at = strchr(at, SEPARATOR)); at++) {
        size_t length = (size_t)(at - file);
        memcpy(folder, file, length);
        folder[length] = 0;
        enum kind kind = os_facts(folder).kind;
        if (kind != KIND_FOLDER && kind != KIND_MISSING)
            os_remove(folder);
    }
    memcpy(folder, file, strlen(file) + 1);
    path_parent(folder);
    return os_make_folders(folder, attempt->shared, attempt->problem);
}

static bool replace_files(struct attempt *attempt, const struct index *index, const bool *wrong, const char *draft)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    for (uint32_t i = 0; i < index->entry_count; i++) {
        if (!wrong[i])
            continue;
        if (!path_join(from, draft, index->entries[i].path) || !path_join(to, attempt->tree, index->entries[i].path))
            return false;
        struct facts before = os_facts(to);
        if (before.kind == KIND_FOLDER && !os_remove_tree(to))
            return false;
        if (!make_room(attempt, to) || !os_rename(from, to, attempt->problem))
            return false;
    }
    return true;
}

/* Rules 3 and 4. */
static bool mend(struct attempt *attempt, const struct index *index, bool contents, uint32_t *mended)
{
    char draft[PATH_SIZE];
    enum marker marker = marker_read(attempt->tree);
    bool *wrong = calloc((size_t)index->entry_count + 1, sizeof *wrong);
    if (!wrong)
        return problem_set(attempt->problem, EXIT_NO_PLACE, "", "there is no memory left");
    uint32_t count = unpack_compare(index, attempt->tree, contents, wrong);
    bool done = true;
    if (count) {
        done = draft_name(attempt, draft) && os_make_folder(draft, attempt->shared, attempt->problem) &&
               unpack(attempt->payload, index, wrong, draft, attempt->shared, attempt->problem) &&
               replace_files(attempt, index, wrong, draft);
        os_remove_tree(draft);
    }
    free(wrong);
    if (mended)
        *mended = count;
    if (!done)
        return false;
    /* Files that were written just now are not on the disk yet: then the boot counts again. */
    return (!count && marker == MARKER_BELIEVED) ||
           marker_write(attempt->tree, !count && marker == MARKER_EARLIER, attempt->problem) || !count;
}

/* ---- one place ---------------------------------------------------------------------------------------------- */

/* Rules 5 and 6. A tree that is not there answers false, with an empty sentence. */
static bool hold_tree(struct attempt *attempt)
{
    lock_handle lock;
    enum lock_result result = LOCK_GONE;
    attempt->problem->code = 0;
    attempt->problem->sentence[0] = 0;
    while (!attempt->held && result == LOCK_GONE) {
        enum kind kind = os_facts(attempt->tree).kind;
        if (kind == KIND_MISSING)
            return false;
        if (kind != KIND_FOLDER)
            return problem_set(attempt->problem, EXIT_NO_PLACE, "", "%s is not a folder", attempt->tree);
        if (!os_trusted(attempt->tree, attempt->problem))
            return false;
        /* Held, or somebody else has had it for seconds: whoever prunes is done sooner, and a lock that another user
           holds for ever must not hinder a start. */
        result = os_lock_tree(attempt->tree, false, true, &lock);
        attempt->held = result != LOCK_GONE;
    }
    return true;
}

/* A tree in use is marked once a day, and then the old ones beside it are looked for. */
static void keep_house(const struct attempt *attempt, bool fresh)
{
    char path[PATH_SIZE];
    if (attempt->place->readonly || (!fresh && marker_used(attempt->tree) > os_now() - DAY))
        return;
    if (!fresh && path_join(path, attempt->tree, MARKER))
        os_touch(path);
    if (attempt->payload->keep_days)
        cache_walk(attempt->payload->name, attempt->payload->key, (int)attempt->payload->keep_days, NULL, NULL);
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

static enum outcome locked_unpack(struct attempt *attempt, bool *fresh)
{
    lock_handle lock;
    enum lock_result result;
    do
        result = os_lock_file(attempt->lock_file, true, &lock, attempt->problem);
    while (result == LOCK_GONE);
    if (result != LOCK_HELD) /* on a read-only file system: nothing can be mended, but the tree may be right */
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
           os_make_folders(attempt->program, attempt->shared, attempt->problem) &&
           os_trusted(attempt->program, attempt->problem);
}

static enum outcome try_place(struct attempt *attempt)
{
    bool fresh = false;
    if (!attempt_begin(attempt, attempt->payload->name, attempt->payload->key)) {
        problem_set(attempt->problem, EXIT_NO_PLACE, "", "its path is too long");
        return REFUSED;
    }
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
        problem_set(attempt->problem, EXIT_NO_PLACE, "", "no tree is there, and only root may put one there");
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
        struct attempt attempt = {.payload = payload, .place = &places[i], .shared = places[i].shared, .problem = problem};
        if (!places[i].path[0]) {
            add_reason(reasons, sizeof reasons, &places[i], places[i].reason);
            continue;
        }
        switch (try_place(&attempt)) {
        case FOUND:
            memcpy(tree->folder, attempt.tree, sizeof tree->folder);
            memcpy(tree->place, places[i].path, sizeof tree->place);
            tree->shared = places[i].shared;
            return true;
        case FATAL:
            return false;
        case REFUSED:
            add_reason(reasons, sizeof reasons, &places[i], problem->sentence);
        }
    }
    return problem_set(problem, EXIT_NO_PLACE,
                       "Set FERRYMAN_CACHE to a folder that this user may write to and that is not mounted noexec.",
                       "there is no place to unpack %s to:%s", payload->name, reasons);
}

/* Flushed by hand, a tree may be sealed in the boot that unpacked it (rule 3): an image that is built here and started
   elsewhere needs that. */
static bool flush_all(const struct index *index, const char *tree)
{
    char path[PATH_SIZE];
    for (uint32_t i = 0; i < index->entry_count; i++)
        if (index->entries[i].kind == ENTRY_FILE &&
            !(path_join(path, tree, index->entries[i].path) && os_flush(path)))
            return false;
    return true;
}

bool cache_seal(const struct payload *payload, const struct tree *tree, uint32_t *mended, struct problem *problem)
{
    static struct place place;
    struct attempt attempt = {.payload = payload, .place = &place, .shared = tree->shared, .problem = problem};
    struct index index;
    lock_handle lock;
    memcpy(place.path, tree->place, sizeof place.path);
    if (!payload_check(payload, problem) || !payload_index(payload, &index, problem))
        return false;
    if (!attempt_begin(&attempt, payload->name, payload->key) ||
        os_lock_file(attempt.lock_file, true, &lock, problem) != LOCK_HELD)
        return false;
    os_guard_begin();
    bool done = mend(&attempt, &index, true, mended) && flush_all(&index, attempt.tree) &&
                marker_write(attempt.tree, true, problem);
    os_guard_end();
    os_unlock(lock);
    index_free(&index);
    return done;
}

/* ---- pruning ------------------------------------------------------------------------------------------------ */

struct walk {
    const char *name, *spare;
    int days;
    void (*visit)(void *context, const struct cached *cached);
    void *context;
    char program[PATH_SIZE];
};

static bool is_key(const char *name)
{
    return strlen(name) == 32 && strspn(name, "0123456789abcdef") == 32;
}

/* Rule 5. The lock file goes last: whoever waits for it finds it unlinked and tries again. */
static bool remove_cached(const struct walk *walk, struct cached *cached)
{
    lock_handle file, tree;
    char path[PATH_SIZE], name[64];
    struct problem problem;
    snprintf(name, sizeof name, "%s.lock", cached->key);
    if (!path_join(path, walk->program, name) || os_lock_file(path, false, &file, &problem) != LOCK_HELD)
        return false;
    bool removed = false;
    if (os_lock_tree(cached->folder, true, false, &tree) == LOCK_HELD) {
        char away[PATH_SIZE];
        snprintf(name, sizeof name, ".%s.removed", cached->key);
        if (!os_in_use(cached->folder) && path_join(away, walk->program, name)) {
            os_remove_tree(away);
#ifdef _WIN32
            os_unlock(tree); /* the lock is on a file in the folder, which Windows does not move while it is open */
            tree = -1;
#endif
            removed = os_rename(cached->folder, away, &problem) && os_remove_tree(away);
        }
        if (tree != -1)
            os_unlock(tree);
    }
    if (removed)
        os_remove(path);
    os_unlock(file);
    return removed;
}

/* Rule 2, for the trees of other versions: nobody may ever start those again. */
static void remove_stale_draft(const struct walk *walk, const char *name)
{
    lock_handle file;
    char key[33], lock_name[64], path[PATH_SIZE];
    struct problem problem;
    if (strlen(name) < 34 || name[33] != '.')
        return;
    memcpy(key, name + 1, 32);
    key[32] = 0;
    snprintf(lock_name, sizeof lock_name, "%s.lock", key);
    if (!is_key(key) || !path_join(path, walk->program, lock_name) ||
        os_lock_file(path, false, &file, &problem) != LOCK_HELD)
        return;
    remove_drafts(walk->program, key);
    os_unlock(file);
}

static bool visit_cached(void *context, const char *name)
{
    struct walk *walk = context;
    struct cached cached = {.key = name};
    lock_handle lock;
    if (name[0] == '.' && walk->days >= 0)
        remove_stale_draft(walk, name);
    if (!is_key(name) || !path_join(cached.folder, walk->program, name) || os_facts(cached.folder).kind != KIND_FOLDER)
        return true;
    cached.used = marker_used(cached.folder);
    bool old = walk->days >= 0 && cached.used <= os_now() - (int64_t)walk->days * DAY;
    if (old && !(walk->spare && !strcmp(walk->spare, name)))
        cached.removed = remove_cached(walk, &cached);
    if (walk->visit) {
        enum lock_result result = cached.removed ? LOCK_GONE : os_lock_tree(cached.folder, true, false, &lock);
        if (result == LOCK_HELD)
            os_unlock(lock);
        cached.running = !cached.removed && (result == LOCK_BUSY || os_in_use(cached.folder));
        walk->visit(walk->context, &cached);
    }
    return true;
}

void cache_walk(const char *name, const char *spare, int days, void (*visit)(void *context, const struct cached *cached),
                void *context)
{
    static struct place places[PLACES];
    struct problem problem;
    size_t count = os_places(places);
    for (size_t i = 0; i < count; i++) {
        struct walk walk = {.name = name, .spare = spare, .days = days, .visit = visit, .context = context};
        if (!places[i].path[0] || !path_join(walk.program, places[i].path, name) ||
            os_facts(walk.program).kind != KIND_FOLDER || !os_trusted(walk.program, &problem))
            continue;
        if (places[i].readonly)
            walk.days = -1;
        os_list(walk.program, visit_cached, &walk);
    }
}
