/* redis_uri_test.c - URIs, options and what is wrong with them. */
#include "broker/redis_uri.h"

#include <stdio.h>
#include <string.h>

#include "test.h"

static struct mesa_redis_options o;
static char err[256];

static enum mesa_status parse(const char *uri)
{
    mesa_redis_options_deinit(&o);
    mesa_redis_options_init(&o);
    err[0] = '\0';
    return mesa_redis_options_set_uri(&o, uri, err, sizeof err);
}

static void expect(const char *uri, const char *host, int port, const char *user,
                   const char *password, int db)
{
    if (!CHECK_EQ_INT(parse(uri), MESA_OK))
        printf("%s: %s\n", uri, err);
    CHECK_EQ_STR(o.host, host);
    CHECK_EQ_INT(o.port, port);
    CHECK_EQ_STR(o.user, user);
    CHECK_EQ_STR(o.password, password);
    CHECK_EQ_INT(o.db, db);
    CHECK_EQ_STR(o.path, NULL);
    CHECK(!o.tls);
}

TEST(uris_of_servers)
{
    expect("redis://localhost", "localhost", 6379, NULL, NULL, 0);
    expect("redis://localhost/", "localhost", 6379, NULL, NULL, 0);
    expect("redis://", NULL, 6379, NULL, NULL, 0);
    expect("redis://:7000", NULL, 7000, NULL, NULL, 0);
    expect("REDIS://h:1/15", "h", 1, NULL, NULL, 15);
    expect("redis://h:65535?db=2", "h", 65535, NULL, NULL, 2);
    expect("redis://h/1?db=2", "h", 6379, NULL, NULL, 2);
    expect("redis://:pw@h", "h", 6379, NULL, "pw", 0);
    expect("redis://bob:pw@h:7000/3", "h", 7000, "bob", "pw", 3);
    expect("redis://bob:@h", "h", 6379, "bob", "", 0);
    expect("redis://b%6Fb:a%3ab%40%2f%25@h", "h", 6379, "bob", "a:b@/%", 0);
    expect("redis://:a:b@c@h", "h", 6379, NULL, "a:b@c", 0);
    expect("redis://[::1]:7000/1", "::1", 7000, NULL, NULL, 1);
    expect("redis://u:p@[fe80::1]", "fe80::1", 6379, "u", "p", 0);
    CHECK_EQ_INT(parse("rediss://h"), MESA_OK);
    CHECK(o.tls);
}

TEST(uris_of_sockets)
{
    CHECK_EQ_INT(parse("unix:///run/redis.sock"), MESA_OK);
    CHECK_EQ_STR(o.path, "/run/redis.sock");
    CHECK_EQ_STR(o.host, NULL);
    CHECK_EQ_INT(parse("unix://bob:p%20w@/tmp/a%20b.sock?db=4"), MESA_OK);
    CHECK_EQ_STR(o.path, "/tmp/a b.sock");
    CHECK_EQ_STR(o.user, "bob");
    CHECK_EQ_STR(o.password, "p w");
    CHECK_EQ_INT(o.db, 4);
}

TEST(what_a_uri_does_not_name_stays)
{
    CHECK_EQ_INT(parse("redis://bob:pw@h:7000/3"), MESA_OK);
    CHECK_EQ_INT(mesa_redis_options_set_uri(&o, "unix:///s", err, sizeof err), MESA_OK);
    CHECK_EQ_STR(o.password, "pw");
    CHECK_EQ_INT(o.db, 3);
    CHECK_EQ_STR(o.host, NULL);
    CHECK_EQ_INT(mesa_redis_options_set_uri(&o, "redis://:other@h/0", err, sizeof err), MESA_OK);
    CHECK_EQ_STR(o.user, NULL);
    CHECK_EQ_STR(o.password, "other");
    CHECK_EQ_STR(o.path, NULL);
    CHECK_EQ_INT(o.db, 0);
}

TEST(errors_name_the_part_and_never_the_password)
{
    static const struct {
        const char *uri, *part;
    } cases[] = {
        {"", "scheme"},
        {"localhost", "scheme"},
        {"http://h", "scheme"},
        {"redis:/h", "scheme"},
        {"redis://h:0", "port"},
        {"redis://h:65536", "port"},
        {"redis://h:", "port"},
        {"redis://h:6379x", "port"},
        {"redis://h:99999999999999999999", "port"},
        {"redis://h: 1", "port"},
        {"redis://[::1", "host"},
        {"redis://[]", "host"},
        {"redis://[::1]x", "host"},
        {"redis://::1", "host"},
        {"redis://h%00", "host"},
        {"redis://h%zz", "host"},
        {"redis://h/x", "db"},
        {"redis://h/-1", "db"},
        {"redis://h/1/2", "db"},
        {"redis://h?db=", "db"},
        {"redis://h?db", "db"},
        {"redis://h/4294967296", "db"},
        {"redis://h?timeout=1", "timeout"},
        {"redis://:secret%2@h", "password"},
        {"redis://:secret%@h", "password"},
        {"redis://:secret%00@h", "password"},
        {"redis://b%:secret@h", "user"},
        {"unix://", "path"},
        {"unix:///", "path"},
        {"unix://run/redis.sock", "path"},
        {"unix:///a%0", "path"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!CHECK_EQ_INT(parse(cases[i].uri), MESA_EINVAL) ||
            !CHECK(strstr(err, cases[i].part) != NULL) || !CHECK(strstr(err, "secret") == NULL))
            printf("%s: %s\n", cases[i].uri, err);
        CHECK(o.host == NULL && o.password == NULL && o.port == 6379);
    }
}

static enum mesa_status check(void)
{
    return mesa_redis_options_check(&o, err, sizeof err);
}

TEST(options_must_go_together)
{
    CHECK_EQ_INT(parse("redis://h"), MESA_OK);
    CHECK_EQ_INT(check(), MESA_OK);
    mesa_redis_options_set(&o.path, "/s");
    CHECK_EQ_INT(check(), MESA_EINVAL);
    mesa_redis_options_set(&o.host, NULL);
    CHECK_EQ_INT(check(), MESA_OK);
    o.tls = true;
    CHECK_EQ_INT(check(), MESA_EINVAL);

    char path[256];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    parse("unix:///s");
    mesa_redis_options_set(&o.path, path);
    CHECK_EQ_INT(check(), MESA_EINVAL);
    CHECK(strstr(err, "path") != NULL);

    parse("redis://bob@h");
    CHECK_EQ_INT(check(), MESA_EINVAL);
    CHECK(strstr(err, "user") != NULL);
    parse("redis://h");
    mesa_redis_options_set(&o.name, "two words");
    CHECK_EQ_INT(check(), MESA_EINVAL);
    parse("redis://h");
    o.backoff_min_ms = 5000;
    CHECK_EQ_INT(check(), MESA_EINVAL);
    parse("redis://h");
    mesa_redis_options_set(&o.tls_key, "/key");
    CHECK_EQ_INT(check(), MESA_EINVAL);
}

TEST(sentinels)
{
    CHECK_EQ_INT(parse("redis://"), MESA_OK);
    CHECK_EQ_INT(mesa_redis_options_add_sentinel(&o, "a", err, sizeof err), MESA_OK);
    CHECK_EQ_INT(mesa_redis_options_add_sentinel(&o, "b:1", err, sizeof err), MESA_OK);
    CHECK_EQ_INT(mesa_redis_options_add_sentinel(&o, "[::1]:2", err, sizeof err), MESA_OK);
    CHECK_EQ_INT(mesa_redis_options_add_sentinel(&o, "", err, sizeof err), MESA_EINVAL);
    CHECK_EQ_INT(mesa_redis_options_add_sentinel(&o, "c:x", err, sizeof err), MESA_EINVAL);
    CHECK(strstr(err, "port") != NULL);
    CHECK_EQ_INT(o.sentinel_count, 3);
    CHECK_EQ_INT(check(), MESA_EINVAL);
    mesa_redis_options_set(&o.master, "m");
    CHECK_EQ_INT(check(), MESA_OK);

    struct mesa_redis_options copy;
    CHECK_EQ_INT(mesa_redis_options_copy(&copy, &o), MESA_OK);
    mesa_redis_options_deinit(&o);
    CHECK_EQ_INT(copy.sentinel_count, 3);
    CHECK_EQ_STR(copy.sentinels[0].host, "a");
    CHECK_EQ_INT(copy.sentinels[0].port, 26379);
    CHECK_EQ_INT(copy.sentinels[1].port, 1);
    CHECK_EQ_STR(copy.sentinels[2].host, "::1");
    CHECK_EQ_STR(copy.master, "m");
    mesa_redis_options_deinit(&copy);
}

TEST(a_copy_has_defaults_for_zeros)
{
    struct mesa_redis_options zero = {0}, copy;
    CHECK_EQ_INT(mesa_redis_options_copy(&copy, &zero), MESA_OK);
    CHECK_EQ_INT(copy.port, 6379);
    CHECK_EQ_INT(copy.command_timeout_ms, 5000);
    CHECK_EQ_INT(copy.queue_limit, 0);
    mesa_redis_options_deinit(&copy);
}
