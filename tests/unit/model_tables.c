/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up tables as a trainer uses them: the gradient of one layer's tables at a time is, row by row and to the bit,
 * what a run that holds all of them gathers; the update moves what it should, by the formula of op/adamw or by rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kit/model.h"
#include "model/run.h"
#include "op/adamw/adamw.h"
#include "plan/plan.h"

/* Cases of kit_model_cases with tables. */
static int has_tables(const kit_model_case *at)
{
    return at->config.lookup_bits > 0;
}

typedef struct scene {
    fur_context *context;
    fur_model *model;
    kit_row row;
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    float *gathered; /* of all tables, as layers ended */
    uint8_t *moved_R;
    int64_t layers_seen;
    double clip;
    bool update;
} scene;

static void scene_open(const kit_model_case *at, int threads, int64_t superblock, fur_keep keep, bool adam, scene *s)
{
    memset(s, 0, sizeof *s);
    s->context = kit_context(threads);
    s->model = kit_model(s->context, &at->config, 31);
    kit_row_create(&at->config, at->lengths, 1, 32, &s->row);
    fur_plan_request_defaults(&s->request);
    s->request.row_tokens = s->row.tokens;
    s->request.superblock = superblock;
    s->request.keep = keep;
    s->request.measured_gflops = 100;
    s->request.row_updates = true;
    s->request.row_adam = adam;
    kit_ok(s->context, fur_plan_make(s->context, fur_model_config_of(s->model), &s->request, &s->plan));
    kit_ok(s->context, fur_run_create(s->context, s->model, &s->plan, &s->request, &s->run));
    assert_int_equal(fur_run_arena_peak_bytes(s->run), s->plan.arena_bytes);
    fur_run_clear_row_moments(s->run);
    s->gathered = calloc((size_t)s->model->table.table_elements, sizeof *s->gathered);
    s->moved_R = calloc((size_t)s->model->table.table_rows, 1);
    assert_true(s->gathered && s->moved_R);
}

static void scene_close(scene *s)
{
    free(s->gathered);
    free(s->moved_R);
    fur_run_destroy(s->run);
    kit_row_destroy(&s->row);
    fur_model_destroy(s->model);
    fur_context_destroy(s->context);
}

/* Copies the gradient of the layer's tables, rows without one as zeros, then updates. */
static fur_status layer_done(void *user, int64_t layer)
{
    scene *s = user;
    const fur_parameter_table *table = &s->model->table;
    const fur_layer_offsets *at = &table->layers[layer];
    assert_int_equal(layer, s->model->config.layers - 1 - s->layers_seen++);
    for (int i = 0; i < FUR_LAYER_MAPS; i++) {
        const fur_map_offsets *map = fur_layer_map(at, i);
        if (map->in == 0 || map->first_row < 0)
            continue;
        fur_projection shape = fur_map_at(map, NULL);
        fur_gradient_sink sink = fur_run_sink(s->run, map);
        int64_t rows = shape.kind->weight_rows(&shape), elements = shape.kind->weight_elements(&shape);
        for (int64_t e = 0; e < elements; e++)
            if (sink.touched_R[e / FUR_LOOKUP_TILE % rows])
                s->gathered[map->weight - table->first_table + e] = sink.weight[e];
        memcpy(s->moved_R + map->first_row, sink.touched_R, (size_t)rows);
    }
    bool changed = false;
    fur_lookup_update args = {
        .lr = 0.01, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = 1, .grad_scale = 1};
    if (!s->update)
        return FUR_OK;
    FUR_TRY(fur_run_update_tables(s->run, layer, s->clip, args, &changed));
    assert_true(changed);
    return FUR_OK;
}

static void run_step(scene *s)
{
    double loss;
    s->run->on_layer_done = layer_done;
    s->run->layer_done_user = s;
    fur_model_zero_gradients(s->model);
    kit_ok(s->context, fur_model_loss_and_gradient(s->run, &s->row.row, NULL, 1.0, &loss, NULL));
    assert_int_equal(s->layers_seen, s->model->config.layers);
}

/* What a run without row_updates gathers: all parameters, one after the other. */
static void check_gathered(const kit_model_case *at, const scene *s, int64_t superblock, fur_keep keep)
{
    fur_context *context = kit_context(1);
    fur_model *model = kit_model(context, &at->config, 31);
    kit_run run;
    kit_gradient all;
    kit_run_create(context, model, &s->row, superblock, keep, &run);
    kit_gradient_create(&run, &s->row, NULL, 1.0, &all);
    int64_t from = 0;
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        const float *got =
            p->table ? s->gathered + (p->offset - model->table.first_table) : s->model->gradient + p->offset;
        kit_check_same_bits(p->name, got, all.all + from, (size_t)p->count * sizeof(float));
        from += p->count;
    }
    kit_gradient_destroy(&all);
    kit_run_destroy(&run);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void tables_gradient_of_one_layer_at_a_time(void **state)
{
    (void)state;
    static const int64_t superblocks[] = {64, 1000};
    for (int i = 0; i < kit_model_case_count; i++)
        for (int k = 0; k < 4 && has_tables(&kit_model_cases[i]); k++) {
            scene s;
            fur_keep keep = k % 2 ? FUR_KEEP_ALL : FUR_KEEP_NOTHING;
            scene_open(&kit_model_cases[i], 1 + k / 2, superblocks[k / 2], keep, false, &s);
            run_step(&s);
            check_gathered(&kit_model_cases[i], &s, superblocks[k / 2], keep);
            scene_close(&s);
        }
}

/* The norm of a layer's gradients, in double. */
static double layer_norm(const scene *s, int64_t layer)
{
    const fur_layer_offsets *at = &s->model->table.layers[layer];
    double sum = 0;
    for (int64_t e = 0; e < at->table_elements; e++) {
        double g = (double)s->gathered[at->first_table - s->model->table.first_table + e];
        sum += g * g;
    }
    return sqrt(sum);
}

/* Dense Adam of the gathered gradient, clipped layer by layer, gives the same bits; rows that moved lazily are those
 * that a token used, by no more than one step of Adam and the decay. */
static void tables_update(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++)
        for (int adam = 0; adam < 2 && has_tables(&kit_model_cases[i]); adam++) {
            scene s;
            scene_open(&kit_model_cases[i], 2, 64, FUR_KEEP_AUTO, adam, &s);
            const fur_parameter_table *table = &s.model->table;
            size_t bytes = (size_t)table->table_elements * sizeof(float);
            float *before = malloc(bytes), *m = calloc(1, bytes), *v = calloc(1, bytes);
            assert_true(before && m && v);
            memcpy(before, s.model->data + table->first_table, bytes);
            s.update = true;
            s.clip = 1e-3;
            run_step(&s);
            const float *after = s.model->data + table->first_table;
            for (int64_t layer = 0; layer < s.model->config.layers && adam; layer++) {
                const fur_layer_offsets *at = &table->layers[layer];
                int64_t first = at->first_table - table->first_table;
                double norm = layer_norm(&s, layer);
                assert_true(norm > s.clip);
                fur_adamw_args args = {.lr = 0.01,
                                       .beta1 = 0.9,
                                       .beta2 = 0.95,
                                       .eps = 1e-8,
                                       .weight_decay = 0.1,
                                       .step = 1,
                                       .grad_scale = (float)(s.clip / norm)};
                kit_ok(s.context, fur_adamw_step(&s.run->exec, at->table_elements, before + first, s.gathered + first,
                                                 m + first, v + first, &args));
                kit_check_same_bits("dense Adam", after + first, before + first,
                                    (size_t)at->table_elements * sizeof(float));
            }
            for (int64_t k = 0; k < table->count && !adam; k++) {
                const fur_parameter *p = &table->list[k];
                for (int64_t e = 0; p->table && e < p->count; e++) {
                    int64_t row = e / FUR_LOOKUP_TILE % p->shape[0], at = p->offset - table->first_table + e;
                    double moved = fabs((double)after[at] - (double)before[at]);
                    /* one v a row: an element may be all of its row's norm, and move by sqrt(columns) lr; if its
                     * column is quiet, by so many times more */
                    double most =
                        0.01 * FUR_LOOKUP_MOST_EVEN * sqrt((double)p->shape[1]) + 0.001 * fabs((double)before[at]);
                    if (!s.moved_R[p->first_row + row] ? moved > 0 : moved > most * (1 + 1e-5))
                        fail_msg("%s, %s: element %lld moved by %g", kit_model_cases[i].name, p->name, (long long)e,
                                 moved);
                }
            }
            free(before);
            free(m);
            free(v);
            scene_close(&s);
        }
}

/* A stop that comes once tables have moved waits; one before leaves all as it was. */
static fur_status stop_after_first(void *user, int64_t layer)
{
    scene *s = user;
    fur_context_stop(s->context);
    return layer_done(user, layer);
}

static void tables_stop(void **state)
{
    (void)state;
    const kit_model_case *at = kit_model_cases;
    while (!has_tables(at))
        at++;
    scene s;
    double loss;
    scene_open(at, 1, 64, FUR_KEEP_AUTO, false, &s);
    s.update = true;
    s.run->on_layer_done = stop_after_first;
    s.run->layer_done_user = &s;
    kit_ok(s.context, fur_model_loss_and_gradient(s.run, &s.row.row, NULL, 1.0, &loss, NULL));
    assert_int_equal(s.layers_seen, s.model->config.layers);
    assert_int_equal(fur_model_loss_and_gradient(s.run, &s.row.row, NULL, 1.0, &loss, NULL), FUR_E_INTERRUPTED);
    scene_close(&s);
}

/* Moments of a file that no run can have left. */
static void tables_check_moments(void **state)
{
    (void)state;
    const kit_model_case *at = kit_model_cases;
    while (!has_tables(at))
        at++;
    scene s;
    scene_open(at, 1, 64, FUR_KEEP_AUTO, false, &s);
    fur_row_moments *all = &s.run->memory.row_moments;
    int64_t step = FUR_LOOKUP_BEHIND + 5;
    for (int64_t r = 0; r < s.model->table.table_rows; r++)
        all->step_R[r] = 5;
    kit_ok(s.context, fur_run_check_row_moments(s.run, step));
    all->m_bf16[7] = 0x7f80;
    assert_int_equal(fur_run_check_row_moments(s.run, step), FUR_E_NONFINITE);
    assert_non_null(strstr(fur_context_error(s.context), "moment 7 of "));
    all->m_bf16[7] = 0;
    for (int i = 0; i < 2; i++) {
        all->v_R[9] = i ? -1 : NAN;
        assert_int_equal(fur_run_check_row_moments(s.run, step), FUR_E_NONFINITE);
        assert_non_null(strstr(fur_context_error(s.context), "second moment 9 of "));
    }
    all->v_R[9] = 0;
    for (int i = 0; i < 2; i++) {
        all->step_R[3] = i ? 4 : (uint32_t)step + 1;
        assert_int_equal(fur_run_check_row_moments(s.run, step), FUR_E_FORMAT);
        assert_non_null(strstr(fur_context_error(s.context), "row 3 of "));
    }
    scene_close(&s);
}

/* A table with an infinity makes the next map's input one: the layer is named. */
static void tables_not_finite(void **state)
{
    (void)state;
    const kit_model_case *at = kit_model_cases;
    while (!has_tables(at))
        at++;
    scene s;
    double loss;
    scene_open(at, 1, 64, FUR_KEEP_AUTO, false, &s);
    const fur_map_offsets *up = &s.model->table.layers[1].up;
    for (int64_t e = 0; e < 1000; e++)
        s.model->data[up->weight + e] = INFINITY;
    assert_int_equal(fur_model_loss(s.run, &s.row.row, NULL, &loss, NULL), FUR_E_NONFINITE);
    assert_non_null(strstr(fur_context_error(s.context), "layer 1"));
    scene_close(&s);
}

/* Rows read of a table where nobody says how many. */
static void tables_rows_by_default(void **state)
{
    (void)state;
    static const struct {
        const char *preset, *projection;
        bool two;
    } cases[] = {{"bytes-1m-hybrid", NULL, true},
                 {"gpt2-124m-hybrid", NULL, true},
                 {"bytes-1m-lookup", NULL, false},
                 {"mf-tiny", NULL, false},
                 {"mf-small", "qkvo=dense", false},
                 {"bytes-1m-hybrid", "qkvo=lookup", true},
                 {"bytes-1m", "ffn=lookup", true},
                 {"bytes-1m", "lookup", false},
                 {"bytes-1m", "ffn=lookup,qkvo=lookup", false},
                 {"bytes-1m", "qkvo=lookup", false}};
    fur_context *context = kit_context(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_model_config config;
        kit_ok(context, fur_config_preset(context, cases[i].preset, 64, &config));
        if (cases[i].projection)
            kit_ok(context, fur_config_set_projection(context, &config, cases[i].projection));
        assert_int_equal(config.lookup_two_rows, cases[i].two);
    }
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_gradient_of_one_layer_at_a_time),
        cmocka_unit_test(tables_update),
        cmocka_unit_test(tables_rows_by_default),
        cmocka_unit_test(tables_stop),
        cmocka_unit_test(tables_check_moments),
        cmocka_unit_test(tables_not_finite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
