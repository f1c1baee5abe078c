/* value_scan.h - the first byte of a string that needs a closer look, a word at a time.
 *
 * Private to the codec. Pure: any thread. May include: nothing.
 */
#ifndef MESA_SCRIPT_VALUE_SCAN_H
#define MESA_SCRIPT_VALUE_SCAN_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MESA_SCAN_ONES UINT64_C(0x0101010101010101)
#define MESA_SCAN_HIGH UINT64_C(0x8080808080808080)

/* The first byte in [p, end) that is a quote, a backslash or a control character, or `end`. Sets *high when a byte at or above 0x80 may stand before it
 * (bytes just behind the result may set it too: that only costs a needless UTF-8 check). */
static inline const char *mesa_scan_plain(const char *p, const char *end, bool *high)
{
    uint64_t seen = 0;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (end - p >= 8) {
        uint64_t w;
        memcpy(&w, p, sizeof w);
        seen |= w;
        uint64_t quote = w ^ (MESA_SCAN_ONES * '"');
        uint64_t slash = w ^ (MESA_SCAN_ONES * '\\');
        /* Borrows make these inexact only above the lowest hit, and only the lowest is used. */
        uint64_t hit = ((w - MESA_SCAN_ONES * 0x20) & ~w) | ((quote - MESA_SCAN_ONES) & ~quote) |
                       ((slash - MESA_SCAN_ONES) & ~slash);
        hit &= MESA_SCAN_HIGH;
        if (hit != 0) {
            *high = (seen & MESA_SCAN_HIGH) != 0;
            return p + (__builtin_ctzll(hit) >> 3);
        }
        p += 8;
    }
#endif
    for (; p < end; p++) {
        unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c == '"' || c == '\\')
            break;
        seen |= c;
    }
    *high = (seen & MESA_SCAN_HIGH) != 0;
    return p;
}

#endif
