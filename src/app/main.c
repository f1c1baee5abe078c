/* main.c - the mesa-lua process: signals, limits, and the order of beginnings and ends. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "app/cli.h"
#include "app/new.h"
#include "app/templates.h"
#include "base/log.h"
#include "io/deadline.h"
#include "io/loop.h"
#include "io/transport.h"
#include "script/vm.h"

/* libwebsockets keeps tables of this many entries, and falls back to 2560 connections beyond 10 million. */
#define FILE_LIMIT_MAX ((rlim_t)1 << 20)

enum { STOP_SIGNALS = 2 };
static const int stop_signals[STOP_SIGNALS] = {SIGTERM, SIGINT};
static struct sigaction loop_action; /* the loop's own handler, the same for every signal */
static volatile sig_atomic_t loop_listens;
static volatile sig_atomic_t stop_requests;
static uint64_t stop_within_ms;

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max < FILE_LIMIT_MAX ? limit.rlim_max : FILE_LIMIT_MAX;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        mesa_log(MESA_LOG_WARN, "app", "cannot raise the limit of open files to %llu",
                 (unsigned long long)limit.rlim_cur);
}

/* The kernel doubles a process's table of files as it fills up, and waits for a grace period each time
 * once there are threads (libuv's): 5 to 20 ms in which every client waits, at 256, 512, 1,024 … files.
 * A table for so many takes half a megabyte. */
static void grow_file_table(void)
{
    enum { FILES = 65536 };
    struct rlimit limit;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > (rlim_t)fd + 1) {
        rlim_t last = (limit.rlim_cur < FILES ? limit.rlim_cur : FILES) - 1;
        int high = fcntl(fd, F_DUPFD_CLOEXEC, (int)last);
        if (high >= 0)
            close(high);
    }
    close(fd);
}

static void on_stop(void *ctx, int signum)
{
    struct mesa_vm **vm = ctx;
    if (*vm != NULL) /* else the process is ending as it is */
        mesa_vm_shutdown(*vm, signum);
}

static void on_hangup(void *ctx, int signum)
{
    (void)signum;
    struct mesa_vm **vm = ctx;
    if (*vm != NULL)
        mesa_vm_reload(*vm, "SIGHUP");
}

/* Runs in signal context. The second request must work even while a script spins and the loop cannot. */
static void on_stop_signal(int signum)
{
    if (++stop_requests > 1)
        _exit(MESA_EXIT_SIGNAL + signum);
    mesa_deadline_arm(stop_within_ms);
    if (loop_listens)
        loop_action.sa_handler(signum);
}

static enum mesa_status take_stop_signals(void)
{
    struct sigaction ours = loop_action;
    ours.sa_handler = on_stop_signal;
    for (size_t i = 0; i < STOP_SIGNALS; i++)
        if (sigaction(stop_signals[i], &ours, NULL) != 0)
            return MESA_EIO;
    return MESA_OK;
}

/* Puts on_stop_signal in front of the loop's handlers. */
static enum mesa_status watch_signals(struct mesa_loop *loop, struct mesa_vm **vm)
{
    for (size_t i = 0; i < STOP_SIGNALS; i++) {
        enum mesa_status rc = mesa_loop_on_signal(loop, stop_signals[i], on_stop, vm);
        if (rc != MESA_OK)
            return rc;
    }
    if (sigaction(stop_signals[0], NULL, &loop_action) != 0)
        return MESA_EIO;
    loop_listens = 1;
    enum mesa_status rc = take_stop_signals();
    return rc == MESA_OK ? mesa_loop_on_signal(loop, SIGHUP, on_hangup, vm) : rc;
}

/* The program is ending as it is, and no signal may end it with a status of its own; only a second request
 * still does. A loop that is freed would give signals back to the kernel, which would. */
static void outlive_loop_signals(struct mesa_loop *loop)
{
    sigset_t all, before;
    if (loop_action.sa_handler == NULL)
        return; /* they were never watched */
    sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    loop_listens = 0;
    mesa_loop_leave_signals(loop);
    (void)take_stop_signals();
    (void)signal(SIGHUP, SIG_IGN);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Whether the main script can be read; else one line says why not. */
static bool script_readable(const char *script)
{
    char dir[PATH_MAX];
    struct stat st;
    const char *why = NULL;
    if (stat(script, &st) != 0 || access(script, R_OK) != 0)
        why = strerror(errno);
    else if (S_ISDIR(st.st_mode))
        why = "it is a folder, name the script in it";
    if (why == NULL)
        return true;
    bool relative = script[0] != '/' && getcwd(dir, sizeof dir) != NULL;
    mesa_log(MESA_LOG_ERROR, "app", "cannot read the script %s%s%s: %s", relative ? dir : "",
             relative ? "/" : "", script, why);
    return false;
}

static void warn_of_late_option(const struct mesa_cli *cli)
{
    if (cli->late_option != NULL)
        mesa_log(MESA_LOG_WARN, "app",
                 "%s comes after %s, which gets it as an argument: for mesa-lua itself write it "
                 "before the script (or, if it is the script's, write 'mesa-lua -- %s ...')",
                 cli->late_option, cli->target, cli->target);
}

static int run(const struct mesa_cli *cli)
{
    const struct mesa_vm_options opts = {
        .script = cli->target,
        .argc = cli->script_argc,
        .argv = cli->script_argv,
        .port = cli->port,
        .watch = cli->watch && cli->action == MESA_CLI_RUN,
        .drain_ms = cli->drain_ms,
    };
    struct mesa_loop *loop = NULL;
    struct mesa_transport *transport = NULL;
    struct mesa_vm *vm = NULL;
    int code = MESA_EXIT_FAILURE, status;
    bool ended = false;

    if (!script_readable(cli->target))
        return MESA_EXIT_FAILURE;
    warn_of_late_option(cli);
    raise_file_limit();
    grow_file_table();
    enum mesa_status rc = mesa_loop_new(&loop);
    if (rc == MESA_OK)
        rc = mesa_transport_new(&transport, loop);
    if (rc == MESA_OK)
        rc = mesa_vm_new(&vm, loop, transport, &opts);
    if (rc == MESA_OK)
        rc = mesa_deadline_init();
    mesa_deadline_set_status(MESA_VM_EXIT_FORCED);
    stop_within_ms = mesa_vm_shutdown_ms(cli->drain_ms);
    if (rc == MESA_OK && cli->action == MESA_CLI_RUN)
        rc = watch_signals(loop, &vm);
    if (rc != MESA_OK) {
        mesa_log(MESA_LOG_ERROR, "app", "cannot start: %s", mesa_status_text(rc));
        goto out;
    }

    rc = mesa_vm_load(vm);
    if (rc == MESA_OK && cli->action == MESA_CLI_CHECK)
        rc = mesa_vm_print_check(vm);
    if (rc == MESA_OK && cli->action == MESA_CLI_RUN)
        rc = mesa_vm_listen(vm);
    if ((rc == MESA_OK && cli->action == MESA_CLI_RUN) || mesa_vm_exiting(vm))
        mesa_loop_run(loop);
    ended = rc == MESA_OK || mesa_vm_exiting(vm);

out:
    outlive_loop_signals(loop);
    status = mesa_vm_free(vm);
    if (ended)
        code = status;
    vm = NULL; /* the transport's end runs the loop */
    mesa_transport_free(transport);
    mesa_loop_free(loop);
    mesa_log_tell_counted(true);
    return code;
}

static int new_project(const char *dir)
{
    char err[512] = "the folder with mesa/init.lua is missing: install mesa-lua as a whole";
    char *library = mesa_vm_library_dir();
    enum mesa_status rc = MESA_EIO;
    if (library != NULL)
        rc = mesa_new_write(dir, library, err, sizeof err);
    free(library);
    if (rc != MESA_OK) {
        fprintf(stderr, "mesa-lua: %s\n", err);
        return MESA_EXIT_FAILURE;
    }
    printf("Wrote into %s:\n\n", dir);
    for (size_t i = 0; i < mesa_template_count; i++)
        printf("  %s\n", mesa_templates[i].name);
    printf("\nStart the server, and open http://localhost:4000/:\n\n"
           "  cd %s && mesa-lua server.lua\n",
           dir);
    return MESA_EXIT_OK;
}

static int print_version(void)
{
    printf("mesa-lua %s\nlibwebsockets %s\nlibuv %s\n%s\n", MESA_VERSION,
           mesa_transport_library_version(), uv_version_string(), mesa_vm_library_version());
    return MESA_EXIT_OK;
}

/* A descriptor below 3 that whoever started us has closed would be the next that is opened: the log of one
 * would go to a client, and libuv ends the process when it is told to close one. */
static bool open_standard_files(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd > STDERR_FILENO)
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    struct mesa_cli cli;
    char err[256];
    if (!open_standard_files())
        return MESA_EXIT_FAILURE;
    if (mesa_cli_parse(&cli, argc, argv, err, sizeof err) != MESA_OK) {
        fprintf(stderr, "mesa-lua: %s\nTry: mesa-lua --help\n", err);
        return MESA_EXIT_USAGE;
    }
    mesa_log_configure(cli.log_level, cli.log_format);

    switch (cli.action) {
    case MESA_CLI_HELP:
        mesa_cli_print_help(stdout);
        return MESA_EXIT_OK;
    case MESA_CLI_VERSION:
        return print_version();
    case MESA_CLI_NEW:
        return new_project(cli.target);
    case MESA_CLI_CHECK:
    case MESA_CLI_RUN:
        break;
    }
    return run(&cli);
}
