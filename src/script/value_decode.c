/* value_decode.c - JSON text straight onto the Lua stack.
 *
 * The common forms (strings without escapes, integers) are read here; escapes, other numbers and
 * every error message are core/json's, so that there is one definition of what JSON is.
 */
#include "script/value.h"

#include <assert.h>
#include <stdint.h>

#include "core/json_scan.h"
#include "core/json_walk.h"
#include "script/value_internal.h"

enum {
    /* Elements of an array wait on the Lua stack until a table of the right size can be made.
     * LuaJIT gives a C function 8000 slots: 32 levels of 64 and the rest of the deepest permitted
     * nesting (1024) with 2 elements waiting fit. */
    GENEROUS_LEVELS = 32,
    GENEROUS_BATCH = 64,
    MEAGRE_BATCH = 2,
    /* Slots beyond the waiting elements: a table, a key, a value, a scratch and what a helper
     * pushes. */
    SPARE_SLOTS = 8,
    /* Objects are made for so many keys and grow from there: quicker for messages, measured, than
     * collecting the pairs to count them. */
    USUAL_KEYS = 4,
    STACK_STEP = 16,
    SCRATCH_BYTES = 256,
    FAST_DIGITS = 15, /* any integer of so many digits is exact */
    /* Where the positions are known, slots are reserved for so many levels at a time: each has a
     * table, and maybe a key. */
    LEVELS_STEP = 8,
};

struct decoder {
    lua_State *L;
    struct mesa_value_names *names; /* NULL: none are kept */
    const char *p, *end;
    unsigned depth, max_depth;
    int meta; /* stack index of the array metatable; nil until there is an array */
    bool no_memory;
};

static bool decode_value(struct decoder *d);

/* Skips white space, then takes `c` if it comes next. */
static inline bool take(struct decoder *d, char c)
{
    d->p = mesa_json_space(d->p, d->end);
    if (d->p == d->end || *d->p != c)
        return false;
    d->p++;
    return true;
}

static inline bool reserve(struct decoder *d, int slots)
{
    if (lua_checkstack(d->L, slots))
        return true;
    d->no_memory = true;
    return false;
}

static void push_unescaped(lua_State *L, struct mesa_span token)
{
    /* Unescaped text is never longer than its token, so the buffer never grows; Lua owns a large
     * one, so raising leaks nothing. */
    char small[SCRATCH_BYTES];
    bool large = token.len > sizeof small;
    struct mesa_buf out = {.data = large ? lua_newuserdata(L, token.len) : small,
                           .len = 0,
                           .cap = large ? token.len : sizeof small};
    enum mesa_status rc = mesa_json_unescape(token, &out);
    assert(rc == MESA_OK);
    (void)rc;
    lua_pushlstring(L, out.data, out.len);
    if (large)
        lua_remove(L, -2);
}

/* A string, from its opening quote; a name when `names` is not NULL. */
static inline bool decode_string(struct decoder *d, struct mesa_value_names *names)
{
    const char *open = d->p;
    bool escaped;
    struct mesa_json_fault fault;
    const char *behind = mesa_json_scan_string(open, d->end, &escaped, &fault);
    if (behind == NULL)
        return false;
    d->p = behind;
    size_t len = (size_t)(behind - open);
    if (escaped)
        push_unescaped(d->L, (struct mesa_span){open, len});
    else if (names != NULL)
        mesa_value_push_name(d->L, names, open + 1, len - 2);
    else
        lua_pushlstring(d->L, open + 1, len - 2);
    return true;
}

/* Pushes the integer at `p` and returns the byte behind it; NULL for any other number, with nothing
 * pushed. */
static inline const char *push_integer(lua_State *L, const char *p, const char *end)
{
    bool negative = *p == '-';
    if (negative)
        p++;

    const char *first = p, *stop = end - p > FAST_DIGITS ? p + FAST_DIGITS : end;
    uint64_t digits, n = 0;
    if (end - p >= 8 && (unsigned)(p[7] - '0') <= 9) { /* short ones are read sooner one by one */
        p += mesa_json_digits(p, &digits);
        n = mesa_json_digits_value(digits);
    }
    while (p < stop && (unsigned)(*p - '0') <= 9)
        n = n * 10 + (unsigned)(*p++ - '0');
    bool plain = p > first && (*first != '0' || p == first + 1) &&
                 (p == end || !((unsigned)(*p - '0') <= 9 || *p == '.' || *p == 'e' || *p == 'E'));
    if (!plain)
        return NULL;
    lua_pushnumber(L, negative ? -(double)n : (double)n);
    return p;
}

static bool decode_number(struct decoder *d)
{
    const char *behind = push_integer(d->L, d->p, d->end);
    if (behind != NULL) {
        d->p = behind;
        return true;
    }

    struct mesa_span token;
    struct mesa_json_error err;
    if (mesa_json_value(&d->p, d->end, 0, &token, &err) != MESA_OK)
        return false;
    lua_pushnumber(d->L, mesa_json_number(token));
    return true;
}

static inline bool decode_word(struct decoder *d, const char *word, size_t len)
{
    if ((size_t)(d->end - d->p) < len || memcmp(d->p, word, len) != 0)
        return false;
    d->p += len;
    return true;
}

/* Moves `n` waiting elements into the array at `base`, which already holds `done`; the first
 * batch makes the table. */
static void flush_array(struct decoder *d, int base, int done, int n)
{
    if (done == 0) {
        lua_createtable(d->L, n, 0);
        lua_insert(d->L, base);
    }
    for (int i = n; i > 0; i--)
        lua_rawseti(d->L, base, done + i);
}

/* Behind the opening bracket. */
static bool decode_array(struct decoder *d)
{
    lua_State *L = d->L;
    int base = lua_gettop(L) + 1;
    int done = 0, waiting = 0, limit = d->depth <= GENEROUS_LEVELS ? GENEROUS_BATCH : MEAGRE_BATCH;

    if (!take(d, ']')) {
        for (;;) {
            if (waiting % STACK_STEP == 0 && !reserve(d, STACK_STEP + SPARE_SLOTS))
                return false;
            if (!decode_value(d))
                return false;
            waiting++;
            if (take(d, ']'))
                break;
            if (!take(d, ','))
                return false;
            if (waiting == limit) {
                flush_array(d, base, done, waiting);
                done += waiting;
                waiting = 0;
            }
        }
    }
    flush_array(d, base, done, waiting);
    if (lua_isnil(L, d->meta)) {
        mesa_value_push_array_meta(L);
        lua_replace(L, d->meta);
    }
    lua_pushvalue(L, d->meta);
    lua_setmetatable(L, base);
    return true;
}

/* Behind the opening brace. Setting each pair at once makes the last of equal keys win. */
static bool decode_object(struct decoder *d)
{
    int base = lua_gettop(d->L) + 1;
    if (!reserve(d, SPARE_SLOTS))
        return false;
    if (take(d, '}')) {
        lua_createtable(d->L, 0, 0);
        return true;
    }

    lua_createtable(d->L, 0, USUAL_KEYS);
    for (;;) {
        d->p = mesa_json_space(d->p, d->end);
        if (d->p == d->end || *d->p != '"' || !decode_string(d, d->names) || !take(d, ':') ||
            !decode_value(d))
            return false;
        lua_rawset(d->L, base);
        if (take(d, '}'))
            return true;
        if (!take(d, ','))
            return false;
    }
}

static bool decode_nested(struct decoder *d, bool (*decode)(struct decoder *))
{
    if (d->depth == d->max_depth)
        return false;
    d->p++;
    d->depth++;
    bool ok = decode(d);
    d->depth--;
    return ok;
}

static bool decode_value(struct decoder *d)
{
    d->p = mesa_json_space(d->p, d->end);
    if (d->p == d->end)
        return false;
    switch (*d->p) {
    case '"':
        return decode_string(d, NULL);
    case '{':
        return decode_nested(d, decode_object);
    case '[':
        return decode_nested(d, decode_array);
    case 't':
        lua_pushboolean(d->L, 1);
        return decode_word(d, "true", 4);
    case 'f':
        lua_pushboolean(d->L, 0);
        return decode_word(d, "false", 5);
    case 'n':
        lua_pushlightuserdata(d->L, NULL);
        return decode_word(d, "null", 4);
    default:
        return decode_number(d);
    }
}

/* Leaves exactly one value on the stack on MESA_OK, else none. MESA_EPROTO without details:
 * core/json knows them. */
static enum mesa_status decode_text(lua_State *L, struct mesa_span text, unsigned max_depth,
                                    struct mesa_value_names *names)
{
    int top = lua_gettop(L);
    struct decoder d = {.L = L,
                        .names = names,
                        .p = text.p,
                        .end = text.p + text.len,
                        .max_depth = max_depth,
                        .meta = top + 1};
    if (!reserve(&d, STACK_STEP))
        return MESA_ENOMEM;
    lua_pushnil(L);

    bool ok = decode_value(&d);
    if (ok) {
        d.p = mesa_json_space(d.p, d.end);
        ok = d.p == d.end;
    }
    if (!ok) {
        lua_settop(L, top);
        return d.no_memory ? MESA_ENOMEM : MESA_EPROTO;
    }
    lua_replace(L, d.meta);
    return MESA_OK;
}

static void raise_no_memory(lua_State *L)
{
    lua_pushliteral(L, "not enough memory");
    lua_error(L);
}

void mesa_value_push(lua_State *L, struct mesa_span json, struct mesa_value_names *names)
{
    enum mesa_status rc = decode_text(L, json, MESA_JSON_DEPTH_MAX, names);
    if (rc == MESA_OK)
        return;
    assert(rc == MESA_ENOMEM); /* the caller promised valid JSON */
    raise_no_memory(L);
}

/* As decode_text, on a copy without lone surrogate escapes; *text is then that copy, which the stack
 * holds below the value, or alone. MESA_EPROTO with nothing pushed: the text has none. */
static enum mesa_status decode_mended(lua_State *L, struct mesa_span *text, unsigned max_depth)
{
    if (memchr(text->p, '\\', text->len) == NULL)
        return MESA_EPROTO;
    char *copy = lua_newuserdata(L, text->len);
    memcpy(copy, text->p, text->len);
    if (mesa_json_mend(copy, text->len) == 0) {
        lua_pop(L, 1);
        return MESA_EPROTO;
    }
    text->p = copy;
    return decode_text(L, *text, max_depth, NULL);
}

enum mesa_status mesa_value_decode(lua_State *L, const char *text, size_t len, unsigned max_depth,
                                   struct mesa_json_error *err)
{
    if (max_depth > MESA_JSON_DEPTH_MAX)
        max_depth = MESA_JSON_DEPTH_MAX;
    struct mesa_span json = {len > 0 ? text : "", len};
    int top = lua_gettop(L);
    enum mesa_status rc = decode_text(L, json, max_depth, NULL);
    if (rc == MESA_EPROTO)
        rc = decode_mended(L, &json, max_depth);
    if (rc == MESA_OK) {
        if (lua_gettop(L) > top + 1)
            lua_replace(L, top + 1); /* the copy it was decoded from */
        return rc;
    }
    if (rc == MESA_ENOMEM) {
        lua_settop(L, top);
        *err = (struct mesa_json_error){.offset = 0, .text = "not enough memory"};
        return rc;
    }
    rc = mesa_json_check(json.p, json.len, max_depth, err);
    lua_settop(L, top);
    if (rc == MESA_OK) { /* the two disagree on what JSON is: nothing was pushed all the same */
        assert(false);
        *err = (struct mesa_json_error){.offset = 0, .text = "not JSON"};
        rc = MESA_EPROTO;
    }
    return rc;
}

/* ---- with the positions of the index ---- */

/* The text is valid, the positions are known, and so are the sizes of all tables: no bracket, no
 * comma and no end of a string need be looked for. Whatever allocates may collect garbage, and a
 * finalizer of a script may have another text indexed: then the positions are not to be read any
 * more. */
struct follower {
    lua_State *L;
    struct mesa_value_names *names;
    const char *text; /* what the positions count from */
    const struct mesa_json_entry *e;
    uint64_t generation;
    bool escapes;
};

static inline bool still_there(const struct follower *f)
{
    return f->generation == mesa_json_index.generation;
}

static bool follow(struct follower *f, const char *p, unsigned depth);

/* The string at `open`, before f->e; a name when `names` is not NULL. */
static inline void follow_string(struct follower *f, const char *open,
                                 struct mesa_value_names *names)
{
    size_t len = (size_t)(mesa_json_string_end(f->text + f->e->at) - open) - 2;
    if (f->escapes && memchr(open, '\\', len) != NULL)
        push_unescaped(f->L, (struct mesa_span){open, len + 2});
    else if (names != NULL)
        mesa_value_push_name(f->L, names, open + 1, len);
    else
        lua_pushlstring(f->L, open + 1, len);
}

/* What comes behind the bracket, colon or comma at f->e. */
static inline const char *follow_entry(struct follower *f)
{
    const char *p = mesa_json_skip_space(f->text + f->e->at + 1);
    f->e++;
    return p;
}

static bool follow_object(struct follower *f, unsigned depth)
{
    unsigned members = f->e->members;
    lua_createtable(f->L, 0, (int)members);
    for (unsigned i = 0; i < members; i++) {
        if (!still_there(f))
            return false;
        follow_string(f, follow_entry(f), f->names);
        if (!still_there(f) || !follow(f, follow_entry(f), depth + 1))
            return false;
        lua_rawset(f->L, -3);
    }
    f->e += members == 0 ? 2 : 1;
    return true;
}

static bool follow_array(struct follower *f, unsigned depth)
{
    unsigned members = f->e->members;
    lua_createtable(f->L, (int)members, 0);
    lua_rawgeti(f->L, LUA_REGISTRYINDEX, f->names->array_meta_ref);
    lua_setmetatable(f->L, -2);
    for (unsigned i = 1; i <= members; i++) {
        if (!still_there(f) || !follow(f, follow_entry(f), depth + 1))
            return false;
        lua_rawseti(f->L, -2, (int)i);
    }
    f->e += members == 0 ? 2 : 1;
    return true;
}

/* A number or a word. */
static void follow_scalar(struct follower *f, const char *p)
{
    const char *stop = f->text + f->e->at;
    if (*p == 't' || *p == 'f') {
        lua_pushboolean(f->L, *p == 't');
    } else if (*p == 'n') {
        lua_pushlightuserdata(f->L, NULL);
    } else if (push_integer(f->L, p, stop) == NULL) {
        while (mesa_json_is_space(stop[-1]))
            stop--;
        lua_pushnumber(f->L, mesa_json_number((struct mesa_span){p, (size_t)(stop - p)}));
    }
}

/* Pushes the value at `p`; f->e is the first entry in or behind it, and then the first behind it.
 * False: the positions are gone. */
static bool follow(struct follower *f, const char *p, unsigned depth)
{
    if (*p == '"') {
        follow_string(f, p, NULL);
        return true;
    }
    if (*p != '{' && *p != '[') {
        follow_scalar(f, p);
        return true;
    }
    if (depth % LEVELS_STEP == 0 && !lua_checkstack(f->L, 2 * LEVELS_STEP + SPARE_SLOTS))
        raise_no_memory(f->L);
    return *p == '{' ? follow_object(f, depth) : follow_array(f, depth);
}

void mesa_value_push_indexed(lua_State *L, struct mesa_span json, struct mesa_json_place place,
                             struct mesa_value_names *names)
{
    const struct mesa_json_entry *e = mesa_json_index_recall(place);
    if (e != NULL && (*json.p == '{' || *json.p == '[')) {
        int top = lua_gettop(L);
        struct follower f = {
            L, names, json.p - e->at, e, place.generation, mesa_json_index.escapes};
        if (follow(&f, json.p, 0))
            return;
        lua_settop(L, top);
    }
    mesa_value_push(L, json, names);
}
