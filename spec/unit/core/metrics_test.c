/* metrics_test.c - counters and their text. */
#include <stdio.h>

#include "core/metrics.h"
#include "test.h"

static struct mesa_metrics m;

static bool has_line(const struct mesa_buf *b, const char *line)
{
    return memmem(b->data, b->len, line, strlen(line)) != NULL;
}

TEST(every_counter_has_help_type_and_value)
{
    struct mesa_buf out;
    mesa_buf_init(&out);
    mesa_metrics_init(&m);
    m.connections_open = 3;
    m.messages_in = 18446744073709551615ull;
    CHECK_EQ_INT(mesa_metrics_write(&m, &out), MESA_OK);
    CHECK(has_line(&out, "# TYPE mesa_connections_open gauge\nmesa_connections_open 3\n"));
    CHECK(has_line(&out, "# TYPE mesa_messages_received_total counter\n"
                         "mesa_messages_received_total 18446744073709551615\n"));
    CHECK(out.data[out.len - 1] == '\n');
    mesa_buf_deinit(&out);
}

TEST(codes_are_labels)
{
    struct mesa_buf out;
    mesa_buf_init(&out);
    mesa_metrics_init(&m);
    mesa_metrics_count_error(&m, "JSON");
    mesa_metrics_count_error(&m, "JSON");
    mesa_metrics_count_error(&m, "RATE");
    mesa_metrics_count_close(&m, 1007);
    mesa_metrics_write(&m, &out);
    CHECK(has_line(&out, "mesa_errors_total{code=\"JSON\"} 2\n"));
    CHECK(has_line(&out, "mesa_errors_total{code=\"RATE\"} 1\n"));
    CHECK(has_line(&out, "mesa_closes_total{code=\"1007\"} 1\n"));
    mesa_buf_deinit(&out);
}

TEST(clients_cannot_grow_the_table_with_close_codes)
{
    struct mesa_buf out;
    mesa_buf_init(&out);
    mesa_metrics_init(&m);
    for (int code = 3000; code < 4000; code++)
        mesa_metrics_count_close(&m, code);
    mesa_metrics_count_close(&m, 3000);
    CHECK_EQ_INT(m.closes.count, MESA_METRICS_CODES_MAX);
    mesa_metrics_write(&m, &out);
    char line[64];
    snprintf(line, sizeof line, "mesa_closes_total{code=\"OTHER\"} %d\n",
             1000 - (MESA_METRICS_CODES_MAX - 1));
    CHECK(has_line(&out, line));
    CHECK(has_line(&out, "mesa_closes_total{code=\"3000\"} 2\n"));
    mesa_buf_deinit(&out);
}

TEST(long_codes_are_cut_and_still_counted_together)
{
    mesa_metrics_init(&m);
    mesa_metrics_count_error(&m, "A_VERY_LONG_CODE_THAT_DOES_NOT_FIT");
    mesa_metrics_count_error(&m, "A_VERY_LONG_CODE_THAT_DOES_NOT_FIT");
    CHECK_EQ_INT(m.errors.count, 1);
    CHECK_EQ_INT(m.errors.at[0].count, 2);
}
