#include "whole.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unpack.h"

#define MARKER_HEAD "ferryman 1\n"

enum { SHARED_MODE = 0644 };

static bool too_long(struct problem *problem)
{
    return problem_set(problem, EXIT_NO_PLACE, "", "its path is too long");
}

static bool not_flushed(struct problem *problem, const char *path)
{
    return problem_set(problem, EXIT_NO_PLACE, "Look at the disk: its file system reports an error, or it is full.",
                       "%s cannot be written to the disk.", path);
}

bool lock_path(char path[PATH_SIZE], const char *program, const char *key)
{
    char name[64];
    snprintf(name, sizeof name, "%s.lock", key);
    return path_join(path, program, name);
}

bool attempt_begin(struct attempt *attempt, const char *name, const char *key)
{
    attempt->lock = NO_LOCK;
    return (path_join(attempt->program, attempt->place->path, name) && path_join(attempt->tree, attempt->program, key) &&
            lock_path(attempt->lock_file, attempt->program, key)) ||
           too_long(attempt->problem);
}

enum marker marker_read(const char *tree)
{
    char path[PATH_SIZE], boot[80], expected[128];
    if (!path_join(path, tree, MARKER))
        return MARKER_NONE;
    char *text = read_text(path, 256, NULL);
    if (!text)
        return MARKER_NONE;
    enum marker marker = MARKER_BELIEVED;
    if (strcmp(text, MARKER_HEAD "sealed\n")) {
        size_t common = strlen(MARKER_HEAD "boot ");
        os_boot_id(boot);
        snprintf(expected, sizeof expected, MARKER_HEAD "boot %s\n", boot);
        if (!boot[0] || strncmp(text, expected, common) || strlen(text) <= common + 1)
            marker = MARKER_OTHER;
        else if (strcmp(text, expected))
            marker = MARKER_EARLIER;
    }
    free(text);
    return marker;
}

static bool marker_write(const char *tree, bool sealed, struct problem *problem)
{
    char path[PATH_SIZE], draft[PATH_SIZE], boot[80], text[128];
    os_boot_id(boot);
    snprintf(text, sizeof text, sealed ? MARKER_HEAD "sealed\n" : MARKER_HEAD "boot %s\n", boot);
    if (!path_join(path, tree, MARKER) || !path_join(draft, tree, MARKER ".draft"))
        return too_long(problem);
    os_remove(draft);
    if (!os_write_file(draft, text, strlen(text), SHARED_MODE, problem))
        return false;
    if (sealed && !os_flush(draft))
        return not_flushed(problem, draft);
    return os_rename(draft, path, problem);
}

int64_t marker_used(const char *tree)
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
        return problem_set(attempt->problem, EXIT_NO_PLACE, "", "the system gives no random numbers");
    snprintf(name, sizeof name, ".%s.%016llx", attempt->payload->key, (unsigned long long)chance);
    return path_join(path, attempt->program, name) || too_long(attempt->problem);
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

/* Rule 2. */
void remove_drafts(const char *folder, const char *key)
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
bool unpack_fresh(struct attempt *attempt, const struct index *index)
{
    char draft[PATH_SIZE];
    if (!enough_space(attempt) || !draft_name(attempt, draft) ||
        !os_make_folder(draft, attempt->place->shared, attempt->problem))
        return false;
    if (unpack(attempt->payload, index, NULL, draft, attempt->place->shared, attempt->problem) &&
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
    return os_make_folders(folder, attempt->place->shared, attempt->problem);
}

static bool replace_files(struct attempt *attempt, const struct index *index, const bool *wrong, const char *draft)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    for (uint32_t i = 0; i < index->entry_count; i++) {
        if (!wrong[i])
            continue;
        if (!path_join(from, draft, index->entries[i].path) || !path_join(to, attempt->tree, index->entries[i].path))
            return too_long(attempt->problem);
        struct facts before = os_facts(to);
        if (before.kind == KIND_FOLDER && !os_remove_tree(to))
            return problem_set(attempt->problem, EXIT_NO_PLACE, "", "%s cannot be removed", to);
        if (!make_room(attempt, to) || !os_rename(from, to, attempt->problem))
            return false;
    }
    return true;
}

/* Rule 4. A marker that is believed must not outlive the files that it was written about. */
static bool rewrite(struct attempt *attempt, const struct index *index, const bool *wrong)
{
    char draft[PATH_SIZE];
    if (!draft_name(attempt, draft) || !os_make_folder(draft, attempt->place->shared, attempt->problem))
        return false;
    bool done = unpack(attempt->payload, index, wrong, draft, attempt->place->shared, attempt->problem) &&
                marker_write(attempt->tree, false, attempt->problem) && replace_files(attempt, index, wrong, draft);
    os_remove_tree(draft);
    return done;
}

/* Rule 3. A marker that cannot be written costs another comparison at the next start, and nothing else. */
bool mend(struct attempt *attempt, const struct index *index, bool contents, uint32_t *mended)
{
    struct problem ignored;
    enum marker marker = marker_read(attempt->tree);
    bool *wrong = calloc((size_t)index->entry_count + 1, sizeof *wrong);
    if (!wrong)
        return problem_set(attempt->problem, EXIT_NO_PLACE, "", "there is no memory left");
    uint32_t count = unpack_compare(index, attempt->tree, contents, wrong);
    bool done = !count || rewrite(attempt, index, wrong);
    free(wrong);
    if (mended)
        *mended = count;
    if (count || marker == MARKER_BELIEVED)
        return done;
    if (marker != MARKER_EARLIER)
        marker_write(attempt->tree, false, &ignored);
    else
        seal(attempt, index);
    return true;
}

bool seal(struct attempt *attempt, const struct index *index)
{
    char path[PATH_SIZE];
    for (uint32_t i = 0; i < index->entry_count; i++) {
        if (index->entries[i].kind != ENTRY_FILE)
            continue;
        if (os_stop_requested())
            return problem_set(attempt->problem, 0, "", "asked to stop.");
        if (!path_join(path, attempt->tree, index->entries[i].path) || !os_flush(path))
            return not_flushed(attempt->problem, path);
    }
    return marker_write(attempt->tree, true, attempt->problem);
}
