/* Runs parts of the launcher on their own, for tests/integration/test_launcher_parts.py.

       driver sha256 FILE                  the digest of the file, taken in pieces of 1, 63, 64, 65 … bytes
       driver payload FILE                 head, body and index of a payload; every read beyond an end is a SIGSEGV
       driver unpack FILE FOLDER           the same, and its files into an empty folder
       driver compare FILE FOLDER          how many of its files the folder does not hold, by content and by size
       driver trusted PATH                 whether nobody else can change anything along it */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "payload.h"
#include "sha256.h"
#include "unpack.h"

/* A copy that ends where the next page cannot be read. payload.c is compiled with malloc and calloc replaced by these. */
void *guarded(size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page + page;
    char *pages = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + whole - page, page, PROT_NONE))
        abort();
    return pages + whole - page - size;
}

void *guarded_array(size_t count, size_t size)
{
    return guarded(count * size);
}

void guarded_free(void *memory)
{
    (void)memory; /* the process is short */
}

static uint8_t *read_all(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END))
        abort();
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = guarded(*size);
    if (fread(data, 1, *size, file) != *size)
        abort();
    fclose(file);
    return data;
}

static int digest_of(const char *path)
{
    static const size_t pieces[] = {1, 63, 64, 65, 127, 129, 4096};
    size_t size, taken = 0;
    uint8_t *data = read_all(path, &size), digest[32];
    struct sha256 hash;
    sha256_begin(&hash);
    for (size_t i = 0; taken < size; i++) {
        size_t piece = pieces[i % 7] < size - taken ? pieces[i % 7] : size - taken;
        sha256_take(&hash, data + taken, piece);
        taken += piece;
    }
    sha256_end(&hash, digest);
    for (int i = 0; i < 32; i++)
        printf("%02x", digest[i]);
    return 0;
}

static int compare(const struct index *index, const char *folder)
{
    bool *wrong = calloc(index->entry_count, sizeof *wrong);
    if (!wrong)
        abort();
    unsigned by_content = unpack_compare(index, folder, true, wrong);
    printf("%u %u", by_content, (unsigned)unpack_compare(index, folder, false, wrong));
    free(wrong);
    return 0;
}

static int payload_of(const char *path, const char *folder, bool compares)
{
    struct payload payload;
    struct problem problem = {0};
    struct index index;
    struct section section;
    section.data = read_all(path, &section.size);
    if (!payload_open(&section, &payload, &problem) || !payload_check(&payload, &problem) ||
        !payload_index(&payload, &index, &problem) ||
        (folder && !compares && !unpack(&payload, &index, NULL, folder, false, &problem))) {
        printf("%s", problem.sentence);
        return problem.code;
    }
    if (compares)
        return compare(&index, folder);
    printf("%s %s %s %u", payload.key, payload.name, payload.version, (unsigned)index.entry_count);
    index_free(&index);
    return 0;
}

int main(int argc, char **argv)
{
    struct problem problem = {0};
    if (argc > 2 && !strcmp(argv[1], "sha256"))
        return digest_of(argv[2]);
    if (argc > 2 && !strcmp(argv[1], "payload"))
        return payload_of(argv[2], NULL, false);
    if (argc > 3 && !strcmp(argv[1], "unpack"))
        return payload_of(argv[2], argv[3], false);
    if (argc > 3 && !strcmp(argv[1], "compare"))
        return payload_of(argv[2], argv[3], true);
    if (argc > 2 && !strcmp(argv[1], "trusted") && !os_trusted(argv[2], &problem)) {
        printf("%s", problem.sentence);
        return 1;
    }
    return 0;
}
