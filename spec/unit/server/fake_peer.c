/* fake_peer.c - peers of the fake transport that connect: upgrades, and decisions about them. */
#include <stdlib.h>
#include <string.h>

#include "fake_internal.h"
#include "test.h"

static void agree_on_deflate(struct mesa_conn *c, const char *offer,
                             const struct mesa_deflate_options *options)
{
    struct mesa_deflate_streams **s = &fake_transport()->deflate;
    if (offer == NULL || options == NULL)
        return;
    CHECK(*s != NULL || mesa_deflate_streams_new(s) == MESA_OK);
    CHECK_EQ_INT(mesa_deflate_new(&c->deflate, *s, fake_span(offer), options), MESA_OK);
}

/* A request to be upgraded, and room for what it points to. */
struct asking {
    struct mesa_header headers[3];
    struct mesa_request req;
};

static void ask(struct asking *a, const struct fake_peer *peer)
{
    *a = (struct asking){
        .headers = {{fake_span("user-agent"), fake_span("fake")}},
        .req = {.method = fake_span("GET"),
                .path = fake_span(peer->path != NULL ? peer->path : "/"),
                .query = fake_span("a=1"),
                .ip = fake_span("192.0.2.1"),
                .protocol = fake_span(""),
                .headers = a->headers,
                .header_count = 1},
    };
    if (peer->origin != NULL)
        a->headers[a->req.header_count++] =
            (struct mesa_header){fake_span("origin"), fake_span(peer->origin)};
    if (peer->protocols != NULL)
        a->headers[a->req.header_count++] =
            (struct mesa_header){fake_span("sec-websocket-protocol"), fake_span(peer->protocols)};
}

static struct mesa_conn *let_in(struct mesa_listener *l, const struct mesa_request *req,
                                const char *extensions,
                                const struct mesa_deflate_options *compression)
{
    struct mesa_conn *c = calloc(1, sizeof *c);
    c->listener = l;
    mesa_list_append(&fake_transport()->conns, &c->link);
    agree_on_deflate(c, extensions, compression);
    c->user = l->hooks.on_open(l->ctx, c, req);
    return c;
}

struct mesa_handshake {
    struct mesa_listener *listener;
    struct fake_peer peer;
};

static struct mesa_handshake *deciding; /* the last one, until it was answered */
static bool left;                       /* its peer */
static struct mesa_conn *last_let_in;

static void wait_for_decision(struct mesa_listener *l, const struct fake_peer *peer,
                              const struct mesa_request *req)
{
    struct mesa_handshake *h = calloc(1, sizeof *h);
    *h = (struct mesa_handshake){.listener = l, .peer = *peer};
    deciding = h;
    left = false;
    last_let_in = NULL;
    l->hooks.on_handshake(l->ctx, h, req);
}

bool mesa_handshake_waits(const struct mesa_handshake *h)
{
    CHECK(h == deciding);
    return !left;
}

void mesa_handshake_answer(struct mesa_handshake *h, int status, struct mesa_span text)
{
    struct asking a;
    (void)text;
    CHECK(h == deciding);
    deciding = NULL;
    fake_last_status = status;
    ask(&a, &h->peer);
    if (status == 0 && !left)
        last_let_in = let_in(h->listener, &a.req, NULL, NULL);
    free(h);
}

bool fake_deciding(void)
{
    return deciding != NULL;
}

void fake_leave_undecided(void)
{
    left = true;
}

struct mesa_conn *fake_let_in(void)
{
    return last_let_in;
}

struct mesa_conn *fake_connect_as(const struct fake_peer *peer)
{
    struct mesa_listener *l = fake_listener(false);
    struct mesa_upgrade upgrade = {.protocol = fake_span("")};
    struct asking a;
    ask(&a, peer);
    fake_last_status = l->hooks.on_upgrade(l->ctx, &a.req, &upgrade);
    a.req.protocol = upgrade.protocol;
    if (fake_last_status != 0)
        return NULL;
    if (!upgrade.waits)
        return let_in(l, &a.req, peer->extensions, upgrade.compression);
    wait_for_decision(l, peer, &a.req);
    return NULL;
}

void fake_refuse(const char *code, const char *text)
{
    struct mesa_listener *l = fake_listener(false);
    l->hooks.on_refused(l->ctx, code, fake_span("192.0.2.1"), text);
}

struct mesa_conn *fake_connect(void)
{
    return fake_connect_as(&(struct fake_peer){.path = NULL});
}
