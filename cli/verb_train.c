/* SPDX-License-Identifier: Apache-2.0 */
/* furlong train: choose, say what was chosen, plan, run, report. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "plan_view.h"
#include "report.h"
#include "train_setup.h"
#include "verb.h"
#include "watch.h"

static int dry_run(cli_session *session, const cli_train_setup *setup)
{
    const fur_train_settings *settings = &setup->settings;
    fur_plan plan;
    char a[CLI_UNIT], b[CLI_UNIT];
    fur_status status = fur_train_plan(session->context, settings, setup->corpus, &plan);
    if (status != FUR_OK)
        return cli_fail(session, status);
    double seconds = plan.seconds * (double)(settings->max_steps * settings->grad_accum);
    if (session->options->json) {
        json_t *object = cli_plan_json(&plan);
        cli_json_int(object, "memory_bytes", settings->memory_bytes);
        cli_json_int(object, "max_steps", settings->max_steps);
        cli_json_real(object, "run_seconds", seconds);
        cli_json_text(object, "output_dir", settings->output_dir);
        cli_json_print(stdout, object);
    } else {
        cli_plan_print(&plan, FUR_FOR_TRAIN, settings->row_tokens, settings->memory_bytes, stdout, &session->out);
        printf("  the whole run: at most %s\n", cli_seconds(a, seconds));
    }
    if (plan.disk_bytes > settings->disk_bytes)
        return cli_refuse(session, CLI_DOES_NOT_FIT, "puts %s on disk, more than %s", cli_bytes(a, plan.disk_bytes),
                          cli_bytes(b, settings->disk_bytes));
    if (!plan.fits)
        return cli_refuse(session, CLI_DOES_NOT_FIT, "needs %s, more than %s", cli_bytes(a, plan.peak_bytes),
                          cli_bytes(b, settings->memory_bytes));
    return CLI_OK;
}

/* report.html, or report-2.html, ... where a resumed run already has one. */
static char *free_report(const char *folder)
{
    struct stat info;
    for (int i = 1;; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, i > 1 ? "report-%d.html" : "report.html", i);
        char *path = cli_path(folder, name);
        if (lstat(path, &info) != 0)
            return path;
        cli_free(path);
    }
}

/* The page beside the metrics. A failure to write it is said, and does not undo a good run. */
static void write_report(cli_session *session, const cli_train_setup *setup, const cli_metrics *metrics)
{
    fur_machine machine;
    cli_string model = {NULL, 0, 0}, page = {NULL, 0, 0}, title = {NULL, 0, 0}, commands = {NULL, 0, 0};
    if (metrics->step_count == 0 || fur_machine_read(session->context, &machine) != FUR_OK)
        return;
    cli_config_line(&model, &setup->settings.model);
    cli_appendf(&title, "Training in %s", setup->output_dir);
    cli_appendf(&commands, "furlong generate -m %s -p 'Once'\nfurlong train --resume --output-dir %s",
                setup->output_dir, setup->output_dir);
    cli_report report = {.title = title.text,
                         .subtitle = model.text,
                         .model = model.text,
                         .machine = &machine,
                         .bytes = setup->bytes,
                         .metrics = metrics,
                         .commands = setup->bytes ? commands.text : NULL};
    cli_report_write(&page, &report);
    char *path = free_report(setup->output_dir);
    if (!cli_file_write(path, page.text, page.length))
        cli_say(session, "warning: %s: %s", path, strerror(errno));
    cli_free(path);
    cli_string_clear(&page);
    cli_string_clear(&model);
    cli_string_clear(&title);
    cli_string_clear(&commands);
}

static void print_result(const cli_session *session, const cli_train_setup *setup, const fur_train_result *result,
                         fur_status status)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    if (session->options->json) {
        json_t *object = json_object();
        cli_json_text(object, "status", fur_status_name(status));
        cli_json_int(object, "steps", result->steps);
        cli_json_int(object, "tokens", result->tokens);
        cli_json_real(object, "loss", result->loss);
        cli_json_real(object, "eval_loss", result->eval_loss);
        cli_json_real(object, "bits_per_byte", setup->bytes ? result->eval_loss / log(2.0) : (double)NAN);
        cli_json_real(object, "seconds", result->seconds);
        cli_json_int(object, "planned_peak_bytes", result->planned_peak_bytes);
        cli_json_int(object, "peak_rss_bytes", result->peak_rss_bytes);
        cli_json_int(object, "planned_arena_bytes", result->planned_arena_bytes);
        cli_json_int(object, "arena_peak_bytes", result->arena_peak_bytes);
        cli_json_text(object, "output_dir", setup->output_dir);
        cli_json_text(object, "checkpoint", result->checkpoint);
        cli_json_print(stdout, object);
        return;
    }
    cli_say(session, "%s steps in %s; peak memory %s, planned %s", cli_thousands(a, result->steps),
            cli_seconds(b, result->seconds), cli_bytes(c, result->peak_rss_bytes),
            cli_bytes((char[CLI_UNIT]){0}, result->planned_peak_bytes));
    if (result->checkpoint[0] != '\0')
        printf("%s\n", result->checkpoint);
}

typedef struct run_watch {
    cli_watch watch;
    const cli_train_setup *setup;
    bool begun;
} run_watch;

/* How the run fits: what is kept, on disk, computed again, and about how long a step takes. */
static void print_plan(const cli_session *session, const fur_train_event *event)
{
    char a[CLI_UNIT], b[CLI_UNIT];
    cli_string places = {NULL, 0, 0};
    if (event->plan == NULL)
        return;
    cli_plan_places(&places, event->plan, "; ");
    cli_say(session, "memory   %s; about %s a row", cli_bytes(a, event->plan->peak_bytes),
            cli_seconds(b, event->plan->seconds));
    cli_say(session, "         %s", places.text);
    cli_string_clear(&places);
}

/* What was chosen is told when the run begins: one that is refused has one line to say. */
static void on_event(void *self, const fur_train_event *event)
{
    run_watch *watch = self;
    const cli_session *session = watch->watch.session;
    fur_machine machine;
    if (!watch->begun) {
        char a[CLI_UNIT], b[CLI_UNIT];
        cli_train_setup_print(session, watch->setup);
        print_plan(session, event);
        if (fur_machine_read(session->context, &machine) == FUR_OK && machine.memory_available > 0 &&
            event->planned_peak_bytes - event->rss_bytes > machine.memory_available)
            cli_say(session, "warning: the run takes up to %s, and %s are free now",
                    cli_bytes(a, event->planned_peak_bytes), cli_bytes(b, machine.memory_available));
    }
    watch->begun = true;
    cli_watch_event(&watch->watch, event);
}

static int run(cli_session *session, cli_train_setup *setup)
{
    run_watch all = {.setup = setup};
    cli_watch *watch = &all.watch;
    fur_train_result result;
    memset(&result, 0, sizeof result);
    cli_watch_init(watch, session, setup->output_dir, setup->bytes);
    fur_status status =
        fur_train_run(session->context, &setup->settings, setup->corpus, setup->eval, on_event, &all, &result);
    cli_watch_end(watch);
    int code = status == FUR_OK ? CLI_OK : CLI_FAILED;
    if (status == FUR_OK || status == FUR_E_INTERRUPTED || status == FUR_E_NONFINITE)
        write_report(session, setup, &watch->metrics);
    if (status == FUR_OK || status == FUR_E_INTERRUPTED)
        print_result(session, setup, &result, status);
    if (status != FUR_OK)
        code = cli_fail_data(session, status);
    cli_watch_clear(watch);
    return code;
}

int verb_train(cli_session *session)
{
    cli_train_setup setup;
    int code = cli_session_open(session);
    if (code != CLI_OK)
        return code;
    code = cli_train_setup_make(session, &setup);
    if (code == CLI_OK) {
        if (session->options->dry_run)
            cli_train_setup_print(session, &setup);
        code = session->options->dry_run ? dry_run(session, &setup) : run(session, &setup);
    }
    cli_train_setup_clear(&setup);
    return code;
}

int verb_finetune(cli_session *session)
{
    const cli_options *options = session->options;
    if (options->model == NULL && options->resume == NULL)
        return cli_refuse(session, CLI_USAGE, "--model: expected a model to go on from, such as -m FOLDER");
    return verb_train(session);
}
