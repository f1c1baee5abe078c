/* request.c - the request a connection began with, kept small until somebody asks for it.
 *
 * A client keeps its request for life, and most scripts never look at it. Packed it is its bytes and two
 * bytes of length for each part, about half of what the struct with its spans takes.
 */
#include <stdlib.h>
#include <string.h>

#include "server/internal.h"

enum { FIXED_PARTS = 5 };

struct mesa_packed_request {
    uint16_t header_count;
    bool secure;
    uint16_t lengths
        []; /* method, path, query, ip, protocol, then name and value of each header; the bytes follow */
};

static struct mesa_span part(const struct mesa_request *req, size_t i)
{
    const struct mesa_span fixed[FIXED_PARTS] = {req->method, req->path, req->query, req->ip,
                                                 req->protocol};
    if (i < FIXED_PARTS)
        return fixed[i];
    const struct mesa_header *h = &req->headers[(i - FIXED_PARTS) / 2];
    return (i - FIXED_PARTS) % 2 == 0 ? h->name : h->value;
}

struct mesa_packed_request *mesa_request_pack(const struct mesa_request *req)
{
    size_t count = FIXED_PARTS + 2 * req->header_count, bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += part(req, i).len;
    struct mesa_packed_request *packed =
        malloc(sizeof *packed + count * sizeof *packed->lengths + bytes);
    if (packed == NULL)
        return NULL;
    packed->header_count = (uint16_t)req->header_count; /* a head has at most some 20,000 bytes */
    packed->secure = req->secure;
    char *to = (char *)(packed->lengths + count);
    for (size_t i = 0; i < count; i++) {
        struct mesa_span from = part(req, i);
        packed->lengths[i] = (uint16_t)from.len;
        if (from.len > 0)
            memcpy(to, from.p, from.len);
        to += from.len;
    }
    return packed;
}

/* The next part of `packed`, whose bytes follow `*p`. */
static struct mesa_span next_part(const struct mesa_packed_request *packed, size_t *i, char **p)
{
    struct mesa_span s = {*p, packed->lengths[(*i)++]};
    *p += s.len;
    return s;
}

struct mesa_request *mesa_request_unpack(const struct mesa_packed_request *packed)
{
    size_t count = FIXED_PARTS + 2 * (size_t)packed->header_count, bytes = 0, i = 0;
    for (size_t n = 0; n < count; n++)
        bytes += packed->lengths[n];
    struct mesa_request *req =
        malloc(sizeof *req + packed->header_count * sizeof *req->headers + bytes);
    if (req == NULL)
        return NULL;
    struct mesa_header *headers = (struct mesa_header *)(req + 1);
    char *p = (char *)(headers + packed->header_count);
    memcpy(p, packed->lengths + count, bytes);

    req->method = next_part(packed, &i, &p);
    req->path = next_part(packed, &i, &p);
    req->query = next_part(packed, &i, &p);
    req->ip = next_part(packed, &i, &p);
    req->protocol = next_part(packed, &i, &p);
    for (size_t h = 0; h < packed->header_count; h++) {
        headers[h].name = next_part(packed, &i, &p);
        headers[h].value = next_part(packed, &i, &p);
    }
    req->secure = packed->secure;
    req->certificate = NULL; /* not packed: clients that have shown one share it */
    req->headers = headers;
    req->header_count = packed->header_count;
    return req;
}
