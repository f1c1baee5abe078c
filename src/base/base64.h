/* base64.h - RFC 4648 section 4, with padding, strict when reading: no other characters, no line
 * breaks, no bits beyond the last byte.
 *
 * Pure: any thread. May include: base/.
 */
#ifndef MESA_BASE_BASE64_H
#define MESA_BASE_BASE64_H

#include "base/buf.h"
#include "base/status.h"

/* Appends the text of the bytes. MESA_ENOMEM: nothing appended. */
enum mesa_status mesa_base64_encode(struct mesa_buf *out, struct mesa_span bytes);
/* Appends the bytes of the text. MESA_EPROTO: it is not base64; MESA_ENOMEM. Nothing appended. */
enum mesa_status mesa_base64_decode(struct mesa_buf *out, struct mesa_span text);

#endif
