/* deadline.h - the last resort: ends the process at a time, whatever it is doing then.
 *
 * A script that spins, a thread that is waited for or a log that nobody reads stop the loop, and with it
 * every timer of the loop; the kernel's timer goes on. One for the process. May include: base/.
 */
#ifndef MESA_IO_DEADLINE_H
#define MESA_IO_DEADLINE_H

#include <stdint.h>

#include "base/status.h"

/* Once, before anything else here. Uses SIGALRM. */
enum mesa_status mesa_deadline_init(void);
/* Ends the process in `ms`, with the status given last (0 without one). A deadline that is under way
 * stays when it is the earlier one. May be called in a signal handler. */
void mesa_deadline_arm(uint64_t ms);
void mesa_deadline_set_status(int status);

#endif
