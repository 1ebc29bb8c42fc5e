/* SPDX-License-Identifier: Apache-2.0 */
/* The settings of a training run. */
#include "train_setup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plan_view.h"

/* ---- folders ------------------------------------------------------------------------------------------------ */

char *cli_free_folder(const char *base, bool numbered)
{
    for (int i = 1;; i++) {
        struct stat info;
        cli_string path = {NULL, 0, 0};
        cli_append(&path, base);
        if (numbered || i > 1)
            cli_appendf(&path, "-%d", i);
        if (lstat(path.text, &info) != 0)
            return path.text;
        cli_string_clear(&path);
    }
}

/* runs/NAME-N after the first file; letters, digits, dots and dashes of its name without ending. */
static char *run_folder(const cli_list *files)
{
    cli_string base = {NULL, 0, 0};
    const char *path = files->count > 0 ? files->items[0] : "run";
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    size_t stem = start;
    while (stem < end && (path[stem] != '.' || stem == start))
        stem++;
    cli_append(&base, "runs/");
    for (size_t i = start; i < stem; i++) {
        char letter = path[i];
        if (isalnum((unsigned char)letter) || letter == '_' || (letter == '-' && base.length > 5))
            cli_append_bytes(&base, &letter, 1);
    }
    if (base.length == 5)
        cli_append(&base, "run");
    char *folder = cli_free_folder(base.text, true);
    cli_string_clear(&base);
    return folder;
}

/* The run in runs/ whose `latest` changed last. NULL where there is none. */
static char *newest_run(void)
{
    DIR *folder = opendir("runs");
    char *best = NULL;
    struct timespec when = {0, 0};
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        struct stat info;
        char *run = entry->d_name[0] != '.' ? cli_path("runs", entry->d_name) : NULL;
        char *latest = run != NULL ? cli_path(run, "latest") : NULL;
        bool newer = latest != NULL && lstat(latest, &info) == 0 &&
                     (best == NULL || info.st_mtim.tv_sec > when.tv_sec ||
                      (info.st_mtim.tv_sec == when.tv_sec && info.st_mtim.tv_nsec > when.tv_nsec));
        if (newer) {
            cli_free(best);
            best = run;
            when = info.st_mtim;
        } else {
            cli_free(run);
        }
        cli_free(latest);
    }
    if (folder != NULL)
        (void)closedir(folder);
    return best;
}

static char *parent_of(const char *path)
{
    cli_string parent = {NULL, 0, 0};
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    while (end > 0 && path[end - 1] != '/')
        end--;
    while (end > 1 && path[end - 1] == '/')
        end--;
    cli_append_bytes(&parent, end > 0 ? path : ".", end > 0 ? end : 1);
    return parent.text;
}

/* The folder of the run to go on with; its run.json gives what the command line leaves open. */
static int open_resumed(cli_session *session, cli_train_setup *setup)
{
    cli_options *options = session->options;
    char error[CLI_ERROR];
    bool latest = strcmp(options->resume, "latest") == 0;
    if (options->output_dir != NULL)
        setup->output_dir = cli_copy(options->output_dir);
    else
        setup->output_dir = latest ? newest_run() : parent_of(options->resume);
    if (setup->output_dir == NULL)
        return cli_refuse(session, CLI_USAGE, "--resume: found no run in runs/; name one with --output-dir");
    char *path = cli_path(setup->output_dir, "run.json");
    int code = cli_options_read(options, path, error);
    cli_free(path);
    return code == CLI_OK ? CLI_OK : cli_refuse(session, code, "--resume: %s", error);
}

/* ---- choices ------------------------------------------------------------------------------------------------ */

double cli_default_lr(const fur_model_config *config)
{
    return 3e-3 * 128.0 / (double)config->width;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Files of ids bring their own vocabulary; anything else is text. */
static bool all_arrays(const cli_list *files)
{
    for (int64_t i = 0; i < files->count; i++)
        if (!ends_with(files->items[i], ".npy") && !ends_with(files->items[i], ".npy.zst"))
            return false;
    return files->count > 0;
}

/* The largest power of two up to 2,048 of which the training part holds at least 16. */
static int64_t choose_context(int64_t tokens)
{
    int64_t context = 2048;
    while (context > 64 && context * 16 > tokens)
        context /= 2;
    return context;
}

static void choose_rows(const cli_options *options, const fur_corpus_info *info, fur_train_settings *settings)
{
    int64_t longest = 1;
    if (options->ramp.count > 0) {
        memcpy(settings->phases, options->ramp.phases, sizeof options->ramp.phases);
        settings->phase_count = options->ramp.count;
    } else {
        settings->phases[0].from_step = 0;
        settings->phases[0].context = options->context > 0 ? options->context : choose_context(info->tokens);
        settings->phase_count = 1;
    }
    for (int i = 0; i < settings->phase_count; i++)
        longest = settings->phases[i].context > longest ? settings->phases[i].context : longest;
    settings->row_tokens = options->row_tokens;
    if (settings->row_tokens == 0)
        settings->row_tokens = longest >= 8192 ? longest : 8192 - 8192 % longest;
    for (int i = 0; i < settings->phase_count && options->row_tokens == 0; i++)
        if (settings->phases[i].row_tokens > settings->row_tokens)
            settings->row_tokens = settings->phases[i].row_tokens;
}

static void choose_rates(const cli_options *options, fur_train_settings *settings)
{
    settings->max_steps = options->max_steps;
    if (cli_given(options, "lr"))
        settings->lr = options->lr;
    else if (options->verb == CLI_FINETUNE)
        settings->lr = settings->model.lora_rank > 0 || settings->lora_rank > 0 ? 2e-4 : 2e-5;
    else
        settings->lr = cli_default_lr(&settings->model);
    settings->min_lr = cli_given(options, "min-lr") ? options->min_lr : 0.1 * settings->lr;
    settings->weight_decay =
        options->verb == CLI_FINETUNE && !cli_given(options, "weight-decay") ? 0 : options->weight_decay;
    settings->table_lr = options->table_lr;
    settings->table_adam = strcmp(options->table_optimizer, "adam") == 0;
    settings->grad_clip = options->grad_clip;
    settings->grad_accum = options->grad_accum;
    settings->warmup_steps = cli_given(options, "warmup-steps") ? options->warmup_steps : options->max_steps / 20;
    settings->save_steps = options->save_steps;
    settings->eval_steps = options->eval_steps;
    settings->log_steps = options->log_steps;
    settings->error_steps = options->error_steps;
    settings->keep_checkpoints = options->keep_checkpoints;
    settings->eval_tokens = options->eval_tokens;
    settings->held_out = options->eval_files.count > 0 ? 0.0 : options->held_out;
    settings->seed = (uint64_t)options->seed;
    settings->superblock = options->superblock;
    settings->skip_nonfinite = options->skip_nonfinite;
    settings->keep = cli_keep_of(options);
}

/* A checkpoint's model is the run's, and so is the shape of its blocks: what would make another one is refused, not
 * passed over and then written to run.json as if it had been done. */
static int check_resumed(const cli_session *session)
{
    static const char *const shaping[] = {
        "model",     "preset",        "layers",      "attention",          "projection",
        "window",    "sink-tokens",   "sink-logits", "position",           "rope-scaling",
        "softcap",   "qk-norm",       "dropout",     "superblock",         "attention-dropout",
        "degree",    "bound",         "chunk",       "far-bias",           "max-features",
        "max-error", "fine-gradient", "lookup-bits", "lookup-temperature", "lookup-rows",
        "lora-rank", "lora-alpha",    "lora-targets"};
    for (size_t i = 0; i < sizeof shaping / sizeof shaping[0]; i++)
        if (session->options->resume != NULL && cli_source_of(session->options, shaping[i]) == CLI_FROM_COMMAND)
            return cli_refuse(session, CLI_USAGE, "--%s: a resumed run keeps its model; start a new one with --model",
                              shaping[i]);
    return CLI_OK;
}

/* Fresh adapters; none where the model brings its own. */
static int choose_lora(const cli_session *session, fur_train_settings *settings)
{
    const cli_options *options = session->options;
    const fur_model_config *config = &settings->model;
    bool given = cli_given(options, "lora-rank");
    if (config->lora_rank > 0 || options->resume != NULL)
        return given && options->resume == NULL
                   ? cli_refuse(session, CLI_USAGE,
                                "--lora-rank: the model has adapters of rank %" PRId64 ", which training goes on with",
                                config->lora_rank)
                   : CLI_OK;
    settings->lora_rank = given ? options->lora_rank : options->verb == CLI_FINETUNE ? 16 : 0;
    settings->lora_alpha = cli_given(options, "lora-alpha") ? options->lora_alpha : 2.0 * (double)settings->lora_rank;
    settings->lora_targets = options->lora_targets;
    if (settings->lora_rank > 0 && settings->init_from == NULL)
        return cli_refuse(session, CLI_USAGE, "--lora-rank: expected a model to add adapters to, -m FOLDER");
    fur_model_config with = *config;
    fur_status status =
        fur_config_set_lora(session->context, &with, settings->lora_rank, settings->lora_alpha, settings->lora_targets);
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

static int choose_model(cli_session *session, cli_train_setup *setup, int64_t longest)
{
    const fur_corpus_info *info = &setup->info;
    fur_model_config *config = &setup->settings.model;
    int code = check_resumed(session);
    if (code == CLI_OK)
        code = cli_config_open(session, "bytes-1m", longest, setup->bytes, config);
    if (code != CLI_OK)
        return code;
    if (session->options->model != NULL) {
        setup->init_from = cli_model_folder(session, session->options->model);
        if (setup->init_from == NULL)
            return CLI_BAD_INPUT;
        setup->settings.init_from = setup->init_from;
        setup->settings.reshape = true;
    } else if (info->features > 0) {
        fur_config_use_vectors(config, info->features, info->features);
    } else if (setup->bytes && strncmp(config->name, "bytes", 5) != 0) {
        cli_say(session, "%s over bytes: its vocabulary is 256 here", config->name);
    } else if (strcmp(setup->tokenizer, "bytes") != 0) {
        code = cli_tokenizer_vocabulary(session, setup->tokenizer, &config->vocabulary);
        if (code != CLI_OK)
            return code;
        cli_say(session, "%s over the tokens of %s: its vocabulary is %" PRId64 " here", config->name, setup->tokenizer,
                config->vocabulary);
    }
    if (strcmp(setup->tokenizer, "bytes") != 0)
        setup->settings.tokenizer = setup->tokenizer;
    if (info->features == 0 && info->vocabulary > config->vocabulary)
        return cli_refuse(session, CLI_BAD_INPUT,
                          "%s: token ids up to %" PRId64 " (%s), but the model's vocabulary is %" PRId64,
                          session->options->files.items[0], info->vocabulary - 1, setup->tokenizer, config->vocabulary);
    return choose_lora(session, &setup->settings);
}

/* Steps that go through what is trained on so many times; rows are taken as full. */
static void choose_steps(const cli_options *options, const fur_corpus_info *info, fur_train_settings *s)
{
    bool default_epoch = options->verb == CLI_FINETUNE && !cli_given(options, "max-steps");
    double epochs = cli_given(options, "epochs") ? options->epochs : default_epoch ? 1 : 0;
    if (!(epochs > 0))
        return;
    double tokens = (double)info->tokens * (1 - s->held_out) * epochs;
    double steps = tokens / (double)(s->row_tokens * s->grad_accum);
    s->max_steps = steps < 1 ? 1 : (int64_t)ceil(steps);
    if (!cli_given(options, "warmup-steps"))
        s->warmup_steps = s->max_steps / 20;
}

/* ---- run.json ----------------------------------------------------------------------------------------------- */

static void add_files(json_t *object, const char *name, const cli_list *files)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < files->count; i++) {
        char *whole = realpath(files->items[i], NULL);
        (void)json_array_append_new(list, json_string(whole != NULL ? whole : files->items[i]));
        free(whole);
    }
    if (files->count > 0)
        (void)json_object_set_new(object, name, list);
    else
        json_decref(list);
}

/* What was given of the options that shape attention; the others are the preset's or the model's. */
static void add_attention(json_t *object, const cli_options *o)
{
    const struct {
        const char *name, *value;
    } texts[] = {{"window", o->window}, {"position", o->position}, {"rope-scaling", o->rope_scaling}};
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"softcap", o->softcap}, {"dropout", o->dropout},     {"attention-dropout", o->attention_dropout},
                   {"bound", o->bound},     {"max-error", o->max_error}, {"lookup-temperature", o->lookup_temperature}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].value != NULL)
            cli_json_text(object, texts[i].name, texts[i].value);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (cli_given(o, numbers[i].name))
            cli_json_real(object, numbers[i].name, numbers[i].value);
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"sink-tokens", o->sink_tokens},   {"degree", o->degree},           {"chunk", o->chunk},
                  {"max-features", o->max_features}, {"lookup-bits", o->lookup_bits}, {"lookup-rows", o->lookup_rows}};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (cli_given(o, counts[i].name))
            cli_json_int(object, counts[i].name, counts[i].value);
    if (o->fine_gradient)
        cli_json_bool(object, "fine-gradient", true);
    if (o->far_bias)
        cli_json_bool(object, "far-bias", true);
    if (o->sink_logits)
        cli_json_bool(object, "sink-logits", true);
    if (o->qk_norm)
        cli_json_bool(object, "qk-norm", true);
}

char *cli_train_options_json(const cli_session *session, const fur_train_settings *s, const cli_list *files,
                             const cli_list *eval_files)
{
    static const char *const keeps[] = {"auto", "nothing", "all"};
    const cli_options *o = session->options;
    json_t *object = json_object(), *root = json_object();
    add_files(object, "file", files);
    add_files(object, "eval-file", eval_files);
    if (s->init_from != NULL) {
        char *whole = realpath(s->init_from, NULL);
        cli_json_text(object, "model", whole != NULL ? whole : s->init_from);
        free(whole);
    } else {
        cli_json_text(object, "preset", s->model.name);
    }
    cli_string ramp = {NULL, 0, 0};
    for (int i = 0; i < s->phase_count; i++) {
        cli_appendf(&ramp, i == 0 ? "%" PRId64 : ",%" PRId64, s->phases[i].context);
        if (s->phases[i].row_tokens > 0)
            cli_appendf(&ramp, "/%" PRId64, s->phases[i].row_tokens);
        if (i > 0)
            cli_appendf(&ramp, "@%" PRId64, s->phases[i].from_step);
    }
    cli_json_text(object, "context-ramp", ramp.text);
    cli_string_clear(&ramp);
    if (cli_given(o, "attention"))
        cli_json_text(object, "attention", o->attention);
    if (cli_given(o, "projection"))
        cli_json_text(object, "projection", o->projection);
    add_attention(object, o);
    if (s->tokenizer != NULL) {
        char *whole = realpath(s->tokenizer, NULL);
        cli_json_text(object, "tokenizer", whole != NULL ? whole : s->tokenizer);
        free(whole);
    }
    if (o->isa != NULL)
        cli_json_text(object, "isa", o->isa);
    cli_json_text(object, "dtype", fur_context_dtype(session->context));
    cli_json_int(object, "threads", fur_context_threads(session->context));
    cli_json_int(object, "batch-tokens", s->row_tokens);
    cli_json_int(object, "max-steps", s->max_steps);
    cli_json_int(object, "grad-accum", s->grad_accum);
    cli_json_real(object, "lr", s->lr);
    cli_json_real(object, "min-lr", s->min_lr);
    cli_json_real(object, "weight-decay", s->weight_decay);
    if (s->lora_rank > 0) {
        cli_json_int(object, "lora-rank", s->lora_rank);
        cli_json_real(object, "lora-alpha", s->lora_alpha);
        cli_json_text(object, "lora-targets", s->lora_targets);
    }
    if (cli_given(o, "table-lr"))
        cli_json_real(object, "table-lr", s->table_lr);
    if (cli_given(o, "table-optimizer"))
        cli_json_text(object, "table-optimizer", o->table_optimizer);
    cli_json_real(object, "grad-clip", s->grad_clip);
    cli_json_int(object, "warmup-steps", s->warmup_steps);
    cli_json_int(object, "save-steps", s->save_steps);
    cli_json_int(object, "eval-steps", s->eval_steps);
    cli_json_int(object, "log-steps", s->log_steps);
    if (cli_given(o, "error-steps"))
        cli_json_int(object, "error-steps", s->error_steps);
    cli_json_int(object, "keep-checkpoints", s->keep_checkpoints);
    cli_json_int(object, "eval-tokens", s->eval_tokens);
    cli_json_real(object, "held-out", s->held_out);
    cli_json_int(object, "seed", (int64_t)s->seed);
    cli_json_text(object, "keep", keeps[s->keep]);
    if (s->superblock > 0)
        cli_json_int(object, "superblock", s->superblock);
    if (s->memory_bytes > 0) /* chosen or given: another limit may mean other blocks, and so other bits */
        cli_json_int(object, "memory", s->memory_bytes);
    cli_json_int(object, "disk", s->disk_bytes); /* likewise */
    if (s->disk_dir != NULL)
        cli_json_text(object, "disk-dir", s->disk_dir);
    cli_json_text(object, "store", o->store);
    cli_json_text(object, "store-dtype", o->store_dtype);
    if (o->layers > 0)
        cli_json_int(object, "layers", o->layers);
    cli_json_bool(object, "skip-bad", o->skip_bad);
    cli_json_bool(object, "skip-nonfinite", s->skip_nonfinite);
    (void)json_object_set_new(root, "options", object);
    char *dumped = json_dumps(root, JSON_COMPACT), *text = cli_copy(dumped != NULL ? dumped : "{}");
    free(dumped);
    json_decref(root);
    return text;
}

/* ---- making ------------------------------------------------------------------------------------------------- */

static int open_files(cli_session *session, cli_train_setup *setup)
{
    cli_options *options = session->options;
    if (options->files.count == 0)
        return cli_refuse(session, CLI_USAGE, "--file: expected a text to train on, such as -f book.txt");
    setup->tokenizer = cli_tokenizer_name(session);
    if (setup->tokenizer == NULL)
        return CLI_BAD_INPUT;
    int code = cli_corpus_open(session, &options->files, 0, &setup->corpus);
    if (code == CLI_OK && options->eval_files.count > 0)
        code = cli_corpus_open(session, &options->eval_files, 0, &setup->eval);
    if (code == CLI_OK)
        fur_corpus_info_read(setup->corpus, &setup->info);
    setup->bytes = setup->info.features == 0 && !all_arrays(&options->files) && strcmp(setup->tokenizer, "bytes") == 0;
    return code;
}

/* Rows that were not asked for are halved until they fit, down to one longest document; what then does not fit either
 * is refused when the run begins. */
static int fit_rows(const cli_session *session, cli_train_setup *setup, int64_t longest)
{
    fur_train_settings *settings = &setup->settings;
    int64_t least = longest;
    for (int i = 0; i < settings->phase_count; i++)
        least = settings->phases[i].row_tokens > least ? settings->phases[i].row_tokens : least;
    while (session->options->row_tokens == 0 && settings->row_tokens > least) {
        fur_plan plan;
        fur_status status = fur_train_plan(session->context, settings, setup->corpus, &plan);
        if (status != FUR_OK)
            return cli_fail_data(session, status);
        if (plan.fits)
            break;
        int64_t half = settings->row_tokens / 2;
        half -= half % longest;
        settings->row_tokens = half > least ? half : least;
    }
    return CLI_OK;
}

int cli_train_setup_make(cli_session *session, cli_train_setup *setup)
{
    cli_options *options = session->options;
    fur_train_settings *settings = &setup->settings;
    memset(setup, 0, sizeof *setup);
    fur_train_settings_defaults(settings);
    int code = options->resume != NULL ? open_resumed(session, setup) : CLI_OK;
    if (code == CLI_OK)
        code = open_files(session, setup);
    if (code != CLI_OK)
        return code;
    if (options->context > 0 && options->ramp.count > 0 && cli_source_of(options, "ctx-size") == CLI_FROM_COMMAND) {
        if (cli_source_of(options, "context-ramp") == CLI_FROM_COMMAND)
            return cli_refuse(session, CLI_USAGE, "--ctx-size and --context-ramp: expected one of them");
        options->ramp.count = 0;
    }
    choose_rows(options, &setup->info, settings);
    int64_t longest = 1;
    for (int i = 0; i < settings->phase_count; i++)
        longest = settings->phases[i].context > longest ? settings->phases[i].context : longest;
    code = choose_model(session, setup, longest);
    if (code != CLI_OK)
        return code;
    choose_rates(options, settings);
    code = cli_memory_limit(session, &settings->memory_bytes, NULL);
    if (code != CLI_OK)
        return code;
    if (setup->output_dir == NULL)
        setup->output_dir = options->output_dir != NULL ? cli_copy(options->output_dir) : run_folder(&options->files);
    cli_disk disk;
    code = cli_disk_limit(session, setup->output_dir, &disk);
    if (code != CLI_OK)
        return code;
    settings->disk_bytes = disk.bytes;
    settings->disk_dir = options->disk_dir;
    settings->inputs = disk.inputs;
    settings->attention = disk.attention;
    settings->optimizer = disk.optimizer;
    settings->keys = disk.keys;
    settings->stored = disk.stored;
    settings->output_dir = setup->output_dir;
    settings->resume = options->resume;
    code = fit_rows(session, setup, longest);
    if (options->resume == NULL || cli_source_of(options, "epochs") == CLI_FROM_COMMAND)
        choose_steps(options, &setup->info, settings);
    setup->run_json = cli_train_options_json(session, settings, &options->files, &options->eval_files);
    settings->run_json = setup->run_json;
    return code;
}

void cli_train_setup_clear(cli_train_setup *setup)
{
    if (setup->corpus != NULL)
        fur_corpus_close(setup->corpus);
    if (setup->eval != NULL)
        fur_corpus_close(setup->eval);
    cli_free(setup->output_dir);
    cli_free(setup->init_from);
    cli_free(setup->tokenizer);
    cli_free(setup->run_json);
    memset(setup, 0, sizeof *setup);
}

void cli_train_setup_print(const cli_session *session, const cli_train_setup *setup)
{
    const fur_train_settings *s = &setup->settings;
    char a[CLI_UNIT], b[CLI_UNIT];
    cli_string line = {NULL, 0, 0};
    cli_config_line(&line, &s->model);
    cli_say(session, "model    %s", line.text);
    line.length = 0;
    cli_appendf(&line, "%s tokens in %s document%s", cli_thousands(a, setup->info.tokens),
                cli_thousands(b, setup->info.documents), setup->info.documents == 1 ? "" : "s");
    if (setup->eval == NULL)
        cli_appendf(&line, ", the last %.3g %% held out", 100.0 * s->held_out);
    if (setup->info.empty_documents > 0)
        cli_appendf(&line, ", %s empty left out", cli_thousands(a, setup->info.empty_documents));
    if (setup->info.skipped_lines > 0)
        cli_appendf(&line, ", %s bad lines skipped", cli_thousands(a, setup->info.skipped_lines));
    cli_say(session, "data     %s", line.text);
    line.length = 0;
    for (int i = 0; i < s->phase_count; i++) {
        cli_appendf(&line, i == 0 ? "%s" : ", %s", cli_count(a, s->phases[i].context));
        if (s->phases[i].row_tokens > 0)
            cli_appendf(&line, " in rows of %s", cli_count(a, s->phases[i].row_tokens));
        if (i > 0)
            cli_appendf(&line, " from step %" PRId64, s->phases[i].from_step);
    }
    cli_say(session, "context  %s; rows of %s tokens%s", line.text, cli_count(a, s->row_tokens),
            s->grad_accum > 1 ? ", several a step" : "");
    cli_say(session, "steps    %s, learning rate %.3g to %.3g, %s steps of warm-up", cli_thousands(a, s->max_steps),
            s->lr, s->min_lr, cli_thousands(b, s->warmup_steps));
    cli_say(session, "output   %s", s->output_dir);
    cli_string_clear(&line);
}
