/* siphash.h - SipHash-1-3: a keyed hash for tables whose keys come from strangers.
 *
 * Pure: any thread. May include: nothing.
 */
#ifndef MESA_BASE_SIPHASH_H
#define MESA_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t mesa_siphash13(const uint64_t key[2], const void *p, size_t len);

#endif
