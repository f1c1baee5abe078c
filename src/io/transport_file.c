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

/* A file to serve. */
struct found {
    char path[PATH_MAX]; /* resolved */
    struct stat st;
    int fd;
    bool folder; /* `path` is of a folder that was named without a slash at the end */
    bool packed; /* the file beside it, with ".gz" */
    bool varies; /* there is one */
};

static int open_file(const char *path, struct stat *st)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, st) != 0 || !S_ISREG(st->st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Opens what `path` names below `root`; false when there is nothing to serve. */
static bool open_below(const char *root, struct mesa_span path, struct found *out)
{
    char real_root[PATH_MAX], joined[PATH_MAX];
    if (!path_allowed(path) || realpath(root, real_root) == NULL)
        return false;
    int n = snprintf(joined, sizeof joined, "%s%.*s", real_root, (int)path.len, path.p);
    if (n < 0 || (size_t)n >= sizeof joined || realpath(joined, out->path) == NULL)
        return false;
    bool slash = path.p[path.len - 1] == '/';
    if (stat(out->path, &out->st) == 0 && S_ISDIR(out->st.st_mode)) {
        n = snprintf(joined, sizeof joined, "%s/index.html", out->path);
        if (n < 0 || (size_t)n >= sizeof joined || realpath(joined, out->path) == NULL)
            return false;
        out->folder = !slash;
    } else if (slash) {
        return false;
    }
    if (!is_below(out->path, real_root))
        return false;
    /* what was resolved holds no link any more: one that appears now is not followed */
    out->fd = open_file(out->path, &out->st);
    return out->fd >= 0;
}

/* Takes the packed file instead when there is one, and the peer can unpack it. */
static void choose_encoding(const struct mesa_request *req, struct found *f)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s.gz", f->path);
    int fd = n > 0 && (size_t)n < sizeof path ? open_file(path, &st) : -1;
    if (fd < 0)
        return;
    f->varies = true;
    /* "gzip;q=0" and the like, which nobody sends, get the plain file */
    f->packed = mesa_header_lists(mesa_request_header(req, "accept-encoding"), "gzip");
    if (!f->packed) {
        close(fd);
        return;
    }
    close(f->fd);
    f->fd = fd;
    f->st = st;
}

static enum mesa_status put_location(struct mesa_buf *out, const struct mesa_request *req)
{
    static const char hex[] = "0123456789ABCDEF";
    enum mesa_status rc = mesa_buf_printf(out, "Location: ");
    for (size_t i = 0; i < req->path.len && rc == MESA_OK; i++) {
        unsigned char c = (unsigned char)req->path.p[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     (c != '\0' && strchr("/-._~", c) != NULL);
        rc = plain ? mesa_buf_push(out, (char)c)
                   : mesa_buf_printf(out, "%%%c%c", hex[c >> 4], hex[c & 15]);
    }
    return rc == MESA_OK ? mesa_buf_printf(out, "/%s%.*s\r\n\r\n", req->query.len > 0 ? "?" : "",
                                           (int)req->query.len, req->query.p)
                         : rc;
}

/* So that the page's relative links lead into the folder. */
static enum mesa_status put_redirection(struct mesa_http *h)
{
    enum mesa_status rc = mesa_http_put_head(h, 301, 0);
    return rc == MESA_OK ? put_location(&h->out, &h->capture.request) : rc;
}

/* What `status` is about goes to `part`. */
static enum mesa_status put_file_head(struct mesa_http *h, const struct found *f, int *status,
                                      struct mesa_http_part *part)
{
    const struct mesa_request *req = &h->capture.request;
    uint64_t size = (uint64_t)f->st.st_size;
    char tag[64], modified[MESA_HTTP_DATE_BYTES];
    snprintf(tag, sizeof tag, "\"%llx-%llx%09lx\"", (unsigned long long)size,
             (unsigned long long)f->st.st_mtim.tv_sec, (unsigned long)f->st.st_mtim.tv_nsec);
    mesa_http_date(f->st.st_mtim.tv_sec, modified);

    *part = (struct mesa_http_part){0, size};
    *status = mesa_http_conditions(req, tag, f->st.st_mtim.tv_sec);
    if (*status == 200)
        *status = mesa_http_range(req, tag, f->st.st_mtim.tv_sec, size, part);
    bool none = *status == 412 || *status == 416;
    enum mesa_status rc = mesa_http_put_head(h, *status, none ? 0 : part->len);
    if (rc == MESA_OK && *status == 206)
        rc = mesa_buf_printf(
            &h->out, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)part->from,
            (unsigned long long)(part->from + part->len - 1), (unsigned long long)size);
    if (rc == MESA_OK && *status == 416)
        rc = mesa_buf_printf(&h->out, "Content-Range: bytes */%llu\r\n", (unsigned long long)size);
    if (rc == MESA_OK && !none)
        rc = mesa_buf_printf(&h->out, "Content-Type: %s\r\n%s", content_type(f->path),
                             f->packed ? "Content-Encoding: gzip\r\n" : "");
    if (rc == MESA_OK)
        rc = mesa_buf_printf(
            &h->out,
            "%sETag: %s\r\nLast-Modified: %s\r\nAccept-Ranges: bytes\r\nCache-Control: no-cache\r\n"
            "X-Content-Type-Options: nosniff\r\n\r\n",
            f->varies ? "Vary: Accept-Encoding\r\n" : "", tag, modified);
    return rc;
}

enum mesa_status mesa_http_file(struct mesa_http *h, const char *root)
{
    static const struct mesa_header allow = {{"Allow", 5}, {"GET, HEAD", 9}};
    const struct mesa_request *req = &h->capture.request;
    struct found f = {.fd = -1};
    struct mesa_http_part part = {0, 0};
    int status = 301;

    if (!open_below(root, req->path, &f))
        return MESA_ENOTFOUND;
    if (!h->head_only && !mesa_span_eq(req->method, MESA_SPAN("GET"))) {
        close(f.fd);
        mesa_http_reply(h, 405, &allow, 1, NULL, 0);
        return MESA_OK;
    }
    choose_encoding(req, &f);
    enum mesa_status rc = f.folder ? put_redirection(h) : put_file_head(h, &f, &status, &part);
    if (rc != MESA_OK || (part.from > 0 && lseek(f.fd, (off_t)part.from, SEEK_SET) < 0)) {
        close(f.fd);
        mesa_http_reply(h, 503, NULL, 0, NULL, 0);
        return MESA_OK;
    }
    if (h->head_only || (status != 200 && status != 206)) {
        close(f.fd);
    } else {
        h->file = f.fd;
        h->file_left = part.len;
    }
    mesa_http_send(h);
    return MESA_OK;
}
