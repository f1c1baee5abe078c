/* redis_batch.c - see redis_batch.h. */
#include "script/redis_batch.h"

#include <stdlib.h>

#include "script/value.h"

enum { REPLY_DEPTH_MAX = 32 };

static const char error_class_key; /* registry[&error_class_key] is their metatable */

struct batch_call {
    struct redis_batch *batch;
    int index;
};

/* One command, or those of a pipeline, whose replies are handed over together. */
struct redis_batch {
    struct mesa_list link;
    struct script_redis *redis;
    struct mesa_task *task; /* that waits; NULL: none, or it was ended */
    int fn_ref;             /* to be called instead */
    int results_ref;        /* the table of replies */
    int outstanding;
    bool single;
    bool lost; /* a reply will never come */
    struct mesa_timer
        timer; /* ends a batch that could not be sent, but not before its caller has returned */
    struct batch_call calls[];
};

void mesa_script_set_error_class(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    lua_pushlightuserdata(L, (void *)&error_class_key);
    lua_insert(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* -- replies -------------------------------------------------------------------------------------------------- */

static void push_error_object(lua_State *L, struct mesa_span text)
{
    lua_createtable(L, 0, 2);
    lua_pushlstring(L, text.p, text.len);
    lua_setfield(L, -2, "message");
    lua_pushliteral(L, "REDIS");
    lua_setfield(L, -2, "code");
    lua_pushlightuserdata(L, (void *)&error_class_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setmetatable(L, -2);
}

static void push_reply(lua_State *L, const struct mesa_redis_reply *reply, unsigned depth)
{
    struct mesa_span s = mesa_redis_reply_string(reply);
    if (depth > REPLY_DEPTH_MAX || !lua_checkstack(L, 4)) {
        push_error_object(L, MESA_SPAN("the reply is nested too deeply"));
        return;
    }
    switch (mesa_redis_reply_type(reply)) {
    case MESA_REDIS_NIL:
        lua_pushlightuserdata(L, NULL);
        break;
    case MESA_REDIS_STRING:
    case MESA_REDIS_STATUS:
        lua_pushlstring(L, s.p, s.len);
        break;
    case MESA_REDIS_INTEGER:
        lua_pushnumber(L, (lua_Number)mesa_redis_reply_integer(reply));
        break;
    case MESA_REDIS_ARRAY: {
        size_t count = mesa_redis_reply_count(reply);
        lua_createtable(L, (int)count, 0);
        for (size_t i = 0; i < count; i++) {
            push_reply(L, mesa_redis_reply_element(reply, i), depth + 1);
            lua_rawseti(L, -2, (int)i + 1);
        }
        mesa_value_push_array_meta(L);
        lua_setmetatable(L, -2);
        break;
    }
    case MESA_REDIS_ERROR:
        push_error_object(L, s);
        break;
    }
}

int mesa_script_push_trouble(lua_State *L, const char *text, const char *code)
{
    lua_pushnil(L);
    lua_pushstring(L, text);
    lua_pushstring(L, code);
    return 3;
}

static int push_unavailable(lua_State *L)
{
    return mesa_script_push_trouble(L, "redis unavailable", "UNAVAILABLE");
}

static bool is_error_object(lua_State *L, int index)
{
    if (!lua_istable(L, index) || !lua_getmetatable(L, index))
        return false;
    lua_pushlightuserdata(L, (void *)&error_class_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* Pushes what a batch that is over returns: reply, or nil, message, code. Returns the number of values. */
static int push_outcome(lua_State *L, const struct redis_batch *b)
{
    if (b->lost)
        return push_unavailable(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, b->results_ref);
    if (!b->single)
        return 1;
    lua_rawgeti(L, -1, 1);
    lua_remove(L, -2);
    if (is_error_object(L, lua_gettop(L))) {
        lua_getfield(L, -1, "message");
        lua_pushnil(L);
        lua_replace(L, -3);
        lua_pushliteral(L, "REDIS");
        return 3;
    }
    if (lua_islightuserdata(L, -1)) { /* a hole of a list, but nothing on its own */
        lua_pop(L, 1);
        lua_pushnil(L);
    }
    return 1;
}

/* -- the end of a batch ---------------------------------------------------------------------------------------- */

static void batch_free(struct redis_batch *b)
{
    struct mesa_vm *vm = b->redis->vm;
    mesa_loop_cancel(vm->loop, &b->timer);
    mesa_list_remove(&b->link);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, b->fn_ref);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, b->results_ref);
    free(b);
}

void mesa_script_batch_free_all(struct script_redis *r)
{
    while (!mesa_list_empty(&r->batches))
        batch_free(MESA_CONTAINER_OF(r->batches.next, struct redis_batch, link));
}

/* Calls fn(err, reply, code). */
static void report(const struct redis_batch *b, struct mesa_vm *vm)
{
    struct mesa_task *t = mesa_task_begin(vm);
    if (t == NULL)
        return;
    lua_State *co = mesa_task_state(t);
    mesa_script_push_program(vm, co, "redis_callback");
    lua_rawgeti(co, LUA_REGISTRYINDEX, b->fn_ref);
    if (push_outcome(co, b) == 1) {
        lua_pushnil(co);
        lua_insert(co, -2);
        lua_pushnil(co);
    } else {
        lua_pushvalue(co, -2); /* nil, message, code -> message, nil, code */
        lua_remove(co, -3);
        lua_insert(co, -3);
    }
    mesa_task_run(t, 4, NULL, NULL);
}

/* Hands over the replies; anything may have happened when it returns. */
static void batch_over(struct redis_batch *b)
{
    struct script_redis *r = b->redis;
    struct mesa_vm *vm = r->vm;
    struct mesa_task *task = b->task;
    if (vm->closing || (task == NULL && b->fn_ref == LUA_NOREF)) {
        batch_free(b);
        mesa_script_redis_unpin(r);
        return;
    }
    mesa_list_remove(&b->link); /* it counts no longer, whatever the script does */
    int self_ref = r->self_ref;
    bool last = mesa_list_empty(&r->batches) && r->subscriptions == 0;
    if (last)
        r->self_ref = LUA_NOREF; /* a command issued below pins it anew */
    if (task != NULL) {
        lua_State *co = mesa_task_results(task);
        int n = co != NULL ? push_outcome(co, b) : 0;
        batch_free(b);
        if (co != NULL)
            mesa_task_wake(task, n);
    } else {
        report(b, vm);
        batch_free(b);
    }
    if (last)
        luaL_unref(vm->L, LUA_REGISTRYINDEX, self_ref);
}

static void on_reply(void *ctx, enum mesa_status rc, const struct mesa_redis_reply *reply)
{
    struct batch_call *call = ctx;
    struct redis_batch *b = call->batch;
    lua_State *L = b->redis->vm->L;
    if (rc != MESA_OK) {
        b->lost = true;
    } else if (!b->redis->vm->closing) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, b->results_ref);
        push_reply(L, reply, 0);
        lua_rawseti(L, -2, call->index);
        lua_pop(L, 1);
    }
    if (--b->outstanding == 0)
        batch_over(b);
}

static void on_batch_timer(struct mesa_timer *timer)
{
    batch_over(MESA_CONTAINER_OF(timer, struct redis_batch, timer));
}

/* The task has ended; the replies are still to come. */
static void on_cancel(void *ctx)
{
    struct redis_batch *b = ctx;
    b->task = NULL;
}

/* -- sending --------------------------------------------------------------------------------------------------- */

struct redis_batch *mesa_script_batch_new(lua_State *L, struct script_redis *r, size_t count,
                                          int fn, bool single)
{
    lua_createtable(L, (int)count, 0);
    mesa_value_push_array_meta(L);
    lua_setmetatable(L, -2);
    int results_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    int fn_ref = LUA_NOREF;
    if (fn != 0) {
        lua_pushvalue(L, fn);
        fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    mesa_script_redis_pin(r, L, 1);
    struct redis_batch *b = calloc(1, sizeof *b + count * sizeof b->calls[0]);
    if (b == NULL)
        luaL_error(L, "not enough memory");
    mesa_list_init(&b->link);
    mesa_list_append(&r->batches, &b->link);
    mesa_timer_init(&b->timer, on_batch_timer);
    b->redis = r;
    b->single = single;
    b->fn_ref = fn_ref;
    b->results_ref = results_ref;
    for (size_t i = 0; i < count; i++)
        b->calls[i] = (struct batch_call){.batch = b, .index = (int)i + 1};
    return b;
}

void mesa_script_batch_send(struct redis_batch *b, size_t index, const struct mesa_span *args,
                            size_t count)
{
    struct script_redis *r = b->redis;
    enum mesa_status rc = r->away || b->lost ? MESA_ECLOSED : mesa_script_redis_open(r);
    if (rc == MESA_OK)
        rc = mesa_redis_command(r->commands, count, args, on_reply, &b->calls[index]);
    if (rc == MESA_OK)
        b->outstanding++;
    else
        b->lost = true;
}

int mesa_script_batch_start(lua_State *L, struct redis_batch *b, struct mesa_task *task)
{
    struct script_redis *r = b->redis;
    bool failed = b->outstanding == 0 && b->lost;
    if (task != NULL && b->outstanding > 0) {
        b->task = task;
        return mesa_task_wait(task, on_cancel, b);
    }
    if (task != NULL) {
        int n = push_outcome(L, b);
        batch_free(b);
        mesa_script_redis_unpin(r);
        return n;
    }
    if (b->outstanding == 0)
        mesa_loop_arm(r->vm->loop, &b->timer, 0);
    if (failed)
        return push_unavailable(L);
    lua_pushboolean(L, 1);
    return 1;
}
