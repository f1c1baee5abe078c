/* utf8.c - see utf8.h. */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

static const char *skip_ascii(const char *p, const char *end)
{
#ifdef __SSE2__
    while (end - p >= 16 &&
           _mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)p)) == 0)
        p += 16;
#endif
    uint64_t word;
    while ((size_t)(end - p) >= sizeof word) {
        memcpy(&word, p, sizeof word);
        if (word & UINT64_C(0x8080808080808080))
            break;
        p += sizeof word;
    }
    return p;
}

size_t mesa_utf8_prefix(const char *p, size_t len)
{
    if (len == 0)
        return 0;
    const char *start = p, *end = p + len;
    for (;;) {
        p = skip_ascii(p, end);
        /* At least one sequence, then on through text that is not ASCII without trying a word
         * before each character. */
        if (p == end)
            return len;
        do {
            unsigned n = mesa_utf8_sequence(p, end);
            if (n == 0)
                return (size_t)(p - start);
            p += n;
        } while (p < end && (*p & 0x80));
    }
}

bool mesa_utf8_valid(const char *p, size_t len)
{
    return mesa_utf8_prefix(p, len) == len;
}
