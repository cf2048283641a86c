#include "command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cache.h"
#include "prune.h"

static const char USAGE[] = "Say one of: path (where the tree of this executable is or will be), list (all trees of this "
                            "program), prune [DAYS] (remove those that nobody has used for so long), warm (unpack now, "
                            "check every file, write all to the disk).";

static void print_line(const char *text)
{
    os_write_output(text);
    os_write_output("\n");
}

/* Finding a tree unpacks it if need be: that a folder is printed means that it works. */
static bool print_path(const struct payload *payload, struct problem *problem)
{
    static struct tree tree;
    if (!cache_find(payload, &tree, problem))
        return false;
    print_line(tree.folder);
    return true;
}

static bool warm(const struct payload *payload, struct problem *problem)
{
    static struct tree tree;
    uint32_t mended = 0;
    char text[64];
    if (!cache_find(payload, &tree, problem) || !cache_seal(payload, &tree, &mended, problem))
        return false;
    print_line(tree.folder);
    if (mended) {
        snprintf(text, sizeof text, "%u files were wrong and are mended", (unsigned)mended);
        print_line(text);
    }
    return true;
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

static const char DAYS[] = "Say a number of days; 0 removes every tree that is not running.";

static bool prune(const struct payload *payload, const char *value, struct problem *problem)
{
    struct listing listing = {payload->key, 0};
    char *end = NULL;
    long days = value ? strtol(value, &end, 10) : (long)payload->keep_days;
    if (!value && !days)
        return problem_set(problem, EXIT_USAGE, DAYS, "this program was built to keep its trees for ever.");
    if (value && (*end || end == value || days < 0 || days > 36500))
        return problem_set(problem, EXIT_USAGE, DAYS, "`%.80s` is not a number of days.", value);
    prune_walk(payload->name, (int)days, print_removed, &listing);
    if (!listing.removed)
        print_line("nothing to remove");
    return true;
}

bool command_run(const char *word, const char *value, const struct payload *payload, struct problem *problem)
{
    bool takes_value = word && !strcmp(word, "prune");
    if (!payload && word)
        return problem_set(problem, EXIT_USAGE, "Only the one-file executable has one.",
                           "this program runs from its own folder and has no cache.");
    if (word && payload && (takes_value || !value)) {
        struct listing listing = {payload->key, 0};
        if (!strcmp(word, "path"))
            return print_path(payload, problem);
        if (!strcmp(word, "warm"))
            return warm(payload, problem);
        if (takes_value)
            return prune(payload, value, problem);
        if (!strcmp(word, "list")) {
            prune_walk(payload->name, -1, print_cached, &listing);
            return true;
        }
    }
    if (word)
        return problem_set(problem, EXIT_USAGE, USAGE, "--ferryman-cache does not know `%.80s`.", word);
    return problem_set(problem, EXIT_USAGE, USAGE, "--ferryman-cache takes one word, and `prune` a number behind it.");
}
