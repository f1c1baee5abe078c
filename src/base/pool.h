/* pool.h - memory for many small blocks that come and go.
 *
 * Blocks up to MESA_POOL_SMALL_BYTES are cut from pages, each of one size; a page that has become
 * empty serves any size again. Larger blocks are malloc's. The owner remembers the sizes, so blocks
 * carry no header. Memory of pages goes back to the system when the pool ends.
 * Not thread-safe. May include: base/.
 */
#ifndef MESA_BASE_POOL_H
#define MESA_BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

enum {
    MESA_POOL_GRAIN = 16, /* sizes are multiples of it, and blocks aligned to it */
    MESA_POOL_SMALL_BYTES = 512,
    MESA_POOL_SIZES = MESA_POOL_SMALL_BYTES / MESA_POOL_GRAIN,
    MESA_POOL_PAGE_BYTES = 16 * 1024,
};

struct mesa_pool_page;

struct mesa_pool { /* private fields */
    struct mesa_pool_page *open[MESA_POOL_SIZES]; /* pages with room, by the size of their blocks */
    struct mesa_pool_page *empty;                 /* of no size */
    struct mesa_pool_page *regions;
};

void mesa_pool_init(struct mesa_pool *p);
/* Every small block ends with its pool; large ones must have been freed. */
void mesa_pool_deinit(struct mesa_pool *p);

/* `bytes` is not 0. NULL: no memory. */
void *mesa_pool_alloc(struct mesa_pool *p, size_t bytes);
/* `bytes` is what the block was made with. */
void mesa_pool_free(struct mesa_pool *p, void *block, size_t bytes);
/* The block with another size, perhaps elsewhere. NULL: no memory, the block is as it was. */
void *mesa_pool_resize(struct mesa_pool *p, void *block, size_t old_bytes, size_t bytes);

#endif
