/* json_index_test.c - the positions of a text's structure, by each kind of machine that this one can
 * be, and whether walking them accepts what the scanner accepts. */
#include "core/json_index.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json_walk.h"
#include "test.h"

static struct mesa_json_index index_;

/* Whether the scanner takes the text for JSON, and it is an object. */
static bool is_object(const char *text, size_t len, unsigned depth)
{
    const char *end = text + len, *p = mesa_json_space(text, end);
    return p < end && *p == '{' && mesa_json_check(text, len, depth, NULL) == MESA_OK;
}

/* The positions a reader of single bytes finds in a valid text, with the members of containers. */
static bool has_entries(const struct mesa_json_index *x, const char *text, size_t len)
{
    static unsigned members[MESA_JSON_INDEX_MAX_BYTES], open[MESA_JSON_DEPTH_MAX];
    size_t n = 0;
    unsigned depth = 0;
    bool in_string = false, empty = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            in_string = c != '"';
            continue;
        }
        if (depth > 0 && empty && c > ' ') {
            members[open[depth - 1]] = c != '}' && c != ']';
            empty = false;
        }
        in_string = c == '"';
        if (c == '\0' || strchr("{}[]:,", c) == NULL)
            continue;
        if (n == x->count || x->entries[n].at != i)
            return false;
        if (c == ',')
            members[open[depth - 1]]++;
        if (c == '{' || c == '[') {
            open[depth++] = (unsigned)n;
            empty = true;
        } else if (c == '}' || c == ']') {
            unsigned at = open[--depth];
            if (x->entries[at].members != members[at])
                return false;
        }
        n++;
    }
    return n == x->count;
}

/* Whether every variant judges the first `len` bytes as the scanner does; each has a copy of its own
 * that ends where the text does, so that a sanitizer sees any byte read behind it. */
static bool judged_alike(const char *text, size_t len, unsigned depth)
{
    mesa_json_index_fn variants[3];
    size_t count = mesa_json_index_variants(variants);
    char *copy = malloc(len > 0 ? len : 1);
    bool want = is_object(text, len, depth), alike = true;
    memcpy(copy, text, len);
    for (size_t i = 0; i < count && alike; i++) {
        bool got = variants[i](&index_, copy, len) &&
                   mesa_json_walk_text(&index_, copy, len, depth, NULL, NULL);
        alike = got == want && (!got || has_entries(&index_, copy, len));
        if (!alike)
            printf("variant %zu: %.*s\n", i, (int)len, text);
    }
    free(copy);
    return alike;
}

#define ALIKE(text) CHECK(judged_alike(text, sizeof(text) - 1, 16))

TEST(every_machine_knows_a_way)
{
    mesa_json_index_fn variants[3];
    size_t count = mesa_json_index_variants(variants);
    CHECK(count >= 1 && count <= 3);
#ifdef __SSE2__
    CHECK(count >= 2);
#endif
}

TEST(objects_are_accepted_with_their_positions)
{
    static const char text[] = "{\"a\":[1,{},\"x\\\",\"],\"b\":{\"c\":[]}}";
    CHECK(is_object(text, sizeof text - 1, 16));
    ALIKE(text);
    ALIKE("{}");
    ALIKE(" { } ");
    ALIKE("{\"a\":1}");
    ALIKE("\t{\r\n\"a\" :\n 1 , \"b\" : [ 1 , 2 ] , \"c\" : { } , \"d\" : [ ] }\n");
    ALIKE("{\"\":\"\",\"\\\\\":\"\\\\\\\\\",\"\\\"\":\"\\\\\\\"\"}");
    ALIKE("{\"a\":true,\"b\":false,\"c\":null,\"d\":true ,\"e\": null}");
    ALIKE("{\"a\":0,\"b\":-0,\"c\":-1.5e+3,\"d\":0.1 ,\"e\":12345678,\"f\":123456789012345678901}");
    ALIKE("{\"a\":\"\\ud83d\\ude00\\u00e9\",\"b\":\"\xf0\x9f\x98\x80\xc3\xa9\"}");
}

TEST(what_is_no_object_is_refused)
{
    static const char *const texts[] = {
        "",
        " ",
        "{",
        "}",
        "[]",
        "\"{}\"",
        "1",
        "{}}",
        "{}{}",
        "{{}}",
        "{]",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{\"a\"}",
        "{\"a\":}",
        "{:1}",
        "{\"a\":1,}",
        "{,\"a\":1}",
        "{\"a\":1,,\"b\":2}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":1 \"b\":2}",
        "{\"a\" \"b\":2}",
        "{\"a\"\"b\":2}",
        "{\"a\":\"b\"\"c\"}",
        "{\"a\":\"b\" \"c\"}",
        "{\"a\":1\"b\"}",
        "{\"a\":\"b\"1}",
        "{\"a\":[]\"b\"}",
        "{\"a\":[]1}",
        "{\"a\":{}1}",
        "{\"a\":1[]}",
        "{\"a\"1:2}",
        "{1\"a\":2}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":-01}",
        "{\"a\":1.}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":truf}",
        "{\"a\":nulll}",
        "{\"a\":\"}",
        "{\"a\":\"\\\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ude00\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\\\"a\":1}",
        "{\"a\"\\\":1}",
        "{\"a\":\\\"\"}",
        "{\"a\":1\\}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\x01\"}",
        "{\"a\"\x0c:1}",
        "{\"a\":1\x0c\"b\":2}",
        "{\"a\"\0321}",
        "{\"a\":1\x1a}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\xc0\x80\"}",
        "{\"a\":\"\xed\xa0\x80\"}",
        "{\"a\":\"\xc3\"}",
        "{\"a\":\"\xe2\x82\"}",
        "{\xc3\xa9\"a\":1}",
        "{\"a\":\xc3\xa9}",
        "{\"a\":1\xc2\xa0}",
        "\xef\xbb\xbf{}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1}/**/",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        CHECK(!is_object(texts[i], strlen(texts[i]), 16));
        CHECK(judged_alike(texts[i], strlen(texts[i]), 16));
    }
    CHECK(judged_alike("{}\0", 3, 16));
    CHECK(judged_alike("{\"a\":\"\0\"}", 9, 16));
}

static const char sample[] =
    "{\"op\":0,\"d\":{\"content\":\"h\\u00e9llo \xc3\xa9, \\\"you\\\" \xf0\x9f\x98\x80\",\"n\":-12.5e3,"
    "\"list\":[1,true,null,[],\"a\"], \"e\" : {\n\t} , \"long\":123456789012,\"f\":false},\"t\":\"M\"}";

TEST(a_text_that_is_cut_anywhere_is_judged_alike)
{
    CHECK(is_object(sample, sizeof sample - 1, 16));
    for (size_t len = 0; len < sizeof sample; len++)
        CHECK(judged_alike(sample, len, 16));
}

/* What is interesting is moved across the borders of words and blocks, before it and behind it. */
TEST(what_lies_across_a_border_is_judged_alike)
{
    static const char *const parts[] = {
        "\"\\\"\"",
        "\"\\\\\"",
        "\"\\\\\\\"\\\\\"",
        "\"\\\\\\\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\\u0041\"",
        "\"\\u00e9\\\"\\n\"",
        "\"\\u12\"",
        "\"\xc3\xa9\"",
        "\"\xe2\x82\xac\xf0\x9f\x98\x80\"",
        "\"\xf0\x9f\x98\"",
        "\"\x1f\"",
        "\" \"",
        "\"\n\"",
        "12345678",
        "-1234567890",
        "1.5e-7",
        "12345678a",
        "true",
        "nul",
        "[[],[{}],{\"a\":[]}]",
        "[1,2,\"3\" , 4 ]",
        "[\"a\"\"b\"]",
        "[\"a\"  \"b\"]",
        "     \"x\"     ",
        "\n\n\t\t\"x\"\r\n\r\n",
        "                                                                      \"x\"",
        "{                                                                    \"x\":1}",
        "1                                                                    \"x\"",
        "\"{}[]:,{}[]:,\"",
        "{\"a\":1,\"a\":\"\"}",
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        for (unsigned before = 0; before < 2 * MESA_JSON_BLOCK + 2; before++) {
            char text[1024];
            int len = snprintf(
                text, sizeof text, "{\"%.*s\":%s,\"%.*s\":%s}", (int)before,
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                parts[i], (int)(before / 2),
                "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy", parts[i]);
            CHECK(judged_alike(text, (size_t)len, 16));
            CHECK(judged_alike(text, (size_t)len - before / 3, 16));
        }
    }
}

TEST(damaged_texts_are_judged_alike)
{
    static const char bytes[] = "{}[]\",:\\ue0123456789.-+ \n\x01\x0c\x1a\x80\xc3\xfftfna";
    uint32_t seed = 4711;
    for (int round = 0; round < 30000; round++) {
        char text[sizeof sample];
        size_t len = sizeof sample - 1;
        memcpy(text, sample, sizeof sample);
        for (unsigned edits = 0; edits < 1 + (seed >> 28) % 3; edits++) {
            seed = seed * 1664525 + 1013904223;
            text[(seed >> 8) % len] = bytes[(seed >> 20) % (sizeof bytes - 1)];
        }
        if (!CHECK(judged_alike(text, len, 16)))
            break;
    }
}

TEST(nesting_is_bounded)
{
    char text[6 * MESA_JSON_DEPTH_MAX];
    for (unsigned levels = 1; levels <= 40; levels++) {
        size_t len = 0;
        for (unsigned i = 0; i < levels; i++)
            len += (size_t)sprintf(text + len, "{\"a\":");
        text[len++] = '1';
        for (unsigned i = 0; i < levels; i++)
            text[len++] = '}';
        for (unsigned depth = levels - 1; depth <= levels + 1; depth++)
            CHECK(judged_alike(text, len, depth));
    }
    CHECK(judged_alike("{\"a\":[[]]}", 10, 2));
    CHECK(judged_alike("{\"a\":[[]]}", 10, 3));
    CHECK(judged_alike("{}", 2, 0));
    CHECK(judged_alike("{}", 2, 1));
}

TEST(the_longest_text_has_an_index_and_a_longer_one_has_none)
{
    mesa_json_index_fn variants[3];
    size_t count = mesa_json_index_variants(variants), len = MESA_JSON_INDEX_MAX_BYTES;
    char *text = malloc(len + 1);
    memset(text, '[', len + 1);
    for (size_t i = 0; i < count; i++) {
        CHECK(variants[i](&index_, text, len));
        CHECK_EQ_INT(index_.count, len);
        CHECK_EQ_INT(index_.entries[len - 1].at, len - 1);
        CHECK(!variants[i](&index_, text, len + 1));
    }
    free(text);
}

TEST(a_string_that_does_not_end_leaves_no_index)
{
    mesa_json_index_fn variants[3];
    size_t count = mesa_json_index_variants(variants);
    for (size_t i = 0; i < count; i++) {
        CHECK(variants[i](&index_, "{\"a\"", 4));
        CHECK(!variants[i](&index_, "{\"a", 3));
    }
}

TEST(an_entry_is_remembered_until_the_next_text)
{
    struct mesa_json_place none = {0}, place;
    CHECK(mesa_json_index_recall(none) == NULL);
    CHECK(mesa_json_index_build(&mesa_json_index, "{}", 2));
    CHECK(mesa_json_index_recall(none) == NULL);
    place = (struct mesa_json_place){mesa_json_index.generation, 1};
    CHECK(mesa_json_index_recall(place) == &mesa_json_index.entries[1]);
    CHECK(!mesa_json_index_build(&mesa_json_index, "\"", 1));
    CHECK(mesa_json_index_recall(place) == NULL);
}

/* Every count of digits, followed by every byte. */
TEST(digits_are_read_a_word_at_a_time)
{
    for (unsigned n = 0; n <= 8; n++) {
        for (unsigned behind = 0; behind < 256; behind++) {
            char text[9] = "98765432";
            uint64_t digits, want = 0;
            for (unsigned i = 0; i < n; i++)
                want = want * 10 + (unsigned)(text[i] - '0');
            if (n < 8) {
                if (behind >= '0' && behind <= '9')
                    continue;
                text[n] = (char)behind;
            }
            CHECK_EQ_INT(mesa_json_digits(text, &digits), n);
            CHECK_EQ_INT(mesa_json_digits_value(digits), want);
        }
    }
}
