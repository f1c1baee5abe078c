/* base64_test.c - what is written is read again, and nothing else is. */
#include "base/base64.h"

#include "test.h"

static struct mesa_buf text, bytes;

static enum mesa_status decode(const char *s)
{
    mesa_buf_deinit(&bytes);
    mesa_buf_init(&bytes);
    return mesa_base64_decode(&bytes, (struct mesa_span){s, strlen(s)});
}

TEST(the_examples_of_the_rfc)
{
    static const char *const pairs[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const char *plain = pairs[i][0], *encoded = pairs[i][1];
        mesa_buf_init(&text);
        CHECK_EQ_INT(mesa_base64_encode(&text, (struct mesa_span){plain, strlen(plain)}), MESA_OK);
        CHECK_EQ_MEM(text.data, text.len, encoded, strlen(encoded));
        CHECK_EQ_INT(decode(encoded), MESA_OK);
        CHECK_EQ_MEM(bytes.data, bytes.len, plain, strlen(plain));
        mesa_buf_deinit(&text);
    }
    mesa_buf_deinit(&bytes);
}

TEST(every_byte_comes_back_behind_what_is_there)
{
    char all[259];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (char)(unsigned char)(i * 7);
    mesa_buf_init(&bytes);
    for (size_t len = 0; len <= sizeof all; len++) {
        mesa_buf_init(&text);
        mesa_buf_reset(&bytes, 4096);
        mesa_buf_push(&bytes, '>');
        CHECK_EQ_INT(mesa_base64_encode(&text, (struct mesa_span){all, len}), MESA_OK);
        CHECK_EQ_INT(mesa_base64_decode(&bytes, (struct mesa_span){text.data, text.len}), MESA_OK);
        CHECK_EQ_MEM(bytes.data + 1, bytes.len - 1, all, len);
        mesa_buf_deinit(&text);
    }
    mesa_buf_deinit(&bytes);
}

TEST(anything_else_is_refused)
{
    static const char *const bad[] = {
        "Z",    "Zg",    "Zg=",    "Z===", "====", "=Zg=", "Zg==Zg==", "Zm8=Zg==",    "Zh==",
        "Zm9=", "Zm 9v", "Zm9v\n", "Zm-v", "Zm_v", "Zm9*", "Zg=a",     "Zm9vZ\xff==",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_EQ_INT(decode(bad[i]), MESA_EPROTO);
        CHECK_EQ_INT(bytes.len, 0);
    }
    CHECK_EQ_INT(mesa_base64_decode(&bytes, MESA_SPAN("Zg\0=")), MESA_EPROTO);
    mesa_buf_deinit(&bytes);
}
