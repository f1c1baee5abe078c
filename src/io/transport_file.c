/* transport_file.c - static files.
 *
 * A path is refused before it touches the file system when any part of it begins with a dot or
 * holds a NUL or a backslash; then it is resolved and must lie below the resolved root, so that
 * symbolic links cannot lead out.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io/transport_http.h"

static const char *content_type(const char *path)
{
    static const struct {
        const char *extension, *type;
    } known[] = {
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"json", "application/json"},
        {"map", "application/json"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/markdown; charset=utf-8"},
        {"xml", "application/xml"},
        {"csv", "text/csv; charset=utf-8"},
        {"svg", "image/svg+xml"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"webp", "image/webp"},
        {"avif", "image/avif"},
        {"ico", "image/x-icon"},
        {"wasm", "application/wasm"},
        {"pdf", "application/pdf"},
        {"woff", "font/woff"},
        {"woff2", "font/woff2"},
        {"ttf", "font/ttf"},
        {"mp3", "audio/mpeg"},
        {"ogg", "audio/ogg"},
        {"wav", "audio/wav"},
        {"mp4", "video/mp4"},
        {"webm", "video/webm"},
        {"webmanifest", "application/manifest+json"},
    };
    const char *dot = strrchr(path, '.');
    if (dot != NULL && strchr(dot, '/') == NULL)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (strcasecmp(dot + 1, known[i].extension) == 0)
                return known[i].type;
    return "application/octet-stream";
}

static bool path_allowed(struct mesa_span path)
{
    if (memchr(path.p, '\0', path.len) != NULL || memchr(path.p, '\\', path.len) != NULL)
        return false;
    for (size_t i = 0; i + 1 < path.len; i++)
        if (path.p[i] == '/' && path.p[i + 1] == '.')
            return false; /* "..", ".", and hidden files */
    return path.len > 0 && path.p[0] == '/';
}

static bool is_below(const char *path, const char *root)
{
    size_t n = strlen(root);
    while (n > 0 && root[n - 1] == '/')
        n--;
    return strncmp(path, root, n) == 0 && path[n] == '/';
}

/* Opens what `path` names below `root`; -1 when there is nothing to serve. `resolved` has PATH_MAX
 * bytes. */
static int open_below(const char *root, struct mesa_span path, char *resolved, struct stat *st)
{
    char real_root[PATH_MAX], joined[PATH_MAX];
    if (!path_allowed(path) || realpath(root, real_root) == NULL)
        return -1;
    int n = snprintf(joined, sizeof joined, "%s%.*s", real_root, (int)path.len, path.p);
    if (n < 0 || (size_t)n >= sizeof joined || realpath(joined, resolved) == NULL)
        return -1;
    if (stat(resolved, st) == 0 && S_ISDIR(st->st_mode)) {
        n = snprintf(joined, sizeof joined, "%s/index.html", resolved);
        if (n < 0 || (size_t)n >= sizeof joined || realpath(joined, resolved) == NULL)
            return -1;
    } else if (path.p[path.len - 1] == '/') {
        return -1;
    }
    if (!is_below(resolved, real_root))
        return -1;
    /* what was resolved holds no link any more: one that appears now is not followed */
    int fd = open(resolved, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool etag_matches(const struct mesa_request *req, const char *etag)
{
    struct mesa_span wanted = mesa_request_header(req, "if-none-match");
    size_t n = strlen(etag);
    if (wanted.len == 1 && wanted.p[0] == '*')
        return true;
    for (size_t i = 0; i + n <= wanted.len; i++)
        if (memcmp(wanted.p + i, etag, n) == 0)
            return true;
    return false;
}

static enum mesa_status put_file_head(struct mesa_http *h, const struct stat *st, const char *path,
                                      bool *unchanged)
{
    char etag[64], modified[64];
    struct tm tm;
    snprintf(etag, sizeof etag, "\"%llx-%llx%09lx\"", (unsigned long long)st->st_size,
             (unsigned long long)st->st_mtim.tv_sec, (unsigned long)st->st_mtim.tv_nsec);
    gmtime_r(&st->st_mtim.tv_sec, &tm);
    strftime(modified, sizeof modified, "%a, %d %b %Y %H:%M:%S GMT", &tm);

    *unchanged = etag_matches(&h->capture.request, etag);
    enum mesa_status rc = mesa_http_put_head(h, *unchanged ? 304 : 200, (uint64_t)st->st_size);
    if (rc == MESA_OK)
        rc = mesa_buf_printf(
            &h->out,
            "Content-Type: %s\r\nETag: %s\r\nLast-Modified: %s\r\nCache-Control: no-cache\r\n"
            "X-Content-Type-Options: nosniff\r\n\r\n",
            content_type(path), etag, modified);
    return rc;
}

enum mesa_status mesa_http_file(struct mesa_http *h, const char *root)
{
    static const struct mesa_header allow = {{"Allow", 5}, {"GET, HEAD", 9}};
    char path[PATH_MAX];
    struct stat st;
    bool unchanged;
    const struct mesa_request *req = &h->capture.request;

    int fd = open_below(root, req->path, path, &st);
    if (fd < 0)
        return MESA_ENOTFOUND;
    if (!h->head_only && !mesa_span_eq(req->method, MESA_SPAN("GET"))) {
        close(fd);
        mesa_http_reply(h, 405, &allow, 1, NULL, 0);
        return MESA_OK;
    }
    if (put_file_head(h, &st, path, &unchanged) != MESA_OK) {
        close(fd);
        mesa_http_reply(h, 503, NULL, 0, NULL, 0);
        return MESA_OK;
    }
    if (h->head_only || unchanged) {
        close(fd);
    } else {
        h->file = fd;
        h->file_left = (uint64_t)st.st_size;
    }
    mesa_http_send(h);
    return MESA_OK;
}
