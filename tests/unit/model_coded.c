/* SPDX-License-Identifier: Apache-2.0 */
/* Weights that stay as their file has them: a model opened so computes what the same one read as f32 does, in rows,
 * token by token, and beside adapters; it is written, copied and merged with the same numbers; its plan holds.
 *
 * bf16 weights are f32 numbers, so that whole rows differ by the order of sums alone: blocks of outputs have the same
 * inner sums, but the products' tiles may be cut otherwise. Bound: 1e-5 of the logits' spread, some 100 u. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/adapter.h"
#include "model/coded.h"
#include "model/family.h"
#include "model/run.h"
#include "op/matmul/matmul.h"

#define BOUND 1e-5

/* A tensor of the model, as bf16 where it is a matrix. */
static void list_tensor(const fur_model *model, int64_t index, uint16_t *half, fur_tensor_entry *entry)
{
    const fur_parameter *p = &model->table.list[index];
    const float *data = model->data + p->offset;
    *entry = (fur_tensor_entry){.name = p->name, .dtype = FUR_DTYPE_F32, .rank = p->rank, .data = data};
    fur_parameter_file_shape(p, entry->shape);
    if (p->rank != 2 || p->file_layout != FUR_FILE_SAME)
        return;
    fur_dtype_from_f32(FUR_DTYPE_BF16, data, p->count, half + p->offset);
    entry->dtype = FUR_DTYPE_BF16;
    entry->data = half + p->offset;
}

/* A model's folder with matrices of bf16. */
static void save_narrow(fur_context *context, const fur_model_config *config, const kit_folder *folder)
{
    fur_model *model = kit_model(context, config, 5);
    kit_ok(context, fur_model_save(context, model, folder->path));
    uint16_t *half = calloc((size_t)model->table.elements, sizeof *half);
    fur_tensor_entry *entries = calloc((size_t)model->table.count, sizeof *entries);
    assert_true(half && entries);
    for (int64_t i = 0; i < model->table.count; i++)
        list_tensor(model, i, half, &entries[i]);
    kit_ok(context, fur_safetensors_write(&context->error, kit_path(folder, "model.safetensors"), entries,
                                          model->table.count, NULL, 0, NULL));
    free(half);
    free(entries);
    fur_model_destroy(model);
}

static bool is_dense(const fur_model_config *c)
{
    return c->projection_qkvo == FUR_PROJECTION_DENSE && c->projection_ffn == FUR_PROJECTION_DENSE && c->features == 0;
}

static float *outputs_of(fur_context *context, fur_model *model, const kit_row *row)
{
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_EVAL;
    request.row_tokens = row->tokens;
    request.superblock = 16;
    request.weight_bytes = fur_model_weight_bytes(model);
    kit_ok(context, fur_plan_make(context, &model->config, &request, &plan));
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    float *out = malloc((size_t)(row->tokens * model->table.head.out) * sizeof *out);
    assert_non_null(out);
    kit_ok(context, fur_model_outputs(run, &row->row, out));
    fur_run_destroy(run);
    return out;
}

static void check_close(const char *what, const float *a, const float *b, int64_t count)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        error = fmax(error, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)a[i]));
    }
    if (!(error <= BOUND * size))
        fail_msg("%s: off by %.3g of %.3g", what, error, size);
}

static int take_token(void *user, int32_t id)
{
    int32_t **at = user;
    *(*at)++ = id;
    return 0;
}

static void check_generation(fur_context *context, fur_model *a, fur_model *b)
{
    int32_t prompt[] = {3, 1, 4, 1, 5}, of_a[32], of_b[32], *at = of_a;
    fur_sampling greedy;
    fur_sampling_defaults(&greedy);
    greedy.temperature = 0;
    kit_ok(context, fur_generate(context, a, prompt, 5, 20, &greedy, 0, take_token, &at));
    at = of_b;
    kit_ok(context, fur_generate(context, b, prompt, 5, 20, &greedy, 0, take_token, &at));
    assert_memory_equal(of_a, of_b, 20 * sizeof of_a[0]);
}

static void check_parameters(fur_context *context, const fur_model *a, const fur_model *b)
{
    for (int64_t i = 0; i < a->table.count; i++) {
        const fur_parameter *p = &a->table.list[i];
        float *x = malloc((size_t)p->count * sizeof *x), *y = malloc((size_t)p->count * sizeof *y);
        assert_true(x && y);
        kit_ok(context, fur_model_parameter_copy(context, a, i, false, x));
        kit_ok(context, fur_model_parameter_copy(context, b, i, false, y));
        kit_check_same_bits(p->name, x, y, (size_t)p->count * sizeof *x);
        free(x);
        free(y);
    }
}

static void stored_weights_compute_the_same(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    fur_matmul_cache_clear();
    int64_t live = fur_alloc_live();
    int coded_cases = 0;
    for (int i = 0; i < kit_model_case_count; i++) {
        fur_model_config config = kit_config_for(&kit_model_cases[i].config, 512);
        kit_folder folder, again;
        fur_model *plain, *stored, *back;
        kit_row row;
        if (!is_dense(&config))
            continue;
        kit_folder_init(&folder);
        kit_folder_init(&again);
        save_narrow(context, &config, &folder);
        kit_ok(context, fur_model_load(context, folder.path, &plain));
        kit_ok(context, fur_model_open(context, folder.path, &stored));
        assert_null(plain->coded);
        if (stored->coded) {
            int64_t forecast;
            coded_cases++;
            assert_true(fur_model_held_bytes(stored) < fur_model_held_bytes(plain));
            kit_ok(context, fur_coded_forecast(&context->error, folder.path, &stored->config, &forecast));
            assert_int_equal(forecast, fur_model_weight_bytes(stored));
        }
        kit_row_create(&config, kit_model_cases[i].lengths, 1, 8, &row);
        float *a = outputs_of(context, plain, &row), *b = outputs_of(context, stored, &row);
        check_close(kit_model_cases[i].name, a, b, row.tokens * plain->table.head.out);
        free(a);
        free(b);
        if (config.causal)
            check_generation(context, plain, stored);
        check_parameters(context, plain, stored);
        kit_ok(context, fur_model_save(context, stored, again.path));
        kit_ok(context, fur_model_load(context, again.path, &back));
        check_parameters(context, plain, back);
        kit_row_destroy(&row);
        fur_model_destroy(back);
        fur_model_destroy(stored);
        fur_model_destroy(plain);
        kit_folder_clear(&again);
        kit_folder_clear(&folder);
    }
    assert_true(coded_cases > 5);
    fur_matmul_cache_clear();
    assert_int_equal(fur_alloc_live(), live);
    fur_context_destroy(context);
}

/* The same adapters beside stored weights and beside f32: the same loss and gradients; and merged the same numbers. */
static void adapters_stand_beside_stored_weights(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < kit_model_case_count; i++) {
        fur_model_config config = kit_config_for(&kit_model_cases[i].config, 512), with;
        kit_folder folder;
        fur_model *stored, *plain;
        kit_row row;
        if (!is_dense(&config))
            continue;
        kit_folder_init(&folder);
        save_narrow(context, &config, &folder);
        kit_ok(context, fur_config_read(context, folder.path, &with));
        kit_ok(context, fur_config_set_lora(context, &with, 3, 6, "all-linear"));
        kit_ok(context, fur_model_load_lora(context, folder.path, &with, 9, &stored));
        kit_ok(context, fur_model_allocate(context, &with, &plain));
        for (int64_t p = 0; p < stored->table.count; p++)
            if (stored->table.list[p].adapter)
                fur_random_normal(77, (uint64_t)p, 0.15, stored->data + stored->table.list[p].offset,
                                  stored->table.list[p].count);
        fur_model_move(stored, plain);
        kit_row_create(&config, kit_model_cases[i].lengths, 1, 8, &row);
        float *gradient[2];
        double loss[2];
        for (int m = 0; m < 2; m++) {
            fur_model *model = m ? plain : stored;
            fur_plan_request request;
            fur_plan plan;
            fur_run *run;
            fur_plan_request_defaults(&request);
            request.row_tokens = row.tokens;
            request.superblock = 16;
            request.weight_bytes = fur_model_weight_bytes(model);
            kit_ok(context, fur_plan_make(context, &model->config, &request, &plan));
            kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
            fur_model_zero_gradients(model);
            kit_ok(context, fur_model_loss_and_gradient(run, &row.row, NULL, 1.0, &loss[m], NULL));
            size_t bytes = (size_t)fur_trained_elements(&model->table) * sizeof(float);
            gradient[m] = malloc(bytes);
            assert_non_null(gradient[m]);
            memcpy(gradient[m], model->gradient, bytes);
            fur_run_destroy(run);
        }
        assert_true(fabs(loss[0] - loss[1]) <= BOUND * fabs(loss[1]));
        check_close(kit_model_cases[i].name, gradient[1], gradient[0], fur_trained_elements(&plain->table));
        free(gradient[0]);
        free(gradient[1]);
        kit_ok(context, fur_model_merge(context, &stored));
        kit_ok(context, fur_model_merge(context, &plain));
        check_parameters(context, plain, stored);
        kit_row_destroy(&row);
        fur_model_destroy(stored);
        fur_model_destroy(plain);
        kit_folder_clear(&folder);
    }
    fur_context_destroy(context);
}

static void stored_weights_are_not_trained(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    fur_model *model;
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    int with = 0;
    while (!is_dense(&kit_model_cases[with].config) ||
           strcmp(fur_config_family(&kit_model_cases[with].config), "llama") != 0)
        with++;
    kit_folder_init(&folder);
    save_narrow(context, &kit_model_cases[with].config, &folder);
    kit_ok(context, fur_model_open(context, folder.path, &model));
    assert_non_null(model->coded);
    fur_plan_request_defaults(&request);
    request.row_tokens = 16;
    kit_ok(context, fur_plan_make(context, &model->config, &request, &plan));
    assert_int_equal(fur_run_create(context, model, &plan, &request, &run), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(context), "weight_bytes"));
    request.weight_bytes = fur_model_weight_bytes(model);
    kit_ok(context, fur_plan_make(context, &model->config, &request, &plan));
    assert_int_equal(fur_run_create(context, model, &plan, &request, &run), FUR_E_UNSUPPORTED);
    assert_non_null(strstr(fur_context_error(context), "are not trained, but beside adapters"));
    fur_model_destroy(model);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_weights_compute_the_same),
        cmocka_unit_test(adapters_stand_beside_stored_weights),
        cmocka_unit_test(stored_weights_are_not_trained),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
