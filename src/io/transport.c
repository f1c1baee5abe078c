/* transport.c - what all listeners and connections share, and what happens at the end of a turn. */
#include "io/transport.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include "base/log.h"
#include "io/client_tls.h"
#include "io/outconn.h"
#include "io/transport_internal.h"

static void on_turn(struct mesa_turn *turn)
{
    struct mesa_transport *t = MESA_CONTAINER_OF(turn, struct mesa_transport, turn);
    /* what is marked by this waits for the next turn, in which the layers above come first again */
    struct mesa_list due;
    mesa_list_init(&due);
    mesa_list_splice(&due, &t->work);
    while (!mesa_list_empty(&due)) {
        struct mesa_conn *c = MESA_CONTAINER_OF(due.next, struct mesa_conn, work);
        mesa_list_remove(&c->work);
        mesa_conn_turn(c);
    }
    mesa_outconn_turn(t);
    if (mesa_list_empty(&t->work) && mesa_timer_armed(&t->wake))
        mesa_loop_cancel(t->loop, &t->wake);
}

/* The turn that this begins has an end, too. */
static void on_wake(struct mesa_timer *timer)
{
    (void)timer;
}

enum mesa_status mesa_transport_new(struct mesa_transport **out, struct mesa_loop *loop)
{
    struct mesa_transport *t = calloc(1, sizeof *t);
    if (t == NULL)
        return MESA_ENOMEM;
    t->loop = loop;
    mesa_list_init(&t->listeners);
    mesa_list_init(&t->orphans);
    mesa_list_init(&t->work);
    mesa_list_init(&t->lingering);
    mesa_list_init(&t->outgoing);
    mesa_list_init(&t->released);
    mesa_list_init(&t->unsent);
    mesa_list_init(&t->authorities);
    mesa_list_init(&t->turn.link);
    t->turn.fn = on_turn;
    mesa_timer_init(&t->wake, on_wake);

    t->hash = EVP_MD_CTX_new();
    enum mesa_status rc = MESA_ENOMEM;
    if (t->hash == NULL || EVP_DigestInit_ex(t->hash, EVP_sha1(), NULL) != 1)
        goto fail;
    rc = mesa_poller_open(t);
    if (rc != MESA_OK) {
        mesa_log(MESA_LOG_ERROR, "io", "no epoll set can be had");
        goto fail;
    }
    mesa_loop_add_turn(loop, &t->turn);
    *out = t;
    return MESA_OK;

fail:
    mesa_transport_free(t);
    return rc;
}

void mesa_transport_free(struct mesa_transport *t)
{
    if (t == NULL)
        return;
    while (!mesa_list_empty(&t->listeners))
        mesa_listener_free(MESA_CONTAINER_OF(t->listeners.next, struct mesa_listener, link));
    while (!mesa_list_empty(&t->orphans))
        mesa_conn_end(MESA_CONTAINER_OF(t->orphans.next, struct mesa_conn, link));
    while (!mesa_list_empty(&t->lingering))
        mesa_linger_end(MESA_CONTAINER_OF(t->lingering.next, struct mesa_conn, link));
    mesa_poller_close(t);
    mesa_loop_remove_turn(&t->turn);
    mesa_client_context_free(t);
    mesa_loop_cancel(t->loop, &t->wake);
    mesa_outconn_free_all(t);
    mesa_client_tls_clear(&t->authorities);
    mesa_capture_deinit(&t->upgrade);
    mesa_buf_deinit(&t->spare);
    mesa_buf_deinit(&t->inflated);
    mesa_deflate_streams_free(t->deflate);
    EVP_MD_CTX_free(t->hash);
    free(t);
}
