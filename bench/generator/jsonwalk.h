/* jsonwalk.h - finds the members of one JSON object without building anything.
 *
 * For the answers that do not have an expected layout byte for byte. Structure is checked as far as it is walked; strings are
 * compared as written, which suffices because nothing the generator sends needs an escape.
 * Pure. May include: libc.
 */
#ifndef MESA_BENCH_JSONWALK_H
#define MESA_BENCH_JSONWALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_span {
    const char *p;
    size_t n;
};

struct json_member {
    struct json_span key;   /* without its quotes */
    struct json_span value; /* a string keeps its quotes */
};

/* Fills `out` with the members of the object that is all of `text`. Returns their number, or -1: not an object, or more than `max` members. */
int json_members(struct json_span text, struct json_member *out, int max);

/* True: the object `text` has exactly the `count` (at most 4) members `keys`, in any order; values[i] is that of keys[i]. */
bool json_exact_members(struct json_span text, const char *const *keys, int count,
                        struct json_span *values);

bool json_span_is(struct json_span s, const char *text);

/* Whether a value is the string `text`, which needs no escape. */
bool json_is_string(struct json_span value, const char *text, size_t len);

/* A non-negative integer below 10^18, as JSON writes it. */
bool json_span_uint(struct json_span s, uint64_t *out);

#endif
