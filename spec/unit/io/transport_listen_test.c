/* transport_listen_test.c - listeners: addresses, Unix sockets, limits, running out of descriptors,
 * and what keeps the loop alive. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "fixture.h"
#include "io/transport_internal.h"
#include "test.h"

static struct fixture f;
static struct peer p;

static void end(void)
{
    peer_close(&p);
    fixture_stop(&f);
}

TEST(a_port_in_use_is_named)
{
    struct fixture other;
    char text[64];
    fixture_init(&f);
    fixture_init(&other);
    CHECK_OR_RETURN(fixture_start(&f));
    other.config.port = mesa_listener_port(f.listener);
    snprintf(text, sizeof text, "port %u is in use", other.config.port);
    CHECK(!fixture_start(&other));
    CHECK_EQ_STR(other.err, text);
    other.config.host = NULL;
    CHECK(!fixture_start(&other));
    CHECK_EQ_STR(other.err, text);
    fixture_stop(&other);
    fixture_stop(&f);
}

TEST(a_port_can_be_shared_on_request)
{
    struct fixture other;
    fixture_init(&f);
    fixture_init(&other);
    f.config.reuse_port = other.config.reuse_port = true;
    CHECK_OR_RETURN(fixture_start(&f));
    other.config.port = mesa_listener_port(f.listener);
    CHECK(fixture_start(&other));
    fixture_stop(&other);
    fixture_stop(&f);
}

static bool can_connect(int family, uint16_t port)
{
    struct sockaddr_in four = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd < 0)
        return false;
    bool ok = family == AF_INET ? connect(fd, (struct sockaddr *)&four, sizeof four) == 0
                                : connect(fd, (struct sockaddr *)&six, sizeof six) == 0;
    close(fd);
    return ok;
}

static bool has_ipv6(void)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&six, sizeof six) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

TEST(without_a_host_both_families_are_served)
{
    fixture_init(&f);
    f.config.host = NULL;
    CHECK_OR_RETURN(fixture_start(&f));
    uint16_t port = mesa_listener_port(f.listener);
    CHECK(port != 0);
    CHECK(can_connect(AF_INET, port));
    if (has_ipv6())
        CHECK(can_connect(AF_INET6, port));
    CHECK_OR_RETURN(peer_open(&p, &f, "/", ""));
    CHECK(strncmp(f.request.data, "GET /? 127.0.0.1 []", 19) == 0);
    end();
}

TEST(hosts_may_be_names_and_addresses)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "::1"};
    for (size_t i = 0; i < (has_ipv6() ? 3 : 2); i++) {
        fixture_init(&f);
        f.config.host = hosts[i];
        CHECK(fixture_start(&f));
        fixture_stop(&f);
    }
    fixture_init(&f);
    f.config.host = "no such host.invalid";
    CHECK(!fixture_start(&f));
    CHECK(strstr(f.err, "cannot listen on no such host.invalid: ") == f.err);
    fixture_stop(&f);
    fixture_init(&f);
    f.config.host = "192.0.2.1";
    CHECK(!fixture_start(&f));
    CHECK(strstr(f.err, "192.0.2.1") != NULL);
    fixture_stop(&f);
}

TEST(unix_sockets_are_served_and_removed)
{
    struct stat st;
    char host[64];
    snprintf(host, sizeof host, "unix:/tmp/mesa-unit-%d.sock", (int)getpid());
    fixture_init(&f);
    f.config.host = host;
    f.echo = true;
    CHECK_OR_RETURN(fixture_start(&f));
    CHECK_EQ_INT(mesa_listener_port(f.listener), 0);
    CHECK_OR_RETURN(peer_open(&p, &f, "/", ""));
    CHECK(strncmp(f.request.data, "GET /? unix []", 14) == 0);

    struct fixture other;
    fixture_init(&other);
    other.config.host = host;
    CHECK(!fixture_start(&other));
    CHECK(strstr(other.err, "is in use") != NULL);
    fixture_stop(&other);
    CHECK_EQ_INT(stat(host + 5, &st), 0);

    mesa_listener_stop(f.listener);
    CHECK(stat(host + 5, &st) != 0);
    peer_send_frame(&p, 0x81, "still here", 10);
    peer_expect(&p, 1, "still here");
    end();
}

TEST(a_stale_unix_socket_is_replaced_but_no_other_file)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char host[64];
    snprintf(host, sizeof host, "unix:/tmp/mesa-unit-%d.sock", (int)getpid());
    snprintf(address.sun_path, sizeof address.sun_path, "%s", host + 5);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_EQ_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
    fixture_init(&f);
    f.config.host = host;
    CHECK(fixture_start(&f));
    CHECK(peer_open(&p, &f, "/", ""));
    end();

    FILE *file = fopen(host + 5, "w");
    fclose(file);
    fixture_init(&f);
    f.config.host = host;
    CHECK(!fixture_start(&f));
    fixture_stop(&f);
    CHECK_EQ_INT(unlink(host + 5), 0);
}

/* Connects; whether the connection is still there once the server has seen it. */
static bool is_served(struct peer *peer)
{
    return peer_open(peer, &f, "/", "");
}

TEST(connections_over_the_limits_are_closed_at_once)
{
    for (int per_ip = 0; per_ip < 2; per_ip++) {
        struct peer peers[3], extra;
        fixture_init(&f);
        if (per_ip)
            f.config.max_connections_per_ip = 3;
        else
            f.config.max_connections = 3;
        CHECK_OR_RETURN(fixture_start(&f));
        for (int i = 0; i < 3; i++)
            CHECK(is_served(&peers[i]));
        CHECK(!is_served(&extra));
        CHECK_EQ_INT(f.opened, 3);
        peer_close(&extra);
        peer_close(&peers[1]);
        CHECK(WAIT_FOR(&f, f.clients[1].closes == 1));
        for (int i = 0; i < 5; i++)
            fixture_turn(&f);
        CHECK(is_served(&extra));
        for (int i = 0; i < 3; i++)
            peer_close(i == 1 ? &extra : &peers[i]);
        fixture_stop(&f);
    }
}

TEST(of_ipv6_a_subnet_counts_as_one_peer)
{
    struct mesa_address six = {.bytes = {0xfd, 0, 0, 7, 0, 0, 0, 5}};
    struct mesa_address four = {.bytes = {[10] = 0xff, 0xff, 127, 0, 0, 1}};
    CHECK_EQ_INT(mesa_address_key(&six), 8);
    CHECK_EQ_INT(mesa_address_key(&four), 16);
}

/* valgrind keeps the limit of descriptors itself: it closes one too many after the kernel has accepted it. */
static bool valgrind_loses_connections(void)
{
    const char *preload = getenv("LD_PRELOAD");
    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

TEST(running_out_of_descriptors_pauses_accepting)
{
    struct peer late;
    struct rlimit old, low;
    int fillers[256], count = 0;
    fixture_init(&f);
    CHECK_OR_RETURN(fixture_start(&f));
    CHECK_OR_RETURN(peer_connect(&p, &f));
    getrlimit(RLIMIT_NOFILE, &old);
    low = old;
    low.rlim_cur = 256;
    setrlimit(RLIMIT_NOFILE, &low);
    while (count < 256 && (fillers[count] = dup(0)) >= 0)
        count++;
    CHECK(count < 256);
    uint64_t turns = 0, until = fixture_now_ms() + 350;
    while (fixture_now_ms() < until) {
        fixture_turn(&f);
        turns++;
    }
    CHECK(turns < 700); /* about one a millisecond: the loop sleeps */
    while (count > 0)
        close(fillers[--count]);
    setrlimit(RLIMIT_NOFILE, &old);
    if (!valgrind_loses_connections()) {
        peer_send_text(&p, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        CHECK(strncmp(peer_read_answer(&p), "HTTP/1.1 200", 12) == 0);
    }
    CHECK_OR_RETURN(peer_connect(&late, &f));
    peer_send_text(&late, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    CHECK(strncmp(peer_read_answer(&late), "HTTP/1.1 200", 12) == 0);
    peer_close(&late);
    end();
}

TEST(bad_certificates_are_named)
{
    char key[128];
    fixture_init(&f);
    fixture_use_tls(&f);
    char *good = f.tls.cert;
    f.tls.cert = "/nonexistent/cert.pem";
    CHECK(!fixture_start(&f));
    CHECK_EQ_STR(f.err, "tls.cert: cannot use /nonexistent/cert.pem: No such file or directory");
    f.tls.cert = good;
    f.tls.key = good;
    CHECK(!fixture_start(&f));
    snprintf(key, sizeof key, "tls.key: cannot use %s: ", good);
    CHECK(strstr(f.err, key) == f.err);
    fixture_stop(&f);
}

TEST(several_listeners_keep_to_themselves)
{
    struct fixture secure, plain;
    struct peer one, two, three;
    fixture_init(&f);
    fixture_init(&secure);
    fixture_init(&plain);
    fixture_use_tls(&secure);
    CHECK_OR_RETURN(fixture_start(&f));
    secure.loop = plain.loop = f.loop;
    secure.transport = plain.transport = f.transport;
    CHECK_OR_RETURN(fixture_start(&secure));
    CHECK_OR_RETURN(fixture_start(&plain));
    f.echo = secure.echo = plain.echo = true;
    CHECK_OR_RETURN(peer_open(&one, &f, "/one", ""));
    CHECK_OR_RETURN(peer_open(&two, &secure, "/two", ""));
    CHECK_OR_RETURN(peer_open(&three, &plain, "/three", ""));
    CHECK(f.opened == 1 && secure.opened == 1 && plain.opened == 1);

    mesa_listener_free(f.listener);
    mesa_listener_free(plain.listener);
    f.listener = NULL;
    CHECK_EQ_INT(f.clients[0].closes, 1);
    peer_expect_eof(&one);
    peer_send_frame(&two, 0x81, "alive", 5);
    peer_expect(&two, 1, "alive");
    mesa_listener_free(secure.listener);
    peer_expect_eof(&two);
    peer_close(&one);
    peer_close(&two);
    peer_close(&three);
    mesa_buf_deinit(&secure.request);
    mesa_buf_deinit(&plain.request);
    mesa_buf_deinit(&secure.clients[0].last);
    mesa_buf_deinit(&secure.clients[0].out);
    fixture_stop(&f);
}

static struct mesa_timer timer;

static void stop_listening(struct mesa_timer *t)
{
    (void)t;
    mesa_listener_stop(f.listener);
}

TEST(the_loop_ends_when_the_last_listener_and_connection_are_gone)
{
    fixture_init(&f);
    CHECK_OR_RETURN(fixture_start(&f));
    CHECK_OR_RETURN(peer_open(&p, &f, "/", ""));
    mesa_timer_init(&timer, stop_listening);
    mesa_loop_arm(f.loop, &timer, 20);
    mesa_conn_pause(f.clients[0].conn); /* a connection nobody polls counts too */
    CHECK(WAIT_FOR(&f, !mesa_timer_armed(&timer)));
    CHECK(uv_loop_alive(mesa_loop_uv(f.loop)));
    mesa_conn_resume(f.clients[0].conn);
    peer_close(&p);
    mesa_loop_run(f.loop);
    CHECK_EQ_INT(f.clients[0].closes, 1);
    CHECK(!uv_loop_alive(mesa_loop_uv(f.loop)));
    fixture_stop(&f);
}

TEST(a_client_certificate_can_be_required)
{
    fixture_init(&f);
    fixture_use_tls(&f);
    f.tls.request_cert = true;
    f.tls.ca = f.tls.cert;
    CHECK_OR_RETURN(fixture_start(&f));
    CHECK(!peer_open(&p, &f, "/", "")); /* it has none */
    CHECK_EQ_INT(f.opened, 0);
    end();
}

/* What `fn` logs, as far as it fits. */
static void log_of(struct mesa_timer *t, char *out, size_t len)
{
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);
    dup2(fileno(file), STDERR_FILENO);
    t->fn(t);
    dup2(before, STDERR_FILENO);
    close(before);
    rewind(file);
    out[fread(out, 1, len - 1, file)] = '\0';
    fclose(file);
}

TEST(certificates_are_looked_at_every_day)
{
    char text[4096];
    const uint64_t day_ms = (uint64_t)24 * 60 * 60 * 1000;
    fixture_init(&f);
    fixture_use_tls(&f); /* good for a day */
    CHECK_OR_RETURN(fixture_start(&f));
    struct mesa_timer *daily = &f.listener->expiry;
    CHECK(mesa_timer_armed(daily));
    CHECK(daily->due_ms <= mesa_loop_now(f.loop) + day_ms && daily->due_ms > mesa_loop_now(f.loop));
    mesa_loop_cancel(f.loop, daily); /* as when it fires */
    log_of(daily, text, sizeof text);
    CHECK(strstr(text, "tls.cert: the certificate CN=localhost in ") != NULL);
    CHECK(strstr(text, "within 1 day: renew it") != NULL);
    CHECK(mesa_timer_armed(daily));
    mesa_listener_stop(f.listener);
    CHECK(!mesa_timer_armed(daily));
    fixture_stop(&f);
}
