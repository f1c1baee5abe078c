/* value_indexed_test.c - the data of an envelope, decoded by the positions that were found when it
 * was parsed, are what they are without. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "budget.h"
#include "core/envelope.h"
#include "same.h"
#include "script/value.h"
#include "test.h"

static struct mesa_value_names names;

static lua_State *open_state(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mesa_value_open(L);
    mesa_value_names_init(L, &names);
    same_open(L);
    return L;
}

/* Parses {"op":0,"pad":"…","d":<data>} in a block of its own size, long enough to be indexed. */
static char *parse(const char *data, size_t len, struct mesa_envelope *e)
{
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_printf(&b, "{\"op\":0,\"pad\":\"%*s\",\"d\":", MESA_JSON_INDEX_FROM_BYTES, "");
    mesa_buf_append(&b, data, len);
    mesa_buf_push(&b, '}');
    char *text = malloc(b.len);
    memcpy(text, b.data, b.len);
    enum mesa_status rc = mesa_envelope_parse(text, b.len, MESA_JSON_DEPTH_MAX, e, NULL);
    mesa_buf_deinit(&b);
    if (rc == MESA_OK)
        return text;
    free(text);
    return NULL;
}

/* Whether both ways leave the same single value. */
static bool decoded_alike(lua_State *L, const char *data, size_t len)
{
    struct mesa_envelope e;
    char *text = parse(data, len, &e);
    if (!CHECK(text != NULL))
        return false;
    lua_settop(L, 0);
    bool indexed = mesa_json_index_recall(e.d_place) != NULL;
    mesa_value_push_indexed(L, e.d, e.d_place, &names);
    mesa_value_push(L, e.d, &names);
    free(text);
    bool alike = indexed && lua_gettop(L) == 2 && same_values(L);
    if (!alike)
        printf("%.*s\n", (int)(len < 200 ? len : 200), data);
    return alike;
}

TEST(values_are_the_same_with_positions)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        " { } ",
        "[ ]",
        "null",
        "true",
        "\"text\"",
        "-1.5",
        "{\"a\":1}",
        "{\"seq\":123456789,\"text\":\"some text\"}",
        "[1,-2,3.5,1e3,-0,0,12345678,123456789,123456789012345,1234567890123456,1e300]",
        "[ 1 , -2 , 3.5 , 1e3 , 12345678 , 1234567890123456 ]",
        "[true,false,null, true , false , null ]",
        "[\"\",\"a\",\"\\n\",\"\\\\\",\"\\\"\",\"\\u00e9\\ud83d\\ude00\",\"\xc3\xa9\", \"x\" ]",
        "{\"\":\"\",\"k\\u0065y\":1,\"long key, which no table of names remembers\":[]}",
        "{\"a\":1,\"a\":{\"b\":2},\"a\":[3]}",
        "[[],[[]],{},[{}],{\"a\":[]},{\"a\":{\"b\":{\"c\":[{\"d\":\"e\"}]}}}]",
        "{ \"a\" : [ 1 , { \"b\" : \"c\" } ] , \"d\" : { } }",
        "{\r\n\t\"a\" :\n\t[\n\t\t\"b\"\n\t,\n\t1\n\t]\n}",
        "[\"{}[]:,\",{\"{}[]:,\":\"\\\"{}[]:,\"}]",
    };
    lua_State *L = open_state();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        CHECK(decoded_alike(L, texts[i], strlen(texts[i])));
    lua_close(L);
}

TEST(large_and_deep_values_are_the_same_with_positions)
{
    static const char *const forms[][2] = {
        {"[", "]"}, {"{\"k\":", "}"}, {"[0,0,", ",\"x\"]"}, {"{\"a\":[],\"b\":", ",\"c\":1}"}};
    lua_State *L = open_state();
    struct mesa_buf b;
    mesa_buf_init(&b);
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        mesa_buf_reset(&b, SIZE_MAX);
        for (unsigned i = 0; i < MESA_JSON_DEPTH_MAX - 2; i++)
            mesa_buf_append(&b, forms[f][0], strlen(forms[f][0]));
        mesa_buf_append(&b, "{}", 2);
        for (unsigned i = 0; i < MESA_JSON_DEPTH_MAX - 2; i++)
            mesa_buf_append(&b, forms[f][1], strlen(forms[f][1]));
        CHECK(decoded_alike(L, b.data, b.len));
    }

    for (unsigned form = 0; form < 2; form++) {
        mesa_buf_reset(&b, SIZE_MAX);
        mesa_buf_push(&b, form == 0 ? '[' : '{');
        for (unsigned i = 0; i < 4000; i++)
            mesa_buf_printf(&b, form == 0 ? "%u," : "\"k%u\":\"\\tv\",", i);
        mesa_buf_printf(&b, form == 0 ? "1]" : "\"k\":1}");
        CHECK(decoded_alike(L, b.data, b.len));
    }
    mesa_buf_deinit(&b);
    lua_close(L);
}

TEST(positions_of_another_text_are_not_used)
{
    static const char first[] = "{\"a\":[1,2,3],\"b\":\"text\"}", second[] = "[[[[]]]]";
    struct mesa_envelope e, other;
    lua_State *L = open_state();
    char *text = parse(first, sizeof first - 1, &e);
    CHECK_OR_RETURN(text != NULL);
    char *other_text = parse(second, sizeof second - 1, &other);
    CHECK(mesa_json_index_recall(e.d_place) == NULL);
    mesa_value_push_indexed(L, e.d, e.d_place, &names);
    lua_getfield(L, -1, "b");
    CHECK_EQ_STR(lua_tostring(L, -1), "text");
    free(text);
    free(other_text);
    lua_close(L);
}

static unsigned finalized;

/* What a finalizer of a script might lead to. */
static int parse_another(lua_State *L)
{
    struct mesa_envelope e;
    (void)L;
    finalized++;
    free(parse("[[[[[[[[[[]]]]]]]]]]", 20, &e));
    return 0;
}

TEST(a_finalizer_may_have_another_text_parsed_meanwhile)
{
    lua_State *L = open_state();
    struct mesa_buf b;
    mesa_buf_init(&b);
    mesa_buf_push(&b, '[');
    for (unsigned i = 0; i < 300; i++)
        mesa_buf_printf(&b, "{\"name %u, seen once\":\"text %u\",\"list\":[[],{}]},", i, i);
    mesa_buf_append(&b, "1]", 2);

    lua_pushcfunction(L, parse_another);
    lua_setglobal(L, "parse_another");
    lua_gc(L, LUA_GCSETPAUSE, 0);
    lua_gc(L, LUA_GCSETSTEPMUL, 1000);
    for (int round = 0; round < 30; round++) {
        CHECK_EQ_INT(luaL_dostring(L, "for i = 1, 20 do\n"
                                      "  getmetatable(newproxy(true)).__gc = parse_another\n"
                                      "end"),
                     0);
        CHECK(decoded_alike(L, b.data, b.len));
    }
    CHECK(finalized > 0);
    mesa_buf_deinit(&b);
    lua_close(L);
}

static int push_protected(lua_State *L)
{
    const struct mesa_envelope *e = lua_touserdata(L, 1);
    mesa_value_push_indexed(L, e->d, e->d_place, &names);
    return 1;
}

TEST(lack_of_memory_raises_and_leaks_nothing)
{
    static const char data[] =
        "{\"never seen before\":[[1,2,3],{\"x\":\"\\u00e9 and some more text\"}],\"another\":{\"a\":{},\"b\":[]}}";
    bool succeeded = false;
    for (long n = 0; n < 200 && !succeeded; n++) {
        long budget = -1;
        struct mesa_envelope e;
        lua_State *L = lua_newstate(budget_alloc, &budget);
        CHECK_OR_RETURN(L != NULL);
        mesa_value_open(L);
        mesa_value_names_init(L, &names);
        lua_gc(L, LUA_GCSTOP, 0);
        char *text = parse(data, sizeof data - 1, &e);
        CHECK_OR_RETURN(text != NULL);
        lua_pushcfunction(L, push_protected);
        lua_pushlightuserdata(L, &e);
        budget = n;
        int status = lua_pcall(L, 1, 1, 0);
        budget = -1;
        succeeded = status == 0;
        CHECK(succeeded ? lua_istable(L, -1) : status == LUA_ERRMEM);
        lua_close(L);
        free(text);
    }
    CHECK(succeeded);
}
