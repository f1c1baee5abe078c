/* transport_http.h - one HTTP request and its answer, inside the transport.
 *
 * Handed out as mesa_http and freed once it was answered and the connection has let go of it:
 * whichever comes last. A response is one head, optionally followed by the bytes of a file. Behind it
 * the connection waits for the next request, unless the peer or an error says otherwise. Loop thread
 * only. May include: base/, io/transport_internal.h.
 */
#ifndef MESA_IO_TRANSPORT_HTTP_H
#define MESA_IO_TRANSPORT_HTTP_H

#include <time.h>

#include "io/transport_internal.h"

enum { MESA_HTTP_DATE_BYTES = 32 };

struct mesa_http {
    struct mesa_conn *conn; /* NULL once the peer has left */
    struct mesa_capture capture;
    struct mesa_buf body;
    size_t body_expected;
    bool dispatched; /* on_http has been called, or the transport answers itself */
    bool answered;
    bool done;           /* the whole answer has been written */
    bool keep;           /* the connection stays for another request */
    bool head_only;      /* HEAD */
    struct mesa_buf out; /* what is to be written next */
    size_t out_sent;
    int file; /* -1: none */
    uint64_t file_left;
};

/* Sends `h` what its `out` and `file` hold. Releases `h`. */
void mesa_http_send(struct mesa_http *h);

/* RFC 9110 section 5.6.7. */
void mesa_http_date(time_t when, char out[MESA_HTTP_DATE_BYTES]);

/* transport_conditions.c: of a file with this entity tag and time of change */
/* 200: send it; 304; 412. */
int mesa_http_conditions(const struct mesa_request *req, const char *tag, time_t modified);
struct mesa_http_part {
    uint64_t from, len;
};
/* 200: the whole; 206: the part; 416: there is no such part. */
int mesa_http_range(const struct mesa_request *req, const char *tag, time_t modified, uint64_t size,
                    struct mesa_http_part *out);

/* Starts `out` with a status line and the headers every response has. */
enum mesa_status mesa_http_put_head(struct mesa_http *h, int status, uint64_t content_length);

#endif
