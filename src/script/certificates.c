/* certificates.c - when the servers' certificates are read again: on request, and when their
 * files change. */
#include <string.h>

#include "io/watch.h"
#include "script/script.h"

static bool uses(const struct script_server *s, const char *path)
{
    const char *file;
    for (size_t i = 0; (file = mesa_server_tls_file(s->server, i)) != NULL; i++)
        if (strcmp(file, path) == 0)
            return true;
    return false;
}

void mesa_script_watch_certificates(struct mesa_vm *vm)
{
    const char *file;
    MESA_LIST_FOREACH(it, &vm->servers) {
        const struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        for (size_t i = 0; (file = mesa_server_tls_file(s->server, i)) != NULL; i++)
            mesa_script_watch(vm, file);
    }
}

bool mesa_script_is_certificate(const struct mesa_vm *vm, const char *path)
{
    MESA_LIST_FOREACH(it, &vm->servers)
        if (uses(MESA_CONTAINER_OF(it, struct script_server, link), path))
            return true;
    return false;
}

/* Whether one of its files is being written: when that is over, it is told of once more. */
static bool is_unsettled(const struct mesa_vm *vm, const struct script_server *s)
{
    const char *file;
    for (size_t i = 0; (file = mesa_server_tls_file(s->server, i)) != NULL; i++)
        if (mesa_watch_busy(vm->watch, file))
            return true;
    return false;
}

void mesa_script_certificates_changed(struct mesa_vm *vm, const char *const *paths, size_t count)
{
    MESA_LIST_FOREACH_SAFE(it, next, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        bool concerned = false;
        for (size_t i = 0; i < count && !concerned; i++)
            concerned = uses(s, paths[i]);
        if (concerned && !is_unsettled(vm, s))
            mesa_server_reload_tls(s->server, NULL);
    }
}

bool mesa_script_reload_certificates(struct mesa_vm *vm, struct mesa_buf *report)
{
    bool ok = true;
    MESA_LIST_FOREACH_SAFE(it, next, &vm->servers) {
        struct script_server *s = MESA_CONTAINER_OF(it, struct script_server, link);
        ok = mesa_server_reload_tls(s->server, report) && ok;
    }
    return ok;
}
