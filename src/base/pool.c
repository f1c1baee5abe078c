/* pool.c - see pool.h. */
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>

enum { REGION_PAGES = 16 }; /* taken from the system at a time */

struct free_block {
    struct free_block *next;
};

/* The head of a page. */
struct mesa_pool_page {
    struct mesa_pool_page *next, **to_this; /* among the open pages of its size, or the empty ones */
    struct mesa_pool_page *next_region;     /* of the first page of a region */
    struct free_block *freed;
    char *fresh; /* never used from here on */
    uint32_t used, capacity;
    unsigned size; /* index of pool->open */
};

enum { HEAD_BYTES = (sizeof(struct mesa_pool_page) + MESA_POOL_GRAIN - 1) & ~(MESA_POOL_GRAIN - 1) };

void mesa_pool_init(struct mesa_pool *p)
{
    memset(p, 0, sizeof *p);
}

void mesa_pool_deinit(struct mesa_pool *p)
{
    while (p->regions != NULL) {
        struct mesa_pool_page *region = p->regions;
        p->regions = region->next_region;
        free(region);
    }
    mesa_pool_init(p);
}

static void link_page(struct mesa_pool_page **list, struct mesa_pool_page *page)
{
    page->next = *list;
    page->to_this = list;
    if (page->next != NULL)
        page->next->to_this = &page->next;
    *list = page;
}

static void unlink_page(struct mesa_pool_page *page)
{
    *page->to_this = page->next;
    if (page->next != NULL)
        page->next->to_this = page->to_this;
}

static struct mesa_pool_page *page_at(void *region, size_t i)
{
    return (struct mesa_pool_page *)((char *)region + i * MESA_POOL_PAGE_BYTES);
}

static struct mesa_pool_page *take_empty_page(struct mesa_pool *p)
{
    if (p->empty == NULL) {
        struct mesa_pool_page *region =
            aligned_alloc(MESA_POOL_PAGE_BYTES, (size_t)REGION_PAGES * MESA_POOL_PAGE_BYTES);
        if (region == NULL)
            return NULL;
        region->next_region = p->regions;
        p->regions = region;
        for (size_t i = REGION_PAGES; i-- > 0;)
            link_page(&p->empty, page_at(region, i));
    }
    struct mesa_pool_page *page = p->empty;
    unlink_page(page);
    return page;
}

static struct mesa_pool_page *open_page(struct mesa_pool *p, unsigned size)
{
    struct mesa_pool_page *page = take_empty_page(p);
    if (page == NULL)
        return NULL;
    page->freed = NULL;
    page->fresh = (char *)page + HEAD_BYTES;
    page->used = 0;
    page->capacity = (MESA_POOL_PAGE_BYTES - HEAD_BYTES) / ((size + 1) * MESA_POOL_GRAIN);
    page->size = size;
    link_page(&p->open[size], page);
    return page;
}

static void *alloc_small(struct mesa_pool *p, unsigned size)
{
    struct mesa_pool_page *page = p->open[size];
    if (page == NULL && (page = open_page(p, size)) == NULL)
        return NULL;
    void *block = page->freed;
    if (block != NULL) {
        page->freed = page->freed->next;
    } else {
        block = page->fresh;
        page->fresh += (size + 1) * MESA_POOL_GRAIN;
    }
    if (++page->used == page->capacity)
        unlink_page(page);
    return block;
}

static void free_small(struct mesa_pool *p, void *block)
{
    struct mesa_pool_page *page =
        (struct mesa_pool_page *)((uintptr_t)block & ~(uintptr_t)(MESA_POOL_PAGE_BYTES - 1));
    struct free_block *freed = block;
    freed->next = page->freed;
    page->freed = freed;
    if (page->used-- == page->capacity)
        link_page(&p->open[page->size], page);
    /* The last page of its size stays, or one block that comes and goes would open it each time. */
    if (page->used == 0 && (p->open[page->size] != page || page->next != NULL)) {
        unlink_page(page);
        link_page(&p->empty, page);
    }
}

static unsigned size_of(size_t bytes)
{
    return (unsigned)((bytes - 1) / MESA_POOL_GRAIN);
}

void *mesa_pool_alloc(struct mesa_pool *p, size_t bytes)
{
    return bytes <= MESA_POOL_SMALL_BYTES ? alloc_small(p, size_of(bytes)) : malloc(bytes);
}

void mesa_pool_free(struct mesa_pool *p, void *block, size_t bytes)
{
    if (bytes <= MESA_POOL_SMALL_BYTES)
        free_small(p, block);
    else
        free(block);
}

void *mesa_pool_resize(struct mesa_pool *p, void *block, size_t old_bytes, size_t bytes)
{
    if (old_bytes > MESA_POOL_SMALL_BYTES && bytes > MESA_POOL_SMALL_BYTES)
        return realloc(block, bytes);
    if (old_bytes <= MESA_POOL_SMALL_BYTES && bytes <= MESA_POOL_SMALL_BYTES &&
        size_of(old_bytes) == size_of(bytes))
        return block;
    void *moved = mesa_pool_alloc(p, bytes);
    if (moved == NULL)
        return NULL;
    memcpy(moved, block, old_bytes < bytes ? old_bytes : bytes);
    mesa_pool_free(p, block, old_bytes);
    return moved;
}
