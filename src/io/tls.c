/* tls.c - see tls.h. */
#include "io/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "io/tls_internal.h"

enum mesa_status mesa_tls_init(struct mesa_tls *t, struct mesa_tls_context *ctx, int fd)
{
    *t = (struct mesa_tls){.ssl = SSL_new(ctx->pairs[0].ctx), .context = mesa_tls_context_ref(ctx)};
    if (t->ssl == NULL || SSL_set_fd(t->ssl, fd) != 1) {
        mesa_tls_deinit(t);
        ERR_clear_error();
        return MESA_ENOMEM;
    }
    SSL_set_app_data(t->ssl, t);
    SSL_set_accept_state(t->ssl);
    return MESA_OK;
}

void mesa_tls_deinit(struct mesa_tls *t)
{
    SSL_free(t->ssl);
    mesa_tls_context_unref(t->context);
    free(t->distrusted);
    *t = (struct mesa_tls){.ssl = NULL};
}

/* What the call before, which returned `result`, means: MESA_EAGAIN, MESA_ECLOSED or
 * MESA_EPROTO. */
static enum mesa_status judge(struct mesa_tls *t, int result)
{
    t->wants_write = false;
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return MESA_EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        t->wants_write = true;
        return MESA_EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        t->ended = true;
        return MESA_ECLOSED;
    case SSL_ERROR_SYSCALL:
        t->ended = t->failed = true;
        return MESA_ECLOSED;
    default:
        t->failed = true;
        /* hung up without a word */
        t->ended = ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
        return t->ended ? MESA_ECLOSED : MESA_EPROTO;
    }
}

enum mesa_status mesa_tls_handshake(struct mesa_tls *t, char *why, size_t why_len)
{
    ERR_clear_error();
    int result = SSL_do_handshake(t->ssl);
    if (result == 1) {
        t->ready = true;
        t->wants_write = false;
        return MESA_OK;
    }
    enum mesa_status rc = judge(t, result);
    if (rc == MESA_EPROTO) {
        unsigned long code = ERR_peek_last_error();
        const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
        if (t->distrusted != NULL)
            reason = t->distrusted;
        snprintf(why, why_len, "the TLS handshake failed: %s",
                 reason != NULL ? reason : "unknown error");
    }
    ERR_clear_error();
    return rc;
}

bool mesa_tls_has_begun(const struct mesa_tls *t)
{
    return BIO_number_read(SSL_get_rbio(t->ssl)) > 0;
}

ssize_t mesa_tls_read(struct mesa_tls *t, char *out, size_t len)
{
    size_t have = 0, n;
    enum mesa_status rc = MESA_OK;
    t->wants_write = false;
    ERR_clear_error();
    while (rc == MESA_OK && have < len && !t->ended && !t->failed) {
        int result = SSL_read_ex(t->ssl, out + have, len - have, &n); /* a record at most */
        if (result == 1)
            have += n;
        else
            rc = judge(t, result);
    }
    t->more = have == len || (rc == MESA_EAGAIN && t->wants_write);
    if (have > 0)
        return (ssize_t)have;
    if (t->ended)
        return 0;
    errno = rc == MESA_EAGAIN ? EAGAIN : EPROTO;
    return -1;
}

ssize_t mesa_tls_write(struct mesa_tls *t, const char *bytes, size_t len)
{
    size_t done = 0, n;
    if (t->failed) {
        errno = EPROTO;
        return -1;
    }
    ERR_clear_error();
    while (done < len) {
        int result = SSL_write_ex(t->ssl, bytes + done, len - done, &n);
        if (result != 1) {
            enum mesa_status rc = judge(t, result);
            t->wants_write = false; /* of writing: whoever has bytes left polls for it anyway */
            if (rc == MESA_EAGAIN)
                break;
            errno = EPIPE;
            return -1;
        }
        done += n;
    }
    return (ssize_t)done;
}

void mesa_tls_shutdown(struct mesa_tls *t)
{
    if (!t->ready || t->failed)
        return; /* OpenSSL has told the peer of a failure already, or cannot */
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}
