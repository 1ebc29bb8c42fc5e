/* SPDX-License-Identifier: Apache-2.0 */
/* furlong fit-attention: attention regression. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fit_model.h"
#include "plot.h"
#include "verb.h"

static const char *const routes[] = {"auto", "dense", "stored", "matrix-free"};
static const char *const methods[] = {"gauss-newton", "newton", "sketched-newton", "linear"};
static const char *const sketches[] = {"uniform", "leverage", "count"};
static const char *const phases[FUR_FIT_PHASES] = {"whitening", "loss", "gradient", "curvature", "solving"};

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static json_t *starts_json(const fur_fit_result *r)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < r->start_count; i++) {
        json_t *one = json_object();
        cli_json_real(one, "loss", r->starts[i].loss);
        cli_json_int(one, "steps", r->starts[i].steps);
        cli_json_text(one, "end", fur_fit_end_name(r->starts[i].end));
        cli_json_bool(one, "given", r->starts[i].given);
        cli_json_bool(one, "kept", r->starts[i].kept);
        (void)json_array_append_new(list, one);
    }
    return list;
}

static json_t *history_json(const fur_fit_result *r)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < r->history_count; i++) {
        const fur_fit_step *s = &r->history[i];
        json_t *one = json_object();
        cli_json_int(one, "step", s->step);
        cli_json_real(one, "loss", s->loss);
        cli_json_real(one, "gradient", s->gradient);
        cli_json_real(one, "damping", s->damping);
        cli_json_real(one, "gain", s->gain);
        cli_json_int(one, "products", s->products);
        cli_json_int(one, "rejected", s->rejected);
        cli_json_int(one, "evaluations", s->evaluations);
        cli_json_real(one, "contraction", s->contraction);
        cli_json_real(one, "seconds", s->seconds);
        (void)json_array_append_new(list, one);
    }
    return list;
}

static void data_json(json_t *object, const fur_fit_result *r)
{
    cli_json_int(object, "rows", r->rows);
    cli_json_int(object, "held_out_rows", r->held_out_rows);
    cli_json_text(object, "held_out",
                  r->held_out_rows == 0   ? "nothing"
                  : r->held_out_sequences ? "sequences"
                                          : "last rows");
    cli_json_int(object, "sequences", r->sequences);
    cli_json_int(object, "pairs", r->pairs);
    cli_json_text(object, "mask", r->mask);
    cli_json_text(object, "type", r->type);
    cli_json_int(object, "d1", r->d1);
    cli_json_int(object, "d2", r->d2);
    cli_json_int(object, "d3", r->d3);
    cli_json_int(object, "dv", r->dv);
    cli_json_int(object, "kept_d1", r->kept1);
    cli_json_int(object, "kept_d2", r->kept2);
    cli_json_int(object, "kept_d3", r->kept3);
    cli_json_real(object, "cut", r->cut);
    cli_json_real(object, "condition_a1", r->condition1);
    cli_json_real(object, "condition_a2", r->condition2);
    cli_json_int(object, "equations", r->equations);
    cli_json_int(object, "unknowns", r->unknowns);
}

static void print_json(const cli_session *session, const fur_fit_result *r)
{
    json_t *object = json_object(), *seconds = json_object(), *spectrum = json_array();
    data_json(object, r);
    cli_json_text(object, "method", session->options->method);
    cli_json_text(object, "route", r->linear ? "closed-form" : routes[r->route]);
    cli_json_int(object, "heads", r->heads);
    cli_json_text(object, "end", fur_fit_end_name(r->end));
    cli_json_real(object, "target_loss", r->target_loss);
    cli_json_real(object, "loss", r->loss);
    cli_json_real(object, "held_out_loss", r->held_out_loss);
    cli_json_real(object, "r2", r->r2);
    cli_json_real(object, "largest_error", r->largest_error);
    cli_json_real(object, "tolerance", r->tolerance);
    cli_json_real(object, "gradient", r->gradient);
    cli_json_real(object, "first_gradient", r->first_gradient);
    cli_json_real(object, "logit_max", r->logit_max);
    cli_json_real(object, "logit_rms", r->logit_rms);
    cli_json_real(object, "ridge", r->ridge);
    if (r->linear)
        cli_json_real(object, "lower_bound", r->lower_bound);
    cli_json_int(object, "rank", r->rank);
    cli_json_real(object, "captured", r->captured);
    cli_json_real(object, "loss_before_rank", r->loss_before_rank);
    cli_json_real(object, "held_out_before_rank", r->held_out_before_rank);
    cli_json_real(object, "held_out_plain_svd", r->held_out_plain);
    cli_json_int(object, "polish_steps", r->polish_steps);
    for (int64_t i = 0; i < r->spectrum_count; i++)
        (void)json_array_append_new(spectrum, json_real(r->spectrum[i]));
    (void)json_object_set_new(object, "spectrum", spectrum);
    cli_json_int(object, "steps", r->steps);
    cli_json_int(object, "products", r->products);
    cli_json_int(object, "rejected", r->rejected);
    cli_json_int(object, "evaluations", r->evaluations);
    (void)json_object_set_new(object, "starts", starts_json(r));
    cli_json_real(object, "spread", r->spread);
    cli_json_bool(object, "identified", !r->not_identified);
    (void)json_object_set_new(object, "history", history_json(r));
    for (int i = 0; i < FUR_FIT_PHASES; i++)
        cli_json_real(seconds, phases[i], r->phase_seconds[i]);
    (void)json_object_set_new(object, "phase_seconds", seconds);
    cli_json_real(object, "seconds", r->seconds);
    cli_json_int(object, "input_bytes", r->input_bytes);
    cli_json_int(object, "planned_peak_bytes", r->planned_peak_bytes);
    cli_json_int(object, "peak_rss_bytes", r->peak_rss_bytes);
    cli_json_int(object, "seed", session->options->seed);
    cli_json_print(stdout, object);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void print_starts(const fur_fit_result *r, const cli_style *style)
{
    cli_table table;
    cli_table_init(&table, "lrrl", "start", "loss", "steps", "end");
    for (int64_t i = 0; i < r->start_count; i++) {
        char name[CLI_UNIT], loss[CLI_UNIT], steps[CLI_UNIT];
        (void)snprintf(name, sizeof name, "%s%s", r->starts[i].given ? "given" : "random",
                       r->starts[i].kept ? ", kept" : "");
        (void)snprintf(loss, sizeof loss, "%.2e", r->starts[i].loss);
        cli_table_row(&table, name, loss, cli_thousands(steps, r->starts[i].steps), fur_fit_end_name(r->starts[i].end));
    }
    cli_table_print(&table, stdout, style);
    cli_table_clear(&table);
}

static void print_text(const cli_session *session, const fur_fit_result *r)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    const cli_style *style = &session->out;
    printf("%s rows of %s sequences, mask %s, %s; %s equations for %s unknowns\n", cli_thousands(a, r->rows),
           cli_thousands(b, r->sequences), r->mask, r->type, cli_thousands(c, r->equations),
           cli_thousands((char[CLI_UNIT]){0}, r->unknowns));
    if (r->kept1 < r->d1 || r->kept2 < r->d2 || r->kept3 < r->d3)
        printf("inputs have rank %" PRId64 " of %" PRId64 ", keys %" PRId64 " of %" PRId64 ", values %" PRId64
               " of %" PRId64 "; the rest is below %.1e\n",
               r->kept1, r->d1, r->kept2, r->d2, r->kept3, r->d3, r->cut);
    if (r->equations < 2 * r->unknowns)
        printf("few equations for so many unknowns: the fit may follow noise\n");
    print_starts(r, style);
    printf("%sloss %.3e%s of that of predicting the mean, held out ", style->bold, r->loss, style->off);
    if (r->held_out_rows > 0)
        printf("%.3e over %s rows (%s)\n", r->held_out_loss, cli_thousands(a, r->held_out_rows),
               r->held_out_sequences ? "whole sequences" : "the last ones");
    else
        printf("nothing\n");
    if (isfinite(r->held_out_plain))
        printf("rank %" PRId64 " keeps %.2f %% of the logits' mean square; held out %.3e at full rank, %.3e with plain "
               "singular values cut\n",
               r->rank, 100 * r->captured, r->held_out_before_rank, r->held_out_plain);
    printf("largest error %.3e; logits up to %.2f, rms %.2f", r->largest_error, r->logit_max, r->logit_rms);
    if (r->ridge > 0)
        printf("; ridge %.2e", r->ridge);
    if (r->linear)
        printf("; no sum of heads is below %.3e", r->lower_bound);
    printf("\n");
    if (r->not_identified)
        printf(
            "%snot identified%s: in one sequence without a mask different X give the same output; the starts above end "
            "up to %.3g times apart. Give several sequences, or --causal where that is true\n",
            style->bad, style->off, r->spread);
    else if (r->start_count > 1 && r->spread > 1.01)
        printf("starts end up to %.3g times apart: some are in minima of their own\n", r->spread);
    cli_say(session, "%s in %" PRId64 " steps (%s), %" PRId64 " products; %s; peak memory %s, planned %s",
            fur_fit_end_name(r->end), r->steps, r->linear ? "closed form" : routes[r->route], r->products,
            cli_seconds(a, r->seconds), cli_bytes(b, r->peak_rss_bytes), cli_bytes(c, r->planned_peak_bytes));
}

/* ---- the picture ---------------------------------------------------------------------------------------------------
 */

static int write_picture(const cli_session *session, const fur_fit_result *r)
{
    const char *path = session->options->picture;
    int64_t n = r->history_count;
    if (path == NULL || n < 1)
        return CLI_OK;
    double *x = cli_resize(NULL, (size_t)n, sizeof *x), *y = cli_resize(NULL, (size_t)n, sizeof *y), low = 1, high = 1;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (double)i;
        y[i] = r->history[i].loss > 1e-30 ? r->history[i].loss : 1e-30;
        low = y[i] < low ? y[i] : low;
        high = y[i] > high ? y[i] : high;
    }
    cli_plot plot;
    cli_string svg = {NULL, 0, 0};
    cli_axis steps = {0, (double)(n > 1 ? n - 1 : 1), false, CLI_UNIT_COUNT, "step"};
    cli_axis loss = {pow(10, floor(log10(low))), pow(10, ceil(log10(high))), true, CLI_UNIT_POWER, "relative loss"};
    if (!(loss.low < loss.high))
        loss.low = loss.high / 10;
    cli_plot_begin(&plot, &svg, "fit", "Loss of every step", "Relative loss on a logarithmic axis, by step", steps,
                   loss);
    cli_plot_line(&plot, "a", x, y, n);
    cli_plot_points(&plot, "a", x, y, NULL, n);
    cli_plot_end(&plot);
    cli_plot_alone(&svg);
    bool written = cli_file_write(path, svg.text, svg.length);
    cli_string_clear(&svg);
    cli_free(x);
    cli_free(y);
    return written ? CLI_OK : cli_refuse(session, CLI_FAILED, "--picture: %s cannot be written", path);
}

/* ---- the verb ------------------------------------------------------------------------------------------------------
 */

static void on_step(void *user, const fur_fit_step *s)
{
    const cli_session *session = user;
    const char *what = s->start < 0 ? "polish" : "start";
    char number[CLI_UNIT] = "";
    if (s->start >= 0)
        (void)snprintf(number, sizeof number, " %" PRId64, s->start + 1);
    if (s->step == 0)
        cli_say(session, "%s%s: loss %.3e", what, number, s->loss);
    else
        cli_say(session, "%s%s, step %" PRId64 ": loss %.3e, gradient %.1e, damping %.0e, %" PRId64 " products, %.2f s",
                what, number, s->step, s->loss, s->gradient, s->damping, s->products, s->seconds);
}

static int index_of(const char *word, const char *const *words, int count)
{
    int i = 0;
    while (i < count && strcmp(word, words[i]) != 0)
        i++;
    return i;
}

static int settings_of(const cli_session *session, fur_fit_settings *s)
{
    const cli_options *o = session->options;
    fur_fit_settings_defaults(s);
    s->causal = o->causal;
    s->heads = o->joint_heads;
    s->held_out = o->held_out;
    s->tolerance = cli_given(o, "tol") ? o->tolerance : -1;
    s->max_steps = o->fit_steps;
    s->max_seconds = o->max_seconds;
    s->starts = o->starts;
    s->ridge = o->ridge;
    s->continuation = o->continuation;
    s->max_logit = o->max_logit;
    s->rank = o->rank;
    s->factored = o->factored;
    s->method = (fur_fit_method)index_of(o->method, methods, 3);
    s->route = (fur_fit_route)index_of(o->route, routes, 3);
    s->sketch = (fur_fit_sketch)index_of(o->sketch, sketches, 2);
    s->curvature_rows = o->curvature_rows;
    s->curvature_f64 = strcmp(o->curvature, "f64") == 0;
    s->cut = o->cut;
    s->seed = (uint64_t)o->seed;
    s->on_step = on_step;
    s->user = (void *)(uintptr_t)session;
    return cli_memory_limit(session, &s->memory_bytes, NULL);
}

/* "16x256x64" */
static int plant(const cli_session *session, fur_fit_data **data)
{
    const cli_options *o = session->options;
    fur_fit_planted planted;
    int64_t sizes[3];
    const char *at = o->planted;
    fur_fit_planted_defaults(&planted);
    for (int i = 0; i < 3; i++) {
        char *end;
        sizes[i] = strtoll(at, &end, 10);
        if (end == at || sizes[i] < 1 || *end != (i < 2 ? 'x' : '\0'))
            return cli_refuse(session, CLI_USAGE, "--planted: '%s', expected SEQUENCESxROWSxWIDTH as 16x256x64",
                              o->planted);
        at = end + 1;
    }
    planted.sequences = sizes[0];
    planted.length = sizes[1];
    planted.width = sizes[2];
    planted.noise = o->noise;
    planted.spectrum = o->spectrum;
    planted.causal = o->causal;
    planted.seed = (uint64_t)o->seed;
    fur_status status = fur_fit_data_plant(session->context, &planted, data);
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

static int open_data(const cli_session *session, fur_fit_data **data)
{
    if (session->options->planted != NULL)
        return plant(session, data);
    fur_status status = fur_fit_data_open(session->context, session->options->input, data);
    return status == FUR_OK ? CLI_OK : cli_fail_input(session, status);
}

/* Shapes, counts and constant targets are the file's; its name is not in the library's text then. */
static int fail_fit(const cli_session *session, fur_status status)
{
    const char *name = session->options->planted != NULL ? session->options->planted : session->options->input;
    if (status == FUR_E_SHAPE)
        return cli_refuse(session, CLI_BAD_INPUT, "%s: %s", name, fur_context_error(session->context));
    return cli_fail(session, status);
}

static int finish(const cli_session *session, const fur_fit_result *r)
{
    int code = CLI_OK;
    if (session->options->output != NULL) {
        fur_status status = fur_fit_save(session->context, r, session->options->output);
        if (status != FUR_OK)
            return cli_fail(session, status);
    }
    code = cli_fit_install(session, r);
    if (code != CLI_OK)
        return code;
    code = write_picture(session, r);
    if (session->options->json)
        print_json(session, r);
    else
        print_text(session, r);
    if (code != CLI_OK || r->end == FUR_FIT_TOLERANCE || r->end == FUR_FIT_GRADIENT)
        return code;
    if (r->end == FUR_FIT_STOPPED)
        return cli_signal_code() != 0 ? cli_signal_code() : CLI_FAILED;
    return CLI_NOT_CONVERGED;
}

int verb_fit_attention(cli_session *session)
{
    const cli_options *o = session->options;
    fur_fit_data *data = NULL;
    fur_fit_settings settings;
    fur_fit_result result;
    if (o->capture && o->planted == NULL)
        return cli_fit_capture(session);
    if (o->capture && o->output == NULL)
        return cli_refuse(session, CLI_USAGE, "--capture: expected a file to write, such as -o head.safetensors");
    if ((o->input == NULL) == (o->planted == NULL))
        return cli_refuse(session, CLI_USAGE, "--input: expected a file, such as -i head.safetensors, or --planted");
    int code = cli_fit_check_install(session);
    if (code == CLI_OK)
        code = cli_session_open(session);
    if (code == CLI_OK)
        code = settings_of(session, &settings);
    if (code == CLI_OK)
        code = open_data(session, &data);
    if (code != CLI_OK)
        return code;
    fur_status status;
    if (o->capture) { /* the planted problem, for other programs */
        status = fur_fit_data_save(session->context, data, o->output);
        fur_fit_data_close(data);
        return status == FUR_OK ? CLI_OK : cli_fail(session, status);
    }
    status = fur_fit_run(session->context, data, &settings, &result);
    fur_fit_data_close(data);
    if (status != FUR_OK)
        return fail_fit(session, status);
    code = finish(session, &result);
    fur_fit_result_clear(&result);
    return code;
}
