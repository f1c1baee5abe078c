/* pool.c - see pool.h. */
#include "base/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    REGION_PAGES = 16, /* taken from the system at a time */
    KEPT_PAGES = 16,   /* empty ones that never go back */
    HEAD_KEPT_BYTES = 4096,
};

enum {
    HEAD_BYTES = (sizeof(struct mesa_pool_page) + MESA_POOL_GRAIN - 1) & ~(MESA_POOL_GRAIN - 1)
};

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

/* A heap that is collected now and then has many empty pages just after; one that has shrunk has
 * almost nothing else. */
static bool has_shrunk(const struct mesa_pool *p)
{
    return p->empty_count > KEPT_PAGES && p->empty_count > p->page_count / 4 * 3;
}

static void give_back(struct mesa_pool_page *page)
{
    if (page->fresh != NULL)
        (void)madvise((char *)page + HEAD_KEPT_BYTES, MESA_POOL_PAGE_BYTES - HEAD_KEPT_BYTES,
                      MADV_DONTNEED);
    page->fresh = NULL;
}

static void put_empty_page(struct mesa_pool *p, struct mesa_pool_page *page)
{
    page->block_bytes = 0;
    link_page(&p->empty, page);
    p->empty_count++;
    if (!has_shrunk(p))
        return;
    struct mesa_pool_page *end = p->shrunk ? page->next : NULL; /* the others have gone before */
    p->shrunk = true;
    for (; page != end; page = page->next)
        give_back(page);
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
        for (size_t i = REGION_PAGES; i-- > 0;) {
            page_at(region, i)->fresh = NULL;
            page_at(region, i)->block_bytes = 0;
            link_page(&p->empty, page_at(region, i));
        }
        p->empty_count += REGION_PAGES;
        p->page_count += REGION_PAGES;
    }
    struct mesa_pool_page *page = p->empty;
    unlink_page(page);
    p->empty_count--;
    p->shrunk = p->shrunk && has_shrunk(p);
    return page;
}

static struct mesa_pool_page *open_page(struct mesa_pool *p, size_t size)
{
    struct mesa_pool_page *page = take_empty_page(p);
    if (page == NULL)
        return NULL;
    page->freed = NULL;
    page->fresh = (char *)page + HEAD_BYTES;
    page->used = 0;
    page->block_bytes = (uint32_t)(size + 1) * MESA_POOL_GRAIN;
    page->capacity = (MESA_POOL_PAGE_BYTES - HEAD_BYTES) / page->block_bytes;
    link_page(&p->open[size], page);
    return page;
}

static bool is_unused(void *region)
{
    for (size_t i = 0; i < REGION_PAGES; i++) {
        if (page_at(region, i)->block_bytes != 0)
            return false;
    }
    return true;
}

void mesa_pool_trim(struct mesa_pool *p)
{
    struct mesa_pool_page **to_region = &p->regions;
    while (*to_region != NULL) {
        struct mesa_pool_page *region = *to_region;
        if (!is_unused(region)) {
            to_region = &region->next_region;
            continue;
        }
        *to_region = region->next_region;
        for (size_t i = 0; i < REGION_PAGES; i++)
            unlink_page(page_at(region, i));
        p->empty_count -= REGION_PAGES;
        p->page_count -= REGION_PAGES;
        free(region);
    }
    p->shrunk = p->shrunk && has_shrunk(p);
}

static size_t size_of(size_t bytes)
{
    return (bytes - 1) / MESA_POOL_GRAIN;
}

void *mesa_pool_alloc_slowly(struct mesa_pool *p, size_t bytes)
{
    if (bytes > MESA_POOL_SMALL_BYTES)
        return malloc(bytes);
    struct mesa_pool_page *page = p->open[size_of(bytes)];
    if (page == NULL && (page = open_page(p, size_of(bytes))) == NULL)
        return NULL;
    void *block = page->freed;
    if (block != NULL) {
        page->freed = *(void **)block;
    } else {
        block = page->fresh;
        page->fresh += page->block_bytes;
    }
    if (++page->used == page->capacity)
        unlink_page(page);
    return block;
}

void mesa_pool_free_slowly(struct mesa_pool *p, void *block, size_t bytes)
{
    if (bytes > MESA_POOL_SMALL_BYTES) {
        free(block);
        return;
    }
    struct mesa_pool_page *page = mesa_pool_page_of(block), **open = &p->open[size_of(bytes)];
    *(void **)block = page->freed;
    page->freed = block;
    if (page->used-- == page->capacity)
        link_page(open, page);
    /* The last page of its size stays, or one block that comes and goes would open it each time. */
    if (page->used == 0 && (*open != page || page->next != NULL)) {
        unlink_page(page);
        put_empty_page(p, page);
    }
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
