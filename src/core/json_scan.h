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

/* The rest of a string, from the first byte on that is not plain. */
const char *mesa_json_scan_string_rest(const char *p, const char *end, bool *escaped,
                                       struct mesa_json_fault *f);
/* `p` is at a backslash. */
const char *mesa_json_scan_escape(const char *p, const char *end, struct mesa_json_fault *f);
/* A value that is no container; `p` is not `end`. */
const char *mesa_json_scan_scalar(const char *p, const char *end, struct mesa_json_fault *f);
/* Any value; `p` may be `end`. */
const char *mesa_json_scan_any(const char *p, const char *end, unsigned max_depth,
                               struct mesa_json_fault *f);

/* An integer of fewer digits fits a double. */
enum { MESA_JSON_RANGE_DIGITS = 309 };

/* Fills in *f with MESA_EPROTO and returns NULL. */
static inline const char *mesa_json_fail(struct mesa_json_fault *f, const char *at,
                                         const char *text)
{
    *f = (struct mesa_json_fault){at, text, MESA_EPROTO};
    return NULL;
}
/* Hands a fault on to the caller of the public interface; `err` may be NULL. */
enum mesa_status mesa_json_report(const struct mesa_json_fault *f, const char *start,
                                  struct mesa_json_error *err);

/* Decodes the escape at *p (a backslash of a valid token) into `out`, moves *p behind it and
 * returns the number of bytes, 1 to 4. */
unsigned mesa_json_decode_escape(const char **p, char out[4]);

static inline const char *mesa_json_space(const char *p, const char *end)
{
    while (p < end && (unsigned char)*p <= ' ' &&
           (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Whether a byte may stand in a string as it is: ASCII, no control character, no quote, no
 * backslash. */
static inline bool mesa_json_is_plain(char c)
{
    return (unsigned char)(c - 0x20) < 0x60 && c != '"' && c != '\\';
}

/* The high bit of each byte of `v` that is not plain, and maybe of bytes above the lowest such one:
 * x - n borrows from the byte above when x < n. */
static inline uint64_t mesa_json_special(uint64_t v)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t q = v ^ ones * '"', b = v ^ ones * '\\';
    return (v | (v - ones * 0x20) | (q - ones) | (b - ones)) & ones * 0x80;
}

static inline const char *mesa_json_first_special(const char *p, uint64_t special)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return p + __builtin_ctzll(special) / 8;
#else
    (void)special;
    while (mesa_json_is_plain(*p))
        p++;
    return p;
#endif
}

/* Eight bytes, the first one lowest. */
static inline uint64_t mesa_json_word(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* How many digits the eight bytes at `p` begin with; those digits as numbers, the last one highest,
 * in *digits. */
static inline unsigned mesa_json_digits(const char *p, uint64_t *digits)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t v = mesa_json_word(p) ^ ones * '0';
    /* beyond 9, adding 0x76 sets the high bit; what is carried changes bytes behind such a one */
    uint64_t others = ((v + ones * 0x76) | v) & ones * 0x80;
    if (others == 0) {
        *digits = v;
        return 8;
    }
    unsigned bits = (unsigned)__builtin_ctzll(others) & ~7u;
    *digits = bits == 0 ? 0 : v << (64 - bits);
    return bits / 8;
}

/* The number that the digits of mesa_json_digits are: neighbours are put together, then pairs, then
 * fours. */
static inline uint64_t mesa_json_digits_value(uint64_t digits)
{
    digits = (digits * 10 + (digits >> 8)) & UINT64_C(0x00ff00ff00ff00ff);
    digits = digits * 100 + (digits >> 16);
    return (digits & 0xffff) * 10000 + (digits >> 32 & 0xffff);
}

#ifdef __SSE2__
/* A bit for each of the 16 bytes that is not plain. */
static inline unsigned mesa_json_special16(const char *p)
{
    const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i special =
        _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
    special = _mm_or_si128(special, _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v));
    /* `v` itself contributes the high bits of the bytes that are not ASCII */
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(special, v));
}
#endif

/* The first byte from `p` on that is not plain, or `end`. */
static inline const char *mesa_json_skip_plain(const char *p, const char *end)
{
    uint64_t v = 0, special;
#ifdef __SSE2__
    for (; end - p >= 16; p += 16) {
        unsigned mask = mesa_json_special16(p);
        if (mask != 0)
            return p + __builtin_ctz(mask);
    }
#endif
    for (; end - p >= 8; p += 8) {
        memcpy(&v, p, 8);
        if ((special = mesa_json_special(v)) != 0)
            return mesa_json_first_special(p, special);
    }
    while (p < end && mesa_json_is_plain(*p))
        p++;
    return p;
}

/* Copies 4 to 16 bytes, as its two ends, which may overlap; false: it has others, and nothing counts as
 * written. */
static inline bool mesa_json_copy_plain_ends(char *o, const char *s, size_t n)
{
    if (n >= 8) {
        uint64_t a, b;
        memcpy(&a, s, 8);
        memcpy(&b, s + n - 8, 8);
        memcpy(o, &a, 8);
        memcpy(o + n - 8, &b, 8);
        return (mesa_json_special(a) | mesa_json_special(b)) == 0;
    }
    uint32_t low, high;
    memcpy(&low, s, 4);
    memcpy(&high, s + n - 4, 4);
    memcpy(o, &low, 4);
    memcpy(o + n - 4, &high, 4);
    return mesa_json_special((uint64_t)high << 32 | low) == 0;
}

/* Copies the `n` bytes at `s` to `o`, up to the first byte that is not plain; returns whether there was none. */
static inline bool mesa_json_copy_plain(char *o, const char *s, size_t n)
{
    size_t i = 0;
    if (n >= 4 && n <= 16)
        return mesa_json_copy_plain_ends(o, s, n);
#ifdef __SSE2__
    for (; n - i >= 16; i += 16) {
        if (mesa_json_special16(s + i) != 0)
            return false;
        memcpy(o + i, s + i, 16);
    }
    if (i > 0 && n > i) { /* the end once more, as a whole */
        memcpy(o + n - 16, s + n - 16, 16);
        return mesa_json_special16(s + n - 16) == 0;
    }
#endif
    for (; i < n && mesa_json_is_plain(s[i]); i++)
        o[i] = s[i];
    return i == n;
}

static inline const char *mesa_json_scan_string(const char *p, const char *end, bool *escaped,
                                                struct mesa_json_fault *f)
{
    *escaped = false;
    p = mesa_json_skip_plain(p + 1, end);
    return p < end && *p == '"' ? p + 1 : mesa_json_scan_string_rest(p, end, escaped, f);
}

/* A key, the colon and the white space around them: returns the first byte of the value. */
static inline const char *mesa_json_scan_key(const char *p, const char *end, struct mesa_span *key,
                                             bool *escaped, struct mesa_json_fault *f)
{
    if (p == end)
        return mesa_json_fail(f, p, "unexpected end");
    if (*p != '"')
        return mesa_json_fail(f, p, "expected a key");
    const char *start = p;
    p = mesa_json_scan_string(p, end, escaped, f);
    if (p == NULL)
        return NULL;
    *key = (struct mesa_span){start, (size_t)(p - start)};

    p = mesa_json_space(p, end);
    if (p == end)
        return mesa_json_fail(f, p, "unexpected end");
    if (*p != ':')
        return mesa_json_fail(f, p, "expected ':'");
    return mesa_json_space(p + 1, end);
}

#endif
