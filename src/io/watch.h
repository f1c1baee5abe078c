/* watch.h - tells when files of a changing set were changed.
 *
 * The folders of the files are watched, not the files: editors replace a file by renaming another one over it. Events are
 * gathered until the folder has been quiet for a moment, and a file is reported only when its inode, size or modification time
 * differs from when it was added or last reported. A file that vanished is reported once it is back; a folder that was replaced or
 * comes back is picked up again. The target of a symbolic link into another folder is not watched.
 * A watch alone does not keep the loop alive. Loop thread only. May include: base/, io/loop.h.
 */
#ifndef MESA_IO_WATCH_H
#define MESA_IO_WATCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "io/loop.h"

enum { MESA_WATCH_DEBOUNCE_MS = 100 };

struct mesa_watch; /* opaque */

/* `paths` are as they were added and live until the callback returns. It may add and remove files and free the watch. */
typedef void (*mesa_watch_fn)(void *ctx, const char *const *paths, size_t count);

enum mesa_status mesa_watch_new(struct mesa_watch **out, struct mesa_loop *loop,
                                uint32_t debounce_ms, mesa_watch_fn fn, void *ctx);
/* NULL is accepted. */
void mesa_watch_free(struct mesa_watch *w);

/* Adds a file by its absolute path; it need not exist yet, its folder must. Adding it again has no effect. The state it is
 * compared with is taken now: add first, then read. MESA_EINVAL: not absolute. MESA_EIO: the folder cannot be watched (logged). MESA_ENOMEM. */
enum mesa_status mesa_watch_add(struct mesa_watch *w, const char *path);
/* A path that was not added has no effect. */
void mesa_watch_remove(struct mesa_watch *w, const char *path);

#endif
