/* json_number_test.c - numbers both ways, exactly, whatever the locale. */
#include "core/json.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static uint64_t random_state = 0x9e3779b97f4a7c15u;

static uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static double from_bits(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static uint64_t to_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits;
}

static double number(const char *text)
{
    return mesa_json_number((struct mesa_span){text, strlen(text)});
}

/* The text of `d`, valid until the next call. */
static const char *text_of(double d)
{
    static char text[64];
    struct mesa_buf b;
    mesa_buf_init(&b);
    enum mesa_status rc = mesa_json_put_number(&b, d);
    snprintf(text, sizeof text, "%.*s", rc == MESA_OK ? (int)b.len : 3,
             rc == MESA_OK ? b.data : "bad");
    mesa_buf_deinit(&b);
    return text;
}

TEST(numbers_are_written_as_expected)
{
    static const struct {
        double d;
        const char *text;
    } table[] = {
        {0, "0"},
        {-0.0, "-0"},
        {1, "1"},
        {-1, "-1"},
        {10, "10"},
        {1000000, "1000000"},
        {9007199254740991, "9007199254740991"},
        {9007199254740992, "9007199254740992"},
        {-9007199254740992, "-9007199254740992"},
        {9007199254740994, "9007199254740994"},
        {0.1, "0.1"},
        {0.5, "0.5"},
        {-1.5, "-1.5"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.0 / 3, "0.3333333333333333"},
        {100.25, "100.25"},
        {3.141592653589793, "3.141592653589793"},
        {123456789.125, "123456789.125"},
        {1e15 + 0.5, "1000000000000000.5"},
        {1e20, "100000000000000000000"},
        {1.5e20, "150000000000000000000"},
        {123456789012345680000.0, "123456789012345680000"},
        {1e21, "1e21"},
        {1.5e21, "1.5e21"},
        {1e22, "1e22"},
        {1e23, "1e23"},
        {1e-5, "0.00001"},
        {1.5e-5, "0.000015"},
        {1e-6, "0.000001"},
        {1e-7, "1e-7"},
        {1.25e-7, "1.25e-7"},
        {5e-324, "5e-324"},
        {-5e-324, "-5e-324"},
        {1e-323, "1e-323"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {2.225073858507201e-308, "2.225073858507201e-308"},
        {1.7976931348623157e308, "1.7976931348623157e308"},
        {9.5367431640625e-7, "9.5367431640625e-7"},
        {0x1p-44, "5.684341886080802e-14"},
        {0x1p63, "9223372036854776000"},
        {0x1p64, "18446744073709552000"},
        {4.35, "4.35"},
        {2.5e-8, "2.5e-8"},
        {1e100, "1e100"},
        {9.007199254740993e15, "9007199254740992"},
        {8.41e21, "8.41e21"},
        {2e-323, "2e-323"},
        {4.4501477170144023e-308, "4.4501477170144023e-308"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        CHECK_EQ_STR(text_of(table[i].d), table[i].text);
}

TEST(what_is_no_number_is_refused)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    CHECK_EQ_INT(mesa_json_put_number(&b, (double)NAN), MESA_EINVAL);
    CHECK_EQ_INT(mesa_json_put_number(&b, (double)INFINITY), MESA_EINVAL);
    CHECK_EQ_INT(mesa_json_put_number(&b, -(double)INFINITY), MESA_EINVAL);
    CHECK_EQ_INT(b.len, 0);
    mesa_buf_deinit(&b);
}

TEST(integers_are_written_in_full)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_json_put_integer(&b, INT64_MIN);
    mesa_buf_push(&b, ' ');
    mesa_json_put_integer(&b, INT64_MAX);
    mesa_buf_push(&b, ' ');
    mesa_json_put_integer(&b, 0);
    CHECK_EQ_MEM(b.data, b.len, "-9223372036854775808 9223372036854775807 0", 42);
    mesa_buf_deinit(&b);
}

/* Significant digits of a text: "1.50e3" has 3. */
static int count_digits(const char *text)
{
    int digits = 0, zeros = 0;
    for (const char *p = text; *p != '\0' && *p != 'e'; p++) {
        if (*p < '0' || *p > '9' || (*p == '0' && digits == 0))
            continue;
        digits++;
        zeros = *p == '0' ? zeros + 1 : 0;
    }
    return digits - zeros;
}

/* Reads back bit for bit, by the C library as well; no text with fewer digits does; and when the
 * digits of the C library's nearest text with as many digits read back, they are the ones. */
static unsigned check_number(double d)
{
    const char *text = text_of(d);
    unsigned wrong = mesa_json_check(text, strlen(text), 0, NULL) != MESA_OK;
    wrong += to_bits(number(text)) != to_bits(d);
    wrong += to_bits(strtod(text, NULL)) != to_bits(d);

    int digits = count_digits(text);
    char other[64];
    if (digits > 1) {
        snprintf(other, sizeof other, "%.*e", digits - 2, d);
        wrong += strtod(other, NULL) == d;
    }
    snprintf(other, sizeof other, "%.*e", digits > 0 ? digits - 1 : 0, d);
    if (strtod(other, NULL) ==
        d) { /* not always: half of the interval below a power of two is missing */
        char ours[64];
        snprintf(ours, sizeof ours, "%.*e", digits > 0 ? digits - 1 : 0, strtod(text, NULL));
        wrong += strcmp(ours, other) != 0;
        wrong += fabs(strtod(other, NULL) - d) != 0;
    }
    if (wrong > 0)
        CHECK_EQ_STR(text, "the shortest text");
    return wrong;
}

TEST(random_bit_patterns_round_trip_in_the_fewest_digits)
{
    unsigned wrong = 0;
    for (int i = 0; i < 100000 && wrong == 0; i++) {
        double d = from_bits(random_bits());
        if (isfinite(d))
            wrong += check_number(d);
    }
    CHECK_EQ_INT(wrong, 0);
}

TEST(everyday_numbers_round_trip_in_the_fewest_digits)
{
    unsigned wrong = 0;
    for (int i = 0; i < 50000 && wrong == 0; i++) {
        wrong += check_number((double)(int64_t)(random_bits() >> 40) / 100);
        wrong += check_number((double)(int64_t)(random_bits() >> 11));
        wrong += check_number((double)random_bits() / 18446744073709551616.0);
        wrong += check_number(from_bits(random_bits() >> 12)); /* subnormal */
    }
    CHECK_EQ_INT(wrong, 0);
}

TEST(neighbours_of_powers_of_two_and_ten_round_trip)
{
    unsigned wrong = 0;
    for (uint64_t e = 0; e < 0x7ff; e++)
        for (uint64_t step = 0; step < 5; step++) {
            uint64_t bits = (e << 52) + step;
            wrong += check_number(from_bits(bits));
            if (bits >= 5)
                wrong += check_number(-from_bits(bits - 5));
        }
    for (int e = -323; e <= 308; e++) {
        char text[16];
        snprintf(text, sizeof text, "1e%d", e);
        uint64_t bits = to_bits(strtod(text, NULL));
        for (uint64_t step = 0; step < 5 && bits >= step; step++)
            wrong += check_number(from_bits(bits + step)) + check_number(from_bits(bits - step));
    }
    CHECK_EQ_INT(wrong, 0);
}

static void check_reads(const char *text)
{
    if (!CHECK(to_bits(number(text)) == to_bits(strtod(text, NULL))))
        CHECK_EQ_STR(text, "read as strtod does");
}

/* clang-format off */
static const char *const number_texts[] = {
    "0", "-0", "0.0", "-0e5", "0e999999999999", "1", "-1", "9007199254740993",
    "9007199254740992.5", "18446744073709551615", "18446744073709551616", "1e22", "1e23", "1e-22",
    "1e-23", "123456789012345678901234567890", "0.1", "0.30000000000000004",
    "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1e308", "1e309",
    "-1e309", "1e999", "-1e999", "1e-999", "-1e-999", "1e99999999999999999999",
    "1e-99999999999999999999", "4.9e-324", "2.5e-324", "2.4703282292062328e-324",
    "2.4703282292062327e-324", "2.2250738585072011e-308", "2.2250738585072012e-308", "8.533e-10",
    "6.02214076e23", "100000000000000016777215", "100000000000000016777216",
    "0.000000000000000000000000000000000000000000000000000000000001",
    "1000000000000000000000000000000000000000000000000000000000000", "1234567890123456789e-19",
    "12345678901234567890.12345678901234567890e5", "7.2057594037927933e16", "9214843084008499",
    "5e-324", "3e-324", "2e-324", "1.00000000000000011102230246251565404236316680908203125",
    "1.00000000000000011102230246251565404236316680908203124",
    "1.00000000000000011102230246251565404236316680908203126", "0.1e1", "10e-1", "1E+2",
};
/* clang-format on */

TEST(numbers_read_as_the_c_library_reads_them)
{
    for (size_t i = 0; i < sizeof number_texts / sizeof number_texts[0]; i++)
        check_reads(number_texts[i]);
    CHECK(isinf(number("1e999")) && number("1e999") > 0);
    CHECK(isinf(number("-1e999")) && number("-1e999") < 0);
    CHECK(number("-0") == 0 && signbit(number("-0")));
}

TEST(random_decimal_texts_read_as_the_c_library_reads_them)
{
    for (int i = 0; i < 100000; i++) {
        char text[80];
        int digits = 1 + (int)(random_bits() % 40), n = 0;
        int point = (int)(random_bits() % (unsigned)digits);
        text[n++] = (char)('1' + random_bits() % 9);
        for (int j = 1; j < digits; j++) {
            if (j == point)
                text[n++] = '.';
            text[n++] = (char)('0' + random_bits() % 10);
        }
        if (random_bits() % 2)
            n += snprintf(text + n, 16, "e%d", (int)(random_bits() % 700) - 350);
        text[n] = '\0';
        check_reads(text);
    }
}

/* The exact midpoint between two doubles, with a digit far behind it that decides. */
TEST(very_long_midpoints_round_correctly)
{
    static const double bases[] = {1, 0.1, 1e-300, 3e-310, 5e-324, 1e300, 123456.789};
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++)
        for (size_t zeros = 0; zeros < 3000; zeros += 1499) {
            double above = from_bits(to_bits(bases[i]) + 1);
            /* long double holds the midpoint exactly where its 64 bits of mantissa reach */
            long double middle = ((long double)bases[i] + (long double)above) / 2;
            static char text[8192];
            int n = snprintf(text, sizeof text, "%.1100Lf", middle);
            memset(text + n, '0', zeros);
            text[n + zeros] = '\0';
            check_reads(text);
            text[n + zeros] = '1';
            text[n + zeros + 1] = '\0';
            check_reads(text);
        }
}

TEST(megabytes_of_digits_are_read_in_linear_time_and_bounded_memory)
{
    enum { DIGITS = 1000000 };
    char *text = malloc(DIGITS + 32);
    CHECK_OR_RETURN(text != NULL);
    memset(text, '0', DIGITS);
    memcpy(text, "0.", 2);
    strcpy(text + DIGITS, "15e999999");
    CHECK(number(text) == 1.5);
    memset(text, '7', DIGITS);
    strcpy(text + DIGITS, "e-999999");
    CHECK(number(text) == 7.777777777777778);
    free(text);
}

static void check_integer(const char *text, bool valid, int64_t want)
{
    int64_t got = 12345;
    if (!CHECK_EQ_INT(mesa_json_integer((struct mesa_span){text, strlen(text)}, &got), valid))
        CHECK_EQ_STR(text, valid ? "an integer" : "no integer");
    CHECK_EQ_INT(got, valid ? want : 12345);
}

TEST(integral_tokens_are_recognised_exactly)
{
    static const int64_t max = INT64_C(1) << 53;
    check_integer("0", true, 0);
    check_integer("-0", true, 0);
    check_integer("0.000e-5", true, 0);
    check_integer("0e999999999999", true, 0);
    check_integer("10", true, 10);
    check_integer("-22", true, -22);
    check_integer("1.0", true, 1);
    check_integer("1e0", true, 1);
    check_integer("10e-1", true, 1);
    check_integer("1.5e1", true, 15);
    check_integer("0.0022e4", true, 22);
    check_integer("1000000000000000000000000000000e-30", true, 1);
    check_integer("1.00000000000000000000000000000000000000", true, 1);
    check_integer("9007199254740992", true, max);
    check_integer("-9007199254740992", true, -max);
    check_integer("9007199254740992.0", true, max);
    check_integer("9.007199254740992e15", true, max);
    check_integer("1e15", true, INT64_C(1000000000000000));
    check_integer("9007199254740993", false, 0);
    check_integer("-9007199254740993", false, 0);
    check_integer("9007199254740992.5", false, 0);
    check_integer("1e16", false, 0);
    check_integer("18446744073709551616", false, 0);
    check_integer("18446744073709551617", false, 0);
    check_integer("36893488147419103233", false, 0);
    check_integer("0.5", false, 0);
    check_integer("1e-1", false, 0);
    check_integer("1.00000000000000000000000000000000000001", false, 0);
    check_integer("1e999", false, 0);
    check_integer("1e-999", false, 0);
    check_integer("1e9999999999999999999", false, 0);
}

TEST(the_locale_does_not_matter)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8",
                                        "ru_RU.UTF-8"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (setlocale(LC_ALL, names[i]) != NULL)
            break; /* without any of them installed this is one more run in the C locale */
    CHECK_EQ_STR(text_of(0.1 + 0.2), "0.30000000000000004");
    CHECK_EQ_STR(text_of(1.5e-9), "1.5e-9");
    CHECK(number("1.5") == 1.5);
    CHECK(to_bits(number("123456789.123456789123456789")) == to_bits(123456789.123456789123456789));
    CHECK(to_bits(number("2.2250738585072011e-308")) == to_bits(2.2250738585072011e-308));
    setlocale(LC_ALL, "C");
}
