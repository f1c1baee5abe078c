/* deflate_offer_test.c - every combination that RFC 7692 section 7.1 knows, and what is no offer. */
#include "core/deflate_offer.h"

#include <stdio.h>
#include <string.h>

#include "test.h"

#define BOTH "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

static const struct mesa_deflate_wish none = {false, 0}, kept = {true, 12};

/* What is answered; "" declines, "!" refuses. */
static const char *answer(const struct mesa_deflate_wish *wish, const char *header)
{
    static char text[MESA_DEFLATE_ANSWER_MAX];
    struct mesa_deflate_terms terms;
    enum mesa_status rc =
        mesa_deflate_negotiate((struct mesa_span){header, strlen(header)}, wish, &terms);
    if (rc != MESA_OK)
        return rc == MESA_ENOTFOUND ? "" : rc == MESA_EPROTO ? "!" : "?";
    size_t len = mesa_deflate_answer(&terms, text);
    CHECK_EQ_INT(len, strlen(text));
    return text;
}

static void all_are(const char *const *headers, const char *want)
{
    for (; *headers != NULL; headers++)
        if (!CHECK(strcmp(answer(&none, *headers), want) == 0))
            printf("  '%s' was answered '%s'\n", *headers, answer(&none, *headers));
}

TEST(without_kept_windows_both_sides_begin_anew_with_each_message)
{
    CHECK_EQ_STR(answer(&none, "permessage-deflate"), BOTH);
    CHECK_EQ_STR(answer(&none, "permessage-deflate; client_max_window_bits"), BOTH);
    CHECK_EQ_STR(answer(&none, "permessage-deflate; client_max_window_bits=9"), BOTH);
    CHECK_EQ_STR(answer(&none, "permessage-deflate; server_no_context_takeover"), BOTH);
    CHECK_EQ_STR(answer(&none, "permessage-deflate; client_no_context_takeover"), BOTH);
    CHECK_EQ_STR(answer(&none, "permessage-deflate; server_max_window_bits=10"),
                 BOTH "; server_max_window_bits=10");
}

/* Both flags and both windows, each offered or not, in all ways. */
TEST(every_combination_of_parameters_is_answered)
{
    static const char *const flags[] = {"", "; server_no_context_takeover",
                                        "; client_no_context_takeover",
                                        "; client_no_context_takeover; server_no_context_takeover"};
    for (int flag = 0; flag < 4; flag++)
        for (unsigned server = 7; server <= 15; server++)     /* 7: not offered */
            for (unsigned client = 6; client <= 15; client++) /* 6: not offered, 7: no value */
                for (int takeover = 0; takeover < 2; takeover++) {
                    char offer[256], server_bits[40] = "", client_bits[40] = "", want[256];
                    if (server > 7)
                        snprintf(server_bits, sizeof server_bits, "; server_max_window_bits=%u",
                                 server);
                    if (client == 7)
                        strcpy(client_bits, "; client_max_window_bits");
                    else if (client > 7)
                        snprintf(client_bits, sizeof client_bits, "; client_max_window_bits=\"%u\"",
                                 client);
                    snprintf(offer, sizeof offer, "permessage-deflate%s%s%s", client_bits,
                             flags[flag], server_bits);
                    bool server_keeps = takeover && (flag & 1) == 0;
                    bool client_keeps = takeover && (flag & 2) == 0;
                    unsigned out = server_keeps && server > 12 ? 12 : server;
                    unsigned in = client == 7 || client > 12 ? 12 : client;
                    int n = snprintf(want, sizeof want, "permessage-deflate%s%s",
                                     server_keeps ? "" : "; server_no_context_takeover",
                                     client_keeps ? "" : "; client_no_context_takeover");
                    if (server > 7)
                        n += snprintf(want + n, sizeof want - (size_t)n,
                                      "; server_max_window_bits=%u", out);
                    if (client > 6 && client_keeps)
                        snprintf(want + n, sizeof want - (size_t)n, "; client_max_window_bits=%u",
                                 in);
                    CHECK_EQ_STR(answer(takeover ? &kept : &none, offer), want);
                }
}

TEST(what_is_agreed_is_in_the_terms)
{
    struct mesa_deflate_terms t;
    CHECK_EQ_INT(mesa_deflate_negotiate(MESA_SPAN("permessage-deflate"), &kept, &t), MESA_OK);
    CHECK(t.out.takeover && t.in.takeover);
    CHECK_EQ_INT(t.out.bits, 12); /* less than allowed need not be said */
    CHECK_EQ_INT(t.in.bits, 15);  /* nothing less can be asked for */
    CHECK_EQ_INT(mesa_deflate_negotiate(MESA_SPAN("permessage-deflate; client_max_window_bits=10; "
                                                  "server_max_window_bits=8"),
                                        &kept, &t),
                 MESA_OK);
    CHECK_EQ_INT(t.out.bits, 8);
    CHECK_EQ_INT(t.in.bits, 10);
    CHECK_EQ_INT(mesa_deflate_negotiate(MESA_SPAN("permessage-deflate"), &none, &t), MESA_OK);
    CHECK(!t.out.takeover && !t.in.takeover);
    CHECK_EQ_INT(t.out.bits, 15);
}

TEST(an_offer_that_is_not_valid_is_declined)
{
    static const char *const offers[] = {
        "permessage-deflate; unknown",
        "permessage-deflate; server_no_context_takeover; unknown=1",
        "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover=\"true\"",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=08",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=1x",
        "permessage-deflate; server_max_window_bits=+9",
        "permessage-deflate; server_max_window_bits=100",
        "permessage-deflate; server_max_window_bits=4294967305",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=\"16\"",
        "x-webkit-deflate-frame",
        "permessage-deflate2",
        "permessage-bzip2",
        "",
        " , ,",
        NULL,
    };
    all_are(offers, "");
}

TEST(the_first_offer_that_is_valid_is_accepted)
{
    static const char *const offers[] = {
        "permessage-deflate; unknown, permessage-deflate",
        "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
        "foo; a=\"b\"; c, permessage-deflate; server_max_window_bits=7,permessage-deflate",
        ", ,\tpermessage-deflate,",
        "permessage-deflate, permessage-deflate; server_max_window_bits=9",
        "PerMessage-Deflate;Server_No_Context_Takeover",
        "permessage-deflate ;\tserver_no_context_takeover ; client_max_window_bits = \"1\\2\"",
        NULL,
    };
    all_are(offers, BOTH);
    CHECK_EQ_STR(
        answer(&none, "permessage-deflate; server_max_window_bits=\"9\", permessage-deflate"),
        BOTH "; server_max_window_bits=9");
}

TEST(what_does_not_follow_the_grammar_is_refused)
{
    static const char *const headers[] = {
        ";",
        "permessage-deflate;",
        "permessage-deflate; ; server_no_context_takeover",
        "permessage-deflate server_no_context_takeover",
        "permessage-deflate; =1",
        "permessage-deflate; a=",
        "permessage-deflate; a=,",
        "permessage-deflate; a=\"",
        "permessage-deflate; a=\"b",
        "permessage-deflate; a=\"b\\",
        "permessage-deflate; a=\"\"",
        "permessage-deflate; a=\"b c\"",
        "permessage-deflate; a=\"b\"c",
        "permessage-deflate; a=b=c",
        "permessage-deflate, a/b",
        "\"permessage-deflate\"",
        "permessage-deflate; a=\xc3\xa9",
        "permessage-deflate; a=b, ;",
        NULL,
    };
    all_are(headers, "!");
}

TEST(a_header_as_long_as_a_head_is_read)
{
    static char header[8192];
    memset(header, ',', sizeof header - 1);
    memcpy(header + 8000, "permessage-deflate", 18);
    CHECK_EQ_STR(answer(&none, header), BOTH);
    memset(header, 'x', sizeof header - 1);
    CHECK_EQ_STR(answer(&none, header), "");
    memcpy(header, "permessage-deflate; server_max_window_bits=", 43);
    memset(header + 43, '1', sizeof header - 44);
    CHECK_EQ_STR(answer(&none, header), "");
}
