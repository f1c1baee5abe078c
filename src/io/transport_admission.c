/* transport_admission.c - who is let in: the limits that act before anything is spent on a connection, and
 * who a connection counts for.
 *
 * The connections of a believed proxy are many people's: each counts for the client that its upgrade
 * request names, from then on.
 */
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/transport_internal.h"

static const char per_ip_exceeded[] = "more connections than limits.maxConnectionsPerIp";

static struct mesa_address read_address(const struct sockaddr_storage *from)
{
    struct mesa_address a = {.is_unix = false};
    if (from->ss_family == AF_INET)
        a = mesa_address_ipv4(&((const struct sockaddr_in *)from)->sin_addr);
    else if (from->ss_family == AF_INET6)
        memcpy(a.bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, sizeof a.bytes);
    else
        a.is_unix = true;
    return a;
}

bool mesa_listener_believes(const struct mesa_listener *l, const struct mesa_address *address)
{
    return mesa_networks_have(l->proxies, l->proxy_count, address);
}

/* -- connections of an address -- */

/* False: it has too many, or memory ran out. */
static bool count_address(struct mesa_listener *l, const struct mesa_address *address)
{
    if (l->per_ip == NULL || address->is_unix)
        return true;
    const char *key = (const char *)address->bytes;
    size_t len = mesa_address_key(address);
    struct mesa_ip_count *n = mesa_map_get(l->per_ip, key, len);
    if (n == NULL) {
        n = calloc(1, sizeof *n);
        if (n == NULL)
            return false;
        if (mesa_map_set(l->per_ip, key, len, n) != MESA_OK) {
            free(n);
            return false;
        }
    }
    if (n->count >= l->max_connections_per_ip)
        return false;
    n->count++;
    return true;
}

static void uncount_address(struct mesa_listener *l, const struct mesa_address *address)
{
    if (l->per_ip == NULL || address->is_unix)
        return;
    const char *key = (const char *)address->bytes;
    size_t len = mesa_address_key(address);
    struct mesa_ip_count *n = mesa_map_get(l->per_ip, key, len);
    if (n != NULL && --n->count == 0)
        free(mesa_map_remove(l->per_ip, key, len));
}

void mesa_counts_free(struct mesa_map *per_ip)
{
    size_t cursor = 0, len;
    const char *key;
    void *value;
    if (per_ip == NULL)
        return;
    while (mesa_map_next(per_ip, &cursor, &key, &len, &value))
        free(value);
    mesa_map_free(per_ip);
}

bool mesa_conn_count(struct mesa_conn *c, const struct mesa_address *address)
{
    struct mesa_listener *l = c->listener;
    if (c->counted && memcmp(&c->address, address, sizeof *address) == 0)
        return true;
    bool fits = count_address(l, address);
    if (!fits) {
        mesa_listener_refused(l, address, "LIMIT", per_ip_exceeded);
        return false;
    }
    if (c->counted)
        uncount_address(l, &c->address);
    c->address = *address;
    c->counted = true;
    return true;
}

void mesa_listener_forget(struct mesa_listener *l, struct mesa_conn *c)
{
    l->conn_count--;
    if (c->counted)
        uncount_address(l, &c->address);
}

/* -- accepted sockets -- */

void mesa_listener_refused(struct mesa_listener *l, const struct mesa_address *address,
                           const char *code, const char *text)
{
    char ip[MESA_ADDRESS_TEXT_LEN];
    if (l == NULL || l->hooks.on_refused == NULL)
        return;
    mesa_address_text(address, ip);
    l->hooks.on_refused(l->ctx, code, (struct mesa_span){ip, strlen(ip)}, text);
}

void mesa_listener_admit(struct mesa_listener *l, int fd, const struct sockaddr_storage *from)
{
    struct mesa_address address = read_address(from);
    if (l->max_connections != 0 && l->conn_count >= l->max_connections) {
        close(fd);
        mesa_listener_refused(l, &address, "LIMIT", "more connections than limits.maxConnections");
        return;
    }
    bool counts = !mesa_listener_believes(l, &address) &&
                  !(l->proxy_protocol && l->proxy_count == 0); /* that is believed from everybody */
    if (counts && !count_address(l, &address)) {
        close(fd);
        mesa_listener_refused(l, &address, "LIMIT", per_ip_exceeded);
        return;
    }
    l->conn_count++;
    struct mesa_conn *c = mesa_conn_adopt(l, fd, &address);
    if (c != NULL) {
        c->counted = counts;
    } else {
        l->conn_count--;
        if (counts)
            uncount_address(l, &address);
    }
}
