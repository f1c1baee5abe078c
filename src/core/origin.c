/* origin.c - see origin.h. */
#include "core/origin.h"

#include <string.h>
#include <strings.h>

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* Labels with dots between them: what else could stand there would make the rest mean something else, as in
 * "https://evil.example/.example.org". */
static bool is_labels(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool dot = p[i] == '.' && i > 0 && p[i - 1] != '.';
        if (!dot && !is_name_char(p[i]))
            return false;
    }
    return len > 0 && p[len - 1] != '.';
}

bool mesa_origin_matches(const char *pattern, struct mesa_span origin)
{
    size_t len = strlen(pattern);
    const char *star = strstr(pattern, "://*.");
    if (star == NULL)
        return origin.len == len && strncasecmp(pattern, origin.p, len) == 0;
    size_t before = (size_t)(star - pattern) + 3, after = len - before - 1;
    if (origin.len <= before + after)
        return false;
    return strncasecmp(pattern, origin.p, before) == 0 &&
           strncasecmp(pattern + before + 1, origin.p + origin.len - after, after) == 0 &&
           is_labels(origin.p + before, origin.len - before - after);
}
