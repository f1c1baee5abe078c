/* redis_conn_stress_test.c - every command is answered once, whatever happens to Redis. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_fixture.h"
#include "test.h"

enum { CONNECTIONS = 6, STEPS = 400, COMMANDS = 100000 };

static struct redis_child child;
static struct seen seen[CONNECTIONS];
static unsigned char calls[COMMANDS];
static int issued, answered;
static unsigned seed;

static unsigned chance(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static void issue(struct seen *s);

static void on_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    unsigned char *call = ctx;
    CHECK((rc == MESA_OK && reply != NULL) || (rc == MESA_ECLOSED && reply == NULL));
    ++*call;
    answered++;
    struct seen *s = &seen[chance(CONNECTIONS)];
    if (chance(4) == 0)
        issue(s);
    if (chance(200) == 0 && s->redis != NULL) {
        struct mesa_redis *redis = s->redis;
        s->redis = NULL;
        mesa_redis_free(redis);
    }
}

static void issue(struct seen *s)
{
    static const char payload[2000];
    struct mesa_span ping[] = {MESA_SPAN("ECHO"), {payload, chance(sizeof payload)}};
    struct mesa_span wait[] = {MESA_SPAN("BLPOP"), MESA_SPAN("nothing"), MESA_SPAN("0.05")};
    if (s->redis == NULL || issued == COMMANDS)
        return;
    bool waits = chance(20) == 0;
    if (mesa_redis_command(s->redis, waits ? 3 : 2, waits ? wait : ping, on_reply,
                           &calls[issued]) == MESA_OK)
        issued++;
}

static void disturb(void)
{
    switch (chance(30)) {
    case 0:
        fixture_redis_stop(&child, SIGKILL);
        break;
    case 1:
        if (child.pid != 0)
            kill(child.pid, SIGSTOP);
        break;
    default:
        if (child.pid == 0)
            fixture_redis_start(&child, NULL);
        else
            kill(child.pid, SIGCONT);
    }
}

TEST(every_command_is_answered_once_whatever_happens)
{
    const char *given = getenv("MESA_STRESS_SEED");
    seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : 4711;
    CHECK_OR_RETURN(fixture_redis_start(&child, NULL));
    for (int i = 0; i < CONNECTIONS; i++)
        seen_init(&seen[i]);

    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < CONNECTIONS; i++) {
            struct seen *s = &seen[i];
            if (s->redis == NULL) {
                mesa_redis_options_set(&s->options.path, child.socket);
                s->options.command_timeout_ms = 80;
                s->options.keepalive_ms = 30;
                s->options.queue_limit = i % 2 ? 10 : 0;
                seen_open(s, MESA_REDIS_COMMANDS);
            }
            for (unsigned n = chance(10); n > 0; n--)
                issue(s);
            s->free_on_ready = s->free_on_lost = chance(40) == 0;
        }
        disturb();
        run_for(chance(10));
    }

    for (int i = 0; i < CONNECTIONS; i++)
        seen_close(&seen[i]);
    CHECK(issued > STEPS);
    CHECK_EQ_INT(answered, issued);
    for (int i = 0; i < issued; i++) {
        if (calls[i] != 1 && !CHECK_EQ_INT(calls[i], 1))
            break;
    }
    if (child.pid != 0)
        kill(child.pid, SIGCONT);
    fixture_redis_remove(&child);
    mesa_loop_free(loop);
    loop = NULL;
}
