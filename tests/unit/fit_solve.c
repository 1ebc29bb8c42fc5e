/* SPDX-License-Identifier: Apache-2.0 */
/* Whole fits through the public interface: planted heads come back by every route and method, bad input is refused with
 * one line, results do not depend on threads or tiles, and a run that is stopped has a whole result. */
#include "kit/files.h"
#include "kit/fit.h"
#include "kit/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* What most tests run on. */
static int open_context(void **state)
{
    *state = kit_context(2);
    return 0;
}

static int close_context(void **state)
{
    fur_context_destroy(*state);
    return 0;
}

static fur_fit_data *planted(fur_context *context, int64_t sequences, int64_t length, int64_t width, double noise,
                             bool causal, uint64_t seed)
{
    fur_fit_planted what;
    fur_fit_data *data;
    fur_fit_planted_defaults(&what);
    what.sequences = sequences;
    what.length = length;
    what.width = width;
    what.noise = noise;
    what.causal = causal;
    what.seed = seed;
    assert_int_equal(fur_fit_data_plant(context, &what, &data), FUR_OK);
    return data;
}

static fur_fit_settings settings_of(bool causal)
{
    fur_fit_settings settings;
    fur_fit_settings_defaults(&settings);
    settings.causal = causal;
    return settings;
}

/* Exact targets, random starts: found to the last digits, and so are rows that were held out. */
static void test_routes(void **state)
{
    fur_context *context = *state;
    fur_fit_data *data = planted(context, 16, 32, 8, 0, true, 3);
    for (int route = FUR_FIT_AUTO; route <= FUR_FIT_MATRIX_FREE; route++)
        for (int f64 = 0; f64 < 2; f64++) {
            fur_fit_settings settings = settings_of(true);
            fur_fit_result result;
            settings.route = (fur_fit_route)route;
            settings.curvature_f64 = f64;
            kit_ok(context, fur_fit_run(context, data, &settings, &result));
            assert_int_equal(result.end, FUR_FIT_TOLERANCE);
            assert_true(result.loss <= 1e-20 && result.held_out_loss <= 1e-18 && result.steps <= 14);
            assert_true(route == FUR_FIT_AUTO || result.route == (fur_fit_route)route);
            assert_int_equal(result.history_count, result.steps + 1);
            assert_int_equal(result.rows + result.held_out_rows, 16 * 32);
            assert_true(result.held_out_sequences && result.rank == 8);
            double worst = 0; /* x = q k^T at full rank */
            for (int i = 0; i < 64; i++) {
                double sum = -result.x[i];
                for (int c = 0; c < 8; c++)
                    sum += result.q[i / 8 * 8 + c] * result.k[i % 8 * 8 + c];
                worst = fmax(worst, fabs(sum));
            }
            assert_true(worst < 1e-12);
            fur_fit_result_clear(&result);
        }
    fur_fit_data_close(data);
}

static void test_methods(void **state)
{
    fur_context *context = *state;
    fur_fit_data *data = planted(context, 16, 32, 6, 0.1, true, 5);
    fur_fit_result best, result;
    fur_fit_settings settings = settings_of(true);
    settings.curvature_f64 = true;
    settings.starts = 1;
    kit_ok(context, fur_fit_run(context, data, &settings, &best));
    assert_int_equal(best.end, FUR_FIT_GRADIENT);
    assert_true(best.loss > 0.002 && best.loss < 0.02); /* 10 % noise: its square is what is left */
    static const struct {
        fur_fit_method method;
        fur_fit_sketch sketch;
        int64_t rows;
    } others[] = {{FUR_FIT_NEWTON, FUR_FIT_UNIFORM, 0},
                  {FUR_FIT_SKETCHED_NEWTON, FUR_FIT_UNIFORM, 200},
                  {FUR_FIT_SKETCHED_NEWTON, FUR_FIT_LEVERAGE, 200},
                  {FUR_FIT_SKETCHED_NEWTON, FUR_FIT_COUNT_SKETCH, 150},
                  {FUR_FIT_GAUSS_NEWTON, FUR_FIT_UNIFORM, 200}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        settings.method = others[i].method;
        settings.sketch = others[i].sketch;
        settings.curvature_rows = others[i].rows;
        kit_ok(context, fur_fit_run(context, data, &settings, &result));
        assert_true(fabs(result.loss - best.loss) <= 1e-6 * best.loss); /* the same minimum */
        double slowest = 0;
        for (int64_t s = 3; s < result.history_count; s++)
            slowest = fmax(slowest, result.history[s].contraction);
        assert_true(slowest < 1); /* every step of every method lowers the loss */
        fur_fit_result_clear(&result);
    }
    fur_fit_result_clear(&best);
    fur_fit_data_close(data);
}

static void test_rank(void **state)
{
    fur_context *context = *state;
    fur_fit_planted what;
    fur_fit_data *data;
    fur_fit_planted_defaults(&what);
    what.sequences = 40;
    what.length = 40;
    what.width = 8;
    what.spectrum = 1; /* where weights and what they do to the rows are of different rank */
    kit_ok(context, fur_fit_data_plant(context, &what, &data));
    fur_fit_settings settings = settings_of(true);
    fur_fit_result result;
    settings.held_out = 0.25;
    settings.rank = 4;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_int_equal(result.rank, 4);
    assert_true(result.loss_before_rank <= 1e-20 && result.held_out_loss > 1e-6);
    assert_true(result.held_out_loss < result.held_out_plain && result.captured > 0.3 && result.captured < 1);
    fur_fit_result_clear(&result);
    settings.factored = true; /* Q and K from a random start: no worse than what they cut */
    settings.starts = 1;
    settings.max_steps = 60;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.loss < 0.2 && result.rank == 4);
    for (int i = 4; i < 8; i++)
        assert_true(result.spectrum[i] < 1e-9 * result.spectrum[0]);
    fur_fit_result_clear(&result);
    settings.rank = 8; /* full rank in factors finds the planted head */
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.loss <= 1e-18);
    fur_fit_result_clear(&result);
    fur_fit_data_close(data);
}

static void test_bound(void **state)
{
    fur_context *context = *state;
    fur_fit_data *data = planted(context, 16, 32, 6, 0, true, 9);
    fur_fit_settings settings = settings_of(true);
    fur_fit_result free_result, result;
    kit_ok(context, fur_fit_run(context, data, &settings, &free_result));
    settings.max_logit = 0.5 * free_result.logit_max;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.logit_max <= settings.max_logit && result.logit_max > 0.8 * settings.max_logit);
    assert_true(result.ridge > 0 && result.loss > free_result.loss && result.loss < 0.5);
    fur_fit_result_clear(&result);
    fur_fit_result_clear(&free_result);
    fur_fit_data_close(data);
}

/* Two heads added up, fitted together from near the answer that made them: here a target that one head cannot meet. */
static void test_heads(void **state)
{
    fur_context *context = *state;
    fur_fit_data *data = planted(context, 24, 40, 5, 0, true, 11), *other = planted(context, 24, 40, 5, 0, true, 11);
    fur_fit_settings settings = settings_of(true);
    fur_fit_result one, two;
    double *b = data->b.data;
    for (int64_t i = 0; i < data->b.rows; i++) /* a second head: rows see their own mean so far, turned */
        for (int64_t c = 0; c < 5; c++)
            b[i * 5 + c] += 0.5 * ((const double *)other->b.data)[i * 5 + (c + 1) % 5] +
                            0.5 * sin((double)c) * ((const double *)other->a1.data)[i / 40 * 40 * 5 + c];
    kit_ok(context, fur_fit_run(context, data, &settings, &one));
    settings.heads = 2;
    settings.starts = 2;
    kit_ok(context, fur_fit_run(context, data, &settings, &two));
    assert_true(two.heads == 2 && two.loss < one.loss);
    fur_fit_result_clear(&one);
    fur_fit_result_clear(&two);
    fur_fit_data_close(data);
    fur_fit_data_close(other);
}

/* o_i = sum of (x_i X x_k) x_k Y with a planted X and Y: the closed form finds both, up to a factor between them. */
static void test_linear(void **state)
{
    (void)state;
    enum { S = 20, L = 12, D = 3 };
    fur_context *context = kit_context(2);
    double a[S * L * D], x[D * D], y[D * D], b[S * L * D];
    int64_t lengths[S];
    kit_fit_fill(a, S * L * D, 1);
    kit_fit_fill(x, D * D, 2);
    kit_fit_fill(y, D * D, 3);
    for (int s = 0; s < S; s++)
        lengths[s] = L;
    for (int i = 0; i < S * L; i++)
        for (int c = 0; c < D; c++) {
            b[i * D + c] = 0;
            for (int k = i / L * L; k <= i; k++) {
                double logit = 0, value = 0;
                for (int p = 0; p < D; p++)
                    for (int q = 0; q < D; q++)
                        logit += a[i * D + p] * x[p * D + q] * a[k * D + q];
                for (int r = 0; r < D; r++)
                    value += a[k * D + r] * y[r * D + c];
                b[i * D + c] += logit * value;
            }
        }
    fur_fit_arrays arrays;
    fur_fit_data *data;
    fur_fit_result result;
    fur_fit_settings settings = settings_of(true);
    fur_fit_arrays_defaults(&arrays);
    arrays.sequences = S;
    arrays.query_lengths = lengths;
    arrays.a1_width = arrays.a2_width = arrays.a3_width = arrays.b_width = D;
    arrays.a1 = arrays.a2 = arrays.a3 = a;
    arrays.b = b;
    kit_ok(context, fur_fit_data_create(context, &arrays, &data));
    settings.method = FUR_FIT_LINEAR;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.lower_bound < 1e-16 && result.loss <= 1e-12 && result.held_out_loss <= 1e-11);
    double factor = result.x[0] / x[0];
    for (int i = 0; i < D * D; i++) {
        assert_true(fabs(result.x[i] - factor * x[i]) < 1e-5 * fabs(factor));
        assert_true(fabs(result.y[i] * factor - y[i]) < 1e-5);
    }
    fur_fit_result_clear(&result);
    fur_fit_data_close(data);
    fur_context_destroy(context);
}

static void test_same_bits(void **state)
{
    (void)state;
    double first[64];
    for (int threads = 1; threads <= 3; threads++) {
        fur_context *context = kit_context(threads);
        fur_fit_data *data = planted(context, 8, 50, 8, 0.05, true, 13);
        fur_fit_settings settings = settings_of(true);
        fur_fit_result result;
        settings.starts = 1;
        settings.route = FUR_FIT_MATRIX_FREE;
        kit_ok(context, fur_fit_run(context, data, &settings, &result));
        if (threads == 1)
            memcpy(first, result.x, sizeof first);
        kit_check_same_bits("x", first, result.x, sizeof first);
        fur_fit_result_clear(&result);
        fur_fit_data_close(data);
        fur_context_destroy(context);
    }
}

static int seen;
static fur_context *to_stop;
static void stop_at_two(void *user, const fur_fit_step *step)
{
    (void)user;
    seen++;
    if (step->step == 2)
        fur_context_stop(to_stop);
}

static void test_ends(void **state)
{
    (void)state;
    fur_context *context = kit_context(2); /* its own: a stop stays */
    fur_fit_data *data = planted(context, 16, 32, 8, 0, true, 3);
    fur_fit_settings settings = settings_of(true);
    fur_fit_result result;
    settings.max_steps = 2;
    settings.starts = 2;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.end == FUR_FIT_LIMIT && result.steps == 2 && result.start_count == 2);
    assert_true(result.x != NULL && isfinite(result.x[0]) && result.spread >= 1);
    assert_true(result.starts[0].kept != result.starts[1].kept);
    fur_fit_result_clear(&result);
    settings = settings_of(true);
    settings.on_step = stop_at_two;
    to_stop = context;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.end == FUR_FIT_STOPPED && result.steps == 2 && seen == 3 && result.start_count == 1);
    assert_true(result.loss < 1 && isfinite(result.held_out_loss));
    fur_fit_result_clear(&result);
    fur_fit_data_close(data);
    fur_context_destroy(context);
}

/* One unmasked sequence is said to be one; its starts differ. */
static void test_not_identified(void **state)
{
    fur_context *context = *state;
    fur_fit_data *data = planted(context, 1, 200, 6, 0, false, 3);
    fur_fit_settings settings = settings_of(false);
    fur_fit_result result;
    settings.max_steps = 30;
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.not_identified && result.start_count == 4 && result.spread > 1);
    fur_fit_result_clear(&result);
    fur_fit_data_close(data);
}

/* Inputs of a layer norm: their centred keys lack a direction, in f32 only up to its rounding. */
static void test_null_direction(void **state)
{
    (void)state;
    enum { S = 16, L = 24, D = 6, N = S * L };
    fur_context *context = kit_context(2);
    double x[N * D], b[N * D];
    int64_t lengths[S];
    kit_fit_fill(x, N * D, 5);
    kit_fit_fill(b, N * D, 6);
    for (int i = 0; i < N; i++) {
        double mean = 0, square = 0;
        for (int c = 0; c < D; c++)
            mean += x[i * D + c] / D;
        for (int c = 0; c < D; c++)
            square += (x[i * D + c] - mean) * (x[i * D + c] - mean) / D;
        for (int c = 0; c < D; c++)
            x[i * D + c] = (double)(float)((x[i * D + c] - mean) / sqrt(square) * (1 + 0.1 * c) + 0.3 - 0.1 * c);
    }
    for (int s = 0; s < S; s++)
        lengths[s] = L;
    fur_fit_arrays arrays;
    fur_fit_data *data;
    fur_fit_result result;
    fur_fit_settings settings = settings_of(true);
    fur_fit_arrays_defaults(&arrays);
    arrays.sequences = S;
    arrays.query_lengths = lengths;
    arrays.a1_width = arrays.a2_width = arrays.a3_width = arrays.b_width = D;
    arrays.a1 = arrays.a2 = arrays.a3 = x;
    arrays.b = b;
    arrays.epsilon = 0x1p-24;
    settings.max_steps = 3;
    kit_ok(context, fur_fit_data_create(context, &arrays, &data));
    kit_ok(context, fur_fit_run(context, data, &settings, &result));
    assert_true(result.kept1 == D && result.kept2 == D - 1);
    fur_fit_result_clear(&result);
    fur_fit_data_close(data);
    fur_context_destroy(context);
}

typedef struct small {
    double a[40 * 3], b[40 * 2];
    int64_t lengths[4];
    fur_fit_arrays arrays;
} small;

static void small_init(small *s)
{
    kit_fit_fill(s->a, 120, 1);
    kit_fit_fill(s->b, 80, 2);
    for (int i = 0; i < 4; i++)
        s->lengths[i] = 10;
    fur_fit_arrays_defaults(&s->arrays);
    s->arrays.sequences = 4;
    s->arrays.query_lengths = s->lengths;
    s->arrays.a1_width = s->arrays.a2_width = s->arrays.a3_width = 3;
    s->arrays.b_width = 2;
    s->arrays.a1 = s->arrays.a2 = s->arrays.a3 = s->a;
    s->arrays.b = s->b;
}

static void refuse(fur_context *context, const small *s, fur_fit_settings settings, fur_status wanted, const char *part)
{
    fur_fit_data *data = NULL;
    fur_fit_result result;
    fur_status status = fur_fit_data_create(context, &s->arrays, &data);
    if (status == FUR_OK)
        status = fur_fit_run(context, data, &settings, &result);
    kit_expect(&context->error, status, wanted, part);
    fur_fit_data_close(data);
}

static void test_refusals(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_fit_settings plain = settings_of(true), t;
    small s;
    int64_t before = fur_alloc_live();
    small_init(&s);
    s.b[33] = (double)NAN;
    refuse(context, &s, plain, FUR_E_NONFINITE, "array \"b\", row 16, column 1 is nan");
    small_init(&s);
    s.a[7] = (double)INFINITY;
    refuse(context, &s, plain, FUR_E_NONFINITE, "array \"x\", row 2, column 1 is inf");
    small_init(&s);
    for (int i = 0; i < 80; i++)
        s.b[i] = 2.5;
    refuse(context, &s, plain, FUR_E_SHAPE, "array \"b\" is the same in every row");
    small_init(&s);
    for (int i = 0; i < 120; i++)
        s.a[i] = 1;
    refuse(context, &s, plain, FUR_E_SHAPE, "rank 0 once its mean is taken off");
    small_init(&s);
    s.lengths[2] = 0;
    refuse(context, &s, plain, FUR_E_ARGUMENT, "sequence 2 has length 0");
    small_init(&s);
    s.arrays.sequences = 1;
    s.lengths[0] = 6;
    refuse(context, &s, plain, FUR_E_SHAPE, "too few");
    small_init(&s);
    int64_t keys[4] = {9, 10, 10, 10};
    s.arrays.key_lengths = keys;
    refuse(context, &s, plain, FUR_E_SHAPE, "causal: sequence 0 has 10 queries and 9 keys");
    small_init(&s);
    t = plain;
    t.rank = 4;
    refuse(context, &s, t, FUR_E_ARGUMENT, "rank 4, expected at most the width of the inputs, 3");
    t = plain;
    t.memory_bytes = 1 << 20;
    refuse(context, &s, t, FUR_E_DOES_NOT_FIT, "the limit is 1048576");
    t = plain;
    t.heads = 0;
    refuse(context, &s, t, FUR_E_ARGUMENT, "heads 0");
    t = plain;
    t.held_out = 2;
    refuse(context, &s, t, FUR_E_ARGUMENT, "held-out share 2");
    t = plain;
    t.method = FUR_FIT_NEWTON;
    t.heads = 2;
    refuse(context, &s, t, FUR_E_UNSUPPORTED, "of one head");
    t = plain;
    t.factored = true;
    refuse(context, &s, t, FUR_E_ARGUMENT, "factored unknowns want a rank");
    t = plain;
    t.method = FUR_FIT_NEWTON;
    t.route = FUR_FIT_STORED;
    refuse(context, &s, t, FUR_E_UNSUPPORTED, "matrix-free alone");
    t = plain;
    t.method = FUR_FIT_LINEAR;
    t.rank = 2;
    refuse(context, &s, t, FUR_E_UNSUPPORTED, "has no rank");
    assert_int_equal(fur_alloc_live(), before);
    fur_context_destroy(context);
}

typedef struct memory_case {
    fur_context *context;
    const small *s;
} memory_case;

static fur_status whole_fit(void *user, fur_error *error)
{
    memory_case *m = user;
    fur_fit_settings settings = settings_of(true);
    fur_fit_data *data = NULL;
    fur_fit_result result;
    settings.max_steps = 2;
    fur_status status = fur_fit_data_create(m->context, &m->s->arrays, &data);
    if (status == FUR_OK)
        status = fur_fit_run(m->context, data, &settings, &result);
    if (status == FUR_OK)
        fur_fit_result_clear(&result);
    *error = m->context->error;
    fur_fit_data_close(data);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    small s;
    memory_case m = {kit_context(1), &s};
    small_init(&s);
    assert_true(kit_each_allocation_fails(whole_fit, &m) > 10);
    fur_context_destroy(m.context);
}

/* Rows of two segments, mixed: the same as two sequences. */
static void test_segments(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_fit_data *mixed = planted(context, 2, 20, 3, 0, true, 4), *plain = planted(context, 2, 20, 3, 0, true, 4);
    int64_t segments[40];
    double *x = malloc(sizeof(double) * 120), *b = malloc(sizeof(double) * 120);
    for (int i = 0; i < 40; i++) { /* row i of the mixed order is row i / 2 of sequence i % 2 */
        segments[i] = 5 - i % 2;   /* numbers say nothing about order: 4 comes before 5 */
        for (int c = 0; c < 3; c++) {
            x[i * 3 + c] = fit_array_get(&plain->a1, ((1 - i % 2) * 20 + i / 2) * 3 + c);
            b[i * 3 + c] = fit_array_get(&plain->b, ((1 - i % 2) * 20 + i / 2) * 3 + c);
        }
    }
    memcpy(mixed->a1.data, x, sizeof(double) * 120);
    memcpy(mixed->b.data, b, sizeof(double) * 120);
    mixed->sequences = 1;
    mixed->queries[1] = mixed->keys[1] = 40;
    kit_ok(context, fit_data_split_segments(&context->error, mixed, segments));
    assert_int_equal(mixed->sequences, 2);
    assert_memory_equal(mixed->a1.data, plain->a1.data, sizeof(double) * 120);
    assert_memory_equal(mixed->b.data, plain->b.data, sizeof(double) * 120);
    assert_ptr_equal(mixed->a2.data, mixed->a1.data);
    assert_int_equal(mixed->queries[1], 20);
    free(x), free(b);
    fur_fit_data_close(mixed);
    fur_fit_data_close(plain);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),         cmocka_unit_test(test_methods),  cmocka_unit_test(test_rank),
        cmocka_unit_test(test_bound),          cmocka_unit_test(test_heads),    cmocka_unit_test(test_linear),
        cmocka_unit_test(test_same_bits),      cmocka_unit_test(test_ends),     cmocka_unit_test(test_not_identified),
        cmocka_unit_test(test_null_direction), cmocka_unit_test(test_refusals), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_segments)};
    return cmocka_run_group_tests(tests, open_context, close_context);
}
