/* broadcast.c - messages to everybody, which wait until the end of the turn.
 *
 * Each client is then visited once for all of them, while its memory is at hand, and written to at once. Whatever else happens to a client
 * before that comes behind: it is given them first (mesa_client_settle). Frames and clients are counted by the same numbers: a client has
 * had the first `broadcasts` of those there ever were.
 */
#include <string.h>

#include "base/inline.h"
#include "server/internal.h"

static bool wants(const struct mesa_client *c)
{
    return !c->closed && !mesa_client_is_shut_out(c);
}

/* The next frame the client is to be given. */
static struct mesa_frame *next_frame(const struct mesa_client *c, const struct mesa_broadcasts *b)
{
    return b->frames[b->count - (b->total - c->broadcasts)];
}

/* With whatever may come of it: the client is closed, a hook sends more. */
static MESA_NOINLINE void settle_slowly(struct mesa_client *c)
{
    struct mesa_broadcasts *b = &c->server->broadcasts;
    mesa_client_ref(c);
    while (c->broadcasts < b->total) {
        struct mesa_frame *f = next_frame(c, b);
        c->broadcasts++;
        if (wants(c))
            (void)mesa_client_queue(c, f);
    }
    mesa_client_unref(c);
}

void mesa_client_settle(struct mesa_client *c)
{
    struct mesa_server *s = c->server;
    if (s == NULL || c->broadcasts == s->broadcasts.total)
        return;
    if (wants(c)) {
        while (mesa_client_queue_quickly(c, next_frame(c, &s->broadcasts))) {
            if (++c->broadcasts == s->broadcasts.total)
                return;
        }
    }
    settle_slowly(c);
}

size_t mesa_client_unsettled_bytes(const struct mesa_client *c)
{
    const struct mesa_server *s = c->server;
    size_t bytes = 0;
    if (s == NULL || !wants(c))
        return 0;
    for (uint64_t behind = s->broadcasts.total - c->broadcasts; behind > 0; behind--)
        bytes += s->broadcasts.frames[s->broadcasts.count - behind]->len;
    return bytes;
}

void mesa_server_broadcast_flush(struct mesa_server *s)
{
    struct mesa_broadcasts *b = &s->broadcasts;
    struct mesa_client *c = NULL;
    uint32_t done = b->count;
    if (done == 0 || b->flushing)
        return;
    b->flushing = true; /* hooks may add more, which stay for the next time */
    while ((c = mesa_server_next(s, c)) != NULL) {
        mesa_client_settle(c);
        if (!c->closed && !c->backed_up && !mesa_list_empty(&c->link))
            mesa_client_flush(c);
    }
    for (uint32_t i = 0; i < done; i++)
        mesa_frame_unref(b->frames[i]);
    b->count -= done;
    memmove(b->frames, b->frames + done, b->count * sizeof *b->frames);
    b->flushing = false;
}

bool mesa_server_broadcast(struct mesa_server *s, struct mesa_frame *f)
{
    struct mesa_broadcasts *b = &s->broadcasts;
    /* With sync the place of each frame in a client's queue is known when it is queued, and what is stored is there at once. */
    if (s->cfg.sync.enabled || s->cfg.store_messages > 0 || s->closing ||
        f->len > MESA_BROADCAST_BYTES)
        return false;
    if (b->count == MESA_BROADCASTS)
        mesa_server_broadcast_flush(s);
    if (b->count == MESA_BROADCASTS)
        return false;
    b->frames[b->count++] = mesa_frame_ref(f);
    b->total++;
    return true;
}

void mesa_broadcasts_deinit(struct mesa_broadcasts *b)
{
    while (b->count > 0)
        mesa_frame_unref(b->frames[--b->count]);
}
