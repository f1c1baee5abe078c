#include "proc.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

static uint64_t clock_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t own_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static FILE *open_proc(pid_t pid, const char *file)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, file);
    return fopen(path, "re");
}

bool proc_rss_bytes(pid_t pid, uint64_t *out)
{
    FILE *f = open_proc(pid, "status");
    if (f == NULL)
        return false;

    char line[256];
    bool found = false;
    while (!found && fgets(line, sizeof line, f) != NULL) {
        uint64_t kib;
        if (sscanf(line, "VmRSS: %" SCNu64 " kB", &kib) == 1) {
            *out = kib * 1024;
            found = true;
        }
    }
    fclose(f);
    return found;
}

bool proc_cpu_ns(pid_t pid, uint64_t *out)
{
    FILE *f = open_proc(pid, "stat");
    if (f == NULL)
        return false;

    char line[1024];
    bool found = false;
    if (fgets(line, sizeof line, f) != NULL) {
        /* The command may contain spaces and parentheses; the fields begin after its last one. */
        const char *p = strrchr(line, ')');
        uint64_t user, sys;
        if (p != NULL &&
            sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNu64 " %" SCNu64,
                   &user, &sys) == 2) {
            *out = (user + sys) * (NS_PER_S / (uint64_t)sysconf(_SC_CLK_TCK));
            found = true;
        }
    }
    fclose(f);
    return found;
}
