/* inline.h - what is compiled into its callers, and what is not.
 *
 * The compiler knows neither which functions run for each message nor which hardly ever do. A function
 * with a seldom used part saves registers and guards its stack for it, so that part is a function of
 * its own. Measured with scripts/bench --instructions. May include: nothing.
 */
#ifndef MESA_BASE_INLINE_H
#define MESA_BASE_INLINE_H

#define MESA_INLINE static inline __attribute__((always_inline))
#define MESA_NOINLINE __attribute__((noinline))

#endif
