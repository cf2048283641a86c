#include "notice.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* RFC 3339 in UTC. By arithmetic, because gmtime may take a lock that a child of fork() finds held. A year of this count
 * begins in March, so the day that some years have more is its last one. */
static void
format_time(int64_t wall, char *into, size_t room)
{
    int64_t seconds = wall / 1000, day = seconds / 86400 + 719468; /* from the first of March of the year 0 */
    int64_t era = day / 146097, of_era = day % 146097;            /* of 400 years */
    int64_t of_years = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * of_years + of_years / 4 - of_years / 100);
    int64_t month = (5 * of_year + 2) / 153, date = of_year - (153 * month + 2) / 5 + 1;
    month = month < 10 ? month + 3 : month - 9;
    int64_t year = era * 400 + of_years + (month <= 2);
    snprintf(into, room, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", (int)year, (int)month, (int)date,
             (int)(seconds / 3600 % 24), (int)(seconds / 60 % 60), (int)(seconds % 60), (int)(wall % 1000));
}

size_t
notice_format(const char *pattern, uint64_t count, int64_t wall, char *into, size_t room)
{
    char time_text[64], count_text[24];
    format_time(wall, time_text, sizeof time_text);
    snprintf(count_text, sizeof count_text, "%" PRIu64, count);
    size_t size = 0;
    for (const char *at = pattern; *at != 0;) {
        const char *text = at;
        size_t length = 1, step = 1;
        if (strncmp(at, "{time}", 6) == 0) {
            text = time_text, length = strlen(time_text), step = 6;
        }
        else if (strncmp(at, "{count}", 7) == 0) {
            text = count_text, length = strlen(count_text), step = 7;
        }
        if (length <= room - size) {
            memcpy(into + size, text, length);
            size += length;
        }
        at += step;
    }
    return size;
}
