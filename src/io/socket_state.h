/* socket_state.h - what the kernel knows of a connected socket's peer.
 *
 * Apart from the transport, since the kernel's TCP header and the one libwebsockets.h brings along
 * exclude each other. Any thread. May include: nothing.
 */
#ifndef MESA_IO_SOCKET_STATE_H
#define MESA_IO_SOCKET_STATE_H

#include <stdbool.h>

/* Whether a byte has ever come from the peer; true where it cannot be told (Unix sockets). */
bool mesa_socket_has_received(int fd);
/* Whether bytes are there to be read. */
bool mesa_socket_has_unread(int fd);
/* Whether the peer has neither ended its side nor reset the connection. */
bool mesa_socket_peer_is_there(int fd);

#endif
