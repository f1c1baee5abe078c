/* guest.c - servers that serve a path on the port of another one.
 *
 * The host's listener calls its hooks with the host, which looks for the guest by path; from then
 * on a connection is its client's server's. The host counts the connections of its guests, so that
 * it does not end before they have closed.
 */
#include <string.h>

#include "server/internal.h"

static bool has_path(const struct mesa_server *s, struct mesa_span path)
{
    return s->cfg.path != NULL &&
           mesa_span_eq((struct mesa_span){s->cfg.path, strlen(s->cfg.path)}, path);
}

struct mesa_server *mesa_server_for(struct mesa_server *host, struct mesa_span path)
{
    MESA_LIST_FOREACH(it, &host->guests) {
        struct mesa_server *s = MESA_CONTAINER_OF(it, struct mesa_server, guest);
        if (has_path(s, path))
            return s;
    }
    return host;
}

enum mesa_status mesa_server_join(struct mesa_server *s, struct mesa_server *on)
{
    if (s->cfg.path == NULL || on->host != NULL || on->dead)
        return MESA_EINVAL;
    struct mesa_span path = {s->cfg.path, strlen(s->cfg.path)};
    if (mesa_server_for(on, path) != on || has_path(on, path))
        return MESA_EINUSE;
    s->host = on;
    mesa_list_append(&on->guests, &s->guest);
    return MESA_OK;
}

bool mesa_server_is_guest(const struct mesa_server *s)
{
    return s->host != NULL;
}

void mesa_server_close_guests(struct mesa_server *s, int code, const char *reason,
                              uint32_t drain_ms)
{
    MESA_LIST_FOREACH_SAFE(it, next, &s->guests)
        mesa_server_close(MESA_CONTAINER_OF(it, struct mesa_server, guest), code, reason, drain_ms);
}

void mesa_server_part(struct mesa_server *s)
{
    mesa_list_remove(&s->guest);
    s->host = NULL;
    while (!mesa_list_empty(&s->guests)) {
        struct mesa_server *guest = MESA_CONTAINER_OF(s->guests.next, struct mesa_server, guest);
        mesa_list_remove(&guest->guest);
        guest->host = NULL;
    }
}
