/* fuzz_json.c - the scanner against a naive model, and what must hold for valid tokens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"
#include "fuzz.h"
#include "json_model.h"

enum { DEPTH = 16 };

static struct mesa_span whole(const struct mesa_buf *b)
{
    return (struct mesa_span){b->data, b->len};
}

/* Any bytes as the content of a string. */
static void check_text(const char *text, size_t size)
{
    struct mesa_buf json, back;
    mesa_buf_init(&json);
    mesa_buf_init(&back);
    bool valid = mesa_utf8_prefix(text, size) == size;
    enum mesa_status rc = mesa_json_put_string(&json, text, size);
    REQUIRE(rc == (valid ? MESA_OK : MESA_EUTF8));
    if (valid) {
        REQUIRE(mesa_json_check(json.data, json.len, 0, NULL) == MESA_OK);
        REQUIRE(mesa_json_unescape(whole(&json), &back) == MESA_OK);
        REQUIRE(back.len == size && (size == 0 || memcmp(back.data, text, size) == 0));
    } else {
        REQUIRE(json.len == 0);
    }
    mesa_buf_deinit(&json);
    mesa_buf_deinit(&back);
}

/* Any eight bytes as a double. */
static void check_double(const char *bytes)
{
    double d, again;
    memcpy(&d, bytes, sizeof d);
    struct mesa_buf text;
    mesa_buf_init(&text);
    enum mesa_status rc = mesa_json_put_number(&text, d);
    REQUIRE(rc == (isfinite(d) ? MESA_OK : MESA_EINVAL));
    if (rc == MESA_OK) {
        REQUIRE(mesa_json_check(text.data, text.len, 0, NULL) == MESA_OK);
        again = mesa_json_number(whole(&text));
        REQUIRE(memcmp(&again, &d, sizeof d) == 0);
    }
    mesa_buf_deinit(&text);
}

static void check_string(struct mesa_span token)
{
    struct mesa_buf text;
    mesa_buf_init(&text);
    REQUIRE(mesa_json_unescape(token, &text) == MESA_OK);
    REQUIRE(mesa_utf8_valid(text.data, text.len));
    REQUIRE(mesa_json_string_is(token, text.data, text.len));
    REQUIRE(!mesa_json_string_is(token, text.data, text.len + 1) || text.len == 0);
    check_text(text.data, text.len);
    mesa_buf_deinit(&text);
}

static void check_number(struct mesa_span token)
{
    char text[1024];
    int64_t i;
    double d = mesa_json_number(token);
    REQUIRE(!isnan(d));
    if (token.len < sizeof text) { /* the C library, in the C locale, is the oracle */
        memcpy(text, token.p, token.len);
        text[token.len] = '\0';
        double want = strtod(text, NULL);
        REQUIRE(memcmp(&want, &d, sizeof d) == 0);
    }
    if (mesa_json_integer(token, &i))
        REQUIRE((double)i == d && i >= -(INT64_C(1) << 53) && i <= INT64_C(1) << 53);
    else
        REQUIRE(fabs(d) >= 9007199254740992.0 || d != (double)(int64_t)d || d == 0 ||
                token.len > 15); /* else rounding made it integral */
}

/* Looks the last member up by walking the object with the public scanner. */
static void check_object(struct mesa_span object)
{
    const char *p = object.p + 1, *end = object.p + object.len;
    struct mesa_span want = {NULL, 0}, found = {NULL, 0}, key, value;
    while (mesa_json_value(&p, end, DEPTH, &key, NULL) == MESA_OK) {
        p = memchr(p, ':', (size_t)(end - p));
        p++;
        REQUIRE(mesa_json_value(&p, end, DEPTH, &value, NULL) == MESA_OK);
        if (mesa_json_string_is(key, "a", 1))
            want = value;
        while (*p != ',' && *p != '}')
            p++;
        p++;
    }
    REQUIRE(mesa_json_find(object, "a", &found) == (want.p != NULL));
    REQUIRE(found.p == want.p && found.len == want.len);
}

/* What is mended is JSON when the text was but for lone surrogate escapes, and stays as it is. */
static void check_mend(const char *text, size_t size)
{
    char *copy = malloc(size + 1);
    REQUIRE(copy != NULL);
    memcpy(copy, text, size);
    size_t mended = mesa_json_mend(copy, size);
    REQUIRE((mesa_json_check(copy, size, DEPTH, NULL) == MESA_OK) ==
            json_model_lenient(text, size, DEPTH));
    REQUIRE((mended == 0) == (memcmp(copy, text, size) == 0));
    REQUIRE(mesa_json_mend(copy, size) == 0);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *p = text;
    struct mesa_json_error err = {0, NULL};
    struct mesa_span value;
    enum mesa_status rc = mesa_json_check(text, size, DEPTH, &err);
    REQUIRE((rc == MESA_OK) == json_model_valid(text, size, DEPTH));
    if (rc != MESA_OK) {
        REQUIRE(rc == MESA_EPROTO || rc == MESA_EUTF8);
        REQUIRE(err.text != NULL && err.offset <= size);
        REQUIRE(rc != MESA_EUTF8 || mesa_utf8_prefix(text, size) <= err.offset);
    } else {
        REQUIRE(mesa_utf8_valid(text, size));
        REQUIRE(mesa_json_value(&p, text + size, DEPTH, &value, NULL) == MESA_OK);
        if (*value.p == '"')
            check_string(value);
        else if (*value.p == '-' || (*value.p >= '0' && *value.p <= '9'))
            check_number(value);
        else if (*value.p == '{')
            check_object(value);
    }
    check_text(text, size);
    check_mend(text, size);
    if (size >= sizeof(double))
        check_double(text);
    return 0;
}
