/* SPDX-License-Identifier: Apache-2.0 */
/* The report page. */
#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "head_errors.h"
#include "plot.h"
#include "report_style.h"

static const double ln2 = 0.69314718055994530942;

void cli_trace_add(cli_trace *trace, double seconds, double bytes)
{
    if (trace->count == trace->capacity) {
        trace->capacity = trace->capacity > 0 ? 2 * trace->capacity : 256;
        trace->seconds = cli_resize(trace->seconds, (size_t)trace->capacity, sizeof(double));
        trace->bytes = cli_resize(trace->bytes, (size_t)trace->capacity, sizeof(double));
    }
    trace->seconds[trace->count] = seconds;
    trace->bytes[trace->count++] = bytes;
}

void cli_trace_clear(cli_trace *trace)
{
    cli_free(trace->seconds);
    cli_free(trace->bytes);
    memset(trace, 0, sizeof *trace);
}

bool cli_loss_rises(const fur_eval_result *result, int *bucket)
{
    double before = HUGE_VAL;
    for (int i = 0; i < result->buckets; i++) {
        if (result->bucket_tokens[i] == 0)
            continue;
        if (result->bucket_loss[i] > before) {
            *bucket = i;
            return true;
        }
        before = result->bucket_loss[i];
    }
    return false;
}

void cli_bucket_name(char out[CLI_TWO_UNITS], const fur_eval_result *result, int bucket)
{
    char a[CLI_UNIT], b[CLI_UNIT];
    int64_t first = result->bucket_first[bucket];
    int64_t last = first > 0 ? 2 * first : 1024;
    if (bucket == 0)
        (void)snprintf(out, CLI_TWO_UNITS, "first %s", cli_count(a, last));
    else
        (void)snprintf(out, CLI_TWO_UNITS, "%s-%s", cli_count(a, first), cli_count(b, last));
}

/* ---- parts of the page -------------------------------------------------------------------------------------- */

typedef struct page {
    cli_string *out;
    const cli_report *report;
    double scale;          /* from nats to what is shown */
    const char *loss_name; /* "bits per byte" or "nats per token" */
} page;

static void section(page *p, const char *title, const char *text)
{
    cli_append(p->out, "<section><h2>");
    cli_append_html(p->out, title);
    cli_append(p->out, "</h2>");
    if (text != NULL) {
        cli_append(p->out, "<p>");
        cli_append_html(p->out, text);
        cli_append(p->out, "</p>");
    }
    cli_append(p->out, "\n");
}

static void section_end(page *p)
{
    cli_append(p->out, "</section>\n");
}

static void figure(page *p, const char *value, const char *text)
{
    cli_append(p->out, "<div class=\"figure\"><b>");
    cli_append_html(p->out, value);
    cli_append(p->out, "</b><span>");
    cli_append_html(p->out, text);
    cli_append(p->out, "</span></div>\n");
}

static void cell(page *p, bool head, const char *class_name, const char *text)
{
    cli_appendf(p->out, class_name[0] != '\0' ? "<%s class=\"%s\">" : "<%s%s>", head ? "th" : "td", class_name);
    cli_append_html(p->out, text);
    cli_append(p->out, head ? "</th>" : "</td>");
}

/* Texts up to the first NULL, as one row. */
static void cells(page *p, bool head, const char *const *texts)
{
    cli_append(p->out, "<tr>");
    for (; *texts != NULL; texts++)
        cell(p, head, "", *texts);
    cli_append(p->out, "</tr>\n");
}

static void table(page *p, const char *const *heads)
{
    cli_append(p->out, "<div class=\"scroll\"><table><thead>\n");
    cells(p, true, heads);
    cli_append(p->out, "</thead><tbody>\n");
}

static void table_end(page *p)
{
    cli_append(p->out, "</tbody></table></div>\n");
}

/* ---- figures at the top ------------------------------------------------------------------------------------- */

static const cli_point *last_eval(const cli_report *report)
{
    const cli_metrics *metrics = report->metrics;
    return metrics != NULL && metrics->eval_count > 0 ? &metrics->evals[metrics->eval_count - 1] : NULL;
}

static const cli_long_step *headline(const cli_report *report)
{
    return report->step_count > 0 ? &report->steps[report->step_count - 1] : NULL;
}

static void figures(page *p)
{
    const cli_report *r = p->report;
    char value[CLI_TWO_UNITS], text[256], a[CLI_UNIT], b[CLI_UNIT];
    const cli_point *eval = last_eval(r);
    const cli_long_step *step = headline(r);
    cli_append(p->out, "<div class=\"figures\">\n");
    if (step != NULL) {
        (void)snprintf(text, sizeof text, "%s at once, in one full optimizer step with exact attention",
                       r->bytes ? "bytes" : "tokens");
        figure(p, cli_thousands(value, step->tokens), text);
        (void)snprintf(text, sizeof text, "measured peak memory of that step; planned %s",
                       cli_bytes(a, step->planned_peak_bytes));
        figure(p, cli_bytes(value, step->measured_peak_bytes), text);
        if (step->checkpointed_bytes > step->measured_peak_bytes && step->measured_peak_bytes > 0) {
            (void)snprintf(value, sizeof value, "%.1f\xC3\x97",
                           (double)step->checkpointed_bytes / (double)step->measured_peak_bytes);
            (void)snprintf(text, sizeof text, "less than an attention kernel with per-layer checkpoints (%s)",
                           cli_bytes(b, step->checkpointed_bytes));
            figure(p, value, text);
        }
    }
    if (eval != NULL) {
        (void)snprintf(value, sizeof value, "%.3f", eval->loss * p->scale);
        (void)snprintf(text, sizeof text, "%s on held-out text", p->loss_name);
        figure(p, value, text);
    }
    if (r->metrics != NULL && r->metrics->step_count > 0) {
        const cli_point *last = &r->metrics->steps[r->metrics->step_count - 1];
        (void)snprintf(text, sizeof text, "of training: %s steps, %s tokens", cli_thousands(a, last->step),
                       cli_thousands(b, last->tokens));
        figure(p, cli_seconds(value, last->seconds), text);
        if (step == NULL) {
            int64_t peak = 0;
            for (int64_t i = 0; i < r->metrics->step_count; i++)
                peak = r->metrics->steps[i].rss_bytes > peak ? r->metrics->steps[i].rss_bytes : peak;
            (void)snprintf(text, sizeof text, "most memory seen; planned %s", cli_bytes(a, last->planned_peak_bytes));
            figure(p, cli_bytes(value, peak), text);
        }
    }
    cli_append(p->out, "</div>\n");
}

/* ---- pictures ----------------------------------------------------------------------------------------------- */

typedef struct series {
    double *x, *y, *z;
} series;

static series series_make(int64_t count)
{
    size_t n = count > 0 ? (size_t)count : 1;
    return (series){cli_resize(NULL, n, sizeof(double)), cli_resize(NULL, n, sizeof(double)),
                    cli_resize(NULL, n, sizeof(double))};
}

static void series_clear(series *s)
{
    cli_free(s->x);
    cli_free(s->y);
    cli_free(s->z);
}

static void loss_marks(page *p, cli_plot *plot)
{
    const cli_metrics *m = p->report->metrics;
    for (int64_t i = 1; i < m->step_count; i++) {
        if (m->steps[i].context != m->steps[i - 1].context) {
            char text[CLI_UNIT];
            cli_plot_mark(plot, (double)m->steps[i].step, cli_count(text, m->steps[i].context));
        }
    }
}

static void loss_evals(page *p, cli_plot *plot)
{
    const cli_metrics *m = p->report->metrics;
    series e = series_make(m->eval_count);
    char **tips = cli_resize(NULL, (size_t)(m->eval_count > 0 ? m->eval_count : 1), sizeof *tips);
    for (int64_t i = 0; i < m->eval_count; i++) {
        cli_string tip = {NULL, 0, 0};
        e.x[i] = (double)m->evals[i].step;
        e.y[i] = m->evals[i].loss * p->scale;
        cli_appendf(&tip, "step %" PRId64 ": held-out %.4f", m->evals[i].step, e.y[i]);
        tips[i] = tip.text;
    }
    cli_plot_line(plot, "b", e.x, e.y, m->eval_count);
    cli_plot_points(plot, "b", e.x, e.y, tips, m->eval_count);
    if (m->eval_count > 0) {
        int64_t last = m->eval_count - 1;
        char text[64];
        (void)snprintf(text, sizeof text, "held-out %.3f", e.y[last]);
        cli_plot_label(plot, "b", e.x[last], e.y[last], -4, -12, "end", text);
    }
    for (int64_t i = 0; i < m->eval_count; i++)
        cli_free(tips[i]);
    cli_free(tips);
    series_clear(&e);
}

/* Upper end of the loss axis: the first losses of a fresh model would flatten the rest, so it is the loss after a
 * twentieth of the run and some room; what is above leaves the picture at its top. */
static double loss_ceiling(const series *s, int64_t count)
{
    double ceiling = 0.0;
    for (int64_t i = count / 20; i < count; i++)
        ceiling = s->z[i] > ceiling ? s->z[i] : ceiling;
    return ceiling * 1.04;
}

static void picture_loss(page *p)
{
    const cli_metrics *m = p->report->metrics;
    if (m == NULL || m->step_count < 2)
        return;
    series s = series_make(m->step_count);
    double low = HUGE_VAL;
    cli_metrics_smooth(m, m->step_count / 60, s.z);
    for (int64_t i = 0; i < m->step_count; i++) {
        s.x[i] = (double)m->steps[i].step;
        s.y[i] = m->steps[i].loss * p->scale;
        s.z[i] *= p->scale;
        low = isfinite(s.y[i]) && s.y[i] < low ? s.y[i] : low;
    }
    for (int64_t i = 0; i < m->eval_count; i++)
        low = m->evals[i].loss * p->scale < low ? m->evals[i].loss * p->scale : low;
    double high = loss_ceiling(&s, m->step_count);
    for (int64_t i = 0; i < m->step_count; i++) {
        s.y[i] = s.y[i] > high ? (double)NAN : s.y[i];
        s.z[i] = s.z[i] > high ? (double)NAN : s.z[i];
    }
    section(p, "Loss",
            "Training loss of each step (thin), its running mean, and the loss on held-out text. Dotted lines "
            "are changes of the context.");
    cli_plot plot;
    cli_plot_begin(&plot, p->out, "loss", "Loss against step", "Training and held-out loss fall as training goes on.",
                   (cli_axis){0.0, s.x[m->step_count - 1], false, CLI_UNIT_COUNT, "step"},
                   (cli_axis){low * 0.98, high, false, CLI_UNIT_PLAIN, p->loss_name});
    loss_marks(p, &plot);
    cli_plot_line(&plot, "faint", s.x, s.y, m->step_count);
    cli_plot_line(&plot, "a", s.x, s.z, m->step_count);
    loss_evals(p, &plot);
    cli_plot_end(&plot);
    section_end(p);
    series_clear(&s);
}

static void picture_memory(page *p, const char *id, const char *title, const char *text, const double *seconds,
                           const double *bytes, int64_t count, int64_t planned, int64_t limit)
{
    char a[CLI_UNIT], label[CLI_TWO_UNITS];
    double high = (double)(planned > limit ? planned : limit);
    for (int64_t i = 0; i < count; i++)
        high = bytes[i] > high ? bytes[i] : high;
    section(p, title, text);
    cli_plot plot;
    cli_plot_begin(&plot, p->out, id, title, "Resident memory over time stays under the planned peak.",
                   (cli_axis){0.0, seconds[count - 1], false, CLI_UNIT_SECONDS, "time"},
                   (cli_axis){0.0, high * 1.04, false, CLI_UNIT_BYTES, "resident memory"});
    cli_plot_area(&plot, "a", seconds, bytes, count);
    cli_plot_line(&plot, "a", seconds, bytes, count);
    (void)snprintf(label, sizeof label, "planned peak %s", cli_bytes(a, planned));
    /* below its line where the limit's line would run through it */
    bool close = limit > planned && (double)(limit - planned) < 0.1 * plot.y.high;
    cli_plot_level(&plot, "plan", (double)planned, label, !close);
    if (limit > 0) {
        (void)snprintf(label, sizeof label, "limit %s", cli_bytes(a, limit));
        cli_plot_level(&plot, "limit", (double)limit, label, (double)limit < 0.93 * plot.y.high);
    }
    cli_plot_label(&plot, "a", seconds[count / 2], 0.0, 0, -14, "middle", "measured");
    cli_plot_end(&plot);
    section_end(p);
}

static void picture_memory_training(page *p)
{
    const cli_metrics *m = p->report->metrics;
    if (m == NULL || m->step_count < 2)
        return;
    series s = series_make(m->step_count);
    int64_t planned = 0;
    for (int64_t i = 0; i < m->step_count; i++) {
        s.x[i] = m->steps[i].seconds;
        s.y[i] = (double)m->steps[i].rss_bytes;
        planned = m->steps[i].planned_peak_bytes > planned ? m->steps[i].planned_peak_bytes : planned;
    }
    picture_memory(p, "memory", "Memory while training",
                   "Resident memory of the process after each step, and its planned "
                   "peak.",
                   s.x, s.y, m->step_count, planned, 0);
    series_clear(&s);
}

static void picture_seconds(page *p)
{
    const cli_report *r = p->report;
    if (r->row_count < 2)
        return;
    series s = series_make(r->row_count), t = series_make(r->step_count);
    double low = HUGE_VAL, high = 0.0;
    for (int i = 0; i < r->row_count; i++) {
        s.x[i] = (double)r->rows[i].tokens;
        s.y[i] = r->rows[i].plan.seconds;
    }
    char **tips = cli_resize(NULL, (size_t)(r->step_count > 0 ? r->step_count : 1), sizeof *tips);
    for (int i = 0; i < r->step_count; i++) {
        cli_string tip = {NULL, 0, 0};
        char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
        t.x[i] = (double)r->steps[i].tokens;
        t.y[i] = r->steps[i].seconds;
        cli_appendf(&tip, "%s: measured %s, predicted %s", cli_count(a, r->steps[i].tokens),
                    cli_seconds(b, r->steps[i].seconds), cli_seconds(c, r->steps[i].planned_seconds));
        tips[i] = tip.text;
        low = t.y[i] > 0.0 && t.y[i] < low ? t.y[i] : low;
        high = t.y[i] > high ? t.y[i] : high;
    }
    for (int i = 0; i < r->row_count; i++) {
        low = s.y[i] > 0.0 && s.y[i] < low ? s.y[i] : low;
        high = s.y[i] > high ? s.y[i] : high;
    }
    section(p, "Seconds of one step against its length",
            r->step_count > 0 ? "Predicted before the run (line) and measured (points), both axes logarithmic. Exact "
                                "attention grows with the square of the length, everything else with the length."
                              : "Predicted before the run, both axes logarithmic.");
    cli_plot plot;
    cli_plot_begin(
        &plot, p->out, "seconds", "Seconds of one step against tokens in one document",
        "Seconds rise with the length; measured points lie near the predicted line.",
        (cli_axis){s.x[0] * 0.9, s.x[r->row_count - 1] * 1.1, true, CLI_UNIT_TOKENS, "tokens in one document"},
        (cli_axis){low * 0.7, high * 1.5, true, CLI_UNIT_SECONDS, "one optimizer step"});
    cli_plot_line(&plot, "c", s.x, s.y, r->row_count);
    int middle = r->row_count * 3 / 4;
    cli_plot_label(&plot, "c", s.x[middle], s.y[middle], -10, -6, "end", "predicted");
    cli_plot_points(&plot, "b", t.x, t.y, tips, r->step_count);
    if (r->step_count > 0)
        cli_plot_label(&plot, "b", t.x[r->step_count - 1], t.y[r->step_count - 1], 10, 14, "start", "measured");
    cli_plot_end(&plot);
    section_end(p);
    for (int i = 0; i < r->step_count; i++)
        cli_free(tips[i]);
    cli_free(tips);
    series_clear(&s);
    series_clear(&t);
}

static void picture_positions(page *p)
{
    const fur_eval_result *result = p->report->positions;
    char *labels[FUR_POSITION_BUCKETS];
    double values[FUR_POSITION_BUCKETS];
    int count = 0, bucket = 0;
    if (result == NULL)
        return;
    for (int i = 0; i < result->buckets; i++) {
        char name[CLI_TWO_UNITS];
        if (result->bucket_tokens[i] == 0)
            continue;
        cli_bucket_name(name, result, i);
        labels[count] = cli_copy(name);
        values[count++] = result->bucket_loss[i] * p->scale;
    }
    if (count > 0) {
        section(p, "Loss by position",
                cli_loss_rises(result, &bucket)
                    ? "The loss rises with distance somewhere: a longer context does not help "
                      "this model everywhere yet."
                    : "The loss falls with distance: every further stretch of context helps.");
        cli_plot_bars(p->out, "positions", "Loss by position in the document",
                      "One bar for each range of positions, held-out text.", p->loss_name, labels, values, 3, count);
        section_end(p);
    }
    for (int i = 0; i < count; i++)
        cli_free(labels[i]);
}

static void picture_headline(page *p)
{
    const cli_report *r = p->report;
    const cli_long_step *step = headline(r);
    if (step == NULL)
        return;
    char title[128], text[256], a[CLI_UNIT], b[CLI_UNIT];
    cli_append(p->out, "<div class=\"grid\">\n");
    if (r->trace != NULL && r->trace->count > 1) {
        (void)snprintf(title, sizeof title, "Memory of the step over %s %s", cli_thousands(a, step->tokens),
                       r->bytes ? "bytes" : "tokens");
        (void)snprintf(text, sizeof text, "A process of its own that may not allocate more than %s.",
                       cli_bytes(a, step->limit_bytes));
        picture_memory(p, "step-memory", title, text, r->trace->seconds, r->trace->bytes, r->trace->count,
                       step->planned_peak_bytes, step->limit_bytes);
    }
    if (step->plain_bytes > 0) {
        static const char *const styles[] = {"a", "b", "c", "other", "other"};
        char *labels[5] = {cli_copy("Furlong, measured"), cli_copy("Furlong, planned"),
                           cli_copy("Furlong, were memory short: nothing kept, more computed again"),
                           cli_copy("attention kernel, per-layer checkpoints (PyTorch's way)"),
                           cli_copy("plain attention, everything saved")};
        double bytes[5] = {(double)step->measured_peak_bytes, (double)step->planned_peak_bytes,
                           (double)step->least_bytes, (double)step->checkpointed_bytes, (double)step->plain_bytes};
        section(p, "What the same step needs elsewhere",
                "By the same arithmetic, without the process itself. Logarithmic: each doubling is the same length.");
        cli_plot_byte_bars(p->out, "others", "Peak memory of one step",
                           "Bars of peak bytes: Furlong measured, planned and at least, then the others.", labels,
                           bytes, styles, 5);
        section_end(p);
        for (int i = 0; i < 5; i++)
            cli_free(labels[i]);
    }
    cli_append(p->out, "</div>\n");
    (void)b;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static void table_plan(page *p)
{
    const cli_report *r = p->report;
    if (r->row_count == 0)
        return;
    char limit[CLI_TWO_UNITS] = "", a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT], e[CLI_UNIT], f[CLI_UNIT];
    if (r->row_limit_bytes > 0)
        (void)snprintf(limit, sizeof limit, "in %s", cli_bytes(a, r->row_limit_bytes));
    section(p, "The plan",
            "One training step over one document, before anything runs. Where memory allows, more is kept and "
            "less computed again; \"at least\" is with nothing kept. Checkpointed is an attention kernel "
            "with per-layer checkpoints and full logits (PyTorch's way).");
    table(p, (const char *const[]){"tokens", "peak memory", "one step", "at least", "checkpointed", "plain attention",
                                   limit, NULL});
    for (int i = 0; i < r->row_count; i++) {
        const cli_plan_row *row = &r->rows[i];
        cli_append(p->out, "<tr>");
        cell(p, false, "", cli_count(a, row->tokens));
        cell(p, false, "", cli_bytes(b, row->plan.peak_bytes));
        cell(p, false, "", cli_seconds(c, row->plan.seconds));
        cell(p, false, "", cli_bytes(f, row->least_bytes));
        cell(p, false, "", cli_bytes(d, row->checkpointed_bytes));
        cell(p, false, "", cli_bytes(e, row->plain_bytes));
        cell(p, false, row->plan.fits ? "yes" : "no",
             r->row_limit_bytes <= 0 ? ""
             : row->plan.fits        ? "fits"
                                     : "does not fit");
        cli_append(p->out, "</tr>\n");
    }
    table_end(p);
    section_end(p);
}

static void table_steps(page *p)
{
    const cli_report *r = p->report;
    if (r->step_count == 0)
        return;
    section(p, "Steps measured",
            "Each in a process of its own: peak resident memory as the system counted it (VmHWM).");
    table(p, (const char *const[]){"tokens", "planned peak", "measured peak", "plan / measured", "predicted",
                                   "measured", NULL});
    for (int i = 0; i < r->step_count; i++) {
        const cli_long_step *s = &r->steps[i];
        char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT], e[CLI_UNIT], ratio[CLI_UNIT];
        (void)snprintf(ratio, sizeof ratio, "%.3f",
                       s->measured_peak_bytes > 0 ? (double)s->planned_peak_bytes / (double)s->measured_peak_bytes
                                                  : (double)NAN);
        cells(p, false,
              (const char *const[]){cli_thousands(a, s->tokens), cli_bytes(b, s->planned_peak_bytes),
                                    cli_bytes(c, s->measured_peak_bytes), ratio, cli_seconds(d, s->planned_seconds),
                                    cli_seconds(e, s->seconds), NULL});
    }
    table_end(p);
    section_end(p);
}

static void table_evals(page *p)
{
    const cli_metrics *m = p->report->metrics;
    if (m == NULL || m->eval_count == 0)
        return;
    section(p, "Held-out loss", NULL);
    table(p, (const char *const[]){"step", "tokens", "context", "time", "nats per token",
                                   p->report->bytes ? "bits per byte" : "perplexity", NULL});
    int64_t stride = (m->eval_count + 11) / 12;
    for (int64_t i = (m->eval_count - 1) % stride; i < m->eval_count; i += stride) {
        const cli_point *e = &m->evals[i];
        char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT], nats[CLI_UNIT], other[CLI_UNIT];
        (void)snprintf(nats, sizeof nats, "%.4f", e->loss);
        (void)snprintf(other, sizeof other, "%.4f", p->report->bytes ? e->loss / ln2 : exp(e->loss));
        cells(p, false,
              (const char *const[]){cli_thousands(a, e->step), cli_thousands(b, e->tokens), cli_count(c, e->context),
                                    cli_seconds(d, e->seconds), nats, other, NULL});
    }
    table_end(p);
    section_end(p);
}

static void table_errors(page *p)
{
    const cli_metrics *m = p->report->metrics;
    enum { MOST = 24 };
    if (m == NULL || m->error_count == 0)
        return;
    char text[256];
    (void)snprintf(text, sizeof text,
                   "Almost-linear heads against exact attention, after step %" PRId64
                   ": shares of the exact value over sampled tokens, with the interval that holds that of all with "
                   "95 %% confidence; dk and dv with the run's own normalisers. Largest first%s.",
                   m->error_step, m->error_count > MOST ? ", 24 of them" : "");
    fur_head_error *sorted = cli_head_errors_sorted(m->errors, m->error_count);
    section(p, "The error of attention", text);
    table(p, (const char *const[]){"layer", "head", "output", "dq", "dk", "dv", "far share", "certified", NULL});
    for (int64_t i = 0; i < m->error_count && i < MOST; i++) {
        const fur_head_error *e = &sorted[i];
        char layer[CLI_UNIT], head_number[CLI_UNIT], o[CLI_TWO_UNITS], dq[CLI_TWO_UNITS], dk[CLI_TWO_UNITS],
            dv[CLI_TWO_UNITS], share[CLI_UNIT], certified[CLI_UNIT];
        (void)snprintf(layer, sizeof layer, "%" PRId64, e->layer);
        (void)snprintf(head_number, sizeof head_number, "%" PRId64 "%s", e->head, e->exact ? " (exact)" : "");
        (void)snprintf(share, sizeof share, "%.2f", e->far_share);
        (void)snprintf(certified, sizeof certified, e->certificate < 1 ? "%.1e" : "nothing", e->certificate);
        cli_sampled_error(o, &e->o);
        cli_sampled_error(dq, &e->dq);
        cli_sampled_error(dk, &e->dk);
        cli_sampled_error(dv, &e->dv);
        cells(p, false, (const char *const[]){layer, head_number, o, dq, dk, dv, share, certified, NULL});
    }
    table_end(p);
    section_end(p);
    cli_free(sorted);
}

static void table_machine(page *p)
{
    const cli_report *r = p->report;
    const fur_machine *m = r->machine;
    if (m == NULL)
        return;
    char a[CLI_UNIT], b[CLI_UNIT], text[128];
    section(p, "Machine and model", NULL);
    table(p, (const char *const[]){"", "", NULL});
    cells(p, false, (const char *const[]){"processor", m->cpu_name, NULL});
    (void)snprintf(text, sizeof text, "%d, instruction set %s", m->cores, m->isa);
    cells(p, false, (const char *const[]){"cores", text, NULL});
    (void)snprintf(text, sizeof text, "%s, %s available", cli_bytes(a, m->memory_total),
                   cli_bytes(b, m->memory_available));
    cells(p, false, (const char *const[]){"memory", text, NULL});
    if (r->gflops > 0.0) {
        (void)snprintf(text, sizeof text, "%.0f GFLOP/s measured, f32", r->gflops);
        cells(p, false, (const char *const[]){"speed", text, NULL});
    }
    if (r->model != NULL)
        cells(p, false, (const char *const[]){"model", r->model, NULL});
    cells(p, false, (const char *const[]){"furlong", fur_version(), NULL});
    table_end(p);
    section_end(p);
}

static void samples(page *p)
{
    const cli_report *r = p->report;
    if (r->sample_count == 0)
        return;
    section(p, "Samples", "The prompt in bold; temperature 0.8.");
    cli_append(p->out, "<div class=\"grid\">");
    for (int i = 0; i < r->sample_count; i++) {
        cli_string clean = {NULL, 0, 0};
        cli_append(p->out, "<blockquote><b>");
        cli_append_html(p->out, r->samples[i].prompt);
        cli_append(p->out, "</b>");
        cli_append_utf8(&clean, r->samples[i].text, strlen(r->samples[i].text));
        cli_append_html(p->out, clean.text);
        cli_append(p->out, "</blockquote>\n");
        cli_string_clear(&clean);
    }
    cli_append(p->out, "</div>");
    section_end(p);
}

static void head(page *p)
{
    const cli_report *r = p->report;
    cli_append(p->out, "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
                       "content=\"width=device-width,initial-scale=1\">\n<title>");
    cli_append_html(p->out, r->title);
    cli_append(p->out, "</title>\n<style>\n");
    cli_append(p->out, report_style);
    /* the mark: rows of a field that meet at the horizon */
    cli_append(
        p->out,
        "</style></head>\n<body><main>\n<header><div class=\"mark\"><svg viewBox=\"0 0 30 22\" "
        "aria-hidden=\"true\"><path d=\"M2 21L13 3M9 21L14.300 3M15 21V3M21 21L15.700 3M28 21L17 3\" fill=\"none\" "
        "stroke=\"currentColor\" stroke-width=\"2\" stroke-linecap=\"round\"/></svg>Furlong</div>\n<h1>");
    cli_append_html(p->out, r->title);
    cli_append(p->out, "</h1>\n<p class=\"soft\">");
    cli_append_html(p->out, r->subtitle);
    cli_append(p->out, "</p></header>\n");
}

void cli_report_write(cli_string *out, const cli_report *report)
{
    page p = {out, report, report->bytes ? 1.0 / ln2 : 1.0, report->bytes ? "bits per byte" : "nats per token"};
    head(&p);
    figures(&p);
    picture_headline(&p);
    cli_append(out, "<div class=\"grid\">\n");
    picture_loss(&p);
    picture_memory_training(&p);
    picture_seconds(&p);
    picture_positions(&p);
    cli_append(out, "</div>\n");
    samples(&p);
    table_plan(&p);
    table_steps(&p);
    table_evals(&p);
    table_errors(&p);
    table_machine(&p);
    if (report->commands != NULL) {
        section(&p, "Next", NULL);
        cli_append(out, "<pre>");
        cli_append_html(out, report->commands);
        cli_append(out, "</pre>");
        section_end(&p);
    }
    cli_append(out, "<footer>Every figure here is also in metrics.jsonl and run.json beside this page.</footer>\n"
                    "</main></body></html>\n");
}
