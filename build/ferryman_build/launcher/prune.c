/* Pruning: rules 2 and 5 of cache.c. */
#include "prune.h"

#include <stdio.h>
#include <string.h>

#include "whole.h"

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

static bool is_old(const struct walk *walk, const char *folder)
{
    return walk->days >= 0 && marker_used(folder) <= os_now() - (int64_t)walk->days * DAY;
}

/* A folder of an image's lower layer cannot be moved (overlayfs). Without its marker a rest of it is mended, not believed. */
static bool remove_here(const char *folder)
{
    char marker[PATH_SIZE];
    return path_join(marker, folder, MARKER) && os_remove(marker) && os_remove_tree(folder);
}

/* Rule 5. All that takes time is done before and after the lock: whoever starts this tree waits for it. */
static bool move_away(const struct walk *walk, const struct cached *cached, const char *away)
{
    lock_handle tree;
    struct problem problem;
    if (os_in_use(cached->folder) || os_lock_tree(cached->folder, true, false, &tree) != LOCK_HELD)
        return false;
    bool moved = false;
    if (is_old(walk, cached->folder)) { /* still: somebody may have started it meanwhile */
#ifdef _WIN32
        os_unlock(tree); /* the lock is on a file in the folder, which Windows does not move while it is open */
        tree = NO_LOCK;
#endif
        moved = os_rename(cached->folder, away, &problem) || remove_here(cached->folder);
    }
    if (tree != NO_LOCK)
        os_unlock(tree);
    return moved;
}

/* The lock file goes last: whoever waits for it finds it unlinked and tries again. */
static bool remove_cached(const struct walk *walk, const struct cached *cached)
{
    lock_handle file;
    char lock[PATH_SIZE], away[PATH_SIZE], name[64];
    struct problem problem;
    snprintf(name, sizeof name, ".%s.removed", cached->key);
    if (!lock_path(lock, walk->program, cached->key) || !path_join(away, walk->program, name) ||
        os_lock_file(lock, false, &file, &problem) != LOCK_HELD)
        return false;
    os_remove_tree(away);
    bool removed = move_away(walk, cached, away) && os_remove_tree(away);
    if (removed)
        os_remove(lock);
    os_unlock(file);
    return removed;
}

/* Rule 2, for the trees of other versions, which nobody may ever start again: drafts, and locks of nothing. */
static void remove_leftovers(const struct walk *walk, const char *key)
{
    lock_handle file;
    char lock[PATH_SIZE], tree[PATH_SIZE];
    struct problem problem;
    if (!is_key(key) || !lock_path(lock, walk->program, key) || !path_join(tree, walk->program, key) ||
        os_lock_file(lock, false, &file, &problem) != LOCK_HELD)
        return;
    remove_drafts(walk->program, key);
    if (os_facts(tree).kind == KIND_MISSING)
        os_remove(lock);
    os_unlock(file);
}

static void look_for_leftovers(const struct walk *walk, const char *name)
{
    char key[33];
    const char *from = name[0] == '.' ? name + 1 : name;
    size_t length = strlen(from);
    if (length < 34 || from[32] != '.' || (from == name && strcmp(from + 32, ".lock")))
        return;
    memcpy(key, from, 32);
    key[32] = 0;
    remove_leftovers(walk, key);
}

static bool visit_cached(void *context, const char *name)
{
    struct walk *walk = context;
    struct cached cached = {.key = name};
    lock_handle lock;
    if (walk->days >= 0)
        look_for_leftovers(walk, name);
    if (!is_key(name) || !path_join(cached.folder, walk->program, name) || os_facts(cached.folder).kind != KIND_FOLDER)
        return true;
    cached.used = marker_used(cached.folder);
    if (is_old(walk, cached.folder) && !(walk->spare && !strcmp(walk->spare, name)))
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

static void walk_place(struct walk *walk, const char *place)
{
    struct problem problem;
    if (path_join(walk->program, place, walk->name) && os_facts(walk->program).kind == KIND_FOLDER &&
        os_trusted(walk->program, &problem))
        os_list(walk->program, visit_cached, walk);
}

void prune_walk(const char *name, int days, void (*visit)(void *context, const struct cached *cached), void *context)
{
    static struct place places[PLACES];
    size_t count = os_places(places);
    for (size_t i = 0; i < count; i++) {
        struct walk walk = {.name = name, .days = places[i].readonly ? -1 : days, .visit = visit, .context = context};
        os_place_complete(&places[i]);
        if (places[i].path[0])
            walk_place(&walk, places[i].path);
    }
}

void prune_old(const char *name, const char *spare, int days, const char *place)
{
    struct walk walk = {.name = name, .spare = spare, .days = days};
    if (!os_remote(place))
        walk_place(&walk, place);
}
