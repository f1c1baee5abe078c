/* pool.h - memory for many small blocks that come and go.
 *
 * Blocks up to MESA_POOL_SMALL_BYTES are cut from pages, each of one size; a page that has become
 * empty serves any size again, and goes back to the system while most pages are empty. Larger blocks
 * are malloc's. The owner remembers the sizes, so blocks carry no header.
 * Not thread-safe. May include: base/.
 */
#ifndef MESA_BASE_POOL_H
#define MESA_BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MESA_POOL_GRAIN = 16, /* sizes are multiples of it, and blocks aligned to it */
    MESA_POOL_SMALL_BYTES = 512,
    MESA_POOL_SIZES = MESA_POOL_SMALL_BYTES / MESA_POOL_GRAIN,
    MESA_POOL_PAGE_BYTES = 64 * 1024,
};

/* The head of a page; private. */
struct mesa_pool_page {
    struct mesa_pool_page *next,
        **to_this;                      /* among the open pages of its size, or the empty ones */
    struct mesa_pool_page *next_region; /* of the first page of a region */
    void *freed;                        /* a list through the blocks' first words */
    char *fresh; /* never used from here on; NULL: an empty page without memory */
    uint32_t used, capacity;
    uint32_t block_bytes; /* 0: an empty page */
};

struct mesa_pool {                                /* private fields */
    struct mesa_pool_page *open[MESA_POOL_SIZES]; /* pages with room, by the size of their blocks */
    struct mesa_pool_page *empty;                 /* of no size */
    struct mesa_pool_page *regions;
    size_t page_count, empty_count;
    bool shrunk; /* empty pages are given back */
};

void mesa_pool_init(struct mesa_pool *p);
/* Every small block ends with its pool; large ones must have been freed. */
void mesa_pool_deinit(struct mesa_pool *p);
/* Gives memory of which nothing is in use back to the system, address space and all. */
void mesa_pool_trim(struct mesa_pool *p);
/* The block with another size, perhaps elsewhere. NULL: no memory, the block is as it was. */
void *mesa_pool_resize(struct mesa_pool *p, void *block, size_t old_bytes, size_t bytes);

/* What the two below leave to pool.c: a page that begins or ends, and large blocks. */
void *mesa_pool_alloc_slowly(struct mesa_pool *p, size_t bytes);
void mesa_pool_free_slowly(struct mesa_pool *p, void *block, size_t bytes);

static inline struct mesa_pool_page *mesa_pool_page_of(const void *block)
{
    return (struct mesa_pool_page *)((uintptr_t)block & ~(uintptr_t)(MESA_POOL_PAGE_BYTES - 1));
}

/* The usual case of mesa_pool_alloc, in which a block of its size was freed before. NULL: it is not that. */
static inline void *mesa_pool_alloc_quickly(struct mesa_pool *p, size_t bytes)
{
    size_t size = (bytes - 1) / MESA_POOL_GRAIN;
    struct mesa_pool_page *page = size < MESA_POOL_SIZES ? p->open[size] : NULL;
    if (page == NULL || page->freed == NULL || page->used + 1 == page->capacity)
        return NULL;
    void *block = page->freed;
    page->freed = *(void **)block;
    page->used++;
    return block;
}

/* `bytes` is not 0. NULL: no memory. */
static inline void *mesa_pool_alloc(struct mesa_pool *p, size_t bytes)
{
    void *block = mesa_pool_alloc_quickly(p, bytes);
    return block != NULL ? block : mesa_pool_alloc_slowly(p, bytes);
}

/* `bytes` is what the block was made with. */
static inline void mesa_pool_free(struct mesa_pool *p, void *block, size_t bytes)
{
    struct mesa_pool_page *page = mesa_pool_page_of(block);
    if (bytes > MESA_POOL_SMALL_BYTES || page->used == page->capacity || page->used == 1) {
        mesa_pool_free_slowly(p, block, bytes);
        return;
    }
    *(void **)block = page->freed;
    page->freed = block;
    page->used--;
}

#endif
