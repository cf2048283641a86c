#include "launch.h"

#include <stdlib.h>
#include <string.h>

#include "platform.h"

enum { LARGEST = 64 * 1024 };

static const char CURE[] = "Put the executable back beside its _internal folder, or unpack the archive again.";

static void take(struct launch *launch, int *format, const char *key, const char *value)
{
    if (!strcmp(key, "format"))
        *format = atoi(value);
    else if (!strcmp(key, "name"))
        launch->name = value;
    else if (!strcmp(key, "version"))
        launch->version = value;
    else if (!strcmp(key, "python"))
        launch->python = value;
    else if (!strcmp(key, "library"))
        launch->library = value;
    else if (!strcmp(key, "main"))
        launch->main = value;
    else if (!strcmp(key, "path") && ++launch->path_count <= LAUNCH_PATHS)
        launch->paths[launch->path_count - 1] = value;
    else if (!strcmp(key, "optimize"))
        launch->optimize = atoi(value);
    else if (!strcmp(key, "interpreter"))
        launch->interpreter = atoi(value);
}

bool launch_read(const char *folder, struct launch *launch, struct problem *problem)
{
    char path[PATH_SIZE];
    int format = 0;
    memset(launch, 0, sizeof *launch);
    if (!path_join(path, folder, CONTENTS "/_ferryman/launch") || !(launch->text = read_text(path, LARGEST, NULL)))
        return problem_set(problem, EXIT_INTERPRETER, CURE, "%s is not there, so there is nothing to start.", path);
    for (char *line = launch->text, *next; *line; line = next) {
        char *end = strchr(line, '\n');
        next = end ? end + 1 : line + strlen(line);
        if (end)
            *end = 0;
        char *space = strchr(line, ' ');
        if (space) {
            *space = 0;
            take(launch, &format, line, space + 1);
        }
    }
    if (format != 1)
        return problem_set(problem, EXIT_INTERPRETER, CURE, "%s has format %d, and this launcher knows 1.", path, format);
    if (!launch->name || !launch->library || !launch->main || !launch->path_count || !launch->python)
        return problem_set(problem, EXIT_INTERPRETER, CURE, "%s is incomplete.", path);
    if (launch->path_count > LAUNCH_PATHS)
        return problem_set(problem, EXIT_INTERPRETER, CURE, "%s names more than %d places of modules.", path, LAUNCH_PATHS);
    return true;
}
