#include "tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

/* The two names stand for OpenSSL's own types, which need not be known outside. */
static SSL_CTX *context_of(struct tls_context *context)
{
    return (SSL_CTX *)context;
}

static SSL *ssl_of(const struct tls *tls)
{
    return (SSL *)tls;
}

struct tls_context *tls_context_new(const char *trusted)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        return NULL;
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_load_verify_locations(context, trusted, NULL) != 1) {
        SSL_CTX_free(context);
        return NULL;
    }
    return (struct tls_context *)context;
}

void tls_context_free(struct tls_context *context)
{
    SSL_CTX_free(context_of(context));
}

struct tls *tls_new(struct tls_context *context, int fd)
{
    SSL *ssl = SSL_new(context_of(context));
    if (ssl == NULL)
        return NULL;
    if (SSL_set_fd(ssl, fd) != 1) {
        SSL_free(ssl);
        return NULL;
    }
    SSL_set_connect_state(ssl);
    return (struct tls *)ssl;
}

void tls_free(struct tls *tls)
{
    SSL_free(ssl_of(tls));
}

static int piece(size_t n)
{
    return n > INT_MAX ? INT_MAX : (int)n;
}

static ssize_t trouble(SSL *ssl, int result)
{
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_SYSCALL:
        if (errno != 0)
            return -1;
        break;
    default:
        break;
    }
    errno = EPROTO;
    return -1;
}

ssize_t tls_read(struct tls *tls, void *out, size_t cap)
{
    SSL *ssl = ssl_of(tls);
    size_t got = 0;
    while (got < cap) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(ssl, (char *)out + got, piece(cap - got));
        if (n <= 0)
            return got > 0 ? (ssize_t)got : trouble(ssl, n);
        got += (size_t)n;
    }
    return (ssize_t)got;
}

ssize_t tls_write(struct tls *tls, const void *data, size_t len)
{
    ERR_clear_error();
    errno = 0;
    int n = SSL_write(ssl_of(tls), data, piece(len));
    return n > 0 ? n : trouble(ssl_of(tls), n);
}

bool tls_waits_for_server(const struct tls *tls)
{
    return SSL_want_read(ssl_of(tls)) == 1;
}
