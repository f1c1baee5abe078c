/* heartbeat.c - see heartbeat.h. */
#include "core/heartbeat.h"

void mesa_heartbeat_init(struct mesa_heartbeat *hb)
{
    *hb = (struct mesa_heartbeat){0, false, false};
}

enum mesa_heartbeat_action mesa_heartbeat_tick(struct mesa_heartbeat *hb, uint32_t max_attempts)
{
    if (!hb->sent || hb->acknowledged) {
        *hb = (struct mesa_heartbeat){.tries = 0, .sent = true, .acknowledged = false};
        return MESA_HEARTBEAT_SEND;
    }
    hb->tries++;
    return hb->tries > max_attempts ? MESA_HEARTBEAT_CLOSE : MESA_HEARTBEAT_RETRY;
}

void mesa_heartbeat_acknowledge(struct mesa_heartbeat *hb)
{
    hb->acknowledged = true;
}
