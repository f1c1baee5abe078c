/* fuzz_cluster.c - what is read from the channels and the store of a cluster, against the general
 * JSON functions. */
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "core/cluster.h"
#include "fuzz.h"

enum { DEPTH = 16 };

static void check_ids(const struct mesa_cluster_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        REQUIRE(ids->at[i].p != NULL);
        REQUIRE(mesa_utf8_valid(ids->at[i].p, ids->at[i].len));
    }
}

static void check_raw(struct mesa_span text, const struct mesa_cluster_message *m)
{
    struct mesa_span raw, value;
    struct mesa_buf encoded;
    if (m->kind == MESA_CLUSTER_ENVELOPE) {
        REQUIRE(m->raw.len == 0);
        return;
    }
    REQUIRE(!m->sync && m->envelope.op == MESA_OP_INTERNAL);
    REQUIRE(mesa_json_find(text, "raw", &raw) && *raw.p == '"');
    if (m->kind == MESA_CLUSTER_TEXT) {
        const char *bytes = m->raw.len > 0 ? m->raw.data : "";
        REQUIRE(mesa_utf8_valid(bytes, m->raw.len));
        REQUIRE(mesa_json_string_is(raw, bytes, m->raw.len));
        return;
    }
    REQUIRE(mesa_json_find(text, "binary", &value) && *value.p == 't');
    mesa_buf_init(&encoded);
    if (mesa_base64_encode(&encoded, (struct mesa_span){m->raw.data, m->raw.len}) == MESA_OK)
        REQUIRE(mesa_json_string_is(raw, encoded.len > 0 ? encoded.data : "", encoded.len));
    mesa_buf_deinit(&encoded);
}

static void check_message(struct mesa_span text)
{
    struct mesa_cluster_message m;
    struct mesa_json_error err = {0, NULL};
    enum mesa_status rc = mesa_cluster_message_parse(text.p, text.len, DEPTH, &m, &err);
    if (rc != MESA_OK) {
        REQUIRE((rc == MESA_EPROTO || rc == MESA_EUTF8) && err.text != NULL);
        return;
    }
    struct mesa_span message, recipients;
    struct mesa_envelope e;
    if (m.mended.data != NULL) {
        REQUIRE(m.mended.len == text.len);
        REQUIRE(mesa_json_check(text.p, text.len, DEPTH, NULL) != MESA_OK);
        text.p = m.mended.data;
    }
    REQUIRE(mesa_json_check(text.p, text.len, DEPTH, NULL) == MESA_OK);
    REQUIRE(mesa_json_find(text, "message", &message));
    REQUIRE(mesa_json_find(text, "recipients", &recipients) && *recipients.p == '[');
    REQUIRE(mesa_envelope_parse(message.p, message.len, DEPTH, &e, NULL) == MESA_OK);
    REQUIRE(e.op == m.envelope.op && mesa_span_eq(e.d, m.envelope.d));
    check_ids(&m.recipients);
    check_ids(&m.excluding);
    check_raw(text, &m);
    mesa_cluster_message_deinit(&m);
}

static void check_update(struct mesa_span text)
{
    struct mesa_portal_update u;
    struct mesa_json_error err = {0, NULL};
    struct mesa_span id;
    if (mesa_portal_update_parse(text.p, text.len, DEPTH, &u, &err) != MESA_OK)
        return;
    REQUIRE(u.id.len > 0 && mesa_json_find(text, "id", &id));
    REQUIRE(mesa_json_string_is(id, u.id.data, u.id.len));
    mesa_portal_update_deinit(&u);
}

static void check_elements(struct mesa_span text)
{
    struct mesa_json_error err = {0, NULL};
    struct mesa_span *at;
    size_t count;
    if (mesa_cluster_elements(text.p, text.len, DEPTH, &at, &count, &err) != MESA_OK) {
        REQUIRE(err.text != NULL);
        return;
    }
    REQUIRE(mesa_json_check(text.p, text.len, DEPTH, NULL) == MESA_OK);
    for (size_t i = 0; i < count; i++)
        REQUIRE(mesa_json_check(at[i].p, at[i].len, DEPTH, NULL) == MESA_OK);
    free(at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesa_span text = {(const char *)data, size};
    check_message(text);
    check_update(text);
    check_elements(text);
    return 0;
}
