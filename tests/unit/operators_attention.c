/* SPDX-License-Identifier: Apache-2.0 */
/* The attention operators of operators.h. In double: their gradient is the slope of their output. In float: no element
 * is further from that than rounding explains. Beside these: threads, memory, and what is refused.
 *
 * Bounds. A weight errs by a share E of itself (head of src/op/attention/attention_test.h): with A the largest
 * |scale| |q_i| |k_j|, and u = 2^-24, E = exp(u ((D + 19) A + 4 max|lse| + 5 B)) - 1 for B blocks of keys; a sum of
 * n terms by g = (n + B + 4) u of the sum of their sizes. A far key's: the monomials of t^l sum to P(B) in size, which
 * is e^2B of e^-B at most, and each errs by 129 + degree + 4 (op/far/far.h), so E + e^2B (140 + degree) u, and
 * derivatives by degree times that. In bf16 operands are rounded (u_b = 2^-9), and so are P, dS and o: u_b A in a logit
 * by each of q and k. Sums of sizes are the operator's own in double: of |v| in o's, of |k|, |q| and |do| in
 * gradients', in each of which dS is at most p max|do.v - delta|. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/random.h"
#include "furlong/furlong.h"
#include "kit/kit.h"
#include "kit/model.h"

typedef struct test_case {
    const char *name;
    fur_operator_attention s;
    int sinks, bias, means;
    const char *dtype;
} test_case;

static const int64_t three[] = {0, 40, 41, 130}, three_queries[] = {0, 7, 7, 90}, far_documents[] = {0, 150, 151, 400};

#define SIZES(T, S, H, K, D) .queries = T, .keys = S, .heads = H, .kv_heads = K, .head_dim = D
static const test_case cases[] = {
    {.name = "one token", .s = {SIZES(1, 0, 1, 0, 1)}},
    {.name = "causal", .s = {SIZES(97, 0, 3, 0, 16)}},
    {.name = "grouped heads, bidirectional", .s = {SIZES(70, 70, 6, 2, 20), .bidirectional = true}},
    {.name = "last queries", .s = {SIZES(5, 200, 4, 2, 64), .scale = 0.3}},
    {.name = "last queries, bidirectional, window", .s = {SIZES(5, 90, 2, 2, 8), .bidirectional = true, .window = 20}},
    {.name = "window and sink tokens", .s = {SIZES(300, 0, 2, 1, 33), .window = 50, .sink_tokens = 3}},
    {.name = "documents", .s = {SIZES(130, 0, 2, 1, 12), .documents = 3, .offsets = three}},
    {.name = "documents of queries and keys",
     .s = {SIZES(90, 130, 4, 2, 12), .documents = 3, .offsets = three, .query_offsets = three_queries}},
    {.name = "softcap, slopes, sink logits", .s = {SIZES(60, 0, 4, 2, 10), .softcap = 2.5, .alibi = true}, .sinks = 1},
    {.name = "dropout", .s = {SIZES(80, 0, 2, 2, 8), .dropout = 0.3, .dropout_key = 7}},
    {.name = "beyond a block", .s = {SIZES(4100, 0, 1, 1, 4)}},
    {.name = "bf16", .s = {SIZES(300, 0, 4, 2, 32)}, .dtype = "bf16"},
    {.name = "bf16, last queries", .s = {SIZES(33, 300, 4, 2, 32)}, .dtype = "bf16"},
    {.name = "almost-linear", .s = {SIZES(300, 0, 2, 1, 8), .kind = "almost-linear", .chunk = 32}, .means = 1},
    {.name = "almost-linear, bidirectional, window, sink tokens, bias",
     .s = {SIZES(200, 0, 4, 2, 6), .kind = "almost-linear", .chunk = 16, .window = 20, .sink_tokens = 5, .degree = 3,
           .bound = 1.5, .bidirectional = true},
     .bias = 1},
    {.name = "almost-linear, documents",
     .s = {SIZES(400, 0, 2, 2, 4), .kind = "almost-linear", .chunk = 16, .degree = 4, .documents = 3,
           .offsets = far_documents}},
    {.name = "almost-linear beyond a block",
     .s = {SIZES(4200, 0, 1, 1, 3), .kind = "almost-linear", .chunk = 100, .window = 30}},
};
enum { CASES = sizeof cases / sizeof *cases };

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

typedef struct arrays {
    fur_operator_attention s;
    int64_t q_count, k_count, rows; /* elements of q and of k; rows of lse */
    float *q, *k, *v, *d_o, *sink, *bias, *mean;
    double *q64, *k64, *v64, *do64;
} arrays;

static double *doubles(int64_t count)
{
    double *x = calloc((size_t)count + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

static double *widened(const float *x, int64_t count)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++)
        y[i] = (double)x[i];
    return y;
}

static arrays arrays_of(const test_case *c)
{
    arrays a = {.s = c->s};
    a.s.struct_size = sizeof a.s;
    int64_t K = a.s.kv_heads ? a.s.kv_heads : a.s.heads, S = a.s.keys ? a.s.keys : a.s.queries;
    a.rows = a.s.queries * a.s.heads;
    a.q_count = a.rows * a.s.head_dim;
    a.k_count = S * K * a.s.head_dim;
    a.q = kit_guard_filled(a.q_count, KIT_NORMAL, 1);
    a.k = kit_guard_filled(a.k_count, KIT_NORMAL, 2);
    a.v = kit_guard_filled(a.k_count, KIT_NORMAL, 3);
    a.d_o = kit_guard_filled(a.q_count, KIT_NORMAL, 4);
    a.sink = kit_guard_filled(a.s.heads, KIT_NORMAL, 5);
    a.bias = kit_guard_filled(a.s.heads, KIT_NORMAL, 6);
    a.mean = kit_guard_filled(K * a.s.head_dim, KIT_NORMAL, 7);
    for (int64_t i = 0; i < K * a.s.head_dim; i++)
        a.mean[i] *= 0.05f;
    a.s.sink_H = c->sinks ? a.sink : NULL;
    a.s.bias_H = c->bias ? a.bias : NULL;
    a.s.query_mean_KD = a.s.key_mean_KD = c->means ? a.mean : NULL;
    a.q64 = widened(a.q, a.q_count);
    a.k64 = widened(a.k, a.k_count);
    a.v64 = widened(a.v, a.k_count);
    a.do64 = widened(a.d_o, a.q_count);
    return a;
}

static void arrays_clear(arrays *a)
{
    kit_guard_free_all();
    free(a->q64);
    free(a->k64);
    free(a->v64);
    free(a->do64);
}

typedef struct result64 {
    double *o, *lse, *dq, *dk, *dv, *dsink, *dbias;
} result64;

static result64 run64(fur_context *context, const arrays *a, const double *q, const double *k, const double *v,
                      const double *d_o, int backward)
{
    result64 r = {doubles(a->q_count), doubles(a->rows),    doubles(a->q_count), doubles(a->k_count),
                  doubles(a->k_count), doubles(a->s.heads), doubles(a->s.heads)};
    kit_ok(context, fur_operator_attention_forward_f64(context, &a->s, q, k, v, r.o, r.lse));
    fur_operator_attention_gradients_f64 g = {r.dq, r.dk, r.dv, r.dsink, r.dbias};
    if (backward)
        kit_ok(context, fur_operator_attention_backward_f64(context, &a->s, q, k, v, r.o, r.lse, d_o, &g));
    return r;
}

static void clear64(result64 *r)
{
    double *all[] = {r->o, r->lse, r->dq, r->dk, r->dv, r->dsink, r->dbias};
    for (int i = 0; i < 7; i++)
        free(all[i]);
}

typedef struct result32 {
    float *o, *lse, *dq, *dk, *dv, *dsink, *dbias;
} result32;

static result32 run32(fur_context *context, const arrays *a)
{
    result32 r = {kit_guard_f32(a->q_count), kit_guard_f32(a->rows),    kit_guard_f32(a->q_count),
                  kit_guard_f32(a->k_count), kit_guard_f32(a->k_count), kit_guard_f32(a->s.heads),
                  kit_guard_f32(a->s.heads)};
    kit_ok(context, fur_operator_attention_forward(context, &a->s, a->q, a->k, a->v, r.o, r.lse));
    fur_operator_attention_gradients g = {r.dq, r.dk, r.dv, r.dsink, r.dbias};
    kit_ok(context, fur_operator_attention_backward(context, &a->s, a->q, a->k, a->v, r.o, r.lse, a->d_o, &g));
    return r;
}

/* ---- double against differences ---------------------------------------------------------------------------------- */

static double direction(uint64_t of, int64_t i)
{
    return fur_random_uniform(91, of, (uint64_t)i) - 0.5;
}

static double *moved(const double *x, int64_t count, uint64_t of, double step)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++)
        y[i] = x[i] + step * direction(of, i);
    return y;
}

/* sum of do o at arrays moved along the direction */
static double value_at(fur_context *context, const arrays *a, double step)
{
    double *q = moved(a->q64, a->q_count, 1, step), *k = moved(a->k64, a->k_count, 2, step),
           *v = moved(a->v64, a->k_count, 3, step), sum = 0;
    result64 r = run64(context, a, q, k, v, NULL, 0);
    for (int64_t i = 0; i < a->q_count; i++)
        sum += a->do64[i] * r.o[i];
    clear64(&r);
    free(q);
    free(k);
    free(v);
    return sum;
}

/* The four-point difference errs by h^4 of a fifth derivative and 1e-16 / h of the value. */
static void gradient_is_slope(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    double worst = 0;
    for (int i = 0; i < CASES; i++) {
        if (cases[i].s.queries > 1000)
            continue;
        arrays a = arrays_of(&cases[i]);
        result64 r = run64(context, &a, a.q64, a.k64, a.v64, a.do64, 1);
        double expected = 0, size = 0, h = 1e-3;
        for (int64_t j = 0; j < a.q_count; j++) {
            expected += r.dq[j] * direction(1, j);
            size += fabs(r.dq[j] * direction(1, j));
        }
        for (int64_t j = 0; j < a.k_count; j++) {
            expected += r.dk[j] * direction(2, j) + r.dv[j] * direction(3, j);
            size += fabs(r.dk[j] * direction(2, j)) + fabs(r.dv[j] * direction(3, j));
        }
        double slope = (8 * (value_at(context, &a, h) - value_at(context, &a, -h)) -
                        (value_at(context, &a, 2 * h) - value_at(context, &a, -2 * h))) /
                       (12 * h);
        if (!(fabs(slope - expected) <= 1e-9 * size))
            fail_msg("%s: slope %.15g, gradient %.15g", cases[i].name, slope, expected);
        worst = fmax(worst, fabs(slope - expected) / size);
        for (int64_t head = 0; head < a.s.heads && (a.s.sink_H || a.s.bias_H); head++) {
            float *x = a.s.sink_H ? &a.sink[head] : &a.bias[head], was = *x, step = 0x1p-8f;
            *x = was + step;
            double up = value_at(context, &a, 0), high = (double)*x;
            *x = was - step;
            double down = value_at(context, &a, 0), got = a.s.sink_H ? r.dsink[head] : r.dbias[head];
            slope = (up - down) / (high - (double)*x);
            *x = was;
            if (!(fabs(slope - got) <= 1e-4 * (fabs(slope) + 1))) /* third-order terms of a step of 2^-8 */
                fail_msg("%s: head %d: slope %.9g, gradient %.9g", cases[i].name, (int)head, slope, got);
        }
        clear64(&r);
        arrays_clear(&a);
    }
    print_message("slopes within %.1g of the sum of sizes (target 1e-9)\n", worst);
    fur_context_destroy(context);
}

/* ---- float against double ---------------------------------------------------------------------------------------- */

static double largest_norm(const double *x, int64_t rows, int64_t D)
{
    double most = 0;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t d = 0; d < D; d++)
            sum += x[i * D + d] * x[i * D + d];
        most = fmax(most, sqrt(sum));
    }
    return most;
}

static double norm_of(const double *row, int64_t D)
{
    return largest_norm(row, 1, D);
}

typedef struct limits {
    double weight, sum, score_gradient; /* E, g; largest |do.v - delta|, and what it errs by as a share of that */
    double share, scale, far;           /* far: what a far key's gradient is by a row of unit norm, at most */
    double lse;
} limits;

static limits limits_of(const test_case *c, const arrays *a, const result64 *r)
{
    int64_t D = a->s.head_dim, keys = a->k_count / D;
    limits l = {.scale = a->s.scale > 0 ? a->s.scale : 1 / sqrt((double)D)};
    double longest = (double)(a->s.keys ? a->s.keys : a->s.queries), lse = 0, u = KIT_U, blocks = longest / 64 + 2;
    double A = l.scale * largest_norm(a->q64, a->q_count / D, D) * largest_norm(a->k64, keys, D);
    for (int64_t i = 0; i < a->rows; i++)
        lse = fmax(lse, fabs(r->lse[i]));
    if (a->s.alibi)
        A += longest;
    double exponent = u * ((double)(D + 19) * A + 4 * lse + 5 * blocks), v = largest_norm(a->v64, keys, D);
    l.sum = (longest + blocks + 4) * u;
    l.share = (double)(D + 2) * u;
    double keep = 1 / (1 - a->s.dropout), d_o = largest_norm(a->do64, a->q_count / D, D);
    l.score_gradient = 2 * keep * d_o * v;
    if (c->dtype) {
        exponent += 2 * 0x1p-9 * A;
        l.sum += 3 * 0x1p-9;
        l.share += 3 * 0x1p-9;
    }
    l.weight = exp(exponent) - 1;
    l.lse = l.weight + l.sum + 3 * u * (lse + A + log(longest));
    if (a->s.kind) {
        double B = a->s.bound > 0 ? a->s.bound : 1, degree = a->s.degree ? (double)a->s.degree : 2;
        l.weight += exp(2 * B) * (140 + degree) * u;
        l.lse += exp(2 * B) * (140 + degree) * u;
        l.far = 2 * B * (1 + degree) * exp(2 * B);
    }
    return l;
}

static double *absolute(const double *x, int64_t count)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++)
        y[i] = fabs(x[i]);
    return y;
}

static double *filled(int64_t count, double value)
{
    double *y = doubles(count);
    for (int64_t i = 0; i < count; i++)
        y[i] = value;
    return y;
}

static void check_case(fur_context *context, const test_case *c)
{
    arrays a = arrays_of(c);
    int64_t D = a.s.head_dim;
    result64 truth = run64(context, &a, a.q64, a.k64, a.v64, a.do64, 1);
    limits l = limits_of(c, &a, &truth);
    result32 got = run32(context, &a);
    double *abs_v = absolute(a.v64, a.k_count), *abs_k = absolute(a.k64, a.k_count),
           *abs_q = absolute(a.q64, a.q_count), *abs_do = absolute(a.do64, a.q_count), *ones = filled(a.q_count, 1);
    /* sums of p |v|; of p |k|; and in dv's of p |do|, p |q| and p */
    result64 of_v = run64(context, &a, a.q64, a.k64, abs_v, abs_do, 1),
             of_k = run64(context, &a, a.q64, a.k64, abs_k, abs_q, 1),
             of_one = run64(context, &a, a.q64, a.k64, abs_v, ones, 1);
    double each = l.weight + l.sum, by_score = l.score_gradient * (each + l.share) * 1.01;
    double *bound_q = doubles(a.q_count), *bound_k = doubles(a.k_count), *bound_o = doubles(a.q_count),
           *bound_v = doubles(a.k_count);
    for (int64_t i = 0; i < a.q_count; i++) {
        bound_o[i] = 1.01 * each * (of_v.o[i] + fabs(truth.o[i])) + 1e-37;
        bound_q[i] =
            by_score * (l.scale * of_k.o[i] + l.far / norm_of(a.q64 + i / D * D, D)) + KIT_U * fabs(truth.dq[i]);
    }
    for (int64_t i = 0; i < a.k_count; i++) {
        bound_v[i] = 1.01 * each * of_v.dv[i] + KIT_U * fabs(truth.dv[i]) + 1e-37;
        bound_k[i] = by_score * (l.scale * of_k.dv[i] + l.far * of_one.dv[i] / norm_of(a.k64 + i / D * D, D)) +
                     KIT_U * fabs(truth.dk[i]) + 1e-37;
    }
    double worst = kit_check_bound(c->name, got.o, truth.o, bound_o, 1, a.q_count);
    worst = fmax(worst, kit_check_bound(c->name, got.lse, truth.lse, &l.lse, 0, a.rows));
    worst = fmax(worst, kit_check_bound(c->name, got.dv, truth.dv, bound_v, 1, a.k_count));
    worst = fmax(worst, kit_check_bound(c->name, got.dq, truth.dq, bound_q, 1, a.q_count));
    worst = fmax(worst, kit_check_bound(c->name, got.dk, truth.dk, bound_k, 1, a.k_count));
    double by_heads = by_score * (double)a.s.queries;
    if (a.s.sink_H)
        kit_check_bound(c->name, got.dsink, truth.dsink, &by_heads, 0, a.s.heads);
    if (a.s.bias_H)
        kit_check_bound(c->name, got.dbias, truth.dbias, &by_heads, 0, a.s.heads);
    print_message("%s: at most %.2g of the bound\n", c->name, worst);
    double *all[] = {abs_v, abs_k, abs_q, abs_do, ones, bound_q, bound_k, bound_o, bound_v};
    for (int i = 0; i < 9; i++)
        free(all[i]);
    clear64(&truth);
    clear64(&of_v);
    clear64(&of_k);
    clear64(&of_one);
    arrays_clear(&a);
}

static void float_is_near(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        fur_context *context = kit_context_of(2, cases[i].dtype ? cases[i].dtype : "f32");
        check_case(context, &cases[i]);
        fur_context_destroy(context);
    }
}

/* ---- threads, memory, refusals ----------------------------------------------------------------------------------- */

static void same_bits(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        arrays a = arrays_of(&cases[i]);
        result32 first = {0};
        for (int threads = 1; threads <= 3; threads++) {
            fur_context *context = kit_context_of(threads, cases[i].dtype ? cases[i].dtype : "f32");
            result32 r = run32(context, &a);
            if (threads == 1)
                first = r;
            kit_check_same_bits(cases[i].name, first.o, r.o, (size_t)a.q_count * sizeof(float));
            kit_check_same_bits(cases[i].name, first.lse, r.lse, (size_t)a.rows * sizeof(float));
            kit_check_same_bits(cases[i].name, first.dq, r.dq, (size_t)a.q_count * sizeof(float));
            kit_check_same_bits(cases[i].name, first.dk, r.dk, (size_t)a.k_count * sizeof(float));
            kit_check_same_bits(cases[i].name, first.dv, r.dv, (size_t)a.k_count * sizeof(float));
            fur_context_destroy(context);
        }
        arrays_clear(&a);
    }
}

static void memory_is_stated(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < CASES; i++) {
        arrays a = arrays_of(&cases[i]);
        int64_t bytes, live = fur_alloc_live();
        result32 r = run32(context, &a);
        fur_operator_attention_gradients g = {r.dq, r.dk, r.dv, r.dsink, r.dbias};
        for (int backward = 0; backward <= 1; backward++) {
            kit_ok(context, fur_operator_attention_bytes(context, &a.s, backward, &bytes));
            a.s.memory_bytes = bytes;
            for (int less = 0; less <= 1; less++, a.s.memory_bytes--) {
                fur_status status =
                    backward ? fur_operator_attention_backward(context, &a.s, a.q, a.k, a.v, r.o, r.lse, a.d_o, &g)
                             : fur_operator_attention_forward(context, &a.s, a.q, a.k, a.v, r.o, NULL);
                assert_int_equal(status, less ? FUR_E_DOES_NOT_FIT : FUR_OK);
            }
            a.s.memory_bytes = 0;
            fur_alloc_fail_at(1);
            assert_int_equal(backward
                                 ? fur_operator_attention_backward(context, &a.s, a.q, a.k, a.v, r.o, r.lse, a.d_o, &g)
                                 : fur_operator_attention_forward(context, &a.s, a.q, a.k, a.v, r.o, NULL),
                             FUR_E_MEMORY);
            fur_alloc_fail_at(0);
        }
        assert_int_equal(fur_alloc_live(), live);
        arrays_clear(&a);
    }
    fur_context_destroy(context);
}

typedef struct refusal {
    const char *words;
    fur_operator_attention s;
    fur_status status;
} refusal;

static void what_is_refused(void **state)
{
    (void)state;
    static const int64_t falling[] = {0, 5, 4, 8}, empty[] = {0, 4, 4, 8}, shorter[] = {0, 3, 6, 7},
                         good[] = {0, 3, 6, 8}, more[] = {0, 4, 6, 8};
    static const float not_finite[] = {1, NAN, 1};
    const refusal list[] = {
        {"q[0,", {SIZES(0, 0, 1, 1, 4)}, FUR_E_SHAPE},
        {"q[-1,", {SIZES(-1, 0, 1, 1, 4)}, FUR_E_SHAPE},
        {"q[8,0,", {SIZES(8, 0, 0, 0, 4)}, FUR_E_SHAPE},
        {"8,3,4] over k[8,2,4]", {SIZES(8, 0, 3, 2, 4)}, FUR_E_SHAPE},
        {"k[8,4,4]", {SIZES(8, 0, 2, 4, 4)}, FUR_E_SHAPE},
        {"1 to 1024", {SIZES(8, 0, 1, 1, 1025)}, FUR_E_SHAPE},
        {"2^40", {SIZES(INT64_MAX, 0, 1, 1, 4)}, FUR_E_SHAPE},
        {"can be counted", {SIZES((int64_t)1 << 40, 0, 65536, 1, 1024)}, FUR_E_SHAPE},
        {"more queries than keys", {SIZES(8, 7, 1, 1, 4)}, FUR_E_SHAPE},
        {"no kind 'linear'", {SIZES(8, 0, 1, 1, 4), .kind = "linear"}, FUR_E_ARGUMENT},
        {"window -1", {SIZES(8, 0, 1, 1, 4), .window = -1}, FUR_E_ARGUMENT},
        {"-2 sink tokens", {SIZES(8, 0, 1, 1, 4), .sink_tokens = -2}, FUR_E_ARGUMENT},
        {"scale 1e+300", {SIZES(8, 0, 1, 1, 4), .scale = 1e300}, FUR_E_ARGUMENT},
        {"softcap", {SIZES(8, 0, 1, 1, 4), .softcap = -1}, FUR_E_ARGUMENT},
        {"dropout 1", {SIZES(8, 0, 1, 1, 4), .dropout = 1}, FUR_E_ARGUMENT},
        {"dropout nan", {SIZES(8, 0, 1, 1, 4), .dropout = (double)NAN}, FUR_E_ARGUMENT},
        {"almost-linear", {SIZES(8, 0, 1, 1, 4), .degree = 2}, FUR_E_ARGUMENT},
        {"without offsets", {SIZES(8, 0, 1, 1, 4), .documents = 2}, FUR_E_ARGUMENT},
        {"9 documents", {SIZES(8, 0, 1, 1, 4), .documents = 9, .offsets = good}, FUR_E_ARGUMENT},
        {"document 1 begins at key 5", {SIZES(8, 0, 1, 1, 4), .documents = 3, .offsets = falling}, FUR_E_SHAPE},
        {"document 1 begins at key 4", {SIZES(8, 0, 1, 1, 4), .documents = 3, .offsets = empty}, FUR_E_SHAPE},
        {"expected 0 to 8", {SIZES(8, 0, 1, 1, 4), .documents = 3, .offsets = shorter}, FUR_E_SHAPE},
        {"no query_offsets", {SIZES(7, 8, 1, 1, 4), .documents = 3, .offsets = good}, FUR_E_ARGUMENT},
        {"4 queries and 3 keys",
         {SIZES(8, 8, 1, 1, 4), .documents = 3, .offsets = good, .query_offsets = more},
         FUR_E_SHAPE},
        {"degree 7", {SIZES(8, 0, 1, 1, 4), .kind = "almost-linear", .degree = 7}, FUR_E_ARGUMENT},
        {"heads of 129", {SIZES(8, 0, 1, 1, 129), .kind = "almost-linear"}, FUR_E_ARGUMENT},
        {"features", {SIZES(8, 0, 1, 1, 128), .kind = "almost-linear", .degree = 4}, FUR_E_ARGUMENT},
        {"can be counted",
         {SIZES((int64_t)1 << 40, 0, 32768, 32768, 16), .kind = "almost-linear", .degree = 6},
         FUR_E_SHAPE},
        {"chunk 15", {SIZES(8, 0, 1, 1, 4), .kind = "almost-linear", .chunk = 15}, FUR_E_ARGUMENT},
        {"bound 17", {SIZES(8, 0, 1, 1, 4), .kind = "almost-linear", .bound = 17}, FUR_E_ARGUMENT},
        {"bound -1", {SIZES(8, 0, 1, 1, 4), .kind = "almost-linear", .bound = -1}, FUR_E_ARGUMENT},
        {"a query for every key", {SIZES(7, 8, 1, 1, 4), .kind = "almost-linear"}, FUR_E_UNSUPPORTED},
        {"no softcap", {SIZES(8, 0, 1, 1, 4), .kind = "almost-linear", .softcap = 1}, FUR_E_UNSUPPORTED},
        {"coefficient 1",
         {SIZES(8, 0, 1, 1, 4), .kind = "almost-linear", .coefficient_KP = not_finite},
         FUR_E_ARGUMENT},
        {"memory_bytes is -1", {SIZES(8, 0, 1, 1, 4), .memory_bytes = -1}, FUR_E_ARGUMENT},
    };
    fur_context *context = kit_context(1);
    float q[8] = {0};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        fur_operator_attention s = list[i].s;
        s.struct_size = sizeof s;
        fur_status status = fur_operator_attention_forward(context, &s, q, q, q, q, NULL);
        if (status != list[i].status || !strstr(fur_context_error(context), list[i].words))
            fail_msg("case %d: %s: %s, expected %s", (int)i, fur_status_name(status), fur_context_error(context),
                     list[i].words);
    }
    fur_operator_attention old = {.struct_size = 8};
    assert_int_equal(fur_operator_attention_forward(context, &old, q, q, q, q, NULL), FUR_E_ARGUMENT);
    fur_context_destroy(context);
}

/* Two numbers a head that cannot be positive: said, not passed on. */
static void sums_are_positive(void **state)
{
    (void)state;
    static const float negative[] = {-1e6f, 0, 0};
    fur_context *context = kit_context(1);
    test_case c = {.s = {SIZES(200, 0, 1, 1, 4), .kind = "almost-linear", .chunk = 16, .coefficient_KP = negative}};
    arrays a = arrays_of(&c);
    float *o = kit_guard_f32(a.q_count);
    double *o64 = doubles(a.q_count);
    assert_int_equal(fur_operator_attention_forward(context, &a.s, a.q, a.k, a.v, o, NULL), FUR_E_NONFINITE);
    assert_int_equal(fur_operator_attention_forward_f64(context, &a.s, a.q64, a.k64, a.v64, o64, NULL),
                     FUR_E_NONFINITE);
    free(o64);
    arrays_clear(&a);
    fur_context_destroy(context);
}

/* What a query does not see changes nothing, whatever it is. */
static void invisible_is_nothing(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    test_case c = {.s = {SIZES(130, 0, 2, 1, 12), .documents = 3, .offsets = three}};
    arrays a = arrays_of(&c);
    result32 r = run32(context, &a);
    for (int64_t i = 41 * 12; i < 130 * 12; i++)
        a.k[i] = a.v[i] = NAN;
    result32 again = run32(context, &a);
    kit_check_same_bits("rows of the documents before", r.o, again.o, 41 * 24 * sizeof(float));
    kit_check_same_bits("and their gradients", r.dk, again.dk, 41 * 12 * sizeof(float));
    assert_true(isnan(again.o[41 * 24]));
    arrays_clear(&a);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_is_slope),    cmocka_unit_test(float_is_near),   cmocka_unit_test(same_bits),
        cmocka_unit_test(memory_is_stated),     cmocka_unit_test(what_is_refused), cmocka_unit_test(sums_are_positive),
        cmocka_unit_test(invisible_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
