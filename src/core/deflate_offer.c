/* deflate_offer.c - see deflate_offer.h. */
#include "core/deflate_offer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

struct cursor {
    const char *p, *end;
};

/* A parameter, its value without quotes and backslashes. Longer values are cut: no valid one is. */
struct parameter {
    struct mesa_span name;
    bool has_value;
    char value[3];
    size_t value_len; /* of the whole value */
};

/* One offer of permessage-deflate. */
struct offer {
    bool valid;
    bool server_no_takeover, client_no_takeover;
    uint8_t server_bits; /* 0: not offered */
    uint8_t client_bits; /* 0: not offered; without a value: the largest */
};

/* -- the grammar -- */

static bool is_token_char(char c)
{
    return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?={}", c) == NULL;
}

static void skip_space(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\t'))
        c->p++;
}

/* Whether `wanted` comes next, which is taken then, with the space around it. */
static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->p == c->end || *c->p != wanted)
        return false;
    c->p++;
    skip_space(c);
    return true;
}

static bool take_token(struct cursor *c, struct mesa_span *out)
{
    out->p = c->p;
    while (c->p < c->end && is_token_char(*c->p))
        c->p++;
    out->len = (size_t)(c->p - out->p);
    return out->len > 0;
}

static void add_to_value(struct parameter *p, char c)
{
    if (p->value_len < sizeof p->value)
        p->value[p->value_len] = c;
    p->value_len++;
}

/* What is between the quotes must be a token, too. */
static bool take_quoted(struct cursor *c, struct parameter *out)
{
    while (c->p < c->end && *c->p != '"') {
        if (*c->p == '\\' && ++c->p == c->end)
            return false;
        if (!is_token_char(*c->p))
            return false;
        add_to_value(out, *c->p++);
    }
    if (c->p == c->end)
        return false;
    c->p++;
    return out->value_len > 0;
}

static bool take_parameter(struct cursor *c, struct parameter *out)
{
    struct mesa_span token;
    *out = (struct parameter){.has_value = false};
    if (!take_token(c, &out->name))
        return false;
    if (!take(c, '='))
        return true;
    out->has_value = true;
    if (c->p < c->end && *c->p == '"') {
        c->p++;
        return take_quoted(c, out);
    }
    if (!take_token(c, &token))
        return false;
    for (size_t i = 0; i < token.len; i++)
        add_to_value(out, token.p[i]);
    return true;
}

/* -- what an offer means -- */

static bool is_called(struct mesa_span name, const char *wanted)
{
    return name.len == strlen(wanted) && strncasecmp(name.p, wanted, name.len) == 0;
}

/* A number from 8 to 15 without leading zeroes; 0: it is none. */
static uint8_t window_bits(const struct parameter *p)
{
    unsigned n = 0;
    if (p->value_len == 1)
        n = (unsigned char)p->value[0] - '0';
    else if (p->value_len == 2 && p->value[0] == '1')
        n = 10 + (unsigned char)p->value[1] - '0';
    return n >= MESA_DEFLATE_BITS_MIN && n <= MESA_DEFLATE_BITS_MAX ? (uint8_t)n : 0;
}

static bool take_flag(const struct parameter *p, bool *flag)
{
    bool first = !*flag;
    *flag = true;
    return first && !p->has_value;
}

static bool take_bits(const struct parameter *p, uint8_t *bits, bool value_needed)
{
    bool first = *bits == 0;
    *bits = p->has_value || value_needed ? window_bits(p) : MESA_DEFLATE_BITS_MAX;
    return first && *bits != 0;
}

static bool apply(struct offer *o, const struct parameter *p)
{
    if (is_called(p->name, "server_no_context_takeover"))
        return take_flag(p, &o->server_no_takeover);
    if (is_called(p->name, "client_no_context_takeover"))
        return take_flag(p, &o->client_no_takeover);
    if (is_called(p->name, "server_max_window_bits"))
        return take_bits(p, &o->server_bits, true);
    if (is_called(p->name, "client_max_window_bits"))
        return take_bits(p, &o->client_bits, false);
    return false;
}

static uint8_t smaller(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* A window that is not kept costs a connection nothing: it is as large as the client allows. */
static void accept(const struct offer *o, const struct mesa_deflate_wish *wish,
                   struct mesa_deflate_terms *out)
{
    struct mesa_deflate_way *server = &out->out, *client = &out->in;
    server->takeover = wish->takeover && !o->server_no_takeover;
    client->takeover = wish->takeover && !o->client_no_takeover;
    server->announce = o->server_bits != 0;
    server->bits = server->announce ? o->server_bits : MESA_DEFLATE_BITS_MAX;
    if (server->takeover)
        server->bits = smaller(server->bits, wish->takeover_bits);

    client->bits = o->client_bits != 0 ? o->client_bits : MESA_DEFLATE_BITS_MAX;
    /* only who offers the parameter may be told to use less */
    client->announce = client->takeover && o->client_bits != 0;
    if (client->announce)
        client->bits = smaller(client->bits, wish->takeover_bits);
}

/* Reads one extension and its parameters; only one of permessage-deflate can be valid. */
static bool take_offer(struct cursor *c, struct offer *out)
{
    struct mesa_span name;
    struct parameter p;
    if (!take_token(c, &name))
        return false;
    *out = (struct offer){.valid = is_called(name, "permessage-deflate")};
    while (take(c, ';')) {
        if (!take_parameter(c, &p))
            return false;
        out->valid = apply(out, &p) && out->valid;
    }
    skip_space(c);
    return c->p == c->end || *c->p == ',';
}

enum mesa_status mesa_deflate_negotiate(struct mesa_span header,
                                        const struct mesa_deflate_wish *wish,
                                        struct mesa_deflate_terms *out)
{
    struct cursor c = {header.p, header.p + header.len};
    struct offer offer;
    bool found = false;
    if (header.len == 0)
        return MESA_ENOTFOUND;
    for (;;) {
        skip_space(&c);
        while (take(&c, ','))
            ; /* empty members mean nothing */
        if (c.p == c.end)
            return found ? MESA_OK : MESA_ENOTFOUND;
        if (!take_offer(&c, &offer))
            return MESA_EPROTO;
        if (offer.valid && !found) {
            accept(&offer, wish, out);
            found = true;
        }
    }
}

/* -- the answer -- */

size_t mesa_deflate_answer(const struct mesa_deflate_terms *t, char out[MESA_DEFLATE_ANSWER_MAX])
{
    char server_bits[32] = "", client_bits[32] = "";
    if (t->out.announce)
        snprintf(server_bits, sizeof server_bits, "; server_max_window_bits=%u", t->out.bits);
    if (t->in.announce)
        snprintf(client_bits, sizeof client_bits, "; client_max_window_bits=%u", t->in.bits);
    int n =
        snprintf(out, MESA_DEFLATE_ANSWER_MAX, "permessage-deflate%s%s%s%s",
                 t->out.takeover ? "" : "; server_no_context_takeover",
                 t->in.takeover ? "" : "; client_no_context_takeover", server_bits, client_bits);
    return (size_t)n;
}
