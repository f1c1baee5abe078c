#include "test.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/loop.h"
#include "io/watch.h"

enum { DEBOUNCE_MS = 20, QUIET_MS = 200, DEADLINE_MS = 5000 };

static char root[] = "/tmp/mesa-watch-XXXXXX";
static struct mesa_loop *loop;
static struct mesa_watch *watch;
static struct mesa_timer deadline;

static struct {
    unsigned calls;
    size_t paths;
    char last[PATH_MAX];
    bool stop; /* the loop at the first report */
} seen;

static const char *in_root(const char *name)
{
    static char ring[4][PATH_MAX];
    static unsigned next;
    char *path = ring[next++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", root, name);
    return path;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!CHECK(f != NULL))
        return;
    fputs(text, f);
    fclose(f);
}

static void on_change(void *ctx, const char *const *paths, size_t count)
{
    (void)ctx;
    seen.calls++;
    seen.paths += count;
    snprintf(seen.last, sizeof seen.last, "%s", paths[count - 1]);
    if (seen.stop)
        mesa_loop_stop(loop);
}

static void on_deadline(struct mesa_timer *t)
{
    (void)t;
    mesa_loop_stop(loop);
}

/* Runs the loop until a report, at most DEADLINE_MS. */
static bool reported(void)
{
    unsigned before = seen.calls;
    seen.stop = true;
    mesa_loop_arm(loop, &deadline, DEADLINE_MS);
    mesa_loop_run(loop);
    mesa_loop_cancel(loop, &deadline);
    return seen.calls > before;
}

/* Runs the loop for a while in which nothing is expected. */
static bool quiet(void)
{
    unsigned before = seen.calls;
    seen.stop = false;
    mesa_loop_arm(loop, &deadline, QUIET_MS);
    mesa_loop_run(loop);
    return seen.calls == before;
}

static bool begin(void)
{
    memset(&seen, 0, sizeof seen);
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    mesa_timer_init(&deadline, on_deadline);
    return CHECK(mkdtemp(root) != NULL) && CHECK_EQ_INT(mesa_loop_new(&loop), MESA_OK) &&
           CHECK_EQ_INT(mesa_watch_new(&watch, loop, DEBOUNCE_MS, on_change, NULL), MESA_OK);
}

static void end(void)
{
    mesa_watch_free(watch);
    mesa_loop_free(loop);
    CHECK_EQ_INT(rmdir(root), 0);
}

TEST(a_file_written_in_place_is_reported_once)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua");
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    put(path, "22");
    CHECK(reported());
    CHECK_EQ_STR(seen.last, path);
    CHECK_EQ_INT(seen.paths, 1);
    CHECK(quiet());
    unlink(path);
    end();
}

TEST(a_file_replaced_by_a_rename_is_reported_every_time)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua"), *fresh = in_root(".a.lua.swp");
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    for (int i = 0; i < 3; i++) {
        put(fresh, "1");
        CHECK_EQ_INT(rename(fresh, path), 0);
        CHECK(reported());
    }
    CHECK_EQ_INT(seen.paths, 3);
    unlink(path);
    end();
}

TEST(a_file_that_vanished_is_reported_when_it_is_back)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua");
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    unlink(path);
    CHECK(quiet());
    put(path, "22");
    CHECK(reported());
    unlink(path);
    end();
}

TEST(a_file_need_not_exist_yet)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("later.lua");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    put(path, "1");
    CHECK(reported());
    unlink(path);
    end();
}

TEST(changes_of_several_files_come_in_one_report)
{
    CHECK_OR_RETURN(begin());
    const char *a = in_root("a.lua"), *b = in_root("b.lua");
    CHECK_EQ_INT(mesa_watch_add(watch, a), MESA_OK);
    CHECK_EQ_INT(mesa_watch_add(watch, b), MESA_OK);
    put(a, "1");
    put(b, "1");
    CHECK(reported());
    CHECK_EQ_INT(seen.calls, 1);
    CHECK_EQ_INT(seen.paths, 2);
    unlink(a);
    unlink(b);
    end();
}

TEST(neighbours_and_phantom_events_are_not_reported)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua"), *neighbour = in_root("b.lua");
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    put(neighbour, "1");
    CHECK_EQ_INT(chmod(path, 0600), 0); /* an attribute event; the content is the same */
    CHECK(quiet());
    unlink(path);
    unlink(neighbour);
    end();
}

TEST(a_removed_file_is_not_reported_and_its_folder_is_let_go)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua");
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    mesa_watch_remove(watch, path);
    mesa_watch_remove(watch, path);
    put(path, "22");
    CHECK(quiet());
    unlink(path);
    end();
}

TEST(a_folder_that_was_replaced_is_watched_again)
{
    CHECK_OR_RETURN(begin());
    const char *dir = in_root("app"), *old = in_root("old"), *path = in_root("app/a.lua");
    CHECK_EQ_INT(mkdir(dir, 0777), 0);
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);

    CHECK_EQ_INT(rename(dir, old), 0);
    CHECK_EQ_INT(mkdir(dir, 0777), 0);
    path = in_root("app/a.lua");
    put(path, "22");
    CHECK(reported());
    put(path, "333");
    CHECK(reported());

    unlink(path);
    unlink(in_root("old/a.lua"));
    rmdir(in_root("app"));
    rmdir(in_root("old"));
    end();
}

static void free_the_watch(void *ctx, const char *const *paths, size_t count)
{
    on_change(ctx, paths, count);
    mesa_watch_free(watch);
    watch = NULL;
    CHECK_EQ_INT(strlen(paths[0]), strlen(seen.last));
}

TEST(a_report_may_free_the_watch)
{
    CHECK_OR_RETURN(begin());
    mesa_watch_free(watch);
    CHECK_EQ_INT(mesa_watch_new(&watch, loop, DEBOUNCE_MS, free_the_watch, NULL), MESA_OK);
    const char *path = in_root("a.lua");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    put(path, "1");
    CHECK(reported());
    unlink(path);
    end();
}

TEST(a_watch_alone_does_not_keep_the_loop_alive)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_watch_add(watch, in_root("a.lua")), MESA_OK);
    mesa_loop_run(loop);
    end();
}

TEST(what_cannot_be_watched_is_refused)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_watch_add(watch, "a.lua"), MESA_EINVAL);
    CHECK_EQ_INT(mesa_watch_add(watch, in_root("")), MESA_EINVAL);
    CHECK_EQ_INT(mesa_watch_add(watch, in_root("missing/a.lua")), MESA_EIO);
    CHECK_EQ_INT(mesa_watch_add(watch, "/mesa-watch-test.lua"), MESA_OK);
    end();
}
