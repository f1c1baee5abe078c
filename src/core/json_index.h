/* json_index.h - where the structure of a JSON text is, found 64 bytes at a time.
 *
 * The positions of the brackets, colons and commas outside of strings are found by comparing whole
 * blocks, without a branch for each byte; json_walk.h goes from one to the next. There is one index,
 * of the text that was looked at last.
 * Loop thread only. May include: base/, core/json.h.
 */
#ifndef MESA_CORE_JSON_INDEX_H
#define MESA_CORE_JSON_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/json.h"

enum {
    MESA_JSON_BLOCK = 64,
    MESA_JSON_INDEX_MAX_BYTES = UINT16_MAX, /* longer texts have no index */
/* Shorter texts are scanned in less time than it takes to index them. */
#ifdef __SSE2__
    MESA_JSON_INDEX_FROM_BYTES = 32,
#else
    MESA_JSON_INDEX_FROM_BYTES = 1024,
#endif
};

struct mesa_json_entry {
    uint16_t at;
    uint16_t members; /* of an opening bracket: how many; set by json_walk.h */
};

struct mesa_json_index {
    uint64_t generation; /* of the text; 0: none yet */
    size_t count;
    bool escapes; /* some string has a backslash */
    struct mesa_json_entry entries[MESA_JSON_INDEX_MAX_BYTES + 1];
    /* while it is built */
    const char *end;            /* of the text */
    const char *escape_end;     /* behind the last escape, which may reach into the next block */
    const char *high_end;       /* behind the last bytes that are not ASCII, likewise */
    bool invalid;               /* an escape or UTF-8 is */
    char copy[MESA_JSON_BLOCK]; /* of a text that is no whole block */
};

/* An entry that somebody remembers. {0}: none. */
struct mesa_json_place {
    uint64_t generation;
    uint16_t entry;
};

/* Finds the positions, with a new generation. True: every string ends, holds no control character
 * and valid escapes and UTF-8 only, and has nothing but white space between it and an opening
 * bracket, colon or comma before it; outside of strings are no backslashes, and no control characters
 * but white space. Nothing else has been looked at. False: this is not so, or the text is too
 * long. */
bool mesa_json_index_build(struct mesa_json_index *x, const char *text, size_t len);

/* The one index. */
extern struct mesa_json_index mesa_json_index;

/* The remembered entry; NULL when another text has been looked at since. */
static inline struct mesa_json_entry *mesa_json_index_recall(struct mesa_json_place place)
{
    if (place.generation == 0 || place.generation != mesa_json_index.generation)
        return NULL;
    return &mesa_json_index.entries[place.entry];
}

/* The ways to build it, for tests: as many as this machine knows, the portable one first. */
typedef bool (*mesa_json_index_fn)(struct mesa_json_index *x, const char *text, size_t len);
size_t mesa_json_index_variants(mesa_json_index_fn out[3]);

#endif
