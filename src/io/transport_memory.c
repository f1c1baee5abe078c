/* transport_memory.c - the allocator that libwebsockets is given.
 *
 * libwebsockets allocates a receive buffer per WebSocket and keeps it for the connection's life.
 * malloc writes a header in front of it, and so touches a page of every idle connection. Here these
 * buffers are slots of one reserved range of addresses, without headers: a page of it becomes
 * resident when a message arrives in it, and goes back when the connection ends. The list of free
 * slots is kept apart for the same reason. Request heads live in such slots too, so that headers
 * libwebsockets has no name for can be found in them. Process-wide, as the library's allocator is.
 * Loop thread only.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "io/transport_internal.h"

enum { SLOT_BYTES = 20480, MAX_SLOTS = 1 << 18 }; /* whole pages; only those in use are real */

static struct {
    char *base; /* NULL: the range could not be had, malloc serves */
    uint32_t slots;
    uint32_t fresh;       /* slots from here on were never used */
    uint32_t *free_slots; /* indexes of used and returned ones */
    uint32_t free_count;
} rx;

_Static_assert(MESA_RX_BUFFER_BYTES + LWS_PRE + 4 <= SLOT_BYTES, "a receive buffer fits its slot");
_Static_assert((int)MESA_PARSED_HEADER_BYTES < (int)SLOT_BYTES, "a request head fits its slot");

static void reserve_slots(void)
{
    struct rlimit limit;
    rx.slots = MAX_SLOTS;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < MAX_SLOTS)
        rx.slots = (uint32_t)limit.rlim_cur;
    rx.free_slots = malloc(rx.slots * sizeof *rx.free_slots);
    if (rx.free_slots == NULL)
        return;
    void *p = mmap(NULL, (size_t)rx.slots * SLOT_BYTES, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        free(rx.free_slots);
        rx.free_slots = NULL;
        return;
    }
    madvise(p, (size_t)rx.slots * SLOT_BYTES, MADV_NOHUGEPAGE);
    rx.base = p;
}

static bool is_slot(const void *p)
{
    return rx.base != NULL && (const char *)p >= rx.base &&
           (const char *)p < rx.base + (size_t)rx.slots * SLOT_BYTES;
}

static void *take_slot(void)
{
    if (rx.base == NULL)
        return NULL;
    if (rx.free_count > 0)
        return rx.base + (size_t)rx.free_slots[--rx.free_count] * SLOT_BYTES;
    if (rx.fresh < rx.slots)
        return rx.base + (size_t)rx.fresh++ * SLOT_BYTES;
    return NULL;
}

static void give_slot(void *p)
{
    madvise(p, SLOT_BYTES, MADV_DONTNEED);
    rx.free_slots[rx.free_count++] = (uint32_t)((size_t)((char *)p - rx.base) / SLOT_BYTES);
}

const char *mesa_rx_memory_head(const char *p, size_t *len)
{
    if (!is_slot(p))
        return NULL;
    *len = MESA_PARSED_HEADER_BYTES;
    return rx.base + (size_t)(p - rx.base) / SLOT_BYTES * SLOT_BYTES;
}

/* As realloc(); size 0 frees. `reason` names what the memory is for. */
static void *allocate(void *ptr, size_t size, const char *reason)
{
    bool transient =
        reason != NULL && (strcmp(reason, "rx_ubuf") == 0 || strcmp(reason, "ah data") == 0);
    if (ptr == NULL && transient && size > 0 && size <= SLOT_BYTES) {
        void *slot = take_slot();
        if (slot != NULL)
            return slot;
    }
    if (size > 0)
        return realloc(ptr, size);
    if (is_slot(ptr))
        give_slot(ptr);
    else
        free(ptr);
    return NULL;
}

void mesa_rx_memory_install(void)
{
    static bool installed;
    if (installed)
        return;
    installed = true;
    reserve_slots();
    lws_set_allocator(allocate);
}
