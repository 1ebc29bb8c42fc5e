/* SPDX-License-Identifier: Apache-2.0 */
/* cli/report.h, plot.h, live.h, metrics.h: a page from made-up figures is well-formed, holds every figure, survives odd
 * ones, and lets no text out of its place. With a file name as argument the page is written there, to be looked at. */
#include "kit/files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/live.h"
#include "cli/plot.h"
#include "cli/report.h"

static void add_step(cli_metrics *metrics, fur_train_event_type type, int64_t step, double loss, int64_t context)
{
    fur_train_event event = {.type = type,
                             .step = step,
                             .max_steps = 400,
                             .tokens = step * 16384,
                             .context = context,
                             .loss = loss,
                             .lr = 1e-3,
                             .seconds = 0.3 * (double)step,
                             .step_seconds = context > 512 ? 0.5 : 0.3,
                             .tokens_per_second = 50000,
                             .rss_bytes = (int64_t)(180 + 30 * (step > 340)) << 20,
                             .planned_peak_bytes = (int64_t)(190 + 35 * (step > 340)) << 20};
    cli_metrics_add(metrics, &event);
}

static void fill_metrics(cli_metrics *metrics)
{
    memset(metrics, 0, sizeof *metrics);
    for (int64_t i = 1; i <= 400; i++) {
        double t = (double)i, noise = 0.04 * sin(t * 12.9898) + 0.03 * sin(t * 78.233);
        int64_t context = i < 320 ? 512 : i < 360 ? 2048 : i < 385 ? 8192 : 16384;
        add_step(metrics, FUR_EVENT_STEP, i, 1.68 + 3.0 * exp(-t / 25) + 0.9 * exp(-t / 150) + noise, context);
        if (i % 50 == 0)
            add_step(metrics, FUR_EVENT_EVAL, i, 1.72 + 3.0 * exp(-t / 25) + 0.9 * exp(-t / 150), context);
    }
}

static void fill_rows(cli_plan_row *rows)
{
    for (int i = 0; i < CLI_PLAN_ROWS; i++) {
        double n = 4096.0 * (1 << i);
        memset(&rows[i], 0, sizeof rows[i]);
        rows[i].tokens = (int64_t)n;
        rows[i].plan.peak_bytes = (int64_t)(3e7 + 4700 * n);
        rows[i].plan.fits = rows[i].plan.peak_bytes < (int64_t)512 << 20;
        rows[i].plan.seconds = 8 * 8.9e5 * n / 2e11 + 9 * n * n * 128 * 4 / 2e11;
        rows[i].least_bytes = (int64_t)(2.5e7 + 3600 * n);
        rows[i].plain_bytes = (int64_t)(8704 * n + 32 * n * n);
        rows[i].checkpointed_bytes = (int64_t)(17300 * n);
    }
}

static fur_eval_result made_up_positions(void)
{
    fur_eval_result result = {.loss = 1.7, .tokens = 65536, .bits_per_byte = 2.45, .buckets = 7};
    for (int i = 0; i < 7; i++) {
        result.bucket_first[i] = i == 0 ? 0 : (int64_t)1024 << (i - 1);
        result.bucket_tokens[i] = i == 0 ? 1024 : (int64_t)1024 << (i - 1);
        result.bucket_loss[i] = 1.72 - 0.012 * i;
    }
    return result;
}

static void fill_report(cli_report *report, cli_string *page)
{
    static fur_machine machine = {.cpu_name = "Some CPU <4 GHz>",
                                  .isa = "avx512",
                                  .cores = 2,
                                  .memory_total = (int64_t)24 << 30,
                                  .memory_available = (int64_t)22 << 30};
    static cli_plan_row rows[CLI_PLAN_ROWS];
    static cli_long_step steps[3];
    static cli_sample samples[2] = {
        {"In the beginning", " of the world was the word & the light,\nand the <sea> was made."},
        {"And Moses", " said unto the children of Israel,\nGo up \"now\" into the land \xFF which I"}};
    cli_metrics metrics;
    cli_trace trace = {0};
    fur_eval_result positions = made_up_positions();
    fill_metrics(&metrics);
    fill_rows(rows);
    for (int i = 0; i < 3; i++) {
        const cli_plan_row *row = &rows[(size_t)2 * (size_t)i];
        steps[i] = (cli_long_step){.tokens = row->tokens,
                                   .seconds = row->plan.seconds * 1.07,
                                   .planned_seconds = row->plan.seconds,
                                   .measured_peak_bytes = row->plan.peak_bytes - (3 << 20),
                                   .planned_peak_bytes = row->plan.peak_bytes,
                                   .limit_bytes = (int64_t)512 << 20,
                                   .least_bytes = row->least_bytes,
                                   .plain_bytes = row->plain_bytes,
                                   .checkpointed_bytes = row->checkpointed_bytes};
    }
    for (int i = 0; i < 300; i++)
        cli_trace_add(&trace, 0.3 * i,
                      (double)steps[2].measured_peak_bytes * (i < 8 ? i / 8.0 : 0.93 + 0.07 * (i > 90)));
    *report = (cli_report){.title = "One step over 65,536 bytes",
                           .subtitle = "book.txt, 4,404,412 bytes",
                           .model = "bytes-1m: 4 layers x 128",
                           .machine = &machine,
                           .gflops = 512,
                           .bytes = true,
                           .metrics = &metrics,
                           .rows = rows,
                           .row_count = CLI_PLAN_ROWS,
                           .row_limit_bytes = (int64_t)512 << 20,
                           .steps = steps,
                           .step_count = 3,
                           .trace = &trace,
                           .positions = &positions,
                           .samples = samples,
                           .sample_count = 2,
                           .commands = "furlong generate -m furlong-demo -p 'And'\nfurlong eval -m furlong-demo -f x"};
    cli_report_write(page, report);
    cli_metrics_clear(&metrics);
    cli_trace_clear(&trace);
}

/* Every element that is opened is closed, in order. Our pages quote all attributes and have no scripts. */
static void check_tags(const char *text)
{
    static const char *const void_names[] = {"meta", "!doctype"};
    char open[64][24];
    int depth = 0;
    for (const char *at = strchr(text, '<'); at != NULL; at = strchr(at + 1, '<')) {
        char name[24];
        bool closing = at[1] == '/', is_void = false;
        size_t length = strcspn(at + 1 + closing, " >/\n");
        const char *end = at + strcspn(at, ">");
        assert_true(length > 0 && length < sizeof name);
        memcpy(name, at + 1 + closing, length);
        name[length] = '\0';
        for (size_t i = 0; i < 2; i++)
            is_void = is_void || strcmp(name, void_names[i]) == 0;
        if (is_void || end[-1] == '/')
            continue;
        if (!closing) {
            assert_true(depth < 64);
            memcpy(open[depth++], name, sizeof name);
        } else {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        }
    }
    assert_int_equal(depth, 0);
}

static void check_numbers(const char *text)
{
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "=\"inf"));
    assert_null(strstr(text, "=\"-inf"));
}

static const char *look_at;

static void test_page(void **state)
{
    (void)state;
    static const char *const parts[] = {"65,536",
                                        "Some CPU &lt;4 GHz&gt;",
                                        "&amp; the light",
                                        "&lt;sea&gt;",
                                        "&quot;now&quot;",
                                        "\xEF\xBF\xBD which",
                                        "512 GFLOP/s",
                                        "does not fit",
                                        "held-out 2.",
                                        "planned peak",
                                        "limit 512 MiB",
                                        "first 1K",
                                        "prefers-color-scheme",
                                        "<title id=\"loss-title\">",
                                        "furlong generate -m furlong-demo",
                                        "falls with distance"};
    cli_report report;
    cli_string page = {NULL, 0, 0};
    fill_report(&report, &page);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strstr(page.text, parts[i]) == NULL)
            print_message("the page lacks '%s'\n", parts[i]);
        assert_non_null(strstr(page.text, parts[i]));
    }
    assert_null(strstr(page.text, "<script"));
    assert_null(strstr(page.text, "http"));
    check_tags(page.text);
    check_numbers(page.text);
    if (look_at != NULL)
        assert_true(cli_file_write(look_at, page.text, page.length));
    cli_string_clear(&page);
}

/* Nothing, one step, losses that are not numbers, huge ones, a single bucket: still a page. */
static void test_odd_pages(void **state)
{
    (void)state;
    for (int kind = 0; kind < 5; kind++) {
        cli_metrics metrics = {0};
        fur_eval_result positions = {.buckets = 1, .bucket_tokens = {5}, .bucket_loss = {kind == 2 ? 0.0 : 1.0}};
        cli_trace trace = {0};
        cli_long_step step = {.tokens = 4096, .seconds = kind, .planned_peak_bytes = 1, .measured_peak_bytes = kind};
        int steps = kind == 0 ? 0 : kind == 1 ? 1 : 3;
        for (int i = 1; i <= steps; i++)
            add_step(&metrics, FUR_EVENT_STEP, i, kind == 3 ? (double)NAN : kind == 4 ? 1e300 : 2.0, 512);
        cli_trace_add(&trace, 0.0, 0.0);
        cli_trace_add(&trace, 0.0, 0.0);
        cli_report report = {.title = "t", .subtitle = "s", .metrics = &metrics, .positions = &positions};
        if (kind > 0) {
            report.steps = &step;
            report.step_count = 1;
            report.trace = &trace;
        }
        cli_string page = {NULL, 0, 0};
        cli_report_write(&page, &report);
        check_tags(page.text);
        cli_string_clear(&page);
        cli_metrics_clear(&metrics);
        cli_trace_clear(&trace);
    }
}

static void test_loss_rises(void **state)
{
    (void)state;
    fur_eval_result result = made_up_positions();
    char name[CLI_TWO_UNITS];
    int bucket = -1;
    assert_false(cli_loss_rises(&result, &bucket));
    result.bucket_tokens[3] = 0; /* an empty range says nothing */
    result.bucket_loss[3] = 99.0;
    assert_false(cli_loss_rises(&result, &bucket));
    result.bucket_loss[5] = result.bucket_loss[4] + 1e-9;
    assert_true(cli_loss_rises(&result, &bucket));
    assert_int_equal(bucket, 5);
    cli_bucket_name(name, &result, 5);
    assert_string_equal(name, "16K-32K");
}

static void test_live(void **state)
{
    (void)state;
    fur_train_event event = {.type = FUR_EVENT_STEP,
                             .step = 12,
                             .max_steps = 1200,
                             .loss = 1.7425,
                             .seconds_left = 71.4,
                             .tokens_per_second = 41234,
                             .rss_bytes = (int64_t)312 << 20,
                             .planned_peak_bytes = (int64_t)402 << 20};
    cli_string line = {NULL, 0, 0};
    int width = cli_live_line(&line, &event, true);
    assert_string_equal(line.text,
                        "step   12/1200  loss 1.742  2.514 bits/byte  41.2K tok/s  312 MiB of 402 MiB  72 s left");
    assert_int_equal(width, line.length);
    cli_string_clear(&line);

    static const double falling[] = {4, 3, 2, 1};
    cli_sparkline(&line, falling, 4, 2);
    /* columns of 4, 3, 2, 1 dots: U+28B7 would be 4|3 reversed; here left 4 dots 0x47, right 3 dots 0xB0 */
    assert_string_equal(line.text, "\xE2\xA3\xB7\xE2\xA3\x84");
    cli_string_clear(&line);
    static const double flat[] = {2, 2};
    cli_sparkline(&line, flat, 2, 1);
    assert_string_equal(line.text, "\xE2\xA3\x80");
    cli_string_clear(&line);
}

static void test_metrics(void **state)
{
    (void)state;
    cli_metrics metrics;
    double smooth[400];
    fill_metrics(&metrics);
    assert_int_equal(metrics.step_count, 400);
    assert_int_equal(metrics.eval_count, 8);
    cli_metrics_smooth(&metrics, 0, smooth);
    for (int i = 0; i < 400; i++)
        assert_true(smooth[i] == metrics.steps[i].loss);
    for (int64_t i = 0; i < 400; i++)
        metrics.steps[i].loss = 3.0;
    metrics.steps[200].loss = 10.0;
    cli_metrics_smooth(&metrics, 3, smooth); /* spread over seven steps, and a constant stays, up to rounding */
    for (int i = 0; i < 400; i++)
        assert_true(fabs(smooth[i] - (i >= 197 && i <= 203 ? 4.0 : 3.0)) < 1e-12);
    assert_true(cli_metrics_fastest(&metrics, 512) == 0.3 && cli_metrics_fastest(&metrics, 8192) == 0.5);
    assert_true(cli_metrics_fastest(&metrics, 7) == 0.0);
    cli_metrics_clear(&metrics);
}

int main(int argc, char **argv)
{
    look_at = argc > 1 ? argv[1] : NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page), cmocka_unit_test(test_odd_pages), cmocka_unit_test(test_loss_rises),
        cmocka_unit_test(test_live), cmocka_unit_test(test_metrics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
