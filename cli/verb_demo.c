/* SPDX-License-Identifier: Apache-2.0 */
/* furlong demo: the machine and what fits, two minutes of training, two samples, one long step, a report. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "demo.h"
#include "train_setup.h"
#include "verb.h"
#include "watch.h"

/* ---- what was found by trial, in one place ------------------------------------------------------------------ */

/* A stretch of the run: documents of `context` bytes in rows of `row`, from this share of the steps on. */
typedef struct stretch {
    double from;
    int64_t context, row;
} stretch;

#define STRETCHES 3

static const struct {
    const char *preset;
    stretch stretches[STRETCHES];

    double lr, min_lr, weight_decay, grad_clip;
    double warmup;        /* share of the steps */
    int64_t evaluations;  /* over the run */
    int64_t eval_tokens;  /* of each, at most */
    int64_t memory_bytes; /* of the long step */
    double temperature;
    int64_t sample_bytes;
} recipe = {
    .preset = "bytes-1m",
    /* Small rows: most steps from the seconds there are; the last stretch, two fifths of the seconds, teaches it that
     * far is like near. A dozen steps over 16,384 bytes more, which is all that the seconds allow, cost 0.1 bits per
     * byte and left the bytes past 8,192 as good as near ones or 0.003 worse, by the seed. */
    .stretches = {{0.0, 512, 2048}, {0.85, 2048, 4096}, {0.94, 8192, 8192}},
    .lr = 6e-3,
    .min_lr = 1.2e-3, /* the long contexts come last and must still be learnt */
    .weight_decay = 0.1,
    .grad_clip = 1.0,
    .warmup = 0.05,
    .evaluations = 8,
    .eval_tokens = 65536,
    .memory_bytes = (int64_t)512 << 20,
    .temperature = 0.8,
    .sample_bytes = 320,
};

/* What --quick changes. */
typedef struct pace {
    double train_seconds;
    int64_t longest;         /* of the long step, at most */
    double longest_seconds;  /* that the plan may give it */
    int64_t position_tokens; /* evaluated for the loss by position */
} pace;
static const pace full_pace = {120.0, 65536, 150.0, 131072};
static const pace quick_pace = {30.0, 8192, 150.0, 65536};

/* ---- the parts ---------------------------------------------------------------------------------------------- */

typedef struct demo {
    cli_session *session;
    pace pace;
    char *folder;
    fur_machine machine;
    fur_bench_result peak;
    fur_model_config config;
    cli_plan_row rows[CLI_PLAN_ROWS];
    demo_text text;
    fur_corpus *train, *held_out;
    fur_train_settings settings;
    fur_train_result trained;
    fur_context_phase phases[STRETCHES];
    int phase_count;
    cli_watch watch;
    cli_sample samples[DEMO_PROMPTS];
    cli_string sample_texts[DEMO_PROMPTS];
    cli_long_step steps[CLI_PLAN_ROWS];
    int step_count;
    cli_trace trace;
    fur_eval_result positions;
    bool has_positions;
    cli_string commands;
    double started;
} demo;

static void heading(const demo *d, int number, const char *text)
{
    const cli_style *style = &d->session->err;
    cli_say(d->session, "\n%s%d. %s%s", style->bold, number, text, style->off);
}

/* Tables go to stderr with everything else for people: stdout has the JSON object, or the path of the report. */
static int show_machine(demo *d)
{
    cli_session *session = d->session;
    char a[CLI_UNIT], b[CLI_UNIT];
    fur_plan_request request;
    fur_status status = fur_machine_read(session->context, &d->machine);
    if (status == FUR_OK)
        status = fur_bench_peak(session->context, &d->peak);
    if (status == FUR_OK)
        status = fur_config_preset(session->context, recipe.preset, 0, &d->config);
    if (status != FUR_OK)
        return cli_fail(session, status);
    heading(d, 1, "This machine, and what fits");
    cli_say(session, "  %s, %d cores, %s, %s of memory available", d->machine.cpu_name, d->machine.cores,
            d->machine.isa, cli_bytes(a, d->machine.memory_available));
    cli_say(session, "  %.0f GFLOP/s measured in f32 with %d threads", d->peak.peak_gflops,
            fur_context_threads(session->context));
    cli_string line = {NULL, 0, 0};
    cli_config_line(&line, &d->config);
    cli_say(session, "  %s", line.text);
    cli_string_clear(&line);
    fur_plan_request_defaults(&request);
    request.memory_bytes = recipe.memory_bytes;
    request.data_bytes = d->text.train;
    int code = cli_plan_rows_make(session, &d->config, &request, d->rows);
    if (code != CLI_OK)
        return code;
    cli_say(session,
            "  one training step over one document, planned in %s where it fits:", cli_bytes(b, recipe.memory_bytes));
    cli_plan_rows_print(d->rows, CLI_PLAN_ROWS, recipe.memory_bytes, stderr, &session->err);
    return CLI_OK;
}

/* ---- calibration and training ------------------------------------------------------------------------------- */

/* Seconds of one step of a phase: the faster of two, after one that warms up. */
static int time_step(demo *d, fur_run *run, const fur_context_phase *phase, double *seconds)
{
    int64_t count = phase->row_tokens / phase->context, tokens = count * phase->context;
    int64_t *offsets = cli_resize(NULL, (size_t)count + 1, sizeof *offsets);
    int32_t *ids = cli_resize(NULL, (size_t)tokens * 2, sizeof *ids), *targets = ids + tokens;
    for (int64_t i = 0; i <= count; i++)
        offsets[i] = i * phase->context;
    for (int64_t i = 0; i < tokens; i++) {
        ids[i] = (unsigned char)d->text.bytes[i % d->text.train];
        targets[i] = (unsigned char)d->text.bytes[(i + 1) % d->text.train];
    }
    fur_row row = {.documents = count, .offsets = offsets, .ids_T = ids, .target_T = targets};
    fur_status status = FUR_OK;
    *seconds = 0.0;
    for (int i = 0; i < 3 && status == FUR_OK; i++) {
        double loss, start = cli_clock();
        status = fur_model_loss_and_gradient(run, &row, NULL, 1.0, &loss, NULL);
        double took = cli_clock() - start;
        if (i > 0 && (*seconds == 0.0 || took < *seconds))
            *seconds = took;
    }
    cli_free(offsets);
    cli_free(ids);
    return status == FUR_OK ? CLI_OK : cli_fail(d->session, status);
}

/* Number of steps that take the seconds of the pace. After it is chosen nothing depends on the clock any more. */
static int choose_steps(demo *d, int64_t *steps)
{
    fur_context *context = d->session->context;
    const fur_context_phase *last = &d->phases[d->phase_count - 1];
    fur_plan_request request;
    fur_plan plan;
    fur_model *model = NULL;
    fur_run *run = NULL;
    double mean = 0.0;
    int code = CLI_OK;
    fur_plan_request_defaults(&request);
    request.row_tokens = last->row_tokens;
    request.document_tokens = last->context;
    fur_status status = fur_plan_make(context, &d->config, &request, &plan);
    if (status == FUR_OK)
        status = fur_model_create(context, &d->config, 1, &model);
    if (status == FUR_OK)
        status = fur_run_create(context, model, &plan, &request, &run);
    for (int i = 0; i < d->phase_count && status == FUR_OK && code == CLI_OK; i++) {
        double seconds = 0.0, end = i + 1 < d->phase_count ? recipe.stretches[i + 1].from : 1.0;
        code = time_step(d, run, &d->phases[i], &seconds);
        mean += (end - recipe.stretches[i].from) * seconds;
    }
    if (run != NULL)
        fur_run_destroy(run);
    if (model != NULL)
        fur_model_destroy(model);
    if (status != FUR_OK)
        return cli_fail(d->session, status);
    /* the optimizer, the log and the evaluations take about an eighth more */
    double wanted = mean > 0.0 ? d->pace.train_seconds / (1.125 * mean) : 40.0;
    *steps = wanted < 40.0 ? 40 : (int64_t)wanted / 10 * 10;
    return code;
}

/* Contexts of the ramp that the text is long enough for. */
static void choose_phases(demo *d)
{
    d->phase_count = 0;
    for (int i = 0; i < STRETCHES; i++)
        if (i == 0 || recipe.stretches[i].context * 8 <= d->text.total - d->text.train)
            d->phases[d->phase_count++] = (fur_context_phase){0, recipe.stretches[i].context, recipe.stretches[i].row};
}

static void place_phases(demo *d, int64_t steps)
{
    for (int i = 0; i < d->phase_count; i++)
        d->phases[i].from_step = (int64_t)(recipe.stretches[i].from * (double)steps);
}

static int train(demo *d)
{
    cli_session *session = d->session;
    fur_train_settings *s = &d->settings;
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    int64_t steps = session->options->max_steps;
    int code = CLI_OK;
    choose_phases(d);
    heading(d, 2, "Training from random weights");
    if (!cli_given(session->options, "max-steps"))
        code = choose_steps(d, &steps);
    if (code != CLI_OK)
        return code;
    place_phases(d, steps);
    demo_text_drop(&d->text); /* the plan of the run does not know of it */
    fur_train_settings_defaults(s);
    s->model = d->config;
    s->output_dir = d->folder;
    s->row_tokens = d->phases[d->phase_count - 1].row_tokens;
    memcpy(s->phases, d->phases, sizeof d->phases);
    s->phase_count = d->phase_count;
    s->max_steps = steps;
    s->grad_accum = 1;
    s->lr = recipe.lr;
    s->min_lr = recipe.min_lr;
    s->weight_decay = recipe.weight_decay;
    s->grad_clip = recipe.grad_clip;
    s->warmup_steps = (int64_t)(recipe.warmup * (double)steps);
    s->eval_steps = steps / recipe.evaluations > 0 ? steps / recipe.evaluations : 1;
    s->eval_tokens = recipe.eval_tokens;
    s->save_steps = steps / 4;
    s->keep_checkpoints = 1;
    s->log_steps = 1;
    s->held_out = 0.0;
    s->seed = (uint64_t)session->options->seed;
    const char *files[] = {d->text.train_path, d->text.held_out_path};
    char *run_json = cli_train_options_json(session, s, &(cli_list){&files[0], 1}, &(cli_list){&files[1], 1});
    s->run_json = run_json;
    cli_string ramp = {NULL, 0, 0};
    for (int i = 0; i < d->phase_count; i++)
        cli_appendf(&ramp, "%s%s", i > 0 ? ", " : "", cli_count(a, d->phases[i].context));
    cli_say(session, "  %s bytes of text, a tenth held out; %s steps, contexts of %s", cli_thousands(b, d->text.total),
            cli_thousands(c, steps), ramp.text);
    cli_string_clear(&ramp);
    cli_watch_init(&d->watch, session, d->folder, true);
    fur_status status =
        fur_train_run(session->context, s, d->train, d->held_out, cli_watch_event, &d->watch, &d->trained);
    cli_watch_end(&d->watch);
    cli_free(run_json);
    s->run_json = NULL;
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

/* ---- samples ------------------------------------------------------------------------------------------------ */

static int on_token(void *user, int32_t id)
{
    cli_string *text = user;
    char byte = (char)(unsigned char)id;
    if (byte == '\0')
        byte = ' ';
    cli_append_bytes(text, &byte, 1);
    (void)fwrite(&byte, 1, 1, stderr);
    return 0;
}

static int sample(demo *d, fur_model *model)
{
    fur_sampling sampling;
    int32_t ids[DEMO_PROMPT_BYTES];
    heading(d, 3, "What it learnt to write");
    fur_sampling_defaults(&sampling);
    sampling.temperature = (float)recipe.temperature;
    for (int i = 0; i < DEMO_PROMPTS; i++) {
        const char *prompt = d->text.prompts[i];
        int64_t count = (int64_t)strlen(prompt);
        for (int64_t j = 0; j < count; j++)
            ids[j] = (unsigned char)prompt[j];
        sampling.seed = (uint64_t)(d->session->options->seed + i);
        fprintf(stderr, "  %s%s%s", d->session->err.bold, prompt, d->session->err.off);
        cli_append(&d->sample_texts[i], "");
        fur_status status = fur_generate(d->session->context, model, ids, count, recipe.sample_bytes, &sampling, 0,
                                         on_token, &d->sample_texts[i]);
        fputs("\n\n", stderr);
        if (status != FUR_OK)
            return cli_fail(d->session, status);
        d->samples[i] = (cli_sample){prompt, d->sample_texts[i].text};
    }
    return CLI_OK;
}

/* ---- the long step ------------------------------------------------------------------------------------------ */

/* Index of the longest row of the plan that the pace, the memory and the text allow; -1 where none does. */
static int choose_row(const demo *d)
{
    for (int i = CLI_PLAN_ROWS - 1; i >= 0; i--) {
        const cli_plan_row *row = &d->rows[i];
        if (row->tokens <= d->pace.longest && row->plan.fits && row->plan.seconds <= d->pace.longest_seconds &&
            row->tokens < d->text.train)
            return i;
    }
    return -1;
}

static int one_step(demo *d, int row, cli_trace *trace)
{
    char name[64];
    cli_long_step *step = &d->steps[d->step_count];
    (void)snprintf(name, sizeof name, "step-over-%" PRId64, d->rows[row].tokens);
    char *folder = cli_path(d->folder, name);
    demo_step_request request = {d->trained.checkpoint, d->text.train_path,  folder,
                                 d->rows[row].tokens,   recipe.memory_bytes, d->rows[row].plan.seconds};
    d->session->before_line = cli_live_clear;
    d->session->before_user = &d->watch.live;
    int code = demo_step_run(d->session, &d->watch.live, &request, step, trace);
    d->session->before_line = NULL;
    step->least_bytes = d->rows[row].least_bytes;
    step->plain_bytes = d->rows[row].plain_bytes;
    step->checkpointed_bytes = d->rows[row].checkpointed_bytes;
    cli_free(folder);
    d->step_count += code == CLI_OK;
    return code;
}

static void say_step(const demo *d, const cli_long_step *step)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], e[CLI_UNIT], f[CLI_UNIT];
    cli_say(d->session, "  %7s bytes: %s (planned %s), peak memory %s (planned %s)", cli_thousands(a, step->tokens),
            cli_seconds(b, step->seconds), cli_seconds(c, step->planned_seconds),
            cli_bytes(e, step->measured_peak_bytes), cli_bytes(f, step->planned_peak_bytes));
}

/* Loss by position on held-out text, over documents as long as the step. */
static int measure_positions(demo *d, fur_model *model, int64_t tokens)
{
    const cli_style *style = &d->session->err;
    int bucket;
    int64_t held_out = d->text.total - d->text.train;
    while (tokens > held_out)
        tokens /= 2;
    cli_live_text(&d->watch.live, "loss by position on held-out text");
    fur_eval_settings settings;
    fur_eval_settings_defaults(&settings);
    settings.context_tokens = tokens;
    settings.max_tokens = d->pace.position_tokens;
    fur_status status = fur_evaluate(d->session->context, model, d->held_out, &settings, &d->positions);
    cli_live_clear(&d->watch.live);
    if (status != FUR_OK)
        return cli_fail(d->session, status);
    d->has_positions = true;
    cli_table table;
    cli_table_init(&table, "lrr", "position in held-out text", "bytes", "bits per byte");
    for (int i = 0; i < d->positions.buckets; i++) {
        char name[CLI_TWO_UNITS], count[CLI_UNIT], loss[CLI_UNIT];
        if (d->positions.bucket_tokens[i] == 0)
            continue;
        cli_bucket_name(name, &d->positions, i);
        (void)snprintf(loss, sizeof loss, "%.3f", d->positions.bucket_loss[i] / log(2.0));
        cli_table_row(&table, name, cli_thousands(count, d->positions.bucket_tokens[i]), loss);
    }
    cli_table_print(&table, stderr, style);
    cli_table_clear(&table);
    if (cli_loss_rises(&d->positions, &bucket)) {
        char name[CLI_TWO_UNITS];
        cli_bucket_name(name, &d->positions, bucket);
        cli_say(d->session,
                "  the loss rises with distance at %s: this training did not teach it to use all of its context", name);
    }
    return CLI_OK;
}

/* Shorter steps first, a quarter of the length apart: they are the points of the picture. */
static int long_steps(demo *d)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], title[128];
    int row = choose_row(d);
    if (row < 0)
        return cli_refuse(d->session, CLI_DOES_NOT_FIT, "no step of 4,096 bytes or more is planned to fit %s and %g s",
                          cli_bytes(a, recipe.memory_bytes), d->pace.longest_seconds);
    (void)snprintf(title, sizeof title, "One full step with exact attention over %s bytes at once, inside %s",
                   cli_thousands(a, d->rows[row].tokens), cli_bytes(b, recipe.memory_bytes));
    heading(d, 4, title);
    for (int i = row % 2; i <= row; i += 2) {
        cli_trace unused = {NULL, NULL, 0, 0};
        int code = one_step(d, i, i == row ? &d->trace : &unused);
        cli_trace_clear(&unused);
        if (code != CLI_OK)
            return code;
        say_step(d, &d->steps[d->step_count - 1]);
    }
    const cli_long_step *last = &d->steps[d->step_count - 1];
    cli_say(d->session,
            "  with nothing kept it would be %s; elsewhere, by the same arithmetic, %s with an attention kernel and "
            "per-layer checkpoints, %s with plain attention",
            cli_bytes(c, last->least_bytes), cli_bytes(a, last->checkpointed_bytes), cli_bytes(b, last->plain_bytes));
    return CLI_OK;
}

/* ---- the report --------------------------------------------------------------------------------------------- */

/* Three commands that run as they stand from where the demo was started. */
static void make_commands(demo *d)
{
    cli_string *out = &d->commands;
    int64_t context = d->phases[d->phase_count - 1].context;
    char count[CLI_UNIT];
    demo_append_shell(out, d->session->program);
    cli_append(out, " generate -m ");
    demo_append_shell(out, d->folder);
    cli_append(out, " -p ");
    demo_append_shell(out, d->text.prompts[0]);
    cli_append(out, " -n 400\n");
    demo_append_shell(out, d->session->program);
    cli_append(out, " eval -m ");
    demo_append_shell(out, d->folder);
    cli_append(out, " -f ");
    demo_append_shell(out, d->text.held_out_path);
    cli_appendf(out, " -c %s --max-tokens 128K\n", cli_count(count, context));
    demo_append_shell(out, d->session->program);
    cli_append(out, " train --resume --output-dir ");
    demo_append_shell(out, d->folder);
    cli_appendf(out, " --max-steps %" PRId64 "\n", d->settings.max_steps + 20);
}

static int write_file(const demo *d, const char *name, const cli_string *text, mode_t mode)
{
    char *path = cli_path(d->folder, name);
    int code = CLI_OK;
    if (!cli_file_write(path, text->text, text->length) || chmod(path, mode) != 0)
        code = cli_refuse(d->session, CLI_FAILED, "%s: %s", path, strerror(errno));
    cli_free(path);
    return code;
}

static int write_files(demo *d)
{
    cli_string page = {NULL, 0, 0}, subtitle = {NULL, 0, 0}, model = {NULL, 0, 0}, script = {NULL, 0, 0},
               title = {NULL, 0, 0};
    char a[CLI_UNIT], b[CLI_UNIT];
    make_commands(d);
    cli_config_line(&model, &d->config);
    cli_appendf(&title, "A transformer that reads %s bytes at once",
                cli_thousands(a, d->steps[d->step_count - 1].tokens));
    const char *file = d->session->options->files.items[0], *slash = strrchr(file, '/');
    cli_appendf(&subtitle, "Trained on %s, %s bytes, from random weights, on %d cores.",
                slash != NULL ? slash + 1 : file, cli_thousands(b, d->text.total), d->machine.cores);
    cli_report report = {.title = title.text,
                         .subtitle = subtitle.text,
                         .model = model.text,
                         .machine = &d->machine,
                         .gflops = d->peak.peak_gflops,
                         .bytes = true,
                         .metrics = &d->watch.metrics,
                         .rows = d->rows,
                         .row_count = CLI_PLAN_ROWS,
                         .row_limit_bytes = recipe.memory_bytes,
                         .steps = d->steps,
                         .step_count = d->step_count,
                         .trace = &d->trace,
                         .positions = d->has_positions ? &d->positions : NULL,
                         .samples = d->samples,
                         .sample_count = DEMO_PROMPTS,
                         .commands = d->commands.text};
    cli_report_write(&page, &report);
    int code = write_file(d, "report.html", &page, 0644);
    cli_append(&script, "#!/bin/sh\n# What to try after the demo, from where it was started.\n");
    cli_append(&script, d->commands.text);
    if (code == CLI_OK)
        code = write_file(d, "next.sh", &script, 0755);
    cli_string_clear(&page);
    cli_string_clear(&title);
    cli_string_clear(&subtitle);
    cli_string_clear(&model);
    cli_string_clear(&script);
    return code;
}

/* The demo is a test: peaks are at most planned, and the long step's plan is at most 15 % above what was measured. */
static int check_memory(const demo *d)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    for (int i = 0; i < d->step_count; i++) {
        const cli_long_step *step = &d->steps[i];
        if (step->measured_peak_bytes > step->planned_peak_bytes)
            return cli_refuse(d->session, CLI_FAILED,
                              "the step over %s bytes had %s of memory at its peak, above the planned %s",
                              cli_thousands(a, step->tokens), cli_bytes(b, step->measured_peak_bytes),
                              cli_bytes(c, step->planned_peak_bytes));
    }
    const cli_long_step *last = &d->steps[d->step_count - 1];
    if ((double)last->planned_peak_bytes > 1.15 * (double)last->measured_peak_bytes)
        return cli_refuse(d->session, CLI_FAILED, "the plan of %s is more than 15 %% above the measured %s",
                          cli_bytes(a, last->planned_peak_bytes), cli_bytes(b, last->measured_peak_bytes));
    return CLI_OK;
}

static json_t *steps_json(const demo *d)
{
    json_t *list = json_array();
    for (int i = 0; i < d->step_count; i++) {
        const cli_long_step *step = &d->steps[i];
        json_t *object = json_object();
        cli_json_int(object, "tokens", step->tokens);
        cli_json_real(object, "seconds", step->seconds);
        cli_json_real(object, "planned_seconds", step->planned_seconds);
        cli_json_int(object, "peak_rss_bytes", step->measured_peak_bytes);
        cli_json_int(object, "planned_peak_bytes", step->planned_peak_bytes);
        cli_json_int(object, "limit_bytes", step->limit_bytes);
        cli_json_int(object, "least_bytes", step->least_bytes);
        cli_json_int(object, "plain_attention_bytes", step->plain_bytes);
        cli_json_int(object, "checkpointed_bytes", step->checkpointed_bytes);
        cli_json_real(object, "loss", step->loss);
        (void)json_array_append_new(list, object);
    }
    return list;
}

static void print_json(const demo *d)
{
    json_t *object = json_object(), *samples = json_array(), *positions = json_array();
    int bucket;
    cli_json_text(object, "folder", d->folder);
    cli_json_text(object, "checkpoint", d->trained.checkpoint);
    cli_json_text(object, "cpu", d->machine.cpu_name);
    cli_json_text(object, "isa", d->machine.isa);
    cli_json_int(object, "threads", fur_context_threads(d->session->context));
    cli_json_real(object, "peak_gflops", d->peak.peak_gflops);
    (void)json_object_set_new(object, "plan", cli_plan_rows_json(d->rows, CLI_PLAN_ROWS));
    cli_json_int(object, "text_bytes", d->text.total);
    cli_json_int(object, "steps", d->trained.steps);
    cli_json_int(object, "tokens", d->trained.tokens);
    cli_json_real(object, "train_seconds", d->trained.seconds);
    cli_json_real(object, "loss", d->trained.loss);
    cli_json_real(object, "eval_loss", d->trained.eval_loss);
    cli_json_real(object, "bits_per_byte", d->trained.eval_loss / log(2.0));
    cli_json_int(object, "train_peak_rss_bytes", d->trained.peak_rss_bytes);
    cli_json_int(object, "train_planned_peak_bytes", d->trained.planned_peak_bytes);
    (void)json_object_set_new(object, "long_steps", steps_json(d));
    for (int i = 0; i < d->positions.buckets; i++) {
        json_t *item = json_object();
        cli_json_int(item, "first", d->positions.bucket_first[i]);
        cli_json_int(item, "tokens", d->positions.bucket_tokens[i]);
        cli_json_real(item, "loss", d->positions.bucket_loss[i]);
        (void)json_array_append_new(positions, item);
    }
    (void)json_object_set_new(object, "by_position", positions);
    cli_json_bool(object, "loss_rises_with_distance", cli_loss_rises(&d->positions, &bucket));
    for (int i = 0; i < DEMO_PROMPTS; i++) {
        json_t *item = json_object();
        cli_json_text(item, "prompt", d->samples[i].prompt);
        cli_json_text(item, "text", d->samples[i].text);
        (void)json_array_append_new(samples, item);
    }
    (void)json_object_set_new(object, "samples", samples);
    cli_json_text(object, "commands", d->commands.text);
    cli_json_real(object, "seconds", cli_clock() - d->started);
    cli_json_print(stdout, object);
}

static int finish(demo *d)
{
    char a[CLI_UNIT];
    int code = write_files(d);
    if (code != CLI_OK)
        return code;
    code = check_memory(d);
    heading(d, 5, "Written");
    cli_say(d->session, "  %s/report.html, metrics.jsonl, TensorBoard events, checkpoint; all in %s", d->folder,
            cli_seconds(a, cli_clock() - d->started));
    cli_say(d->session, "\nNext (also in %s/next.sh):\n%s", d->folder, d->commands.text);
    if (d->session->options->json)
        print_json(d);
    else
        printf("%s/report.html\n", d->folder);
    return code;
}

/* ---- the verb ----------------------------------------------------------------------------------------------- */

static int open_text(demo *d)
{
    cli_session *session = d->session;
    fur_corpus *corpus = NULL;
    int code = cli_corpus_open(session, &session->options->files, 0, &corpus);
    if (code != CLI_OK)
        return code;
    d->folder = session->options->output_dir != NULL ? cli_copy(session->options->output_dir)
                                                     : cli_free_folder("furlong-demo", false);
    if (mkdir(d->folder, 0777) != 0)
        code = cli_refuse(session, CLI_FAILED, "%s: %s", d->folder, strerror(errno));
    if (code == CLI_OK)
        code = demo_text_make(session, corpus, d->folder, &d->text);
    fur_corpus_close(corpus);
    if (code != CLI_OK)
        return code;
    const char *names[] = {d->text.train_path, d->text.held_out_path};
    code = cli_corpus_open(session, &(cli_list){&names[0], 1}, 0, &d->train);
    return code == CLI_OK ? cli_corpus_open(session, &(cli_list){&names[1], 1}, 0, &d->held_out) : code;
}

static int run(demo *d)
{
    fur_model *model = NULL;
    int code = open_text(d);
    if (code == CLI_OK)
        code = show_machine(d);
    if (code == CLI_OK)
        code = train(d);
    if (code != CLI_OK)
        return code;
    fur_status status = fur_model_load(d->session->context, d->trained.checkpoint, &model);
    if (status != FUR_OK)
        return cli_fail(d->session, status);
    code = sample(d, model);
    if (code == CLI_OK)
        code = long_steps(d);
    if (code == CLI_OK)
        code = measure_positions(d, model, d->steps[d->step_count - 1].tokens);
    fur_model_destroy(model);
    return code == CLI_OK ? finish(d) : code;
}

int verb_demo(cli_session *session)
{
    const cli_options *options = session->options;
    demo *d = cli_resize(NULL, 1, sizeof *d);
    if (options->files.count == 0) {
        cli_free(d);
        return cli_refuse(session, CLI_USAGE, "expected a text, such as furlong demo book.txt (./dev demo brings one)");
    }
    memset(d, 0, sizeof *d);
    d->session = session;
    d->started = cli_clock();
    d->pace = options->quick ? quick_pace : full_pace;
    if (cli_given(options, "seconds"))
        d->pace.train_seconds = options->train_seconds;
    int code = cli_session_open(session);
    if (code == CLI_OK)
        code = run(d);
    if (d->train != NULL)
        fur_corpus_close(d->train);
    if (d->held_out != NULL)
        fur_corpus_close(d->held_out);
    for (int i = 0; i < DEMO_PROMPTS; i++)
        cli_string_clear(&d->sample_texts[i]);
    demo_text_clear(&d->text);
    cli_watch_clear(&d->watch);
    cli_trace_clear(&d->trace);
    cli_string_clear(&d->commands);
    cli_free(d->folder);
    cli_free(d);
    return code;
}
