/* json_shortest.c - doubles to the shortest decimal text that reads back the same, and integers.
 * See json.h.
 *
 * The digits come from Schubfach (Raffaello Giulietti, "The Schubfach way to render doubles",
 * 2021): the only candidates for the shortest decimal in the rounding interval of a double are
 * four, and 128 bits of the power of ten decide between them exactly.
 */
#include <math.h>

#include "core/json_pow10.h"
#include "core/json_scan.h"

enum {
    FRACTION_BITS = 52,
    EXPONENT_BIAS = 1023 + FRACTION_BITS,
    INTEGER_BYTES = 20, /* "-9223372036854775808" */
    MAX_DIGITS = 17,
    /* As in JavaScript: decimal points up to 21 places right and 6 left of the first digit are
     * written out. */
    MAX_POINT = 21,
    MIN_POINT = -5,
};

/* digits * 10^exponent */
struct shortest {
    uint64_t digits;
    int exponent;
};

/* Floor of the logarithm; exact for |e| <= 1650 (paper, section 9.4). */
static int floor_log2_pow10(int e)
{
    return (e * 1741647) >> 19;
}

static void multiply(uint64_t a, uint64_t b, uint64_t *high, uint64_t *low)
{
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t p00 = a0 * b0, p01 = a0 * b1, p10 = a1 * b0, p11 = a1 * b1;
    uint64_t middle = (p00 >> 32) + (uint32_t)p01 + (uint32_t)p10;
    *high = p11 + (p01 >> 32) + (p10 >> 32) + (middle >> 32);
    *low = middle << 32 | (uint32_t)p00;
}

/* The high 64 bits of g * c / 2^64, with the lowest bit set when anything was cut off ("round to
 * odd"). */
static uint64_t round_to_odd(const uint64_t g[2], uint64_t c)
{
    uint64_t x_high, x_low, y_high, y_low;
    multiply(g[1], c, &x_high, &x_low);
    multiply(g[0], c, &y_high, &y_low);
    y_low += x_high;
    y_high += y_low < x_high;
    return y_high | (y_low > 1);
}

/* `bits` of a finite positive double that is no small integer. */
static struct shortest find_shortest(uint64_t bits)
{
    uint64_t fraction = bits & ((UINT64_C(1) << FRACTION_BITS) - 1);
    int biased = (int)(bits >> FRACTION_BITS);
    uint64_t c = biased != 0 ? fraction | UINT64_C(1) << FRACTION_BITS : fraction;
    int q = (biased != 0 ? biased : 1) - EXPONENT_BIAS;
    bool even = c % 2 == 0; /* the bounds of the interval round to this double */
    bool closer_below = fraction == 0 && biased > 1; /* the next double below is half as far away */

    int k =
        (q * 1262611 - (closer_below ? 524031 : 0)) >> 22; /* floor(log10(2^q)) or of 3/4 of it */
    int h = q + floor_log2_pow10(-k) + 1;
    const uint64_t *g = mesa_pow10[-k - MESA_POW10_MIN];
    uint64_t lower = round_to_odd(g, (4 * c - 2 + closer_below) << h) + !even;
    uint64_t value = round_to_odd(g, (4 * c) << h);
    uint64_t upper = round_to_odd(g, (4 * c + 2) << h) - !even;

    uint64_t s = value / 4;
    if (s >= 10) { /* one digit less, when exactly one of the two neighbours is inside */
        uint64_t t = s / 10;
        bool down_inside = lower <= 40 * t, up_inside = 40 * t + 40 <= upper;
        if (down_inside != up_inside)
            return (struct shortest){t + up_inside, k + 1};
    }
    bool down_inside = lower <= 4 * s, up_inside = 4 * s + 4 <= upper;
    if (down_inside != up_inside)
        return (struct shortest){s + up_inside, k};
    uint64_t middle = 4 * s + 2;
    bool round_up = value > middle || (value == middle && s % 2 != 0);
    return (struct shortest){s + round_up, k};
}

/* Writes the digits of `u` so that they end before `end`; returns the first one. */
static char *digits_before(char *end, uint64_t u)
{
    do
        *--end = (char)('0' + u % 10);
    while ((u /= 10) != 0);
    return end;
}

enum mesa_status mesa_json_put_integer(struct mesa_buf *out, int64_t i)
{
    if (i >= 0 && i < 10) /* every opcode */
        return mesa_buf_push(out, (char)('0' + i));
    char text[INTEGER_BYTES], *end = text + sizeof text;
    uint64_t magnitude = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    char *p = digits_before(end, magnitude);
    if (i < 0)
        *--p = '-';
    return mesa_buf_append(out, p, (size_t)(end - p));
}

static char *put_zeros(char *p, int n)
{
    memset(p, '0', (size_t)n);
    return p + n;
}

static char *put_bytes(char *p, const char *bytes, int n)
{
    memcpy(p, bytes, (size_t)n);
    return p + n;
}

/* Lays out n digits with the decimal point `point` places right of the first one's left edge. */
static char *put_decimal(char *p, const char *digits, int n, int point)
{
    if (point > MAX_POINT || point < MIN_POINT) {
        *p++ = digits[0];
        if (n > 1) {
            *p++ = '.';
            p = put_bytes(p, digits + 1, n - 1);
        }
        *p++ = 'e';
        int exponent = point - 1;
        if (exponent < 0)
            *p++ = '-';
        char text[INTEGER_BYTES],
            *first =
                digits_before(text + sizeof text, (uint64_t)(exponent < 0 ? -exponent : exponent));
        return put_bytes(p, first, (int)(text + sizeof text - first));
    }
    if (point <= 0) {
        p = put_bytes(p, "0.", 2);
        p = put_zeros(p, -point);
        return put_bytes(p, digits, n);
    }
    if (n <= point) {
        p = put_bytes(p, digits, n);
        return put_zeros(p, point - n);
    }
    p = put_bytes(p, digits, point);
    *p++ = '.';
    return put_bytes(p, digits + point, n - point);
}

enum mesa_status mesa_json_put_number(struct mesa_buf *out, double d)
{
    static const double max_exact = 9007199254740992.0;
    if (!isfinite(d))
        return MESA_EINVAL;
    if (d >= -max_exact && d <= max_exact && d == (double)(int64_t)d && !(d == 0 && signbit(d)))
        return mesa_json_put_integer(out, (int64_t)d);
    if (d == 0)
        return mesa_buf_append(out, "-0", 2);

    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    struct shortest s = find_shortest(bits & ~(UINT64_C(1) << 63));
    while (s.digits % 10 == 0) {
        s.digits /= 10;
        s.exponent++;
    }

    char digits[INTEGER_BYTES], *first = digits_before(digits + sizeof digits, s.digits);
    int n = (int)(digits + sizeof digits - first);
    char text[MAX_POINT + MAX_DIGITS + 8], *p = text;
    if (d < 0)
        *p++ = '-';
    p = put_decimal(p, first, n, n + s.exponent);
    return mesa_buf_append(out, text, (size_t)(p - text));
}
