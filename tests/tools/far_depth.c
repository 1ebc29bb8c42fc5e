/* SPDX-License-Identifier: Apache-2.0 */
/* far_depth MODEL TEXT TOKENS DEGREE...: the gradient of a whole model with almost-linear layers against float64 exact
 * attention of the same bounded model, for each degree, and what exact attention errs by when its operands are bf16.
 * MODEL is a folder, or random:LAYERS for a model of width 128 with heads of 32. Polynomials are fitted on the tokens
 * before the ones that are measured. Prints one line a degree: degree, gradient's error, worst tensor's, bf16's, and
 * bf16's worst tensor's; then with all products in bf16, projections too, the gradient's error and that of exact
 * attention. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit/model.h"
#include "kit/oracle.h"
#include "model/run.h"

enum { WINDOW = 48, CHUNK = 16 };

static void read_text(const char *path, int64_t count, int32_t *ids)
{
    FILE *file = fopen(path, "rb");
    for (int64_t i = 0; i < count; i++)
        ids[i] = file ? getc(file) : EOF;
    if (!file || ids[count - 1] == EOF)
        fail_msg("%s has fewer than %d bytes", path, (int)count);
    (void)fclose(file);
}

static fur_model *open_model(fur_context *context, const char *name, int64_t tokens)
{
    fur_model *model;
    if (strncmp(name, "random:", 7) != 0) {
        kit_ok(context, fur_model_load(context, name, &model));
        return model;
    }
    fur_model_config config;
    kit_ok(context, fur_config_preset(context, "bytes-1m", tokens, &config));
    config.layers = strtoll(name + 7, NULL, 10);
    config.far_chunk = CHUNK;
    kit_ok(context, fur_config_set_attention(context, &config, "almost-linear"));
    for (int64_t layer = 0; layer < config.layers; layer++)
        config.window[layer] = WINDOW;
    kit_ok(context, fur_model_create(context, &config, 1, &model));
    return model;
}

/* The same weights with polynomials of another degree. */
static fur_model *with_degree(fur_context *context, const fur_model *from, int64_t degree)
{
    fur_model_config config = *fur_model_config_of(from);
    fur_model *model;
    config.far_degree = degree;
    kit_ok(context, fur_model_create(context, &config, 1, &model));
    for (int64_t i = 0; i < fur_model_parameters(from); i++) {
        fur_parameter_info a, b;
        fur_model_parameter(from, i, &a);
        fur_model_parameter(model, i, &b);
        if (!a.constant)
            memcpy(b.data, a.data, (size_t)a.count * sizeof(float));
    }
    return model;
}

typedef struct errors {
    double whole, worst;
} errors;

static void add(double got, double want, double *off, double *size)
{
    *off += (got - want) * (got - want);
    *size += want * want;
}

/* Against the exact gradient; got == NULL: the library's, from the parameters. */
static errors errors_of(const oracle *o, fur_model *model, const oracle_output *exact, const oracle_output *got)
{
    double off = 0, size = 0, worst = 0;
    for (int64_t i = 0; i < o->parameters; i++) {
        fur_parameter_info p;
        double tensor_off = 0, tensor_size = 0;
        fur_model_parameter(model, i, &p);
        for (int64_t j = 0; j < p.count && !p.constant; j++)
            add(got ? got->gradient[i][j] : (double)p.gradient[j], exact->gradient[i][j], &tensor_off, &tensor_size);
        worst = fmax(worst, tensor_size > 0 ? sqrt(tensor_off / tensor_size) : 0);
        off += tensor_off;
        size += tensor_size;
    }
    return (errors){sqrt(off / size), worst};
}

static void run_row(fur_context *context, fur_run *run, const fur_row *row, int measure)
{
    double loss;
    fur_model_zero_gradients(run->model);
    if (measure)
        kit_ok(context, fur_run_measure_errors(run, 3, false));
    kit_ok(context, fur_model_loss_and_gradient(run, row, NULL, 1.0, &loss, NULL));
    if (measure)
        fur_run_install_fits(run);
}

/* What the library errs by on `row`, with polynomials of a degree that were fitted on `before`. */
static errors errors_at(fur_context *context, const fur_model *given, int64_t degree, const fur_row *before,
                        const fur_row *row, const oracle *o, const oracle_output *exact)
{
    fur_model *model = with_degree(context, given, degree);
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    fur_plan_request_defaults(&request);
    request.row_tokens = row->offsets[1];
    request.error_rows = FUR_ERROR_ROWS;
    kit_ok(context, fur_plan_make(context, fur_model_config_of(model), &request, &plan));
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    run_row(context, run, before, 1);
    run_row(context, run, row, 0);
    errors out = errors_of(o, model, exact, NULL);
    fur_run_destroy(run);
    fur_model_destroy(model);
    return out;
}

static void measure(void **state)
{
    char **words = *state;
    int64_t tokens = strtoll(words[3], NULL, 10);
    fur_context *context = kit_context(2), *rounding = kit_context_of(2, "bf16");
    fur_model *given = open_model(context, words[1], tokens);
    int32_t *ids = calloc((size_t)(2 * tokens + 1), sizeof *ids);
    read_text(words[2], 2 * tokens + 1, ids);
    const int64_t offsets[2] = {0, tokens};
    const fur_row before = {.documents = 1, .offsets = offsets, .ids_T = ids, .target_T = ids + 1};
    const fur_row row = {.documents = 1, .offsets = offsets, .ids_T = ids + tokens, .target_T = ids + tokens + 1};
    oracle *o = oracle_create(given);
    oracle_output exact, bf16, all_bf16;
    o->exact_far = 1;
    oracle_run(o, ORACLE_DOUBLE, &row, NULL, NULL, 1.0, 1, &exact);
    oracle_run(o, ORACLE_BF16_ATTENTION, &row, NULL, NULL, 1.0, 1, &bf16);
    oracle_run(o, ORACLE_BF16, &row, NULL, NULL, 1.0, 1, &all_bf16);
    errors yardstick = errors_of(o, given, &exact, &bf16), all_yardstick = errors_of(o, given, &exact, &all_bf16);
    for (int i = 4; words[i]; i++) {
        int64_t degree = strtoll(words[i], NULL, 10);
        errors e = errors_at(context, given, degree, &before, &row, o, &exact);
        errors all = errors_at(rounding, given, degree, &before, &row, o, &exact);
        printf("%" PRId64 " %.3e %.3e %.3e %.3e %.3e %.3e\n", degree, e.whole, e.worst, yardstick.whole,
               yardstick.worst, all.whole, all_yardstick.whole);
        (void)fflush(stdout);
    }
    oracle_output_clear(&exact);
    oracle_output_clear(&bf16);
    oracle_output_clear(&all_bf16);
    oracle_destroy(o);
    free(ids);
    fur_model_destroy(given);
    fur_context_destroy(context);
    fur_context_destroy(rounding);
}

int main(int count, char **words)
{
    if (count < 5) {
        (void)fprintf(stderr, "far_depth MODEL TEXT TOKENS DEGREE...\n");
        return 2;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(measure, words)};
    return cmocka_run_group_tests_name("depth", tests, NULL, NULL);
}
