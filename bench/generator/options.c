#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: mesa-bench echo|fanout|handshake|heartbeat|idle|rate [options]\n"
    "       mesa-bench startup [options] -- COMMAND [ARGUMENT...]\n"
    "  --host A --port N --path P  the server (127.0.0.1, 4000, the dialect's)\n"
    "  --dialect mesa|socketio     what it speaks (mesa)\n"
    "  --connections N             connections; fanout: subscribers; handshake: at once (64)\n"
    "  --publishers N              fanout: publishing connections besides (1)\n"
    "  --depth N                   messages, or publications of each publisher, in flight (16)\n"
    "  --rate N                    rate: messages a second, of all connections together (10000)\n"
    "  --size BYTES                WebSocket payload of a message (128)\n"
    "  --type T                    event type instead of ECHO or PUBLISH\n"
    "  --warmup S --duration S     seconds (1, 5); idle: duration is how long to stay idle\n"
    "  --count N                   exactly so many messages, publications or connections, without\n"
    "                              a warm-up, instead of a duration\n"
    "  --timeout S                 bound of opening, of silence and of the end (20)\n"
    "  --sources N                 loopback source addresses (8)\n"
    "  --pid N                     the server's process, for CPU and memory\n"
    "  --tls FILE                  connect with TLS and trust this certificate\n"
    "  --auth                      authenticate every connection (op 2)\n"
    "  --label TEXT                copied to the result\n";

enum {
    OPT_HOST = 256,
    OPT_PORT,
    OPT_PATH,
    OPT_DIALECT,
    OPT_CONNECTIONS,
    OPT_PUBLISHERS,
    OPT_DEPTH,
    OPT_SIZE,
    OPT_TYPE,
    OPT_WARMUP,
    OPT_DURATION,
    OPT_COUNT,
    OPT_TIMEOUT,
    OPT_SOURCES,
    OPT_PID,
    OPT_AUTH,
    OPT_TLS,
    OPT_RATE,
    OPT_LABEL
};

static const struct option names[] = {
    {"host", required_argument, NULL, OPT_HOST},
    {"port", required_argument, NULL, OPT_PORT},
    {"path", required_argument, NULL, OPT_PATH},
    {"dialect", required_argument, NULL, OPT_DIALECT},
    {"connections", required_argument, NULL, OPT_CONNECTIONS},
    {"publishers", required_argument, NULL, OPT_PUBLISHERS},
    {"depth", required_argument, NULL, OPT_DEPTH},
    {"size", required_argument, NULL, OPT_SIZE},
    {"type", required_argument, NULL, OPT_TYPE},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"count", required_argument, NULL, OPT_COUNT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"sources", required_argument, NULL, OPT_SOURCES},
    {"pid", required_argument, NULL, OPT_PID},
    {"rate", required_argument, NULL, OPT_RATE},
    {"tls", required_argument, NULL, OPT_TLS},
    {"auth", no_argument, NULL, OPT_AUTH},
    {"label", required_argument, NULL, OPT_LABEL},
    {NULL, 0, NULL, 0},
};

static bool integer(const char *text, unsigned long min, unsigned long max, unsigned long *out)
{
    char *end;
    errno = 0;
    unsigned long v = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || v < min || v > max)
        return false;
    *out = v;
    return true;
}

static bool seconds(const char *text, double *out)
{
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(v) || v < 0 || v > 3600)
        return false;
    *out = v;
    return true;
}

static bool number_option(struct options *o, int option, const char *arg)
{
    unsigned long v = 0;
    switch (option) {
    case OPT_PORT:
        return integer(arg, 1, UINT16_MAX, &v) && (o->port = (uint16_t)v, true);
    case OPT_CONNECTIONS:
        return integer(arg, 1, 1000000, &v) && (o->connections = (uint32_t)v, true);
    case OPT_PUBLISHERS:
        return integer(arg, 1, 64, &v) && (o->publishers = (uint32_t)v, true);
    case OPT_DEPTH:
        return integer(arg, 1, 65536, &v) && (o->depth = (uint32_t)v, true);
    case OPT_RATE:
        return integer(arg, 1, 10000000, &v) && (o->rate = (uint32_t)v, true);
    case OPT_SIZE:
        return integer(arg, 1, 16u << 20, &v) && (o->size = v, true);
    case OPT_SOURCES:
        return integer(arg, 1, 250, &v) && (o->sources = (uint32_t)v, true);
    case OPT_COUNT:
        return integer(arg, 1, 1000000000, &v) && (o->count = v, true);
    case OPT_PID:
        return integer(arg, 1, INT32_MAX, &v) && (o->pid = (pid_t)v, true);
    case OPT_WARMUP:
        return seconds(arg, &o->warmup_s);
    case OPT_DURATION:
        return seconds(arg, &o->duration_s) && o->duration_s > 0;
    case OPT_TIMEOUT:
        return seconds(arg, &o->timeout_s) && o->timeout_s > 0;
    default:
        return false;
    }
}

static bool option_apply(struct options *o, int option, const char *arg)
{
    switch (option) {
    case OPT_HOST:
        o->host = arg;
        return true;
    case OPT_PATH:
        o->path = arg;
        return true;
    case OPT_DIALECT:
        o->dialect = dialect_find(arg);
        return o->dialect != NULL;
    case OPT_TYPE:
        o->type = arg;
        return strlen(arg) <= 32 && strpbrk(arg, "\"\\") == NULL;
    case OPT_TLS:
        o->tls = arg;
        return true;
    case OPT_LABEL:
        o->label = arg;
        return strpbrk(arg, "\"\\") == NULL;
    case OPT_AUTH:
        o->auth = true;
        return true;
    default:
        return number_option(o, option, arg);
    }
}

bool options_parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){
        .label = "",
        .host = "127.0.0.1",
        .dialect = &dialect_mesa,
        .port = 4000,
        .connections = 64,
        .publishers = 1,
        .depth = 16,
        .rate = 10000,
        .size = 128,
        .warmup_s = 1,
        .duration_s = 5,
        .timeout_s = 20,
        .sources = 8,
    };
    int option;
    int name = 0;
    while ((option = getopt_long(argc, argv, "", names, &name)) != -1) {
        if (option == '?' || !option_apply(o, option, optarg)) {
            if (option != '?')
                fprintf(stderr, "mesa-bench: --%s: not a value for it: %s\n", names[name].name,
                        optarg);
            fputs(usage, stderr);
            return false;
        }
    }
    if (optind == argc) {
        fputs(usage, stderr);
        return false;
    }
    o->mode = argv[optind];
    o->command = argv + optind + 1;
    if ((strcmp(o->mode, "startup") == 0) != (optind + 1 < argc)) {
        fputs(usage, stderr);
        return false;
    }
    return true;
}
