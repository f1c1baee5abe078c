/* value.h - JSON text <-> Lua values, without detours.
 *
 * Lua side of the rules of PROTOCOL 1: null is lightuserdata NULL (Mesa.null == cjson.null); a
 * decoded array carries the array metatable, so [] and {} stay apart; a table with the array
 * metatable or with keys 1..n only (n > 0) is an array; an empty table without it is an object;
 * integers exact to 2^53.
 * Loop thread only; part of script/ and so may include lua.h, base/, core/.
 */
#ifndef MESA_SCRIPT_VALUE_H
#define MESA_SCRIPT_VALUE_H

#include <lua.h>

#include "base/buf.h"
#include "core/json.h"
#include "core/json_index.h"

/* Creates the array metatable (registry["mesa.array"], its __index methods none, __name
 * "mesa.array"). Once per VM. */
void mesa_value_open(lua_State *L);
/* Pushes the array metatable. */
void mesa_value_push_array_meta(lua_State *L);

/* Strings that come again and again, such as the names of members: finding one here is quicker than
 * having Lua intern it. One a Lua state. */
struct mesa_value_names {
    struct mesa_value_name {
        uint64_t head, tail; /* its bytes, overlapping */
        size_t len;
        int ref;
    } slots[128];
    int array_meta_ref;
};
/* Raises only on lack of memory, as do the functions below. */
void mesa_value_names_init(lua_State *L, struct mesa_value_names *names);
/* Pushes the string. */
void mesa_value_push_name(lua_State *L, struct mesa_value_names *names, const char *p, size_t len);

/* Pushes the value of VALID JSON text (a span that core/json or core/envelope has validated). */
void mesa_value_push(lua_State *L, struct mesa_span json, struct mesa_value_names *names);
/* The same with the positions that were found when it was validated, which is quicker; without them
 * when `place` is not remembered any more. */
void mesa_value_push_indexed(lua_State *L, struct mesa_span json, struct mesa_json_place place,
                             struct mesa_value_names *names);
/* Validates and pushes. MESA_EPROTO/MESA_EUTF8: nothing pushed, *err filled. One pass. */
enum mesa_status mesa_value_decode(lua_State *L, const char *text, size_t len, unsigned max_depth,
                                   struct mesa_json_error *err);

/* Where and why a value cannot be JSON. */
struct mesa_value_error {
    char text[256]; /* "cannot encode a function at d.users[3].callback" */
};

/* Appends the value at `index` as JSON. On failure `out` has its old length. Raises only when
 * there is no memory for the Lua stack, and holds nothing then: `out` must be where raising does
 * not lose it.
 *
 * The keys of an object are all strings, or all numbers none of which is an index (1, 2, 3 ...);
 * such numbers become decimal strings. Holes of an array are null, up to half its length.
 * Metamethods are not called: what is in the table is what is sent.
 *
 * MESA_EINVAL: a function, thread, cdata, userdata other than null, NaN or infinity, invalid UTF-8,
 * other keys or a mixture of keys, a sparse array, a cycle or nesting over `max_depth`. *err says
 * what and where; `root` names the value in it. MESA_ENOMEM: *err says so. */
enum mesa_status mesa_value_encode(lua_State *L, int index, unsigned max_depth,
                                   struct mesa_buf *out, const char *root,
                                   struct mesa_value_error *err);

#endif
