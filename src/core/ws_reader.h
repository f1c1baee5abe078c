/* ws_reader.h - takes the bytes of a peer apart into WebSocket frames (RFC 6455 section 5).
 *
 * Strict: frames of clients must be masked and those of servers must not, lengths minimal, control frames
 * short and whole, and fragments in order. Reserved bits must be clear; with `deflates` the first one says
 * that a message is compressed (RFC 7692). Payload is unmasked where it lies. One per connection,
 * embedded. Knows no socket and bounds no message: the owner sees what a frame announces before its
 * payload has come.
 * May include: base/, core/frame.h.
 */
#ifndef MESA_CORE_WS_READER_H
#define MESA_CORE_WS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/frame.h"

enum { MESA_WS_HEADER_MAX = 14, MESA_WS_CONTROL_MAX = 125 };

struct mesa_ws_reader {
    uint64_t left;          /* payload of the current frame that has not come */
    unsigned char *control; /* payload of a control frame that came in pieces; NULL: none */
    uint32_t mask;          /* turned so that it fits the next byte */
    uint8_t header[MESA_WS_HEADER_MAX]; /* of a frame whose header came in pieces */
    uint8_t have;                       /* of `header` */
    uint8_t control_have;
    uint8_t opcode;  /* of the current frame */
    uint8_t message; /* opcode of the message that is being received; 0: none */
    bool fin, in_frame;
    bool deflates;   /* permessage-deflate is agreed on: messages may be compressed */
    bool compressed; /* the message that is being received is */
};

enum mesa_ws_item_kind {
    MESA_WS_ITEM_NONE,    /* all is taken: more bytes are needed */
    MESA_WS_ITEM_DATA,    /* some payload of a message */
    MESA_WS_ITEM_CONTROL, /* a whole control frame */
    MESA_WS_ITEM_PROBLEM, /* the stream is broken and must not be read on (1002) */
    MESA_WS_ITEM_NO_MEMORY,
};

struct mesa_ws_item {
    enum mesa_ws_item_kind kind;
    enum mesa_ws_opcode opcode; /* of the message (text or binary), or of the control frame */
    bool final;                 /* nothing of the message comes after this */
    bool compressed;            /* of payload of a message: it is part of a compressed one */
    bool ascii;                 /* of payload of a message: nothing but ASCII */
    const char *data;           /* unmasked; valid until the next call */
    size_t len;                 /* may be 0 */
    uint64_t rest;              /* of this frame's payload, still to come */
    const char *problem;        /* for people */
};

/* A reader of zeroes is one at the beginning of a stream. */
void mesa_ws_reader_deinit(struct mesa_ws_reader *r);

/* Takes one item of a client's stream off *p, which moves towards `end`. A frame that is not complete
 * yet is reported as far as it goes, at first when its header is complete. */
void mesa_ws_reader_next(struct mesa_ws_reader *r, char **p, char *end, struct mesa_ws_item *out);
/* As above, of a server's stream. */
void mesa_ws_reader_next_of_server(struct mesa_ws_reader *r, char **p, char *end,
                                   struct mesa_ws_item *out);

#endif
