/* fake_internal.h - what the files of the fake transport share. */
#ifndef MESA_SPEC_FAKE_INTERNAL_H
#define MESA_SPEC_FAKE_INTERNAL_H

#include <string.h>

#include "fake.h"

struct mesa_transport {
    struct mesa_list conns; /* of all listeners, gone ones included: tests look at them */
    struct mesa_list listeners;
    struct mesa_deflate_streams *deflate; /* NULL before the first connection with compression */
};

struct mesa_listener {
    struct mesa_list link;
    struct mesa_listener_hooks hooks;
    void *ctx;
    bool stopped;
};

struct mesa_conn {
    struct mesa_list link;
    struct mesa_listener *listener;
    void *user;
    struct mesa_buf received;
    size_t read;
    char *text; /* fake_next's */
    const void *last_bytes;
    struct mesa_deflate *deflate;
    unsigned writes;
    int close_code;
    char close_reason[128];
    bool close_drop, paused, stalled, slow, gone;
};

/* The HTTP status of the last refusal or answer. */
extern int fake_last_status;

/* NULL: an absent one. */
static inline struct mesa_span fake_span(const char *text)
{
    return (struct mesa_span){text, text != NULL ? strlen(text) : 0};
}

/* The listener opened last, or the admin's. */
struct mesa_listener *fake_listener(bool admin);

#endif
