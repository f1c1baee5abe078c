/* budget.h - an allocator for a Lua state that refuses once its budget is spent.
 *
 *     long budget = -1;                     (unlimited)
 *     lua_State *L = lua_newstate(budget_alloc, &budget);
 *     budget = 3;                           (three more allocations)
 */
#ifndef MESA_SPEC_BUDGET_H
#define MESA_SPEC_BUDGET_H

#include <stddef.h>
#include <stdlib.h>

static inline void *budget_alloc(void *ud, void *p, size_t old, size_t size)
{
    long *budget = ud;
    if (size == 0) {
        free(p);
        return NULL;
    }
    if (*budget == 0 && (p == NULL || size > old))
        return NULL;
    if (*budget > 0)
        (*budget)--;
    return realloc(p, size);
}

#endif
