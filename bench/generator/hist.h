/* hist.h - latencies in logarithmic buckets: any range, 1.6 % resolution, constant time and memory.
 *
 * Single thread. Plain data. May include: libc.
 */
#ifndef MESA_BENCH_HIST_H
#define MESA_BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 6 /* 64 buckets for each power of two */
#define HIST_BUCKETS ((64 - HIST_SUB_BITS + 1) << HIST_SUB_BITS)

struct hist {
    uint64_t count;
    uint64_t max_ns;
    uint64_t bucket[HIST_BUCKETS];
};

void hist_reset(struct hist *h);
void hist_add(struct hist *h, uint64_t ns);

/* The value (middle of its bucket) that `quantile` (0..1) of the samples do not exceed; 0 without samples. */
uint64_t hist_quantile_ns(const struct hist *h, double quantile);

#endif
