/* log.h - the process's log: one line a record on standard error, as text or JSON.
 *
 * Any thread may log. Lines are written whole. May include: base/.
 */
#ifndef MESA_BASE_LOG_H
#define MESA_BASE_LOG_H

#include <stdbool.h>

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

#endif
