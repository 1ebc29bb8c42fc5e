/* SPDX-License-Identifier: Apache-2.0 */
/* Adapters (LoRA): a model with them computes what the model with the adapters merged into its maps does, and their
 * gradients follow from those of the merged maps, dA = s transposed(B) dW and dB = s dW transposed(A). Everything else
 * has no gradient. Their files come back to the bit, and what PEFT may say that we do not do is refused by name.
 *
 * Bounds: model_gradient.c holds a whole gradient within 2e-6 of the truth and one tensor within 4 times that; here two
 * such computations are compared: 1.6e-5 of the tensor's norm. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/adapter.h"
#include "model/run.h"

#define BOUND 1.6e-5

/* A model of the case's shape in a folder. */
static void save_base(fur_context *context, const fur_model_config *config, const kit_folder *folder)
{
    fur_model *model = kit_model(context, config, 5);
    kit_ok(context, fur_model_save(context, model, folder->path));
    fur_model_destroy(model);
}

static fur_model *open_adapted(fur_context *context, const kit_folder *folder, int64_t rank, const char *targets)
{
    fur_model *model;
    fur_model_config config;
    kit_ok(context, fur_config_read(context, folder->path, &config));
    kit_ok(context, fur_config_set_lora(context, &config, rank, 2.0 * (double)rank, targets));
    kit_ok(context, fur_model_load_lora(context, folder->path, &config, 9, &model));
    return model;
}

/* B, which is zero in fresh adapters, gets numbers. */
static void fill_adapters(fur_model *model)
{
    for (int64_t i = 0; i < model->table.count; i++) {
        const fur_parameter *p = &model->table.list[i];
        if (p->adapter)
            fur_random_normal(77, (uint64_t)i, 0.15, model->data + p->offset, p->count);
    }
}

static bool can_be_adapted(const fur_model_config *c)
{
    return c->projection_qkvo == FUR_PROJECTION_DENSE && c->projection_ffn == FUR_PROJECTION_DENSE;
}

/* dA or dB of adapter `index` of a map, from the gradient by the merged map's weights. */
static void expect_gradient(const fur_projection *p, int index, const float *dw, bool of_b, double *out)
{
    const fur_adapter *adapter = &p->adapters.list[index];
    int64_t rank = p->adapters.rank, in = p->in;
    for (int64_t o = 0; o < adapter->count; o++)
        for (int64_t i = 0; i < in; i++) {
            double g = (double)p->adapters.scale * (double)dw[(adapter->first + o) * in + i];
            for (int64_t r = 0; r < rank; r++) {
                if (of_b)
                    out[o * rank + r] += g * (double)adapter->a_RI[r * in + i];
                else
                    out[r * in + i] += g * (double)adapter->b_OR[o * rank + r];
            }
        }
}

static double error_of(int64_t count, const float *got, const double *want)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        error += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    return size > 0 ? sqrt(error / size) : sqrt(error);
}

/* All gradients of the adapted model, against those of the merged one. A of q, k and v of one tensor is one. */
static void check_gradients(const char *name, const fur_model *adapted, const fur_model *merged)
{
    int checked = 0;
    double *want = calloc((size_t)fur_trained_elements(&adapted->table), sizeof *want);
    assert_non_null(want);
    for (int64_t layer = 0; layer < adapted->config.layers; layer++)
        for (int m = 0; m < FUR_LAYER_MAPS; m++) {
            const fur_map_offsets *at = fur_layer_map(&adapted->table.layers[layer], m);
            fur_projection p = fur_map_at(at, adapted->data);
            const fur_map_offsets *whole = fur_layer_map(&merged->table.layers[layer], m);
            for (int a = 0; a < at->adapters; a++) {
                const float *dw = fur_model_gradient(merged, whole->weight);
                int64_t of_a = fur_trained_at(&adapted->table, at->adapter[a].a);
                int64_t of_b = fur_trained_at(&adapted->table, at->adapter[a].b);
                expect_gradient(&p, a, dw, false, want + of_a);
                expect_gradient(&p, a, dw, true, want + of_b);
            }
        }
    for (int64_t i = 0; i < adapted->table.count; i++) {
        const fur_parameter *p = &adapted->table.list[i];
        fur_parameter_info info;
        fur_model_parameter(adapted, i, &info);
        assert_int_equal(info.constant, !p->adapter);
        if (!p->adapter) {
            assert_null(info.gradient);
            continue;
        }
        checked++;
        double error = error_of(p->count, info.gradient, want + fur_trained_at(&adapted->table, p->offset));
        if (!(error <= BOUND))
            fail_msg("%s, %s: off by %.3g of its norm", name, p->name, error);
    }
    assert_true(checked > 0);
    free(want);
}

static double loss_and_gradient(kit_run *run, const kit_row *row)
{
    double loss;
    fur_model_zero_gradients(run->model);
    kit_ok(run->context, fur_model_loss_and_gradient(run->run, &row->row, NULL, 1.0, &loss, NULL));
    return loss;
}

static void check_case(const kit_model_case *c, const char *targets)
{
    fur_context *context = kit_context(2);
    fur_model_config config = kit_config_for(&c->config, 512);
    kit_folder folder;
    kit_row row;
    kit_run adapted_run, merged_run;
    kit_folder_init(&folder);
    save_base(context, &config, &folder);
    fur_model *adapted = open_adapted(context, &folder, 3, targets),
              *merged = open_adapted(context, &folder, 3, targets);
    fill_adapters(adapted);
    fill_adapters(merged);
    kit_ok(context, fur_model_merge(context, &merged));
    assert_int_equal(merged->config.lora_rank, 0);
    kit_row_create(&config, c->lengths, 1, 8, &row);
    kit_run_create(context, adapted, &row, 16, FUR_KEEP_NOTHING, &adapted_run);
    kit_run_create(context, merged, &row, 16, FUR_KEEP_NOTHING, &merged_run);
    assert_true(adapted_run.plan.arena_bytes < merged_run.plan.arena_bytes);
    double a = loss_and_gradient(&adapted_run, &row), b = loss_and_gradient(&merged_run, &row);
    assert_true(fabs(a - b) <= 1e-5 * fabs(b));
    check_gradients(c->name, adapted, merged);
    kit_run_destroy(&adapted_run);
    kit_run_destroy(&merged_run);
    kit_row_destroy(&row);
    fur_model_destroy(adapted);
    fur_model_destroy(merged);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

static void gradients_are_those_of_the_merged_map(void **state)
{
    (void)state;
    int cases = 0;
    for (int i = 0; i < kit_model_case_count; i++)
        if (can_be_adapted(&kit_model_cases[i].config)) {
            check_case(&kit_model_cases[i], "all-linear");
            cases++;
        }
    assert_true(cases > 5);
}

static void fresh_adapters_change_nothing(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model_config config = kit_config_for(&kit_model_cases[0].config, 512);
    kit_folder folder;
    kit_folder_init(&folder);
    save_base(context, &config, &folder);
    fur_model *plain, *adapted = open_adapted(context, &folder, 4, "all-linear");
    kit_ok(context, fur_model_load(context, folder.path, &plain));
    for (int64_t i = 0; i < plain->table.count; i++)
        kit_check_same_bits(plain->table.list[i].name, plain->data + plain->table.list[i].offset,
                            adapted->data + adapted->table.list[i].offset,
                            (size_t)plain->table.list[i].count * sizeof(float));
    kit_ok(context, fur_model_merge(context, &adapted));
    kit_check_same_bits("merged", plain->data, adapted->data, (size_t)plain->table.elements * sizeof(float));
    fur_model_destroy(plain);
    fur_model_destroy(adapted);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

static void adapters_come_back_to_the_bit(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    for (int i = 0; i < kit_model_case_count; i++) {
        fur_model_config config = kit_config_for(&kit_model_cases[i].config, 512);
        kit_folder base, folder;
        fur_model *back;
        if (!can_be_adapted(&config))
            continue;
        kit_folder_init(&base);
        kit_folder_init(&folder);
        save_base(context, &config, &base);
        fur_model *model = open_adapted(context, &base, 2, "all-linear");
        fill_adapters(model);
        kit_ok(context, fur_model_save(context, model, folder.path));
        assert_int_equal(kit_entries(folder.path), 3); /* config.json, adapter_config.json, adapter_model.safetensors */
        kit_ok(context, fur_model_load(context, folder.path, &back));
        assert_int_equal(back->config.lora_rank, 2);
        assert_int_equal(back->config.lora_targets, model->config.lora_targets);
        assert_string_equal(back->base, model->base);
        kit_check_same_bits(kit_model_cases[i].name, model->data, back->data,
                            (size_t)model->table.elements * sizeof(float));
        fur_model_destroy(back);
        fur_model_destroy(model);
        kit_folder_clear(&folder);
        kit_folder_clear(&base);
    }
    fur_context_destroy(context);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void expect_refused(fur_context *context, fur_status status, const char *words)
{
    assert_int_not_equal(status, FUR_OK);
    if (!strstr(fur_context_error(context), words))
        fail_msg("expected '%s' in: %s", words, fur_context_error(context));
}

static void options_are_checked(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model_config gpt2, lookup;
    kit_ok(context, fur_config_preset(context, "gpt2-124m", 0, &gpt2));
    kit_ok(context, fur_config_preset(context, "bytes-1m-lookup", 0, &lookup));
    fur_model_config before = gpt2;
    expect_refused(context, fur_config_set_lora(context, &gpt2, 8, 16, "q_proj"),
                   "unknown target 'q_proj', there is: all-linear, attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj");
    expect_refused(context, fur_config_set_lora(context, &gpt2, 2000, 16, "c_attn"), "rank 2000");
    expect_refused(context, fur_config_set_lora(context, &gpt2, 8, 0, "c_attn"), "alpha 0");
    expect_refused(context, fur_config_set_lora(context, &gpt2, 8, (double)NAN, "c_attn"), "alpha");
    expect_refused(context, fur_config_set_lora(context, &lookup, 8, 16, "all-linear"), "tables");
    assert_memory_equal(&before, &gpt2, sizeof gpt2);
    kit_ok(context, fur_config_set_lora(context, &gpt2, 8, 16, "c_proj"));
    assert_int_equal(gpt2.lora_targets, FUR_LORA_O | FUR_LORA_DOWN);
    kit_ok(context, fur_config_set_lora(context, &gpt2, 8, 16, "attn.c_proj,c_attn"));
    assert_int_equal(gpt2.lora_targets, FUR_LORA_O | FUR_LORA_Q | FUR_LORA_K | FUR_LORA_V);
    fur_context_destroy(context);
}

typedef struct bad_config {
    const char *json, *words;
    fur_status status;
} bad_config;

static void foreign_configs_are_refused_by_name(void **state)
{
    (void)state;
    static const bad_config cases[] = {
        {"{", "adapter_config.json", FUR_E_FORMAT},
        {"{\"peft_type\":\"LORA\",\"r\":2}", "base_model_name_or_path", FUR_E_FORMAT},
        {"{\"base_model_name_or_path\":\"/no/such\",\"peft_type\":\"LORA\"}", "a folder that is there", FUR_E_FORMAT},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"IA3\"}", "peft_type is 'IA3'", FUR_E_UNSUPPORTED},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"bias\":\"all\"}", "bias is 'all'",
         FUR_E_UNSUPPORTED},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"use_dora\":true}", "use_dora is set",
         FUR_E_UNSUPPORTED},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"rank_pattern\":{\"q\":4}}",
         "rank_pattern is set", FUR_E_UNSUPPORTED},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"r\":0,\"lora_alpha\":1}", "\"r\" is 0",
         FUR_E_FORMAT},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1}",
         "target_modules is missing", FUR_E_FORMAT},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1,\"target_modules\":[7]}",
         "target_modules[0] is no string", FUR_E_FORMAT},
        {"{\"base_model_name_or_path\":\"BASE\",\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":1,\"target_modules\":"
         "[\"nothing\"]}",
         "unknown target 'nothing'", FUR_E_ARGUMENT},
    };
    fur_context *context = kit_context(1);
    kit_folder base, folder;
    fur_model *model;
    kit_folder_init(&base);
    save_base(context, &kit_model_cases[0].config, &base);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1024];
        kit_folder_init(&folder);
        const char *json = cases[i].json, *at = strstr(json, "BASE");
        int before = at ? (int)(at - json) : (int)strlen(json);
        int length = snprintf(text, sizeof text, "%.*s%s%s", before, json, at ? base.path : "", at ? at + 4 : "");
        (void)kit_write(&folder, "adapter_config.json", text, length);

        fur_status status = fur_model_load(context, folder.path, &model);
        assert_int_equal(status, cases[i].status);
        expect_refused(context, status, cases[i].words);
        kit_folder_clear(&folder);
    }
    kit_folder_clear(&base);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_those_of_the_merged_map), cmocka_unit_test(fresh_adapters_change_nothing),
        cmocka_unit_test(adapters_come_back_to_the_bit),         cmocka_unit_test(options_are_checked),
        cmocka_unit_test(foreign_configs_are_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
