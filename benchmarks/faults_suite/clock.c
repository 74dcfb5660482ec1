/* Shifts the wall clock of a process: CLOCK_SHIFT lists seconds, and every further second of a run takes the next one
   of them, so that the clock jumps. The monotonic clock is left alone. Loaded by LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

static int (*real_clock_gettime)(clockid_t, struct timespec *);

static long shift(void) {
    const char *list = getenv("CLOCK_SHIFT");
    struct timespec now;
    static long begin;
    if (!list)
        return 0;
    real_clock_gettime(CLOCK_MONOTONIC, &now);
    if (!begin)
        begin = now.tv_sec;
    for (long jumps = now.tv_sec - begin; jumps > 0 && strchr(list, ','); jumps--)
        list = strchr(list, ',') + 1;
    return atol(list);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real_clock_gettime)
        real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real_clock_gettime(clock, time);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += shift();
    return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -1;
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result)
        *result = now.tv_sec;
    return now.tv_sec;
}
