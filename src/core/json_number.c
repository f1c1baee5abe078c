/* json_number.c - number tokens to doubles and integers, exactly and without a locale. See
 * json.h. */
#include <stdio.h>
#include <stdlib.h>

#include "core/json_scan.h"

enum {
    MANTISSA_DIGITS = 19, /* always fit 64 bits */
    /* The decimal expansion of a midpoint between two doubles has at most 767 significant digits;
     * what follows matters only by being zero or not. */
    KEPT_DIGITS = 770,
    EXPONENT_LIMIT = 1000000000,
};

static const int64_t max_exact = INT64_C(1) << 53;

/* (-1)^negative * mantissa * 10^exponent, and a little more when `inexact`: digits that were not
 * zero did not fit. */
struct decimal {
    uint64_t mantissa;
    int64_t exponent;
    bool negative;
    bool inexact;
};

/* Walks the significant digits of a token: no leading zeros, no point. */
struct digits {
    const char *p, *end;
    bool after_point;
};

/* The next digit, or -1 behind the last one. */
static int next_digit(struct digits *d)
{
    if (d->p < d->end && *d->p == '.') {
        d->after_point = true;
        d->p++;
    }
    if (d->p == d->end || *d->p < '0' || *d->p > '9')
        return -1;
    return *d->p++ - '0';
}

static int64_t read_exponent(const char *p, const char *end)
{
    int64_t value = 0;
    if (p == end)
        return 0;
    p++; /* e or E */
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    for (; p < end; p++)
        if (value < EXPONENT_LIMIT)
            value = value * 10 + (*p - '0');
    return negative ? -value : value;
}

static struct decimal read_decimal(struct mesa_span token)
{
    struct decimal v = {.negative = token.p[0] == '-'};
    struct digits d = {token.p + v.negative, token.p + token.len, false};
    unsigned kept = 0;
    for (int digit; (digit = next_digit(&d)) >= 0;) {
        if (kept < MANTISSA_DIGITS) {
            v.mantissa = v.mantissa * 10 + (unsigned)digit;
            kept += v.mantissa != 0;
            v.exponent -= d.after_point;
        } else {
            v.inexact |= digit != 0;
            v.exponent += !d.after_point;
        }
    }
    v.exponent += read_exponent(d.p, d.end);
    return v;
}

/* strtod on a text of bounded length and without a decimal point, the one part of its input that
 * depends on the locale. */
static double round_correctly(struct mesa_span token)
{
    char text[KEPT_DIGITS + 32];
    size_t len = 0, kept = 0;
    int64_t exponent = 0;
    bool inexact = false, negative = token.p[0] == '-';
    struct digits d = {token.p + negative, token.p + token.len, false};
    if (negative)
        text[len++] = '-';
    for (int digit; (digit = next_digit(&d)) >= 0;) {
        if (kept < KEPT_DIGITS) {
            if (kept > 0 || digit != 0) {
                text[len++] = (char)('0' + digit);
                kept++;
            }
            exponent -= d.after_point;
        } else {
            inexact |= digit != 0;
            exponent += !d.after_point;
        }
    }
    if (inexact) { /* a last 1 stands for all the rest: enough to be off a midpoint */
        text[len++] = '1';
        exponent--;
    }
    exponent += read_exponent(d.p, d.end);
    if (exponent > 9999)
        exponent = 9999;
    if (exponent < -9999)
        exponent = -9999;
    snprintf(text + len, sizeof text - len, "e%d", (int)exponent);
    return strtod(text, NULL);
}

double mesa_json_number(struct mesa_span token)
{
    static const double pow10[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                   1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                   1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    struct decimal v = read_decimal(token);
    if (v.mantissa == 0)
        return v.negative ? -0.0 : 0.0;
    /* Both operands are exact, so IEEE 754 rounds the one operation correctly (Clinger 1990). */
    if (!v.inexact && v.mantissa <= (uint64_t)max_exact && v.exponent >= -22 && v.exponent <= 22) {
        double x = (double)v.mantissa;
        x = v.exponent < 0 ? x / pow10[-v.exponent] : x * pow10[v.exponent];
        return v.negative ? -x : x;
    }
    return round_correctly(token);
}

bool mesa_json_integer(struct mesa_span token, int64_t *out)
{
    if (token.len == 1) { /* nearly every opcode */
        *out = *token.p - '0';
        return true;
    }
    struct decimal v = read_decimal(token);
    if (v.inexact) /* more than 19 digits count: a fraction, or beyond the range */
        return false;
    if (v.mantissa == 0)
        v.exponent = 0;
    while (v.exponent < 0 && v.mantissa % 10 == 0) {
        v.mantissa /= 10;
        v.exponent++;
    }
    while (v.exponent > 0 && v.mantissa <= (uint64_t)max_exact) {
        v.mantissa *= 10;
        v.exponent--;
    }
    if (v.exponent != 0 || v.mantissa > (uint64_t)max_exact)
        return false;
    *out = v.negative ? -(int64_t)v.mantissa : (int64_t)v.mantissa;
    return true;
}
