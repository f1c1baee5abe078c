/* list_test.c - the intrusive list. */
#include "base/list.h"

#include "test.h"

struct item {
    int id;
    struct mesa_list link;
};

static int id_of(struct mesa_list *l)
{
    return MESA_CONTAINER_OF(l, struct item, link)->id;
}

/* The ids of the members as one decimal number. */
static int ids(struct mesa_list *head)
{
    int n = 0;
    MESA_LIST_FOREACH(l, head)
        n = n * 10 + id_of(l);
    return n;
}

static void fill(struct mesa_list *head, struct item *items, int first, int count)
{
    mesa_list_init(head);
    for (int i = 0; i < count; i++) {
        items[i].id = first + i;
        mesa_list_append(head, &items[i].link);
    }
}

TEST(members_keep_the_order_of_appending)
{
    struct mesa_list head;
    struct item items[3];
    mesa_list_init(&head);
    CHECK(mesa_list_empty(&head));
    fill(&head, items, 1, 3);
    CHECK(!mesa_list_empty(&head));
    CHECK_EQ_INT(ids(&head), 123);
}

TEST(removing_is_safe_to_repeat)
{
    struct mesa_list head;
    struct item items[3];
    fill(&head, items, 1, 3);
    mesa_list_remove(&items[1].link);
    mesa_list_remove(&items[1].link);
    CHECK(mesa_list_empty(&items[1].link));
    CHECK_EQ_INT(ids(&head), 13);
    mesa_list_append(&head, &items[1].link);
    CHECK_EQ_INT(ids(&head), 132);
}

TEST(what_is_prepended_comes_first)
{
    struct mesa_list head;
    struct item items[3];
    fill(&head, items, 1, 3);
    mesa_list_remove(&items[2].link);
    mesa_list_prepend(&head, &items[2].link);
    CHECK_EQ_INT(ids(&head), 312);
    mesa_list_remove(&items[2].link);
    CHECK_EQ_INT(ids(&head), 12);
    mesa_list_init(&head);
    mesa_list_prepend(&head, &items[2].link);
    CHECK_EQ_INT(ids(&head), 3);
}

TEST(splice_moves_everything_to_the_tail)
{
    struct mesa_list a, b;
    struct item x[2], y[2];
    fill(&a, x, 1, 2);
    fill(&b, y, 3, 2);
    mesa_list_splice(&a, &b);
    CHECK_EQ_INT(ids(&a), 1234);
    CHECK(mesa_list_empty(&b));
    mesa_list_splice(&a, &b);
    CHECK_EQ_INT(ids(&a), 1234);
    mesa_list_splice(&b, &a);
    CHECK_EQ_INT(ids(&b), 1234);
    CHECK(mesa_list_empty(&a));
}

TEST(the_current_member_may_go_during_a_safe_walk)
{
    struct mesa_list head;
    struct item items[5];
    fill(&head, items, 1, 5);
    MESA_LIST_FOREACH_SAFE(l, next, &head) {
        if (id_of(l) % 2 == 1)
            mesa_list_remove(l);
    }
    CHECK_EQ_INT(ids(&head), 24);
}
