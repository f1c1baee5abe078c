/* rate.c - see rate.h. */
#include "core/rate.h"

enum { MILLI = 1000 };

void mesa_rate_init(struct mesa_rate *r, uint64_t now_ms, uint32_t burst)
{
    r->filled_ms = now_ms;
    r->milli_tokens = (uint64_t)burst * MILLI;
}

bool mesa_rate_take(struct mesa_rate *r, uint64_t now_ms, uint32_t per_second, uint32_t burst)
{
    uint64_t full = (uint64_t)burst * MILLI;
    uint64_t elapsed_ms = now_ms > r->filled_ms ? now_ms - r->filled_ms : 0;

    if (per_second != 0 && elapsed_ms >= full / per_second + 1) { /* also keeps the product small */
        r->milli_tokens = full;
    } else {
        r->milli_tokens += elapsed_ms * per_second;
        if (r->milli_tokens > full)
            r->milli_tokens = full;
    }
    r->filled_ms = now_ms;

    if (r->milli_tokens < MILLI)
        return false;
    r->milli_tokens -= MILLI;
    return true;
}
