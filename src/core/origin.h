/* origin.h - which values of the Origin header are let in (RFC 6454).
 *
 * Pure. May include: base/.
 */
#ifndef MESA_CORE_ORIGIN_H
#define MESA_CORE_ORIGIN_H

#include <stdbool.h>

#include "base/buf.h"

// Whether `pattern` is that origin, whatever the case; "https://*.example.org" is every name that ends in
// ".example.org", at any depth, with the same scheme and port.
bool mesa_origin_matches(const char *pattern, struct mesa_span origin);

#endif
