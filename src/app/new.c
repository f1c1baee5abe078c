#include "app/new.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/templates.h"
#include "core/json.h"

#define LIBRARY MESA_SPAN("\"@LIBRARY@\"") /* in a template: the folder, as a JSON string */

static enum mesa_status path_of(char path[PATH_MAX], const char *dir, const char *name, char *err,
                                size_t err_len)
{
    int n = snprintf(path, PATH_MAX, "%s/%s", dir, name);
    if (n > 0 && n < PATH_MAX)
        return MESA_OK;
    snprintf(err, err_len, "the path of the folder is too long");
    return MESA_EIO;
}

static enum mesa_status write_all(int fd, struct mesa_span text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.p, text.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return MESA_EIO;
        text.p += n;
        text.len -= (size_t)n;
    }
    return MESA_OK;
}

/* The text of the template, with the folder of the library where it belongs. */
static enum mesa_status fill_in(struct mesa_buf *out, struct mesa_span text, const char *library)
{
    const char *end = text.p + text.len;
    const char *at = memmem(text.p, text.len, LIBRARY.p, LIBRARY.len);
    if (at == NULL)
        return mesa_buf_append(out, text.p, text.len);
    const char *rest = at + LIBRARY.len;
    enum mesa_status rc = mesa_buf_append(out, text.p, (size_t)(at - text.p));
    if (rc == MESA_OK)
        rc = mesa_json_put_string(out, library, strlen(library));
    return rc == MESA_OK ? mesa_buf_append(out, rest, (size_t)(end - rest)) : rc;
}

/* "public/index.html": the folder of the template, when it has one. */
static enum mesa_status make_folder_of(char path[PATH_MAX], const char *name, char *err,
                                       size_t err_len)
{
    if (strchr(name, '/') == NULL)
        return MESA_OK;
    char *slash = strrchr(path, '/');
    *slash = '\0';
    int failed = mkdir(path, 0777) != 0 && errno != EEXIST;
    if (failed)
        snprintf(err, err_len, "cannot create %s: %s", path, strerror(errno));
    *slash = '/';
    return failed ? MESA_EIO : MESA_OK;
}

static enum mesa_status write_file(const char *path, struct mesa_span text, char *err,
                                   size_t err_len)
{
    enum mesa_status rc = MESA_OK;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd >= 0)
        rc = write_all(fd, text);
    if (fd < 0 || rc != MESA_OK || close(fd) != 0) {
        snprintf(err, err_len, "cannot write %s: %s", path, strerror(errno));
        if (fd >= 0 && rc != MESA_OK)
            close(fd);
        rc = MESA_EIO;
    }
    return rc;
}

static enum mesa_status write_template(const char *dir, const char *library,
                                       const struct mesa_template *t, char *err, size_t err_len)
{
    char path[PATH_MAX];
    struct mesa_buf text;
    mesa_buf_init(&text);
    enum mesa_status rc = path_of(path, dir, t->name, err, err_len);
    if (rc == MESA_OK)
        rc = make_folder_of(path, t->name, err, err_len);
    if (rc == MESA_OK && (rc = fill_in(&text, t->text, library)) != MESA_OK)
        snprintf(err, err_len, "%s", mesa_status_text(rc));
    if (rc == MESA_OK)
        rc = write_file(path, (struct mesa_span){text.data, text.len}, err, err_len);
    mesa_buf_deinit(&text);
    return rc;
}

enum mesa_status mesa_new_write(const char *dir, const char *library, char *err, size_t err_len)
{
    if (mkdir(dir, 0777) != 0 && errno != EEXIST) {
        snprintf(err, err_len, "cannot create %s: %s", dir, strerror(errno));
        return MESA_EIO;
    }
    /* All or nothing: a folder with half of somebody's own files is not to be completed. */
    for (size_t i = 0; i < mesa_template_count; i++) {
        char path[PATH_MAX];
        struct stat st;
        enum mesa_status rc = path_of(path, dir, mesa_templates[i].name, err, err_len);
        if (rc != MESA_OK)
            return rc;
        if (lstat(path, &st) == 0) {
            snprintf(err, err_len, "%s exists already; nothing was written", path);
            return MESA_EINUSE;
        }
    }
    for (size_t i = 0; i < mesa_template_count; i++) {
        enum mesa_status rc = write_template(dir, library, &mesa_templates[i], err, err_len);
        if (rc != MESA_OK)
            return rc;
    }
    return MESA_OK;
}
