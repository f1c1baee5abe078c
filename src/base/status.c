/* status.c - see status.h. */
#include "base/status.h"

const char *mesa_status_text(enum mesa_status s)
{
    switch (s) {
    case MESA_OK:
        return "ok";
    case MESA_EAGAIN:
        return "over a limit for now";
    case MESA_ENOMEM:
        return "out of memory";
    case MESA_ECLOSED:
        return "closed";
    case MESA_EINVAL:
        return "invalid argument";
    case MESA_ETOOBIG:
        return "too big";
    case MESA_EPROTO:
        return "protocol error";
    case MESA_EUTF8:
        return "invalid UTF-8";
    case MESA_ENOTFOUND:
        return "not found";
    case MESA_EINUSE:
        return "already in use";
    case MESA_EUNAVAILABLE:
        return "unavailable";
    case MESA_EIO:
        return "input/output error";
    }
    return "unknown status";
}
