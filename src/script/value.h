/* value.h - JSON text <-> Lua values, without detours.
 *
 * Lua side of the rules of PROTOCOL 1: null is lightuserdata NULL (Mesa.null == cjson.null); a decoded array carries the array metatable, so [] and {} stay apart; a table with
 * the array metatable or with keys 1..n only (n > 0) is an array; an empty table without it is an object; integers exact to 2^53.
 * Loop thread only; part of script/ and so may include lua.h, base/, core/.
 */
#ifndef MESA_SCRIPT_VALUE_H
#define MESA_SCRIPT_VALUE_H

#include <lua.h>

#include "base/buf.h"
#include "core/json.h"

/* Creates the array metatable (registry["mesa.array"], its __index methods none, __name "mesa.array"). Once per VM. */
void mesa_value_open(lua_State *L);
/* Pushes the array metatable. */
void mesa_value_push_array_meta(lua_State *L);

/* Pushes the value of VALID JSON text (a span that core/json or core/envelope has validated). Raises only on lack of memory. */
void mesa_value_push(lua_State *L, struct mesa_span json);
/* Validates and pushes. MESA_EPROTO/MESA_EUTF8: nothing pushed, *err filled. One pass. */
enum mesa_status mesa_value_decode(lua_State *L, const char *text, size_t len, unsigned max_depth,
                                   struct mesa_json_error *err);

/* Where and why a value cannot be JSON. */
struct mesa_value_error {
    char text[160]; /* "cannot encode a function at d.users[3].callback" */
};

/* Appends the value at `index` as JSON. Never raises while holding anything; on failure `out` has its old length.
 * MESA_EINVAL: not encodable (function, thread, userdata other than null, NaN, infinity, mixed or other keys than string and number, a sparse array, a cycle or depth over `max_depth`, invalid UTF-8): *err says what
 * and where. `root` names the value in that text. A number key of an object becomes its decimal string. A hole of an array up to half its length is null. __pairs/__index metamethods are not called,
 * but a table with a `__tojson` metafield … is not supported either: what you see is what is sent. MESA_ENOMEM. */
enum mesa_status mesa_value_encode(lua_State *L, int index, unsigned max_depth,
                                   struct mesa_buf *out, const char *root,
                                   struct mesa_value_error *err);

#endif
