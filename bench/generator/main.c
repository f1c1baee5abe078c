/* main.c - runs one mode and reports it: a JSON line on stdout, a readable one on stderr. Exit 0 only when every check held. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "startup.h"

static const struct mode *const modes[] = {&mode_echo,      &mode_fanout, &mode_handshake,
                                           &mode_heartbeat, &mode_idle,   &mode_rate};

static const struct mode *find_mode(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(modes[i]->name, name) == 0)
            return modes[i];
    }
    return NULL;
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static const char *title(const struct options *o)
{
    return o->label[0] != '\0' ? o->label : o->mode;
}

static double us(const struct bench *b, double quantile)
{
    return (double)hist_quantile_ns(&b->latency, quantile) / 1e3;
}

static void report_throughput(const struct bench *b)
{
    double rate = (double)b->count / b->seconds;
    double cpu_us = (double)b->server_cpu_ns / 1e3 / (double)b->count;
    double server_percent = (double)b->server_cpu_ns / 1e7 / b->seconds;
    double own_percent = (double)b->own_cpu_ns / 1e7 / b->seconds;

    printf(
        "\"count\":%llu,\"seconds\":%.3f,\"rate\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
        "\"generator_cpu_percent\":%.1f",
        (unsigned long long)b->count, b->seconds, rate, us(b, 0.5), us(b, 0.99), us(b, 0.999),
        (double)b->latency.max_ns / 1e3, own_percent);
    fprintf(stderr, "%.0f %s/s, latency p50 %.0f p99 %.0f p99.9 %.0f us, generator %.0f %%", rate,
            b->mode->unit, us(b, 0.5), us(b, 0.99), us(b, 0.999), own_percent);
    if (b->opt.pid != 0) {
        printf(",\"server_cpu_us\":%.3f,\"server_cpu_percent\":%.1f", cpu_us, server_percent);
        fprintf(stderr, ", server %.1f %%, %.2f us CPU each", server_percent, cpu_us);
    }
    if (b->rss_begin != 0) {
        printf(",\"rss_begin\":%llu,\"rss_end\":%llu,\"rss_peak\":%llu",
               (unsigned long long)b->rss_begin, (unsigned long long)b->rss_end,
               (unsigned long long)b->rss_peak);
        fprintf(stderr, ", resident %llu -> %llu KiB", (unsigned long long)b->rss_begin / 1024,
                (unsigned long long)b->rss_end / 1024);
    }
}

static void report_memory(const struct bench *b)
{
    double each = ((double)b->rss_after - (double)b->rss_before) / (double)b->rss_connections;
    printf("\"count\":%u", b->rss_connections);
    fprintf(stderr, "%u connections", b->rss_connections);
    if (b->opt.pid != 0) {
        printf(",\"rss_before\":%llu,\"rss_after\":%llu,\"rss_closed\":%llu,\"bytes_each\":%.1f",
               (unsigned long long)b->rss_before, (unsigned long long)b->rss_after,
               (unsigned long long)b->rss_closed, each);
        fprintf(stderr, ", %.0f bytes resident each (%llu -> %llu KiB, %llu KiB when closed)", each,
                (unsigned long long)b->rss_before / 1024, (unsigned long long)b->rss_after / 1024,
                (unsigned long long)b->rss_closed / 1024);
    }
}

static void report(const struct bench *b)
{
    const struct options *o = &b->opt;
    printf(
        "{\"mode\":\"%s\",\"label\":\"%s\",\"type\":\"%s\",\"connections\":%u,\"publishers\":%u,\"depth\":%u,\"size\":%zu,\"auth\":%s,",
        b->mode->name, o->label, b->message.type, o->connections, o->publishers, o->depth,
        b->message.frame_len - b->message.payload_at, o->auth ? "true" : "false");
    fprintf(stderr, "%s: ", title(o));
    if (b->mode->own_phases)
        report_memory(b);
    else
        report_throughput(b);
    puts("}");
    fputc('\n', stderr);
}

int main(int argc, char **argv)
{
    static struct bench bench; /* its histogram is large */
    struct options o;

    if (!options_parse(&o, argc, argv))
        return 2;
    if (o.command[0] != NULL)
        return startup_run(&o) ? 0 : 1;
    const struct mode *mode = find_mode(o.mode);
    if (mode == NULL) {
        fprintf(stderr, "mesa-bench: no mode %s\n", o.mode);
        return 2;
    }
    raise_file_limit();
    bool ok = bench_run(&bench, mode, &o);
    if (ok)
        report(&bench);
    else
        fprintf(stderr, "mesa-bench: %s: %s\n", title(&o), bench.net.error);
    bench_free(&bench);
    return ok ? 0 : 1;
}
