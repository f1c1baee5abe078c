/* fuzz_proxy_header.c - PROXY headers, and the headers of HTTP proxies: what comes of a PROXY header does
 * not depend on what follows it, no prefix of one is refused or taken for another, and an address that was
 * read is written so that it is read again. */
#include <string.h>

#include "core/forwarded.h"
#include "core/proxy_header.h"
#include "fuzz.h"

static void check_address(const struct mesa_address *a)
{
    char text[MESA_ADDRESS_TEXT_LEN];
    struct mesa_address again;
    mesa_address_text(a, text);
    REQUIRE(mesa_address_read(&again, (struct mesa_span){text, strlen(text)}));
    REQUIRE(memcmp(&again, a, sizeof again) == 0);
}

static void check_header(const char *bytes, size_t size)
{
    struct mesa_proxy_header h = {.known = false}, other = h;
    size_t used, n;
    enum mesa_status rc = mesa_proxy_header_read(bytes, size, &h, &used);
    if (rc == MESA_EAGAIN)
        REQUIRE(used == size && size < MESA_PROXY_HEADER_MAX);
    if (rc != MESA_OK)
        return;
    REQUIRE(used <= size && used <= MESA_PROXY_HEADER_MAX);
    if (h.known)
        check_address(&h.source);
    REQUIRE(mesa_proxy_header_read(bytes, used, &other, &n) == MESA_OK && n == used);
    REQUIRE(h.known == other.known && memcmp(&h.source, &other.source, sizeof h.source) == 0);
    for (size_t cut = 0; cut < used; cut++)
        REQUIRE(mesa_proxy_header_read(bytes, cut, &other, &n) == MESA_EAGAIN && n == cut);
}

/* The same bytes as each of the headers of a proxy that is believed. */
static void check_forwarded(struct mesa_span text)
{
    static const struct mesa_network nobody_else = {.bits = 128}; /* "::" */
    for (int i = 0; i < 2; i++) {
        struct mesa_source source = {.secure = false};
        struct mesa_forwarding headers = {.scheme = text};
        if (i == 0)
            headers.list = text;
        else
            headers.forwarded = text;
        mesa_forwarded_find(&source, &headers, &nobody_else, 1);
        check_address(&source.address);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesa_network n;
    /* of exactly its size, so that a sanitizer sees what is read behind it */
    char *bytes = malloc(size > 0 ? size : 1);
    REQUIRE(bytes != NULL);
    memcpy(bytes, data, size);
    check_header(bytes, size);
    check_forwarded((struct mesa_span){bytes, size});
    (void)mesa_network_read(&n, (struct mesa_span){bytes, size});
    free(bytes);
    return 0;
}
