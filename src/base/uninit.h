/* uninit.h - locals that are left as they are.
 *
 * The build sets every local variable to zero first (-ftrivial-auto-var-init, see
 * cmake/hardening.cmake). Where a function runs for each message and writes the variable itself
 * before anything reads it, MESA_UNINIT saves that. May include: nothing.
 */
#ifndef MESA_BASE_UNINIT_H
#define MESA_BASE_UNINIT_H

#if defined(__has_attribute)
#if __has_attribute(uninitialized)
#define MESA_UNINIT __attribute__((uninitialized))
#endif
#endif
#ifndef MESA_UNINIT
#define MESA_UNINIT
#endif

#endif
