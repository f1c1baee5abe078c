/* lookup.c - see lookup.h. */
#include "io/lookup.h"

#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>

struct mesa_lookup {
    uv_getaddrinfo_t req;
    mesa_lookup_fn fn; /* NULL once cancelled */
    void *ctx;
};

static void note_address(struct mesa_addresses *found, const struct addrinfo *a)
{
    char *text = found->text[found->count];
    if (found->count < MESA_ADDRESSES_MAX &&
        getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof found->text[0], NULL, 0,
                    NI_NUMERICHOST) == 0)
        found->count++;
}

static void on_looked_up(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
    struct mesa_lookup *l = req->data;
    struct mesa_addresses found = {.count = 0};
    for (const struct addrinfo *a = status == 0 ? list : NULL; a != NULL; a = a->ai_next)
        note_address(&found, a);
    mesa_lookup_fn fn = l->fn;
    void *ctx = l->ctx;
    uv_freeaddrinfo(list);
    free(l);
    if (fn == NULL)
        return;
    if (found.count > 0)
        fn(ctx, &found, NULL);
    else
        fn(ctx, NULL, uv_strerror(status != 0 ? status : UV_EAI_NODATA));
}

enum mesa_status mesa_lookup_start(struct mesa_lookup **out, struct mesa_loop *loop,
                                   const char *host, mesa_lookup_fn fn, void *ctx)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct mesa_lookup *l = calloc(1, sizeof *l);
    if (l == NULL)
        return MESA_ENOMEM;
    l->fn = fn;
    l->ctx = ctx;
    l->req.data = l;
    if (uv_getaddrinfo(mesa_loop_uv(loop), &l->req, on_looked_up, host, NULL, &hints) != 0) {
        free(l);
        return MESA_EIO;
    }
    *out = l;
    return MESA_OK;
}

void mesa_lookup_cancel(struct mesa_lookup *l)
{
    if (l == NULL)
        return;
    l->fn = NULL;
    uv_cancel((uv_req_t *)&l->req); /* one that is under way ends by itself */
}
