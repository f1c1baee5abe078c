#include "io/watch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/list.h"
#include "base/log.h"

enum {
    /* A file rewritten without pause is reported after this many quiet periods at the latest. */
    WATCH_PATIENCE = 10,
    /* How often a folder that went away is looked for. */
    WATCH_RETRY_MS = 1000,
};

struct signature {
    bool exists;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime;
};

struct watch_dir {
    struct mesa_list link;
    uv_fs_event_t handle; /* its close callback frees the folder */
    struct mesa_watch *watch;
    dev_t dev; /* which folder the handle watches: the path may come to mean another one */
    ino_t ino;
    bool watching;
    unsigned files;
    char path[];
};

struct watch_file {
    struct mesa_list link;
    struct watch_dir *dir;
    const char *name; /* points into `path` */
    struct signature seen;
    bool suspect; /* an event named it */
    char path[];
};

struct mesa_watch {
    struct mesa_loop *loop;
    struct mesa_list dirs, files;
    struct mesa_timer settle; /* armed while events are being gathered */
    struct mesa_timer retry;  /* armed while a folder is missing */
    uint64_t first_event_ms;
    uint32_t debounce_ms;
    mesa_watch_fn fn;
    void *ctx;
};

static struct signature look_at(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return (struct signature){.exists = false};
    return (struct signature){true, st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static bool same_signature(const struct signature *a, const struct signature *b)
{
    return a->exists == b->exists && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

/* Waits for quiet, but not for ever. */
static void gather(struct mesa_watch *w)
{
    uint64_t now = mesa_loop_now(w->loop);
    if (!mesa_timer_armed(&w->settle))
        w->first_event_ms = now;
    uint64_t latest = w->first_event_ms + (uint64_t)w->debounce_ms * WATCH_PATIENCE;
    uint64_t due = now + w->debounce_ms;
    if (due > latest)
        due = latest > now ? latest : now;
    mesa_loop_arm(w->loop, &w->settle, due - now);
}

static void suspect(struct watch_dir *d, const char *name)
{
    bool any = false;
    MESA_LIST_FOREACH(it, &d->watch->files) {
        struct watch_file *f = MESA_CONTAINER_OF(it, struct watch_file, link);
        if (f->dir == d && (name == NULL || strcmp(f->name, name) == 0)) {
            f->suspect = true;
            any = true;
        }
    }
    if (any)
        gather(d->watch);
}

/* Whether the path of the folder still means the folder the handle watches. */
static bool dir_is_current(const struct watch_dir *d)
{
    struct stat st;
    return d->watching && stat(d->path, &st) == 0 && st.st_dev == d->dev && st.st_ino == d->ino;
}

static void on_dir_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    struct watch_dir *d = handle->data;
    (void)events;
    if (status < 0)
        name = NULL; /* events were lost: every file is suspect */
    suspect(d, name);
    /* Events about the folder itself carry its own name. */
    const char *own_name = strrchr(d->path, '/') + 1;
    if ((name == NULL || strcmp(name, own_name) == 0) && !dir_is_current(d)) {
        suspect(d, NULL);
        mesa_loop_arm(d->watch->loop, &d->watch->retry, d->watch->debounce_ms);
    }
}

/* Begins (again) to watch the folder at the path. Returns a libuv error. */
static int dir_start(struct watch_dir *d)
{
    struct stat st;
    uv_fs_event_stop(&d->handle);
    d->watching = false;
    int rc = uv_fs_event_start(&d->handle, on_dir_event, d->path, 0);
    if (rc != 0)
        return rc;
    if (stat(d->path, &st) != 0) {
        uv_fs_event_stop(&d->handle);
        return UV_ENOENT;
    }
    d->dev = st.st_dev;
    d->ino = st.st_ino;
    d->watching = true;
    return 0;
}

static void on_dir_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void dir_close(struct watch_dir *d)
{
    mesa_list_remove(&d->link);
    uv_close((uv_handle_t *)&d->handle, on_dir_closed);
}

static void dir_release(struct watch_dir *d)
{
    if (--d->files == 0)
        dir_close(d);
}

static enum mesa_status dir_acquire(struct mesa_watch *w, const char *path, size_t len,
                                    struct watch_dir **out)
{
    MESA_LIST_FOREACH(it, &w->dirs) {
        struct watch_dir *known = MESA_CONTAINER_OF(it, struct watch_dir, link);
        if (strlen(known->path) == len && memcmp(known->path, path, len) == 0) {
            known->files++;
            *out = known;
            return MESA_OK;
        }
    }

    struct watch_dir *d = calloc(1, sizeof *d + len + 1);
    if (d == NULL)
        return MESA_ENOMEM;
    memcpy(d->path, path, len);
    d->watch = w;
    d->files = 1;
    int rc = uv_fs_event_init(mesa_loop_uv(w->loop), &d->handle);
    if (rc != 0) {
        free(d);
        return MESA_EIO;
    }
    d->handle.data = d;
    uv_unref((uv_handle_t *)&d->handle);
    mesa_list_append(&w->dirs, &d->link);

    rc = dir_start(d);
    if (rc != 0) {
        mesa_log(MESA_LOG_WARN, "watch", "cannot watch %s: %s", d->path, uv_strerror(rc));
        dir_close(d);
        return MESA_EIO;
    }
    *out = d;
    return MESA_OK;
}

/* Looks for folders that went away or were replaced. */
static void on_retry(struct mesa_timer *t)
{
    struct mesa_watch *w = MESA_CONTAINER_OF(t, struct mesa_watch, retry);
    bool missing = false;
    MESA_LIST_FOREACH(it, &w->dirs) {
        struct watch_dir *d = MESA_CONTAINER_OF(it, struct watch_dir, link);
        if (dir_is_current(d))
            continue;
        if (dir_start(d) == 0)
            suspect(d, NULL);
        else
            missing = true;
    }
    if (missing)
        mesa_loop_arm(w->loop, &w->retry, WATCH_RETRY_MS);
}

/* One block: the array of pointers, then the texts, so that the callback may remove files and free the watch. */
static char **copy_paths(struct watch_file *const *files, size_t count)
{
    size_t bytes = count * sizeof(char *);
    for (size_t i = 0; i < count; i++)
        bytes += strlen(files[i]->path) + 1;
    char **paths = malloc(bytes);
    if (paths == NULL)
        return NULL;
    char *text = (char *)(paths + count);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(files[i]->path) + 1;
        paths[i] = memcpy(text, files[i]->path, len);
        text += len;
    }
    return paths;
}

static size_t count_files(const struct mesa_watch *w)
{
    size_t n = 0;
    MESA_LIST_FOREACH(it, &w->files)
        n++;
    return n;
}

static void on_settled(struct mesa_timer *t)
{
    struct mesa_watch *w = MESA_CONTAINER_OF(t, struct mesa_watch, settle);
    struct watch_file **changed = calloc(count_files(w) + 1, sizeof(struct watch_file *));
    char **paths = NULL;
    size_t count = 0;
    if (changed == NULL)
        goto out; /* the files stay suspect and are looked at with the next event */

    MESA_LIST_FOREACH(it, &w->files) {
        struct watch_file *f = MESA_CONTAINER_OF(it, struct watch_file, link);
        if (!f->suspect)
            continue;
        struct signature now = look_at(f->path);
        if (now.exists && !same_signature(&now, &f->seen))
            changed[count++] = f;
        if (now.exists)
            f->seen = now;
        f->suspect = false;
    }
    if (count > 0)
        paths = copy_paths(changed, count);

out:
    free(changed);
    if (paths != NULL)
        w->fn(w->ctx, (const char *const *)paths, count); /* `w` may be gone now */
    free(paths);
}

enum mesa_status mesa_watch_new(struct mesa_watch **out, struct mesa_loop *loop,
                                uint32_t debounce_ms, mesa_watch_fn fn, void *ctx)
{
    struct mesa_watch *w = calloc(1, sizeof *w);
    if (w == NULL)
        return MESA_ENOMEM;
    w->loop = loop;
    w->debounce_ms = debounce_ms;
    w->fn = fn;
    w->ctx = ctx;
    mesa_list_init(&w->dirs);
    mesa_list_init(&w->files);
    mesa_timer_init(&w->settle, on_settled);
    mesa_timer_init(&w->retry, on_retry);
    *out = w;
    return MESA_OK;
}

static void file_free(struct watch_file *f)
{
    mesa_list_remove(&f->link);
    dir_release(f->dir);
    free(f);
}

void mesa_watch_free(struct mesa_watch *w)
{
    if (w == NULL)
        return;
    mesa_loop_cancel(w->loop, &w->settle);
    mesa_loop_cancel(w->loop, &w->retry);
    MESA_LIST_FOREACH_SAFE(it, next, &w->files)
        file_free(MESA_CONTAINER_OF(it, struct watch_file, link));
    free(w);
}

static struct watch_file *find_file(struct mesa_watch *w, const char *path)
{
    MESA_LIST_FOREACH(it, &w->files) {
        struct watch_file *f = MESA_CONTAINER_OF(it, struct watch_file, link);
        if (strcmp(f->path, path) == 0)
            return f;
    }
    return NULL;
}

enum mesa_status mesa_watch_add(struct mesa_watch *w, const char *path)
{
    const char *slash = strrchr(path, '/');
    if (path[0] != '/' || slash[1] == '\0')
        return MESA_EINVAL;
    if (find_file(w, path) != NULL)
        return MESA_OK;

    size_t len = strlen(path);
    struct watch_file *f = calloc(1, sizeof *f + len + 1);
    if (f == NULL)
        return MESA_ENOMEM;
    memcpy(f->path, path, len);
    f->name = f->path + (slash - path) + 1;

    size_t dir_len = slash == path ? 1 : (size_t)(slash - path);
    enum mesa_status rc = dir_acquire(w, path, dir_len, &f->dir);
    if (rc != MESA_OK) {
        free(f);
        return rc;
    }
    f->seen = look_at(f->path); /* behind the start of the watch: no change can fall between */
    mesa_list_append(&w->files, &f->link);
    return MESA_OK;
}

void mesa_watch_remove(struct mesa_watch *w, const char *path)
{
    struct watch_file *f = find_file(w, path);
    if (f != NULL)
        file_free(f);
}
