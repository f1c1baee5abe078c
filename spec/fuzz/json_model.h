/* json_model.h - RFC 8259 written down as naively as possible, to compare the scanner with. */
#ifndef MESA_SPEC_JSON_MODEL_H
#define MESA_SPEC_JSON_MODEL_H

#include <stdbool.h>
#include <stddef.h>

bool json_model_valid(const char *text, size_t len, unsigned max_depth);
/* The same with surrogate escapes that have no partner, which the grammar of RFC 8259 allows. */
bool json_model_lenient(const char *text, size_t len, unsigned max_depth);

#endif
