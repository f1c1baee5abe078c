/* value_encode.c - Lua values as JSON, appended to a buffer the caller owns.
 *
 * Only calls of the Lua API that cannot raise are made: lua_next with keys it gave itself, raw
 * access, lua_tolstring on strings. The exception is lua_checkstack, which LuaJIT lets raise when
 * memory is short. What a level of nesting needs to name its place in an error is kept on the C
 * stack and put into words only when there is one.
 */
#include "script/value.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#include "base/uninit.h"
#include "core/json_scan.h"
#include "script/value_internal.h"

enum {
    LEVEL_SLOTS = 8,    /* a key, a value, and what the helpers push */
    INTEGER_BYTES = 16, /* a sign and 15 digits */
    NUMBER_BYTES = 32,  /* the longest text of a double */
};

/* Integers below this are written here, and are exact. */
#define FAST_INTEGER 1e15

struct encoder {
    lua_State *L;
    struct mesa_buf *out;
    unsigned max_depth;
    const char *root;
    struct mesa_value_error *err;
};

/* One table being encoded. */
struct level {
    const struct level *up;
    int table;
    int key;        /* stack index of the current key */
    double element; /* index of the current array element; 0: see `key` */
    unsigned depth; /* of this table, from 1 */
};

static enum mesa_status encode_value(struct encoder *e, int index, const struct level *up);

/* ---- what went wrong, and where ---- */

struct text {
    char *p;
    size_t len, cap;
    bool full;
};

static void text_add(struct text *t, const char *s, size_t n)
{
    if (t->full)
        return;
    if (n > t->cap - t->len) {
        n = mesa_utf8_prefix(s, t->cap - t->len);
        t->full = true;
    }
    memcpy(t->p + t->len, s, n);
    t->len += n;
}

static bool is_identifier(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        bool letter = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || s[i] == '_';
        if (!letter && (i == 0 || s[i] < '0' || s[i] > '9'))
            return false;
    }
    return n > 0;
}

static void text_add_key(struct text *t, const char *s, size_t n)
{
    if (is_identifier(s, n)) {
        text_add(t, ".", 1);
        text_add(t, s, n);
        return;
    }
    bool readable = mesa_utf8_valid(s, n);
    text_add(t, "[\"", 2);
    for (size_t i = 0; i < n && !t->full && readable; i++)
        readable = (unsigned char)s[i] >= 0x20 && s[i] != 0x7f;
    if (readable)
        text_add(t, s, n);
    else
        text_add(t, "?", 1);
    text_add(t, "\"]", 2);
}

static void text_add_path(struct text *t, const struct encoder *e, const struct level *lv)
{
    if (lv == NULL) {
        text_add(t, e->root, strlen(e->root));
        return;
    }
    text_add_path(t, e, lv->up);
    if (t->full)
        return;
    if (lv->element == 0 && lua_type(e->L, lv->key) == LUA_TSTRING) {
        size_t n;
        const char *s = lua_tolstring(e->L, lv->key, &n);
        text_add_key(t, s, n);
        return;
    }
    char number[NUMBER_BYTES + 2];
    double n = lv->element != 0 ? lv->element : lua_tonumber(e->L, lv->key);
    int len = snprintf(number, sizeof number, "[%.14g]", n);
    text_add(t, number, (size_t)len);
}

/* "cannot encode <what> at <path>"; the path ends in "..." when it is too long. */
/* `hint` says what to do; it may be empty. */
static enum mesa_status refuse_with_hint(struct encoder *e, const struct level *where,
                                         const char *what, const char *hint)
{
    static const char ellipsis[] = "...";
    struct text t = {.p = e->err->text, .len = 0, .cap = sizeof e->err->text - sizeof ellipsis};
    text_add(&t, "cannot encode ", 14);
    text_add(&t, what, strlen(what));
    text_add(&t, " at ", 4);
    text_add_path(&t, e, where);
    text_add(&t, hint, strlen(hint));
    memcpy(t.p + t.len, t.full ? ellipsis : "", t.full ? sizeof ellipsis : 1);
    return MESA_EINVAL;
}

static enum mesa_status refuse(struct encoder *e, const struct level *where, const char *what)
{
    return refuse_with_hint(e, where, what, "");
}

static enum mesa_status no_memory(struct encoder *e)
{
    snprintf(e->err->text, sizeof e->err->text, "not enough memory");
    return MESA_ENOMEM;
}

/* Nesting over the limit: a cycle, if a table is its own ancestor. */
static enum mesa_status refuse_depth(struct encoder *e, const struct level *deepest)
{
    const struct level *cycle = NULL;
    for (const struct level *lv = deepest; lv != NULL; lv = lv->up) {
        for (const struct level *a = lv->up; a != NULL; a = a->up) {
            if (lua_rawequal(e->L, a->table, lv->table)) {
                cycle = lv;
                break;
            }
        }
    }
    if (cycle != NULL)
        return refuse(e, cycle->up, "a table that contains itself");

    char what[64];
    snprintf(what, sizeof what, "nesting deeper than %u", e->max_depth);
    return refuse(e, deepest->up, what);
}

/* ---- scalars ---- */

static inline bool room(struct encoder *e, size_t n)
{
    return e->out->cap - e->out->len >= n || mesa_buf_reserve(e->out, n) == MESA_OK;
}

static inline enum mesa_status put(struct encoder *e, const char *s, size_t n)
{
    if (!room(e, n))
        return no_memory(e);
    memcpy(e->out->data + e->out->len, s, n);
    e->out->len += n;
    return MESA_OK;
}

/* The string at `index` as a token followed by `tail` (nothing when it is 0). `what` names it in
 * an error. */
static inline enum mesa_status put_string(struct encoder *e, int index, char tail,
                                          const struct level *where, const char *what)
{
    size_t n;
    const char *s = lua_tolstring(e->L, index, &n);
    if (!room(e, n + 3))
        return no_memory(e);
    char *o = e->out->data + e->out->len;
    if (mesa_json_copy_plain(o + 1, s, n)) {
        *o = '"';
        o += n + 1;
        *o++ = '"';
        if (tail != 0)
            *o++ = tail;
        e->out->len = (size_t)(o - e->out->data);
        return MESA_OK;
    }

    enum mesa_status rc = mesa_json_put_string(e->out, s, n);
    if (rc == MESA_EUTF8)
        return refuse(e, where, what);
    if (rc == MESA_OK && tail != 0)
        rc = mesa_buf_push(e->out, tail);
    return rc == MESA_OK ? MESA_OK : no_memory(e);
}

/* Writes `n` in front of `end`; returns where it begins. The copies are the compiler's own: memcpy
 * is checked (_FORTIFY_SOURCE), which makes a call of each of them. */
static inline char *format_integer(char *end, uint64_t n)
{
    static const char pairs[] =
        "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
        "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    while (n >= 100) {
        end -= 2;
        __builtin_memcpy(end, pairs + n % 100 * 2, 2);
        n /= 100;
    }
    if (n >= 10) {
        end -= 2;
        __builtin_memcpy(end, pairs + n * 2, 2);
    } else {
        *--end = (char)('0' + n);
    }
    return end;
}

static enum mesa_status put_number(struct encoder *e, double d, const struct level *where)
{
    if (d > -FAST_INTEGER && d < FAST_INTEGER && d == (double)(int64_t)d &&
        (d != 0 || !signbit(d))) {
        MESA_UNINIT char digits[2 * INTEGER_BYTES];
        char *end = digits + INTEGER_BYTES;
        char *p = format_integer(end, (uint64_t)(d < 0 ? -d : d));
        if (d < 0)
            *--p = '-';
        if (!room(e, INTEGER_BYTES))
            return no_memory(e);
        /* a fixed size is quicker to copy; there is room for it */
        __builtin_memcpy(e->out->data + e->out->len, p, INTEGER_BYTES);
        e->out->len += (size_t)(end - p);
        return MESA_OK;
    }
    if (!isfinite(d))
        return refuse(e, where, isnan(d) ? "NaN" : "an infinite number");
    return mesa_json_put_number(e->out, d) == MESA_OK ? MESA_OK : no_memory(e);
}

static enum mesa_status refuse_type(struct encoder *e, int index, const struct level *where)
{
    char what[64];
    snprintf(what, sizeof what, "a %s", lua_typename(e->L, lua_type(e->L, index)));
    return refuse(e, where, what);
}

/* ---- tables ---- */

static enum mesa_status refuse_key(struct encoder *e, int key, const struct level *lv)
{
    char what[64];
    int type = lua_type(e->L, key);
    if (type == LUA_TSTRING || type == LUA_TNUMBER)
        return refuse_with_hint(e, lv->up, "a table that mixes indices with other keys",
                                " (an object needs string keys, a list 1, 2, 3 ...)");
    snprintf(what, sizeof what, "a table with a %s key", lua_typename(e->L, type));
    return refuse(e, lv->up, what);
}

/* Looks at the keys of a table that turned out not to be the run 1..n: sets *last to the greatest
 * index when it is an array with few enough holes. */
static enum mesa_status measure_array(struct encoder *e, const struct level *lv, double *last)
{
    lua_State *L = e->L;
    double count = 0, max = 0, n;

    lua_pushnil(L);
    while (lua_next(L, lv->table)) {
        lua_pop(L, 1);
        if (!mesa_value_index_key(L, -1, &n))
            return refuse_key(e, lua_gettop(L), lv);
        count++;
        if (n > max)
            max = n;
    }
    if (max - count > max / 2) {
        char what[96];
        snprintf(what, sizeof what, "a sparse array (%.14g of %.14g elements)", count, max);
        return refuse_with_hint(e, lv->up, what,
                                " (for an object use string keys, as tostring(id))");
    }
    *last = max;
    return MESA_OK;
}

static inline enum mesa_status put_element(struct encoder *e, int index, struct level *lv, double n)
{
    lv->element = n;
    if (!room(e, 2))
        return no_memory(e);
    e->out->data[e->out->len++] = n == 1 ? '[' : ',';
    return encode_value(e, index, lv);
}

/* The elements `first`.. of an array with holes or in an order of its own, and the closing
 * bracket. */
static enum mesa_status encode_holey_array(struct encoder *e, struct level *lv, double first)
{
    lua_State *L = e->L;
    double last = 0;
    lua_settop(L, lv->key - 1);
    enum mesa_status rc = measure_array(e, lv, &last);
    for (double n = first; rc == MESA_OK && n <= last; n++) {
        lua_pushnumber(L, n);
        lua_rawget(L, lv->table);
        if (lua_isnil(L, -1)) {
            lua_pop(L, 1);
            lua_pushlightuserdata(L, NULL);
        }
        rc = put_element(e, lua_gettop(L), lv, n);
        lua_pop(L, 1);
    }
    return rc == MESA_OK ? put(e, "]", 1) : rc;
}

/* The first key and value are on the stack. */
static enum mesa_status encode_array(struct encoder *e, struct level *lv)
{
    lua_State *L = e->L;
    double expected = 1, n;
    do {
        if (!mesa_value_index_key(L, lv->key, &n))
            return refuse_key(e, lv->key, lv);
        if (n != expected)
            return encode_holey_array(e, lv, expected);
        enum mesa_status rc = put_element(e, lv->key + 1, lv, n);
        if (rc != MESA_OK)
            return rc;
        lua_pop(L, 1);
        expected++;
    } while (lua_next(L, lv->table));
    return put(e, "]", 1);
}

/* The key of the current pair with quotes and colon. The keys of a table are of `type`
 * throughout. */
static inline enum mesa_status put_key(struct encoder *e, struct level *lv, int type)
{
    double n;
    if (lua_type(e->L, lv->key) != type)
        return refuse_key(e, lv->key, lv);
    if (type == LUA_TSTRING)
        return put_string(e, lv->key, ':', lv->up, "a key that is not UTF-8");

    if (mesa_value_index_key(e->L, lv->key, &n))
        return refuse_key(e, lv->key, lv);
    enum mesa_status rc = put(e, "\"", 1);
    if (rc == MESA_OK)
        rc = put_number(e, lua_tonumber(e->L, lv->key), lv);
    return rc == MESA_OK ? put(e, "\":", 2) : rc;
}

/* The first key and value are on the stack. */
static enum mesa_status encode_object(struct encoder *e, struct level *lv, int type)
{
    char separator = '{';
    do {
        if (!room(e, 1))
            return no_memory(e);
        e->out->data[e->out->len++] = separator;
        separator = ',';
        enum mesa_status rc = put_key(e, lv, type);
        if (rc == MESA_OK)
            rc = encode_value(e, lv->key + 1, lv);
        if (rc != MESA_OK)
            return rc;
        lua_pop(e->L, 1);
    } while (lua_next(e->L, lv->table));
    return put(e, "}", 1);
}

static enum mesa_status encode_table(struct encoder *e, int index, const struct level *up)
{
    lua_State *L = e->L;
    struct level lv = {.up = up,
                       .table = index,
                       .key = lua_gettop(L) + 1,
                       .depth = up != NULL ? up->depth + 1 : 1};
    if (lv.depth > e->max_depth)
        return refuse_depth(e, &lv);
    if (!lua_checkstack(L, LEVEL_SLOTS))
        return no_memory(e);

    bool marked = mesa_value_is_array(L, index);
    lua_pushnil(L);
    if (!lua_next(L, index))
        return put(e, marked ? "[]" : "{}", 2);
    int type = lua_type(L, lv.key);
    double n;
    if (marked || (type == LUA_TNUMBER && mesa_value_index_key(L, lv.key, &n)))
        return encode_array(e, &lv);
    if (type == LUA_TSTRING || type == LUA_TNUMBER)
        return encode_object(e, &lv, type);
    return refuse_key(e, lv.key, &lv);
}

static enum mesa_status encode_value(struct encoder *e, int index, const struct level *up)
{
    switch (lua_type(e->L, index)) {
    case LUA_TSTRING:
        return put_string(e, index, 0, up, "a string that is not UTF-8");
    case LUA_TNUMBER:
        return put_number(e, lua_tonumber(e->L, index), up);
    case LUA_TBOOLEAN:
        return lua_toboolean(e->L, index) ? put(e, "true", 4) : put(e, "false", 5);
    case LUA_TTABLE:
        return encode_table(e, index, up);
    case LUA_TNIL:
        return put(e, "null", 4);
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(e->L, index) == NULL)
            return put(e, "null", 4);
        return refuse_type(e, index, up);
    default:
        return refuse_type(e, index, up);
    }
}

enum mesa_status mesa_value_encode(lua_State *L, int index, unsigned max_depth,
                                   struct mesa_buf *out, const char *root,
                                   struct mesa_value_error *err)
{
    int top = lua_gettop(L);
    size_t before = out->len;
    struct encoder e = {.L = L, .out = out, .max_depth = max_depth, .root = root, .err = err};
    if (max_depth > MESA_JSON_DEPTH_MAX)
        e.max_depth = MESA_JSON_DEPTH_MAX;

    enum mesa_status rc =
        encode_value(&e, index < 0 && index > LUA_REGISTRYINDEX ? top + index + 1 : index, NULL);
    if (rc != MESA_OK)
        out->len = before;
    lua_settop(L, top);
    return rc;
}
