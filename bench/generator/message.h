/* message.h - the messages of a run: frames made once and numbered in place, and the check of what comes back.
 *
 * A message's data is {"seq":N,"text":"…"}, N always of nine digits, so all messages of a run have one length; Mesa's is
 * {"op":0,"d":DATA,"t":TYPE}.
 * A server that parses and prints JSON may order the members as it likes. A layout seen and fully checked once is remembered, so that
 * checking costs a memcmp and the generator stays ahead of the servers.
 * Single thread. May include: bytes, dialect, wsframe.
 */
#ifndef MESA_BENCH_MESSAGE_H
#define MESA_BENCH_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dialect.h"

#define MESSAGE_SEQ_DIGITS 9
#define MESSAGE_SEQ_MIN 100000000u /* the first number of nine digits */
#define MESSAGE_SEQ_END 1000000000u
#define MESSAGE_LAYOUTS 8

struct layout {
    char *text;
    size_t len;
    size_t seq_at;
};

struct message {
    const struct dialect *dialect;
    char *type;
    char *text; /* the member d.text */
    size_t text_len;
    uint8_t *frame; /* masked, with some number in it */
    size_t frame_len;
    size_t payload_at;
    size_t seq_at; /* in the payload */
    struct layout layouts[MESSAGE_LAYOUTS];
    unsigned layout_count;
    unsigned layout_next; /* to be replaced when all are taken */
};

/* `size` is the length of the WebSocket payload; a smaller one than the envelope needs becomes that minimum. */
void message_init(struct message *m, const struct dialect *dialect, const char *type, size_t size);
void message_deinit(struct message *m);

/* The number of the n-th message of a connection. */
uint32_t message_number(uint64_t n);

/* Writes the frame numbered `seq` to `out`, which has room for m->frame_len. */
void message_write(const struct message *m, uint8_t *out, uint32_t seq);

/* True: it is one of ours with the type and content of all, and *seq is its number. */
bool message_check(struct message *m, const char *text, size_t len, uint32_t *seq);

#endif
