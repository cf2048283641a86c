/* The design that was not chosen, for `nox -s bench -- launcher`: a static program that belongs to no C library, looks
   for its unpacked tree, and becomes the dynamic launcher in there (execve keeps the process). It does less than a real
   one would have to (it knows its tree when it is compiled, and does not look for a payload in itself), so what it
   costs is at least what the second program costs. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Nobody but root and this user can change what is executed: every folder on the way is looked at. */
static int trusted(const char *path)
{
    char part[4096];
    for (size_t end = 1; end <= strlen(path); end++) {
        struct stat facts;
        if (path[end] != '/' && path[end] != '\0')
            continue;
        memcpy(part, path, end);
        part[end] = '\0';
        if (lstat(part, &facts) || (facts.st_uid && facts.st_uid != getuid()))
            return 0;
    }
    return 1;
}

int main(int count, char **arguments)
{
    int folder = open(TREE, O_RDONLY | O_DIRECTORY);
    (void)count;
    if (folder < 0 || !trusted(TREE) || access(TREE "/_internal/_ferryman/launch", R_OK)) {
        fprintf(stderr, "%s is not there: unpack it\n", TREE);
        return 73;
    }
    flock(folder, LOCK_SH); /* kept open across the execve, as a real one would have to */
    execv(TREE "/" PROGRAM, arguments);
    perror(TREE "/" PROGRAM);
    return 69;
}
