/* SPDX-License-Identifier: Apache-2.0 */
/* Loss, logits and gradients of small models of each family against transformers in float64 (tests/golden, made by
 * tools/golden/make_golden.py): 3 layers, one row of 1,000 tokens in four documents, superblocks that divide nothing.
 * The gradient's and the logits' relative error is at most 1.5 times PyTorch's in float32 on the same weights and
 * tokens, the better of its kernels. Loading these folders is the test of reading what transformers writes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/json.h"
#include "io/safetensors.h"
#include "kit/model.h"

enum { TOKENS = 1000, DOCUMENTS = 4, LOGITS_EVERY = 4 };

typedef struct golden {
    const char *name;
    fur_context *context;
    fur_model *model;
    fur_safetensors *file;
    fur_json figures;
    int32_t ids[TOKENS], targets[TOKENS];
    int64_t offsets[DOCUMENTS + 1];
    fur_row row;
} golden;

static void read_ok(const fur_error *error, fur_status status)
{
    if (status != FUR_OK)
        fail_msg("%s", error->text);
}

static void *grab(int64_t count, size_t bytes)
{
    void *memory = calloc((size_t)count, bytes);
    if (!memory)
        fail_msg("no memory for %lld values", (long long)count);
    return memory;
}

static void golden_open(const char *name, golden *g)
{
    char folder[512], path[600];
    fur_error error;
    memset(g, 0, sizeof *g);
    g->name = name;
    g->context = kit_context(2);
    snprintf(folder, sizeof folder, "%s/golden/%s", FUR_TEST_DATA, name);
    kit_ok(g->context, fur_model_load(g->context, folder, &g->model));
    snprintf(path, sizeof path, "%s/golden.safetensors", folder);
    read_ok(&error, fur_safetensors_open(&error, path, &g->file));
    snprintf(path, sizeof path, "%s/golden.json", folder);
    read_ok(&error, fur_json_read(&error, path, &g->figures));
    int64_t tokens = TOKENS, ends = DOCUMENTS + 1;
    read_ok(&error, fur_safetensors_read_raw(&error, g->file, "ids", FUR_DTYPE_I32, 1, &tokens, g->ids));
    read_ok(&error, fur_safetensors_read_raw(&error, g->file, "targets", FUR_DTYPE_I32, 1, &tokens, g->targets));
    read_ok(&error, fur_safetensors_read_raw(&error, g->file, "offsets", FUR_DTYPE_I64, 1, &ends, g->offsets));
    g->row = (fur_row){.documents = DOCUMENTS, .offsets = g->offsets, .ids_T = g->ids, .target_T = g->targets};
}

static void golden_close(golden *g)
{
    fur_json_clear(&g->figures);
    fur_safetensors_close(g->file);
    fur_model_destroy(g->model);
    fur_context_destroy(g->context);
}

static double figure(const golden *g, const char *key)
{
    fur_error error;
    double value;
    read_ok(&error, fur_json_number(&error, &g->figures, key, 0, 1e9, &value));
    return value;
}

/* || got - want || / || want || over every parameter, gradients as they stand in the model. */
static double gradient_error(const golden *g)
{
    double error = 0, size = 0;
    int64_t stored = 0;
    for (int64_t i = 0; i < fur_model_parameters(g->model); i++) {
        fur_parameter_info p;
        fur_model_parameter(g->model, i, &p);
        char name[160];
        snprintf(name, sizeof name, "gradient.%s", p.name);
        double *want = grab(p.count, sizeof *want);
        fur_error text;
        read_ok(&text, fur_safetensors_read_raw(&text, g->file, name, FUR_DTYPE_F64, p.rank, p.shape, want));
        for (int64_t j = 0; j < p.count; j++) {
            error += ((double)p.gradient[j] - want[j]) * ((double)p.gradient[j] - want[j]);
            size += want[j] * want[j];
        }
        free(want);
        stored++;
    }
    /* no gradient of theirs is left over: the rest is ids, targets, offsets, logits */
    assert_int_equal(fur_safetensors_count(g->file), stored + 4);
    return sqrt(error / size);
}

static double logits_error(const golden *g, fur_run *run)
{
    int64_t V = fur_model_config_of(g->model)->vocabulary, rows = TOKENS / LOGITS_EVERY;
    float *got = grab(TOKENS * V, sizeof *got);
    double *want = grab(rows * V, sizeof *want), error = 0, size = 0;
    kit_ok(g->context, fur_model_outputs(run, &g->row, got));
    fur_error text;
    read_ok(&text, fur_safetensors_read_raw(&text, g->file, "logits", FUR_DTYPE_F64, 2, (int64_t[]){rows, V}, want));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < V; v++) {
            double difference = (double)got[(r * LOGITS_EVERY + LOGITS_EVERY - 1) * V + v] - want[r * V + v];
            error += difference * difference;
            size += want[r * V + v] * want[r * V + v];
        }
    free(got);
    free(want);
    return sqrt(error / size);
}

static void check(golden *g, int64_t superblock, fur_keep keep)
{
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.row_tokens = TOKENS;
    request.document_tokens = 350;
    request.superblock = superblock;
    request.keep = keep;
    request.measured_gflops = 100;
    fur_plan plan;
    fur_run *run;
    kit_ok(g->context, fur_plan_make(g->context, fur_model_config_of(g->model), &request, &plan));
    kit_ok(g->context, fur_run_create(g->context, g->model, &plan, &request, &run));
    fur_model_zero_gradients(g->model);
    double loss, want = figure(g, "loss");
    kit_ok(g->context, fur_model_loss_and_gradient(run, &g->row, NULL, 1.0, &loss, NULL));
    double gradient = gradient_error(g), logits = logits_error(g, run);
    double gradient_limit = 1.5 * figure(g, "float32_gradient_error");
    double logits_limit = 1.5 * figure(g, "float32_logits_error");
    print_message(
        "%-8s %s, superblock %4d: gradient off by %.2e (target %.2e), logits by %.2e (target %.2e), loss %.1e\n",
        g->name, fur_context_isa(g->context), (int)superblock, gradient, gradient_limit, logits, logits_limit,
        fabs(loss / want - 1));
    assert_true(gradient <= gradient_limit);
    assert_true(logits <= logits_limit);
    /* its log-sum-exp, the target's logit, their difference, and the f32 value of each position */
    assert_true(fabs(loss - want) <= 4 * KIT_U * want);
    fur_run_destroy(run);
}

static void gradient_and_logits_of_each_family(void **state)
{
    (void)state;
    static const char *const families[] = {"gpt2", "llama", "gpt_neox", "qwen2", "qwen3", "gemma2", "gemma3_text"};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        golden g;
        golden_open(families[i], &g);
        check(&g, 37, FUR_KEEP_NOTHING);
        check(&g, 333, FUR_KEEP_ALL);
        check(&g, 0, FUR_KEEP_AUTO);
        golden_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gradient_and_logits_of_each_family)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
