/* new.h - `mesa-lua new DIR`: writes a first application.
 *
 * May include: base/, core/json.h.
 */
#ifndef MESA_APP_NEW_H
#define MESA_APP_NEW_H

#include <stddef.h>

#include "base/status.h"

/* Writes the templates (see templates.h) into `dir`, which is created when missing (its parent is
 * not). `library` is the folder of mesa-lua's Lua modules, which .luarc.json shows to editors.
 * MESA_EINUSE: one of the files exists already; nothing was written. MESA_EIO: the system refused.
 * `err` says what and where. */
enum mesa_status mesa_new_write(const char *dir, const char *library, char *err, size_t err_len);

#endif
