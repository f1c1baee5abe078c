/* utf8_test.c - strict UTF-8, compared with an independent decoder over every short input. */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

#include "test.h"

/* Length of the sequence at `s` by decoding it and encoding it again; 0 when that is not the
 * identity. */
static unsigned model_sequence(const unsigned char *s, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (len == 0)
        return 0;
    unsigned n = s[0] < 0x80             ? 1
                 : (s[0] & 0xe0) == 0xc0 ? 2
                 : (s[0] & 0xf0) == 0xe0 ? 3
                 : (s[0] & 0xf8) == 0xf0 ? 4
                                         : 0;
    if (n == 0 || n > len)
        return 0;
    uint32_t code = n == 1 ? s[0] : s[0] & (0x7fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s[i] & 0x3f);
    }
    return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : n;
}

TEST(every_sequence_of_up_to_three_bytes_agrees_with_the_model)
{
    unsigned wrong = 0;
    for (uint32_t v = 0; v < 0x1000000; v++) {
        unsigned char s[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
        if (s[0] < 0x80 && v % 0x10000 != 0)
            continue; /* what follows ASCII does not matter */
        for (size_t len = 1; len <= 3; len++)
            wrong += mesa_utf8_sequence((const char *)s, (const char *)s + len) !=
                     model_sequence(s, len);
    }
    CHECK_EQ_INT(wrong, 0);
}

TEST(every_four_byte_lead_and_second_byte_agrees_with_the_model)
{
    unsigned wrong = 0;
    for (unsigned a = 0xe0; a <= 0xff; a++)
        for (unsigned b = 0; b <= 0xff; b++)
            for (unsigned c = 0x70; c <= 0xff; c += 3)
                for (unsigned d = 0x70; d <= 0xff; d += 3) {
                    unsigned char s[4] = {(unsigned char)a, (unsigned char)b, (unsigned char)c,
                                          (unsigned char)d};
                    wrong += mesa_utf8_sequence((const char *)s, (const char *)s + 4) !=
                             model_sequence(s, 4);
                }
    CHECK_EQ_INT(wrong, 0);
}

TEST(a_bad_byte_is_found_at_every_offset_of_a_run)
{
    char text[64];
    for (size_t len = 0; len <= sizeof text; len++) {
        memset(text, 'a', sizeof text);
        CHECK(mesa_utf8_valid(text, len));
        for (size_t i = 0; i < len; i++) {
            text[i] = (char)0xff;
            CHECK_EQ_INT(mesa_utf8_prefix(text, len), i);
            CHECK(!mesa_utf8_valid(text, len));
            text[i] = 'a';
        }
    }
}

TEST(a_sequence_cut_by_the_end_is_not_part_of_the_prefix)
{
    static const char *const texts[] = {"\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < 3; i++) {
        char text[32] = "12345678901234567890";
        size_t n = strlen(texts[i]);
        memcpy(text + 20, texts[i], n);
        CHECK_EQ_INT(mesa_utf8_prefix(text, 20 + n), 20 + n);
        for (size_t cut = 1; cut < n; cut++)
            CHECK_EQ_INT(mesa_utf8_prefix(text, 20 + cut), 20);
    }
}

TEST(mixed_scripts_and_nul_bytes_are_valid)
{
    static const char text[] =
        "plain ascii \xc3\xa9\xc3\xa8 more \xe2\x82\xac\xe4\xb8\xad\xe6\x96\x87 and \xf0\x9f\x98\x80\xf4\x8f\xbf\xbf \0 end";
    CHECK(mesa_utf8_valid(text, sizeof text));
    CHECK(mesa_utf8_valid("", 0));
}
