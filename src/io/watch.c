#include "io/watch.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "io/watch_internal.h"

enum {
    /* A file rewritten without pause is reported after this many quiet periods at the latest. */
    WATCH_PATIENCE = 10,
    /* A writer who keeps the file open and writes nothing for so long is not waited for. */
    WATCH_WRITER_MS = 10000,
};

static struct signature look_at(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return (struct signature){.exists = false};
    return (struct signature){true, st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim};
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_signature(const struct signature *a, const struct signature *b)
{
    return a->exists == b->exists && a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           same_time(&a->mtime, &b->mtime);
}

void mesa_watch_gather(struct mesa_watch *w)
{
    uint64_t now = mesa_loop_now(w->loop);
    if (!mesa_timer_armed(&w->settle))
        w->first_event_ms = now;
    /* waits for quiet, but not for ever */
    uint64_t latest = w->first_event_ms + (uint64_t)w->debounce_ms * WATCH_PATIENCE;
    uint64_t due = now + w->debounce_ms;
    if (due > latest)
        due = latest > now ? latest : now;
    mesa_loop_arm(w->loop, &w->settle, due - now);
}

enum verdict { UNCHANGED, NOT_YET, CHANGED };

static enum verdict settle_file(struct mesa_watch *w, struct watch_file *f)
{
    uint64_t now_ms = mesa_loop_now(w->loop);
    if (f->open && now_ms - f->written_ms < WATCH_WRITER_MS)
        return NOT_YET;
    f->suspect = false; /* following the way may find it suspect again */
    (void)mesa_watch_tree_follow(w, f);
    struct signature now = look_at(f->path), before = f->looked;
    f->looked = now;
    if (!now.exists)
        return UNCHANGED;
    bool written = f->written && !same_time(&now.ctime, &f->reported.ctime);
    if (same_signature(&now, &f->reported) && !written) {
        f->reported = now; /* its owner or mode, perhaps */
        f->written = false;
        return UNCHANGED;
    }
    /* without events nobody says whether it is still being written: it must be the same twice */
    if (w->polling && (!same_signature(&now, &before) || !same_time(&now.ctime, &before.ctime))) {
        f->suspect = true;
        return NOT_YET;
    }
    f->reported = now;
    f->written = f->open = false;
    return CHANGED;
}

/* One block: the array of pointers, then the texts, so that the callback may remove files and free
 * the watch. */
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
    bool again = false;
    if (changed == NULL)
        return; /* the files stay suspect and are looked at with the next event */

    MESA_LIST_FOREACH(it, &w->files) {
        struct watch_file *f = MESA_CONTAINER_OF(it, struct watch_file, link);
        enum verdict v = f->suspect ? settle_file(w, f) : UNCHANGED;
        again = again || v == NOT_YET;
        if (v == CHANGED)
            changed[count++] = f;
    }
    if (again)
        mesa_watch_gather(w);
    if (count > 0)
        paths = copy_paths(changed, count);
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
    w->fd = -1;
    mesa_list_init(&w->dirs);
    mesa_list_init(&w->files);
    mesa_timer_init(&w->settle, on_settled);
    if (mesa_watch_tree_open(w) != MESA_OK) {
        free(w);
        return MESA_ENOMEM;
    }
    *out = w;
    return MESA_OK;
}

static void file_free(struct mesa_watch *w, struct watch_file *f)
{
    mesa_list_remove(&f->link);
    mesa_watch_tree_forget(w, f);
    free(f);
}

void mesa_watch_free(struct mesa_watch *w)
{
    if (w == NULL)
        return;
    mesa_loop_cancel(w->loop, &w->settle);
    MESA_LIST_FOREACH_SAFE(it, next, &w->files)
        file_free(w, MESA_CONTAINER_OF(it, struct watch_file, link));
    mesa_watch_tree_close(w);
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
    size_t len = strlen(path);
    if (path[0] != '/' || path[len - 1] == '/' || len >= PATH_MAX)
        return MESA_EINVAL;
    if (find_file(w, path) != NULL)
        return MESA_OK;

    struct watch_file *f = calloc(1, sizeof *f + len + 1);
    if (f == NULL)
        return MESA_ENOMEM;
    memcpy(f->path, path, len);
    mesa_list_append(&w->files, &f->link);
    enum mesa_status rc = mesa_watch_tree_follow(w, f);
    if (rc != MESA_OK) {
        file_free(w, f);
        return rc;
    }
    /* behind the start of the watch: no change can fall between */
    f->reported = f->looked = look_at(f->path);
    return MESA_OK;
}

void mesa_watch_remove(struct mesa_watch *w, const char *path)
{
    struct watch_file *f = find_file(w, path);
    if (f != NULL)
        file_free(w, f);
}

bool mesa_watch_busy(struct mesa_watch *w, const char *path)
{
    struct watch_file *f = find_file(w, path);
    if (f == NULL)
        return false;
    mesa_watch_tree_read(w);
    return f->open && mesa_loop_now(w->loop) - f->written_ms < WATCH_WRITER_MS;
}
