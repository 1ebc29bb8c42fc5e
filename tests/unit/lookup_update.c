/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that move row by row: rows that are caught up before they are read are where dense AdamW would have them. */
#include "kit/kit.h"

#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "base/size.h"
#include "op/adamw/adamw.h"
#include "op/lookup/lookup.h"

enum { STEPS = 7, BITS = 4, R = 16, K = 3, ROWS = K * R, OUT = 100 };

/* A run of steps over one map; codes[s] read the rows touched in step s. */
typedef struct training {
    fur_lookup map;
    int64_t elements;
    double beta1;
    float *w, *d[STEPS];
    uint8_t *touched[STEPS];
    fur_lookup_codes codes[STEPS];
    fur_lookup_moments moments;
} training;

static int64_t element_at(int64_t row, int64_t o)
{
    return (o / FUR_LOOKUP_TILE * ROWS + row) * FUR_LOOKUP_TILE + o % FUR_LOOKUP_TILE;
}

/* Row 0 of a table is read in the first step alone, others now and then. */
static int is_touched(int64_t row, int s, int every_row)
{
    return every_row || (row % R == 0 ? s == 0 : (row * 7 + s) % 3 == 0);
}

static void begin_moments(training *t)
{
    t->moments.m = kit_guard((size_t)t->elements * 2);
    t->moments.v_KR = kit_guard_f32(ROWS);
    t->moments.last_KR = kit_guard(ROWS * sizeof(uint32_t));
    memset(t->moments.m, 0, (size_t)t->elements * 2);
    memset(t->moments.v_KR, 0, ROWS * sizeof(float));
    memset(t->moments.last_KR, 0, ROWS * sizeof(uint32_t));
}

static void begin_codes(training *t, int s)
{
    fur_lookup_codes_place(&t->map, R, kit_guard((size_t)fur_lookup_codes_bytes(&t->map, R)), &t->codes[s]);
    for (int64_t k = 0; k < K; k++) {
        uint16_t any = 0;
        for (int r = 0; r < R; r++)
            any = t->touched[s][k * R + r] ? (uint16_t)r : any;
        for (int r = 0; r < R; r++)
            t->codes[s].code_ST[k * R + r] = t->touched[s][k * R + r] ? (uint16_t)r : any;
    }
}

/* exact: beta1 and gradients for which m is a bf16 number, and all columns of a row have the same v. */
static void begin_training(training *t, int every_row, int exact)
{
    *t = (training){.map = {.in = K * BITS, .out = OUT, .bits = BITS}, .beta1 = exact ? 0.5 : 0.9};
    t->elements = fur_lookup_table_elements(&t->map);
    t->w = kit_guard_filled(t->elements, KIT_NORMAL, 1);
    for (int s = 0; s < STEPS; s++) {
        t->d[s] = kit_guard_filled(t->elements, KIT_NORMAL, 10 + (uint64_t)s);
        t->touched[s] = kit_guard(ROWS);
        for (int64_t row = 0; row < ROWS; row++) {
            t->touched[s][row] = (uint8_t)is_touched(row, s, every_row);
            for (int64_t o = 0; o < fur_round_up(OUT, FUR_LOOKUP_TILE); o++) {
                float *d = &t->d[s][element_at(row, o)];
                if (o % 33 == 5)
                    *d *= 1e-3f; /* a quiet column */
                if (exact)
                    *d = copysignf(row % 2 ? 1.0f : 0.25f, *d);
                if (o >= OUT)
                    *d = 0;
                if (!t->touched[s][row])
                    *d = NAN; /* must not be read */
            }
        }
        begin_codes(t, s);
    }
    begin_moments(t);
}

static double lr_of(int64_t step)
{
    return 0.01 / (double)step;
}

static fur_lookup_update update_of(const training *t, int64_t step, double lr_before[FUR_LOOKUP_BEHIND])
{
    for (int64_t i = 0; i < FUR_LOOKUP_BEHIND && i < step - 1; i++)
        lr_before[i] = lr_of(step - 1 - i);
    return (fur_lookup_update){.lr = lr_of(step),
                               .lr_before = lr_before,
                               .beta1 = t->beta1,
                               .beta2 = 0.95,
                               .eps = 1e-8,
                               .weight_decay = 0.1,
                               .step = step,
                               .grad_scale = 0.5f};
}

/* All steps, then every row is caught up; w and the moments are the result. */
static void train(training *t, fur_isa isa, int threads)
{
    kit_exec kit;
    fur_exec probe = {.threads = threads, .isa = isa};
    kit_exec_init(&kit, isa, threads, fur_lookup_workspace(&probe, &t->map, 0, 1));
    float *square = kit_guard_f32(ROWS), *even = kit_guard_f32(fur_lookup_columns(&t->map));
    double before[FUR_LOOKUP_BEHIND];
    for (int s = 0; s < STEPS; s++) {
        double sum, want = 0;
        fur_lookup_update args = update_of(t, s + 1, before);
        assert_int_equal(fur_lookup_catch_up(&kit.exec, &t->map, &t->codes[s], t->w, &t->moments, &args), FUR_OK);
        assert_int_equal(fur_lookup_sum_squares(&kit.exec, &t->map, t->d[s], t->touched[s], square, even, &sum),
                         FUR_OK);
        for (int64_t i = 0; i < t->elements; i++)
            if (t->touched[s][i / FUR_LOOKUP_TILE % ROWS])
                want += (double)t->d[s][i] * (double)t->d[s][i];
        assert_true(fabs(sum - want) <= 1e-12 * want);
        assert_int_equal(
            fur_lookup_update_lazy(&kit.exec, &t->map, t->w, t->d[s], t->touched[s], square, even, &t->moments, &args),
            FUR_OK);
    }
    fur_lookup_update args = update_of(t, STEPS + 1, before);
    assert_int_equal(fur_lookup_catch_up(&kit.exec, &t->map, NULL, t->w, &t->moments, &args), FUR_OK);
    kit_exec_clear(&kit);
}

/* AdamW of one row over every step, in double and with a zero gradient where it is not touched. bf16 is rounded to
 * where the row was caught up or updated. */
typedef struct oracle {
    double w[OUT], m[OUT], bound[OUT], v;
    int late; /* m was not rounded since it decayed */
} oracle;

static void round_moment(oracle *row)
{
    for (int64_t o = 0; o < OUT; o++)
        row->m[o] = (double)fur_bf16_round((float)row->m[o]);
    row->late = 0;
}

/* What makes the columns of a step's gradient equal in size. */
static void even_columns(const training *t, int s, double even[OUT])
{
    double total = 0;
    for (int64_t o = 0; o < OUT; o++) {
        even[o] = 0;
        for (int64_t n = 0; n < ROWS; n++)
            even[o] += t->touched[s][n] ? pow((double)t->d[s][element_at(n, o)], 2) : 0;
        total += even[o];
    }
    for (int64_t o = 0; o < OUT; o++)
        even[o] = fmin(sqrt(total / OUT / even[o]), FUR_LOOKUP_MOST_EVEN);
}

/* The bound: each step rounds w, m, the products and the factors to f32, 8 u of each term (of untouched steps together
 * less); and m may fall on the other side of a tie of bf16, 2^-8 m, which moves w by the rate times that in each step
 * until it has decayed: 1 / (1 - beta1) steps. */
static void oracle_step(const training *t, int s, int64_t n, oracle *row)
{
    double before[FUR_LOOKUP_BEHIND], square = 0, g[OUT] = {0}, even[OUT];
    even_columns(t, s, even);
    fur_lookup_update a = update_of(t, s + 1, before);
    int touched = t->touched[s][n];
    if (touched && row->late)
        round_moment(row);
    for (int64_t o = 0; o < OUT && touched; o++) {
        g[o] = (double)a.grad_scale * (double)t->d[s][element_at(n, o)];
        square += g[o] * g[o] / OUT;
        g[o] *= even[o];
    }
    row->v = a.beta2 * row->v + (1 - a.beta2) * square;
    double below = sqrt(row->v / (1 - pow(a.beta2, (double)a.step))) + a.eps;
    double rate = a.lr / (1 - pow(a.beta1, (double)a.step)) / below;
    for (int64_t o = 0; o < OUT; o++) {
        row->m[o] = a.beta1 * row->m[o] + (1 - a.beta1) * g[o];
        double move = rate * row->m[o];
        row->w[o] = row->w[o] * (1 - a.lr * a.weight_decay) - move;
        row->bound[o] += 8 * KIT_U * (fabs(row->w[o]) + fabs(move)) + ldexp(fabs(move), -8) / (1 - a.beta1);
    }
    if (touched)
        round_moment(row);
    else
        row->late = 1;
}

static void check_training(const training *t, const float *w_first)
{
    for (int64_t n = 0; n < ROWS; n++) {
        oracle row = {.v = 0};
        for (int64_t o = 0; o < OUT; o++)
            row.w[o] = (double)w_first[element_at(n, o)];
        for (int s = 0; s < STEPS; s++)
            oracle_step(t, s, n, &row);
        for (int64_t o = 0; o < OUT; o++) {
            int64_t at = element_at(n, o);
            assert_true(fabs((double)t->w[at] - row.w[o]) <= row.bound[o]);
            assert_true(fabs((double)fur_bf16_value(t->moments.m[at]) - row.m[o]) <= ldexp(fabs(row.m[o]), -7));
        }
        assert_true(fabs((double)t->moments.v_KR[n] - row.v) <= 16 * KIT_U * row.v);
        assert_int_equal(t->moments.last_KR[n], STEPS);
    }
    for (int64_t i = 0; i < t->elements; i++) /* padding moves by decay alone */
        assert_true(isfinite(t->w[i]));
}

static void test_rows_are_as_of_dense_steps(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
        for (int every_row = 0; every_row < 2; every_row++) {
            training t, two;
            begin_training(&t, every_row, 0);
            begin_training(&two, every_row, 0);
            float *first = kit_guard_copy(t.w, t.elements);
            train(&t, isa, 1);
            train(&two, isa, 2);
            check_training(&t, first);
            kit_check_same_bits("threads", two.w, t.w, (size_t)t.elements * sizeof(float));
            kit_check_same_bits("threads, m", two.moments.m, t.moments.m, (size_t)t.elements * 2);
            kit_guard_free_all();
        }
}

/* Where bf16 and one v a row are exact, rows that lag behind end where the operator for dense parameters, with f32
 * moments of every element and gradients of zero, has them: up to f32, 8 u of what w was and of each move, at most
 * lr sqrt(columns' share) = lr / sqrt(1 - beta2) here, a step. */
static void test_same_as_dense_adam(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        training t;
        kit_exec kit;
        double before[FUR_LOOKUP_BEHIND];
        begin_training(&t, 0, 1);
        float *w = kit_guard_copy(t.w, t.elements), *m = kit_guard_f32(t.elements), *v = kit_guard_f32(t.elements);
        memset(m, 0, (size_t)t.elements * sizeof *m);
        memset(v, 0, (size_t)t.elements * sizeof *v);
        kit_exec_init(&kit, FUR_ISA_REF, 1, 0);
        for (int s = 0; s < STEPS; s++) {
            fur_lookup_update a = update_of(&t, s + 1, before);
            fur_adamw_args args = {.lr = a.lr,
                                   .beta1 = a.beta1,
                                   .beta2 = a.beta2,
                                   .eps = a.eps,
                                   .weight_decay = a.weight_decay,
                                   .step = a.step,
                                   .grad_scale = a.grad_scale};
            float *g = kit_guard_copy(t.d[s], t.elements);
            for (int64_t i = 0; i < t.elements; i++)
                g[i] = t.touched[s][i / FUR_LOOKUP_TILE % ROWS] ? g[i] : 0;
            assert_int_equal(fur_adamw_step(&kit.exec, t.elements, w, g, m, v, &args), FUR_OK);
        }
        train(&t, isa, 1);
        for (int64_t n = 0; n < ROWS; n++)
            for (int64_t o = 0; o < OUT; o++) {
                int64_t at = element_at(n, o);
                double most = fabs((double)w[at]) + 0.01 / sqrt(1 - 0.95);
                assert_true(fabs((double)t.w[at] - (double)w[at]) <= 8 * STEPS * KIT_U * most);
            }
        kit_exec_clear(&kit);
        kit_guard_free_all();
    }
}

static void test_refused(void **state)
{
    (void)state;
    kit_exec kit;
    training t;
    double before[FUR_LOOKUP_BEHIND];
    begin_training(&t, 1, 0);
    kit_exec_init(&kit, kit_best_isa(), 1, 1 << 16);
    float *square = kit_guard_f32(ROWS), *even = kit_guard_f32(fur_lookup_columns(&t.map));
    const float *first = kit_guard_copy(t.w, t.elements);
    /* not caught up; later than the step; too far behind */
    fur_lookup_update args = update_of(&t, 3, before);
    assert_int_equal(
        fur_lookup_update_lazy(&kit.exec, &t.map, t.w, t.d[0], t.touched[0], square, even, &t.moments, &args),
        FUR_E_ARGUMENT);
    t.moments.last_KR[30] = 3;
    assert_int_equal(fur_lookup_catch_up(&kit.exec, &t.map, NULL, t.w, &t.moments, &args), FUR_E_ARGUMENT);
    assert_non_null(strstr(kit.error.text, "row 30 was updated at 3"));
    t.moments.last_KR[30] = 0;
    args = update_of(&t, FUR_LOOKUP_BEHIND + 2, before);
    assert_int_equal(fur_lookup_catch_up(&kit.exec, &t.map, &t.codes[0], t.w, &t.moments, &args), FUR_E_ARGUMENT);
    args = update_of(&t, FUR_LOOKUP_BEHIND + 1, before);
    args.beta1 = 0.995;
    assert_int_equal(fur_lookup_catch_up(&kit.exec, &t.map, &t.codes[0], t.w, &t.moments, &args), FUR_E_ARGUMENT);
    kit_check_same_bits("nothing moved", t.w, first, (size_t)t.elements * sizeof(float));
    args.beta1 = 0.9;
    assert_int_equal(fur_lookup_catch_up(&kit.exec, &t.map, &t.codes[0], t.w, &t.moments, &args), FUR_OK);
    for (int64_t n = 0; n < ROWS; n++)
        assert_int_equal(t.moments.last_KR[n], FUR_LOOKUP_BEHIND);
    kit_exec_clear(&kit);
    kit_guard_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_are_as_of_dense_steps),
        cmocka_unit_test(test_same_as_dense_adam),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
