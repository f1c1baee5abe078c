/* redis_conn_dial.c - from a name to a connected link: looks the name up and tries each address. */
#include "broker/redis_conn_dial.h"

#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum { MAX_ADDRESSES = 16 };

/* Outlives an attempt that is cancelled while the resolver's thread is at work. */
struct lookup {
    uv_getaddrinfo_t request;
    struct mesa_redis_dial *dial; /* NULL: nobody waits any more */
};

struct mesa_redis_dial {
    struct mesa_loop *loop;
    const struct mesa_redis_options *options;
    struct mesa_redis_tls *tls;
    char *host, *path;
    uint16_t port;
    mesa_redis_dial_fn fn;
    void *ctx;

    struct lookup *lookup;
    struct mesa_timer timer; /* starts the attempt, then bounds the lookup */
    struct mesa_redis_address addresses[MAX_ADDRESSES];
    size_t count, next;
    struct mesa_redis_link *link;
    char address[160]; /* the one tried last */
    char reason[320];  /* why it failed */
};

static void drop(struct mesa_redis_dial *d)
{
    mesa_loop_cancel(d->loop, &d->timer);
    if (d->lookup != NULL) {
        d->lookup->dial = NULL;
        uv_cancel((uv_req_t *)&d->lookup->request);
    }
    mesa_redis_link_free(d->link);
    free(d->host);
    free(d->path);
    free(d);
}

static void finish(struct mesa_redis_dial *d, struct mesa_redis_link *link)
{
    mesa_redis_dial_fn fn = d->fn;
    void *ctx = d->ctx;
    char address[sizeof d->address], reason[sizeof d->reason];
    memcpy(address, d->address, sizeof address);
    memcpy(reason, d->reason, sizeof reason);
    drop(d);
    fn(ctx, link, address, reason);
}

static void name_address(struct mesa_redis_dial *d, const struct mesa_redis_address *a)
{
    char host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1], port[8];
    const struct sockaddr *sa = (const struct sockaddr *)&a->sa;
    if (sa->sa_family == AF_UNIX) {
        snprintf(d->address, sizeof d->address, "%s", d->path);
    } else if (getnameinfo(sa, a->len, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        snprintf(d->address, sizeof d->address, sa->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
                 host, port);
    }
}

static void try_next(struct mesa_redis_dial *d);

static void on_open(void *ctx)
{
    struct mesa_redis_dial *d = ctx;
    struct mesa_redis_link *link = d->link;
    d->link = NULL;
    mesa_redis_link_set_hooks(link, NULL, NULL);
    finish(d, link);
}

static void on_closed(void *ctx, const char *reason)
{
    struct mesa_redis_dial *d = ctx;
    snprintf(d->reason, sizeof d->reason, "%s: %s", d->address, reason);
    mesa_redis_link_free(d->link);
    d->link = NULL;
    try_next(d);
}

static void try_next(struct mesa_redis_dial *d)
{
    static const struct mesa_redis_link_hooks hooks = {.on_open = on_open, .on_closed = on_closed};
    struct mesa_redis_link_options options = {
        .redis = d->options,
        .tls = d->tls,
        .host = d->host != NULL ? d->host : "",
    };
    while (d->next < d->count) {
        const struct mesa_redis_address *a = &d->addresses[d->next++];
        char err[128];
        name_address(d, a);
        if (mesa_redis_link_open(&d->link, d->loop, a, &options, &hooks, d, err, sizeof err) ==
            MESA_OK)
            return;
        snprintf(d->reason, sizeof d->reason, "%s: %s", d->address, err);
    }
    finish(d, NULL);
}

static void add_address(struct mesa_redis_dial *d, const void *sa, size_t len)
{
    if (d->count == MAX_ADDRESSES)
        return;
    struct mesa_redis_address *a = &d->addresses[d->count++];
    memcpy(&a->sa, sa, len);
    a->len = (socklen_t)len;
}

static void on_lookup(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct lookup *lookup = request->data;
    struct mesa_redis_dial *d = lookup->dial;
    free(lookup);
    if (d != NULL) {
        d->lookup = NULL;
        mesa_loop_cancel(d->loop, &d->timer);
        if (status != 0)
            snprintf(d->reason, sizeof d->reason, "cannot look up %s: %s", d->host,
                     uv_strerror(status));
        for (const struct addrinfo *i = list; i != NULL; i = i->ai_next)
            add_address(d, i->ai_addr, i->ai_addrlen);
        try_next(d);
    }
    uv_freeaddrinfo(list);
}

static bool start_lookup(struct mesa_redis_dial *d)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char port[8];
    d->lookup = calloc(1, sizeof *d->lookup);
    if (d->lookup == NULL)
        return false;
    d->lookup->dial = d;
    d->lookup->request.data = d->lookup;
    snprintf(port, sizeof port, "%u", d->port);
    int rc = uv_getaddrinfo(mesa_loop_uv(d->loop), &d->lookup->request, on_lookup, d->host, port,
                            &hints);
    if (rc != 0) {
        snprintf(d->reason, sizeof d->reason, "cannot look up %s: %s", d->host, uv_strerror(rc));
        free(d->lookup);
        d->lookup = NULL;
    }
    return rc == 0;
}

static void start(struct mesa_redis_dial *d)
{
    struct sockaddr_in in4;
    struct sockaddr_in6 in6;
    if (d->path != NULL) {
        struct sockaddr_un un = {.sun_family = AF_UNIX};
        snprintf(un.sun_path, sizeof un.sun_path, "%s", d->path);
        add_address(d, &un, sizeof un);
    } else if (uv_ip4_addr(d->host, d->port, &in4) == 0) {
        add_address(d, &in4, sizeof in4);
    } else if (uv_ip6_addr(d->host, d->port, &in6) == 0) {
        add_address(d, &in6, sizeof in6);
    } else if (start_lookup(d)) {
        mesa_loop_arm(d->loop, &d->timer, d->options->connect_timeout_ms);
        return;
    }
    try_next(d);
}

static void on_timer(struct mesa_timer *timer)
{
    struct mesa_redis_dial *d = MESA_CONTAINER_OF(timer, struct mesa_redis_dial, timer);
    if (d->lookup == NULL) {
        start(d);
        return;
    }
    snprintf(d->reason, sizeof d->reason, "cannot look up %s within %u ms", d->host,
             d->options->connect_timeout_ms);
    finish(d, NULL);
}

struct mesa_redis_dial *mesa_redis_dial_start(struct mesa_loop *loop,
                                              const struct mesa_redis_options *options,
                                              struct mesa_redis_tls *tls,
                                              const struct mesa_redis_target *target,
                                              mesa_redis_dial_fn fn, void *ctx)
{
    struct mesa_redis_dial *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    mesa_timer_init(&d->timer, on_timer);
    d->loop = loop;
    d->options = options;
    d->tls = tls;
    d->port = target->port;
    d->fn = fn;
    d->ctx = ctx;
    snprintf(d->reason, sizeof d->reason, "out of memory");
    if (mesa_redis_options_set(&d->host, target->host) != MESA_OK ||
        mesa_redis_options_set(&d->path, target->path) != MESA_OK) {
        drop(d);
        return NULL;
    }
    mesa_loop_arm(loop, &d->timer, 0);
    return d;
}

void mesa_redis_dial_cancel(struct mesa_redis_dial *d)
{
    if (d != NULL)
        drop(d);
}
