/* watch_tree.c - the folders and links on the way to watched files, and the kernel's events. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/log.h"
#include "io/watch_internal.h"

enum {
    WATCH_POLL_MS = 1000,
    WATCH_LINKS_MAX = 40, /* as the kernel */
    WATCH_EVENTS_BYTES = 16 * 1024,
};

/* What happens to the folder itself, and what happens to its entries. */
static const uint32_t self_events = IN_DELETE_SELF | IN_MOVE_SELF;
static const uint32_t entry_events =
    IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB;

/* -- polling ------------------------------------------------------------------------------------- */

static void on_poll_timer(uv_timer_t *timer)
{
    struct watch_handles *h = timer->data;
    if (h->watch == NULL)
        return;
    MESA_LIST_FOREACH(it, &h->watch->files) {
        struct watch_file *f = MESA_CONTAINER_OF(it, struct watch_file, link);
        f->suspect = f->written = true;
    }
    mesa_watch_gather(h->watch);
}

/* The kernel refused: from now on the files are looked at, too. */
static void begin_polling(struct mesa_watch *w, const char *what, int error)
{
    if (w->polling)
        return;
    w->polling = true;
    if (error == ENOSPC || error == EMFILE)
        mesa_log(MESA_LOG_WARN, "watch",
                 "the kernel has no more file watches (sysctl fs.inotify.%s): changed files are "
                 "looked for once a second instead",
                 error == ENOSPC ? "max_user_watches" : "max_user_instances");
    else
        mesa_log(MESA_LOG_WARN, "watch",
                 "cannot watch %s: %s; changed files are looked for once a second instead", what,
                 strerror(error));
    uv_timer_start(&w->handles->timer, on_poll_timer, WATCH_POLL_MS, WATCH_POLL_MS);
}

/* -- folders ------------------------------------------------------------------------------------- */

static struct watch_dir *find_dir(struct mesa_watch *w, int wd)
{
    MESA_LIST_FOREACH(it, &w->dirs) {
        struct watch_dir *d = MESA_CONTAINER_OF(it, struct watch_dir, link);
        if (d->wd == wd)
            return d;
    }
    return NULL;
}

static void release_dir(struct mesa_watch *w, struct watch_dir *d)
{
    if (d == NULL || --d->points > 0)
        return;
    if (d->wd >= 0)
        inotify_rm_watch(w->fd, d->wd);
    mesa_list_remove(&d->link);
    free(d);
}

/* NULL with MESA_OK: the kernel does not watch this folder. */
static enum mesa_status acquire_dir(struct mesa_watch *w, struct watch_file *f, const char *path,
                                    bool entries, struct watch_dir **out)
{
    *out = NULL;
    if (w->fd < 0)
        return MESA_OK;
    uint32_t mask = self_events | (entries ? entry_events : 0);
    int wd = inotify_add_watch(w->fd, path, mask | IN_MASK_ADD | IN_ONLYDIR);
    if (wd < 0) {
        if (errno == ENOENT || errno == ENOTDIR) { /* gone since it was found: look again */
            f->suspect = true;
            mesa_watch_gather(w);
        } else if (entries || errno != EACCES) { /* most folders above need not be readable */
            begin_polling(w, path, errno);
        }
        return MESA_OK;
    }
    struct watch_dir *d = find_dir(w, wd);
    if (d == NULL) {
        d = calloc(1, sizeof *d);
        if (d == NULL) {
            inotify_rm_watch(w->fd, wd);
            return MESA_ENOMEM;
        }
        d->wd = wd;
        mesa_list_append(&w->dirs, &d->link);
    }
    d->points++;
    *out = d;
    return MESA_OK;
}

/* -- the way to a file --------------------------------------------------------------------------- */

struct way {
    struct mesa_watch *watch;
    struct watch_file *file;
    struct watch_point *points;
    size_t count;
};

static void free_points(struct mesa_watch *w, struct watch_point *points, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        release_dir(w, points[i].dir);
        free(points[i].name);
    }
    free(points);
}

static enum mesa_status add_point(struct way *way, const char *dir, const char *name)
{
    struct watch_point *grown = realloc(way->points, (way->count + 1) * sizeof *grown);
    if (grown == NULL)
        return MESA_ENOMEM;
    way->points = grown;
    struct watch_point p = {.name = name != NULL ? strdup(name) : NULL};
    if (name != NULL && p.name == NULL)
        return MESA_ENOMEM;
    enum mesa_status rc = acquire_dir(way->watch, way->file, dir, name != NULL, &p.dir);
    if (rc != MESA_OK) {
        free(p.name);
        return rc;
    }
    way->points[way->count++] = p;
    return MESA_OK;
}

/* Cuts the last component. */
static void go_up(char *dir)
{
    char *slash = strrchr(dir, '/');
    slash[slash == dir ? 1 : 0] = '\0';
}

/* dir/name into `out`; false: too long. */
static bool join(char *out, const char *dir, const char *name)
{
    size_t len = strlen(dir), n = strlen(name);
    bool slash = len > 1;
    if (len + slash + n >= PATH_MAX)
        return false;
    memcpy(out, dir, len);
    if (slash)
        out[len++] = '/';
    memcpy(out + len, name, n + 1);
    return true;
}

/* Puts the target of the link at `path` in front of what is left of the way. */
static bool read_link(const char *path, char *rest)
{
    char target[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof target - 1);
    size_t left = strlen(rest);
    if (n <= 0 || (size_t)n + 1 + left >= PATH_MAX)
        return false;
    memmove(rest + n + 1, rest, left + 1);
    memcpy(rest, target, (size_t)n);
    rest[n] = '/';
    return true;
}

/* Takes the first component off `rest`; false: there is none. */
static bool next_component(char *rest, char *name)
{
    size_t skip = strspn(rest, "/"), len = strcspn(rest + skip, "/");
    memcpy(name, rest + skip, len);
    name[len] = '\0';
    memmove(rest, rest + skip + len, strlen(rest + skip + len) + 1);
    return len > 0;
}

/* Goes from the root to the file as the kernel does, one component at a time. Ends where something
 * is missing: its coming is what is waited for. */
static enum mesa_status walk(struct way *way)
{
    char dir[PATH_MAX] = "/", rest[PATH_MAX], name[PATH_MAX], path[PATH_MAX];
    enum mesa_status rc = MESA_OK;
    unsigned links = 0;
    struct stat st;
    strcpy(rest, way->file->path); /* mesa_watch_add has bounded it */
    while (rc == MESA_OK && next_component(rest, name)) {
        if (strcmp(name, ".") == 0)
            continue;
        if (strcmp(name, "..") == 0) {
            go_up(dir);
            continue;
        }
        if (!join(path, dir, name))
            break;
        bool found = lstat(path, &st) == 0;
        if (found && S_ISDIR(st.st_mode)) {
            rc = add_point(way, dir, NULL);
            strcpy(dir, path);
            continue;
        }
        rc = add_point(way, dir, name);
        if (!found || !S_ISLNK(st.st_mode) || ++links > WATCH_LINKS_MAX || !read_link(path, rest))
            break;
        if (rest[0] == '/')
            strcpy(dir, "/");
    }
    return rc;
}

enum mesa_status mesa_watch_tree_follow(struct mesa_watch *w, struct watch_file *f)
{
    struct way way = {.watch = w, .file = f};
    enum mesa_status rc = walk(&way);
    if (rc != MESA_OK) {
        free_points(w, way.points, way.count);
        return rc;
    }
    free_points(w, f->points, f->point_count); /* behind the walk: most folders stay the same */
    f->points = way.points;
    f->point_count = way.count;
    return MESA_OK;
}

void mesa_watch_tree_forget(struct mesa_watch *w, struct watch_file *f)
{
    free_points(w, f->points, f->point_count);
    f->points = NULL;
    f->point_count = 0;
}

/* -- events -------------------------------------------------------------------------------------- */

/* What an event about the entry that the way leads through says about the file. */
static void note(struct watch_file *f, const struct inotify_event *e, uint64_t now)
{
    f->suspect = true;
    if (e->mask & IN_ATTRIB)
        return; /* owner, mode, times: the content is the same */
    f->written = true;
    f->open = (e->mask & IN_MODIFY) != 0;
    f->written_ms = now;
}

static void on_event(struct mesa_watch *w, const struct inotify_event *e)
{
    bool any = false, lost = (e->mask & IN_Q_OVERFLOW) != 0;
    bool self = (e->mask & (self_events | IN_IGNORED | IN_UNMOUNT)) != 0;
    struct watch_dir *d = lost ? NULL : find_dir(w, e->wd);
    if (d == NULL && !lost)
        return;
    MESA_LIST_FOREACH(it, &w->files) {
        struct watch_file *f = MESA_CONTAINER_OF(it, struct watch_file, link);
        bool concerned = lost;
        for (size_t i = 0; i < f->point_count && !concerned; i++) {
            const struct watch_point *p = &f->points[i];
            if (p->dir != d)
                continue;
            if (self) {
                concerned = true;
            } else if (p->name != NULL && e->len > 0 && strcmp(p->name, e->name) == 0) {
                note(f, e, mesa_loop_now(w->loop));
                any = true;
            }
        }
        if (concerned) { /* what happened to the file meanwhile is not known */
            f->suspect = f->written = true;
            f->open = false;
            any = true;
        }
    }
    if (d != NULL && (e->mask & IN_IGNORED))
        d->wd = -1; /* the kernel has let the folder go; its number may be given to another one */
    if (any)
        mesa_watch_gather(w);
}

void mesa_watch_tree_read(struct mesa_watch *w)
{
    _Alignas(struct inotify_event) char bytes[WATCH_EVENTS_BYTES];
    ssize_t n;
    if (w->fd < 0)
        return;
    while ((n = read(w->fd, bytes, sizeof bytes)) > 0) {
        for (char *at = bytes; at < bytes + n;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)at;
            on_event(w, e);
            at += sizeof *e + e->len;
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct watch_handles *h = poll->data;
    (void)status;
    (void)events;
    if (h->watch != NULL)
        mesa_watch_tree_read(h->watch);
}

/* -- life ---------------------------------------------------------------------------------------- */

enum mesa_status mesa_watch_tree_open(struct mesa_watch *w)
{
    uv_loop_t *loop = mesa_loop_uv(w->loop);
    struct watch_handles *h = calloc(1, sizeof *h);
    if (h == NULL)
        return MESA_ENOMEM;
    h->watch = w;
    h->timer.data = h->poll.data = h;
    w->handles = h;
    uv_timer_init(loop, &h->timer);
    uv_unref((uv_handle_t *)&h->timer);
    h->open = 1;

    w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (w->fd < 0) {
        begin_polling(w, "files", errno);
        return MESA_OK;
    }
    int rc = uv_poll_init(loop, &h->poll, w->fd);
    if (rc == 0) {
        h->open++;
        uv_unref((uv_handle_t *)&h->poll);
        rc = uv_poll_start(&h->poll, UV_READABLE, on_readable);
    }
    if (rc != 0)
        begin_polling(w, "files", -rc);
    return MESA_OK;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct watch_handles *h = handle->data;
    if (--h->open == 0)
        free(h);
}

void mesa_watch_tree_close(struct mesa_watch *w)
{
    struct watch_handles *h = w->handles;
    if (h == NULL)
        return;
    h->watch = NULL;
    if (h->open > 1) {
        uv_poll_stop(&h->poll);
        uv_close((uv_handle_t *)&h->poll, on_handle_closed);
    }
    uv_close((uv_handle_t *)&h->timer, on_handle_closed);
    if (w->fd >= 0)
        close(w->fd);
    w->handles = NULL;
}
