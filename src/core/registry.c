/* registry.c - see registry.h. */
#include "core/registry.h"

#include <stdlib.h>

#include "base/map.h"

struct mesa_registry_user {
    struct mesa_list members; /* in order of their serials */
    uint32_t refs;            /* one while in the map, one for each entry that names it */
    uint32_t id_len;
    char id[];
};

struct mesa_registry {
    struct mesa_list entries;
    struct mesa_map *users;
    size_t count;
    uint64_t next_serial;
};

static void user_unref(struct mesa_registry_user *u)
{
    if (u != NULL && --u->refs == 0)
        free(u);
}

static struct mesa_span user_id(const struct mesa_registry_user *u)
{
    return (struct mesa_span){u->id, u->id_len};
}

enum mesa_status mesa_registry_new(struct mesa_registry **out)
{
    struct mesa_registry *r = calloc(1, sizeof *r);
    if (r == NULL)
        return MESA_ENOMEM;
    enum mesa_status rc = mesa_map_new(&r->users);
    if (rc != MESA_OK) {
        free(r);
        return rc;
    }
    mesa_list_init(&r->entries);
    r->next_serial = 1;
    *out = r;
    return MESA_OK;
}

void mesa_registry_free(struct mesa_registry *r)
{
    if (r == NULL)
        return;
    mesa_map_free(r->users);
    free(r);
}

void mesa_registry_entry_init(struct mesa_registry_entry *e)
{
    mesa_list_init(&e->all);
    mesa_list_init(&e->of_user);
    e->user = NULL;
    e->serial = 0;
}

void mesa_registry_entry_deinit(struct mesa_registry_entry *e)
{
    user_unref(e->user);
    e->user = NULL;
}

void mesa_registry_add(struct mesa_registry *r, struct mesa_registry_entry *e)
{
    e->serial = r->next_serial++;
    mesa_list_append(&r->entries, &e->all);
    r->count++;
}

void mesa_registry_remove(struct mesa_registry *r, struct mesa_registry_entry *e)
{
    if (mesa_list_empty(&e->all))
        return;
    mesa_list_remove(&e->all);
    r->count--;
}

size_t mesa_registry_count(const struct mesa_registry *r)
{
    return r->count;
}

size_t mesa_registry_user_count(const struct mesa_registry *r)
{
    return mesa_map_count(r->users);
}

static struct mesa_registry_entry *member(struct mesa_list *link)
{
    return MESA_CONTAINER_OF(link, struct mesa_registry_entry, of_user);
}

/* Connections mostly authenticate in the order they came, so the place is found from the end. */
static void add_member(struct mesa_registry_user *u, struct mesa_registry_entry *e)
{
    struct mesa_list *before = &u->members;
    while (before->prev != &u->members && member(before->prev)->serial > e->serial)
        before = before->prev;
    mesa_list_append(before, &e->of_user); /* appending to a member puts it in front of that one */
}

static enum mesa_status find_or_add_user(struct mesa_registry *r, struct mesa_span id,
                                         struct mesa_registry_user **out)
{
    struct mesa_registry_user *u = mesa_map_get(r->users, id.p, id.len);
    if (u == NULL) {
        u = malloc(sizeof *u + id.len);
        if (u == NULL)
            return MESA_ENOMEM;
        mesa_list_init(&u->members);
        u->refs = 1;
        u->id_len = (uint32_t)id.len;
        memcpy(u->id, id.p, id.len);
        if (mesa_map_set(r->users, u->id, id.len, u) != MESA_OK) {
            free(u);
            return MESA_ENOMEM;
        }
    }
    *out = u;
    return MESA_OK;
}

enum mesa_status mesa_registry_join(struct mesa_registry *r, struct mesa_registry_entry *e,
                                    struct mesa_span id, struct mesa_registry_change *change)
{
    struct mesa_registry_user *u;
    enum mesa_status rc = find_or_add_user(r, id, &u);
    if (rc != MESA_OK)
        return rc;

    *change = (struct mesa_registry_change){0};
    if (e->user == u && !mesa_list_empty(&e->of_user))
        return MESA_OK;

    bool first = mesa_list_empty(&u->members);
    u->refs++; /* before leaving: the old user may be this one, left earlier */
    mesa_registry_leave(r, e, change);
    user_unref(e->user);
    e->user = u;
    add_member(u, e);
    change->came_online = first;
    return MESA_OK;
}

void mesa_registry_leave(struct mesa_registry *r, struct mesa_registry_entry *e,
                         struct mesa_registry_change *change)
{
    *change = (struct mesa_registry_change){0};
    if (mesa_list_empty(&e->of_user))
        return;

    struct mesa_registry_user *u = e->user;
    mesa_list_remove(&e->of_user);
    change->before = user_id(u);
    change->left = u;
    u->refs++;
    if (mesa_list_empty(&u->members)) {
        change->went_offline = true;
        mesa_map_remove(r->users, u->id, u->id_len);
        user_unref(u);
    }
}

void mesa_registry_change_end(struct mesa_registry_change *change)
{
    user_unref(change->left);
    *change = (struct mesa_registry_change){0};
}

struct mesa_span mesa_registry_id(const struct mesa_registry_entry *e)
{
    return e->user != NULL ? user_id(e->user) : (struct mesa_span){NULL, 0};
}

struct mesa_registry_entry *mesa_registry_next(const struct mesa_registry *r,
                                               const struct mesa_registry_entry *after)
{
    const struct mesa_list *at = &r->entries;
    uint64_t passed = 0;
    if (after != NULL && !mesa_list_empty(&after->all))
        at = &after->all;
    else if (after != NULL)
        passed = after->serial; /* it was removed: find its place again */

    for (struct mesa_list *it = at->next; it != &r->entries; it = it->next) {
        struct mesa_registry_entry *e = MESA_CONTAINER_OF(it, struct mesa_registry_entry, all);
        if (e->serial > passed)
            return e;
    }
    return NULL;
}

bool mesa_registry_is_only_one(const struct mesa_registry_entry *e)
{
    return !mesa_list_empty(&e->of_user) && e->of_user.next == e->of_user.prev;
}

struct mesa_registry_entry *mesa_registry_next_of(const struct mesa_registry *r,
                                                  struct mesa_span id,
                                                  const struct mesa_registry_entry *after)
{
    if (after != NULL && !mesa_list_empty(&after->of_user) &&
        mesa_span_eq(user_id(after->user), id)) {
        struct mesa_list *next = after->of_user.next;
        return next == &after->user->members ? NULL : member(next);
    }

    struct mesa_registry_user *u = mesa_map_get(r->users, id.p, id.len);
    if (u == NULL)
        return NULL;
    MESA_LIST_FOREACH(it, &u->members) {
        if (after == NULL || member(it)->serial > after->serial)
            return member(it);
    }
    return NULL;
}
