/* bind_config.h - a configuration written in Lua becomes the C one.
 *
 * Loop thread only. May include: lua.h, core/config.h.
 */
#ifndef MESA_SCRIPT_BIND_CONFIG_H
#define MESA_SCRIPT_BIND_CONFIG_H

#include <lua.h>

#include "core/config.h"

/* Where and why a configuration was refused. */
struct mesa_config_error {
    char text[4608]; /* a path may be in it */
};

/* Fills *out from the table at `index`, which lua/mesa/config.lua has validated and normalised; a
 * key it lacks keeps its default. Raises only on lack of memory before *out is touched. On
 * MESA_OK *out must be deinitialised, else it holds nothing and *err says why: MESA_EINVAL (an
 * invariant of mesa_config_check, or a table that was not validated), MESA_ENOMEM. */
enum mesa_status mesa_bind_config(lua_State *L, int index, struct mesa_config *out,
                                  struct mesa_config_error *err);

#endif
