/* redis_scripts_sync.h - the texts of what Redis runs for messages that are kept; redis_scripts.c puts
 * them together.
 *
 * Private to these two. Pure: any thread. May include: nothing.
 */
#ifndef MESA_BROKER_REDIS_SCRIPTS_SYNC_H
#define MESA_BROKER_REDIS_SCRIPTS_SYNC_H

/* Functions. Each needs those above it but for the one named. */
extern const char mesa_redis_lua_numbers[];
extern const char mesa_redis_lua_store[];   /* undelivered_messages */
extern const char mesa_redis_lua_keep[];    /* needs numbers only */
extern const char mesa_redis_lua_collect[]; /* but for keep */
extern const char mesa_redis_lua_settle[];  /* and presence's */

/* Bodies. */
extern const char mesa_redis_lua_route[]; /* numbers, keep, and store() which returns append */
extern const char mesa_redis_lua_take[];
extern const char mesa_redis_lua_confirm[]; /* nothing */
extern const char mesa_redis_lua_part[];

#endif
