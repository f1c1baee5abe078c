/* registry.h - every connection of a server, and who among them is which user.
 *
 * Entries are embedded in their owner; several may share a user id. Entries are kept in order of
 * their serial numbers, so an iteration continues correctly from an entry that was removed
 * meanwhile. Loop thread only. May include: base/.
 */
#ifndef MESA_CORE_REGISTRY_H
#define MESA_CORE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/status.h"

struct mesa_registry;      /* opaque */
struct mesa_registry_user; /* opaque */

struct mesa_registry_entry { /* private fields */
    struct mesa_list all, of_user;
    struct mesa_registry_user *user; /* referenced even after leaving: the id stays readable */
    uint64_t serial;                 /* in order of mesa_registry_add */
};

/* What joining or leaving changed. It holds a reference, so that `before` stays readable whatever is
 * called meanwhile: every change is given back with mesa_registry_change_end. */
struct mesa_registry_change {
    bool came_online;                /* the entry is the first of its id */
    bool went_offline;               /* it was the last of the id it had before */
    struct mesa_span before;         /* that id; absent when it had none */
    struct mesa_registry_user *left; /* private */
};

enum mesa_status mesa_registry_new(struct mesa_registry **out);
/* Every entry must have been removed. NULL is accepted. */
void mesa_registry_free(struct mesa_registry *r);

void mesa_registry_entry_init(struct mesa_registry_entry *e);
/* The entry must have been removed. */
void mesa_registry_entry_deinit(struct mesa_registry_entry *e);

void mesa_registry_add(struct mesa_registry *r, struct mesa_registry_entry *e);
/* Takes the entry out of the iteration; leaving its user is a step of its own. */
void mesa_registry_remove(struct mesa_registry *r, struct mesa_registry_entry *e);
size_t mesa_registry_count(const struct mesa_registry *r);
/* Number of different ids. */
size_t mesa_registry_user_count(const struct mesa_registry *r);

/* Gives the entry an id, instead of the one it may have: one step, nobody sees it under both or
 * none. MESA_ENOMEM: nothing changed, and there is nothing to give back. */
enum mesa_status mesa_registry_join(struct mesa_registry *r, struct mesa_registry_entry *e,
                                    struct mesa_span id, struct mesa_registry_change *change);
/* Takes the entry out of its user's connections; repeating has no effect. */
void mesa_registry_leave(struct mesa_registry *r, struct mesa_registry_entry *e,
                         struct mesa_registry_change *change);
/* Gives back what joining or leaving filled in. */
void mesa_registry_change_end(struct mesa_registry_change *change);
/* The id given last, absent when there was none. */
struct mesa_span mesa_registry_id(const struct mesa_registry_entry *e);

/* The entry that follows `after` (NULL: the first one), or NULL. `after` may have been removed. */
struct mesa_registry_entry *mesa_registry_next(const struct mesa_registry *r,
                                               const struct mesa_registry_entry *after);
/* The same among the connections of one id. */
struct mesa_registry_entry *mesa_registry_next_of(const struct mesa_registry *r,
                                                  struct mesa_span id,
                                                  const struct mesa_registry_entry *after);
/* Whether the id has this connection and no other. */
bool mesa_registry_is_only_one(const struct mesa_registry_entry *e);

#endif
