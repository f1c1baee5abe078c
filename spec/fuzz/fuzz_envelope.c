/* fuzz_envelope.c - the one-pass envelope parser against looking its members up one by one. */
#include <string.h>

#include "core/envelope.h"
#include "fuzz.h"

enum { DEPTH = 16 };

/* The member as the parser reports it: null is absent. */
static void check_member(struct mesa_span text, const char *key, struct mesa_span got,
                         bool null_counts)
{
    struct mesa_span want;
    if (!mesa_json_find(text, key, &want) || (!null_counts && *want.p == 'n'))
        want = (struct mesa_span){NULL, 0};
    REQUIRE(got.p == want.p && got.len == want.len);
}

static void check_parsed(struct mesa_span text, const struct mesa_envelope *e)
{
    struct mesa_span op, sync;
    int64_t i;
    REQUIRE(mesa_json_check(text.p, text.len, DEPTH, NULL) == MESA_OK);
    REQUIRE(mesa_json_find(text, "op", &op) && mesa_json_integer(op, &i) && i == e->op);
    check_member(text, "d", e->d, true);
    check_member(text, "t", e->t, false);
    check_member(text, "s", e->s, false);
    check_member(text, "o", e->o, false);
    REQUIRE(e->t.p == NULL || *e->t.p == '"');
    REQUIRE(e->t_escaped == (e->t.p != NULL && memchr(e->t.p, '\\', e->t.len) != NULL));
    REQUIRE(e->s.p == NULL || mesa_json_integer(e->s, &i));
    REQUIRE(e->o.p == NULL || *e->o.p == '{');
    REQUIRE(e->no_sync ==
            (e->o.p != NULL && mesa_json_find(e->o, "sync", &sync) && *sync.p == 'f'));
}

/* What was parsed, written and parsed again, says the same. */
static void check_round_trip(const struct mesa_envelope *e)
{
    struct mesa_buf type;
    struct mesa_frame *f = NULL;
    struct mesa_envelope again;
    struct mesa_outgoing m = {.op = e->op, .d = e->d, .s = 7};
    mesa_buf_init(&type);
    if (e->t.p != NULL) {
        REQUIRE(mesa_json_unescape(e->t, &type) == MESA_OK);
        m.type = (struct mesa_span){type.data, type.len};
        if (type.len > 0 && memchr(type.data, '\0', type.len) == NULL) {
            REQUIRE(mesa_buf_push(&type, '\0') == MESA_OK);
            type.len--;
            m.type.p = type.data;
            REQUIRE(mesa_envelope_type_is(e, type.data));
        }
    }
    REQUIRE(mesa_envelope_frame(&f, &m) == MESA_OK);
    struct mesa_span text = mesa_frame_payload(f);
    REQUIRE(mesa_envelope_parse(text.p, text.len, DEPTH, &again, NULL) == MESA_OK);
    REQUIRE(again.op == e->op && mesa_span_eq(again.d, e->d) &&
            (again.t.p != NULL) == (m.type.p != NULL));
    REQUIRE(again.t.p == NULL || mesa_json_string_is(again.t, m.type.p, m.type.len));
    REQUIRE(mesa_span_eq(again.s, MESA_SPAN("7")));
    mesa_frame_unref(f);
    mesa_buf_deinit(&type);
}

static bool is_about_the_envelope(const char *text)
{
    static const char *const reasons[] = {"the envelope is not an object", "op is missing",
                                          "op is not an integer",          "t is not a string",
                                          "s is not an integer",           "o is not an object"};
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (strcmp(text, reasons[i]) == 0)
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesa_span text = {(const char *)data, size};
    struct mesa_json_error err = {0, NULL};
    struct mesa_envelope e;
    enum mesa_status rc = mesa_envelope_parse(text.p, text.len, DEPTH, &e, &err);
    if (rc == MESA_OK) {
        check_parsed(text, &e);
        check_round_trip(&e);
        return 0;
    }
    REQUIRE(rc == MESA_EPROTO || rc == MESA_EUTF8);
    REQUIRE(err.text != NULL && err.offset <= size);
    bool valid_json = mesa_json_check(text.p, text.len, DEPTH, NULL) == MESA_OK;
    REQUIRE(!valid_json || is_about_the_envelope(err.text));
    return 0;
}
