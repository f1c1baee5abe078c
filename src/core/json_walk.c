/* json_walk.c - see json_walk.h. */
#include "core/json_walk.h"

static struct mesa_json_entry *walk_array(const struct mesa_json_walk *w,
                                          struct mesa_json_entry *open, unsigned max_depth)
{
    struct mesa_json_entry *e = open + 1;
    const char *value = mesa_json_skip_space(w->text + open->at + 1), *stop, *end;
    unsigned members = 0;
    if (max_depth == 0)
        return NULL;
    if (*value == ']') {
        open->members = 0;
        return e + 1;
    }
    for (;; value = mesa_json_skip_space(stop + 1)) {
        e = mesa_json_walk_value(w, e, value, max_depth - 1, &end);
        if (e == NULL)
            return NULL;
        members++;
        stop = w->text + e->at;
        e++;
        if (*stop != ',')
            break;
    }
    open->members = (uint16_t)members;
    return *stop == ']' ? e : NULL;
}

struct mesa_json_entry *mesa_json_walk_container(const struct mesa_json_walk *w,
                                                 struct mesa_json_entry *e, unsigned max_depth)
{
    if (w->text[e->at] == '[')
        return walk_array(w, e, max_depth);
    return mesa_json_walk_object(w, e, max_depth, NULL, NULL);
}
