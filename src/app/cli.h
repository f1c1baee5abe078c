/* cli.h - the command line of mesa-lua.
 *
 * Parsing is pure: it prints nothing and touches nothing. The strings of the result point into argv.
 * May include: everything left of app/.
 */
#ifndef MESA_APP_CLI_H
#define MESA_APP_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "base/status.h"

/* What the process exits with; documented in --help. */
enum {
    MESA_EXIT_OK = 0,
    MESA_EXIT_FAILURE = 1,
    MESA_EXIT_USAGE = 2,
    MESA_EXIT_SIGNAL = 128, /* plus the number of the second signal */
};

enum mesa_cli_action {
    MESA_CLI_RUN,
    MESA_CLI_CHECK,
    MESA_CLI_NEW,
    MESA_CLI_HELP,
    MESA_CLI_VERSION,
};

struct mesa_cli {
    enum mesa_cli_action action;
    const char *target; /* the main script, or the folder of MESA_CLI_NEW */
    int script_argc;    /* the script and its arguments */
    char **script_argv;
    const char *late_option; /* an option of ours behind the script, which gets it; NULL: none */
    int port;                /* -1: not given */
    bool watch;
    uint32_t drain_ms;
    enum mesa_log_level log_level;
    enum mesa_log_format log_format;
};

/* Options end at the first word that is none: it is the script, and what follows belongs to the script.
 * MESA_EINVAL: `err` says what is wrong. */
enum mesa_status mesa_cli_parse(struct mesa_cli *out, int argc, char **argv, char *err,
                                size_t err_len);

void mesa_cli_print_help(FILE *to);

#endif
