/* list.h - an intrusive, circular, doubly linked list.
 *
 * The list owns nothing. A link is either initialised (points at itself) or a member of one list.
 * Not thread-safe. May include: nothing.
 */
#ifndef MESA_BASE_LIST_H
#define MESA_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct mesa_list {
    struct mesa_list *prev, *next;
};

#define MESA_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void mesa_list_init(struct mesa_list *l)
{
    l->prev = l->next = l;
}

static inline bool mesa_list_empty(const struct mesa_list *l)
{
    return l->next == l;
}

/* Appends `n` at the tail of `head`. `n` must not be a member of any list. */
static inline void mesa_list_append(struct mesa_list *head, struct mesa_list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

/* The same at its front. */
static inline void mesa_list_prepend(struct mesa_list *head, struct mesa_list *n)
{
    mesa_list_append(head->next, n);
}

/* Takes `n` out of its list, if any, and initialises it; safe to repeat. */
static inline void mesa_list_remove(struct mesa_list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    mesa_list_init(n);
}

/* Moves all members of `from` to the tail of `to`. */
static inline void mesa_list_splice(struct mesa_list *to, struct mesa_list *from)
{
    if (mesa_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    mesa_list_init(from);
}

#define MESA_LIST_FOREACH(it, head) \
    for (struct mesa_list *it = (head)->next; it != (head); it = it->next)
/* As above, and the current member may be removed (but not the next one). */
#define MESA_LIST_FOREACH_SAFE(it, tmp, head)                                \
    for (struct mesa_list *it = (head)->next, *tmp = it->next; it != (head); \
         it = tmp, tmp = it->next)

#endif
