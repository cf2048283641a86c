/* What stands in the stream where lines are missing. */
#ifndef WATCHKEEPER_NOTICE_H
#define WATCHKEEPER_NOTICE_H

#include <stddef.h>
#include <stdint.h>

/* Write `pattern` with {count} and {time} filled in, as much of it as there is room for; the answer is how long it is.
 * `wall`: milliseconds since 1970. */
size_t notice_format(const char *pattern, uint64_t count, int64_t wall, char *into, size_t room);

#endif
