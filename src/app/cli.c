#include "app/cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DRAIN_MAX_SECONDS = 3600 };

/* What an option's setter works on. */
struct parse {
    struct mesa_cli *cli;
    char *err;
    size_t err_len;
};

struct option {
    const char *name;
    const char *value_name; /* NULL: takes none */
    enum mesa_status (*set)(struct parse *p, const char *value);
};

static enum mesa_status set_help(struct parse *p, const char *value)
{
    (void)value;
    p->cli->action = MESA_CLI_HELP;
    return MESA_OK;
}

static enum mesa_status set_version(struct parse *p, const char *value)
{
    (void)value;
    p->cli->action = MESA_CLI_VERSION;
    return MESA_OK;
}

static enum mesa_status set_check(struct parse *p, const char *value)
{
    (void)value;
    p->cli->action = MESA_CLI_CHECK;
    return MESA_OK;
}

static enum mesa_status set_watch(struct parse *p, const char *value)
{
    (void)value;
    p->cli->watch = true;
    return MESA_OK;
}

static enum mesa_status set_no_watch(struct parse *p, const char *value)
{
    (void)value;
    p->cli->watch = false;
    return MESA_OK;
}

static enum mesa_status set_port(struct parse *p, const char *value)
{
    char *end;
    errno = 0;
    long port = strtol(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || value[0] < '0' || value[0] > '9' ||
        port > 65535) {
        snprintf(p->err, p->err_len, "--port wants a number from 0 to 65535, not '%s'", value);
        return MESA_EINVAL;
    }
    p->cli->port = (int)port;
    return MESA_OK;
}

static enum mesa_status set_drain(struct parse *p, const char *value)
{
    char *end;
    double seconds = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(seconds) || seconds < 0 ||
        seconds > DRAIN_MAX_SECONDS) {
        snprintf(p->err, p->err_len, "--drain wants seconds from 0 to %d, not '%s'",
                 DRAIN_MAX_SECONDS, value);
        return MESA_EINVAL;
    }
    p->cli->drain_ms = (uint32_t)(seconds * 1000);
    return MESA_OK;
}

static enum mesa_status set_log_level(struct parse *p, const char *value)
{
    if (mesa_log_level_parse(value, &p->cli->log_level) == MESA_OK)
        return MESA_OK;
    snprintf(p->err, p->err_len, "--log-level is debug, info, warn, error or off, not '%s'", value);
    return MESA_EINVAL;
}

static enum mesa_status set_log_format(struct parse *p, const char *value)
{
    if (strcmp(value, "text") == 0)
        p->cli->log_format = MESA_LOG_TEXT;
    else if (strcmp(value, "json") == 0)
        p->cli->log_format = MESA_LOG_JSON;
    else {
        snprintf(p->err, p->err_len, "--log-format is text or json, not '%s'", value);
        return MESA_EINVAL;
    }
    return MESA_OK;
}

static const struct option options[] = {
    {"-h", NULL, set_help},
    {"--help", NULL, set_help},
    {"-v", NULL, set_version},
    {"--version", NULL, set_version},
    {"--check", NULL, set_check},
    {"--watch", NULL, set_watch},
    {"--no-watch", NULL, set_no_watch},
    {"--port", "N", set_port},
    {"--drain", "SECONDS", set_drain},
    {"--log-level", "LEVEL", set_log_level},
    {"--log-format", "FORMAT", set_log_format},
};

/* Matches "--name" and "--name=value"; `*inline_value` is NULL without '='. */
static const struct option *find_option(const char *word, const char **inline_value)
{
    size_t len = strcspn(word, "=");
    *inline_value = word[len] == '=' ? word + len + 1 : NULL;
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, word, len) == 0)
            return &options[i];
    }
    return NULL;
}

/* Reads the option at argv[*i] and leaves *i at its last word. */
static enum mesa_status parse_option(struct parse *p, int argc, char **argv, int *i)
{
    const char *value;
    const struct option *o = find_option(argv[*i], &value);
    if (o == NULL) {
        snprintf(p->err, p->err_len, "unknown option '%s'", argv[*i]);
        return MESA_EINVAL;
    }
    if (o->value_name == NULL && value != NULL) {
        snprintf(p->err, p->err_len, "%s takes no value", o->name);
        return MESA_EINVAL;
    }
    if (o->value_name != NULL && value == NULL) {
        if (*i + 1 == argc) {
            snprintf(p->err, p->err_len, "%s wants a value: %s %s", o->name, o->name,
                     o->value_name);
            return MESA_EINVAL;
        }
        value = argv[++*i];
    }
    return o->set(p, value);
}

static enum mesa_status parse_new(struct parse *p, int argc, char **argv)
{
    if (argc == 1 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0))
        return set_help(p, NULL);
    if (argc != 1 || argv[0][0] == '-' || argv[0][0] == '\0') {
        snprintf(p->err, p->err_len, "'new' wants one folder: mesa-lua new DIR");
        return MESA_EINVAL;
    }
    p->cli->action = MESA_CLI_NEW;
    p->cli->target = argv[0];
    return MESA_OK;
}

/* The first of the script's arguments that is an option of ours, and was perhaps meant to be one. */
static const char *find_late_option(int argc, char **argv)
{
    const char *value;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (find_option(argv[i], &value) != NULL)
            return argv[i];
    return NULL;
}

enum mesa_status mesa_cli_parse(struct mesa_cli *out, int argc, char **argv, char *err,
                                size_t err_len)
{
    struct mesa_cli cli = {
        .action = MESA_CLI_RUN,
        .port = -1,
        .watch = true,
        .log_level = MESA_LOG_INFO,
        .log_format = MESA_LOG_TEXT,
    };
    struct parse p = {&cli, err, err_len};
    int i = 1;
    bool ended = false; /* by "--": what follows is not ours for certain */
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            ended = true;
            break;
        }
        enum mesa_status rc = parse_option(&p, argc, argv, &i);
        if (rc != MESA_OK)
            return rc;
    }

    enum mesa_status rc = MESA_OK;
    if (cli.action != MESA_CLI_HELP && cli.action != MESA_CLI_VERSION) {
        if (i == argc) {
            snprintf(err, err_len, "no script: mesa-lua [options] server.lua");
            rc = MESA_EINVAL;
        } else if (strcmp(argv[i], "new") == 0 && cli.action == MESA_CLI_RUN) {
            rc = parse_new(&p, argc - i - 1, argv + i + 1);
        } else {
            cli.target = argv[i];
            cli.script_argc = argc - i;
            cli.script_argv = argv + i;
            cli.late_option = ended ? NULL : find_late_option(argc - i, argv + i);
        }
    }
    if (rc == MESA_OK)
        *out = cli;
    return rc;
}

void mesa_cli_print_help(FILE *to)
{
    fputs(
        "Usage: mesa-lua [options] server.lua [arguments]\n"
        "       mesa-lua new DIR\n"
        "\n"
        "Runs a WebSocket server whose behaviour is written in Lua. The arguments are the script's, in\n"
        "the global table arg: also options that come behind the script. `new` writes a first server\n"
        "into a folder (write ./new for a script of that name).\n"
        "\n"
        "Options:\n"
        "  --check              load every script, listen nowhere, say what was checked, exit with 0 or 1\n"
        "  --port N             instead of the port of the script's first server; 0: any free one\n"
        "  --watch, --no-watch  reload scripts and certificates when they change (the default), or not\n"
        "  --drain SECONDS      spread the closing of clients over this time when stopping (0)\n"
        "  --log-level LEVEL    debug, info (the default), warn, error or off\n"
        "  --log-format FORMAT  text (the default) or json, one line a record, to standard error\n"
        "  -v, --version        print the versions of mesa-lua and its libraries\n"
        "  -h, --help           print this\n"
        "\n"
        "Signals:\n"
        "  SIGTERM, SIGINT      close all clients with 1001, then exit; a second one exits at once\n"
        "  SIGHUP               reload the handler scripts\n"
        "\n"
        "Exit codes:\n"
        "  0      ended in order, by itself or by a signal; --check found nothing wrong\n"
        "  1      a script failed to load, a port could not be opened, or a file not be written\n"
        "  2      the command line is wrong\n"
        "  3      out of memory: limits.scriptMemory and its reserve are used up\n"
        "  4      the end was forced: beforeExit, a handler or a thread did not come to its end\n"
        "  128+N  ended by a second signal, whose number is N\n",
        to);
}
