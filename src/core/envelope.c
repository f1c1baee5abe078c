/* envelope.c - parsing; see envelope.h. */
#include "core/envelope.h"

#include "base/uninit.h"
#include "core/json_scan.h"
#include "core/json_walk.h"

/* The last value seen under each key, of whatever type until interpret() has judged them. */
struct members {
    struct mesa_span op;
    struct mesa_envelope e; /* all but its op and no_sync */
};

/* By members, because of the whole struct compilers make a loop. */
static inline void clear(struct members *m)
{
    const struct mesa_span absent = {NULL, 0};
    m->op = m->e.d = m->e.t = m->e.s = m->e.o = absent;
    m->e.d_place.generation = 0;
    m->e.d_place.entry = 0;
    m->e.t_escaped = m->e.no_sync = false;
}

static struct mesa_span *escaped_member(struct members *m, struct mesa_span key)
{
    if (mesa_json_string_is(key, "op", 2))
        return &m->op;
    if (mesa_json_string_is(key, "d", 1))
        return &m->e.d;
    if (mesa_json_string_is(key, "t", 1))
        return &m->e.t;
    if (mesa_json_string_is(key, "s", 1))
        return &m->e.s;
    if (mesa_json_string_is(key, "o", 1))
        return &m->e.o;
    return NULL;
}

/* Where the value of `key` (with its quotes) goes; NULL for a key the envelope does not know. */
static inline struct mesa_span *member_of(struct members *m, struct mesa_span key, bool escaped)
{
    if (escaped)
        return escaped_member(m, key);
    if (key.len == 4)
        return key.p[1] == 'o' && key.p[2] == 'p' ? &m->op : NULL;
    if (key.len != 3)
        return NULL;
    switch (key.p[1]) {
    case 'd':
        return &m->e.d;
    case 't':
        return &m->e.t;
    case 's':
        return &m->e.s;
    case 'o':
        return &m->e.o;
    default:
        return NULL;
    }
}

/* Validates one object from its brace on and collects the envelope's members. */
static const char *scan_members(const char *p, const char *end, unsigned max_depth,
                                struct members *m, struct mesa_json_fault *f)
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
        struct mesa_span *member = member_of(m, key, escaped);

        const char *start = p;
        escaped = false;
        if (p < end && *p == '"')
            p = mesa_json_scan_string(p, end, &escaped, f);
        else if (end - p > 1 && *p >= '0' && *p <= '9' && (p[1] == ',' || p[1] == '}'))
            p++; /* almost every op */
        else
            p = mesa_json_scan_any(p, end, max_depth - 1, f);
        if (p == NULL)
            return NULL;
        if (member != NULL)
            *member = (struct mesa_span){start, (size_t)(p - start)};
        if (member == &m->e.t)
            m->e.t_escaped = escaped;

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

static bool is_number(struct mesa_span v)
{
    return *v.p == '-' || (*v.p >= '0' && *v.p <= '9');
}

/* One or two digits, which is almost every op; its value in *op. */
static inline bool is_small_op(struct mesa_span v, int64_t *op)
{
    unsigned first = (unsigned)(v.p[0] - '0'), last = (unsigned)(v.p[v.len - 1] - '0');
    if (v.len > 2 || first > 9 || last > 9)
        return false;
    *op = v.len == 1 ? first : first * 10 + last;
    return true;
}

/* A null member becomes the absent span. Whether there is a value to judge. */
static bool is_present(struct mesa_span *v)
{
    if (v->p != NULL && *v->p == 'n')
        *v = (struct mesa_span){NULL, 0};
    return v->p != NULL;
}

/* Gives the members their meaning, the text being valid JSON by now. NULL: *f says what is
 * wrong. */
static const char *interpret(struct members *m, const char *end, struct mesa_json_fault *f)
{
    struct mesa_envelope *e = &m->e;
    int64_t sequence;
    if (m->op.p == NULL)
        return mesa_json_fail(f, end, "op is missing");
    if (!is_small_op(m->op, &e->op) && (!is_number(m->op) || !mesa_json_integer(m->op, &e->op)))
        return mesa_json_fail(f, m->op.p, "op is not an integer");

    if (is_present(&e->t) && *e->t.p != '"')
        return mesa_json_fail(f, e->t.p, "t is not a string");
    if (is_present(&e->s) && (!is_number(e->s) || !mesa_json_integer(e->s, &sequence)))
        return mesa_json_fail(f, e->s.p, "s is not an integer");
    if (is_present(&e->o)) {
        struct mesa_span sync;
        if (*e->o.p != '{')
            return mesa_json_fail(f, e->o.p, "o is not an object");
        e->no_sync = mesa_json_find(e->o, "sync", &sync) && *sync.p == 'f';
    }
    return end;
}

static void on_member(void *ctx, const struct mesa_json_member *found)
{
    struct members *m = ctx;
    bool escaped = mesa_json_index.escapes && memchr(found->key.p, '\\', found->key.len) != NULL;
    struct mesa_span *member = member_of(m, found->key, escaped);
    if (member == NULL)
        return;
    *member = found->value;
    if (member == &m->e.d)
        m->e.d_place = (struct mesa_json_place){mesa_json_index.generation,
                                                (uint16_t)(found->entry - mesa_json_index.entries)};
}

/* Validates the whole text and collects the members by the positions of its index; false for
 * whatever is not certainly JSON. */
static inline bool walk_members(const char *text, size_t len, unsigned max_depth, struct members *m)
{
    struct mesa_json_index *x = &mesa_json_index;
    if (max_depth > MESA_JSON_DEPTH_MAX || !mesa_json_index_build(x, text, len) ||
        !mesa_json_walk_text(x, text, len, max_depth, on_member, m))
        return false;
    if (x->escapes && m->e.t.p != NULL)
        m->e.t_escaped = memchr(m->e.t.p, '\\', m->e.t.len) != NULL;
    return true;
}

/* The same for any text, a byte at a time; NULL: *f says what is wrong. */
static const char *scan_text(const char *text, const char *end, unsigned max_depth,
                             struct members *m, struct mesa_json_fault *f)
{
    const char *p = mesa_json_space(text, end);
    if (p == end)
        return mesa_json_fail(f, p, "unexpected end");
    if (*p != '{')
        return mesa_json_fail(f, p, "the envelope is not an object");
    p = scan_members(p, end, max_depth, m, f);
    if (p == NULL)
        return NULL;
    p = mesa_json_space(p, end);
    return p == end ? p : mesa_json_fail(f, p, "unexpected bytes after the value");
}

enum mesa_status mesa_envelope_parse(const char *text, size_t len, unsigned max_depth,
                                     struct mesa_envelope *out, struct mesa_json_error *err)
{
    if (len == 0)
        text = ""; /* NULL is fine for no bytes, but not for pointer arithmetic */
    MESA_UNINIT struct mesa_json_fault f;
    MESA_UNINIT struct members m;
    const char *end = text + len, *p = end;
    clear(&m);
    bool indexed = len >= MESA_JSON_INDEX_FROM_BYTES;
    if (!indexed || !walk_members(text, len, max_depth, &m)) {
        if (indexed)
            clear(&m);
        p = scan_text(text, end, max_depth, &m, &f);
    }
    if (p != NULL)
        p = interpret(&m, end, &f);
    if (p == NULL)
        return mesa_json_report(&f, text, err);
    *out = m.e;
    return MESA_OK;
}

enum mesa_status mesa_envelope_mend(enum mesa_status rc, struct mesa_span *text, unsigned max_depth,
                                    struct mesa_envelope *out, struct mesa_buf *mended,
                                    struct mesa_json_error *err)
{
    if (mesa_buf_append(mended, text->p, text->len) != MESA_OK ||
        mesa_json_mend(mended->data, mended->len) == 0)
        return rc;
    *text = (struct mesa_span){mended->data, mended->len};
    return mesa_envelope_parse(text->p, text->len, max_depth, out, err);
}

enum mesa_status mesa_envelope_receive(struct mesa_span *text, unsigned max_depth,
                                       struct mesa_envelope *out, struct mesa_buf *mended,
                                       struct mesa_json_error *err)
{
    enum mesa_status rc = mesa_envelope_parse(text->p, text->len, max_depth, out, err);
    return rc == MESA_OK ? rc : mesa_envelope_mend(rc, text, max_depth, out, mended, err);
}

bool mesa_envelope_type_is(const struct mesa_envelope *e, const char *type)
{
    if (e->t.p == NULL)
        return false;
    size_t len = strlen(type);
    if (e->t_escaped)
        return mesa_json_string_is(e->t, type, len);
    return e->t.len == len + 2 && memcmp(e->t.p + 1, type, len) == 0;
}
