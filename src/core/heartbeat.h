/* heartbeat.h - when a heartbeat is sent and when a silent client is given up (PROTOCOL 4).
 *
 * Pure: who calls mesa_heartbeat_tick decides when. May include: nothing of ours.
 */
#ifndef MESA_CORE_HEARTBEAT_H
#define MESA_CORE_HEARTBEAT_H

#include <stdbool.h>
#include <stdint.h>

struct mesa_heartbeat {
    uint32_t tries;    /* heartbeats in a row without an answer, the first one not counted */
    bool sent;         /* at least one was sent */
    bool acknowledged; /* an answer came after the last one */
};

enum mesa_heartbeat_action {
    MESA_HEARTBEAT_SEND,  /* {} */
    MESA_HEARTBEAT_RETRY, /* {"tries": hb->tries, "max": max_attempts} */
    MESA_HEARTBEAT_CLOSE, /* 4009 */
};

void mesa_heartbeat_init(struct mesa_heartbeat *hb);
/* One interval has passed. */
enum mesa_heartbeat_action mesa_heartbeat_tick(struct mesa_heartbeat *hb, uint32_t max_attempts);
/* The client answered. */
void mesa_heartbeat_acknowledge(struct mesa_heartbeat *hb);

#endif
