/* json.h - strict JSON (RFC 8259): one-pass validation, spans, strings and numbers.
 *
 * Strict means: UTF-8 is checked (no overlong forms, surrogates or code points above U+10FFFF),
 * control characters in strings, lone surrogate escapes (\ud800 without its partner), numbers too
 * large for a double, leading zeros, NaN, comments, trailing commas and bytes after the value are
 * errors. Depth is bounded and nothing recurses on the C stack deeper than that bound. What peers
 * write may have lone surrogate escapes: see mesa_json_mend. Pure: any thread. May include: base/.
 */
#ifndef MESA_CORE_JSON_H
#define MESA_CORE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "base/utf8.h" /* mesa_utf8_valid, mesa_utf8_prefix */

enum { MESA_JSON_DEPTH_DEFAULT = 128, MESA_JSON_DEPTH_MAX = 1024 };

struct mesa_json_error {
    size_t offset;    /* of the byte where the text stops being JSON */
    const char *text; /* static: "expected ',' or '}'", "invalid UTF-8", "nesting too deep" … */
};

/* Skips white space and validates one value starting at *p; on MESA_OK *p is just behind it and,
 * when wanted, *value is the value's span without surrounding white space. `max_depth` (at most
 * MESA_JSON_DEPTH_MAX) counts nested arrays and objects; a scalar has depth 0. MESA_EPROTO
 * (MESA_EUTF8 for bad UTF-8): not JSON, *err says where, offset relative to the *p given. */
enum mesa_status mesa_json_value(const char **p, const char *end, unsigned max_depth,
                                 struct mesa_span *value, struct mesa_json_error *err);

/* Validates a whole text: one value, white space around it, nothing else. */
enum mesa_status mesa_json_check(const char *text, size_t len, unsigned max_depth,
                                 struct mesa_json_error *err);

/* JavaScript writes an escape like \ud83d for a string that was cut in the middle of an emoji.
 * Writes \ufffd in place of each surrogate escape in `text` that has no partner, and returns their
 * number. The text need not be JSON; its length stays. For texts that were refused, on a copy. */
size_t mesa_json_mend(char *text, size_t len);

/* Finds the last member called `key` (compared after unescaping) of the VALID JSON object `object`.
 * False: absent, or not an object. */
bool mesa_json_find(struct mesa_span object, const char *key, struct mesa_span *value);

/* The helpers below take VALID JSON tokens. */

/* Appends the decoded text of a JSON string token (quotes included in `token`). MESA_ENOMEM. */
enum mesa_status mesa_json_unescape(struct mesa_span token, struct mesa_buf *out);
/* The value of a JSON number token, correctly rounded (locale-independent). Finite for what the
 * scanner accepts, else overflow gives +-infinity. */
double mesa_json_number(struct mesa_span token);
/* Whether a JSON number token is exactly an integer within +-2^53 (1.0, 10e-1 and -0 are); its
 * value in *out. */
bool mesa_json_integer(struct mesa_span token, int64_t *out);
/* Whether a JSON string token, unescaped, is these `len` bytes. */
bool mesa_json_string_is(struct mesa_span token, const char *s, size_t len);

/* Appends `s` as a JSON string token with quotes: escapes '"', '\\' and control characters only.
 * MESA_EUTF8: `s` is not UTF-8, nothing appended. MESA_ENOMEM. */
enum mesa_status mesa_json_put_string(struct mesa_buf *out, const char *s, size_t len);
/* Appends the decimal text with the fewest digits that reads back as `d`, the nearest one when
 * there are several (integers up to 2^53 without point or exponent; -0 as "-0";
 * locale-independent). Laid out as JavaScript does, without the "+" of an exponent. MESA_EINVAL:
 * NaN or infinite. MESA_ENOMEM. */
enum mesa_status mesa_json_put_number(struct mesa_buf *out, double d);
enum mesa_status mesa_json_put_integer(struct mesa_buf *out, int64_t i);

#endif
