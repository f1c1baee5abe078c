/* fuzz_deflate_offer.c - the negotiation of permessage-deflate: any header, any wish. */
#include <string.h>

#include "core/deflate_offer.h"
#include "fuzz.h"

/* A header of exactly its size, with `more` behind it. */
static enum mesa_status negotiate(const uint8_t *data, size_t size, const char *more,
                                  const struct mesa_deflate_wish *wish,
                                  struct mesa_deflate_terms *terms)
{
    size_t len = size + strlen(more);
    char *header = malloc(len > 0 ? len : 1);
    REQUIRE(header != NULL);
    memcpy(header, data, size);
    memcpy(header + size, more, strlen(more));
    enum mesa_status rc = mesa_deflate_negotiate((struct mesa_span){header, len}, wish, terms);
    free(header);
    return rc;
}

static void check_way(const struct mesa_deflate_way *way, const struct mesa_deflate_wish *wish)
{
    REQUIRE(way->bits >= MESA_DEFLATE_BITS_MIN && way->bits <= MESA_DEFLATE_BITS_MAX);
    REQUIRE(wish->takeover || !way->takeover);
}

/* The first byte is what this side wishes, then comes the header. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mesa_deflate_terms terms, again;
    char answer[MESA_DEFLATE_ANSWER_MAX];
    if (size == 0)
        return 0;
    const struct mesa_deflate_wish wish = {(data[0] & 1) != 0, (uint8_t)(8 + (data[0] >> 1) % 8)};
    const struct mesa_deflate_wish other = {!wish.takeover, 15};
    data++;
    size--;
    enum mesa_status rc = negotiate(data, size, "", &wish, &terms);
    REQUIRE(rc == MESA_OK || rc == MESA_ENOTFOUND || rc == MESA_EPROTO);
    REQUIRE(negotiate(data, size, "", &other, &again) == rc);
    if (rc == MESA_EPROTO)
        return 0;
    /* what is well formed stays so, and the offers in front of others count */
    REQUIRE(negotiate(data, size, ", permessage-deflate", &wish, &again) == MESA_OK);
    if (rc == MESA_ENOTFOUND)
        return 0;
    REQUIRE(memcmp(&terms, &again, sizeof terms) == 0);
    check_way(&terms.out, &wish);
    check_way(&terms.in, &wish);
    size_t len = mesa_deflate_answer(&terms, answer);
    REQUIRE(len < sizeof answer && len == strlen(answer));
    REQUIRE(strstr(answer, "server_no") == NULL || !terms.out.takeover);
    REQUIRE(negotiate((const uint8_t *)answer, len, "", &wish, &again) == MESA_OK);
    REQUIRE(again.out.takeover == terms.out.takeover && again.in.takeover == terms.in.takeover);
    return 0;
}
