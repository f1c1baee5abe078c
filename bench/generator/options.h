/* options.h - the command line.
 *
 * Plain data; strings point into argv. May include: dialect.
 */
#ifndef MESA_BENCH_OPTIONS_H
#define MESA_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dialect.h"

struct options {
    const char *mode;
    const char *label;
    const char *host;
    const char *path; /* NULL: the dialect's own */
    const struct dialect *dialect;
    const char *type; /* NULL: the mode's own */
    uint16_t port;
    uint32_t connections;
    uint32_t publishers;
    uint32_t depth;
    uint32_t sources;
    size_t size;
    uint32_t rate;
    double warmup_s;
    double duration_s;
    uint64_t count;   /* of messages, publications or connections in all; 0: for duration_s */
    double timeout_s; /* for opening, for any silence, and for what is outstanding at the end */
    pid_t pid;        /* 0: unknown */
    bool auth;
    const char *tls; /* NULL: plain; else the certificate to trust */
    char **command;  /* startup only: what to start; ends with NULL */
};

/* False: the complaint and the usage have been printed. */
bool options_parse(struct options *o, int argc, char **argv);

#endif
