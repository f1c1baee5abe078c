/* redis_options.h - where Redis is, from a script's table.
 *
 * Loop thread only. May include: lua.h, broker/redis_uri.h.
 */
#ifndef MESA_SCRIPT_REDIS_OPTIONS_H
#define MESA_SCRIPT_REDIS_OPTIONS_H

#include <lua.h>

#include "broker/redis_uri.h"

/* Reads the table at `index`, which lua/mesa/config.lua has checked, into options that somebody else frees whatever happens: raises
 * on lack of memory. MESA_EINVAL: `err` has a line for people. */
enum mesa_status mesa_script_redis_options(lua_State *L, int index, struct mesa_redis_options *o,
                                           char *err, size_t err_len);

#endif
