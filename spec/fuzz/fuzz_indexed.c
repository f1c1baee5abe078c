/* fuzz_indexed.c - texts judged, and values decoded, by the positions of their structure against the
 * scanner and the decoder that need none. */
#include <lualib.h>
#include <string.h>

#include "../unit/script/same.h"
#include "core/envelope.h"
#include "core/json_walk.h"
#include "fuzz.h"
#include "script/value.h"

enum { DEPTH = 16 };

/* Every way to build the index is right about every text, and finds the same. */
static void check_verdicts(const char *text, size_t size)
{
    static struct mesa_json_index first, other;
    mesa_json_index_fn variants[3];
    size_t count = mesa_json_index_variants(variants);
    const char *end = text + size, *p = mesa_json_space(text, end);
    bool want = p < end && *p == '{' && mesa_json_check(text, size, DEPTH, NULL) == MESA_OK;
    for (size_t i = 0; i < count; i++) {
        struct mesa_json_index *x = i == 0 ? &first : &other;
        bool got =
            variants[i](x, text, size) && mesa_json_walk_text(x, text, size, DEPTH, NULL, NULL);
        REQUIRE(got == (want && size <= MESA_JSON_INDEX_MAX_BYTES));
        if (!got)
            continue;
        REQUIRE(x->count == first.count && x->escapes == first.escapes);
        for (size_t e = 0; e < x->count; e++)
            REQUIRE(x->entries[e].at == first.entries[e].at &&
                    x->entries[e].members == first.entries[e].members);
    }
}

/* A valid value, as the data of an envelope, is decoded to the same both ways. */
static void check_values(const char *value, size_t size)
{
    static struct mesa_value_names names;
    static lua_State *L;
    struct mesa_buf text;
    struct mesa_envelope e;
    if (L == NULL) {
        L = luaL_newstate();
        luaL_openlibs(L);
        mesa_value_open(L);
        mesa_value_names_init(L, &names);
        same_open(L);
    }
    mesa_buf_init(&text);
    REQUIRE(mesa_buf_printf(&text, "{\"op\":0,\"t\":\"%*s\",\"d\":", MESA_JSON_INDEX_FROM_BYTES,
                            "") == MESA_OK);
    REQUIRE(mesa_buf_append(&text, value, size) == MESA_OK);
    REQUIRE(mesa_buf_push(&text, '}') == MESA_OK);
    char *exact = malloc(text.len); /* for the address sanitizer */
    REQUIRE(exact != NULL);
    memcpy(exact, text.data, text.len);
    REQUIRE(mesa_envelope_parse(exact, text.len, DEPTH + 1, &e, NULL) == MESA_OK);
    REQUIRE((mesa_json_index_recall(e.d_place) != NULL) == (text.len <= MESA_JSON_INDEX_MAX_BYTES));
    mesa_value_push_indexed(L, e.d, e.d_place, &names);
    mesa_value_push(L, e.d, &names);
    REQUIRE(lua_gettop(L) == 2 && same_values(L));
    free(exact);
    mesa_buf_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    check_verdicts(text, size);
    if (mesa_json_check(text, size, DEPTH, NULL) == MESA_OK)
        check_values(text, size);
    return 0;
}
