/* log_test.c - records on standard error, as text and JSON. */
#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

static char captured[1 << 20];
static FILE *capture_file;
static int real_stderr;

static void capture_begin(void)
{
    capture_file = tmpfile();
    real_stderr = dup(STDERR_FILENO);
    dup2(fileno(capture_file), STDERR_FILENO);
}

static void capture_end(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    rewind(capture_file);
    size_t n = fread(captured, 1, sizeof captured - 1, capture_file);
    captured[n] = '\0';
    fclose(capture_file);
}

/* What one record with this message looks like behind its time. */
static const char *logged(enum mesa_log_format format, const char *message)
{
    mesa_log_configure(MESA_LOG_INFO, format);
    capture_begin();
    mesa_log(MESA_LOG_WARN, "test", "%s", message);
    capture_end();
    mesa_log_configure(MESA_LOG_INFO, MESA_LOG_TEXT);
    const char *z = strchr(captured, 'Z');
    return z != NULL ? z + 1 : captured;
}

static bool looks_like_time(const char *p)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (size_t i = 0; i < sizeof shape - 1; i++)
        if (shape[i] == 'd' ? p[i] < '0' || p[i] > '9' : p[i] != shape[i])
            return false;
    return true;
}

TEST(a_text_record_has_time_level_area_and_message)
{
    CHECK_EQ_STR(logged(MESA_LOG_TEXT, "listening on 0.0.0.0:4000"),
                 " warn  test: listening on 0.0.0.0:4000\n");
    CHECK(looks_like_time(captured));
}

TEST(a_json_record_is_one_object_a_line)
{
    CHECK_EQ_STR(logged(MESA_LOG_JSON, "hello"),
                 "\",\"level\":\"warn\",\"area\":\"test\",\"msg\":\"hello\"}\n");
    CHECK_EQ_MEM(captured, 9, "{\"time\":\"", 9);
    CHECK(looks_like_time(captured + 9));
}

TEST(levels_below_the_configured_one_are_silent)
{
    mesa_log_configure(MESA_LOG_WARN, MESA_LOG_TEXT);
    CHECK(!mesa_log_enabled(MESA_LOG_INFO));
    CHECK(mesa_log_enabled(MESA_LOG_ERROR));
    capture_begin();
    mesa_log(MESA_LOG_INFO, "test", "silent");
    mesa_log_configure(MESA_LOG_OFF, MESA_LOG_TEXT);
    mesa_log(MESA_LOG_ERROR, "test", "silent");
    mesa_log(MESA_LOG_OFF, "test", "silent");
    capture_end();
    CHECK_EQ_STR(captured, "");
    mesa_log_configure(MESA_LOG_INFO, MESA_LOG_TEXT);
}

TEST(level_names_parse)
{
    enum mesa_log_level level = MESA_LOG_OFF;
    CHECK_EQ_INT(mesa_log_level_parse("debug", &level), MESA_OK);
    CHECK_EQ_INT(level, MESA_LOG_DEBUG);
    CHECK_EQ_INT(mesa_log_level_parse("off", &level), MESA_OK);
    CHECK_EQ_INT(level, MESA_LOG_OFF);
    CHECK_EQ_INT(mesa_log_level_parse("WARN", &level), MESA_EINVAL);
    CHECK_EQ_INT(mesa_log_level_parse("", &level), MESA_EINVAL);
    CHECK_EQ_INT(level, MESA_LOG_OFF);
}

TEST(a_traceback_is_indented_in_text_and_one_line_in_json)
{
    CHECK_EQ_STR(logged(MESA_LOG_TEXT, "a.lua:1: bad\nstack traceback:\n\tin main\n"),
                 " warn  test: a.lua:1: bad\n    stack traceback:\n    \tin main\n");
    CHECK_EQ_STR(
        logged(MESA_LOG_JSON, "bad\n\tin \"main\"\\\n"),
        "\",\"level\":\"warn\",\"area\":\"test\",\"msg\":\"bad\\n\\tin \\\"main\\\"\\\\\"}\n");
}

TEST(control_characters_and_invalid_utf8_are_escaped)
{
    const char *message = "\x1b[31m\r\x7f\xc2\x9b \xc3\xa9\xff\xc3";
    CHECK_EQ_STR(logged(MESA_LOG_TEXT, message),
                 " warn  test: \\x1b[31m\\x0d\\x7f\\x9b \xc3\xa9\\xff\\xc3\n");
    CHECK_EQ_STR(
        logged(MESA_LOG_JSON, message),
        "\",\"level\":\"warn\",\"area\":\"test\",\"msg\":\"\\u001b[31m\\u000d\\u007f\\u009b \xc3\xa9\\\\xff\\\\xc3\"}\n");
}

TEST(a_nul_is_escaped_and_ends_nothing)
{
    const struct mesa_span text = MESA_SPAN("a\0b\n");
    capture_begin();
    mesa_log_write(MESA_LOG_WARN, "test", text);
    mesa_log_configure(MESA_LOG_INFO, MESA_LOG_JSON);
    mesa_log_write(MESA_LOG_WARN, "test", text);
    mesa_log_limited(MESA_LOG_WARN, "test", "nul", text);
    capture_end();
    mesa_log_configure(MESA_LOG_INFO, MESA_LOG_TEXT);
    CHECK(strstr(captured, " warn  test: a\\x00b\n") != NULL);
    const char *json = strstr(captured, "\"msg\":\"a\\u0000b\"}\n");
    CHECK_OR_RETURN(json != NULL);
    CHECK(strstr(json + 1, "\"msg\":\"a\\u0000b\"}\n") != NULL);
}

static size_t count(const char *needle)
{
    size_t n = 0;
    for (const char *p = captured; (p = strstr(p, needle)) != NULL; p++)
        n++;
    return n;
}

TEST(records_of_one_key_are_counted_after_the_first_of_a_second)
{
    capture_begin();
    for (int i = 0; i < 1000; i++)
        mesa_log_limited(MESA_LOG_WARN, "test", "FLOOD", MESA_SPAN("too much"));
    mesa_log_limited(MESA_LOG_WARN, "test", "RARE", MESA_SPAN("not too much"));
    CHECK(mesa_log_has_counted());
    mesa_log_tell_counted(true);
    CHECK(!mesa_log_has_counted());
    mesa_log_tell_counted(true);
    capture_end();
    /* a slow machine may count two seconds */
    CHECK(count(": too much\n") >= MESA_LOG_PER_SECOND && count(": too much\n") < 50);
    CHECK(count("more of FLOOD in") >= 1);
    CHECK_EQ_INT(count("not too much"), 1);
    CHECK_EQ_INT(count("more of RARE"), 0);
}

TEST(nothing_is_lost_between_the_records_and_the_count)
{
    unsigned long long told = 0;
    capture_begin();
    for (int i = 0; i < 777; i++)
        mesa_log_limited(MESA_LOG_WARN, "test", "SUM", MESA_SPAN("one of many"));
    mesa_log_tell_counted(true);
    capture_end();
    for (const char *p = captured; (p = strstr(p, "\u2026 and ")) != NULL; p++) {
        unsigned long long n = 0;
        sscanf(p + strlen("\u2026 and "), "%llu", &n);
        told += n;
    }
    CHECK_EQ_INT(told + count("one of many"), 777);
}

TEST(more_keys_than_there_is_room_for_share_a_place)
{
    char key[16];
    capture_begin();
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        mesa_log_limited(MESA_LOG_WARN, "test", key, MESA_SPAN("each its own"));
    }
    mesa_log_tell_counted(true);
    capture_end();
    CHECK(count("each its own") < 1000);
    CHECK(count("more of other kinds in") >= 1);
}

TEST(a_limited_record_is_cut)
{
    static char text[100000];
    memset(text, 'x', sizeof text);
    capture_begin();
    mesa_log_limited(MESA_LOG_WARN, "test", "LONG", (struct mesa_span){text, sizeof text});
    capture_end();
    CHECK(strlen(captured) < MESA_LOG_LIMITED_BYTES + 100);
    CHECK(strstr(captured, "xxx\u2026 (100000 bytes)\n") != NULL);
}

TEST(a_long_message_is_not_cut)
{
    static char message[100001];
    memset(message, 'x', sizeof message - 1);
    const char *record = logged(MESA_LOG_TEXT, message);
    CHECK_EQ_INT(strlen(record), strlen(" warn  test: \n") + 100000);
}

enum { THREADS = 4, LINES = 500 };

static void *log_many(void *arg)
{
    for (int i = 0; i < LINES; i++)
        mesa_log(MESA_LOG_INFO, "thread", "%s: the quick brown fox jumps over the lazy dog",
                 (const char *)arg);
    return NULL;
}

TEST(records_of_several_threads_do_not_mix)
{
    static char names[THREADS][2] = {"a", "b", "c", "d"};
    pthread_t threads[THREADS];
    capture_begin();
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, log_many, names[i]);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    capture_end();

    int lines = 0;
    for (char *save, *line = strtok_r(captured, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        char name;
        int behind = 0;
        CHECK_OR_RETURN(looks_like_time(line));
        CHECK_OR_RETURN(sscanf(line + 24,
                               " info  thread: %c: the quick brown fox jumps over the lazy dog%n",
                               &name, &behind) == 1);
        CHECK(behind > 0 && line[24 + behind] == '\0');
        lines++;
    }
    CHECK_EQ_INT(lines, THREADS * LINES);
}
