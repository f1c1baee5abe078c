#include "test.h"

#include <string.h>

#include "app/cli.h"

enum { WORDS_MAX = 16 };

static struct mesa_cli cli;
static char err[256];
static char line[512];
static char *words[WORDS_MAX];

/* Parses "mesa-lua <rest>", split at spaces. */
static enum mesa_status parse(const char *rest)
{
    int argc = 0;
    memset(&cli, 0, sizeof cli);
    err[0] = '\0';
    snprintf(line, sizeof line, "mesa-lua %s", rest);
    for (char *w = strtok(line, " "); w != NULL; w = strtok(NULL, " "))
        words[argc++] = w;
    words[argc] = NULL;
    return mesa_cli_parse(&cli, argc, words, err, sizeof err);
}

static void check_refused(const char *rest, const char *text)
{
    CHECK_EQ_INT(parse(rest), MESA_EINVAL);
    CHECK_EQ_STR(err, text);
}

TEST(a_script_alone_runs_with_the_defaults)
{
    CHECK_EQ_INT(parse("server.lua"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_RUN);
    CHECK_EQ_STR(cli.target, "server.lua");
    CHECK_EQ_INT(cli.script_argc, 1);
    CHECK_EQ_INT(cli.port, -1);
    CHECK(cli.watch);
    CHECK_EQ_INT(cli.drain_ms, 0);
    CHECK_EQ_INT(cli.log_level, MESA_LOG_INFO);
    CHECK_EQ_INT(cli.log_format, MESA_LOG_TEXT);
}

TEST(what_follows_the_script_belongs_to_the_script)
{
    CHECK_EQ_INT(parse("--port 0 server.lua --port 9 --help"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_RUN);
    CHECK_EQ_INT(cli.port, 0);
    CHECK_EQ_INT(cli.script_argc, 4);
    CHECK_EQ_STR(cli.script_argv[0], "server.lua");
    CHECK_EQ_STR(cli.script_argv[3], "--help");
    CHECK_EQ_STR(cli.script_argv[4], NULL);
}

TEST(options_take_their_value_from_the_next_word_or_behind_the_equals_sign)
{
    CHECK_EQ_INT(parse("--port=65535 --drain 1.5 --log-level=debug --log-format json s"), MESA_OK);
    CHECK_EQ_INT(cli.port, 65535);
    CHECK_EQ_INT(cli.drain_ms, 1500);
    CHECK_EQ_INT(cli.log_level, MESA_LOG_DEBUG);
    CHECK_EQ_INT(cli.log_format, MESA_LOG_JSON);
}

TEST(the_last_of_contradicting_options_wins)
{
    CHECK_EQ_INT(parse("--watch --no-watch s"), MESA_OK);
    CHECK(!cli.watch);
    CHECK_EQ_INT(parse("--no-watch --watch s"), MESA_OK);
    CHECK(cli.watch);
}

TEST(two_dashes_end_the_options)
{
    CHECK_EQ_INT(parse("--check -- --odd.lua"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_CHECK);
    CHECK_EQ_STR(cli.target, "--odd.lua");
}

TEST(help_and_version_need_no_script)
{
    CHECK_EQ_INT(parse("--help"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_HELP);
    CHECK_EQ_INT(parse("-v"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_VERSION);
}

TEST(new_wants_exactly_one_folder)
{
    CHECK_EQ_INT(parse("new app"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_NEW);
    CHECK_EQ_STR(cli.target, "app");
    check_refused("new", "'new' wants one folder: mesa-lua new DIR");
    check_refused("new a b", "'new' wants one folder: mesa-lua new DIR");
    check_refused("new --force", "'new' wants one folder: mesa-lua new DIR");
    char program[] = "mesa-lua", new[] = "new", nothing[] = "",
         *argv[] = {program, new, nothing, NULL};
    CHECK_EQ_INT(mesa_cli_parse(&cli, 3, argv, err, sizeof err), MESA_EINVAL);
    CHECK_EQ_STR(err, "'new' wants one folder: mesa-lua new DIR");
    CHECK_EQ_INT(parse("new --help"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_HELP);
    CHECK_EQ_INT(parse("./new app"), MESA_OK);
    CHECK_EQ_INT(cli.action, MESA_CLI_RUN);
}

TEST(mistakes_are_named)
{
    check_refused("", "no script: mesa-lua [options] server.lua");
    check_refused("--check", "no script: mesa-lua [options] server.lua");
    check_refused("--prot 1 s", "unknown option '--prot'");
    check_refused("-x", "unknown option '-x'");
    check_refused("--check=yes s", "--check takes no value");
    check_refused("--port", "--port wants a value: --port N");
    check_refused("--log-level loud s",
                  "--log-level is debug, info, warn, error or off, not 'loud'");
    check_refused("--log-format xml s", "--log-format is text or json, not 'xml'");
}

TEST(numbers_are_read_strictly)
{
    static const char *const ports[] = {"65536", "-1", "+1", "1x", "0x10", "99999999999999999999"};
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        char rest[64];
        snprintf(rest, sizeof rest, "--port %s s", ports[i]);
        CHECK_EQ_INT(parse(rest), MESA_EINVAL);
    }
    check_refused("--port= s", "--port wants a number from 0 to 65535, not ''");
    check_refused("--drain -1 s", "--drain wants seconds from 0 to 3600, not '-1'");
    check_refused("--drain nan s", "--drain wants seconds from 0 to 3600, not 'nan'");
    check_refused("--drain 3601 s", "--drain wants seconds from 0 to 3600, not '3601'");
    CHECK_EQ_INT(parse("--drain 3600 s"), MESA_OK);
    CHECK_EQ_INT(cli.drain_ms, 3600000);
}
