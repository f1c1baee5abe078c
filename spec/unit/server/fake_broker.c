/* fake_broker.c - see fake_broker.h. */
#include "fake_broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "test.h"

enum { USERS_MAX = 16 };

struct fake_cluster fake_cluster;

struct take {
    struct mesa_list link;
    mesa_backlog_wanted_fn wanted;
    mesa_backlog_fn fn;
    void *ctx;
    bool drop;
};

struct fake {
    struct mesa_broker base;
    struct mesa_list takes;
    char users[USERS_MAX][MESA_ID_MAX + 1]; /* "": free */
    int64_t connections;
    uint64_t number;
};

static struct fake *self(void)
{
    return MESA_CONTAINER_OF(fake_cluster.broker, struct fake, base);
}

static char *find(struct mesa_span id)
{
    for (size_t i = 0; i < USERS_MAX; i++) {
        char *user = self()->users[i];
        if (user[0] != '\0' && strlen(user) == id.len && memcmp(user, id.p, id.len) == 0)
            return user;
    }
    return NULL;
}

static void note(const char *what, struct mesa_span id)
{
    size_t at = strlen(fake_cluster.log);
    snprintf(fake_cluster.log + at, sizeof fake_cluster.log - at, "%s %.*s\n", what, (int)id.len,
             id.p);
}

static void call_inside(void)
{
    if (fake_cluster.inside != NULL)
        fake_cluster.inside();
}

/* -- operations -- */

static void fake_free(struct mesa_broker *b)
{
    struct fake *f = MESA_CONTAINER_OF(b, struct fake, base);
    while (!mesa_list_empty(&f->takes)) {
        struct take *t = MESA_CONTAINER_OF(f->takes.next, struct take, link);
        mesa_list_remove(&t->link);
        t->fn(t->ctx, MESA_ECLOSED, NULL);
        free(t);
    }
    CHECK_EQ_INT(f->connections, 0);
    fake_cluster.broker = NULL;
    free(f);
}

static void fake_close(struct mesa_broker *b, mesa_broker_closed_fn fn, void *ctx)
{
    (void)b;
    fn(ctx);
}

static void fake_connected(struct mesa_broker *b)
{
    MESA_CONTAINER_OF(b, struct fake, base)->connections++;
}

static void fake_disconnected(struct mesa_broker *b)
{
    MESA_CONTAINER_OF(b, struct fake, base)->connections--;
    call_inside();
}

static void fake_online(struct mesa_broker *b, struct mesa_span id)
{
    struct fake *f = MESA_CONTAINER_OF(b, struct fake, base);
    for (size_t i = 0; i < USERS_MAX && find(id) == NULL; i++) {
        if (f->users[i][0] == '\0')
            snprintf(f->users[i], sizeof f->users[i], "%.*s", (int)id.len, id.p);
    }
    note("online", id);
    call_inside();
}

/* Reads every byte, so that a sanitizer can tell whether they are there. */
static void look_at(const struct mesa_backlog *unread)
{
    char copy[4096];
    for (size_t i = 0; i < unread->count; i++) {
        struct mesa_span json = unread->json[i];
        snprintf(copy, sizeof copy, "%.*s", (int)json.len, json.p);
    }
    fake_cluster.unread += unread->count;
}

static void fake_offline(struct mesa_broker *b, struct mesa_span id,
                         const struct mesa_backlog *unread)
{
    (void)b;
    char *user = find(id);
    note("offline", id);
    if (user != NULL)
        user[0] = '\0';
    look_at(unread);
    call_inside();
}

static enum mesa_status fake_send(struct mesa_broker *b, const struct mesa_publication *p)
{
    (void)b;
    for (size_t i = 0; i < p->id_count; i++)
        (void)find(p->ids[i]);
    enum mesa_status rc = fake_cluster.send_rc;
    call_inside();
    return rc;
}

static void fake_take(struct mesa_broker *b, struct mesa_span id, const struct mesa_take *what,
                      mesa_backlog_wanted_fn wanted, mesa_backlog_fn fn, void *ctx)
{
    struct fake *f = MESA_CONTAINER_OF(b, struct fake, base);
    struct take *t = calloc(1, sizeof *t);
    (void)find(id);
    *t = (struct take){.wanted = wanted, .fn = fn, .ctx = ctx, .drop = what->mode != MESA_TAKE};
    mesa_list_append(&f->takes, &t->link);
    (void)wanted(ctx, true);
    call_inside();
}

static enum mesa_status fake_confirm(struct mesa_broker *b, struct mesa_span id,
                                     const struct mesa_confirmation *c)
{
    (void)b;
    uint64_t sum = 0;
    (void)find(id);
    for (size_t i = 0; i < c->count; i++)
        sum += c->stamps[i];
    enum mesa_status rc = sum == UINT64_MAX ? MESA_EIO : fake_cluster.send_rc;
    call_inside();
    return rc;
}

static void fake_put_back(struct mesa_broker *b, struct mesa_span id,
                          const struct mesa_backlog *unread)
{
    (void)b;
    (void)find(id);
    look_at(unread);
    call_inside();
}

static void fake_tell_portal(struct mesa_broker *b, const struct mesa_portal_event *e)
{
    (void)b;
    (void)find(e->client_id);
    call_inside();
}

static const char *fake_trouble(struct mesa_broker *b)
{
    (void)b;
    return fake_cluster.trouble;
}

static const struct mesa_broker_ops ops = {
    .free = fake_free,
    .close = fake_close,
    .connected = fake_connected,
    .disconnected = fake_disconnected,
    .user_online = fake_online,
    .user_offline = fake_offline,
    .send = fake_send,
    .take = fake_take,
    .confirm = fake_confirm,
    .put_back = fake_put_back,
    .tell_portal = fake_tell_portal,
    .trouble = fake_trouble,
};

enum mesa_status mesa_broker_redis_new(struct mesa_broker **out, struct mesa_loop *loop,
                                       const struct mesa_config *cfg, char *err, size_t err_len)
{
    (void)loop;
    (void)cfg;
    (void)err;
    (void)err_len;
    struct fake *f = calloc(1, sizeof *f);
    f->base.ops = &ops;
    mesa_list_init(&f->takes);
    fake_cluster.broker = *out = &f->base;
    return MESA_OK;
}

/* -- for tests -- */

void fake_cluster_begin(void)
{
    memset(&fake_cluster, 0, sizeof fake_cluster);
}

bool fake_cluster_online(struct mesa_span id)
{
    return find(id) != NULL;
}

size_t fake_cluster_online_count(void)
{
    size_t n = 0;
    for (size_t i = 0; i < USERS_MAX; i++)
        n += self()->users[i][0] != '\0';
    return n;
}

size_t fake_cluster_takes(void)
{
    size_t n = 0;
    MESA_LIST_FOREACH(it, &self()->takes)
        n++;
    return n;
}

void fake_cluster_answer(enum mesa_status rc, const char *const *json, size_t count)
{
    struct fake *f = self();
    if (mesa_list_empty(&f->takes))
        return;
    struct take *t = MESA_CONTAINER_OF(f->takes.next, struct take, link);
    struct mesa_span *spans = calloc(count + 1, sizeof *spans);
    uint64_t *stamps = calloc(count + 1, sizeof *stamps);
    for (size_t i = 0; i < count; i++) {
        spans[i] = (struct mesa_span){json[i], strlen(json[i])};
        stamps[i] = ++f->number;
    }
    const struct mesa_backlog backlog = {
        .json = spans, .stamps = stamps, .count = t->drop ? 0 : count, .upto = f->number};
    mesa_list_remove(&t->link);
    t->fn(t->ctx, rc, rc == MESA_OK ? &backlog : NULL);
    free(t);
    free(spans);
    free(stamps);
}

void fake_cluster_deliver(const char *id, const char *d, uint64_t number)
{
    char text[512];
    struct mesa_cluster_message m;
    struct mesa_json_error err;
    struct mesa_broker *b = fake_cluster.broker;
    snprintf(
        text, sizeof text,
        "{\"message\":{\"op\":0,\"d\":%s},\"recipients\":[\"%s\"],\"origin\":\"x\",\"sync\":true%s}",
        d, id, "");
    CHECK_EQ_INT(mesa_cluster_message_parse(text, strlen(text), 8, &m, &err), MESA_OK);
    m.number = number > 0 ? self()->number += number : 0;
    b->hooks.on_delivery(b->hooks_ctx, &m);
    mesa_cluster_message_deinit(&m);
}

void fake_cluster_kept(const char *id)
{
    struct mesa_broker *b = fake_cluster.broker;
    b->hooks.on_kept(b->hooks_ctx, (struct mesa_span){id, strlen(id)});
}

void fake_cluster_gap(void)
{
    struct mesa_broker *b = fake_cluster.broker;
    b->hooks.on_gap(b->hooks_ctx);
}

void fake_cluster_available(bool available)
{
    struct mesa_broker *b = fake_cluster.broker;
    b->hooks.on_available(b->hooks_ctx, available);
}

void fake_cluster_healed(void)
{
    struct mesa_broker *b = fake_cluster.broker;
    b->hooks.on_healed(b->hooks_ctx);
}

void fake_cluster_error(void)
{
    struct mesa_broker *b = fake_cluster.broker;
    b->hooks.on_error(b->hooks_ctx, "REDIS", "Redis cannot be reached");
}

void fake_cluster_dropped(const char *id)
{
    struct mesa_broker *b = fake_cluster.broker;
    b->hooks.on_dropped(b->hooks_ctx, (struct mesa_span){id, strlen(id)}, MESA_SPAN("{\"op\":0}"));
}
