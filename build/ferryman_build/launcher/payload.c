#include "payload.h"

#include <stdlib.h>
#include <string.h>

#include <zstd.h>

#include "sha256.h"

const char *const DAMAGED_CURE = "Download it again, and compare its SHA-256 with the published one.";

enum { HEAD_FIXED = 104, HEAD_LEAST = HEAD_FIXED + 32, FILE_FIXED = 56, SEGMENT_SIZE = 12 };

static uint32_t u16(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t u32(const uint8_t *at)
{
    return u16(at) | u16(at + 2) << 16;
}

static uint64_t u64(const uint8_t *at)
{
    return u32(at) | (uint64_t)u32(at + 4) << 32;
}

static bool damaged(struct problem *problem, const char *what)
{
    return problem_set(problem, EXIT_DAMAGED, DAMAGED_CURE, "this executable is damaged: %s.", what);
}

static bool no_memory(struct problem *problem)
{
    return problem_set(problem, EXIT_NO_PLACE, "Raise the memory limit for the first start, or unpack with "
                       "`--ferryman-cache warm` outside of it.", "there is no memory for the index of its payload.");
}

/* A name becomes a folder of the cache: one component, and no hidden one. */
static bool take_name(char *into, size_t size, const uint8_t *from, uint32_t length)
{
    if (length >= size || memchr(from, 0, length) || memchr(from, '/', length) || memchr(from, '\\', length))
        return false;
    memcpy(into, from, length);
    into[length] = 0;
    return true;
}

static void hex(char *into, const uint8_t *from, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        *into++ = digits[from[i] >> 4];
        *into++ = digits[from[i] & 15];
    }
    *into = 0;
}

bool payload_open(const struct section *section, struct payload *payload, struct problem *problem)
{
    const uint8_t *head = section->data;
    if (section->size < HEAD_LEAST || memcmp(head, "FERRYMAN", 8))
        return damaged(problem, "its payload does not begin as one");
    if (u32(head + 8) != 1)
        return problem_set(problem, EXIT_DAMAGED, DAMAGED_CURE,
                           "this executable's payload has format %u, and its launcher knows 1.", u32(head + 8));
    uint64_t size = u32(head + 12);
    uint8_t digest[32];
    if (size < HEAD_LEAST || size > HEAD_LEAST + sizeof payload->name + sizeof payload->version ||
        size > section->size)
        return damaged(problem, "the head of its payload has an impossible size");
    sha256_of(head, size - 32, digest);
    if (memcmp(digest, head + size - 32, 32))
        return damaged(problem, "the head of its payload was changed");
    payload->body = head + size;
    payload->body_size = u64(head + 16);
    payload->segments = u32(head + 24);
    payload->index_size = u32(head + 28);
    payload->unpacked = u64(head + 32);
    payload->keep_days = u32(head + 40);
    payload->index_packed = u32(head + 88);
    memcpy(payload->hash, head + 48, 32);
    hex(payload->key, payload->hash, 16);
    uint32_t name = u32(head + 80), version = u32(head + 84);
    if ((uint64_t)name + version + HEAD_LEAST != size || !name || head[HEAD_FIXED] == '.' ||
        !take_name(payload->name, sizeof payload->name, head + HEAD_FIXED, name) ||
        !take_name(payload->version, sizeof payload->version, head + HEAD_FIXED + name, version))
        return damaged(problem, "its name is none");
    if (u32(head + 44))
        return damaged(problem, "it asks for something that its launcher does not know");
    if (payload->body_size > section->size - size)
        return damaged(problem, "it was truncated");
    if (!payload->segments || payload->index_packed > payload->body_size)
        return damaged(problem, "its payload has no index");
    return true;
}

bool payload_check(const struct payload *payload, struct problem *problem)
{
    uint8_t digest[32];
    sha256_of(payload->body, (size_t)payload->body_size, digest);
    return !memcmp(digest, payload->hash, 32) || damaged(problem, "its payload was changed");
}

/* Relative, without . and .., and without what Windows reads as a drive or a separator. */
static bool path_is_plain(const char *path)
{
    const char *at = path;
    if (!*at)
        return false;
    for (;;) {
        const char *end = at;
        while (*end && *end != '/')
            if (*end == '\\' || *end++ == ':')
                return false;
        size_t length = (size_t)(end - at);
        if (!length || (length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.'))
            return false;
        if (!*end)
            return true;
        at = end + 1;
    }
}

static bool read_segments(const struct payload *payload, struct index *index)
{
    uint64_t position = payload->index_packed;
    index->segments[0] = (struct segment){.packed = payload->index_packed, .unpacked = payload->index_size};
    for (uint32_t i = 1; i <= index->segment_count; i++) {
        const uint8_t *row = index->memory + 8 + (size_t)(i - 1) * SEGMENT_SIZE;
        struct segment *segment = &index->segments[i];
        *segment = (struct segment){position, u32(row), u32(row + 4), u32(row + 8)};
        if (segment->dictionary >= i || segment->packed > payload->body_size - position)
            return false;
        /* A dictionary that needs one itself would keep both in memory. */
        if (segment->dictionary && index->segments[segment->dictionary].dictionary)
            return false;
        position += segment->packed;
    }
    return position == payload->body_size;
}

static bool read_entry(struct index *index, struct entry *entry, const uint8_t **at, const uint8_t *end, char **names)
{
    const uint8_t *row = *at;
    if (end - row < FILE_FIXED)
        return false;
    size_t path = u16(row + 4), link = u16(row + 6);
    if ((size_t)(end - row) - FILE_FIXED < path + link)
        return false;
    *entry = (struct entry){.kind = row[0], .mode = (uint16_t)u16(row + 2), .segment = u32(row + 8),
                            .offset = u32(row + 12), .size = u64(row + 16), .sha256 = row + 24};
    entry->path = *names;
    memcpy(entry->path, row + FILE_FIXED, path);
    entry->path[path] = 0;
    entry->link = entry->path + path + 1;
    memcpy(entry->link, row + FILE_FIXED + path, link);
    entry->link[link] = 0;
    *names = entry->link + link + 1;
    *at = row + FILE_FIXED + path + link;
    if (strlen(entry->path) != path || strlen(entry->link) != link || !path_is_plain(entry->path))
        return false;
    if (entry->kind == ENTRY_LINK)
        return link && !entry->segment;
    if (entry->kind != ENTRY_FILE || entry->segment > index->segment_count)
        return false;
    if (!entry->segment)
        return !entry->size;
    uint32_t limit = index->segments[entry->segment].unpacked;
    return entry->offset <= limit && entry->size <= limit - entry->offset;
}

static bool read_index(const struct payload *payload, struct index *index, bool *exhausted)
{
    const uint8_t *at = index->memory, *end = at + payload->index_size;
    index->segment_count = u32(at);
    index->entry_count = u32(at + 4);
    if (index->segment_count != payload->segments - 1 ||
        index->segment_count > (payload->index_size - 8) / SEGMENT_SIZE ||
        index->entry_count > payload->index_size / FILE_FIXED)
        return false;
    index->segments = calloc((size_t)index->segment_count + 1, sizeof *index->segments);
    index->entries = calloc((size_t)index->entry_count + 1, sizeof *index->entries);
    index->names = malloc((size_t)payload->index_size + 2 * (size_t)index->entry_count + 1);
    *exhausted = !index->segments || !index->entries || !index->names;
    if (*exhausted || !read_segments(payload, index))
        return false;
    at += 8 + (size_t)index->segment_count * SEGMENT_SIZE;
    char *names = index->names;
    for (uint32_t i = 0; i < index->entry_count; i++)
        if (!read_entry(index, &index->entries[i], &at, end, &names))
            return false;
    return at == end;
}

bool payload_index(const struct payload *payload, struct index *index, struct problem *problem)
{
    memset(index, 0, sizeof *index);
    if (payload->index_size < 8)
        return damaged(problem, "its payload has no index");
    if (!(index->memory = malloc(payload->index_size)))
        return no_memory(problem);
    size_t got = ZSTD_decompress(index->memory, payload->index_size, payload->body, payload->index_packed);
    bool exhausted = false;
    if (got == payload->index_size && read_index(payload, index, &exhausted))
        return true;
    index_free(index);
    return exhausted ? no_memory(problem) : damaged(problem, "the index of its payload does not fit it");
}

void index_free(struct index *index)
{
    free(index->segments);
    free(index->entries);
    free(index->names);
    free(index->memory);
    memset(index, 0, sizeof *index);
}
