/* startup.h - the time from starting a server's program to its first client's upgrade.
 *
 * May include: hist, options, proc.
 */
#ifndef MESA_BENCH_STARTUP_H
#define MESA_BENCH_STARTUP_H

#include <stdbool.h>

#include "options.h"

/* Starts o->command `--count` times (10), one after the other, and reports. False: it did not start; said on stderr. */
bool startup_run(const struct options *o);

#endif
