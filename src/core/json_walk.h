/* json_walk.h - from one position of the index to the next: whether a text is JSON.
 *
 * What is accepted is JSON by the rules of json_scan.h; what is refused may be JSON all the same,
 * and is left to json_scan.h, which says what is wrong with it. Nothing is read outside of the
 * text, because the last entry of a walk is a closing bracket and everything stops there.
 * Loop thread only. May include: base/, core/json_index.h, core/json_scan.h.
 */
#ifndef MESA_CORE_JSON_WALK_H
#define MESA_CORE_JSON_WALK_H

#include "base/inline.h"
#include "base/uninit.h"
#include "core/json_index.h"
#include "core/json_scan.h"

struct mesa_json_walk {
    const char *text;
    const struct mesa_json_entry *last; /* of the bracket that ends the outermost value */
};

struct mesa_json_member {
    struct mesa_span key, value;         /* the key with its quotes */
    const struct mesa_json_entry *entry; /* the first one in or behind the value */
};

/* Outside of strings: the index refuses other control characters. */
static inline bool mesa_json_is_space(char c)
{
    return (unsigned char)c <= ' ';
}

/* The first byte from `p` on that is not white space; there is one. */
static inline const char *mesa_json_skip_space(const char *p)
{
    while (mesa_json_is_space(*p))
        p++;
    return p;
}

/* Behind the closing quote of a string, `stop` being where the next entry is; NULL: there is more
 * than white space between the two. */
static inline const char *mesa_json_string_end(const char *stop)
{
    while (stop[-1] != '"') {
        if (!mesa_json_is_space(stop[-1]))
            return NULL;
        stop--;
    }
    return stop;
}

/* A container from its opening bracket on, which is `e`; returns the entry behind it, or NULL.
 * Notes in *e how many members it has. */
struct mesa_json_entry *mesa_json_walk_container(const struct mesa_json_walk *w,
                                                 struct mesa_json_entry *e, unsigned max_depth);

/* Whether only white space stands between the two. */
static inline bool mesa_json_is_blank(const char *p, const char *end)
{
    while (p < end && mesa_json_is_space(*p))
        p++;
    return p == end;
}

/* A number or a word; `stop` is where the next entry is, with only white space before it. Returns
 * the byte behind it, or NULL. */
static inline const char *mesa_json_walk_scalar(const char *p, const char *stop)
{
    MESA_UNINIT struct mesa_json_fault f;
    MESA_UNINIT uint64_t digits;
    const char *first = p + (*p == '-'), *behind = first;
    if (stop - first >= 8) /* shorter ones are read sooner one by one */
        behind += mesa_json_digits(first, &digits);
    while ((unsigned)(*behind - '0') <= 9)
        behind++;
    if (behind == stop && behind - first < MESA_JSON_RANGE_DIGITS &&
        (behind == first + 1 || (behind > first && *first != '0')))
        return stop;
    if (stop - p == 4 && (memcmp(p, "true", 4) == 0 || memcmp(p, "null", 4) == 0))
        return stop;
    behind = mesa_json_scan_scalar(p, stop, &f);
    return behind != NULL && mesa_json_is_blank(behind, stop) ? behind : NULL;
}

/* The value at `p`; `e` is the first entry in or behind it. Returns the first entry behind the
 * value, with only white space before it, and the byte behind the value in *end; or NULL. */
MESA_INLINE struct mesa_json_entry *mesa_json_walk_value(const struct mesa_json_walk *w,
                                                         struct mesa_json_entry *e, const char *p,
                                                         unsigned max_depth, const char **end)
{
    if (*p == '"') {
        *end = mesa_json_string_end(w->text + e->at);
    } else if (*p == '{' || *p == '[') {
        e = mesa_json_walk_container(w, e, max_depth);
        if (e == NULL || e > w->last)
            return NULL;
        *end = w->text + e[-1].at + 1;
        if (!mesa_json_is_blank(*end, w->text + e->at))
            return NULL;
    } else {
        *end = mesa_json_walk_scalar(p, w->text + e->at);
    }
    return *end != NULL ? e : NULL;
}

/* What an object calls for each of its members. */
typedef void (*mesa_json_on_member)(void *ctx, const struct mesa_json_member *m);

/* An object, otherwise like mesa_json_walk_container. */
MESA_INLINE struct mesa_json_entry *mesa_json_walk_object(const struct mesa_json_walk *w,
                                                          struct mesa_json_entry *open,
                                                          unsigned max_depth,
                                                          mesa_json_on_member on_member, void *ctx)
{
    struct mesa_json_entry *e = open + 1;
    const char *key = mesa_json_skip_space(w->text + open->at + 1), *stop;
    unsigned members = 0;
    if (max_depth == 0)
        return NULL;
    if (*key == '}') {
        open->members = 0;
        return e + 1;
    }
    for (;; key = mesa_json_skip_space(stop + 1)) {
        if (*key != '"')
            return NULL;
        const char *colon = w->text + e->at, *key_end = mesa_json_string_end(colon), *end;
        if (*colon != ':' || key_end == NULL)
            return NULL;
        const char *value = mesa_json_skip_space(colon + 1);
        struct mesa_json_entry *first = e + 1;
        e = mesa_json_walk_value(w, first, value, max_depth - 1, &end);
        if (e == NULL)
            return NULL;
        members++;
        if (on_member != NULL) {
            struct mesa_json_member m = {
                {key, (size_t)(key_end - key)}, {value, (size_t)(end - value)}, first};
            on_member(ctx, &m);
        }
        stop = w->text + e->at;
        e++;
        if (*stop != ',')
            break;
    }
    open->members = (uint16_t)members;
    return *stop == '}' ? e : NULL;
}

/* Whether the text is JSON and an object, by an index that has just been built of it. */
MESA_INLINE bool mesa_json_walk_text(struct mesa_json_index *x, const char *text, size_t len,
                                     unsigned max_depth, mesa_json_on_member on_member, void *ctx)
{
    if (x->count == 0)
        return false;
    const char *end = text + len;
    const struct mesa_json_walk w = {text, &x->entries[x->count - 1]};
    const char *first = text + x->entries[0].at, *last = text + w.last->at;
    return *first == '{' && *last == '}' && mesa_json_is_blank(text, first) &&
           mesa_json_is_blank(last + 1, end) &&
           mesa_json_walk_object(&w, x->entries, max_depth, on_member, ctx) == w.last + 1;
}

#endif
