/* A mutex and a condition for threads that do not hold the GIL, on both kinds of system. */
#ifndef WATCHKEEPER_SYNC_H
#define WATCHKEEPER_SYNC_H

#include <stdint.h>

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#ifndef _WIN32_WINNT
#define _WIN32_WINNT 0x0A00
#endif
#include <windows.h>

typedef SRWLOCK wk_mutex;
typedef CONDITION_VARIABLE wk_condition;

static inline void wk_mutex_init(wk_mutex *mutex) { InitializeSRWLock(mutex); }
static inline void wk_mutex_destroy(wk_mutex *mutex) { (void)mutex; }
static inline void wk_lock(wk_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline int wk_try_lock(wk_mutex *mutex) { return TryAcquireSRWLockExclusive(mutex); }
static inline void wk_unlock(wk_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void wk_condition_init(wk_condition *condition) { InitializeConditionVariable(condition); }
static inline void wk_condition_destroy(wk_condition *condition) { (void)condition; }
static inline void wk_wake_all(wk_condition *condition) { WakeAllConditionVariable(condition); }

static inline void
wk_wait(wk_condition *condition, wk_mutex *mutex, int64_t milliseconds)
{
    SleepConditionVariableSRW(condition, mutex, (DWORD)(milliseconds > 0 ? milliseconds : 1), 0);
}

static inline int64_t
wk_now(void)
{
    return (int64_t)GetTickCount64();
}

/* Milliseconds since 1970, as people count them; FILETIME counts tenths of microseconds since 1601. */
static inline int64_t
wk_wall(void)
{
    FILETIME now;
    GetSystemTimeAsFileTime(&now);
    return (int64_t)(((uint64_t)now.dwHighDateTime << 32 | now.dwLowDateTime) / 10000) - INT64_C(11644473600000);
}

static inline void
wk_sleep(int64_t milliseconds)
{
    Sleep((DWORD)milliseconds);
}

#else

#include <errno.h>
#include <pthread.h>
#include <time.h>

typedef pthread_mutex_t wk_mutex;
typedef pthread_cond_t wk_condition;

static inline void wk_mutex_init(wk_mutex *mutex) { pthread_mutex_init(mutex, NULL); }
static inline void wk_mutex_destroy(wk_mutex *mutex) { pthread_mutex_destroy(mutex); }
static inline void wk_lock(wk_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline int wk_try_lock(wk_mutex *mutex) { return pthread_mutex_trylock(mutex) == 0; }
static inline void wk_unlock(wk_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void wk_condition_destroy(wk_condition *condition) { pthread_cond_destroy(condition); }
static inline void wk_wake_all(wk_condition *condition) { pthread_cond_broadcast(condition); }

static inline void
wk_condition_init(wk_condition *condition)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__ /* which waits for a span of time below and needs no clock */
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* Wait to be woken, or as long; whoever waits looks for itself why it goes on. */
static inline void
wk_wait(wk_condition *condition, wk_mutex *mutex, int64_t milliseconds)
{
    struct timespec until = {.tv_sec = (time_t)(milliseconds / 1000), .tv_nsec = (long)(milliseconds % 1000) * 1000000};
#ifdef __APPLE__
    pthread_cond_timedwait_relative_np(condition, mutex, &until);
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    until.tv_sec += now.tv_sec + (now.tv_nsec + until.tv_nsec) / 1000000000;
    until.tv_nsec = (now.tv_nsec + until.tv_nsec) % 1000000000;
    pthread_cond_timedwait(condition, mutex, &until);
#endif
}

/* A clock in milliseconds that nobody sets. */
static inline int64_t
wk_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Milliseconds since 1970, as people count them. */
static inline int64_t
wk_wall(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void
wk_sleep(int64_t milliseconds)
{
    struct timespec span = {.tv_sec = (time_t)(milliseconds / 1000), .tv_nsec = (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&span, &span) != 0 && errno == EINTR) {
    }
}

#endif
#endif
