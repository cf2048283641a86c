#include "unpack.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "sha256.h"

#ifndef _WIN32
#include <sys/mman.h>
#endif

/* Large buffers come from the system and go back to it: freeing them with free() would teach malloc to keep blocks of
   that size in the heap, for as long as the agent runs. */
static void *buffer(size_t size)
{
#ifdef _WIN32
    return malloc(size + 1);
#else
    void *made = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return made == MAP_FAILED ? NULL : made;
#endif
}

static void buffer_free(void *made, size_t size)
{
#ifdef _WIN32
    (void)size;
    free(made);
#else
    if (made)
        munmap(made, size + 1);
#endif
}

struct job {
    const struct payload *payload;
    const struct index *index;
    const bool *wanted;
    const char *folder;
    bool shared;
    struct problem *problem;
    ZSTD_DCtx *context;
    uint32_t *order; /* entries by segment; those of segment s are order[first[s]] … order[first[s + 1] - 1] */
    uint32_t *first;
    uint32_t held; /* the dictionary that is in memory, or 0 */
    void *dictionary;
    void *content; /* of the segment at hand; large enough for any */
};

static bool is_wanted(const struct job *job, uint32_t entry)
{
    return !job->wanted || job->wanted[entry];
}

static bool no_memory(struct problem *problem, uint64_t size)
{
    return problem_set(problem, EXIT_NO_PLACE, "Raise the memory limit for the first start, or unpack with "
                       "`--ferryman-cache warm` outside of it.",
                       "there are no %llu MB of memory for unpacking.", (unsigned long long)(size >> 20) + 1);
}

/* Bucket sort: the index is in the order of paths. */
static bool sort_by_segment(struct job *job)
{
    const struct index *index = job->index;
    uint32_t segments = index->segment_count + 1;
    job->order = malloc(((size_t)index->entry_count + 1) * sizeof *job->order);
    job->first = calloc((size_t)segments + 2, sizeof *job->first);
    if (!job->order || !job->first)
        return no_memory(job->problem, 0);
    for (uint32_t i = 0; i < index->entry_count; i++)
        job->first[index->entries[i].segment + 2]++;
    for (uint32_t s = 1; s <= segments; s++)
        job->first[s + 1] += job->first[s];
    for (uint32_t i = 0; i < index->entry_count; i++)
        job->order[job->first[index->entries[i].segment + 1]++] = i;
    return true;
}

static bool make_folders(struct job *job)
{
    char path[PATH_SIZE], last[PATH_SIZE] = "";
    for (uint32_t i = 0; i < job->index->entry_count; i++) {
        if (!is_wanted(job, i))
            continue;
        if (!path_join(path, job->folder, job->index->entries[i].path))
            return problem_set(job->problem, EXIT_NO_PLACE, "Name a shorter place with FERRYMAN_CACHE.",
                               "the path of %s becomes too long.", job->index->entries[i].path);
        path_parent(path);
        if (!strcmp(path, last))
            continue;
        if (!os_make_folders(path, job->shared, job->problem))
            return false;
        memcpy(last, path, sizeof last);
    }
    return true;
}

static bool decode(struct job *job, uint32_t number, void *into)
{
    const struct segment *segment = &job->index->segments[number];
    if (segment->dictionary)
        ZSTD_DCtx_refPrefix(job->context, job->dictionary, job->index->segments[segment->dictionary].unpacked);
    size_t got = ZSTD_decompressDCtx(job->context, into, segment->unpacked, job->payload->body + segment->position,
                                     segment->packed);
    return got == segment->unpacked || problem_set(job->problem, EXIT_DAMAGED, DAMAGED_CURE,
                                                   "this executable is damaged: a part of its payload does not unpack.");
}

static bool hold_dictionary(struct job *job, uint32_t number)
{
    if (!number || job->held == number)
        return true;
    if (job->held)
        buffer_free(job->dictionary, job->index->segments[job->held].unpacked);
    job->held = 0;
    job->dictionary = buffer(job->index->segments[number].unpacked);
    if (!job->dictionary)
        return no_memory(job->problem, job->index->segments[number].unpacked);
    job->held = number;
    return decode(job, number, job->dictionary);
}

static bool write_entry(struct job *job, const struct entry *entry, const uint8_t *content)
{
    char path[PATH_SIZE];
    if (os_stop_requested())
        return problem_set(job->problem, 0, "", "asked to stop.");
    path_join(path, job->folder, entry->path);
    if (entry->kind == ENTRY_LINK)
        return os_symlink(entry->link, path, job->problem);
    return os_write_file(path, content + entry->offset, (size_t)entry->size, entry->mode, job->problem);
}

static bool unpack_segment(struct job *job, uint32_t number)
{
    uint32_t from = job->first[number], to = job->first[number + 1], any = 0;
    for (uint32_t i = from; i < to; i++)
        any += is_wanted(job, job->order[i]);
    if (!any)
        return true;
    const uint8_t *content = job->content;
    if (number && number == job->held)
        content = job->dictionary;
    else if (number && !(hold_dictionary(job, job->index->segments[number].dictionary) &&
                         decode(job, number, job->content)))
        return false;
    for (uint32_t i = from; i < to; i++)
        if (is_wanted(job, job->order[i]) && !write_entry(job, &job->index->entries[job->order[i]], content))
            return false;
    return true;
}

bool unpack(const struct payload *payload, const struct index *index, const bool *wanted, const char *folder,
            bool shared, struct problem *problem)
{
    struct job job = {.payload = payload, .index = index, .wanted = wanted, .folder = folder, .shared = shared,
                      .problem = problem, .context = ZSTD_createDCtx()};
    size_t largest = 0;
    for (uint32_t s = 1; s <= index->segment_count; s++)
        if (index->segments[s].unpacked > largest)
            largest = index->segments[s].unpacked;
    job.content = buffer(largest);
    bool done = job.context && job.content ? sort_by_segment(&job) && make_folders(&job)
                                           : no_memory(problem, largest);
    for (uint32_t s = 0; done && s <= index->segment_count; s++)
        done = unpack_segment(&job, s);
    if (job.held)
        buffer_free(job.dictionary, index->segments[job.held].unpacked);
    buffer_free(job.content, largest);
    ZSTD_freeDCtx(job.context);
    free(job.order);
    free(job.first);
    return done;
}

/* Where links cannot be made (Windows) no target has any. */
static bool same_link(const struct entry *entry, const char *path, enum kind kind, bool contents)
{
    char target[PATH_SIZE];
    return kind == KIND_LINK && (!contents || (os_read_link(path, target) && !strcmp(target, entry->link)));
}

static bool same_content(const struct entry *entry, const char *path)
{
    struct sha256 hash;
    uint8_t digest[32];
    sha256_begin(&hash);
    if (!os_read_pieces(path, sha256_take, &hash))
        return false;
    sha256_end(&hash, digest);
    return !memcmp(digest, entry->sha256, 32);
}

uint32_t unpack_compare(const struct index *index, const char *folder, bool contents, bool *wrong)
{
    char path[PATH_SIZE];
    uint32_t count = 0;
    for (uint32_t i = 0; i < index->entry_count; i++) {
        const struct entry *entry = &index->entries[i];
        bool right = path_join(path, folder, entry->path);
        if (right) {
            struct facts facts = os_facts(path);
            right = entry->kind == ENTRY_LINK ? same_link(entry, path, facts.kind, contents)
                                              : facts.kind == KIND_FILE && facts.size == entry->size &&
                                                    (!contents || same_content(entry, path));
        }
        wrong[i] = !right;
        count += !right;
    }
    return count;
}
