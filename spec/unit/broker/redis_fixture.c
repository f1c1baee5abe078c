/* redis_fixture.c - real Redis servers, a fake one, and what a connection has told. */
#include "redis_fixture.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test.h"

enum { MAX_ARGS = 48 };

struct mesa_loop *loop;

/* The socket stays bound until the process ends, so that the kernel gives the port to nobody else;
 * Redis sets SO_REUSEADDR, too, and can listen there all the same. */
uint16_t fixture_free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0 &&
          bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 &&
          getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
    return ntohs(sa.sin_port);
}

static bool listens(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
    bool ok = connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
    close(fd);
    return ok;
}

static void run_child(char **argv, const char *folder)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (chdir(folder) != 0 || freopen("log", "a", stdout) == NULL || dup2(1, 2) < 0)
        _exit(126);
    execvp(argv[0], argv);
    _exit(127);
}

bool fixture_redis_start(struct redis_child *c, const char *const *args)
{
    char port[8];
    if (c->port == 0) {
        c->port = fixture_free_port();
        strcpy(c->folder, "/tmp/mesa-redis-XXXXXX");
        if (!CHECK(mkdtemp(c->folder) != NULL))
            return false;
        snprintf(c->socket, sizeof c->socket, "%s/redis.sock", c->folder);
    }
    snprintf(port, sizeof port, "%u", c->port);
    const char *argv[MAX_ARGS] = {"redis-server"};
    size_t argc = 1;
    /* a configuration file comes first */
    if (args != NULL && args[0] != NULL && args[0][0] != '-')
        argv[argc++] = *args++;
    const char *fixed[] = {"--port",  port,    "--bind",  "127.0.0.1",   "--unixsocket",
                           c->socket, "--dir", c->folder, "--daemonize", "no"};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        argv[argc++] = fixed[i];
    while (args != NULL && *args != NULL)
        argv[argc++] = *args++;
    if (strcmp(argv[argc - 1], "--sentinel") != 0) {
        const char *memory[] = {"--save", "", "--appendonly", "no"};
        for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++)
            argv[argc++] = memory[i];
    }

    unlink(c->socket);
    fflush(stdout);
    c->pid = fork();
    if (c->pid == 0)
        run_child((char **)argv, c->folder);
    for (int ms = 0; ms < FIXTURE_DEADLINE_MS; ms += 5) {
        int status;
        if (listens(c->socket))
            return true;
        if (waitpid(c->pid, &status, WNOHANG) == c->pid) {
            printf("redis-server ended with status %d: is it installed?\n", status);
            c->pid = 0;
            break;
        }
        usleep(5000);
    }
    return CHECK(!"redis-server listens");
}

void fixture_redis_stop(struct redis_child *c, int signum)
{
    if (c->pid == 0)
        return;
    kill(c->pid, signum);
    waitpid(c->pid, NULL, 0);
    c->pid = 0;
}

void fixture_redis_remove(struct redis_child *c)
{
    fixture_redis_stop(c, SIGKILL);
    if (c->folder[0] == '\0')
        return;
    DIR *dir = opendir(c->folder); /* a sentinel that was killed leaves temporary files */
    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char path[sizeof c->folder + sizeof e->d_name];
        snprintf(path, sizeof path, "%s/%s", c->folder, e->d_name);
        unlink(path);
    }
    if (dir != NULL)
        closedir(dir);
    CHECK_EQ_INT(rmdir(c->folder), 0);
    *c = (struct redis_child){0};
}

struct fake_peer {
    uv_tcp_t handle;
    struct fake *fake;
};

struct fake_write {
    uv_write_t request;
    char data[];
};

static void on_peer_closed(uv_handle_t *h)
{
    free(h->data);
}

void fake_hang_up(struct fake_peer *p)
{
    if (!uv_is_closing((uv_handle_t *)&p->handle))
        uv_close((uv_handle_t *)&p->handle, on_peer_closed);
}

static void on_written(uv_write_t *request, int status)
{
    (void)status;
    free(request->data);
}

void fake_say(struct fake_peer *p, const void *data, size_t len)
{
    struct fake_write *w = malloc(sizeof *w + len);
    memcpy(w->data, data, len);
    w->request.data = w;
    uv_buf_t buf = uv_buf_init(w->data, (unsigned)len);
    CHECK_EQ_INT(uv_write(&w->request, (uv_stream_t *)&p->handle, &buf, 1, on_written), 0);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
    (void)h;
    *buf = uv_buf_init(malloc(size), (unsigned)size);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct fake_peer *p = stream->data;
    struct fake *f = p->fake;
    if (n < 0) {
        fake_hang_up(p);
    } else if (n > 0) {
        f->reads++;
        if (f->on_data != NULL)
            f->on_data(f, p, buf->base, (size_t)n);
    }
    free(buf->base);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct fake *f = listener->data;
    struct fake_peer *p = calloc(1, sizeof *p);
    CHECK_EQ_INT(status, 0);
    p->fake = f;
    uv_tcp_init(listener->loop, &p->handle);
    p->handle.data = p;
    CHECK_EQ_INT(uv_accept(listener, (uv_stream_t *)&p->handle), 0);
    f->accepted++;
    uv_read_start((uv_stream_t *)&p->handle, on_alloc, on_read);
    if (f->on_accept != NULL)
        f->on_accept(f, p);
}

void fake_start(struct fake *f, struct mesa_loop *l)
{
    struct sockaddr_in sa;
    int len = sizeof sa;
    uv_ip4_addr("127.0.0.1", 0, &sa);
    uv_tcp_init(mesa_loop_uv(l), &f->listener);
    f->listener.data = f;
    CHECK_EQ_INT(uv_tcp_bind(&f->listener, (struct sockaddr *)&sa, 0), 0);
    CHECK_EQ_INT(uv_listen((uv_stream_t *)&f->listener, 16, on_connection), 0);
    uv_tcp_getsockname(&f->listener, (struct sockaddr *)&sa, &len);
    f->port = ntohs(sa.sin_port);
}

static void close_peer(uv_handle_t *h, void *ctx)
{
    if (h->type == UV_TCP && h->data != NULL &&
        h != (uv_handle_t *)&((struct fake *)ctx)->listener &&
        ((struct fake_peer *)h->data)->fake == ctx)
        fake_hang_up(h->data);
}

void fake_stop(struct fake *f)
{
    uv_walk(f->listener.loop, close_peer, f);
    uv_close((uv_handle_t *)&f->listener, NULL);
    run_for(5);
}

static void drop(struct seen *s)
{
    struct mesa_redis *redis = s->redis;
    s->redis = NULL; /* callbacks of what is pending look at it */
    mesa_redis_free(redis);
}

static void on_ready(void *ctx)
{
    struct seen *s = ctx;
    s->ready++;
    if (s->free_on_ready)
        drop(s);
}

static void on_lost(void *ctx, const char *reason)
{
    struct seen *s = ctx;
    s->lost++;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
    if (s->redis != NULL)
        CHECK(!mesa_redis_ready(s->redis));
    if (s->free_on_lost)
        drop(s);
}

static void on_failed(void *ctx, const char *reason)
{
    struct seen *s = ctx;
    s->failed++;
    snprintf(s->reason, sizeof s->reason, "%s", reason);
}

static void on_subscribed(void *ctx, struct mesa_span channel)
{
    struct seen *s = ctx;
    s->subscribed++;
    snprintf(s->channel, sizeof s->channel, "%.*s", (int)channel.len, channel.p);
}

static void on_message(void *ctx, struct mesa_span channel, struct mesa_span payload)
{
    struct seen *s = ctx;
    s->messages++;
    s->message_bytes += payload.len;
    if (s->message_us > 0)
        usleep(s->message_us);
    snprintf(s->channel, sizeof s->channel, "%.*s", (int)channel.len, channel.p);
    snprintf(s->payload, sizeof s->payload, "%.*s", (int)payload.len, payload.p);
    if (s->free_on_message)
        drop(s);
}

void seen_init(struct seen *s)
{
    memset(s, 0, sizeof *s);
    mesa_redis_options_init(&s->options);
    if (loop == NULL)
        CHECK_EQ_INT(mesa_loop_new(&loop), MESA_OK);
}

void seen_open(struct seen *s, enum mesa_redis_mode mode)
{
    static const struct mesa_redis_hooks hooks = {on_ready, on_lost, on_failed, on_subscribed,
                                                  on_message};
    enum mesa_status rc =
        mesa_redis_new(&s->redis, loop, mode, &s->options, &hooks, s, s->err, sizeof s->err);
    if (!CHECK_EQ_INT(rc, MESA_OK))
        printf("%s\n", s->err);
}

void seen_close(struct seen *s)
{
    drop(s);
    mesa_redis_options_deinit(&s->options);
}

void seen_on_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    struct seen *s = ctx;
    if (rc != MESA_OK) {
        CHECK(rc == MESA_ECLOSED && reply == NULL);
        s->closed++;
        if (s->redis != NULL)
            CHECK(!mesa_redis_ready(s->redis));
    } else {
        s->ok++;
        s->type = mesa_redis_reply_type(reply);
        s->integer = mesa_redis_reply_integer(reply);
        struct mesa_span text = mesa_redis_reply_string(reply);
        snprintf(s->text, sizeof s->text, "%.*s", (int)text.len, text.len > 0 ? text.p : "");
    }
    if (s->free_on_reply) {
        s->free_on_reply = false;
        drop(s);
    }
}

enum mesa_status seen_command(struct seen *s, const char *words)
{
    struct mesa_span argv[16];
    size_t argc = 0;
    for (const char *p = words; p != NULL && argc < 16;) {
        const char *space = strchr(p, ' ');
        argv[argc++] = (struct mesa_span){p, space != NULL ? (size_t)(space - p) : strlen(p)};
        p = space != NULL ? space + 1 : NULL;
    }
    return mesa_redis_command(s->redis, argc, argv, seen_on_reply, s);
}

/* Wakes the loop again and again, so that waits look at their condition. */
static void on_tick(struct mesa_timer *t)
{
    mesa_loop_arm(loop, t, 5);
}

bool wait_for(const char *what, const int *counter, int value)
{
    struct mesa_timer tick;
    uint64_t end = uv_hrtime() + FIXTURE_DEADLINE_MS * UINT64_C(1000000);
    mesa_timer_init(&tick, on_tick);
    on_tick(&tick);
    while (*counter < value && uv_hrtime() < end)
        uv_run(mesa_loop_uv(loop), UV_RUN_ONCE);
    mesa_loop_cancel(loop, &tick);
    if (*counter >= value)
        return true;
    printf("%s is %d after %d ms, expected %d\n", what, *counter, FIXTURE_DEADLINE_MS, value);
    return CHECK(!"the wait ends in time");
}

void run_for(unsigned ms)
{
    struct mesa_timer tick;
    uint64_t end = uv_hrtime() + ms * UINT64_C(1000000);
    mesa_timer_init(&tick, on_tick);
    on_tick(&tick);
    while (uv_hrtime() < end)
        uv_run(mesa_loop_uv(loop), UV_RUN_ONCE);
    mesa_loop_cancel(loop, &tick);
}
