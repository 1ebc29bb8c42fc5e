/* SPDX-License-Identifier: Apache-2.0 */
/* Training settings: defaults, checks, schedules, and their record in run.json. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "furlong/furlong.h"
#include "io/file.h"
#include "model/family.h"
#include "train/trainer.h"

void fur_train_settings_defaults(fur_train_settings *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
    s->row_tokens = 4096;
    s->phases[0] = (fur_context_phase){0, 1024, 0};
    s->phase_count = 1;
    s->max_steps = 1000;
    s->grad_accum = 1;
    s->lr = 1e-3;
    s->min_lr = 1e-4;
    s->beta1 = 0.9;
    s->beta2 = 0.95;
    s->adam_eps = 1e-8;
    s->weight_decay = 0.1;
    s->grad_clip = 1.0;
    s->table_lr = 1;
    s->warmup_steps = 50;
    s->error_steps = 100;
    s->keep_checkpoints = 3;
    s->eval_tokens = 1 << 17;
    s->held_out = 0.1;
    s->seed = 1;
}

static fur_status check_between(fur_error *error, const char *name, double value, double low, double high)
{
    if (value >= low && value <= high)
        return FUR_OK;
    return fur_error_set(error, FUR_E_ARGUMENT, "%s is %g, expected %g to %g", name, value, low, high);
}

fur_status fur_train_settings_check(fur_context *context, const fur_train_settings *s)
{
    fur_error *error = &context->error;
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_train_settings has %zu bytes, this library expects %zu",
                             s->struct_size, sizeof *s);
    if (!s->output_dir || !*s->output_dir)
        return fur_error_set(error, FUR_E_ARGUMENT, "training needs an output folder");
    FUR_TRY(check_between(error, "learning rate", s->lr, 1e-12, 100));
    FUR_TRY(check_between(error, "learning rate of tables", s->table_lr, 0, 1e3));
    FUR_TRY(check_between(error, "lowest learning rate", s->min_lr, 0, s->lr));
    FUR_TRY(check_between(error, "beta1", s->beta1, 0, 0.9999999));
    FUR_TRY(check_between(error, "beta2", s->beta2, 0, 0.9999999));
    FUR_TRY(check_between(error, "Adam's epsilon", s->adam_eps, 1e-30, 1));
    FUR_TRY(check_between(error, "weight decay", s->weight_decay, 0, 100));
    FUR_TRY(check_between(error, "gradient clip", s->grad_clip, 0, 1e30));
    FUR_TRY(check_between(error, "held-out share", s->held_out, 0, 0.9));
    FUR_TRY(check_between(error, "steps", (double)s->max_steps, 1, 1e15));
    FUR_TRY(check_between(error, "gradient accumulation", (double)s->grad_accum, 1, 1e9));
    FUR_TRY(check_between(error, "warm-up steps", (double)s->warmup_steps, 0, 1e15));
    FUR_TRY(check_between(error, "save, eval and log steps",
                          (double)fur_min_i64(s->save_steps, fur_min_i64(s->eval_steps, s->log_steps)), 0, 1e15));
    FUR_TRY(check_between(error, "error steps", (double)s->error_steps, 0, 1e15));
    FUR_TRY(check_between(error, "phases", s->phase_count, 1, FUR_MAX_PHASES));
    for (int i = 0; i < s->phase_count; i++) {
        FUR_TRY(check_between(error, "context", (double)s->phases[i].context, 1, 0x1p40));
        if (i == 0 ? s->phases[0].from_step != 0 : s->phases[i].from_step <= s->phases[i - 1].from_step)
            return fur_error_set(error, FUR_E_ARGUMENT, "context phases must begin at step 0 and rise");
        FUR_TRY(
            check_between(error, "row tokens of a phase", (double)s->phases[i].row_tokens, 0, (double)s->row_tokens));
        if (s->phases[i].context > fur_phase_row_tokens(s, i))
            return fur_error_set(error, FUR_E_ARGUMENT, "a context of %lld tokens does not fit a row of %lld",
                                 (long long)s->phases[i].context, (long long)fur_phase_row_tokens(s, i));
    }
    return FUR_OK;
}

int64_t fur_phase_row_tokens(const fur_train_settings *s, int64_t phase)
{
    return s->phases[phase].row_tokens ? s->phases[phase].row_tokens : s->row_tokens;
}

int64_t fur_trainer_context(const fur_train_settings *s, int64_t step, int64_t *phase)
{
    int at = 0;
    while (at + 1 < s->phase_count && s->phases[at + 1].from_step <= step)
        at++;
    if (phase)
        *phase = at;
    return s->phases[at].context;
}

double fur_learning_rate(const fur_train_settings *s, int64_t step)
{
    if (step < s->warmup_steps)
        return s->lr * (double)(step + 1) / (double)s->warmup_steps;
    double length = (double)fur_max_i64(1, s->max_steps - s->warmup_steps);
    double done = fmin(1.0, (double)(step - s->warmup_steps) / length);
    return s->min_lr + 0.5 * (s->lr - s->min_lr) * (1.0 + cos(3.14159265358979323846 * done));
}

void fur_train_request(const fur_train_settings *s, const fur_corpus *corpus, const fur_corpus *eval,
                       fur_plan_request *out)
{
    fur_corpus_info info;
    fur_plan_request_defaults(out);
    out->purpose = FUR_FOR_TRAIN;
    out->row_tokens = s->row_tokens;
    for (int i = 0; i < s->phase_count; i++)
        out->document_tokens = fur_max_i64(out->document_tokens, s->phases[i].context);
    out->memory_bytes = s->memory_bytes;
    fur_corpus_info_read(corpus, &info);
    out->data_bytes = info.bytes_held;
    if (eval) {
        fur_corpus_info_read(eval, &info);
        out->data_bytes += info.bytes_held;
    }
    out->disk_bytes = s->disk_bytes;
    out->disk_dir = s->disk_dir ? s->disk_dir : s->output_dir;
    out->inputs = s->inputs;
    out->attention = s->attention;
    out->optimizer = s->optimizer;
    out->keys = s->keys;
    out->key_groups = s->key_groups;
    out->stored = s->stored;
    out->error_rows = FUR_ERROR_ROWS;
    out->row_updates = true;
    out->row_adam = s->table_adam;
    out->keep = s->keep;
    out->superblock = s->superblock;
}

/* ---- run.json --------------------------------------------------------------------------------------------- */

static json_t *settings_json(const fur_train_settings *s)
{
    json_t *phases = json_array();
    for (int i = 0; phases && i < s->phase_count; i++)
        json_array_append_new(phases, json_pack("{s:I, s:I, s:I}", "from_step", (json_int_t)s->phases[i].from_step,
                                                "context", (json_int_t)s->phases[i].context, "row_tokens",
                                                (json_int_t)fur_phase_row_tokens(s, i)));
    return json_pack(
        "{s:s*, s:I, s:o, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:f,"
        " s:I, s:I, s:I, s:s*, s:s, s:s, s:s, s:s, s:I, s:s, s:i, s:I, s:b, s:I}",
        "init_from", s->init_from, "row_tokens", (json_int_t)s->row_tokens, "phases", phases, "max_steps",
        (json_int_t)s->max_steps, "grad_accum", (json_int_t)s->grad_accum, "lr", s->lr, "min_lr", s->min_lr, "beta1",
        s->beta1, "beta2", s->beta2, "adam_eps", s->adam_eps, "weight_decay", s->weight_decay, "grad_clip",
        s->grad_clip, "table_lr", s->table_lr, "table_adam", s->table_adam, "warmup_steps", (json_int_t)s->warmup_steps,
        "save_steps", (json_int_t)s->save_steps, "eval_steps", (json_int_t)s->eval_steps, "log_steps",
        (json_int_t)s->log_steps, "keep_checkpoints", (json_int_t)s->keep_checkpoints, "eval_tokens",
        (json_int_t)s->eval_tokens, "held_out", s->held_out, "seed", (json_int_t)s->seed, "memory_bytes",
        (json_int_t)s->memory_bytes, "disk_bytes", (json_int_t)s->disk_bytes, "disk_dir", s->disk_dir, "inputs",
        fur_store_place_name(s->inputs), "attention", fur_store_place_name(s->attention), "optimizer",
        fur_store_place_name(s->optimizer), "keys", fur_store_place_name(s->keys), "key_groups",
        (json_int_t)s->key_groups, "stored", fur_stored_type_name(s->stored), "keep", (int)s->keep, "superblock",
        (json_int_t)s->superblock, "skip_nonfinite", s->skip_nonfinite, "error_steps", (json_int_t)s->error_steps);
}

static json_t *plan_json(const fur_plan *plan)
{
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:b, s:b, s:s, s:I, s:s, s:s, s:I, s:s}",
                     "peak_bytes", (json_int_t)plan->peak_bytes, "disk_bytes", (json_int_t)plan->disk_bytes,
                     "arena_bytes", (json_int_t)plan->arena_bytes, "flops", plan->flops, "seconds", plan->seconds,
                     "superblock", (json_int_t)plan->superblock, "token_tile", (json_int_t)plan->token_tile,
                     "loss_tile", (json_int_t)plan->loss_tile, "vocabulary_tile", (json_int_t)plan->vocabulary_tile,
                     "keep_attention", plan->keep_attention, "keep_hidden", plan->keep_hidden, "inputs",
                     fur_store_place_name(plan->inputs), "segment_layers", (json_int_t)plan->segment_layers,
                     "attention", fur_store_place_name(plan->attention), "optimizer",
                     fur_store_place_name(plan->optimizer), "key_groups", (json_int_t)plan->key_groups, "stored",
                     fur_stored_type_name(plan->stored));
}

fur_status fur_run_json_write(const fur_trainer *t)
{
    fur_error *error = &t->context->error;
    const fur_corpus_info *info = &t->train.info;
    char hash[24];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)info->hash);
    fur_json_setup();
    json_t *program = NULL;
    if (t->settings->run_json) {
        fur_json parsed = {0};
        FUR_TRY(
            fur_json_parse(error, "run_json", t->settings->run_json, (int64_t)strlen(t->settings->run_json), &parsed));
        program = json_incref(parsed.root);
        fur_json_clear(&parsed);
    }
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:i, s:o*, s:o, s:o, s:{s:I, s:I, s:s}, s:o}", "furlong", fur_version(), "isa",
                  fur_context_isa(t->context), "dtype", fur_context_dtype(t->context), "threads",
                  fur_context_threads(t->context), "program", program, "settings", settings_json(t->settings), "model",
                  fur_config_to_json(&t->model->config), "data", "documents", (json_int_t)info->documents, "tokens",
                  (json_int_t)info->tokens, "hash", hash, "plan", plan_json(&t->plan));
    char *path = NULL;
    fur_status status = json ? fur_path_join(error, t->settings->output_dir, "run.json", &path)
                             : fur_memory_error(error, 4096, "run.json");
    if (status == FUR_OK)
        status = fur_json_write(error, path, json, 2);
    fur_free(path);
    json_decref(json);
    return status;
}
