/* pool_test.c - small blocks. */
#include "base/pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

enum { BLOCKS = 4000 };

struct block {
    unsigned char *p;
    size_t bytes;
    unsigned char mark;
};

static bool intact(const struct block *b)
{
    for (size_t i = 0; i < b->bytes; i++)
        if (b->p[i] != b->mark)
            return false;
    return true;
}

static void fill(struct mesa_pool *pool, struct block *b, size_t bytes, unsigned char mark)
{
    *b = (struct block){mesa_pool_alloc(pool, bytes), bytes, mark};
    memset(b->p, mark, bytes);
}

TEST(blocks_of_all_sizes_are_aligned_and_do_not_overlap)
{
    static struct block blocks[BLOCKS];
    struct mesa_pool pool;
    mesa_pool_init(&pool);
    bool aligned = true, whole = true;
    for (size_t i = 0; i < BLOCKS; i++) {
        fill(&pool, &blocks[i], 1 + i % 700, (unsigned char)i);
        aligned = aligned && (uintptr_t)blocks[i].p % MESA_POOL_GRAIN == 0;
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        whole = whole && intact(&blocks[i]);
        mesa_pool_free(&pool, blocks[i].p, blocks[i].bytes);
    }
    CHECK(aligned);
    CHECK(whole);
    mesa_pool_deinit(&pool);
}

TEST(blocks_stay_intact_while_others_come_and_go_and_change_their_size)
{
    static struct block blocks[BLOCKS];
    struct mesa_pool pool;
    mesa_pool_init(&pool);
    unsigned random = 1;
    bool whole = true;
    for (size_t i = 0; i < BLOCKS; i++)
        fill(&pool, &blocks[i], 1 + i % 600, (unsigned char)i);
    for (size_t round = 0; round < 50000; round++) {
        random = random * 1103515245u + 12345u;
        struct block *b = &blocks[(random >> 8) % BLOCKS];
        size_t bytes = 1 + (random >> 16) % 600;
        whole = whole && intact(b);
        if (round % 2 == 0) {
            mesa_pool_free(&pool, b->p, b->bytes);
            fill(&pool, b, bytes, (unsigned char)round);
        } else {
            size_t kept = bytes < b->bytes ? bytes : b->bytes;
            b->p = mesa_pool_resize(&pool, b->p, b->bytes, bytes);
            b->bytes = kept;
            whole = whole && intact(b);
            b->bytes = bytes;
            memset(b->p, b->mark, bytes);
        }
    }
    CHECK(whole);
    for (size_t i = 0; i < BLOCKS; i++)
        mesa_pool_free(&pool, blocks[i].p, blocks[i].bytes);
    mesa_pool_deinit(&pool);
}

static int compare(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (void *const *)a, y = (uintptr_t) * (void *const *)b;
    return x < y ? -1 : x > y;
}

/* The addresses of as many blocks as make up many pages, which are then free again. */
static void use_pages(struct mesa_pool *pool, size_t bytes, void **pages, size_t count)
{
    static void *blocks[64 * MESA_POOL_PAGE_BYTES / MESA_POOL_GRAIN];
    size_t per_page = MESA_POOL_PAGE_BYTES / bytes, n = count * per_page;
    for (size_t i = 0; i < n; i++)
        blocks[i] = mesa_pool_alloc(pool, bytes);
    for (size_t i = 0; i < count; i++)
        pages[i] =
            (void *)((uintptr_t)blocks[i * per_page] & ~(uintptr_t)(MESA_POOL_PAGE_BYTES - 1));
    for (size_t i = 0; i < n; i++)
        mesa_pool_free(pool, blocks[i], bytes);
    qsort(pages, count, sizeof *pages, compare);
}

TEST(memory_of_one_size_serves_another_once_it_is_free)
{
    enum { PAGES = 16 };
    void *first[PAGES], *second[PAGES];
    struct mesa_pool pool;
    mesa_pool_init(&pool);
    use_pages(&pool, 64, first, PAGES);
    use_pages(&pool, 128, second, PAGES);
    size_t shared = 0;
    for (size_t i = 0; i < PAGES; i++)
        shared += bsearch(&second[i], first, PAGES, sizeof *first, compare) != NULL;
    CHECK(shared >= PAGES - 2); /* each size keeps its last page */
    mesa_pool_deinit(&pool);
}

/* Bytes of the process in memory. */
static long resident(void)
{
    long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f == NULL || fscanf(f, "%ld %ld", &total, &pages) != 2)
        pages = -1;
    if (f != NULL)
        fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

TEST(what_a_peak_took_goes_back_to_the_system)
{
    enum { PEAK = 200 * 1000, BYTES = 256 };
    void **blocks = malloc(PEAK * sizeof *blocks);
    struct mesa_pool pool;
    mesa_pool_init(&pool);
    for (size_t i = 0; i < PEAK; i++) {
        blocks[i] = mesa_pool_alloc(&pool, BYTES);
        memset(blocks[i], 1, BYTES);
    }
    long full = resident();
    for (size_t i = 0; i < PEAK; i++)
        mesa_pool_free(&pool, blocks[i], BYTES);
    CHECK(full - resident() > (long)PEAK * BYTES / 2);
    mesa_pool_deinit(&pool);
    free(blocks);
}

TEST(a_block_that_changes_within_its_size_stays_where_it_is)
{
    struct mesa_pool pool;
    mesa_pool_init(&pool);
    char *p = mesa_pool_alloc(&pool, 33);
    CHECK(mesa_pool_resize(&pool, p, 33, 48) == p);
    CHECK(mesa_pool_resize(&pool, p, 48, 40) == p);
    CHECK(mesa_pool_resize(&pool, p, 40, 49) != p);
    mesa_pool_deinit(&pool);
}

TEST(trimming_gives_back_whole_regions_and_nothing_that_is_in_use)
{
    static struct block blocks[BLOCKS * 4];
    struct mesa_pool pool;
    mesa_pool_init(&pool);
    for (size_t i = 0; i < BLOCKS * 4; i++)
        fill(&pool, &blocks[i], 400, (unsigned char)i);
    size_t pages = pool.page_count;
    mesa_pool_trim(&pool);
    CHECK_EQ_INT(pool.page_count, pages);
    for (size_t i = 1; i < BLOCKS * 4; i++)
        mesa_pool_free(&pool, blocks[i].p, blocks[i].bytes);
    mesa_pool_trim(&pool);
    CHECK_EQ_INT(pool.page_count, 16); /* of the region with the first block */
    CHECK_EQ_INT(pool.empty_count, 15);
    CHECK(intact(&blocks[0]));
    for (size_t i = 1; i < BLOCKS; i++)
        fill(&pool, &blocks[i], 1 + i % 512, (unsigned char)i);
    bool whole = true;
    for (size_t i = 0; i < BLOCKS; i++)
        whole = whole && intact(&blocks[i]);
    CHECK(whole);
    mesa_pool_deinit(&pool);
}
