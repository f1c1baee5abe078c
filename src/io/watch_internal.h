/* watch_internal.h - what watch.c (files and reports) and watch_tree.c (folders and the kernel's
 * events) share. Private to them. */
#ifndef MESA_IO_WATCH_INTERNAL_H
#define MESA_IO_WATCH_INTERNAL_H

#include <sys/stat.h>
#include <uv.h>

#include "base/list.h"
#include "io/watch.h"

struct signature {
    bool exists;
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
};

/* A folder the kernel watches. Freed when no point refers to it. */
struct watch_dir {
    struct mesa_list link; /* watch->dirs */
    int wd;                /* the kernel's name for it; -1: it is gone */
    unsigned points;
};

/* A place on the way to a file where a change may lead elsewhere. */
struct watch_point {
    struct watch_dir *dir;
    char *name; /* the entry of the folder that counts; NULL: only the folder itself does */
};

struct watch_file {
    struct mesa_list link; /* watch->files */
    struct watch_point *points;
    size_t point_count;
    struct signature reported; /* when it was added or last reported */
    struct signature looked;   /* when it was last looked at */
    bool suspect;              /* something happened on the way to it */
    bool written;              /* its content may have changed */
    bool open;                 /* it was written and its writer has not closed it yet */
    uint64_t written_ms;
    char path[];
};

/* The handles of libuv; they live until libuv has closed them, which may be after the watch. */
struct watch_handles {
    uv_poll_t poll;
    uv_timer_t timer;
    struct mesa_watch *watch; /* NULL: freed */
    unsigned open;
};

struct mesa_watch {
    struct mesa_loop *loop;
    struct mesa_list dirs, files;
    struct mesa_timer settle; /* armed while events are being gathered */
    uint64_t first_event_ms;
    uint32_t debounce_ms;
    mesa_watch_fn fn;
    void *ctx;
    int fd;       /* of inotify; -1: there is none */
    bool polling; /* files are looked at once a second, too */
    struct watch_handles *handles;
};

/* -- watch.c ------------------------------------------------------------------------------------- */

/* The files are looked at when it has been quiet for a moment. */
void mesa_watch_gather(struct mesa_watch *w);

/* -- watch_tree.c -------------------------------------------------------------------------------- */

enum mesa_status mesa_watch_tree_open(struct mesa_watch *w);
void mesa_watch_tree_close(struct mesa_watch *w);
/* Finds the way to the file anew and watches it. MESA_ENOMEM: as it was before. */
enum mesa_status mesa_watch_tree_follow(struct mesa_watch *w, struct watch_file *f);
/* Forgets the way to the file. */
void mesa_watch_tree_forget(struct mesa_watch *w, struct watch_file *f);
/* Takes the events that the kernel has ready. */
void mesa_watch_tree_read(struct mesa_watch *w);

#endif
