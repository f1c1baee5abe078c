/* map.c - see map.h. Open addressing with linear probing; removal shifts the followers back, so
 * there are no tombstones. */
#include "base/map.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/siphash.h"

enum { MIN_SLOTS = 16 }; /* a power of two */

struct slot {
    uint64_t hash;
    char *key; /* owned; NULL in every free slot */
    size_t len;
    void *value;
};

struct mesa_map {
    struct slot *slots;
    size_t slot_count; /* a power of two */
    size_t used;
    uint64_t seed[2];
};

static enum mesa_status draw_seed(uint64_t seed[2])
{
    ssize_t n;
    do
        n = getrandom(seed, 2 * sizeof seed[0], 0);
    while (n < 0 && errno == EINTR);
    return n == 2 * sizeof seed[0] ? MESA_OK : MESA_EIO;
}

enum mesa_status mesa_map_new(struct mesa_map **out)
{
    enum mesa_status rc = MESA_ENOMEM;
    struct mesa_map *m = calloc(1, sizeof *m);
    if (m == NULL)
        return rc;

    m->slot_count = MIN_SLOTS;
    m->slots = calloc(m->slot_count, sizeof *m->slots);
    if (m->slots == NULL)
        goto fail;

    rc = draw_seed(m->seed);
    if (rc != MESA_OK)
        goto fail;

    *out = m;
    return MESA_OK;

fail:
    mesa_map_free(m);
    return rc;
}

void mesa_map_free(struct mesa_map *m)
{
    if (m == NULL)
        return;
    if (m->slots != NULL)
        for (size_t i = 0; i < m->slot_count; i++)
            free(m->slots[i].key);
    free(m->slots);
    free(m);
}

size_t mesa_map_count(const struct mesa_map *m)
{
    return m->used;
}

/* The slot that holds the key, or the free slot where it belongs. There always is a free one. */
static struct slot *find(const struct mesa_map *m, uint64_t hash, const char *key, size_t len)
{
    size_t mask = m->slot_count - 1;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        struct slot *s = &m->slots[i];
        if (s->key == NULL)
            return s;
        if (s->hash == hash && s->len == len && (len == 0 || memcmp(s->key, key, len) == 0))
            return s;
    }
}

static enum mesa_status resize(struct mesa_map *m, size_t slot_count)
{
    struct slot *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return MESA_ENOMEM;

    size_t mask = slot_count - 1;
    for (size_t i = 0; i < m->slot_count; i++) {
        if (m->slots[i].key == NULL)
            continue;
        size_t j = (size_t)m->slots[i].hash & mask;
        while (slots[j].key != NULL)
            j = (j + 1) & mask;
        slots[j] = m->slots[i];
    }
    free(m->slots);
    m->slots = slots;
    m->slot_count = slot_count;
    return MESA_OK;
}

void *mesa_map_get(const struct mesa_map *m, const char *key, size_t len)
{
    return find(m, mesa_siphash13(m->seed, key, len), key, len)->value;
}

enum mesa_status mesa_map_set(struct mesa_map *m, const char *key, size_t len, void *value)
{
    uint64_t hash = mesa_siphash13(m->seed, key, len);
    struct slot *s = find(m, hash, key, len);
    if (s->key != NULL) {
        s->value = value;
        return MESA_OK;
    }

    if ((m->used + 1) * 4 > m->slot_count * 3) {
        enum mesa_status rc = resize(m, m->slot_count * 2);
        if (rc != MESA_OK)
            return rc;
        s = find(m, hash, key, len);
    }

    char *copy = malloc(len > 0 ? len : 1);
    if (copy == NULL)
        return MESA_ENOMEM;
    if (len > 0)
        memcpy(copy, key, len);
    *s = (struct slot){.hash = hash, .key = copy, .len = len, .value = value};
    m->used++;
    return MESA_OK;
}

/* Moves followers that a probe would no longer reach over the hole. */
static void close_hole(struct mesa_map *m, size_t hole)
{
    size_t mask = m->slot_count - 1;
    for (size_t i = (hole + 1) & mask; m->slots[i].key != NULL; i = (i + 1) & mask) {
        size_t home = (size_t)m->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct slot){0};
}

void *mesa_map_remove(struct mesa_map *m, const char *key, size_t len)
{
    struct slot *s = find(m, mesa_siphash13(m->seed, key, len), key, len);
    if (s->key == NULL)
        return NULL;

    void *value = s->value;
    free(s->key);
    close_hole(m, (size_t)(s - m->slots));
    m->used--;
    if (m->slot_count > MIN_SLOTS && m->used * 8 < m->slot_count)
        (void)resize(m, m->slot_count / 2); /* without memory it stays large, which is harmless */
    return value;
}

bool mesa_map_next(const struct mesa_map *m, size_t *cursor, const char **key, size_t *len,
                   void **value)
{
    for (size_t i = *cursor; i < m->slot_count; i++) {
        const struct slot *s = &m->slots[i];
        if (s->key == NULL)
            continue;
        *key = s->key;
        *len = s->len;
        *value = s->value;
        *cursor = i + 1;
        return true;
    }
    *cursor = m->slot_count;
    return false;
}
