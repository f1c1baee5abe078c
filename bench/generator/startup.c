#include "startup.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hist.h"
#include "proc.h"

#define NS_PER_S 1e9
#define RUNS 10
#define PAUSE_NS 200000 /* between attempts to connect */

static pid_t start(char **command)
{
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++)
            dup2(null, fd);
        execvp(command[0], command);
        _exit(127);
    }
    return pid;
}

static bool upgraded(int fd, const struct options *o)
{
    char text[512];
    int len = snprintf(text, sizeof text,
                       "GET %s HTTP/1.1\r\nHost: %s:%u\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                       "Sec-WebSocket-Version: 13\r\n\r\n",
                       o->path != NULL ? o->path : o->dialect->path, o->host, (unsigned)o->port);
    return send(fd, text, (size_t)len, MSG_NOSIGNAL) == len &&
           recv(fd, text, 13, MSG_WAITALL) == 13 && memcmp(text, "HTTP/1.1 101 ", 13) == 0;
}

/* True: connected and upgraded. */
static bool attempt(const struct options *o, const struct sockaddr_in *server)
{
    struct timeval limit = {.tv_sec = (time_t)o->timeout_s + 1};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
              connect(fd, (const struct sockaddr *)server, sizeof *server) == 0 && upgraded(fd, o);
    if (fd >= 0)
        close(fd);
    return ok;
}

static bool measure(const struct options *o, const struct sockaddr_in *server, struct hist *times)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    uint64_t begin = now_ns();
    uint64_t limit = begin + (uint64_t)(o->timeout_s * NS_PER_S);
    pid_t pid = start(o->command);
    bool ok = false;
    while (pid > 0 && !ok && now_ns() < limit) {
        if (waitpid(pid, NULL, WNOHANG) != 0)
            return false; /* it ended by itself */
        ok = attempt(o, server);
        if (ok)
            hist_add(times, now_ns() - begin);
        else
            nanosleep(&pause, NULL);
    }
    if (pid > 0) {
        kill(pid, SIGTERM);
        waitpid(pid, NULL, 0);
    }
    return ok;
}

bool startup_run(const struct options *o)
{
    static struct hist times;
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons(o->port)};
    uint64_t runs = o->count != 0 ? o->count : RUNS;

    if (inet_pton(AF_INET, o->host, &server.sin_addr) != 1 || attempt(o, &server)) {
        fprintf(stderr, "mesa-bench: %s:%u is no address that is free\n", o->host,
                (unsigned)o->port);
        return false;
    }
    for (uint64_t i = 0; i < runs; i++) {
        if (!measure(o, &server, &times)) {
            fprintf(stderr, "mesa-bench: %s does not serve %s:%u\n", o->command[0], o->host,
                    (unsigned)o->port);
            return false;
        }
    }
    double median_ms = (double)hist_quantile_ns(&times, 0.5) / 1e6;
    printf("{\"mode\":\"startup\",\"label\":\"%s\",\"count\":%llu,\"median_ms\":%.2f}\n", o->label,
           (unsigned long long)runs, median_ms);
    fprintf(stderr, "%s: %.1f ms until the first upgrade\n", o->label, median_ms);
    return true;
}
