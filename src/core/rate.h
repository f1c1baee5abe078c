/* rate.h - a token bucket: how many messages a client may send.
 *
 * The caller passes the time, so the bucket is pure. May include: nothing of ours.
 */
#ifndef MESA_CORE_RATE_H
#define MESA_CORE_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct mesa_rate {
    uint64_t filled_ms;    /* when `milli_tokens` was true */
    uint64_t milli_tokens; /* thousandths of a message */
};

/* A full bucket. */
void mesa_rate_init(struct mesa_rate *r, uint64_t now_ms, uint32_t burst);

/* Takes one message out of the bucket, which refills with `per_second` messages a second up to
 * `burst`. False: it is empty, the message is over the rate. */
bool mesa_rate_take(struct mesa_rate *r, uint64_t now_ms, uint32_t per_second, uint32_t burst);

#endif
