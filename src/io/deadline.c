/* deadline.c - see deadline.h. */
#include "io/deadline.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

static timer_t timer;
static volatile sig_atomic_t ready, exit_status;

/* Runs in signal context. The log may be what is stuck: it is only written to when it takes it. */
static void on_alarm(int signum)
{
    static const char text[] =
        "mesa-lua: the end took too long, something does not return: ended\n";
    struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
    (void)signum;
    if (poll(&log, 1, 0) == 1 && (log.revents & POLLOUT) != 0 &&
        write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(exit_status);
    _exit(exit_status);
}

enum mesa_status mesa_deadline_init(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGALRM, &action, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &event, &timer) != 0)
        return MESA_EIO;
    ready = 1;
    return MESA_OK;
}

void mesa_deadline_arm(uint64_t ms)
{
    struct itimerspec now;
    const struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 + 1}};
    if (!ready || timer_gettime(timer, &now) != 0)
        return;
    uint64_t left = (uint64_t)now.it_value.tv_sec * 1000 + (uint64_t)now.it_value.tv_nsec / 1000000;
    bool armed = now.it_value.tv_sec != 0 || now.it_value.tv_nsec != 0;
    if (!armed || ms < left)
        (void)timer_settime(timer, 0, &at, NULL);
}

void mesa_deadline_set_status(int status)
{
    exit_status = status;
}
