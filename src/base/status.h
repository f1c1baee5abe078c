/* status.h - the one set of result codes every C function of mesa-lua returns.
 *
 * Any thread. May include: nothing.
 */
#ifndef MESA_BASE_STATUS_H
#define MESA_BASE_STATUS_H

enum mesa_status {
    MESA_OK = 0,
    MESA_EAGAIN,       /* would exceed a bound now; may succeed later */
    MESA_ENOMEM,       /* the allocator refused */
    MESA_ECLOSED,      /* the connection, client or server is closed or closing */
    MESA_EINVAL,       /* an argument is outside its documented range */
    MESA_ETOOBIG,      /* larger than the configured limit */
    MESA_EPROTO,       /* the peer broke the protocol */
    MESA_EUTF8,        /* invalid UTF-8 */
    MESA_ENOTFOUND,    /* no such entry */
    MESA_EINUSE,       /* the address or name is taken */
    MESA_EUNAVAILABLE, /* what it needs, such as Redis, cannot be reached now */
    MESA_EIO,          /* the operating system or a library failed */
};

/* A short lower-case English text for `s`, never NULL. */
const char *mesa_status_text(enum mesa_status s);

#endif
