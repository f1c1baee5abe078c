/* proc.h - what the kernel knows about a process: resident memory and CPU time; and the clock.
 *
 * May include: libc.
 */
#ifndef MESA_BENCH_PROC_H
#define MESA_BENCH_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

uint64_t now_ns(void); /* monotonic */

/* VmRSS of `pid` in bytes. False: there is no such process. */
bool proc_rss_bytes(pid_t pid, uint64_t *out);

/* User and system time of all threads of `pid`, in the kernel's ticks of usually 10 ms. False: no such process. */
bool proc_cpu_ns(pid_t pid, uint64_t *out);

/* The same of this process, exact. */
uint64_t own_cpu_ns(void);

#endif
