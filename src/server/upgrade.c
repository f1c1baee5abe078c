/* upgrade.c - upgrades that the owner of the hooks decides about, at once or later.
 *
 * Each is its owner's until it was decided, whatever becomes of the peer and of the server. A server that
 * closes or goes refuses those that wait.
 */
#include <stdlib.h>

#include "server/internal.h"

struct mesa_server_upgrade {
    struct mesa_list link;            /* server->upgrades */
    struct mesa_server *server;       /* NULL once refused because the server closes */
    struct mesa_handshake *handshake; /* NULL as well then */
};

static const struct mesa_span usual_text = {NULL, 0};

void mesa_server_begin_upgrade(void *ctx, struct mesa_handshake *h, const struct mesa_request *req)
{
    struct mesa_server *s = mesa_server_for(ctx, req->path);
    struct mesa_server_upgrade *u = malloc(sizeof *u);
    if (u == NULL) {
        mesa_handshake_answer(h, 503, usual_text);
        return;
    }
    *u = (struct mesa_server_upgrade){.server = s, .handshake = h};
    mesa_list_append(&s->upgrades, &u->link);
    mesa_server_enter_callback(s);
    s->hooks.on_upgrade(s->ctx, u, req);
    mesa_server_leave_callback(s);
}

static void leave(struct mesa_server_upgrade *u)
{
    mesa_list_remove(&u->link);
    u->server = NULL;
    u->handshake = NULL;
}

void mesa_server_refuse_upgrades(struct mesa_server *s)
{
    while (!mesa_list_empty(&s->upgrades)) {
        struct mesa_server_upgrade *u =
            MESA_CONTAINER_OF(s->upgrades.next, struct mesa_server_upgrade, link);
        struct mesa_handshake *h = u->handshake;
        leave(u);
        mesa_handshake_answer(h, 503, usual_text);
    }
}

enum mesa_status mesa_server_decide_upgrade(struct mesa_server_upgrade *u, int status,
                                            struct mesa_span text)
{
    struct mesa_server *s = u->server;
    struct mesa_handshake *h = u->handshake;
    bool waits = h != NULL && mesa_handshake_waits(h);
    if (h != NULL)
        leave(u);
    free(u);
    if (h == NULL)
        return MESA_ECLOSED;
    if (waits && status != 0)
        s->metrics.upgrades_refused++;
    mesa_server_enter(s);
    mesa_handshake_answer(h, status, text);
    mesa_server_leave(s);
    return waits ? MESA_OK : MESA_ECLOSED;
}
