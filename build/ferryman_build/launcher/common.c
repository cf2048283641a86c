#include "common.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform.h"

bool problem_set(struct problem *problem, int code, const char *cure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    problem->code = code;
    vsnprintf(problem->sentence, sizeof problem->sentence, format, arguments);
    snprintf(problem->cure, sizeof problem->cure, "%s", cure);
    va_end(arguments);
    return false;
}

void problem_print(const char *name, const struct problem *problem)
{
    os_write_error(name);
    os_write_error(": ");
    os_write_error(problem->sentence);
    os_write_error("\n");
    if (problem->cure[0]) {
        os_write_error("  ");
        os_write_error(problem->cure);
        os_write_error("\n");
    }
}

bool path_join(char *path, const char *folder, const char *name)
{
    size_t length = strlen(folder);
    bool separated = length && folder[length - 1] == SEPARATOR;
    int written = snprintf(path, PATH_SIZE, "%s%s%s", folder, separated ? "" : (char[]){SEPARATOR, 0}, name);
    if (written < 0 || written >= PATH_SIZE)
        return false;
#ifdef _WIN32
    for (char *at = path + length; *at; at++)
        if (*at == '/')
            *at = '\\';
#endif
    return true;
}

void path_parent(char *path)
{
    char *slash = strrchr(path, SEPARATOR);
    if (slash == path)
        slash++;
    if (slash)
        *slash = 0;
}

struct text {
    char *data;
    size_t size, limit;
    bool failed;
};

static void take_text(void *context, const void *data, size_t size)
{
    struct text *text = context;
    if (text->failed || text->size + size > text->limit) {
        text->failed = true;
        return;
    }
    memcpy(text->data + text->size, data, size);
    text->size += size;
}

char *read_text(const char *path, size_t limit, size_t *size)
{
    struct text text = {.data = malloc(limit + 1), .limit = limit};
    if (!text.data)
        return NULL;
    if (!os_read_pieces(path, take_text, &text) || text.failed) {
        free(text.data);
        return NULL;
    }
    text.data[text.size] = 0;
    if (size)
        *size = text.size;
    return text.data;
}
