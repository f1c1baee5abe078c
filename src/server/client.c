/* client.c - a client's memory, and what may be read from it also after it has left. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/internal.h"

/* -- making and freeing -- */

static enum mesa_status make_server_id(char out[MESA_SERVER_ID_LEN])
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char random[MESA_SERVER_ID_LEN];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        return MESA_EIO;
    for (size_t i = 0; i < sizeof random; i++)
        out[i] = alphabet[random[i] & 63];
    return MESA_OK;
}

static void free_client(struct mesa_client *c)
{
    mesa_outq_deinit(&c->outq);
    mesa_unread_free(c);
    if (c->stored != NULL) {
        mesa_outq_deinit(&c->stored[MESA_STORED_SENT]);
        mesa_outq_deinit(&c->stored[MESA_STORED_RECEIVED]);
        free(c->stored);
    }
    mesa_registry_entry_deinit(&c->entry);
    free(c->pending_close);
    free(c->packed_request);
    free(c->request);
    mesa_certificate_unref(c->certificate);
    free(c);
}

enum mesa_status mesa_client_new(struct mesa_client **out, struct mesa_server *s,
                                 struct mesa_conn *conn, const struct mesa_request *req)
{
    enum mesa_status rc = MESA_ENOMEM;
    struct mesa_client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return rc;
    c->refs = 1;
    c->server = s;
    c->conn = conn;
    mesa_registry_entry_init(&c->entry);
    mesa_list_init(&c->link);
    mesa_list_init(&c->confirming);
    mesa_outq_init(&c->outq);
    mesa_client_state_init(&c->state);
    c->packed_request = mesa_request_pack(req);
    if (c->packed_request == NULL)
        goto fail;
    c->certificate = mesa_certificate_ref(req->certificate);
    if (s->cfg.store_messages > 0) {
        c->stored = calloc(2, sizeof *c->stored);
        if (c->stored == NULL)
            goto fail;
        mesa_outq_init(&c->stored[MESA_STORED_SENT]);
        mesa_outq_init(&c->stored[MESA_STORED_RECEIVED]);
    }
    rc = make_server_id(c->server_id);
    if (rc != MESA_OK)
        goto fail;
    *out = c;
    return MESA_OK;

fail:
    free_client(c);
    return rc;
}

struct mesa_client *mesa_client_ref(struct mesa_client *c)
{
    c->refs++;
    return c;
}

void mesa_client_unref(struct mesa_client *c)
{
    if (c != NULL && --c->refs == 0)
        free_client(c);
}

/* -- options.storeMessages -- */

void mesa_client_store(struct mesa_client *c, enum mesa_stored which, struct mesa_frame *f)
{
    struct mesa_outq *q = &c->stored[which];
    const struct mesa_config *cfg = &c->server->cfg;
    while (mesa_outq_count(q) > 0 && (mesa_outq_count(q) >= cfg->store_messages ||
                                      mesa_outq_bytes(q) + f->len > cfg->limits.max_payload))
        mesa_outq_drop(q, 1);
    mesa_outq_push(q, f,
                   SIZE_MAX); /* without memory it is not kept: the message itself matters more */
}

bool mesa_client_stored(const struct mesa_client *c, enum mesa_stored which, size_t i,
                        struct mesa_span *json)
{
    if (c->stored == NULL || i >= mesa_outq_count(&c->stored[which]))
        return false;
    *json = mesa_frame_payload(mesa_outq_at(&c->stored[which], i));
    return true;
}

/* -- reading -- */

struct mesa_server *mesa_client_server(const struct mesa_client *c)
{
    return c->server;
}

bool mesa_client_closed(const struct mesa_client *c)
{
    return c->closed;
}

bool mesa_client_authenticated(const struct mesa_client *c)
{
    return c->state.authenticated;
}

bool mesa_client_must_authenticate(const struct mesa_client *c)
{
    return c->server != NULL && mesa_client_is_shut_out(c);
}

struct mesa_span mesa_client_id(const struct mesa_client *c)
{
    return mesa_registry_id(&c->entry);
}

struct mesa_span mesa_client_server_id(const struct mesa_client *c)
{
    return (struct mesa_span){c->server_id, MESA_SERVER_ID_LEN};
}

const struct mesa_request *mesa_client_request(struct mesa_client *c)
{
    if (c->request == NULL)
        c->request = mesa_request_unpack(c->packed_request);
    if (c->request != NULL) {
        c->request->certificate = c->certificate;
        free(c->packed_request);
        c->packed_request = NULL;
    }
    return c->request;
}

size_t mesa_client_buffered(const struct mesa_client *c)
{
    return mesa_outq_bytes(&c->outq) + mesa_client_unsettled_bytes(c);
}

void mesa_client_set_data(struct mesa_client *c, void *data)
{
    c->data = data;
}

void *mesa_client_data(const struct mesa_client *c)
{
    return c->data;
}
