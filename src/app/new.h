/* new.h - `mesa-lua new DIR`: writes a first server.
 *
 * May include: base/.
 */
#ifndef MESA_APP_NEW_H
#define MESA_APP_NEW_H

#include <stddef.h>

#include "base/status.h"

/* Writes server.lua, auth.lua and on_message.lua into `dir`, which is created when missing (its parent is not).
 * MESA_EINUSE: one of them exists already; nothing was written. MESA_EIO: the system refused. `err` says what and where. */
enum mesa_status mesa_new_write(const char *dir, char *err, size_t err_len);

#endif
