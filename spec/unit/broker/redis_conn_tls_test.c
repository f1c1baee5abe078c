/* redis_conn_tls_test.c - TLS to a real redis-server: certificates and names are verified. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "redis_fixture.h"
#include "test.h"

static struct redis_child child;
static struct seen s;
static char folder[] = "/tmp/mesa-redis-tls-XXXXXX", cert[64], key[64], tls_port[8];
static const char *args[] = {"--tls-port",
                             tls_port,
                             "--tls-cert-file",
                             cert,
                             "--tls-key-file",
                             key,
                             "--tls-auth-clients",
                             "no",
                             "--tls-ca-cert-file",
                             cert,
                             NULL};

static bool make_certificate(void)
{
    char command[512];
    if (!CHECK(mkdtemp(folder) != NULL))
        return false;
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    snprintf(tls_port, sizeof tls_port, "%u", fixture_free_port());
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
             "-addext subjectAltName=DNS:localhost -keyout %s -out %s 2>/dev/null",
             key, cert);
    return CHECK_EQ_INT(system(command), 0);
}

static void open_at(const char *host, const char *port)
{
    char uri[64];
    snprintf(uri, sizeof uri, "rediss://%s:%s", host, port);
    CHECK_EQ_INT(mesa_redis_options_set_uri(&s.options, uri, s.err, sizeof s.err), MESA_OK);
    mesa_redis_free(s.redis);
    s.lost = s.ready = 0;
    seen_open(&s, MESA_REDIS_COMMANDS);
}

static void expect_failure(const char *text)
{
    CHECK(WAIT_FOR(s.lost, 1));
    if (!CHECK(strstr(s.reason, text) != NULL))
        printf("%s\n", s.reason);
    CHECK_EQ_INT(s.ready, 0);
}

TEST(only_a_trusted_certificate_of_the_right_name_will_do)
{
    static char big[5 << 20];
    char port[8];
    CHECK_OR_RETURN(make_certificate() && fixture_redis_start(&child, args));
    seen_init(&s);
    s.options.command_timeout_ms = 1000;
    open_at("localhost", tls_port);
    expect_failure("TLS: self");

    mesa_redis_options_set(&s.options.tls_ca, cert);
    open_at("127.0.0.1", tls_port);
    expect_failure("TLS: IP address mismatch");
    snprintf(port, sizeof port, "%u", child.port);
    open_at("localhost", port); /* not TLS at all */
    CHECK(WAIT_FOR(s.lost, 1));

    open_at("localhost", tls_port);
    CHECK(WAIT_FOR(s.ready, 1));
    struct mesa_span set[] = {MESA_SPAN("SET"), MESA_SPAN("k"), {big, sizeof big}};
    struct mesa_span get[] = {MESA_SPAN("GET"), MESA_SPAN("k")};
    CHECK_EQ_INT(mesa_redis_command(s.redis, 3, set, seen_on_reply, &s), MESA_OK);
    CHECK_EQ_INT(mesa_redis_command(s.redis, 2, get, seen_on_reply, &s), MESA_OK);
    CHECK(WAIT_FOR(s.ok, 2));
    CHECK(s.type == MESA_REDIS_STRING);
    fixture_redis_stop(&child, SIGKILL);
    CHECK(WAIT_FOR(s.lost, 1));
    CHECK_OR_RETURN(fixture_redis_start(&child, args));
    CHECK(WAIT_FOR(s.ready, 2));

    seen_close(&s);
    fixture_redis_remove(&child);
    unlink(cert);
    unlink(key);
    CHECK_EQ_INT(rmdir(folder), 0);
    mesa_loop_free(loop);
    loop = NULL;
}
