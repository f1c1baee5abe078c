/* map.h - a hash map from byte strings to pointers.
 *
 * Keys are copied; values are not owned. Hashing is keyed with a random seed (SipHash-1-3), because
 * keys come from clients. Not thread-safe. May include: base/.
 */
#ifndef MESA_BASE_MAP_H
#define MESA_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

struct mesa_map; /* opaque */

enum mesa_status mesa_map_new(struct mesa_map **out);
void mesa_map_free(struct mesa_map *m);
size_t mesa_map_count(const struct mesa_map *m);

/* The value stored under the key, or NULL. */
void *mesa_map_get(const struct mesa_map *m, const char *key, size_t len);
/* Stores or replaces. `value` must not be NULL. */
enum mesa_status mesa_map_set(struct mesa_map *m, const char *key, size_t len, void *value);
/* Removes and returns the value, or NULL. Shrinks when far too large. */
void *mesa_map_remove(struct mesa_map *m, const char *key, size_t len);

/* Visits every entry in no particular order; start with *cursor = 0. Entries must not be added or
 * removed meanwhile. */
bool mesa_map_next(const struct mesa_map *m, size_t *cursor, const char **key, size_t *len,
                   void **value);

#endif
