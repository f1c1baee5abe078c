/* app.h - a small application on the hooks of a server, for the tests of server/: it writes down
 * what it is told.
 */
#ifndef MESA_SPEC_APP_H
#define MESA_SPEC_APP_H

#include "fake.h"
#include "test.h"

/* What the tests of one file share. `cfg` is filled with defaults by app_begin and given away by
 * app_start. */
struct app {
    struct mesa_config cfg;
    struct mesa_server *server;
    struct mesa_client *last; /* the client that connected last; referenced */
    uint32_t check;           /* the newest check */
    char log[16384];          /* a line per event */
    void (*on_message)(struct mesa_client *c, struct mesa_span d);
    void (*on_connection)(struct mesa_client *c);
    void (*on_disconnect)(struct mesa_client *c);
    void (*on_error)(struct mesa_client *c);
    void (*on_authenticated)(struct mesa_client *c);
    void (*on_closed)(void);
    char error_text[512];                /* of the last error */
    struct mesa_server_upgrade *upgrade; /* the last one to be decided about */
    bool decides;                        /* about upgrades */
    bool authenticates;                  /* each new client gets an authenticator */
    bool http_answers;
    bool reload_fails;
};

extern struct app app;

void app_begin(void);
void app_start(void);
/* Frees the server, if it is still there, and ends the loop. */
void app_end(void);

/* The log so far; emptied for the next call. */
const char *app_log(void);
/* The client of a connection made just now. */
struct mesa_conn *app_connect(void);
/* Connects and authenticates as `id`; skips hello and op 22. */
struct mesa_conn *app_login(const char *id);

struct mesa_frame *app_frame(const char *d);
/* Sends {"op":0,"d":d} to the client, to everybody, to one id. */
enum mesa_status app_send(struct mesa_client *c, const char *d);
enum mesa_status app_broadcast(const char *d);
enum mesa_status app_send_to(const char *id, const char *d);
struct mesa_span app_span(const char *text);

#endif
