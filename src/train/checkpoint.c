/* SPDX-License-Identifier: Apache-2.0 */
#include "train/checkpoint.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/folder.h"
#include "io/hash.h"
#include "io/tensor_source.h"
#include "model/family.h"
#include "text/tokenizer_files.h"

#define STATE_VERSION 1

/* ---- small files ------------------------------------------------------------------------------------------ */

static fur_status write_state(fur_error *error, const char *folder, const fur_trainer_state *s)
{
    fur_json_setup();
    char data_hash[24], seed[24]; /* 64-bit values as text: JSON numbers of other readers are doubles */
    snprintf(data_hash, sizeof data_hash, "%016llx", (unsigned long long)s->data_hash);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)s->seed);
    return fur_json_put(
        error, folder, "trainer.json",
        json_pack(
            "{s:i, s:I, s:I, s:f, s:{s:I, s:I, s:I}, s:s, s:s, s:I, s:I, s:s, s:s, s:{s:I, s:I, s:I, s:I, s:I, s:s, s:b}}",
            "version", STATE_VERSION, "step", (json_int_t)s->step, "tokens", (json_int_t)s->tokens, "loss",
            s->last_loss, "cursor", "phase", (json_int_t)s->cursor.phase, "epoch", (json_int_t)s->cursor.epoch, "index",
            (json_int_t)s->cursor.index, "seed", seed, "data_hash", data_hash, "row_tokens", (json_int_t)s->row_tokens,
            "grad_accum", (json_int_t)s->grad_accum, "isa", s->isa, "dtype", fur_compute_name(s->compute), "plan",
            "tokens", (json_int_t)s->shape.tokens, "superblock", (json_int_t)s->shape.superblock, "token_tile",
            (json_int_t)s->shape.token_tile, "loss_tile", (json_int_t)s->shape.loss_tile, "vocabulary_tile",
            (json_int_t)s->shape.vocabulary_tile, "stored", fur_stored_type_name(s->shape.stored), "table_adam",
            s->shape.row_adam));
}

/* ---- moments ---------------------------------------------------------------------------------------------- */

typedef struct moment_name {
    char text[112];
} moment_name;

/* One moment of one parameter, for the writer of the file. */
typedef struct moment {
    const fur_moments *moments;
    bool v;
    int64_t offset;
} moment;

static fur_status fill_moment(void *user, fur_error *error, int64_t first, int64_t count, void *out)
{
    const moment *from = user;
    return fur_moments_read(error, from->moments, from->v, from->offset + first, count, out);
}

/* Tensors of an optimizer's state in memory, listed for the writer or the reader of the file. */
typedef struct raw_tensor {
    const char *prefix;
    fur_dtype dtype;
    int64_t count;
    void *data;
} raw_tensor;

enum { MOST_TENSORS = 3 }; /* of one parameter */

/* What is kept of a table: in the order of its tiles, as it lies in memory. */
static int table_tensors(const fur_parameter *p, const fur_row_moments *all, int64_t first_table, raw_tensor *out)
{
    int64_t at = p->offset - first_table, rows = p->shape[0];
    if (all->m) {
        out[0] = (raw_tensor){"exp_avg", FUR_DTYPE_F32, p->count, all->m + at};
        out[1] = (raw_tensor){"exp_avg_sq", FUR_DTYPE_F32, p->count, all->v + at};
        return 2;
    }
    out[0] = (raw_tensor){"exp_avg", FUR_DTYPE_BF16, p->count, all->m_bf16 + at};
    out[1] = (raw_tensor){"exp_avg_sq", FUR_DTYPE_F32, rows, all->v_R + p->first_row};
    out[2] = (raw_tensor){"last_step", FUR_DTYPE_U32, rows, all->step_R + p->first_row};
    return 3;
}

static void name_tensor(moment_name *name, const char *prefix, const fur_parameter *p)
{
    snprintf(name->text, sizeof name->text, "%s.%s", prefix, p->name);
}

/* Room for the entries of all parameters. */
typedef struct moment_entries {
    fur_tensor_entry *list;
    moment_name *names;
    moment *sources;
    int64_t count;
} moment_entries;

static bool is_frozen(const fur_model *model, const fur_parameter *p)
{
    return !p->table && fur_trained_at(&model->table, p->offset) < 0;
}

static void list_moments(const fur_model *model, const fur_run *run, moment_entries *out)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (is_frozen(model, p))
            continue;
        raw_tensor raw[MOST_TENSORS] = {{.prefix = "exp_avg"}, {.prefix = "exp_avg_sq"}};
        int tensors = p->table ? table_tensors(p, &run->memory.row_moments, model->table.first_table, raw) : 2;
        for (int k = 0; k < tensors; k++) {
            fur_tensor_entry *entry = &out->list[out->count];
            moment *source = &out->sources[out->count];
            name_tensor(&out->names[out->count], raw[k].prefix, p);
            *source = (moment){&run->memory.moments, k != 0, fur_trained_at(&model->table, p->offset)};
            *entry = (fur_tensor_entry){.name = out->names[out->count++].text};
            if (p->table) {
                entry->dtype = raw[k].dtype;
                entry->rank = 1;
                entry->shape[0] = raw[k].count;
                entry->data = raw[k].data;
                continue;
            }
            entry->dtype = FUR_DTYPE_F32;
            entry->rank = p->rank;
            entry->shape[0] = p->shape[0];
            entry->shape[1] = p->shape[1];
            entry->fill = fill_moment;
            entry->user = source;
        }
    }
}

static fur_status write_moments(fur_error *error, const char *folder, const fur_model *model, const fur_run *run)
{
    size_t most = (size_t)model->table.count * MOST_TENSORS;
    moment_entries entries = {.list = fur_calloc(most, sizeof *entries.list),
                              .names = fur_calloc(most, sizeof *entries.names),
                              .sources = fur_calloc(most, sizeof *entries.sources)};
    char *path = NULL;
    fur_status status = entries.list && entries.names && entries.sources
                            ? fur_path_join(error, folder, "optimizer.safetensors", &path)
                            : fur_memory_error(error, (int64_t)(most * sizeof *entries.names), folder);
    if (status == FUR_OK) {
        list_moments(model, run, &entries);
        status = fur_safetensors_write(error, path, entries.list, entries.count, NULL, 0, NULL);
    }
    fur_free(path);
    fur_free(entries.sources);
    fur_free(entries.names);
    fur_free(entries.list);
    return status;
}

static fur_status read_table_moments(fur_error *error, const fur_safetensors *file, const fur_model *model,
                                     const fur_run *run, const fur_parameter *p)
{
    raw_tensor raw[MOST_TENSORS];
    int tensors = table_tensors(p, &run->memory.row_moments, model->table.first_table, raw);
    for (int k = 0; k < tensors; k++) {
        moment_name name = {0};
        name_tensor(&name, raw[k].prefix, p);
        FUR_TRY(fur_safetensors_read_raw(error, file, name.text, raw[k].dtype, 1, &raw[k].count, raw[k].data));
    }
    return FUR_OK;
}

static fur_status read_moment(fur_error *error, const fur_safetensors *file, fur_model *model, fur_run *run,
                              const fur_parameter *p, bool v)
{
    fur_moments *moments = &run->memory.moments;
    moment_name name = {0};
    name_tensor(&name, v ? "exp_avg_sq" : "exp_avg", p);
    float *in_memory = v ? moments->v_P : moments->m_P, *to = in_memory ? in_memory : model->gradient;
    int64_t at = fur_trained_at(&model->table, p->offset);
    FUR_TRY(fur_safetensors_read_f32(error, file, name.text, p->rank, p->shape, true, to + at));
    return in_memory ? FUR_OK : fur_moments_write(error, moments, v, at, p->count, to + at);
}

fur_status fur_checkpoint_read_moments(fur_context *context, const char *folder, fur_model *model, fur_run *run)
{
    fur_error *error = &context->error;
    char *path;
    FUR_TRY(fur_path_join(error, folder, "optimizer.safetensors", &path));
    fur_safetensors *file = NULL;
    fur_status status = fur_safetensors_open(error, path, &file);
    fur_free(path);
    for (int64_t i = 0; status == FUR_OK && i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (is_frozen(model, p))
            continue;
        if (p->table) {
            status = read_table_moments(error, file, model, run, p);
            continue;
        }
        for (int v = 0; status == FUR_OK && v < 2; v++)
            status = read_moment(error, file, model, run, p, v != 0);
    }
    fur_safetensors_close(file);
    return status;
}

/* ---- manifest --------------------------------------------------------------------------------------------- */

static const char *const own_files[] = {"config.json",         "model.safetensors",
                                        "adapter_config.json", "adapter_model.safetensors",
                                        "trainer.json",        "optimizer.safetensors"};
enum { OWN_FILES = sizeof own_files / sizeof own_files[0], LISTED_FILES = OWN_FILES + FUR_TOKENIZER_FILES };

static const char *listed_file(int i)
{
    return i < OWN_FILES ? own_files[i] : fur_tokenizer_file_names[i - OWN_FILES];
}

/* XXH3 and size of a file, in pieces. */
static fur_status hash_file(fur_error *error, const char *path, uint64_t *hash, int64_t *bytes)
{
    enum { PIECE = 1 << 16 };
    fur_input input;
    FUR_TRY(fur_input_open(error, path, &input));
    char *piece = fur_malloc(PIECE);
    fur_status status = piece ? FUR_OK : fur_memory_error(error, PIECE, path);
    fur_hash state;
    fur_hash_begin(&state);
    for (int64_t at = 0; status == FUR_OK && at < input.bytes; at += PIECE) {
        int64_t part = fur_min_i64(PIECE, input.bytes - at);
        status = fur_input_read(error, &input, at, piece, part);
        if (status == FUR_OK)
            fur_hash_update(&state, piece, part);
    }
    *bytes = input.bytes;
    *hash = fur_hash_end(&state);
    fur_free(piece);
    fur_input_close(&input);
    return status;
}

static fur_status write_manifest(fur_error *error, const char *folder)
{
    json_t *files = json_object();
    fur_status status = files ? FUR_OK : fur_memory_error(error, 4096, "manifest.json");
    for (int i = 0; status == FUR_OK && i < LISTED_FILES; i++) {
        char *path;
        status = fur_path_join(error, folder, listed_file(i), &path);
        if (status == FUR_OK && fur_path_exists(path)) {
            uint64_t hash = 0;
            int64_t bytes = 0;
            status = hash_file(error, path, &hash, &bytes);
            char text[24];
            snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
            if (status == FUR_OK)
                json_object_set_new(files, listed_file(i),
                                    json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3", text));
        }
        fur_free(path);
    }
    if (status != FUR_OK) {
        json_decref(files);
        return status;
    }
    return fur_json_put(error, folder, "manifest.json",
                        json_pack("{s:i, s:o}", "version", STATE_VERSION, "files", files));
}

static fur_status check_listed_file(fur_error *error, const fur_json *manifest, const char *folder, const char *name,
                                    json_t *entry)
{
    char *path;
    if (strchr(name, '/') || !json_is_object(entry))
        return fur_error_set(error, FUR_E_FORMAT, "%s: bad entry '%.100s'", manifest->name, name);
    FUR_TRY(fur_path_join(error, folder, name, &path));
    uint64_t hash = 0;
    int64_t bytes = 0;
    fur_status status = hash_file(error, path, &hash, &bytes);
    char text[24];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)hash);
    const char *wanted = json_string_value(json_object_get(entry, "xxh3"));
    if (status == FUR_OK &&
        (json_integer_value(json_object_get(entry, "bytes")) != bytes || !wanted || strcmp(wanted, text) != 0))
        status = fur_error_set(error, FUR_E_FORMAT, "%s: its content does not match the manifest", path);
    fur_free(path);
    return status;
}

static fur_status check_manifest(fur_error *error, const char *folder)
{
    char *path;
    fur_json manifest = {0};
    FUR_TRY(fur_path_join(error, folder, "manifest.json", &path));
    fur_status status = fur_json_read(error, path, &manifest);
    fur_free(path);
    FUR_TRY(status);
    json_t *files = fur_json_find(&manifest, "files");
    if (!json_is_object(files) || json_object_size(files) == 0)
        status = fur_error_set(error, FUR_E_FORMAT, "%s: lists no files", manifest.name);
    const char *name;
    json_t *entry;
    if (status == FUR_OK)
        json_object_foreach(files, name, entry)
        {
            if (status == FUR_OK)
                status = check_listed_file(error, &manifest, folder, name, entry);
        }
    fur_json_clear(&manifest);
    return status;
}

/* ---- save and find ---------------------------------------------------------------------------------------- */

static fur_status fill_folder(fur_context *context, const char *folder, const fur_model *model, const fur_run *run,
                              const fur_trainer_state *state, const fur_tokenizer_files *tokenizer)
{
    fur_error *error = &context->error;
    FUR_TRY(fur_model_save(context, model, folder));
    FUR_TRY(fur_tokenizer_files_write(error, tokenizer, folder));
    if (!tokenizer->content[0] && model->config.features == 0 && model->config.vocabulary == 256)
        FUR_TRY(fur_tokenizer_files_write_bytes(error, folder, model->config.context));
    if (run)
        FUR_TRY(write_moments(error, folder, model, run));
    FUR_TRY(write_state(error, folder, state));
    return write_manifest(error, folder);
}

static fur_status write_latest(fur_error *error, const char *run_dir, const char *step_dir)
{
    char *path, *line;
    FUR_TRY(fur_path_join(error, run_dir, "latest", &path));
    line = fur_format("%s\n", fur_path_name(step_dir));
    fur_status status =
        line ? fur_file_write(error, path, line, (int64_t)strlen(line)) : fur_memory_error(error, 64, path);
    fur_free(line);
    fur_free(path);
    return status;
}

fur_status fur_checkpoint_save(fur_context *context, const char *run_dir, const fur_model *model, const fur_run *run,
                               const fur_trainer_state *state, const fur_tokenizer_files *tokenizer, char **path)
{
    fur_error *error = &context->error;
    char name[40];
    char *folder = NULL, *staging = NULL;
    snprintf(name, sizeof name, "step-%06lld", (long long)state->step);
    FUR_TRY(fur_path_join(error, run_dir, name, &folder));
    fur_status status = fur_folder_begin(error, folder, &staging);
    if (status == FUR_OK) {
        status = fill_folder(context, staging, model, run, state, tokenizer);
        if (status == FUR_OK)
            status = fur_folder_publish(error, staging, folder);
        else
            fur_folder_remove(staging);
    }
    fur_free(staging);
    if (status == FUR_OK)
        status = write_latest(error, run_dir, folder);
    if (status != FUR_OK) {
        fur_free(folder);
        return status;
    }
    *path = folder;
    return FUR_OK;
}

/* Step number of "step-NNNNNN", or -1. */
static int64_t step_of(const char *name)
{
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9')
        return -1;
    char *end;
    long long step = strtoll(name + 5, &end, 10);
    return *end ? -1 : step;
}

/* Highest step folder below `limit`, -1 if none; *count: how many there are in all; *lowest: the lowest. */
static int64_t highest_step(const char *run_dir, int64_t limit, int64_t *count, int64_t *lowest)
{
    int64_t best = -1;
    *count = 0;
    *lowest = INT64_MAX;
    DIR *dir = opendir(run_dir);
    if (!dir)
        return -1;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        int64_t step = step_of(entry->d_name);
        if (step < 0)
            continue;
        ++*count;
        *lowest = fur_min_i64(*lowest, step);
        if (step < limit && step > best)
            best = step;
    }
    closedir(dir);
    return best;
}

fur_status fur_checkpoint_find(fur_context *context, const char *run_dir, const char *which, char **path)
{
    fur_error *error = &context->error;
    *path = NULL;
    if (strcmp(which, "latest") != 0) {
        FUR_TRY(check_manifest(error, which));
        *path = fur_strdup(which);
        return *path ? FUR_OK : fur_memory_error(error, 64, which);
    }
    int64_t count, lowest;
    int64_t step = highest_step(run_dir, INT64_MAX, &count, &lowest);
    if (step < 0)
        return fur_error_set(error, FUR_E_IO, "%s: no checkpoint to resume from", run_dir);
    for (; step >= 0; step = highest_step(run_dir, step, &count, &lowest)) {
        char name[40], *folder;
        snprintf(name, sizeof name, "step-%06lld", (long long)step);
        FUR_TRY(fur_path_join(error, run_dir, name, &folder));
        if (check_manifest(error, folder) == FUR_OK) {
            *path = folder;
            return FUR_OK;
        }
        fur_log(context, FUR_LOG_WARNING, "passing over a damaged checkpoint: %s", error->text);
        fur_free(folder);
    }
    return fur_error_set(error, FUR_E_FORMAT, "%s: every checkpoint is damaged", run_dir);
}

void fur_checkpoint_prune(const char *run_dir, int64_t keep)
{
    int64_t count, lowest;
    if (keep <= 0)
        return;
    for (highest_step(run_dir, INT64_MAX, &count, &lowest); count > keep;) {
        int64_t before = count;
        char *folder = fur_format("%s/step-%06lld", run_dir, (long long)lowest);
        if (!folder)
            return;
        fur_folder_remove(folder);
        fur_free(folder);
        highest_step(run_dir, INT64_MAX, &count, &lowest);
        if (count == before) /* could not be removed */
            return;
    }
}

/* ---- state ------------------------------------------------------------------------------------------------ */

static fur_status read_plan(fur_error *error, const fur_json *j, fur_run_shape *s)
{
    const int64_t most = (int64_t)1 << 40;
    const char *stored;
    s->purpose = FUR_FOR_TRAIN;
    s->optimizer = 1;
    FUR_TRY(fur_json_int(error, j, "plan.tokens", 1, most, &s->tokens));
    FUR_TRY(fur_json_int(error, j, "plan.superblock", 1, most, &s->superblock));
    FUR_TRY(fur_json_int(error, j, "plan.token_tile", 1, most, &s->token_tile));
    FUR_TRY(fur_json_int(error, j, "plan.loss_tile", 1, most, &s->loss_tile));
    FUR_TRY(fur_json_int(error, j, "plan.vocabulary_tile", 1, most, &s->vocabulary_tile));
    bool adam;
    FUR_TRY(fur_json_bool_or(error, j, "plan.table_adam", false, &adam));
    s->row_adam = adam;
    FUR_TRY(fur_json_string_or(error, j, "plan.stored", fur_stored_type_name(FUR_STORED_F32), &stored));
    s->stored = FUR_STORED_F32;
    while (s->stored <= FUR_STORED_Q8 && strcmp(stored, fur_stored_type_name(s->stored)) != 0)
        s->stored++;
    if (s->stored > FUR_STORED_Q8)
        return fur_error_set(error, FUR_E_FORMAT, "%s: \"plan.stored\" is '%.20s', expected f32, bf16 or q8", j->name,
                             stored);
    return FUR_OK;
}

static fur_status read_state(fur_error *error, const fur_json *j, fur_trainer_state *s)
{
    const int64_t most = INT64_MAX / 4;
    int64_t version;
    const char *seed, *data_hash, *isa, *dtype;
    FUR_TRY(fur_json_int(error, j, "version", 1, STATE_VERSION, &version));
    FUR_TRY(fur_json_int(error, j, "step", 0, most, &s->step));
    FUR_TRY(fur_json_int(error, j, "tokens", 0, most, &s->tokens));
    FUR_TRY(fur_json_number(error, j, "loss", -1e30, 1e30, &s->last_loss));
    FUR_TRY(fur_json_int(error, j, "cursor.phase", 0, FUR_MAX_PHASES, &s->cursor.phase));
    FUR_TRY(fur_json_int(error, j, "cursor.epoch", 0, (int64_t)1 << 31, &s->cursor.epoch));
    FUR_TRY(fur_json_int(error, j, "cursor.index", 0, most, &s->cursor.index));
    FUR_TRY(fur_json_string(error, j, "seed", &seed));
    FUR_TRY(fur_json_string(error, j, "data_hash", &data_hash));
    FUR_TRY(fur_json_int(error, j, "row_tokens", 1, most, &s->row_tokens));
    FUR_TRY(fur_json_int(error, j, "grad_accum", 1, most, &s->grad_accum));
    FUR_TRY(fur_json_string(error, j, "isa", &isa));
    FUR_TRY(fur_json_string_or(error, j, "dtype", "f32", &dtype)); /* older ones do not say it */
    int compute = fur_compute_from_name(dtype);
    if (compute < 0)
        return fur_error_set(error, FUR_E_FORMAT, "%s: dtype is '%.20s', expected f32 or bf16", j->name, dtype);
    s->compute = (fur_compute)compute;
    char *end;
    s->seed = strtoull(seed, &end, 10);
    bool bad = *end || end == seed;
    s->data_hash = strtoull(data_hash, &end, 16);
    if (bad || *end || end == data_hash)
        return fur_error_set(error, FUR_E_FORMAT, "%s: seed or data_hash is not a number", j->name);
    snprintf(s->isa, sizeof s->isa, "%s", isa);
    return read_plan(error, j, &s->shape);
}

fur_status fur_checkpoint_read_state(fur_context *context, const char *folder, fur_trainer_state *out)
{
    char *path;
    fur_json json = {0};
    FUR_TRY(fur_path_join(&context->error, folder, "trainer.json", &path));
    fur_status status = fur_json_read(&context->error, path, &json);
    fur_free(path);
    FUR_TRY(status);
    memset(out, 0, sizeof *out);
    status = read_state(&context->error, &json, out);
    fur_json_clear(&json);
    return status;
}
