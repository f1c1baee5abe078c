/* watch.h - tells when files of a changing set were changed.
 *
 * Folders are watched, not files: editors replace a file by renaming another one over it. On the way
 * to a file every symbolic link is watched as well as the folder it leads to, so that a link that is
 * turned counts as a change of the files behind it. A folder that is missing, deleted, renamed or
 * replaced is picked up again, and so are the files in it.
 *
 * Events are gathered until it has been quiet for a moment. A file that is open for writing is held
 * back until its writer has closed it. A file is reported when its inode, size or modification time
 * differ from when it was added or last reported, or when it was written and its change time differs
 * (`cp -p` keeps the other three). A file that vanished is reported once it is back.
 *
 * When the kernel has no more watches to give, that is logged once and the files are looked at once
 * a second. A watch alone does not keep the loop alive. Loop thread only. May include: base/,
 * io/loop.h.
 */
#ifndef MESA_IO_WATCH_H
#define MESA_IO_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/loop.h"

enum { MESA_WATCH_DEBOUNCE_MS = 100 };

struct mesa_watch; /* opaque */

/* `paths` are as they were added and live until the callback returns. It may add and remove files
 * and free the watch. */
typedef void (*mesa_watch_fn)(void *ctx, const char *const *paths, size_t count);

enum mesa_status mesa_watch_new(struct mesa_watch **out, struct mesa_loop *loop,
                                uint32_t debounce_ms, mesa_watch_fn fn, void *ctx);
/* NULL is accepted. */
void mesa_watch_free(struct mesa_watch *w);

/* Adds a file by its absolute path. Neither the file nor its folder need exist yet. Adding it again
 * has no effect. The state it is compared with is taken now: add first, then read.
 * MESA_EINVAL: not the absolute path of a file. MESA_ENOMEM. */
enum mesa_status mesa_watch_add(struct mesa_watch *w, const char *path);
/* A path that was not added has no effect. */
void mesa_watch_remove(struct mesa_watch *w, const char *path);
/* Whether somebody is writing the file at this moment: what it holds may be half of what it will. */
bool mesa_watch_busy(struct mesa_watch *w, const char *path);

#endif
