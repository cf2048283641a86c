/* writev(2) where there is one; WriteFile on Windows, one segment at a time: the caller comes back with the rest. */

#include "output.h"

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <windows.h>

enum { MOST_BYTES = 16 * 1024 * 1024 }; /* of one call: a pipe refuses what it could never buffer */

output_result
output_write(output_target target, const segment *segments, int count, size_t *written, int *error)
{
    (void)count;
    HANDLE handle = (HANDLE)target;
    /* A file is written at its end, wherever that is by now: O_APPEND is known to the C runtime and not to the handle. */
    OVERLAPPED at_end = {.Offset = 0xFFFFFFFF, .OffsetHigh = 0xFFFFFFFF};
    DWORD size = segments->size < MOST_BYTES ? (DWORD)segments->size : MOST_BYTES, done = 0;
    if (WriteFile(handle, segments->text, size, &done, GetFileType(handle) == FILE_TYPE_DISK ? &at_end : NULL)) {
        *written = done;
        return done > 0 ? OUTPUT_WROTE : OUTPUT_BUSY; /* nothing at all: a pipe in PIPE_NOWAIT mode that is full */
    }
    *error = (int)GetLastError();
    return *error == ERROR_DISK_FULL || *error == ERROR_HANDLE_DISK_FULL || *error == ERROR_DISK_QUOTA_EXCEEDED
               ? OUTPUT_FULL
               : OUTPUT_BROKEN;
}

void
output_wait(output_target target, int milliseconds)
{
    (void)target; /* nothing tells when a pipe has room */
    Sleep((DWORD)(milliseconds < 10 ? milliseconds : 10));
}

#else

#include <errno.h>
#include <poll.h>
#include <sys/uio.h>

enum { MOST_SEGMENTS = 3 };

output_result
output_write(output_target target, const segment *segments, int count, size_t *written, int *error)
{
    struct iovec parts[MOST_SEGMENTS];
    for (int index = 0; index < count; index++) {
        parts[index].iov_base = (void *)(uintptr_t)segments[index].text; /* writev does not write to it */
        parts[index].iov_len = segments[index].size;
    }
    ssize_t done = writev((int)target, parts, count);
    if (done > 0) {
        *written = (size_t)done;
        return OUTPUT_WROTE;
    }
    *error = done == 0 ? EIO : errno;
    switch (*error) {
    case EINTR:
        return OUTPUT_INTERRUPTED;
    case EAGAIN:
#if EWOULDBLOCK != EAGAIN
    case EWOULDBLOCK:
#endif
        return OUTPUT_BUSY;
    case ENOSPC:
    case EDQUOT:
        return OUTPUT_FULL;
    default:
        return OUTPUT_BROKEN;
    }
}

void
output_wait(output_target target, int milliseconds)
{
    struct pollfd one = {.fd = (int)target, .events = POLLOUT};
    (void)poll(&one, 1, milliseconds);
}

#endif
