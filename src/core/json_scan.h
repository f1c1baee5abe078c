/* json_scan.h - the pieces of the JSON scanner that json_*.c and envelope.c share.
 *
 * Every scanner takes `p` at the first byte of its subject and returns the byte behind it, or NULL
 * with *f filled in. Pure: any thread. May include: base/, core/json.h.
 */
#ifndef MESA_CORE_JSON_SCAN_H
#define MESA_CORE_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "core/json.h"

struct mesa_json_fault {
    const char *at;
    const char *text; /* static */
    enum mesa_status status;
};

const char *mesa_json_scan_string(const char *p, const char *end, bool *escaped,
                                  struct mesa_json_fault *f);
/* A key, the colon and the white space around them: returns the first byte of the value. */
const char *mesa_json_scan_key(const char *p, const char *end, struct mesa_span *key, bool *escaped,
                               struct mesa_json_fault *f);
/* Any value; `p` may be `end`. */
const char *mesa_json_scan_any(const char *p, const char *end, unsigned max_depth,
                               struct mesa_json_fault *f);

/* Fills in *f with MESA_EPROTO and returns NULL. */
const char *mesa_json_fail(struct mesa_json_fault *f, const char *at, const char *text);
/* Hands a fault on to the caller of the public interface; `err` may be NULL. */
enum mesa_status mesa_json_report(const struct mesa_json_fault *f, const char *start,
                                  struct mesa_json_error *err);

/* Decodes the escape at *p (a backslash of a valid token) into `out`, moves *p behind it and
 * returns the number of bytes, 1 to 4. */
unsigned mesa_json_decode_escape(const char **p, char out[4]);

static inline const char *mesa_json_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Whether a byte may stand in a string as it is: ASCII, no control character, no quote, no
 * backslash. */
static inline bool mesa_json_is_plain(char c)
{
    return (unsigned char)(c - 0x20) < 0x60 && c != '"' && c != '\\';
}

/* The first byte from `p` on that is not plain, or `end`. */
static inline const char *mesa_json_skip_plain(const char *p, const char *end)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'),
                  control = _mm_set1_epi8(0x1f);
    while (end - p >= 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i special = _mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, backslash));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(_mm_min_epu8(v, control), v));
        /* `v` itself contributes the high bits of the bytes that are not ASCII */
        unsigned mask = (unsigned)_mm_movemask_epi8(_mm_or_si128(special, v));
        if (mask != 0)
            return p + __builtin_ctz(mask);
        p += 16;
    }
#endif
    const uint64_t ones = UINT64_C(0x0101010101010101);
    while (end - p >= 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        uint64_t q = v ^ ones * '"', b = v ^ ones * '\\';
        /* x - n borrows into the high bit of a byte below n; a false hit needs a true one below it,
         * which stops the loop as well */
        if (((v | (v - ones * 0x20) | (q - ones) | (b - ones)) & ones * 0x80) != 0)
            break;
        p += 8;
    }
    while (p < end && mesa_json_is_plain(*p))
        p++;
    return p;
}

#endif
