/* log.h - the process's log: one line a record on standard error, as text or JSON.
 *
 * Any thread may log. Lines are written whole. May include: base/.
 */
#ifndef MESA_BASE_LOG_H
#define MESA_BASE_LOG_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"

enum mesa_log_level { MESA_LOG_DEBUG, MESA_LOG_INFO, MESA_LOG_WARN, MESA_LOG_ERROR, MESA_LOG_OFF };
enum mesa_log_format { MESA_LOG_TEXT, MESA_LOG_JSON };

void mesa_log_configure(enum mesa_log_level level, enum mesa_log_format format);
bool mesa_log_enabled(enum mesa_log_level level);

/* "debug", "info", "warn", "error", "off" -> *out; MESA_EINVAL for anything else. */
enum mesa_status mesa_log_level_parse(const char *name, enum mesa_log_level *out);

/* `area` is a short lower-case word: "server", "script", "reload". Control characters and invalid
 * UTF-8 in the message are escaped, so that a record can neither break the line nor the JSON; a
 * newline of a traceback becomes an indented line in text and \n in JSON. */
void mesa_log(enum mesa_log_level level, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The same for a text in which NUL is escaped, too. */
void mesa_log_write(enum mesa_log_level level, const char *area, struct mesa_span text);

/* For what a peer can cause as often as it likes: of the records with the same `key` (a code, a
 * place) the first MESA_LOG_PER_SECOND of each second are written, the others counted. The count is
 * a record of its own: "… and 1234 more of PROTOCOL in 1 s". A text is cut to
 * MESA_LOG_LIMITED_BYTES. */
enum { MESA_LOG_PER_SECOND = 5, MESA_LOG_LIMITED_BYTES = 4096 };
void mesa_log_limited(enum mesa_log_level level, const char *area, const char *key,
                      struct mesa_span text);
/* Whether records were counted that no record has told of yet. */
bool mesa_log_has_counted(void);
/* Tells of what was counted more than a second ago; with `all` of everything. */
void mesa_log_tell_counted(bool all);

#endif
