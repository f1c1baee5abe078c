/* bind_redis.c - connections to Redis for scripts: commands that wait, pipelines, subscriptions.
 *
 * A connection is opened with the first command; subscriptions have one of their own. The object is pinned while replies or
 * messages may come. One that is collected, closed or left open at the end frees what it holds; replies outstanding then are
 * forgotten. Loop thread only.
 */
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>

#include "base/log.h"
#include "broker/redis_scripts.h"
#include "script/redis_batch.h"
#include "script/redis_options.h"

static struct script_redis *check_redis(lua_State *L, int index)
{
    return luaL_checkudata(L, index, "mesa.redis_core");
}

/* -- life ----------------------------------------------------------------------------------------------------- */

void mesa_script_redis_pin(struct script_redis *r, lua_State *L, int index)
{
    if (r->self_ref != LUA_NOREF)
        return;
    lua_pushvalue(L, index);
    r->self_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void mesa_script_redis_unpin(struct script_redis *r)
{
    if (r->self_ref == LUA_NOREF || r->subscriptions > 0 || !mesa_list_empty(&r->batches))
        return;
    int ref = r->self_ref;
    r->self_ref = LUA_NOREF;
    luaL_unref(r->vm->L, LUA_REGISTRYINDEX, ref);
}

static void load_script(struct script_redis *r, struct mesa_span text)
{
    const struct mesa_span args[] = {MESA_SPAN("SCRIPT"), MESA_SPAN("LOAD"), text};
    mesa_redis_command(r->commands, 3, args, NULL, NULL);
}

/* Scripts go out before the commands that have waited. */
static void on_ready(void *ctx)
{
    struct script_redis *r = ctx;
    lua_State *L = r->vm->L;
    r->away = false;
    if (r->scripts_ref == LUA_NOREF)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->scripts_ref);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        struct mesa_span text;
        text.p = lua_tolstring(L, -1, &text.len);
        load_script(r, text);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Outstanding replies are lost. */
static void close_commands(struct script_redis *r)
{
    struct mesa_redis *commands = r->commands;
    r->commands = NULL;
    mesa_redis_free(commands);
}

/* Commands that wait for a connection are not to wait for the end of an outage: the connection that keeps them is exchanged. What
 * they were given is called meanwhile. */
static void on_lost(void *ctx, const char *reason)
{
    struct script_redis *r = ctx;
    lua_State *L = r->vm->L;
    r->away = true;
    mesa_log(MESA_LOG_WARN, "redis", "the connection of a script to %s is lost: %s",
             mesa_redis_address(r->commands), reason);
    if (mesa_redis_pending(r->commands) == 0)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->self_ref);
    int kept = luaL_ref(L, LUA_REGISTRYINDEX);
    close_commands(r);
    if (!r->vm->closing && !r->closing)
        mesa_script_redis_open(r);
    luaL_unref(L, LUA_REGISTRYINDEX, kept);
}

static void close_subscriber(struct script_redis *r)
{
    mesa_redis_free(r->subscriber);
    r->subscriber = NULL;
    r->subscriptions = 0;
    luaL_unref(r->vm->L, LUA_REGISTRYINDEX, r->deliver_ref);
    luaL_unref(r->vm->L, LUA_REGISTRYINDEX, r->active_ref);
    r->deliver_ref = r->active_ref = LUA_NOREF;
}

enum mesa_status mesa_script_redis_open(struct script_redis *r)
{
    static const struct mesa_redis_hooks hooks = {.on_ready = on_ready, .on_lost = on_lost};
    if (r->commands != NULL)
        return MESA_OK;
    return mesa_redis_new(&r->commands, r->vm->loop, MESA_REDIS_COMMANDS, &r->options, &hooks, r,
                          NULL, 0);
}

/* Nothing that could still use Redis is left in a program without servers. */
static bool nothing_goes_on(struct mesa_vm *vm)
{
    if (!mesa_list_empty(&vm->servers) || !mesa_list_empty(&vm->timers) ||
        !mesa_list_empty(&vm->waiting_tasks))
        return false;
    MESA_LIST_FOREACH(it, &vm->redis) {
        struct script_redis *r = MESA_CONTAINER_OF(it, struct script_redis, link);
        if (r->subscriptions > 0 || !mesa_list_empty(&r->batches))
            return false;
    }
    return true;
}

static void close_idle(struct script_redis *r)
{
    close_commands(r);
    r->away = false; /* the next command is to find out */
}

/* The end of a turn: no callback of a connection is running. Idle connections must not keep a program alive that has nothing left
 * to do; the next command of one that turns out to be alive opens them again. */
static void on_turn(struct mesa_turn *turn)
{
    struct mesa_vm *vm = MESA_CONTAINER_OF(turn, struct mesa_vm, redis_turn);
    bool idle = nothing_goes_on(vm);
    MESA_LIST_FOREACH(it, &vm->redis) {
        struct script_redis *r = MESA_CONTAINER_OF(it, struct script_redis, link);
        if (r->commands != NULL && (idle || (r->closing && mesa_list_empty(&r->batches))))
            close_idle(r);
    }
}

static void forget(struct script_redis *r)
{
    struct mesa_vm *vm = r->vm;
    if (vm == NULL)
        return;
    close_subscriber(r);
    close_commands(r);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, r->scripts_ref);
    mesa_list_remove(&r->link);
    r->vm = NULL;
    if (mesa_list_empty(&vm->redis))
        mesa_loop_remove_turn(&vm->redis_turn);
}

bool mesa_script_redis_is_busy(const struct mesa_vm *vm)
{
    MESA_LIST_FOREACH(it, &vm->redis) {
        const struct script_redis *r = MESA_CONTAINER_OF(it, struct script_redis, link);
        if (!mesa_list_empty(&r->batches))
            return true;
    }
    return false;
}

void mesa_script_close_redis(struct mesa_vm *vm)
{
    MESA_LIST_FOREACH_SAFE(it, next, &vm->redis) {
        struct script_redis *r = MESA_CONTAINER_OF(it, struct script_redis, link);
        mesa_redis_free(r->commands);
        r->commands = NULL;
        mesa_script_batch_free_all(r);
        forget(r);
    }
}

/* Collected: nothing refers to it, so no batch and no subscription exists. */
static int l_redis_gc(lua_State *L)
{
    struct script_redis *r = lua_touserdata(L, 1);
    forget(r);
    mesa_redis_options_deinit(&r->options);
    return 0;
}

/* core.redis_open(options) -> object | nil, reason */
static int l_redis_open(lua_State *L)
{
    struct mesa_vm *vm = mesa_script_vm(L);
    mesa_script_check_open(L, "Mesa.redis");
    luaL_checktype(L, 1, LUA_TTABLE);
    struct script_redis *r = lua_newuserdata(L, sizeof *r);
    *r = (struct script_redis){.self_ref = LUA_NOREF,
                               .deliver_ref = LUA_NOREF,
                               .active_ref = LUA_NOREF,
                               .scripts_ref = LUA_NOREF};
    mesa_list_init(&r->link);
    mesa_list_init(&r->batches);
    mesa_redis_options_init(&r->options);
    luaL_getmetatable(L, "mesa.redis_core");
    lua_setmetatable(L, -2); /* from now on the collector frees the options, whatever raises */

    char err[256] = "";
    enum mesa_status rc = mesa_script_redis_options(L, 1, &r->options, err, sizeof err);
    if (rc != MESA_OK) {
        lua_pushnil(L);
        lua_pushstring(L, rc == MESA_EINVAL ? err : mesa_status_text(rc));
        return 2;
    }
    r->vm = vm;
    if (mesa_list_empty(&vm->redis)) {
        vm->redis_turn.fn = on_turn;
        mesa_loop_add_turn(vm->loop, &vm->redis_turn);
    }
    mesa_list_append(&vm->redis, &r->link);
    return 1;
}

/* core.redis_close(object): subscriptions end now, the rest when the last batch is over. */
static int l_redis_close(lua_State *L)
{
    struct script_redis *r = check_redis(L, 1);
    if (r->vm == NULL || r->closing)
        return 0;
    r->closing = true;
    close_subscriber(r);
    mesa_script_redis_unpin(r);
    return 0;
}

/* -- commands ------------------------------------------------------------------------------------------------- */

/* Pushes what the buffer holds unless making it has failed, and gives it back. */
static void push_text(struct mesa_vm *vm, lua_State *L, struct mesa_buf *text, enum mesa_status rc)
{
    if (rc == MESA_OK)
        lua_pushlstring(L, text->data, text->len);
    mesa_scratch_give(vm, text);
    if (rc != MESA_OK)
        luaL_error(L, "not enough memory");
}

/* Replaces the number at `index` by its shortest text that reads back the same. */
static void number_to_text(struct mesa_vm *vm, lua_State *L, int index)
{
    lua_Number n = lua_tonumber(L, index);
    if (!isfinite(n))
        luaL_error(L, "an argument of a command is not finite");
    struct mesa_buf *text = mesa_scratch_take(vm, L);
    push_text(vm, L, text, mesa_json_put_number(text, n));
    lua_replace(L, index);
}

/* Makes spans of the values from `first` to the top, which stay there. Leaves one value on the stack, which holds the spans. */
static struct mesa_span *check_arguments(struct mesa_vm *vm, lua_State *L, int first, size_t *count)
{
    int top = lua_gettop(L);
    if (top < first)
        luaL_error(L, "the name of a command expected");
    for (int i = first; i <= top; i++) {
        if (lua_type(L, i) == LUA_TNUMBER)
            number_to_text(vm, L, i);
        else if (lua_type(L, i) != LUA_TSTRING)
            luaL_error(L, "argument %d of %s is a %s, not a string or a number", i - first,
                       i > first ? lua_tostring(L, first) : "a command", luaL_typename(L, i));
    }
    *count = (size_t)(top - first + 1);
    struct mesa_span *args = lua_newuserdata(L, *count * sizeof *args);
    for (int i = first; i <= top; i++)
        args[i - first].p = lua_tolstring(L, i, &args[i - first].len);
    return args;
}

/* The task to wait in when there is no function at `fn`. */
static struct mesa_task *check_waiter(lua_State *L, int fn)
{
    return fn != 0 ? NULL : mesa_task_check(L, "A command of Redis without a callback function");
}

/* core.redis_command(object, name, ... [, callback]) -> reply | nil, message, code; with a callback true | nil, message, code */
static int l_redis_command(lua_State *L)
{
    struct script_redis *r = check_redis(L, 1);
    if (r->closing || r->vm == NULL)
        return mesa_script_push_trouble(L, "closed", "CLOSED");
    int fn = 0;
    if (lua_isfunction(L, -1)) {
        lua_insert(L, 2);
        fn = 2;
    }
    struct mesa_task *task = check_waiter(L, fn);
    size_t count;
    struct mesa_span *args = check_arguments(r->vm, L, fn != 0 ? 3 : 2, &count);
    struct redis_batch *b = mesa_script_batch_new(L, r, 1, fn, true);
    mesa_script_batch_send(b, 0, args, count);
    return mesa_script_batch_start(L, b, task);
}

/* Puts the command at `index` on the stack and sends it unless b is NULL, when it is only checked. */
static void pipeline_command(lua_State *L, struct mesa_vm *vm, int index, struct redis_batch *b,
                             size_t i)
{
    int base = lua_gettop(L);
    size_t count;
    luaL_checktype(L, index, LUA_TTABLE);
    int n = (int)lua_objlen(L, index);
    luaL_checkstack(L, n + 8, "pipeline");
    for (int k = 1; k <= n; k++)
        lua_rawgeti(L, index, k);
    struct mesa_span *args = check_arguments(vm, L, base + 1, &count);
    if (b != NULL)
        mesa_script_batch_send(b, i, args, count);
    lua_settop(L, base);
}

/* core.redis_pipeline(object, commands [, callback]) -> replies | nil, message, code */
static int l_redis_pipeline(lua_State *L)
{
    struct script_redis *r = check_redis(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 3);
    if (r->closing || r->vm == NULL)
        return mesa_script_push_trouble(L, "closed", "CLOSED");
    int fn = lua_isfunction(L, 3) ? 3 : 0;
    struct mesa_task *task = check_waiter(L, fn);
    size_t count = lua_objlen(L, 2);
    for (size_t i = 0; i < count; i++) { /* nothing is sent when one cannot be */
        lua_rawgeti(L, 2, (int)i + 1);
        pipeline_command(L, r->vm, lua_gettop(L), NULL, i);
        lua_pop(L, 1);
    }
    struct redis_batch *b = mesa_script_batch_new(L, r, count, fn, false);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 2, (int)i + 1);
        pipeline_command(L, r->vm, lua_gettop(L), b, i);
        lua_pop(L, 1);
    }
    return mesa_script_batch_start(L, b, task);
}

/* -- subscriptions -------------------------------------------------------------------------------------------- */

/* Runs the function with (channel [, payload]). */
static void run_subscriber(struct script_redis *r, int fn_ref, struct mesa_span channel,
                           struct mesa_span payload)
{
    struct mesa_task *t = r->vm->closing || fn_ref == LUA_NOREF ? NULL : mesa_task_begin(r->vm);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_program(r->vm, co, "redis_callback");
    lua_rawgeti(co, LUA_REGISTRYINDEX, fn_ref);
    lua_pushlstring(co, channel.p, channel.len);
    if (payload.p != NULL)
        lua_pushlstring(co, payload.p, payload.len);
    mesa_task_run(t, payload.p != NULL ? 3 : 2, NULL, NULL);
}

static void on_message(void *ctx, struct mesa_span channel, struct mesa_span payload)
{
    struct script_redis *r = ctx;
    if (payload.p == NULL)
        payload = MESA_SPAN("");
    run_subscriber(r, r->deliver_ref, channel, payload);
}

static void on_subscribed(void *ctx, struct mesa_span channel)
{
    struct script_redis *r = ctx;
    run_subscriber(r, r->active_ref, channel, (struct mesa_span){NULL, 0});
}

static int function_ref(lua_State *L, int index)
{
    luaL_checktype(L, index, LUA_TFUNCTION);
    lua_pushvalue(L, index);
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

static struct mesa_span check_channel(lua_State *L, int index)
{
    struct mesa_span s;
    s.p = luaL_checklstring(L, index, &s.len);
    return s;
}

/* core.redis_subscribe(object, channel, deliver, active): a channel that is not subscribed to yet */
static int l_redis_subscribe(lua_State *L)
{
    static const struct mesa_redis_hooks hooks = {.on_subscribed = on_subscribed,
                                                  .on_message = on_message};
    struct script_redis *r = check_redis(L, 1);
    struct mesa_span channel = check_channel(L, 2);
    if (r->closing || r->vm == NULL)
        return luaL_error(L, "this connection to Redis is closed");
    enum mesa_status rc = MESA_OK;
    if (r->subscriber == NULL) {
        mesa_script_redis_pin(r, L, 1);
        r->deliver_ref = function_ref(L, 3);
        r->active_ref = function_ref(L, 4);
        rc = mesa_redis_new(&r->subscriber, r->vm->loop, MESA_REDIS_SUBSCRIBER, &r->options, &hooks,
                            r, NULL, 0);
    }
    if (rc == MESA_OK)
        rc = mesa_redis_subscribe(r->subscriber, channel);
    if (rc != MESA_OK)
        return luaL_error(L, "cannot subscribe: %s", mesa_status_text(rc));
    r->subscriptions++;
    return 0;
}

/* core.redis_unsubscribe(object, channel): one that is subscribed to. The connection ends with the last one. */
static int l_redis_unsubscribe(lua_State *L)
{
    struct script_redis *r = check_redis(L, 1);
    struct mesa_span channel = check_channel(L, 2);
    if (r->vm == NULL || r->subscriber == NULL)
        return 0;
    if (--r->subscriptions > 0) {
        mesa_redis_unsubscribe(r->subscriber, channel);
        return 0;
    }
    close_subscriber(r);
    mesa_script_redis_unpin(r);
    return 0;
}

/* -- the rest ------------------------------------------------------------------------------------------------- */

/* core.redis_error_class(metatable): of the error objects among replies. */
static int l_redis_error_class(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    mesa_script_set_error_class(L, 1);
    return 0;
}

static void push_sha1(lua_State *L, struct mesa_span text)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned len = 0;
    if (EVP_Digest(text.p, text.len, sum, &len, EVP_sha1(), NULL) != 1)
        luaL_error(L, "SHA-1 is not to be had");
    for (unsigned i = 0; i < len; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    lua_pushlstring(L, hex, 2 * len);
}

/* core.redis_route_script(object, suffix) -> hash, text of the script that publishes to ids or stores for them, the same as the
 * servers'. Redis knows it before any command that is issued from now on, unless somebody makes it forget. */
static int l_redis_route_script(lua_State *L)
{
    struct script_redis *r = check_redis(L, 1);
    struct mesa_vm *vm = mesa_script_vm(L);
    struct mesa_span suffix = check_channel(L, 2), text;
    struct mesa_buf *built = mesa_scratch_take(vm, L);
    push_text(vm, L, built, mesa_redis_script_text(built, MESA_SCRIPT_ROUTE, suffix));
    text.p = lua_tolstring(L, -1, &text.len);
    push_sha1(L, text);
    lua_insert(L, -2);
    if (r->closing || r->vm == NULL)
        return 2;
    if (r->scripts_ref == LUA_NOREF) {
        lua_newtable(L);
        r->scripts_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, r->scripts_ref);
    lua_pushvalue(L, -3);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    if (r->commands != NULL && mesa_redis_ready(r->commands))
        load_script(r, text);
    return 2;
}

void mesa_bind_redis(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"redis_open", l_redis_open},
        {"redis_close", l_redis_close},
        {"redis_command", l_redis_command},
        {"redis_pipeline", l_redis_pipeline},
        {"redis_subscribe", l_redis_subscribe},
        {"redis_unsubscribe", l_redis_unsubscribe},
        {"redis_error_class", l_redis_error_class},
        {"redis_route_script", l_redis_route_script},
        {NULL, NULL},
    };
    luaL_newmetatable(L, "mesa.redis_core");
    lua_pushcfunction(L, l_redis_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
