/* utf8.h - strict UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing above U+10FFFF.
 *
 * Pure: any thread. May include: base/.
 */
#ifndef MESA_BASE_UTF8_H
#define MESA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether `len` bytes are valid UTF-8 (ASCII runs are checked a word at a time). */
bool mesa_utf8_valid(const char *p, size_t len);
/* Length of the longest valid prefix. */
size_t mesa_utf8_prefix(const char *p, size_t len);

/* Length (1-4) of the well-formed sequence that starts at `p`, 0 when there is none before
 * `end`. */
static inline unsigned mesa_utf8_sequence(const char *p, const char *end)
{
    const unsigned char *s = (const unsigned char *)p;
    size_t left = (size_t)(end - p);
    if (left == 0)
        return 0;

    unsigned char c = s[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    if (c < 0xe0)
        return left >= 2 && (s[1] & 0xc0) == 0x80 ? 2 : 0;
    if (c < 0xf0) {
        if (left < 3 || (s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80)
            return 0;
        /* E0 must not be overlong, ED must not be a surrogate */
        return (c == 0xe0 && s[1] < 0xa0) || (c == 0xed && s[1] > 0x9f) ? 0 : 3;
    }
    if (left < 4 || (s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 || (s[3] & 0xc0) != 0x80)
        return 0;
    /* F0 must not be overlong, F4 must stay below U+110000 */
    return (c == 0xf0 && s[1] < 0x90) || (c == 0xf4 && s[1] > 0x8f) ? 0 : 4;
}

#endif
