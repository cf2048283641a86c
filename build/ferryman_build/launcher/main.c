/* The order of things: find oneself, find the tree, start it. */
#include <stdlib.h>
#include <string.h>

#include "cache.h"
#include "command.h"
#include "python.h"

#ifdef _WIN32
#include <windows.h>

#include <shellapi.h>
#endif

static bool same(const native_char *argument, const char *word)
{
    while (*word && *argument == (native_char)*word)
        argument++, word++;
    return !*word && !*argument;
}

/* Words of the command are ASCII; what is not is no word of it. */
static const char *plain_word(char *into, size_t size, int argc, native_char **argv, int at)
{
    if (at >= argc)
        return NULL;
    size_t i = 0;
    for (; argv[at][i] && i + 1 < size; i++)
        into[i] = argv[at][i] > 31 && argv[at][i] < 127 ? (char)argv[at][i] : '?';
    into[i] = 0;
    return into;
}

static bool cache_command(int argc, native_char **argv, const struct payload *payload, struct problem *problem)
{
    char word[96], value[96];
    if (argc > 4)
        return command_run(NULL, NULL, payload, problem);
    return command_run(plain_word(word, sizeof word, argc, argv, 2), plain_word(value, sizeof value, argc, argv, 3),
                       payload, problem);
}

static bool plain_interpreter_asked(void)
{
    const char *value = os_getenv("FERRYMAN_INTERPRETER");
    return value && !strcmp(value, "1");
}

static bool start_tree(const char *self, const char *folder, int argc, native_char **argv, int *code,
                       struct problem *problem)
{
    static struct launch launch;
    static char contents[PATH_SIZE];
    if (!launch_read(folder, &launch, problem))
        return false;
    if (!path_join(contents, folder, CONTENTS))
        return problem_set(problem, EXIT_INTERPRETER, "Move it to a shorter path.", "the path of the program is too long.");
    struct program program = {.launch = &launch, .self = self, .contents = contents, .argc = argc, .argv = argv};
    program.plain = launch.interpreter && plain_interpreter_asked();
    return python_run(&program, code, problem);
}

static bool start(int argc, native_char **argv, const char **name, int *code, struct problem *problem)
{
    static char self[PATH_SIZE], folder[PATH_SIZE];
    static struct payload payload;
    static struct tree tree;
    struct section section = {NULL, 0};
    if (!os_self(self, problem))
        return false;
    if (strrchr(self, SEPARATOR))
        *name = strrchr(self, SEPARATOR) + 1;
    bool asks_cache = argc > 1 && same(argv[1], "--ferryman-cache");
    if (!os_payload(self, &section, problem) || (section.data && !payload_open(&section, &payload, problem)))
        return false;
    if (asks_cache)
        return cache_command(argc, argv, section.data ? &payload : NULL, problem);
    if (section.data) {
        *name = payload.name;
        if (!cache_find(&payload, &tree, problem))
            return false;
        os_payload_done(&section);
        return start_tree(self, tree.folder, argc, argv, code, problem);
    }
    memcpy(folder, self, sizeof folder);
    path_parent(folder);
    /* With raised rights, whoever can write the tree decides what runs with them. */
    if (os_raised() && !os_trusted(folder, problem))
        return false;
    return start_tree(self, folder, argc, argv, code, problem);
}

static int run(int argc, native_char **argv)
{
    static struct problem problem;
    const char *name = "ferryman";
    int code = 0;
    if (start(argc, argv, &name, &code, &problem))
        return code;
    problem_print(name, &problem);
    return problem.code ? problem.code : EXIT_INTERPRETER; /* never 0: nothing was started */
}

#ifdef _WIN32
int main(void)
{
    int argc;
    wchar_t **argv = CommandLineToArgvW(GetCommandLineW(), &argc);
    return argv ? run(argc, argv) : EXIT_INTERPRETER;
}
#else
int main(int argc, char **argv)
{
    static char *nameless[] = {"", NULL};
    return argc ? run(argc, argv) : run(1, nameless);
}
#endif
