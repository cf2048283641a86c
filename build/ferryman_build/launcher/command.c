#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache.h"

static const char USAGE[] = "Say one of: path (where the tree of this executable is or will be), list (all trees of this "
                            "program), prune [DAYS] (remove those that nobody has used for so long), warm (unpack now, "
                            "check every file, write all to the disk).";

static void print_line(const char *text)
{
    os_write_output(text);
    os_write_output("\n");
}

/* Finding a tree unpacks it if need be: that a folder is printed means that it works. */
static int print_path(const struct payload *payload, struct problem *problem)
{
    static struct tree tree;
    if (!cache_find(payload, &tree, problem))
        return -1;
    print_line(tree.folder);
    return 0;
}

static int warm(const struct payload *payload, struct problem *problem)
{
    static struct tree tree;
    uint32_t mended = 0;
    char text[64];
    if (!cache_find(payload, &tree, problem) || !cache_seal(payload, &tree, &mended, problem))
        return -1;
    print_line(tree.folder);
    if (mended) {
        snprintf(text, sizeof text, "%u files were wrong and are mended", (unsigned)mended);
        print_line(text);
    }
    return 0;
}

struct listing {
    const char *key;
    unsigned removed;
};

static void print_cached(void *context, const struct cached *cached)
{
    const struct listing *listing = context;
    char day[32] = "never", line[PATH_SIZE + 64];
    time_t used = (time_t)cached->used;
    struct tm *date = used ? gmtime(&used) : NULL;
    if (date)
        strftime(day, sizeof day, "%Y-%m-%d", date);
    snprintf(line, sizeof line, "%s  %-7s  %s%s", day, cached->running ? "running" : "unused", cached->folder,
             strcmp(cached->key, listing->key) ? "" : "  (this executable's)");
    print_line(line);
}

static void print_removed(void *context, const struct cached *cached)
{
    struct listing *listing = context;
    if (!cached->removed)
        return;
    listing->removed++;
    os_write_output("removed ");
    print_line(cached->folder);
}

static int prune(const struct payload *payload, const char *value, struct problem *problem)
{
    struct listing listing = {payload->key, 0};
    char *end = NULL;
    long days = value ? strtol(value, &end, 10) : (long)payload->keep_days;
    if (value && (*end || end == value || days < 0 || days > 36500)) {
        problem_set(problem, EXIT_USAGE, "Say a number of days; 0 removes every tree that is not running.",
                    "`%.80s` is not a number of days.", value);
        return -1;
    }
    cache_walk(payload->name, NULL, (int)days, print_removed, &listing);
    if (!listing.removed)
        print_line("nothing to remove");
    return 0;
}

int command_run(const char *word, const char *value, const struct payload *payload, struct problem *problem)
{
    bool takes_value = word && !strcmp(word, "prune");
    if (!payload && word) {
        problem_set(problem, EXIT_USAGE, "Only the one-file executable has one.",
                    "this program runs from its own folder and has no cache.");
        return -1;
    }
    if (word && payload && (takes_value || !value)) {
        struct listing listing = {payload->key, 0};
        if (!strcmp(word, "path"))
            return print_path(payload, problem);
        if (!strcmp(word, "warm"))
            return warm(payload, problem);
        if (takes_value)
            return prune(payload, value, problem);
        if (!strcmp(word, "list")) {
            cache_walk(payload->name, NULL, -1, print_cached, &listing);
            return 0;
        }
    }
    if (word)
        problem_set(problem, EXIT_USAGE, USAGE, "--ferryman-cache does not know `%.80s`.", word);
    else
        problem_set(problem, EXIT_USAGE, USAGE, "--ferryman-cache takes one word, and `prune` a number behind it.");
    return -1;
}
