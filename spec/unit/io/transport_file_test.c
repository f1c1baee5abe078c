/* transport_file_test.c - static files: what is served, and that nothing outside the root ever is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fixture.h"
#include "test.h"

static struct fixture f;
static struct peer p;
static char top[64], root[96];

static void put(const char *name, const char *text, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", top, name);
    FILE *out = fopen(path, "w");
    if (CHECK(out != NULL)) {
        CHECK(fwrite(text, 1, len, out) == len);
        fclose(out);
    }
}

static void put_folder(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", top, name);
    CHECK_EQ_INT(mkdir(path, 0755), 0);
}

static void put_link(const char *target, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", top, name);
    CHECK_EQ_INT(symlink(target, path), 0);
}

static bool begin(void)
{
    snprintf(top, sizeof top, "/tmp/mesa-unit-www-XXXXXX");
    if (!CHECK(mkdtemp(top) != NULL))
        return false;
    snprintf(root, sizeof root, "%s/root", top);
    put_folder("root");
    put_folder("root/sub");
    put_folder("root/empty");
    put_folder("root/.git");
    put_folder("rootless");
    put("root/index.html", "<p>home", 7);
    put("root/sub/index.html", "<p>sub", 6);
    put("root/app.js", "run()", 5);
    put("root/a b.txt", "space", 5);
    put("root/.secret", "hidden", 6);
    put("root/.git/config", "hidden", 6);
    put("secret.txt", "outside", 7);
    put("rootless/secret.txt", "outside", 7);
    put_link("../secret.txt", "root/leak.txt");
    put_link("../rootless", "root/leakdir");
    put_link("app.js", "root/inside.js");
    fixture_init(&f);
    f.root = root;
    p.fd = -1;
    return CHECK(fixture_start(&f));
}

static void end(void)
{
    char command[128];
    peer_close(&p);
    fixture_stop(&f);
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    CHECK_EQ_INT(system(command), 0);
}

static const char *ask(const char *method, const char *path, const char *headers)
{
    char request[1024];
    peer_close(&p);
    if (!CHECK(peer_connect(&p, &f)))
        return "";
    snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: h\r\n%s\r\n", method, path, headers);
    (void)peer_send_text(&p, request);
    return peer_read_answer(&p);
}

static void expect_file(const char *path, const char *type, const char *body)
{
    const char *r = ask("GET", path, "");
    char line[128];
    snprintf(line, sizeof line, "\r\nContent-Type: %s\r\n", type);
    CHECK(strncmp(r, "HTTP/1.1 200 OK\r\n", 17) == 0);
    CHECK(strstr(r, line) != NULL);
    const char *at = strstr(r, "\r\n\r\n");
    CHECK_EQ_STR(at != NULL ? at + 4 : NULL, body);
}

TEST(files_are_served_with_their_types)
{
    CHECK_OR_RETURN(begin());
    expect_file("/", "text/html; charset=utf-8", "<p>home");
    expect_file("/index.html?v=1", "text/html; charset=utf-8", "<p>home");
    const char *r = ask("GET", "/sub?a=b", "");
    CHECK(strncmp(r, "HTTP/1.1 301 ", 13) == 0);
    CHECK(strstr(r, "\r\nLocation: /sub/?a=b\r\n") != NULL);
    expect_file("/sub/", "text/html; charset=utf-8", "<p>sub");
    expect_file("/app.js", "text/javascript; charset=utf-8", "run()");
    expect_file("/inside.js", "text/javascript; charset=utf-8", "run()");
    expect_file("/a%20b.txt", "text/plain; charset=utf-8", "space");
    expect_file("/sub/../app.js", "text/javascript; charset=utf-8", "run()");
    end();
}

TEST(nothing_outside_the_root_is_served)
{
    static const char *const paths[] = {
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/sub/../../secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/.%2e/secret.txt",
        "//../secret.txt",
        "/./../secret.txt",
        "/leak.txt",
        "/leakdir/secret.txt",
        "/../rootless/secret.txt",
        "/.secret",
        "/%2esecret",
        "/.git/config",
        "/sub/../.secret",
        "/app.js%00.html",
        "/app.js/",
        "/empty/",
        "/empty",
        "/none",
        "/sub/none",
        "/..",
        "/%2e%2e",
        "/...",
        "/%252e%252e/secret.txt",
        "/app.js/../../secret.txt",
        "/....//secret.txt",
    };
    CHECK_OR_RETURN(begin());
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        const char *r = ask("GET", paths[i], "");
        bool ok = strstr(r, "outside") == NULL && strstr(r, "hidden") == NULL &&
                  (r[0] == '\0' || strncmp(r + 8, " 40", 3) == 0 || strstr(r, "<p>home") != NULL);
        if (!CHECK(ok))
            CHECK_EQ_STR(r, paths[i]);
    }
    end();
}

TEST(a_known_etag_gets_304)
{
    char header[128] = "If-None-Match: ";
    CHECK_OR_RETURN(begin());
    const char *r = ask("GET", "/app.js", "");
    const char *etag = strstr(r, "ETag: ");
    CHECK_OR_RETURN(etag != NULL);
    size_t n = strcspn(etag + 6, "\r");
    snprintf(header, sizeof header, "If-None-Match: \"other\", %.*s\r\n", (int)n, etag + 6);
    r = ask("GET", "/app.js", header);
    CHECK(strncmp(r, "HTTP/1.1 304 Not Modified\r\n", 27) == 0);
    CHECK(strstr(r, "run()") == NULL);
    r = ask("GET", "/app.js", "If-None-Match: \"other\"\r\n");
    CHECK(strncmp(r, "HTTP/1.1 200", 12) == 0);
    put("root/app.js", "changed()", 9);
    r = ask("GET", "/app.js", header);
    CHECK(strncmp(r, "HTTP/1.1 200", 12) == 0);
    end();
}

/* What a GET of app.js ("run()") with this header is answered. */
static void expect_status(const char *header, int status)
{
    char line[64], headers[256];
    snprintf(line, sizeof line, "HTTP/1.1 %d ", status);
    snprintf(headers, sizeof headers, "%s\r\n", header);
    if (!CHECK(strncmp(ask("GET", "/app.js", headers), line, strlen(line)) == 0))
        CHECK_EQ_STR(header, line);
}

TEST(conditions_are_kept)
{
    char header[128], modified[64];
    CHECK_OR_RETURN(begin());
    const char *at = strstr(ask("GET", "/app.js", ""), "Last-Modified: ");
    CHECK_OR_RETURN(at != NULL);
    snprintf(modified, sizeof modified, "%.*s", (int)strcspn(at + 15, "\r"), at + 15);
    snprintf(header, sizeof header, "If-Modified-Since: %s", modified);
    expect_status(header, 304);
    snprintf(header, sizeof header, "If-None-Match: \"x\"\r\nIf-Modified-Since: %s", modified);
    expect_status(header, 200); /* the tag alone decides */
    expect_status("If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT", 200);
    expect_status("If-Modified-Since: Saturday, 01-Jan-00 00:00:00 GMT", 200);
    expect_status("If-Modified-Since: tomorrow", 200);
    expect_status("If-Match: \"none\"", 412);
    expect_status("If-Match: *", 200);
    expect_status("If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT", 412);
    expect_status("If-Unmodified-Since: Fri, 01 Jan 2100 00:00:00 GMT", 200);
    end();
}

static void expect_part(const char *range, const char *content_range, const char *body)
{
    char headers[128], line[128];
    snprintf(headers, sizeof headers, "Range: %s\r\n", range);
    snprintf(line, sizeof line, "\r\nContent-Range: bytes %s\r\n", content_range);
    const char *r = ask("GET", "/app.js", headers), *at = strstr(r, "\r\n\r\n");
    const char *status = body[0] != '\0' ? "HTTP/1.1 206 " : "HTTP/1.1 416 ";
    CHECK(strstr(r, status) == r);
    CHECK(strstr(r, line) != NULL);
    CHECK_EQ_STR(at != NULL ? at + 4 : NULL, body);
}

TEST(a_part_of_a_file_is_served)
{
    CHECK_OR_RETURN(begin());
    expect_part("bytes=0-1", "0-1/5", "ru");
    expect_part("bytes=3-", "3-4/5", "()");
    expect_part("bytes=2-99", "2-4/5", "n()");
    expect_part("bytes=-2", "3-4/5", "()");
    expect_part("bytes=-99", "0-4/5", "run()");
    expect_part("bytes=5-", "*/5", "");
    expect_part("bytes=-0", "*/5", "");
    expect_status("Range: bytes=0-1,3-4", 200);
    expect_status("Range: bytes=3-1", 200);
    expect_status("Range: lines=0-1", 200);
    expect_status("Range: bytes=99999999999999999999-", 200);
    expect_status("Range: bytes=0-1\r\nIf-Range: \"other\"", 200);
    end();
}

TEST(a_packed_file_beside_it_goes_to_who_can_unpack_it)
{
    CHECK_OR_RETURN(begin());
    put("root/app.js.gz", "packed", 6);
    const char *r = ask("GET", "/app.js", "Accept-Encoding: br, gzip\r\n");
    CHECK(strstr(r, "\r\nContent-Encoding: gzip\r\n") != NULL);
    CHECK(strstr(r, "\r\nVary: Accept-Encoding\r\n") != NULL);
    CHECK(strstr(r, "javascript") != NULL);
    CHECK_EQ_STR(strstr(r, "\r\n\r\n"), "\r\n\r\npacked");
    r = ask("GET", "/app.js", "");
    CHECK(strstr(r, "\r\nContent-Encoding") == NULL);
    CHECK(strstr(r, "\r\nVary: Accept-Encoding\r\n") != NULL);
    CHECK_EQ_STR(strstr(r, "\r\n\r\n"), "\r\n\r\nrun()");
    end();
}

TEST(head_has_no_body_and_other_methods_are_refused)
{
    CHECK_OR_RETURN(begin());
    const char *r = ask("HEAD", "/app.js", "");
    CHECK(strncmp(r, "HTTP/1.1 200", 12) == 0);
    CHECK(strstr(r, "Content-Length: 5\r\n") != NULL);
    CHECK_EQ_STR(strstr(r, "\r\n\r\n"), "\r\n\r\n");
    r = ask("POST", "/app.js", "Content-Length: 0\r\n");
    CHECK(strncmp(r, "HTTP/1.1 405", 12) == 0);
    CHECK(strstr(r, "\r\nAllow: GET, HEAD\r\n") != NULL);
    end();
}

TEST(a_large_file_arrives_whole)
{
    size_t len = (6u << 20) + 123;
    char *data = malloc(len);
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(i * 31 >> 5);
    CHECK_OR_RETURN(begin());
    put("root/big.bin", data, len);
    const char *r = ask("GET", "/big.bin", "");
    const char *at = strstr(r, "\r\n\r\n");
    if (CHECK(at != NULL))
        CHECK_EQ_MEM(at + 4, p.in.len - 1 - (size_t)(at + 4 - r), data, len);
    put("root/none.bin", "", 0);
    r = ask("GET", "/none.bin", "");
    CHECK(strstr(r, "Content-Length: 0\r\n") != NULL);
    free(data);
    end();
}

TEST(a_reader_that_leaves_in_the_middle_of_a_file_costs_nothing)
{
    size_t len = 6u << 20;
    char *data = calloc(1, len);
    CHECK_OR_RETURN(begin());
    put("root/big.bin", data, len);
    free(data);
    for (int i = 0; i < 2; i++) {
        CHECK_OR_RETURN(peer_connect(&p, &f));
        peer_send_text(&p, "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n");
        CHECK(WAIT_FOR(&f, f.http_requests == i + 1));
        for (int turns = 0; turns < 20; turns++)
            fixture_turn(&f);
        if (i == 0)
            peer_reset(&p);
    }
    end();
}
