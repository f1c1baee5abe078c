/* vm.h - the Lua virtual machine of one process, and the program that runs in it.
 *
 * What app/ sees of script/: load a main script, let its servers listen, reload, shut down. Owns the lua_State and every server the script made.
 * Loop thread only. May include: everything left of script/, and no lua.h.
 */
#ifndef MESA_SCRIPT_VM_H
#define MESA_SCRIPT_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "io/loop.h"
#include "io/transport.h"

struct mesa_vm; /* opaque */

enum { MESA_VM_EXIT_FORCED = 4 }; /* a script held up the end, which was not waited for */

struct mesa_vm_options {
    const char *script; /* path of the main script */
    int argc;
    char **argv;       /* the script's arguments, argv[0] is the script; `arg` in Lua */
    int port;          /* overrides the port of the first server; -1: not given */
    bool watch;        /* reload scripts and certificates when they change */
    uint32_t drain_ms; /* over which a shutdown paces the closing of clients */
};

/* A VM with the mesa modules in place. `opts` is copied, its strings must outlive the VM. */
enum mesa_status mesa_vm_new(struct mesa_vm **out, struct mesa_loop *loop,
                             struct mesa_transport *transport, const struct mesa_vm_options *opts);
/* Runs the main script and loads the handler scripts of its servers. MESA_EINVAL: the error was logged with file, line and traceback. */
enum mesa_status mesa_vm_load(struct mesa_vm *vm);
/* Prints what mesa_vm_load has found in order, for --check. */
enum mesa_status mesa_vm_print_check(struct mesa_vm *vm);
/* Every server the script made begins to listen. On failure the reason was logged. */
enum mesa_status mesa_vm_listen(struct mesa_vm *vm);
/* Reloads every handler script now; `reason` goes into the log ("SIGHUP"). */
void mesa_vm_reload(struct mesa_vm *vm, const char *reason);
/* beforeExit, then 1001 to all clients, then the loop stops, within mesa_vm_shutdown_ms whatever scripts and
 * peers do. `signum` is given to beforeExit. Later calls have no effect. */
void mesa_vm_shutdown(struct mesa_vm *vm, int signum);
/* How long a shutdown may take before the process is to be ended without it. */
uint64_t mesa_vm_shutdown_ms(uint32_t drain_ms);
/* A script has called os.exit: the loop is to run until it stops, and what was sent goes out meanwhile. */
bool mesa_vm_exiting(const struct mesa_vm *vm);
/* Ends every server at once and closes the Lua state. What the process should exit with: 0, what a script
 * asked for, or MESA_VM_EXIT_FORCED. NULL is accepted. */
int mesa_vm_free(struct mesa_vm *vm);

/* The folder that holds mesa/init.lua: lua/ of a checkout (the binary is in build/), or
 * share/lua/5.1 of an installation. The caller frees it. NULL: there is none, or no memory. */
char *mesa_vm_library_dir(void);
/* "LuaJIT 2.1.0-beta3" */
const char *mesa_vm_library_version(void);

#endif
