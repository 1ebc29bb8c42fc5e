/* SPDX-License-Identifier: Apache-2.0 */
/* Loss, outputs and every parameter's gradient of whole models against the oracle in double (kit/oracle.h).
 *
 * The bound is relative to another computation, not a number: the plain formula in f32, sums in index order, is the
 * yardstick. Errors are measured as || got - truth || / || terms ||, where terms are the sums of the absolute terms of
 * each element, so that a gradient that cancels (that by a key bias is exactly zero) is judged by what cancelled. one
 * tensor             4 times the yardstick's error + u. Both computations round in other orders, so their errors are
 *                          independent draws; a sharp softmax lets a few tokens carry a tensor, and two draws of few
 *                          terms differ by more than 2 now and then (seen: 3.0), by more than 4 hardly ever.
 *   the whole gradient     relative to itself: 2 times the yardstick's, and 2e-6 at most.
 *   loss                   2 times the yardstick's + 4 u: its log-sum-exp, target logit, their difference, the f32
 * value. The program runs once for each instruction set (FURLONG_ISA). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kit/model.h"
#include "kit/oracle.h"
#include "plan/plan.h"

typedef struct scene {
    const char *name;
    fur_context *context;
    fur_model *model;
    oracle *o;
    kit_row row;
    const fur_loss *loss;
    double weight, loss_terms; /* sum of the loss's absolute terms, where they are not all of one sign */
    oracle_output truth, plain;
} scene;

static void scene_open(const char *name, const fur_model_config *config, const int64_t *lengths, int64_t scaled,
                       oracle_loss_fn loss, void *user, double weight, scene *s)
{
    *s = (scene){.name = name, .context = kit_context(1), .weight = weight};
    fur_model_config c = kit_config_for(config, 512 * scaled);
    s->model = kit_model(s->context, &c, 21);
    s->o = oracle_create(s->model);
    kit_row_create(&c, lengths, scaled, 22, &s->row);
    oracle_run(s->o, ORACLE_DOUBLE, &s->row.row, loss, user, weight, 1, &s->truth);
    oracle_run(s->o, ORACLE_FLOAT, &s->row.row, loss, user, weight, 1, &s->plain);
}

static void scene_close(scene *s)
{
    oracle_output_clear(&s->truth);
    oracle_output_clear(&s->plain);
    kit_row_destroy(&s->row);
    oracle_destroy(s->o);
    fur_model_destroy(s->model);
    fur_context_destroy(s->context);
}

/* ---- comparisons ------------------------------------------------------------------------------------------------- */

/* Error of `got` in its terms; fails above 4 times the yardstick's + u. */
static double check_tensor(const scene *s, const char *what, int64_t count, const float *got, const double *truth,
                           const double *plain, const double *terms)
{
    double error = kit_relative_error(count, got, truth, terms);
    double yardstick = kit_relative_error_f64(count, plain, truth, terms);
    if (!(error <= 4 * yardstick + KIT_U))
        fail_msg("%s, %s: error %.3g of the terms, plain f32 has %.3g", s->name, what, error, yardstick);
    return yardstick > 0 ? error / yardstick : 0;
}

typedef struct whole {
    double error, plain, size;
} whole;

static void add_to_whole(int64_t count, const float *got, const double *truth, const double *plain, whole *w)
{
    for (int64_t j = 0; j < count; j++) {
        double a = (double)got[j] - truth[j], b = plain[j] - truth[j];
        w->error += a * a;
        w->plain += b * b;
        w->size += truth[j] * truth[j];
    }
}

static void check_gradient(const scene *s, const kit_gradient *g, int64_t superblock)
{
    double worst = 0;
    whole w = {0};
    const float *got = g->all;
    for (int64_t i = 0; i < s->o->parameters; i++) {
        int64_t count = s->o->info[i].count;
        double ratio = check_tensor(s, s->o->info[i].name, count, got, s->truth.gradient[i], s->plain.gradient[i],
                                    s->truth.terms[i]);
        worst = fmax(worst, ratio);
        add_to_whole(count, got, s->truth.gradient[i], s->plain.gradient[i], &w);
        got += count;
    }
    check_tensor(s, "gradient by the input", g->dx_count, g->dx, s->truth.dx_TI, s->plain.dx_TI, s->truth.dx_TI);
    double error = sqrt(w.error / w.size), plain = sqrt(w.plain / w.size);
    print_message("%-50s superblock %4d: gradient off by %.2e, plain f32 %.2e; worst tensor %.2f times plain\n",
                  s->name, (int)superblock, error, plain, worst);
    if (!(error <= 2 * plain && error <= 2e-6))
        fail_msg("%s: the gradient is off by %.3g, plain f32 by %.3g", s->name, error, plain);
    double loss_error = fabs(g->loss - s->truth.loss), loss_plain = fabs(s->plain.loss - s->truth.loss);
    if (!(loss_error <= 2 * loss_plain + 4 * KIT_U * fmax(s->loss_terms, fabs(s->truth.loss))))
        fail_msg("%s: loss %.12g, truth %.12g, plain f32 %.12g", s->name, g->loss, s->truth.loss, s->plain.loss);
}

/* Logits or regression outputs, and each position's loss. */
static void check_outputs(const scene *s, kit_run *run)
{
    int64_t count = s->truth.tokens * s->truth.outputs;
    float *y = calloc((size_t)count, sizeof *y), *nll = calloc((size_t)s->truth.tokens, sizeof *nll);
    assert_true(y && nll);
    kit_ok(s->context, fur_model_outputs(run->run, &s->row.row, y));
    check_tensor(s, "outputs", count, y, s->truth.y_TO, s->plain.y_TO, s->truth.y_terms_TO);
    double loss = 0;
    kit_ok(s->context, fur_model_loss(run->run, &s->row.row, NULL, &loss, nll));
    assert_true(fabs(loss - s->truth.loss) <= 2 * fabs(s->plain.loss - s->truth.loss) + 4 * KIT_U * fabs(loss));
    double *truth = calloc((size_t)s->truth.tokens, sizeof *truth),
           *plain = calloc((size_t)s->truth.tokens, sizeof *plain);
    assert_true(truth && plain);
    for (int64_t t = 0; t < s->truth.tokens; t++) {
        assert_int_equal(isnan(nll[t]) != 0, isnan(s->truth.nll_T[t]) != 0);
        nll[t] = isnan(nll[t]) ? 0 : nll[t];
        truth[t] = isnan(s->truth.nll_T[t]) ? 0 : s->truth.nll_T[t];
        plain[t] = isnan(s->plain.nll_T[t]) ? 0 : s->plain.nll_T[t];
    }
    check_tensor(s, "loss of each position", s->truth.tokens, nll, truth, plain, truth);
    free(truth);
    free(plain);
    free(y);
    free(nll);
}

static void check_superblock(scene *s, int64_t superblock, fur_keep keep)
{
    kit_run run;
    kit_run_create(s->context, s->model, &s->row, superblock, keep, &run);
    kit_gradient g;
    kit_gradient_create(&run, &s->row, s->loss, s->weight, &g);
    check_gradient(s, &g, superblock);
    if (!s->loss)
        check_outputs(s, &run);
    kit_gradient_destroy(&g);
    kit_run_destroy(&run);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void model_gradient_of_every_shape(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        scene s;
        scene_open(at->name, &at->config, at->lengths, 1, NULL, NULL, 1.0, &s);
        static const int64_t superblocks[] = {37, 64, 1000, 1, 0};
        for (size_t b = 0; b < sizeof superblocks / sizeof superblocks[0]; b++)
            check_superblock(&s, superblocks[b], b % 2 ? FUR_KEEP_ALL : FUR_KEEP_NOTHING);
        scene_close(&s);
    }
}

/* GPT-2-like and Llama-like at 1,000 tokens, documents of 350, 5, 320, 325. */
static void model_gradient_of_1000_tokens(void **state)
{
    (void)state;
    static const int gpt_and_llama[] = {0, 3};
    for (int i = 0; i < 2; i++) {
        const kit_model_case *at = &kit_model_cases[gpt_and_llama[i]];
        scene s;
        scene_open(at->name, &at->config, at->lengths, 5, NULL, NULL, 1.0, &s);
        assert_int_equal(s.row.tokens, 1000);
        check_superblock(&s, 37, FUR_KEEP_NOTHING);
        check_superblock(&s, 300, FUR_KEEP_ALL);
        check_superblock(&s, 0, FUR_KEEP_AUTO);
        scene_close(&s);
    }
}

/* Tiles that no plan of a small model would choose: a vocabulary in several pieces, feedforward tiles that divide
 * nothing. */
static void model_gradient_of_any_tiles(void **state)
{
    (void)state;
    static const int64_t tiles[][4] = {{37, 5, 13, 17}, {1000, 37, 200, 1}, {64, 64, 1, 96}, {100, 1, 7, 1000}};
    for (int i = 0; i < kit_model_case_count; i++)
        for (size_t k = 0; k < sizeof tiles / sizeof tiles[0]; k++) {
            const kit_model_case *at = &kit_model_cases[i];
            scene s;
            scene_open(at->name, &at->config, at->lengths, 1, NULL, NULL, 1.0, &s);
            kit_run run = {.context = s.context, .model = s.model};
            fur_plan_request_defaults(&run.request);
            run.request.row_tokens = s.row.tokens;
            run.request.measured_gflops = 100;
            fur_run_shape shape = {.purpose = FUR_FOR_TRAIN,
                                   .tokens = s.row.tokens,
                                   .superblock = tiles[k][0],
                                   .token_tile = tiles[k][1],
                                   .loss_tile = tiles[k][2],
                                   .vocabulary_tile = tiles[k][3],
                                   .optimizer = 1};
            kit_ok(s.context, fur_plan_of_shape(s.context, &s.o->config, &run.request, &shape, &run.plan));
            kit_ok(s.context, fur_run_create(s.context, s.model, &run.plan, &run.request, &run.run));
            kit_gradient g;
            kit_gradient_create(&run, &s.row, NULL, 1.0, &g);
            check_gradient(&s, &g, tiles[k][0]);
            check_outputs(&s, &run);
            kit_gradient_destroy(&g);
            kit_run_destroy(&run);
            scene_close(&s);
        }
}

static void model_gradient_has_its_weight(void **state)
{
    (void)state;
    static const int some[] = {0, 3, 7};
    for (int i = 0; i < 3; i++) {
        const kit_model_case *at = &kit_model_cases[some[i]];
        scene s;
        scene_open(at->name, &at->config, at->lengths, 1, NULL, NULL, 0.3, &s);
        check_superblock(&s, 64, FUR_KEEP_NOTHING);
        scene_close(&s);
    }
}

/* Gradients are added: two rows into the same arrays give the sum. */
static void model_gradient_accumulates(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[3];
    fur_context *context = kit_context(2);
    fur_model *model = kit_model(context, &at->config, 5);
    kit_row rows[2];
    kit_row_create(&at->config, at->lengths, 1, 6, &rows[0]);
    kit_row_create(&at->config, (int64_t[]){50, 80, 0}, 1, 7, &rows[1]); /* shorter than the plan */
    kit_run run;
    kit_run_create(context, model, &rows[0], 64, FUR_KEEP_NOTHING, &run);
    kit_gradient one, two;
    kit_gradient_create(&run, &rows[0], NULL, 0.25, &one);
    kit_gradient_create(&run, &rows[1], NULL, 0.75, &two);
    double loss;
    kit_ok(context, fur_model_loss_and_gradient(run.run, &rows[0].row, NULL, 0.25, &loss, NULL));
    int64_t at_j = 0;
    double scale = 0, error = 0;
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        for (int64_t j = 0; j < p.count; j++, at_j++) {
            double expected = (double)one.all[at_j] + (double)two.all[at_j];
            error += ((double)p.gradient[j] - expected) * ((double)p.gradient[j] - expected);
            scale += expected * expected;
        }
    }
    /* the second row's blocks are added to the first row's sum: at most one rounding of it for each of a row's blocks
     */
    assert_true(sqrt(error / scale) <= 8 * KIT_U);
    kit_gradient_destroy(&one);
    kit_gradient_destroy(&two);
    kit_run_destroy(&run);
    kit_row_destroy(&rows[0]);
    kit_row_destroy(&rows[1]);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

/* ---- callback losses --------------------------------------------------------------------------------------------- */

/* log(1 + sum of squares over the row) + a linear part: its gradient needs the sum first, so two passes. With `split`
 * 0, only the linear part and h^2 / 2, which one pass can do. */
typedef struct row_loss {
    int passes, calls, failed_order;
    int64_t width, tokens, next;
    double squares, linear, terms;
} row_loss;

static double linear_weight(int64_t i)
{
    return (double)(i % 7 - 3) / 100;
}

static double row_loss_oracle(void *user, int64_t tokens, int64_t width, const double *h, double *dh)
{
    row_loss *l = user;
    double squares = 0, linear = 0, terms = 0;
    for (int64_t i = 0; i < tokens * width; i++) {
        squares += h[i] * h[i];
        linear += h[i] * linear_weight(i);
        terms += fabs(h[i] * linear_weight(i));
    }
    l->terms = terms;
    for (int64_t i = 0; i < tokens * width; i++)
        dh[i] = (l->passes == 2 ? 2 * h[i] / (1 + squares) : h[i] * 1e-3) + linear_weight(i);
    return (l->passes == 2 ? log(1 + squares) : squares * 5e-4) + linear;
}

static fur_status row_loss_begin(void *self, int64_t tokens, int64_t width)
{
    row_loss *l = self;
    l->tokens = tokens;
    l->width = width;
    l->squares = l->linear = 0;
    l->next = 0;
    l->calls = 0;
    return FUR_OK;
}

static fur_status row_loss_block(void *self, int pass, int64_t first, int64_t count, const float *h, float *dh)
{
    row_loss *l = self;
    int last = pass == l->passes - 1;
    if (first == 0 && pass > 0 && l->next == l->tokens)
        l->next = 0;
    l->failed_order |= first != l->next || (dh && !last);
    l->next = first + count;
    l->calls++;
    for (int64_t i = 0; i < count * l->width && pass == 0; i++) {
        l->squares += (double)h[i] * (double)h[i];
        l->linear += (double)h[i] * linear_weight(first * l->width + i);
    }
    for (int64_t i = 0; dh && i < count * l->width; i++)
        dh[i] = (float)((l->passes == 2 ? 2 * (double)h[i] / (1 + l->squares) : (double)h[i] * 1e-3) +
                        linear_weight(first * l->width + i));
    return FUR_OK;
}

static fur_status row_loss_end(void *self, double *loss)
{
    row_loss *l = self;
    *loss = (l->passes == 2 ? log(1 + l->squares) : l->squares * 5e-4) + l->linear;
    return FUR_OK;
}

static void model_gradient_of_a_callback(void **state)
{
    (void)state;
    for (int passes = 1; passes <= 2; passes++)
        for (int i = 0; i < kit_model_case_count; i += 3) {
            const kit_model_case *at = &kit_model_cases[i];
            row_loss l = {.passes = passes};
            fur_loss loss = {&l, passes, row_loss_begin, row_loss_block, row_loss_end};
            scene s;
            scene_open(at->name, &at->config, at->lengths, 1, row_loss_oracle, &l, passes == 2 ? 1.0 : 1.7, &s);
            s.loss = &loss;
            s.loss_terms = l.terms; /* the linear part cancels */
            check_superblock(&s, 37, FUR_KEEP_NOTHING);
            check_superblock(&s, 0, FUR_KEEP_ALL);
            assert_false(l.failed_order);
            assert_true(l.calls >= passes && l.next == s.row.tokens);
            scene_close(&s);
        }
}

/* A status from inside a loss comes out, and the run still works. */
static fur_status refusing_block(void *self, int pass, int64_t first, int64_t count, const float *h, float *dh)
{
    (void)self, (void)pass, (void)first, (void)count, (void)h, (void)dh;
    return FUR_E_UNSUPPORTED;
}

static void model_loss_callback_can_refuse(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[0];
    fur_context *context = kit_context(2);
    fur_model *model = kit_model(context, &at->config, 5);
    kit_row row;
    kit_row_create(&at->config, at->lengths, 1, 6, &row);
    kit_run run;
    kit_run_create(context, model, &row, 64, FUR_KEEP_NOTHING, &run);
    kit_gradient before, after;
    kit_gradient_create(&run, &row, NULL, 1.0, &before);
    row_loss l = {.passes = 1};
    fur_loss loss = {&l, 1, row_loss_begin, refusing_block, row_loss_end};
    double value;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &row.row, &loss, 1, &value, NULL), FUR_E_UNSUPPORTED);
    loss.passes = 3;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &row.row, &loss, 1, &value, NULL), FUR_E_ARGUMENT);
    kit_gradient_create(&run, &row, NULL, 1.0, &after);
    kit_check_same_bits("gradient after a refusal", before.all, after.all, (size_t)before.count * sizeof(float));
    kit_gradient_destroy(&before);
    kit_gradient_destroy(&after);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_gradient_of_every_shape),  cmocka_unit_test(model_gradient_of_1000_tokens),
        cmocka_unit_test(model_gradient_of_any_tiles),    cmocka_unit_test(model_gradient_has_its_weight),
        cmocka_unit_test(model_gradient_accumulates),     cmocka_unit_test(model_gradient_of_a_callback),
        cmocka_unit_test(model_loss_callback_can_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
