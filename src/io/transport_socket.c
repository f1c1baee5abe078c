/* transport_socket.c - opening listening sockets: IPv4, IPv6, both, and Unix. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/transport_internal.h"

enum { BACKLOG = 4096 };

static enum mesa_status report(char *err, size_t err_len, const char *what, int error)
{
    snprintf(err, err_len, "cannot listen on %s: %s", what, strerror(error));
    return error == EADDRINUSE ? MESA_EINUSE : MESA_EIO;
}

static void set_option(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

/* Binds and listens; returns the descriptor, or -1 with errno set. */
static int try_listen(const struct sockaddr *address, socklen_t len, bool reuse_port)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (reuse_port)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (address->sa_family != AF_UNIX) /* what is accepted inherits it */
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (address->sa_family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (bind(fd, address, len) == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        return 0;
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
}

static enum mesa_status tcp_failed(const struct mesa_listener_config *cfg, int error, char *err,
                                   size_t err_len)
{
    char what[300];
    if (error == EADDRINUSE) {
        snprintf(err, err_len, "port %u is in use", cfg->port);
        return MESA_EINUSE;
    }
    if (cfg->host == NULL)
        snprintf(what, sizeof what, "port %u", cfg->port);
    else
        snprintf(what, sizeof what, "%s, port %u", cfg->host, cfg->port);
    return report(err, err_len, what, error);
}

static enum mesa_status listen_any(const struct mesa_listener_config *cfg, int *fd, char *err,
                                   size_t err_len)
{
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(cfg->port), .sin6_addr = in6addr_any};
    *fd = try_listen((struct sockaddr *)&six, sizeof six, cfg->reuse_port);
    if (*fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(cfg->port)};
        *fd = try_listen((struct sockaddr *)&four, sizeof four, cfg->reuse_port);
    }
    return *fd >= 0 ? MESA_OK : tcp_failed(cfg, errno, err, err_len);
}

static enum mesa_status listen_host(const struct mesa_listener_config *cfg, int *fd, char *err,
                                    size_t err_len)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char service[8];
    int error = EADDRNOTAVAIL;

    snprintf(service, sizeof service, "%u", cfg->port);
    int rc = getaddrinfo(cfg->host, service, &hints, &found);
    if (rc != 0) {
        snprintf(err, err_len, "cannot listen on %s: %s", cfg->host, gai_strerror(rc));
        return MESA_EINVAL;
    }
    *fd = -1;
    for (struct addrinfo *a = found; a != NULL && *fd < 0; a = a->ai_next) {
        *fd = try_listen(a->ai_addr, a->ai_addrlen, cfg->reuse_port);
        if (*fd < 0)
            error = errno;
    }
    freeaddrinfo(found);
    return *fd >= 0 ? MESA_OK : tcp_failed(cfg, error, err, err_len);
}

/* Whether a socket file exists that nobody listens on. */
static bool is_stale(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool refused = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return refused;
}

/* The file has its permissions from the moment it is there. */
static int listen_with_mode(const struct sockaddr_un *address, const char *mode)
{
    if (mode == NULL)
        return try_listen((const struct sockaddr *)address, sizeof *address, false);
    mode_t wanted = (mode_t)strtoul(mode, NULL, 8) & 0777;
    mode_t before = umask(~wanted & 0777);
    int fd = try_listen((const struct sockaddr *)address, sizeof *address, false);
    int error = errno;
    umask(before);
    if (fd >= 0 && chmod(address->sun_path, wanted) != 0) { /* the file system may have its own */
        error = errno;
        close(fd);
        fd = -1;
    }
    errno = error;
    return fd;
}

static enum mesa_status listen_unix(const char *path, const char *mode, int *fd, char *err,
                                    size_t err_len)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof address.sun_path) {
        snprintf(err, err_len, "unix:%s: the path must have 1 to %zu bytes", path,
                 sizeof address.sun_path - 1);
        return MESA_EINVAL;
    }
    memcpy(address.sun_path, path, len + 1);
    *fd = listen_with_mode(&address, mode);
    if (*fd < 0 && errno == EADDRINUSE) {
        if (!is_stale(&address)) {
            snprintf(err, err_len, "%s is in use", path);
            return MESA_EINUSE;
        }
        unlink(path);
        *fd = listen_with_mode(&address, mode);
    }
    return *fd >= 0 ? MESA_OK : report(err, err_len, path, errno);
}

enum mesa_status mesa_socket_listen(const struct mesa_listener_config *cfg, int *fd, uint16_t *port,
                                    char *err, size_t err_len)
{
    enum mesa_status rc;
    if (cfg->host != NULL && strncmp(cfg->host, "unix:", 5) == 0) {
        *port = 0;
        return listen_unix(cfg->host + 5, cfg->mode, fd, err, err_len);
    }
    rc = cfg->host == NULL ? listen_any(cfg, fd, err, err_len) : listen_host(cfg, fd, err, err_len);
    if (rc == MESA_OK)
        *port = bound_port(*fd);
    return rc;
}
