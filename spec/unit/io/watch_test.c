#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
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

/* Replaces the link at `path`, as `ln -s` and `mv -T` do. */
static void turn(const char *path, const char *target)
{
    char fresh[PATH_MAX];
    snprintf(fresh, sizeof fresh, "%s.new", path);
    CHECK_EQ_INT(symlink(target, fresh), 0);
    CHECK_EQ_INT(rename(fresh, path), 0);
}

/* Removes everything the tests put below the root. */
static void clean(void)
{
    char command[PATH_MAX + 32];
    snprintf(command, sizeof command, "rm -rf '%s'/* '%s'/..?*", root, root);
    CHECK_EQ_INT(system(command), 0);
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
    clean();
    end();
}

TEST(a_folder_that_was_deleted_and_made_again_is_watched_again)
{
    CHECK_OR_RETURN(begin());
    const char *above = in_root("app"), *dir = in_root("app/lib"), *path = in_root("app/lib/a.lua");
    CHECK_EQ_INT(mkdir(above, 0777), 0);
    CHECK_EQ_INT(mkdir(dir, 0777), 0);
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    for (int i = 0; i < 3; i++) { /* the file system may give the new folders the old numbers */
        unlink(path);
        CHECK_EQ_INT(rmdir(dir), 0);
        CHECK_EQ_INT(rmdir(above), 0);
        if (i == 1)
            CHECK(quiet());
        CHECK_EQ_INT(mkdir(above, 0777), 0);
        CHECK_EQ_INT(mkdir(dir, 0777), 0);
        put(path, i % 2 == 0 ? "22" : "1");
        CHECK(reported());
        put(path, "4444");
        CHECK(reported());
    }
    clean();
    end();
}

TEST(a_folder_need_not_exist_yet)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mesa_watch_add(watch, in_root("later/lib/a.lua")), MESA_OK);
    CHECK_EQ_INT(mkdir(in_root("later"), 0777), 0);
    CHECK(quiet());
    CHECK_EQ_INT(mkdir(in_root("later/lib"), 0777), 0);
    put(in_root("later/lib/a.lua"), "1");
    CHECK(reported());
    clean();
    end();
}

TEST(a_link_and_what_it_leads_to_are_watched)
{
    CHECK_OR_RETURN(begin());
    const char *link = in_root("a.lua"), *target = in_root("real/a.lua");
    CHECK_EQ_INT(mkdir(in_root("real"), 0777), 0);
    put(target, "1");
    put(in_root("real/b.lua"), "1");
    CHECK_EQ_INT(symlink("real/a.lua", link), 0);
    CHECK_EQ_INT(mesa_watch_add(watch, link), MESA_OK);
    put(target, "22");
    CHECK(reported());
    CHECK_EQ_STR(seen.last, link);
    turn(link, "real/b.lua");
    CHECK(reported());
    put(in_root("real/b.lua"), "333");
    CHECK(reported());
    put(in_root("real/a.lua"), "4444"); /* no longer what the link leads to */
    CHECK(quiet());
    clean();
    end();
}

TEST(a_folder_whose_link_was_turned_is_followed)
{
    CHECK_OR_RETURN(begin());
    CHECK_EQ_INT(mkdir(in_root("one"), 0777), 0);
    CHECK_EQ_INT(mkdir(in_root("two"), 0777), 0);
    put(in_root("one/a.lua"), "1");
    put(in_root("two/a.lua"), "2");
    /* as a ConfigMap: the file is a link through a link to a folder */
    CHECK_EQ_INT(symlink("one", in_root("..data")), 0);
    CHECK_EQ_INT(symlink("..data/a.lua", in_root("a.lua")), 0);
    CHECK_EQ_INT(mesa_watch_add(watch, in_root("a.lua")), MESA_OK);
    turn(in_root("..data"), "two");
    CHECK(reported());
    clean();
    CHECK(quiet());
    end();
}

TEST(a_file_that_was_copied_over_with_the_same_size_and_time_is_reported)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua");
    struct stat before;
    put(path, "1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    CHECK_EQ_INT(stat(path, &before), 0);
    put(path, "2");
    const struct timespec times[2] = {before.st_atim, before.st_mtim};
    CHECK_EQ_INT(utimensat(AT_FDCWD, path, times, 0), 0);
    CHECK(reported());
    clean();
    end();
}

TEST(a_file_that_is_being_written_is_held_back_until_it_is_closed)
{
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua");
    put(path, "return 1");
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    FILE *f = fopen(path, "wb");
    CHECK_OR_RETURN(f != NULL);
    CHECK(mesa_watch_busy(watch, path));
    CHECK(quiet());
    fputs("return", f);
    fflush(f);
    CHECK(quiet());
    CHECK(mesa_watch_busy(watch, path));
    fputs(" 2", f);
    fclose(f);
    CHECK(!mesa_watch_busy(watch, path));
    CHECK(reported());
    CHECK_EQ_INT(seen.paths, 1);
    clean();
    end();
}

/* The linker puts these in front of the kernel's (CMakeLists.txt). */
int __real_inotify_add_watch(int fd, const char *path, uint32_t mask);
int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask);
static bool no_more_watches;

int __wrap_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
    if (no_more_watches) {
        errno = ENOSPC;
        return -1;
    }
    return __real_inotify_add_watch(fd, path, mask);
}

TEST(without_watches_of_the_kernel_files_are_looked_at)
{
    char text[4096] = "";
    CHECK_OR_RETURN(begin());
    const char *path = in_root("a.lua"), *other = in_root("b.lua");
    put(path, "1");
    no_more_watches = true;
    FILE *log = tmpfile();
    int standard_error = dup(STDERR_FILENO);
    dup2(fileno(log), STDERR_FILENO);
    CHECK_EQ_INT(mesa_watch_add(watch, path), MESA_OK);
    CHECK_EQ_INT(mesa_watch_add(watch, other), MESA_OK);
    dup2(standard_error, STDERR_FILENO);
    close(standard_error);
    put(path, "22");
    CHECK(reported());
    put(other, "1");
    CHECK(reported());
    CHECK_EQ_STR(seen.last, other);
    no_more_watches = false;
    rewind(log);
    CHECK(fread(text, 1, sizeof text - 1, log) > 0);
    CHECK(strstr(text, "fs.inotify.max_user_watches") != NULL);
    CHECK_EQ_INT(text + strlen(text) - strchr(text, '\n'), 1); /* one line: said once */
    fclose(log);
    clean();
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
    CHECK_EQ_INT(mesa_watch_add(watch, "/mesa-watch-test.lua"), MESA_OK);
    end();
}
