/* templates.h - the files `mesa-lua new` writes, embedded from src/app/templates at build time.
 *
 * Constant data. May include: base/.
 */
#ifndef MESA_APP_TEMPLATES_H
#define MESA_APP_TEMPLATES_H

#include "base/buf.h"

struct mesa_template {
    const char *name;
    struct mesa_span text;
};

extern const struct mesa_template mesa_templates[];
extern const size_t mesa_template_count;

#endif
