/* SPDX-License-Identifier: Apache-2.0 */
/* Whole models with products of bf16: the gradient of every shape against the oracle in double, beside the plain
 * formula in bf16 (kit/oracle.h); and what must be the same bits. The library rounds the same operands, fewer at lower
 * levels, and sums in other orders: its error may be 1.5 times the plain formula's, measured over the whole gradient
 * relative to itself, and the loss, one number whose errors may cancel, 3 times that error relative to itself. The
 * program runs once for each instruction set (FURLONG_ISA). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kit/model.h"
#include "kit/oracle.h"

static double distance(const oracle *o, const float *got, double *const *other, double *const *truth)
{
    double error = 0, size = 0;
    for (int64_t i = 0, at = 0; i < o->parameters; i++)
        for (int64_t j = 0; j < o->info[i].count; j++, at++) {
            double d = (got ? (double)got[at] : other[i][j]) - truth[i][j];
            error += d * d;
            size += truth[i][j] * truth[i][j];
        }
    return sqrt(error / size);
}

static void check_case(const kit_model_case *at, int64_t superblock, fur_keep keep)
{
    fur_context *context = kit_context_of(2, "bf16");
    fur_model *model = kit_model(context, &at->config, 21);
    oracle *o = oracle_create(model);
    kit_row row;
    kit_row_create(&at->config, at->lengths, 1, 22, &row);
    oracle_output truth, plain;
    oracle_run(o, ORACLE_DOUBLE, &row.row, NULL, NULL, 1.0, 1, &truth);
    oracle_run(o, ORACLE_BF16, &row.row, NULL, NULL, 1.0, 1, &plain);
    kit_run run;
    kit_run_create(context, model, &row, superblock, keep, &run);
    kit_gradient g;
    kit_gradient_create(&run, &row, NULL, 1.0, &g);
    double error = distance(o, g.all, NULL, truth.gradient),
           yardstick = distance(o, NULL, plain.gradient, truth.gradient);
    print_message("%-50s gradient off by %.2e, plain bf16 %.2e\n", at->name, error, yardstick);
    if (!(error <= 1.5 * yardstick))
        fail_msg("%s: the gradient is off by %.3g, plain bf16 by %.3g", at->name, error, yardstick);
    assert_true(fabs(g.loss - truth.loss) <= 3 * yardstick * fabs(truth.loss));
    kit_gradient_destroy(&g);
    kit_run_destroy(&run);
    oracle_output_clear(&truth);
    oracle_output_clear(&plain);
    kit_row_destroy(&row);
    oracle_destroy(o);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void model_bf16_gradient_of_every_shape(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++)
        check_case(&kit_model_cases[i], i % 2 ? 64 : 0, i % 2 ? FUR_KEEP_NOTHING : FUR_KEEP_ALL);
}

static void gradient_of(const kit_model_case *at, int64_t scaled, int threads, int64_t superblock, fur_keep keep,
                        kit_gradient *out)
{
    fur_context *context = kit_context_of(threads, "bf16");
    fur_model_config config = kit_config_for(&at->config, 512 * scaled);
    fur_model *model = kit_model(context, &config, 31);
    kit_row row;
    kit_row_create(&config, at->lengths, scaled, 32, &row);
    kit_run run;
    kit_run_create(context, model, &row, superblock, keep, &run);
    kit_gradient_create(&run, &row, NULL, 1.0, out);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void check_same(const char *what, const kit_gradient *a, const kit_gradient *b)
{
    kit_check_same_bits(what, &a->loss, &b->loss, sizeof a->loss);
    kit_check_same_bits(what, a->all, b->all, (size_t)a->count * sizeof(float));
    kit_check_same_bits(what, a->dx, b->dx, (size_t)a->dx_count * sizeof(float));
}

static void model_bf16_bits(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        int64_t scaled = i == 0 || i == 3 ? 4 : 1;
        kit_gradient one, other;
        gradient_of(at, scaled, 1, 64 * scaled, FUR_KEEP_NOTHING, &one);
        for (int threads = 1; threads <= 3; threads++) {
            gradient_of(at, scaled, threads, 64 * scaled, threads == 2 ? FUR_KEEP_ALL : FUR_KEEP_NOTHING, &other);
            check_same(at->name, &one, &other);
            kit_gradient_destroy(&other);
        }
        kit_gradient_destroy(&one);
    }
}

/* A limit on the plan: keys and values take half of what they take in f32. */
static void model_bf16_plan_counts_keys(void **state)
{
    (void)state;
    fur_plan plans[2];
    for (int bf16 = 0; bf16 < 2; bf16++) {
        fur_context *context = kit_context_of(1, bf16 ? "bf16" : "f32");
        fur_plan_request request;
        fur_plan_request_defaults(&request);
        request.row_tokens = 512;
        request.superblock = 64;
        request.keep = FUR_KEEP_NOTHING;
        request.measured_gflops = 100;
        kit_ok(context, fur_plan_make(context, &kit_model_cases[0].config, &request, &plans[bf16]));
        fur_context_destroy(context);
    }
    int64_t keys[2] = {0, 0};
    for (int bf16 = 0; bf16 < 2; bf16++)
        for (int i = 0; i < plans[bf16].item_count; i++)
            if (strncmp(plans[bf16].items[i].name, "keys, values", 12) == 0)
                keys[bf16] = plans[bf16].items[i].bytes;
    int64_t width = 32, rows = 512, slack = 1024; /* of alignment */
    assert_true(llabs(keys[0] - 16 * rows * width) <= slack);
    assert_true(llabs(keys[1] - 12 * rows * width) <= slack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_bf16_gradient_of_every_shape),
        cmocka_unit_test(model_bf16_bits),
        cmocka_unit_test(model_bf16_plan_counts_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
