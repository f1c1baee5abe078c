#include "hist.h"

#include <string.h>

#define SUB (UINT64_C(1) << HIST_SUB_BITS)

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - HIST_SUB_BITS;
    return (unsigned)(((uint64_t)(shift + 1) << HIST_SUB_BITS) + ((ns >> shift) - SUB));
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < SUB)
        return bucket;
    unsigned shift = (bucket >> HIST_SUB_BITS) - 1;
    uint64_t low = (SUB + (bucket & (SUB - 1))) << shift;
    return low + ((UINT64_C(1) << shift) >> 1);
}

void hist_reset(struct hist *h)
{
    memset(h, 0, sizeof *h);
}

void hist_add(struct hist *h, uint64_t ns)
{
    h->count++;
    h->bucket[bucket_of(ns)]++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

uint64_t hist_quantile_ns(const struct hist *h, double quantile)
{
    if (h->count == 0)
        return 0;
    double want = quantile * (double)h->count;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen != 0 && (double)seen >= want) {
            uint64_t v = middle_of(i);
            return v < h->max_ns ? v : h->max_ns;
        }
    }
    return h->max_ns;
}
