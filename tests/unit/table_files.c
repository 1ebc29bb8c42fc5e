/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up tables in files: what is stored is the rounding that its type promises; every verb's way to them, unpacked or
 * mapped, gives the same values; outputs over mapped tables are those over tiles; what is wrong in a file is refused by
 * the tensor's name; failing allocations and writes leave nothing behind.
 *
 * Outputs over f32 and bf16 tables are the same bits in both layouts, since both sum over slots in ascending order and
 * a bf16 is exact in f32. A map of int8 rows rounds scale times weight once where tiles of unpacked values round scale
 * times int8: against double each stays within (slots + 4) u of the sum of absolute terms, as op/lookup states. Whole
 * models are not compared for int8: a sign that such a difference turns picks another row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/folder.h"
#include "io/json.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/run.h"
#include "op/matmul/matmul.h"

static const char *const types[] = {"f32", "bf16", "int8"};

/* A case with tables, its folder, and that of each type made from it. */
typedef struct scene {
    const kit_model_case *at;
    fur_context *context;
    kit_folder folder;
    char from[600], to[3][600];
} scene;

static int has_tables(const fur_model_config *c)
{
    return c->lookup_bits > 0;
}

static const kit_model_case *first_with_tables(void)
{
    const kit_model_case *at = kit_model_cases;
    while (!has_tables(&at->config))
        at++;
    return at;
}

static void set_scene(const kit_model_case *at, int threads, scene *s)
{
    *s = (scene){.at = at, .context = kit_context(threads)};
    kit_folder_init(&s->folder);
    snprintf(s->from, sizeof s->from, "%s/model", s->folder.path);
    fur_model *model = kit_model(s->context, &at->config, 3);
    fur_error error;
    kit_expect_ok(&error, fur_folder_create(&error, s->from));
    kit_ok(s->context, fur_model_save(s->context, model, s->from));
    fur_model_destroy(model);
    for (int type = 0; type < 3; type++) {
        fur_conversion done;
        snprintf(s->to[type], sizeof s->to[type], "%s/%s", s->folder.path, types[type]);
        kit_ok(s->context, fur_model_convert(s->context, s->from, s->to[type], types[type], NULL, NULL, &done));
        assert_int_equal(done.table_type, type);
        assert_true(done.tables > 0 && (type == FUR_TABLE_F32) == (done.bytes_after == done.bytes_before));
    }
}

static void clear_scene(scene *s)
{
    kit_folder_clear(&s->folder);
    fur_context_destroy(s->context);
}

static char *contents(const char *folder, const char *name, int64_t *bytes)
{
    char path[700], *text;
    fur_error error;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    kit_expect_ok(&error, fur_file_read(&error, path, (int64_t)1 << 30, &text, bytes));
    return text;
}

static void same_file(const char *a, const char *b, const char *name)
{
    int64_t bytes, others;
    char *one = contents(a, name, &bytes), *other = contents(b, name, &others);
    assert_int_equal(bytes, others);
    kit_check_same_bits(name, one, other, (size_t)bytes);
    fur_free(one);
    fur_free(other);
}

/* ---- what is stored -----------------------------------------------------------------------------------------------
 */

/* The nearest bf16, ties to even, by its definition: of the two of them about x, the nearer. */
static float nearest_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t low = bits & 0xffff0000u, high = low + 0x10000u;
    float below, above;
    memcpy(&below, &low, sizeof below);
    memcpy(&above, &high, sizeof above);
    double down = fabs((double)x - (double)below), up = fabs((double)above - (double)x);
    return down < up || (!(up < down) && !(low & 0x10000u)) ? below : above;
}

static void check_row(int type, int64_t columns, const float *x, const float *stored, double *largest)
{
    double most = 0;
    for (int64_t i = 0; i < columns; i++)
        most = fmax(most, fabs((double)x[i]));
    for (int64_t i = 0; i < columns; i++) {
        double off = fabs((double)x[i] - (double)stored[i]), half = most / 254;
        if (type == FUR_TABLE_F32)
            assert_true(x[i] == stored[i]);
        if (type == FUR_TABLE_BF16)
            assert_true(nearest_bf16(x[i]) == stored[i]);
        if (type == FUR_TABLE_INT8) /* half a step, the scale's own rounding, and that of int8 times scale */
            assert_true(off <= half + 3 * KIT_U * most);
        *largest = fmax(*largest, most > 0 ? off / most : 0);
    }
}

static void get_row(const fur_parameter_info *p, int64_t row, float *out)
{
    for (int64_t i = 0; i < p->shape[1]; i++)
        out[i] = p->data[(i / 64 * p->shape[0] + row) * 64 + i % 64];
}

typedef struct report {
    int64_t tables;
    double largest;
} report;

static void count_tables(void *user, const fur_converted_table *table)
{
    report *t = user;
    t->tables++;
    t->largest = fmax(t->largest, table->largest_error);
    assert_true(table->error_norm <= table->largest_error * sqrt((double)table->columns));
}

/* Every table of the model converted, against that it was made from. */
static void check_values(const scene *s, int type)
{
    fur_model *model, *stored;
    double largest = 0;
    kit_ok(s->context, fur_model_load(s->context, s->from, &model));
    kit_ok(s->context, fur_model_load(s->context, s->to[type], &stored));
    assert_int_equal(fur_model_config_of(stored)->table_type, type);
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p, q;
        fur_model_parameter(model, i, &p);
        fur_model_parameter(stored, i, &q);
        if (!p.table) {
            kit_check_same_bits(p.name, p.data, q.data, (size_t)p.count * sizeof(float));
            continue;
        }
        float *x = malloc((size_t)p.shape[1] * sizeof *x), *y = malloc((size_t)p.shape[1] * sizeof *y);
        assert_true(x && y);
        for (int64_t row = 0; row < p.shape[0]; row++) {
            get_row(&p, row, x);
            get_row(&q, row, y);
            check_row(type, p.shape[1], x, y, &largest);
        }
        free(x);
        free(y);
    }
    char again[600];
    snprintf(again, sizeof again, "%s/again", s->folder.path);
    report told = {0};
    fur_conversion done;
    kit_ok(s->context, fur_model_convert(s->context, s->from, again, types[type], count_tables, &told, &done));
    assert_true(fabs(told.largest - largest) <= 1e-12 && done.largest_error == told.largest);
    assert_int_equal(told.tables, done.tables);
    same_file(again, s->to[type], "model.safetensors");
    same_file(again, s->to[type], "config.json");
    fur_folder_remove(again);
    fur_model_destroy(model);
    fur_model_destroy(stored);
}

static void stored_values_are_rounded_as_their_type_says(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        if (!has_tables(&kit_model_cases[i].config))
            continue;
        scene s;
        set_scene(&kit_model_cases[i], 2, &s);
        for (int type = 0; type < 3; type++)
            check_values(&s, type);
        same_file(s.from, s.to[FUR_TABLE_F32], "model.safetensors");
        clear_scene(&s);
    }
}

/* As they are: to the bit; and from bf16 to f32 and back too. */
static void tables_that_stay_are_copied(void **state)
{
    (void)state;
    scene s;
    fur_conversion done;
    char to[2][600];
    set_scene(first_with_tables(), 1, &s);
    snprintf(to[0], sizeof to[0], "%s/deeper/stay", s.folder.path);
    snprintf(to[1], sizeof to[1], "%s/back", s.folder.path);
    for (int type = 0; type < 3; type++) {
        kit_write(&s.folder, type == 1 ? "bf16/tokenizer.json" : "other", "{}", -1);
        kit_ok(s.context, fur_model_convert(s.context, s.to[type], to[0], NULL, NULL, NULL, &done));
        assert_true(done.table_type == (fur_table_type)type && !(done.largest_error > 0));
        same_file(s.to[type], to[0], "model.safetensors");
        assert_int_equal(kit_entries(to[0]), type == 1 ? 3 : 2);
        fur_folder_remove(to[0]);
    }
    kit_ok(s.context, fur_model_convert(s.context, s.to[1], to[0], "f32", NULL, NULL, &done));
    assert_true(!(done.largest_error > 0) && done.bytes_after > done.bytes_before);
    kit_ok(s.context, fur_model_convert(s.context, to[0], to[1], "bf16", NULL, NULL, &done));
    assert_true(!(done.largest_error > 0));
    same_file(s.to[1], to[1], "model.safetensors");
    clear_scene(&s);
}

/* ---- mapped against tiles -----------------------------------------------------------------------------------------
 */

static float *outputs(fur_context *context, fur_model *model, const kit_row *row)
{
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_EVAL;
    request.row_tokens = row->tokens;
    const fur_model_config *c = fur_model_config_of(model);
    float *y = calloc((size_t)(row->tokens * c->vocabulary), sizeof *y);
    assert_non_null(y);
    kit_ok(context, fur_plan_make(context, c, &request, &plan));
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    kit_ok(context, fur_model_outputs(run, &row->row, y));
    fur_run_destroy(run);
    return y;
}

typedef struct continuation {
    int32_t ids[600];
    int64_t count;
} continuation;

static int take(void *user, int32_t id)
{
    continuation *t = user;
    t->ids[t->count++] = id;
    return 0;
}

/* A prompt that goes over in two chunks, and what follows it. */
static continuation generated(fur_context *context, fur_model *model, const int32_t *ids, int64_t prompt)
{
    continuation t = {.count = 0};
    fur_sampling greedy;
    fur_sampling_defaults(&greedy);
    greedy.temperature = 0;
    kit_ok(context, fur_generate(context, model, ids, prompt, 24, &greedy, 0, take, &t));
    return t;
}

static void mapped_tables_give_what_tiles_give(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        if (!has_tables(&kit_model_cases[i].config))
            continue;
        kit_model_case at = kit_model_cases[i];
        at.config = kit_config_for(&at.config, 700);
        scene s;
        set_scene(&at, 2, &s);
        kit_row row, prompt;
        kit_row_create(&at.config, at.lengths, 1, 9, &row);
        kit_row_create(&at.config, (int64_t[]){600, 0}, 1, 9, &prompt);
        for (int type = 0; type < 2; type++) {
            fur_model *tiles, *rows;
            kit_ok(s.context, fur_model_load(s.context, s.to[type], &tiles));
            kit_ok(s.context, fur_model_open(s.context, s.to[type], &rows));
            assert_true(rows->rows && rows->data_bytes < tiles->data_bytes);
            float *a = outputs(s.context, tiles, &row), *b = outputs(s.context, rows, &row);
            kit_check_same_bits(types[type], a, b, (size_t)(row.tokens * at.config.vocabulary) * sizeof *a);
            free(a);
            free(b);
            if (at.config.causal) {
                continuation x = generated(s.context, tiles, prompt.ids, 600),
                             y = generated(s.context, rows, prompt.ids, 600);
                assert_int_equal(x.count, 24);
                kit_check_same_bits("what follows a prompt", x.ids, y.ids, 24 * sizeof x.ids[0]);
            }
            fur_model_destroy(tiles);
            fur_model_destroy(rows);
        }
        kit_row_destroy(&row);
        kit_row_destroy(&prompt);
        clear_scene(&s);
    }
}

/* y of one map against double. */
static void check_map(const scene *s, const fur_model *model, const fur_map_offsets *at)
{
    enum { TOKENS = 5 };
    fur_projection map = fur_model_map(model, at);
    fur_exec exec = s->context->exec;
    fur_arena arena;
    int64_t slots = at->in / at->lookup.bits * (at->lookup.two_rows ? 2 : 1), K = at->in / at->lookup.bits;
    float x[TOKENS * 512], y[TOKENS * 512], row[512];
    assert_true(at->in <= 512 && at->out <= 512);
    kit_ok(s->context, fur_arena_create(exec.error, map.kind->workspace(&exec, &map, TOKENS, 0) + 4096, &arena));
    exec.workspace = &arena;
    kit_fill_f32(x, TOKENS * at->in, KIT_NORMAL, 5);
    fur_projection_input input;
    kit_ok(s->context, map.kind->prepare(&exec, &map, TOKENS, x, at->in, &input));
    kit_ok(s->context, map.kind->forward(&exec, &map, &input, 0, y, at->out));
    for (int64_t t = 0; t < TOKENS; t++) {
        double want[512] = {0}, bound[512] = {0};
        for (int64_t o = 0; o < at->out; o++) {
            want[o] = map.bias ? (double)map.bias[o] : 0;
            bound[o] = fabs(want[o]);
        }
        for (int64_t n = 0; n < slots; n++) {
            int64_t r = (n % K << at->lookup.bits) + input.codes.code_ST[n * TOKENS + t];
            fur_row_table_get(&model->rows[at->table_index], r, at->out, row);
            for (int64_t o = 0; o < at->out; o++) {
                double term = (double)input.codes.weight_ST[n * TOKENS + t] * (double)row[o];
                want[o] += term;
                bound[o] += fabs(term);
            }
        }
        for (int64_t o = 0; o < at->out; o++)
            bound[o] *= (double)(slots + 4) * KIT_U;
        kit_check_bound("a map over rows", y + t * at->out, want, bound, 1, at->out);
    }
    fur_arena_destroy(&arena);
}

static void maps_over_rows_are_within_the_bound(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        if (!has_tables(&kit_model_cases[i].config))
            continue;
        scene s;
        set_scene(&kit_model_cases[i], 2, &s);
        for (int type = 0; type < 3; type++) {
            fur_model *model;
            int checked = 0;
            kit_ok(s.context, fur_model_open(s.context, s.to[type], &model));
            for (int n = 0; n < FUR_LAYER_MAPS; n++) {
                const fur_map_offsets *at = fur_layer_map(&model->table.layers[1], n);
                if (at->in && at->table_index >= 0) {
                    check_map(&s, model, at);
                    checked++;
                }
            }
            assert_true(checked >= 2);
            fur_model_destroy(model);
        }
        clear_scene(&s);
    }
}

/* The plan counts what generation holds, tables with all their rows; and a limit below that is refused. */
static void generation_is_planned_with_its_tables(void **state)
{
    (void)state;
    scene s;
    set_scene(first_with_tables(), 1, &s);
    int64_t before = 0;
    for (int type = 2; type >= 0; type--) {
        fur_model *model;
        fur_plan_request request;
        fur_plan plan;
        kit_ok(s.context, fur_model_open(s.context, s.to[type], &model));
        fur_plan_request_defaults(&request);
        request.purpose = FUR_FOR_GENERATE;
        request.row_tokens = 64;
        kit_ok(s.context, fur_plan_make(s.context, &model->config, &request, &plan));
        int64_t tables = 0;
        for (int i = 0; i < plan.item_count; i++)
            tables += strstr(plan.items[i].name, "tables") ? plan.items[i].bytes : 0;
        assert_true(tables == model->row_bytes && tables > before);
        before = tables;
        int32_t prompt[] = {1, 2, 3};
        continuation t = {.count = 0};
        fur_sampling sampling;
        fur_sampling_defaults(&sampling);
        assert_int_equal(fur_generate(s.context, model, prompt, 3, 2, &sampling, tables, take, &t), FUR_E_DOES_NOT_FIT);
        assert_int_equal(t.count, 0);
        fur_model_destroy(model);
    }
    clear_scene(&s);
}

static void mapped_models_keep_to_what_they_can(void **state)
{
    (void)state;
    scene s;
    set_scene(first_with_tables(), 1, &s);
    fur_model *model;
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    kit_ok(s.context, fur_model_open(s.context, s.to[0], &model));
    fur_plan_request_defaults(&request);
    request.row_tokens = 64;
    kit_ok(s.context, fur_plan_make(s.context, &model->config, &request, &plan));
    assert_int_equal(fur_run_create(s.context, model, &plan, &request, &run), FUR_E_UNSUPPORTED);
    int64_t tables = 0;
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        assert_true(p.table == (p.data == NULL));
        tables += p.table;
    }
    assert_int_equal(tables, model->table.tables);
    fur_model_destroy(model);
    clear_scene(&s);
}

/* What a decoded token is told to read, and what is refused; times are only told. */
static void decoding_is_timed(void **state)
{
    (void)state;
    scene s;
    set_scene(first_with_tables(), 2, &s);
    const fur_model_config *c = &s.at->config;
    fur_bench_decode_settings settings = {.prompt_tokens = 5};
    fur_bench_result dense, result;
    kit_ok(s.context, fur_bench_decode(s.context, NULL, &kit_model_cases[0].config, &settings, &dense));
    assert_true(dense.repetitions == 64 && dense.head_seconds > 0 && dense.decode_seconds > dense.head_seconds);
    /* q, k, v, o of 32 x 32, up and down of 32 x 128, three layers; the head 97 x 32 */
    assert_true(dense.read_bytes == 4 * 3 * (4 * 32 * 32 + 2 * 32 * 128) && dense.head_bytes == 4 * 97 * 32);
    for (int type = 0; type < 3; type++) {
        fur_model_config config = *c;
        config.table_type = (fur_table_type)type;
        kit_ok(s.context, fur_bench_decode(s.context, s.to[type], NULL, &settings, &result));
        int64_t bytes = result.read_bytes;
        settings.cold = true;
        kit_ok(s.context, fur_bench_decode(s.context, NULL, &config, &settings, &result));
        settings.cold = false;
        /* rows of q, k, v, up from 32 / 4 tables, of down from 48 / 6 */
        int64_t rows = 3 * (8 * (3 * 32 + 48) + 8 * 32);
        assert_true(bytes == rows * (type == 0 ? 4 : type == 1 ? 2 : 1) && bytes == result.read_bytes);
        assert_true(result.multiplications == (double)rows);
    }
    settings.memory_bytes = 1 << 20;
    assert_int_equal(fur_bench_decode(s.context, NULL, c, &settings, &result), FUR_E_DOES_NOT_FIT);
    assert_int_equal(fur_bench_decode(s.context, s.to[0], NULL, &settings, &result), FUR_E_DOES_NOT_FIT);
    settings = (fur_bench_decode_settings){.prompt_tokens = 0};
    assert_int_equal(fur_bench_decode(s.context, NULL, c, &settings, &result), FUR_E_ARGUMENT);
    settings.prompt_tokens = 5;
    assert_int_equal(fur_bench_decode(s.context, NULL, &kit_model_cases[7].config, &settings, &result),
                     FUR_E_UNSUPPORTED);
    clear_scene(&s);
}

/* ---- refusals -----------------------------------------------------------------------------------------------------
 */

typedef struct change {
    const char *folder; /* type of the tables that the config names */
    const char *tensor; /* the end of its name */
    fur_dtype dtype;    /* FUR_DTYPE_COUNT: dropped */
    int64_t rows;       /* added to the first size */
    double value;       /* of element 3, where the type has it; 0 as it is, -0.0 zero */
    fur_status status;
    const char *part;
} change;

/* The tensors of folder/model.safetensors with that change, over the file. */
static void rewrite(const char *folder, const change *c)
{
    fur_tensor_source *source;
    fur_error error;
    fur_tensor_entry entries[80];
    void *data[80];
    int64_t count = 0;
    char path[700];
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    kit_expect_ok(&error, fur_tensor_source_open(&error, folder, &source));
    int met = 0;
    for (int64_t i = 0; i < fur_tensor_source_count(source); i++) {
        const fur_tensor_info *info = fur_tensor_source_at(source, i);
        fur_tensor_entry *e = &entries[count];
        *e = (fur_tensor_entry){.name = info->name, .dtype = info->dtype, .rank = info->rank};
        memcpy(e->shape, info->shape, sizeof e->shape);
        data[count] = calloc(2, (size_t)info->bytes + 4096);
        assert_non_null(data[count]);
        kit_expect_ok(&error, fur_tensor_source_read_raw(&error, source, info->name, info->dtype, info->rank,
                                                         info->shape, data[count]));
        e->data = data[count++];
        size_t length = strlen(info->name), tail = strlen(c->tensor);
        if (met || length < tail || strcmp(info->name + length - tail, c->tensor) != 0)
            continue;
        met = 1;
        e->dtype = c->dtype;
        e->shape[0] += c->rows;
        if (c->dtype == FUR_DTYPE_COUNT)
            free(data[--count]);
        float value = (float)c->value;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        uint16_t high = (uint16_t)(bits >> 16);
        if (bits && c->dtype == FUR_DTYPE_F32)
            memcpy((char *)data[count - 1] + 12, &value, sizeof value);
        if (bits && c->dtype == FUR_DTYPE_BF16)
            memcpy((char *)data[count - 1] + 6, &high, sizeof high);
    }
    assert_true(met);
    kit_expect_ok(&error, fur_safetensors_write(&error, path, entries, count, NULL, 0, NULL));
    fur_tensor_source_close(source);
    for (int64_t i = 0; i < count; i++)
        free(data[i]);
}

static const change changes[] = {
    {"int8", "up_proj.table_scale", FUR_DTYPE_COUNT, 0, 0, FUR_E_FORMAT, "mlp.up_proj.table_scale\" is missing"},
    {"int8", "up_proj.table_scale", FUR_DTYPE_F32, 0, -0.0, FUR_E_FORMAT, "mlp.up_proj.table_scale\": element 3 is -0"},
    {"int8", "up_proj.table_scale", FUR_DTYPE_F32, 0, -1, FUR_E_FORMAT, "mlp.up_proj.table_scale\": element 3 is -1"},
    {"int8", "up_proj.table_scale", FUR_DTYPE_F32, 0, (double)INFINITY, FUR_E_FORMAT,
     "table_scale\": element 3 is inf"},
    {"int8", "up_proj.table_scale", FUR_DTYPE_F32, 0, (double)NAN, FUR_E_FORMAT, "table_scale\": element 3 is nan"},
    {"int8", "up_proj.table_scale", FUR_DTYPE_F32, 1, 0, FUR_E_FORMAT, "mlp.up_proj.table_scale\": shape"},
    {"int8", "up_proj.table_scale", FUR_DTYPE_I32, 0, 0, FUR_E_FORMAT, "table_scale\": dtype I32, expected F32"},
    {"int8", "up_proj.table", FUR_DTYPE_U8, 0, 0, FUR_E_FORMAT, "mlp.up_proj.table\": dtype U8, expected I8"},
    {"int8", "up_proj.table", FUR_DTYPE_I8, -1, 0, FUR_E_SHAPE, "mlp.up_proj.table\": shape"},
    {"int8", "up_proj.table", FUR_DTYPE_COUNT, 0, 0, FUR_E_FORMAT, "mlp.up_proj.table\" is missing"},
    {"bf16", "up_proj.table", FUR_DTYPE_F16, 0, 0, FUR_E_FORMAT, "mlp.up_proj.table\": dtype F16, expected BF16"},
    {"bf16", "up_proj.table", FUR_DTYPE_BF16, 0, (double)NAN, FUR_E_NONFINITE, "up_proj.table\": element 3 is nan"},
    {"bf16", "up_proj.table", FUR_DTYPE_BF16, 0, -(double)INFINITY, FUR_E_NONFINITE, "table\": element 3 is -inf"},
    {"f32", "up_proj.table", FUR_DTYPE_F32, 0, (double)NAN, FUR_E_NONFINITE, "mlp.up_proj.table\": element 3 is nan"},
    {"f32", "up_proj.table", FUR_DTYPE_F32, 0, (double)INFINITY, FUR_E_NONFINITE, "up_proj.table\": element 3 is inf"},
    {"f32", "up_proj.table", FUR_DTYPE_U32, 0, 0, FUR_E_FORMAT, "mlp.up_proj.table\": dtype U32, expected F32"},
};

static void expect_refused(const scene *s, const char *folder, fur_status wanted, const char *part)
{
    int64_t live = fur_alloc_live();
    for (int mapped = 0; mapped < 2; mapped++) {
        fur_model *model;
        fur_status status =
            mapped ? fur_model_open(s->context, folder, &model) : fur_model_load(s->context, folder, &model);
        if (status != wanted || model || !strstr(fur_context_error(s->context), part))
            fail_msg("wanted \"%s\": status \"%s\", text \"%s\"", part, fur_status_name(status),
                     fur_context_error(s->context));
        assert_int_equal(fur_alloc_live(), live);
    }
}

static void wrong_tables_are_refused_by_name(void **state)
{
    (void)state;
    scene s;
    set_scene(first_with_tables(), 1, &s);
    fur_conversion done;
    char folder[600];
    snprintf(folder, sizeof folder, "%s/wrong", s.folder.path);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        kit_ok(s.context, fur_model_convert(s.context, s.from, folder, changes[i].folder, NULL, NULL, &done));
        rewrite(folder, &changes[i]);
        expect_refused(&s, folder, changes[i].status, changes[i].part);
        fur_folder_remove(folder);
    }
    /* the config of another type: scales that are of no table, tables of another type; and a type there is not */
    kit_ok(s.context, fur_model_convert(s.context, s.from, folder, "int8", NULL, NULL, &done));
    int64_t bytes;
    char *text = contents(s.to[FUR_TABLE_BF16], "config.json", &bytes);
    kit_write(&s.folder, "wrong/config.json", text, bytes);
    expect_refused(&s, folder, FUR_E_FORMAT, "table_scale' is not part of this model");
    int64_t at = 0;
    while (at < bytes - 6 && memcmp(text + at, "\"bf16\"", 6) != 0)
        at++;
    memcpy(text + at, "\"q9_0\"", 6);
    kit_write(&s.folder, "wrong/config.json", text, bytes);
    fur_free(text);
    expect_refused(&s, folder, FUR_E_UNSUPPORTED, "table_type is q9_0");
    /* a byte more in the header: the tables of f32 no longer begin where an f32 may */
    text = contents(s.to[FUR_TABLE_F32], "model.safetensors", &bytes);
    char *shifted = malloc((size_t)bytes + 1);
    assert_non_null(shifted);
    uint64_t header;
    memcpy(&header, text, sizeof header);
    memcpy(shifted, text, 8 + (size_t)header);
    shifted[8 + header] = ' ';
    memcpy(shifted + 9 + header, text + 8 + header, (size_t)bytes - 8 - (size_t)header);
    header++;
    memcpy(shifted, &header, sizeof header);
    kit_write(&s.folder, "f32/model.safetensors", shifted, bytes + 1);
    expect_refused(&s, s.to[FUR_TABLE_F32], FUR_E_FORMAT, "of the file, expected a multiple of 4");
    fur_free(text);
    free(shifted);
    clear_scene(&s);
}

static void conversions_that_cannot_be_are_refused(void **state)
{
    (void)state;
    scene s;
    fur_conversion done;
    char to[600];
    set_scene(first_with_tables(), 1, &s);
    snprintf(to, sizeof to, "%s/new", s.folder.path);
    assert_int_equal(fur_model_convert(s.context, s.from, s.to[1], "int8", NULL, NULL, &done), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(s.context), "bf16 exists already"));
    assert_int_equal(fur_model_convert(s.context, s.from, to, "int4", NULL, NULL, &done), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(s.context), "'int4', expected f32, bf16 or int8"));
    /* above the largest bf16 */
    change huge = {"f32", "up_proj.table", FUR_DTYPE_F32, 0, 3.4e38, FUR_OK, ""};
    rewrite(s.from, &huge);
    assert_int_equal(fur_model_convert(s.context, s.from, to, "bf16", NULL, NULL, &done), FUR_E_NONFINITE);
    assert_non_null(strstr(fur_context_error(s.context), "up_proj.table\": element 3 overflows"));
    kit_ok(s.context, fur_model_convert(s.context, s.from, to, "int8", NULL, NULL, &done));
    fur_folder_remove(to);
    fur_model *dense = kit_model(s.context, &kit_model_cases[0].config, 3);
    kit_ok(s.context, fur_model_save(s.context, dense, s.from));
    fur_model_destroy(dense);
    assert_int_equal(fur_model_convert(s.context, s.from, to, "bf16", NULL, NULL, &done), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(s.context), "no look-up tables"));
    kit_ok(s.context, fur_model_convert(s.context, s.from, to, NULL, NULL, NULL, &done));
    assert_int_equal(done.tables, 0);
    same_file(s.from, to, "model.safetensors");
    clear_scene(&s);
}

static void stop(void *user, const fur_converted_table *table)
{
    (void)table;
    fur_context_stop(user);
}

/* Told to stop as tables are looked at, which is before the first is written, or when the last one is known. */
static void stopped_conversions_leave_nothing(void **state)
{
    (void)state;
    scene s;
    fur_conversion done;
    char to[600];
    set_scene(first_with_tables(), 1, &s);
    snprintf(to, sizeof to, "%s/new", s.folder.path);
    int entries = kit_entries(s.folder.path);
    assert_int_equal(fur_model_convert(s.context, s.from, to, "int8", stop, s.context, &done), FUR_E_INTERRUPTED);
    assert_int_equal(done.tables, 1);
    assert_non_null(strstr(fur_context_error(s.context), "new was not written"));
    fur_model *dense = kit_model(s.context, &kit_model_cases[0].config, 3);
    kit_ok(s.context, fur_model_save(s.context, dense, s.from));
    fur_model_destroy(dense);
    assert_int_equal(fur_model_convert(s.context, s.from, to, NULL, NULL, NULL, &done), FUR_E_INTERRUPTED);
    assert_int_equal(kit_entries(s.folder.path), entries);
    clear_scene(&s);
}

/* ---- faults -------------------------------------------------------------------------------------------------------
 */

/* As kit_each_allocation_fails; models name what they lack in other words. */
static int64_t each_allocation_fails(kit_call call, scene *s)
{
    for (int64_t k = 1, live = fur_alloc_live();; k++) {
        fur_error error;
        fur_alloc_fail_at(k);
        fur_status status = call(s, &error);
        fur_alloc_fail_at(0);
        fur_matmul_cache_clear();
        assert_int_equal(fur_alloc_live(), live);
        if (status == FUR_OK)
            return k - 1;
        assert_int_equal(status, FUR_E_MEMORY);
        assert_true(error.text[0] && !strchr(error.text, '\n'));
    }
}

static fur_status open_and_generate(void *user, fur_error *error)
{
    scene *s = user;
    fur_model *model = NULL;
    int32_t prompt[] = {1, 2, 3};
    continuation t = {.count = 0};
    fur_sampling sampling;
    fur_sampling_defaults(&sampling);
    fur_status status = fur_model_open(s->context, s->to[FUR_TABLE_INT8], &model);
    if (status == FUR_OK)
        status = fur_generate(s->context, model, prompt, 3, 2, &sampling, 0, take, &t);
    fur_model_destroy(model);
    *error = s->context->error;
    return status;
}

static fur_status create_rows(void *user, fur_error *error)
{
    scene *s = user;
    fur_model *model = NULL;
    fur_model_config config = s->at->config;
    config.table_type = FUR_TABLE_INT8;
    fur_status status = fur_model_create_rows(s->context, &config, 1, &model);
    fur_model_destroy(model);
    *error = s->context->error;
    return status;
}

static fur_status convert_again(void *user, fur_error *error)
{
    scene *s = user;
    char to[600];
    fur_conversion done;
    snprintf(to, sizeof to, "%s/again", s->folder.path);
    fur_status status = fur_model_convert(s->context, s->from, to, "int8", NULL, NULL, &done);
    if (status == FUR_OK)
        fur_folder_remove(to);
    *error = s->context->error;
    return status;
}

/* Nothing, or where it was the sync after the renaming that failed all of it. */
static void all_or_nothing(void *user, int64_t k)
{
    scene *s = user;
    char to[600];
    (void)k;
    snprintf(to, sizeof to, "%s/again", s->folder.path);
    if (fur_path_exists(to))
        same_file(to, s->to[FUR_TABLE_INT8], "model.safetensors");
    fur_folder_remove(to);
    assert_int_equal(kit_entries(s->folder.path), 4);
}

static void every_failure_leaves_nothing(void **state)
{
    (void)state;
    scene s;
    set_scene(first_with_tables(), 1, &s);
    fur_matmul_cache_clear();
    assert_true(each_allocation_fails(open_and_generate, &s) > 20);
    assert_true(each_allocation_fails(create_rows, &s) > 20);
    assert_true(each_allocation_fails(convert_again, &s) > 20);
    assert_true(kit_each_write_fails(convert_again, &s, 28, all_or_nothing) > 8); /* 28: no space */
    clear_scene(&s);
}

int main(void)
{
    fur_json_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_values_are_rounded_as_their_type_says),
        cmocka_unit_test(tables_that_stay_are_copied),
        cmocka_unit_test(mapped_tables_give_what_tiles_give),
        cmocka_unit_test(maps_over_rows_are_within_the_bound),
        cmocka_unit_test(generation_is_planned_with_its_tables),
        cmocka_unit_test(mapped_models_keep_to_what_they_can),
        cmocka_unit_test(decoding_is_timed),
        cmocka_unit_test(wrong_tables_are_refused_by_name),
        cmocka_unit_test(conversions_that_cannot_be_are_refused),
        cmocka_unit_test(stopped_conversions_leave_nothing),
        cmocka_unit_test(every_failure_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
