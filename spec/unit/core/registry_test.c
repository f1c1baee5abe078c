/* registry_test.c - connections, users, and iterating while both change. */
#include "core/registry.h"
#include "test.h"

enum { N = 6 };

static struct mesa_registry *r;
static struct mesa_registry_entry e[N];
static struct mesa_registry_change change;

static void begin(void)
{
    mesa_registry_new(&r);
    for (int i = 0; i < N; i++) {
        mesa_registry_entry_init(&e[i]);
        mesa_registry_add(r, &e[i]);
    }
}

static void leave(int i)
{
    mesa_registry_change_end(&change);
    mesa_registry_leave(r, &e[i], &change);
}

static void end(void)
{
    for (int i = 0; i < N; i++) {
        leave(i);
        mesa_registry_remove(r, &e[i]);
        mesa_registry_entry_deinit(&e[i]);
    }
    mesa_registry_change_end(&change);
    mesa_registry_free(r);
}

static struct mesa_span span(const char *text)
{
    return (struct mesa_span){text, strlen(text)};
}

static enum mesa_status join(int i, const char *id)
{
    mesa_registry_change_end(&change);
    return mesa_registry_join(r, &e[i], span(id), &change);
}

static int index_of(const struct mesa_registry_entry *entry)
{
    return entry != NULL ? (int)(entry - e) : -1;
}

static int next_of(const char *id, int after)
{
    return index_of(mesa_registry_next_of(r, span(id), after >= 0 ? &e[after] : NULL));
}

TEST(entries_are_visited_in_the_order_they_came)
{
    begin();
    struct mesa_registry_entry *at = NULL;
    for (int i = 0; i < N; i++) {
        at = mesa_registry_next(r, at);
        CHECK_EQ_INT(index_of(at), i);
    }
    CHECK(mesa_registry_next(r, at) == NULL);
    CHECK_EQ_INT(mesa_registry_count(r), N);
    end();
}

TEST(an_iteration_goes_on_from_an_entry_that_was_removed)
{
    begin();
    mesa_registry_remove(r, &e[2]);
    CHECK_EQ_INT(index_of(mesa_registry_next(r, &e[2])), 3);
    mesa_registry_remove(r, &e[3]);
    mesa_registry_remove(r, &e[4]);
    CHECK_EQ_INT(index_of(mesa_registry_next(r, &e[2])), 5);
    mesa_registry_remove(r, &e[5]);
    CHECK(mesa_registry_next(r, &e[2]) == NULL);
    CHECK_EQ_INT(mesa_registry_count(r), 2);
    mesa_registry_remove(r, &e[5]); /* again: no effect */
    CHECK_EQ_INT(mesa_registry_count(r), 2);
    end();
}

TEST(a_user_is_online_from_the_first_connection_to_the_last)
{
    begin();
    CHECK_EQ_INT(join(0, "a"), MESA_OK);
    CHECK(change.came_online);
    CHECK(change.before.p == NULL);
    join(1, "a");
    CHECK(!change.came_online);
    CHECK_EQ_INT(mesa_registry_user_count(r), 1);
    leave(0);
    CHECK(!change.went_offline);
    CHECK(mesa_span_eq(change.before, span("a")));
    leave(1);
    CHECK(change.went_offline);
    CHECK_EQ_INT(mesa_registry_user_count(r), 0);
    leave(1);
    CHECK(!change.went_offline);
    CHECK(change.before.p == NULL);
    end();
}

TEST(the_id_stays_readable_after_leaving)
{
    begin();
    CHECK(mesa_registry_id(&e[0]).p == NULL);
    join(0, "somebody");
    leave(0);
    mesa_registry_remove(r, &e[0]);
    CHECK(mesa_span_eq(mesa_registry_id(&e[0]), span("somebody")));
    end();
}

TEST(another_id_moves_the_entry_in_one_step)
{
    begin();
    join(0, "a");
    join(0, "b");
    CHECK(change.came_online);
    CHECK(change.went_offline);
    CHECK(mesa_span_eq(change.before, span("a")));
    CHECK_EQ_INT(next_of("a", -1), -1);
    CHECK_EQ_INT(next_of("b", -1), 0);
    join(0, "b");
    CHECK(!change.came_online);
    CHECK(!change.went_offline);
    CHECK(change.before.p == NULL);
    end();
}

TEST(the_id_before_stays_readable_whatever_is_called_meanwhile)
{
    struct mesa_registry_change mine;
    begin();
    join(0, "a user with a name of its own");
    mesa_registry_join(r, &e[0], span("b"), &mine);
    leave(0);
    join(1, "c");
    leave(1);
    CHECK(mesa_span_eq(mine.before, span("a user with a name of its own")));
    mesa_registry_change_end(&mine);
    CHECK(mine.before.p == NULL);
    end();
}

TEST(an_entry_can_join_again_after_leaving)
{
    begin();
    join(0, "a");
    join(1, "a");
    leave(0);
    join(0, "a");
    CHECK(!change.came_online);
    CHECK_EQ_INT(next_of("a", -1), 0);
    CHECK_EQ_INT(next_of("a", 0), 1);
    leave(0);
    leave(1);
    join(0, "a");
    CHECK(change.came_online);
    end();
}

TEST(connections_of_an_id_are_visited_in_order_whatever_order_they_joined_in)
{
    begin();
    join(4, "a");
    join(1, "a");
    join(3, "a");
    CHECK_EQ_INT(next_of("a", -1), 1);
    CHECK_EQ_INT(next_of("a", 1), 3);
    CHECK_EQ_INT(next_of("a", 3), 4);
    CHECK_EQ_INT(next_of("a", 4), -1);
    CHECK_EQ_INT(next_of("nobody", -1), -1);
    end();
}

TEST(iterating_over_an_id_goes_on_from_an_entry_that_left_or_changed)
{
    begin();
    for (int i = 0; i < 4; i++)
        join(i, "a");
    leave(1);
    CHECK_EQ_INT(next_of("a", 1), 2);
    join(2, "b");
    CHECK_EQ_INT(next_of("a", 2), 3);
    leave(0);
    leave(3);
    CHECK_EQ_INT(next_of("a", 0), -1);
    end();
}

TEST(ids_are_bytes)
{
    begin();
    mesa_registry_join(r, &e[0], (struct mesa_span){"a\0b", 3}, &change);
    mesa_registry_change_end(&change);
    mesa_registry_join(r, &e[1], (struct mesa_span){"a\0c", 3}, &change);
    CHECK_EQ_INT(mesa_registry_user_count(r), 2);
    CHECK_EQ_INT(next_of("a", -1), -1);
    end();
}
