/* cluster.c - see cluster.h. */
#include "core/cluster.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/base64.h"
#include "core/json_scan.h"

enum { MEMBERS_MAX = 8 };

/* A key that is looked for, and the last value seen under it. */
struct member {
    const char *key;
    struct mesa_span value;
};

static struct mesa_span *find_member(struct member *members, struct mesa_span key)
{
    for (size_t i = 0; i < MEMBERS_MAX && members[i].key != NULL; i++) {
        if (mesa_json_string_is(key, members[i].key, strlen(members[i].key)))
            return &members[i].value;
    }
    return NULL;
}

/* Validates an object from its brace on and collects the members asked for. */
static const char *scan_members(const char *p, const char *end, unsigned max_depth,
                                struct member *members, struct mesa_json_fault *f)
{
    if (max_depth == 0)
        return mesa_json_fail(f, p, "nesting too deep");
    p = mesa_json_space(p + 1, end);
    if (p < end && *p == '}')
        return p + 1;
    for (;;) {
        struct mesa_span key;
        bool escaped;
        p = mesa_json_scan_key(p, end, &key, &escaped, f);
        if (p == NULL)
            return NULL;
        const char *start = p;
        p = mesa_json_scan_any(p, end, max_depth - 1, f);
        if (p == NULL)
            return NULL;
        struct mesa_span *value = find_member(members, key);
        if (value != NULL)
            *value = (struct mesa_span){start, (size_t)(p - start)};

        p = mesa_json_space(p, end);
        if (p == end)
            return mesa_json_fail(f, p, "unexpected end");
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return mesa_json_fail(f, p, "expected ',' or '}'");
        p = mesa_json_space(p + 1, end);
    }
}

/* A whole text that must be one object. */
static enum mesa_status read_object(const char *text, size_t len, unsigned max_depth,
                                    struct member *members, struct mesa_json_error *err)
{
    struct mesa_json_fault f;
    const char *end = text + len, *p = mesa_json_space(text, end);
    if (p == end)
        p = mesa_json_fail(&f, p, "unexpected end");
    else if (*p != '{')
        p = mesa_json_fail(&f, p, "not an object");
    else
        p = scan_members(p, end, max_depth, members, &f);
    if (p != NULL && (p = mesa_json_space(p, end)) != end)
        p = mesa_json_fail(&f, p, "unexpected bytes after the value");
    return p != NULL ? MESA_OK : mesa_json_report(&f, text, err);
}

static enum mesa_status refuse(const char *text, struct mesa_json_error *err)
{
    *err = (struct mesa_json_error){.text = text};
    return MESA_EPROTO;
}

enum mesa_status mesa_cluster_elements(const char *text, size_t len, unsigned max_depth,
                                       struct mesa_span **out, size_t *count,
                                       struct mesa_json_error *err)
{
    enum mesa_status rc = mesa_json_check(len > 0 ? text : "", len, max_depth, err);
    if (rc != MESA_OK)
        return rc;
    const char *end = text + len, *p = mesa_json_space(text, end);
    if (*p != '[')
        return refuse("not an array", err);

    size_t n = 0, cap = 0;
    struct mesa_span *at = NULL;
    p = mesa_json_space(p + 1, end);
    while (*p != ']') {
        struct mesa_span value;
        rc = mesa_json_value(&p, end, max_depth, &value, err);
        if (rc == MESA_OK && n == cap) {
            cap = cap > 0 ? cap * 2 : 8;
            struct mesa_span *more = realloc(at, cap * sizeof *at);
            if (more != NULL)
                at = more;
            else
                rc = MESA_ENOMEM;
        }
        if (rc != MESA_OK) {
            free(at);
            return rc;
        }
        at[n++] = value;
        p = mesa_json_space(p, end);
        if (*p == ',')
            p = mesa_json_space(p + 1, end);
    }
    *out = at;
    *count = n;
    return MESA_OK;
}

/* -- ids -- */

static void ids_deinit(struct mesa_cluster_ids *ids)
{
    free(ids->at);
    mesa_buf_deinit(&ids->bytes);
}

static enum mesa_status append_id(struct mesa_cluster_ids *ids, struct mesa_span value,
                                  struct mesa_json_error *err)
{
    int64_t number;
    if (*value.p == '"')
        return mesa_json_unescape(value, &ids->bytes);
    if ((*value.p == '-' || (*value.p >= '0' && *value.p <= '9')) &&
        mesa_json_integer(value, &number))
        return mesa_buf_printf(&ids->bytes, "%" PRId64, number);
    return refuse("an id is neither a string nor an integer", err);
}

/* `at` are the values of the ids; they are replaced by their decoded text. */
static enum mesa_status decode_ids(struct mesa_cluster_ids *ids, size_t count,
                                   struct mesa_json_error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct mesa_span value = ids->at[i];
        size_t before = ids->bytes.len;
        if (*value.p == 'n')
            continue;
        enum mesa_status rc = append_id(ids, value, err);
        if (rc != MESA_OK)
            return rc;
        /* the bytes may still move: lengths now, places below */
        ids->at[ids->count++] = (struct mesa_span){NULL, ids->bytes.len - before};
    }
    const char *p = ids->bytes.data != NULL ? ids->bytes.data : "";
    for (size_t i = 0; i < ids->count; i++) {
        ids->at[i].p = p;
        p += ids->at[i].len;
    }
    return MESA_OK;
}

static enum mesa_status read_ids(struct mesa_span value, unsigned max_depth,
                                 struct mesa_cluster_ids *ids, struct mesa_json_error *err)
{
    size_t count;
    enum mesa_status rc =
        mesa_cluster_elements(value.p, value.len, max_depth, &ids->at, &count, err);
    return rc == MESA_OK ? decode_ids(ids, count, err) : rc;
}

/* -- messages -- */

static bool is_true(struct mesa_span value)
{
    return value.p != NULL && *value.p == 't';
}

static enum mesa_status decode_binary(struct mesa_span text, struct mesa_cluster_message *m,
                                      struct mesa_json_error *err)
{
    struct mesa_buf encoded;
    mesa_buf_init(&encoded);
    enum mesa_status rc = mesa_json_unescape(text, &encoded);
    if (rc == MESA_OK)
        rc = mesa_base64_decode(&m->raw, (struct mesa_span){encoded.data, encoded.len});
    mesa_buf_deinit(&encoded);
    return rc == MESA_EPROTO ? refuse("raw is not base64", err) : rc;
}

static enum mesa_status read_raw(struct mesa_span raw, struct mesa_span binary,
                                 struct mesa_cluster_message *m, struct mesa_json_error *err)
{
    if (*raw.p != '"')
        return refuse("raw is not a string", err);
    if (binary.p != NULL && *binary.p != 't' && *binary.p != 'f')
        return refuse("binary is not true or false", err);
    if (m->envelope.op != MESA_OP_INTERNAL || !mesa_envelope_type_is(&m->envelope, "RAW"))
        return refuse("raw without the envelope of a raw message", err);
    m->kind = is_true(binary) ? MESA_CLUSTER_BINARY : MESA_CLUSTER_TEXT;
    return is_true(binary) ? decode_binary(raw, m, err) : mesa_json_unescape(raw, &m->raw);
}

static uint64_t read_number(struct mesa_span value)
{
    int64_t number;
    bool is_number = value.p != NULL && *value.p >= '0' && *value.p <= '9';
    return is_number && mesa_json_integer(value, &number) ? (uint64_t)number : 0;
}

static enum mesa_status interpret(const struct member *members, unsigned max_depth,
                                  struct mesa_cluster_message *m, struct mesa_json_error *err)
{
    struct mesa_span message = members[0].value, recipients = members[1].value,
                     excluding = members[2].value;
    if (message.p == NULL)
        return refuse("message is missing", err);
    if (recipients.p == NULL || *recipients.p != '[')
        return refuse("recipients is not an array", err);
    if (excluding.p != NULL && *excluding.p != '[' && *excluding.p != 'n')
        return refuse("excluding is not an array", err);

    enum mesa_status rc = mesa_envelope_parse(message.p, message.len, max_depth, &m->envelope, err);
    if (rc == MESA_OK)
        rc = read_ids(recipients, max_depth, &m->recipients, err);
    if (rc == MESA_OK && excluding.p != NULL && *excluding.p == '[')
        rc = read_ids(excluding, max_depth, &m->excluding, err);
    if (rc == MESA_OK && members[6].value.p != NULL)
        rc = read_raw(members[6].value, members[7].value, m, err);
    m->sync = m->kind == MESA_CLUSTER_ENVELOPE &&
              (is_true(members[3].value) || (members[4].value.p == NULL && !m->envelope.no_sync));
    m->number = read_number(members[5].value);
    for (size_t i = 0; rc == MESA_OK && i < m->recipients.count; i++) {
        if (mesa_span_eq(m->recipients.at[i], MESA_SPAN("*")))
            m->everybody = true;
    }
    return rc;
}

static enum mesa_status parse_message(const char *text, size_t len, unsigned max_depth,
                                      struct mesa_cluster_message *out, struct mesa_json_error *err)
{
    struct member members[MEMBERS_MAX] = {
        {.key = "message"}, {.key = "recipients"}, {.key = "excluding"}, {.key = "sync"},
        {.key = "origin"},  {.key = "number"},     {.key = "raw"},       {.key = "binary"}};
    enum mesa_status rc = read_object(len > 0 ? text : "", len, max_depth, members, err);
    if (rc != MESA_OK)
        return rc;
    struct mesa_cluster_message m = {0};
    rc = interpret(members, max_depth, &m, err);
    if (rc == MESA_OK)
        *out = m;
    else
        mesa_cluster_message_deinit(&m);
    return rc;
}

enum mesa_status mesa_cluster_message_parse(const char *text, size_t len, unsigned max_depth,
                                            struct mesa_cluster_message *out,
                                            struct mesa_json_error *err)
{
    struct mesa_buf mended;
    enum mesa_status rc = parse_message(text, len, max_depth, out, err);
    if (rc == MESA_OK)
        return rc;
    mesa_buf_init(&mended);
    if (mesa_buf_append(&mended, text, len) == MESA_OK &&
        mesa_json_mend(mended.data, mended.len) > 0)
        rc = parse_message(mended.data, mended.len, max_depth, out, err);
    if (rc == MESA_OK)
        out->mended = mended;
    else
        mesa_buf_deinit(&mended);
    return rc;
}

void mesa_cluster_message_deinit(struct mesa_cluster_message *m)
{
    mesa_buf_deinit(&m->mended);
    ids_deinit(&m->recipients);
    ids_deinit(&m->excluding);
    mesa_buf_deinit(&m->raw);
}

/* -- portals -- */

enum mesa_status mesa_portal_update_parse(const char *text, size_t len, unsigned max_depth,
                                          struct mesa_portal_update *out,
                                          struct mesa_json_error *err)
{
    struct member members[MEMBERS_MAX] = {{.key = "id"}, {.key = "ready"}};
    enum mesa_status rc = read_object(len > 0 ? text : "", len, max_depth, members, err);
    if (rc != MESA_OK)
        return rc;
    struct mesa_span id = members[0].value, ready = members[1].value;
    if (id.p == NULL || *id.p != '"' || id.len == 2)
        return refuse("id is not a string", err);
    if (ready.p == NULL || (*ready.p != 't' && *ready.p != 'f'))
        return refuse("ready is not true or false", err);

    struct mesa_portal_update u = {.ready = *ready.p == 't'};
    mesa_buf_init(&u.id);
    rc = mesa_json_unescape(id, &u.id);
    if (rc == MESA_OK)
        *out = u;
    else
        mesa_buf_deinit(&u.id);
    return rc;
}

void mesa_portal_update_deinit(struct mesa_portal_update *u)
{
    mesa_buf_deinit(&u->id);
}
