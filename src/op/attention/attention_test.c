/* SPDX-License-Identifier: Apache-2.0 */
/* Every variant of attention against its formulas in double, within the bounds derived at the head of attention_test.h;
 * the formulas of the gradient against finite differences; and what holds to the bit: threads, cuts, invisible NaN. */
#include "op/attention/attention_test.h"

#include <stdio.h>
#include <stdlib.h>

#define PLAIN {.window = 0}, 0
#define SMALL(rows)                                                                                                    \
    {                                                                                                                  \
        2, 2, 64, rows, 1, WHOLE, KIT_NORMAL, 0.125f, 0, PLAIN                                                         \
    }
#define WIDTH(dim, arrangement)                                                                                        \
    {                                                                                                                  \
        2, 1, dim, 65, 1, arrangement, KIT_NORMAL, 0.25f, 3, PLAIN                                                     \
    }
#define ARRANGED(arrangement, causal)                                                                                  \
    {                                                                                                                  \
        6, 2, 20, 210, causal, arrangement, KIT_NORMAL, 0.2f, 5, PLAIN                                                 \
    }

#define FEATURES(rows, arrangement, causal, sinks, ...)                                                                \
    {                                                                                                                  \
        6, 2, 20, rows, causal, arrangement, KIT_NORMAL, 0.2f, 5, {__VA_ARGS__}, sinks                                 \
    }
#define EVERYTHING                                                                                                     \
    .window = 70, .sink_tokens = 3, .softcap = 2.5f, .alibi = 1, .dropout = 0.3f, .dropout_key = 0x123456789abcdef

static const test_case cases[] = {
    SMALL(1),
    SMALL(7),
    SMALL(8),
    SMALL(15),
    SMALL(16),
    SMALL(17),
    SMALL(31),
    SMALL(33),
    SMALL(65),
    SMALL(97),
    SMALL(193),
    SMALL(257),
    SMALL(600),
    WIDTH(1, WHOLE),
    WIDTH(5, WHOLE),
    WIDTH(8, LATE),
    WIDTH(16, WHOLE),
    WIDTH(24, WHOLE),
    WIDTH(32, LATE),
    WIDTH(48, WHOLE),
    WIDTH(64, DOCUMENTS),
    WIDTH(80, WHOLE),
    WIDTH(96, EARLY),
    WIDTH(112, WHOLE),
    WIDTH(128, LATE),
    WIDTH(250, WHOLE),
    WIDTH(256, WHOLE),
    WIDTH(1023, WHOLE),
    WIDTH(1024, WHOLE),
    ARRANGED(WHOLE, 0),
    ARRANGED(WHOLE, 1),
    ARRANGED(LATE, 0),
    ARRANGED(LATE, 1),
    ARRANGED(EARLY, 0),
    ARRANGED(EARLY, 1),
    ARRANGED(SPANS, 0),
    ARRANGED(SPANS, 1),
    ARRANGED(GAP, 0),
    ARRANGED(GAP, 1),
    ARRANGED(DOCUMENTS, 0),
    ARRANGED(DOCUMENTS, 1),
    ARRANGED(SHARED, 0),
    ARRANGED(SHARED, 1),
    {1, 1, 64, 1, 1, LATE, KIT_NORMAL, 0.125f, 0, PLAIN}, /* one decoded token */
    {8, 1, 64, 1, 1, LATE, KIT_NORMAL, 0.125f, 0, PLAIN}, /* the same with one key head */
    {3, 3, 16, 50, 1, WHOLE, KIT_TINY, 0.25f, 1, PLAIN},
    {3, 3, 16, 50, 1, WHOLE, KIT_ZERO, 0.25f, 1, PLAIN},
    {2, 1, 16, 300, 1, WHOLE, KIT_HUGE, 0.25f, 1, PLAIN},   /* scores about 1e8: one key takes all */
    {2, 1, 16, 300, 0, WHOLE, KIT_NORMAL, 20.0f, 1, PLAIN}, /* sharp */
    {2, 1, 16, 300, 1, LATE, KIT_NORMAL, -1.0f, 1, PLAIN},
    FEATURES(210, WHOLE, 1, 0, .window = 1),
    FEATURES(210, WHOLE, 0, 0, .window = 1),
    FEATURES(600, WHOLE, 1, 0, .window = 64),
    FEATURES(600, WHOLE, 0, 0, .window = 100),
    FEATURES(300, LATE, 1, 0, .window = 200),
    FEATURES(210, LATE, 0, 0, .window = 1000),
    FEATURES(210, GAP, 1, 0, .window = 50, .sink_tokens = 4),
    FEATURES(500, WHOLE, 1, 0, .window = 30, .sink_tokens = 200),
    FEATURES(210, WHOLE, 0, 0, .window = 30, .sink_tokens = 7),
    FEATURES(210, WHOLE, 1, 0, .sink_tokens = 7),
    FEATURES(210, EARLY, 1, 1, .window = 40, .sink_tokens = 100),
    FEATURES(210, SPANS, 1, 0, .window = 9, .sink_tokens = 2),
    FEATURES(210, DOCUMENTS, 1, 1, .window = 7, .sink_tokens = 2),
    FEATURES(210, SHARED, 1, 0, .window = 33, .sink_tokens = 5),
    FEATURES(210, WHOLE, 1, 1, .window = 0),
    FEATURES(210, EARLY, 1, 1, .window = 0),
    FEATURES(210, WHOLE, 1, 0, .softcap = 3.0f),
    FEATURES(210, WHOLE, 0, 0, .softcap = 50.0f),
    FEATURES(210, LATE, 1, 0, .alibi = 1),
    FEATURES(210, WHOLE, 0, 0, .alibi = 1),
    FEATURES(210, LATE, 1, 0, .dropout = 0.1f, .dropout_key = 7),
    FEATURES(210, DOCUMENTS, 0, 0, .dropout = 0.9f, .dropout_key = 8),
    FEATURES(500, WHOLE, 1, 1, EVERYTHING),
    FEATURES(500, WHOLE, 0, 1, EVERYTHING),
    FEATURES(300, LATE, 1, 1, EVERYTHING),
    FEATURES(210, GAP, 1, 1, EVERYTHING),
    FEATURES(210, DOCUMENTS, 1, 1, EVERYTHING),
    FEATURES(210, SHARED, 1, 1, EVERYTHING),
    FEATURES(210, SHARED, 0, 1, EVERYTHING),
    {5, 1, 256, 130, 1, WHOLE, KIT_NORMAL, 0.06f, 0, {EVERYTHING}, 1},
    {16, 16, 64, 130, 1, LATE, KIT_NORMAL, 0.12f, 0, {EVERYTHING}, 1},
    {2, 1, 16, 300, 1, WHOLE, KIT_HUGE, 0.25f, 1, {.softcap = 20.0f}, 0}, /* every score at the cap */
    {3, 3, 16, 50, 1, WHOLE, KIT_TINY, 0.25f, 1, {EVERYTHING}, 1},
    {8, 1, 64, 1, 1, LATE, KIT_NORMAL, 0.125f, 0, {EVERYTHING}, 1},
};
enum { CASES = sizeof cases / sizeof *cases };

/* ---- checks against the formulas --------------------------------------------------------------------------------- */

/* Array `got`, row stride ld, against dense `want`; `before` (may be NULL) is what was added to. */
static double check_rows(const char *name, const float *got, int64_t ld, const float *before, const double *want,
                         const double *bound, int64_t rows, int64_t width)
{
    double worst = 0, *sum = doubles(2 * width), *limit = sum + width;
    float *row = fur_malloc((size_t)width * sizeof *row);
    assert_non_null(row);
    for (int64_t t = 0; t < rows; t++) {
        char what[120];
        snprintf(what, sizeof what, "%s, row %lld", name, (long long)t);
        for (int64_t i = 0; i < width; i++) {
            double start = before ? (double)before[t * ld + i] : 0;
            row[i] = got[t * ld + i];
            sum[i] = start + want[t * width + i];
            limit[i] = bound[t * width + i] + 2 * KIT_U * (fabs(start) + fabs(sum[i]) + bound[t * width + i]);
            if (isinf(sum[i])) {
                assert_true((double)row[i] == sum[i]);
                row[i] = 0;
                sum[i] = limit[i] = 0;
            }
        }
        worst = fmax(worst, kit_check_bound(what, row, sum, limit, 1, width));
    }
    fur_free(sum);
    fur_free(row);
    return worst;
}

typedef struct name_of_case {
    char text[240];
} name_of_case;

static name_of_case describe(const char *what, const test_case *c, fur_isa isa)
{
    name_of_case name;
    snprintf(name.text, sizeof name.text,
             "%s, isa %d, %lld on %lld heads of %lld, %lld rows, causal %d, arrangement %d, window %lld + %lld, "
             "cap %g, alibi %d, dropout %g, sinks %d",
             what, (int)isa, (long long)c->heads, (long long)c->kv_heads, (long long)c->head_dim, (long long)c->rows,
             c->causal, (int)c->arrangement, (long long)c->f.window, (long long)c->f.sink_tokens, (double)c->f.softcap,
             c->f.alibi, (double)c->f.dropout, c->sinks);
    return name;
}

static void test_forward_bounds(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = 0; i < CASES; i++) {
        problem p;
        expected e;
        build(&p, &cases[i], (uint64_t)i);
        expected_init(&e, &p);
        expect(&p, &e, 0);
        for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
            run(&p, (fur_isa)isa, 2, 0);
            worst = fmax(worst, check_rows(describe("o", &p.c, (fur_isa)isa).text, p.args.o_THD, p.args.ldo, NULL, e.o,
                                           e.o_bound, p.c.rows, p.c.heads * p.c.head_dim));
            worst = fmax(worst, check_rows(describe("lse", &p.c, (fur_isa)isa).text, p.args.lse_TH, p.args.ldlse, NULL,
                                           e.lse, e.lse_bound, p.c.rows, p.c.heads));
        }
        expected_clear(&e);
        kit_guard_free_all();
    }
    print_message("forward: worst error is %.3f of its bound\n", worst);
}

static void test_backward_bounds(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = 0; i < CASES; i++) {
        problem p;
        expected e;
        build(&p, &cases[i], (uint64_t)i);
        expected_init(&e, &p);
        run(&p, FUR_ISA_REF, 2, 0);
        expect(&p, &e, 1);
        int64_t width = p.c.kv_heads * p.c.head_dim, floats = (p.keys - 1) * p.args.lddk + width;
        float *dk = kit_guard_copy(p.dk, floats), *dv = kit_guard_copy(p.dv, floats);
        float *dsink = p.sink ? kit_guard_copy(p.dsink, p.c.heads) : NULL;
        for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
            if (dsink)
                memcpy(p.dsink, dsink, (size_t)p.c.heads * sizeof *dsink);
            memcpy(p.dk, dk, (size_t)floats * sizeof *dk);
            memcpy(p.dv, dv, (size_t)floats * sizeof *dv);
            run(&p, (fur_isa)isa, 2, 1);
            worst = fmax(worst, check_rows(describe("dq", &p.c, (fur_isa)isa).text, p.args.dq_THD, p.args.lddq, NULL,
                                           e.dq, e.dq_bound, p.c.rows, p.c.heads * p.c.head_dim));
            worst = fmax(worst, check_rows(describe("dk", &p.c, (fur_isa)isa).text, p.dk, p.args.lddk, dk, e.dk,
                                           e.dk_bound, p.keys, width));
            worst = fmax(worst, check_rows(describe("dv", &p.c, (fur_isa)isa).text, p.dv, p.args.lddk, dv, e.dv,
                                           e.dv_bound, p.keys, width));
            if (dsink)
                check_rows(describe("dsink", &p.c, (fur_isa)isa).text, p.dsink, p.c.heads, dsink, e.dsink,
                           e.dsink_bound, 1, p.c.heads);
        }
        expected_clear(&e);
        kit_guard_free_all();
    }
    print_message("backward: worst error is %.3f of its bound\n", worst);
}

/* ---- the formulas of the gradient against the formulas of the output --------------------------------------------- */

/* sum of do . o in double, with one element of q, k or v moved by h */
static double loss_at(const problem *p, const float *array, int64_t at, double h)
{
    int64_t D = p->c.head_dim;
    double loss = 0;
    for (int64_t n = 0; n < p->args.piece_count; n++)
        for (int64_t i = 0; i < p->pieces[n].count; i++)
            for (int64_t head = 0; head < p->c.heads; head++) {
                static query x;
                double probability[MOST_KEYS];
                query_products(p, &p->pieces[n], i, head, &x);
                if (array == p->sink && at == head)
                    x.sink += h;
                const float *d_o = p->args.do_THD + x.row * p->args.lddo + head * D;
                int64_t q_at = array == p->args.q_THD ? at - (x.row * p->args.ldq + head * D) : -1;
                for (int64_t j = 0; j < x.seen; j++) {
                    int64_t k_row = x.keys[j] * p->args.ldk + x.kv_head * D;
                    int64_t k_at = array == p->k ? at - k_row : -1;
                    if (q_at >= 0 && q_at < D)
                        x.s[j] += (double)p->c.scale * h * (double)p->k[k_row + q_at];
                    if (k_at >= 0 && k_at < D)
                        x.s[j] += (double)p->c.scale * h * (double)p->args.q_THD[x.row * p->args.ldq + head * D + k_at];
                }
                transform(p, &p->pieces[n], i, &x);
                softmax(&x, probability);
                for (int64_t j = 0; j < x.seen; j++)
                    for (int64_t d = 0; d < D; d++) {
                        int64_t v_at = x.keys[j] * p->args.ldk + x.kv_head * D + d;
                        double v = (double)p->v[v_at] + (array == p->v && at == v_at ? h : 0);
                        loss += probability[j] * x.keep[j] * v * (double)d_o[d];
                    }
            }
    return loss;
}

/* Four points: error of order h^4 (about 1e-9 for values of order 1) and of rounding over h (about 1e-12). */
static double slope(const problem *p, const float *array, int64_t at)
{
    double h = 1e-3;
    return (8 * (loss_at(p, array, at, h) - loss_at(p, array, at, -h)) - loss_at(p, array, at, 2 * h) +
            loss_at(p, array, at, -2 * h)) /
           (12 * h);
}

static void check_slopes(const problem *p, const char *what, const float *array, int64_t ld, int64_t rows,
                         int64_t width, const double *want)
{
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < width; i++) {
            double got = slope(p, array, t * ld + i);
            if (!(fabs(got - want[t * width + i]) <= 1e-6))
                fail_msg("%s[%lld][%lld]: slope %.9g, gradient %.9g", what, (long long)t, (long long)i, got,
                         want[t * width + i]);
        }
}

/* The gradients that test_backward_bounds compares with; o and lse rounded to f32 move them by less than 1e-6. */
static void test_gradient_is_slope(void **state)
{
    (void)state;
    static const test_case small[] = {{4, 2, 5, 12, 1, EARLY, KIT_NORMAL, 0.4f, 1, PLAIN},
                                      {2, 2, 3, 11, 0, DOCUMENTS, KIT_NORMAL, 0.5f, 0, PLAIN},
                                      {2, 1, 4, 12, 1, SHARED, KIT_NORMAL, 0.5f, 0, PLAIN},
                                      {3, 1, 4, 12, 1, WHOLE, KIT_NORMAL, 0.5f, 0, {EVERYTHING}, 1},
                                      {3, 1, 4, 12, 0, WHOLE, KIT_NORMAL, 0.5f, 0, {EVERYTHING}, 1},
                                      {3, 1, 4, 12, 1, EARLY, KIT_NORMAL, 0.5f, 0, {.window = 3, .softcap = 1}, 1}};
    for (size_t n = 0; n < sizeof small / sizeof *small; n++) {
        problem p;
        expected e;
        build(&p, &small[n], 50 + n);
        expected_init(&e, &p);
        run(&p, FUR_ISA_REF, 1, 0);
        expect(&p, &e, 1);
        int64_t width = p.c.kv_heads * p.c.head_dim;
        check_slopes(&p, "dq", p.args.q_THD, p.args.ldq, p.c.rows, p.c.heads * p.c.head_dim, e.dq);
        check_slopes(&p, "dk", p.k, p.args.ldk, p.keys, width, e.dk);
        check_slopes(&p, "dv", p.v, p.args.ldk, p.keys, width, e.dv);
        if (p.sink)
            check_slopes(&p, "dsink", p.sink, p.c.heads, 1, p.c.heads, e.dsink);
        expected_clear(&e);
        kit_guard_free_all();
    }
}

/* The exponential alone, which the bounds above leave much room: o_d = p_d as v is the identity, the greatest score is
 * 0, so o_d / o_0 = exp(-x_d). Errors: 2 u of the exponential, 2 u x_d of the exponent (two roundings), u of each o. */
static void test_exponential(void **state)
{
    (void)state;
    enum { D = 1024 };
    for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
        problem p;
        test_case c = {1, 1, D, 1, 0, WHOLE, KIT_ZERO, 1.0f, 0, PLAIN};
        build(&p, &c, 0);
        float *q = kit_guard_filled(D, KIT_ZERO, 0), *k = kit_guard_filled((int64_t)D * D, KIT_ZERO, 0);
        float *v = kit_guard_filled((int64_t)D * D, KIT_ZERO, 0);
        q[0] = 1;
        for (int64_t j = 0; j < D; j++) {
            k[j * D] = -(float)j / 300.0f;
            v[j * D + j] = 1;
        }
        p.args.q_THD = q;
        p.spans[0] = (fur_key_span){.k_SKD = k, .v_SKD = v, .count = D};
        run(&p, (fur_isa)isa, 1, 0);
        for (int64_t d = 0; d < D; d++) {
            double x = -(double)k[d * D], want = exp(-x), got = (double)p.args.o_THD[d] / (double)p.args.o_THD[0];
            assert_true(fabs(got - want) <= want * (4 + 2 * x) * 1.01 * KIT_U);
        }
        kit_guard_free_all();
    }
}

/* ---- properties, to the bit -------------------------------------------------------------------------------------- */

typedef struct results {
    float *o, *lse, *dq, *dk, *dv, *dsink;
    size_t o_bytes, lse_bytes, dq_bytes, dk_bytes;
} results;

/* Both directions on a problem built anew. The arrays live until kit_guard_free_all. */
static results run_both(const test_case *c, fur_isa isa, int threads)
{
    problem p;
    build(&p, c, 9);
    run(&p, isa, threads, 0);
    run(&p, isa, threads, 1);
    int64_t heads = c->heads * c->head_dim, kv_heads = c->kv_heads * c->head_dim;
    int64_t o = (c->rows - 1) * p.args.ldo + heads, dq = (c->rows - 1) * p.args.lddq + heads;
    int64_t dk = (p.keys - 1) * p.args.lddk + kv_heads;
    return (results){.o = p.args.o_THD,
                     .lse = p.args.lse_TH,
                     .dq = p.args.dq_THD,
                     .dk = p.dk,
                     .dv = p.dv,
                     .dsink = p.dsink,
                     .o_bytes = (size_t)o * sizeof(float),
                     .lse_bytes = (size_t)p.lse_floats * sizeof(float),
                     .dq_bytes = (size_t)dq * sizeof(float),
                     .dk_bytes = (size_t)dk * sizeof(float)};
}

static void test_threads_same_bits(void **state)
{
    (void)state;
    static const test_case some[] = {ARRANGED(WHOLE, 1),
                                     ARRANGED(DOCUMENTS, 1),
                                     ARRANGED(SHARED, 0),
                                     {4, 4, 32, 700, 1, LATE, KIT_NORMAL, 0.2f, 0, PLAIN},
                                     {1, 1, 64, 900, 1, WHOLE, KIT_NORMAL, 0.125f, 0, PLAIN},
                                     FEATURES(500, WHOLE, 1, 1, EVERYTHING),
                                     FEATURES(210, SHARED, 0, 1, EVERYTHING)};
    for (size_t n = 0; n < sizeof some / sizeof *some; n++)
        for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
            results one = run_both(&some[n], (fur_isa)isa, 1);
            for (int threads = 2; threads <= 3; threads++) {
                results more = run_both(&some[n], (fur_isa)isa, threads);
                kit_check_same_bits("o", one.o, more.o, one.o_bytes);
                kit_check_same_bits("lse", one.lse, more.lse, one.lse_bytes);
                kit_check_same_bits("dq", one.dq, more.dq, one.dq_bytes);
                kit_check_same_bits("dk", one.dk, more.dk, one.dk_bytes);
                kit_check_same_bits("dv", one.dv, more.dv, one.dk_bytes);
            }
            kit_guard_free_all();
        }
}

/* Forward: a row's bits do not depend on how queries are cut into pieces and keys into spans. */
static void test_cuts_same_bits(void **state)
{
    (void)state;
    for (int number = 0; number < 2 * ((int)kit_best_isa() + 1); number++) {
        int isa = number / 2;
        test_case whole = {4, 2, 48, 230, 1, WHOLE, KIT_NORMAL, 0.15f, 0, PLAIN}, cut;
        if (number % 2)
            whole = (test_case){4, 2, 48, 230, 1, WHOLE, KIT_NORMAL, 0.15f, 0, {EVERYTHING}, 1};
        cut = whole;
        results a = run_both(&whole, (fur_isa)isa, 2);
        arrangement others[] = {SPANS, SHARED};
        for (int n = 0; n < 2; n++) {
            cut.arrangement = others[n];
            results b = run_both(&cut, (fur_isa)isa, 2);
            kit_check_same_bits("o", a.o, b.o, a.o_bytes);
            kit_check_same_bits("lse", a.lse, b.lse, a.lse_bytes);
        }
        problem p; /* row by row, as in decoding */
        build(&p, &whole, 9);
        for (int64_t t = 0; t < whole.rows; t += 13) {
            p.pieces[0].first_row = p.pieces[0].first_position = t;
            p.pieces[0].first_token = 1000 + t;
            p.pieces[0].count = 1;
            problem one = p;
            one.c.rows = 1;
            one.args.pieces = one.pieces;
            run(&one, (fur_isa)isa, 1, 0);
            size_t bytes = (size_t)(whole.heads * whole.head_dim) * sizeof(float);
            kit_check_same_bits("row of o", a.o + t * p.args.ldo, p.args.o_THD + t * p.args.ldo, bytes);
            kit_check_same_bits("row of lse", a.lse + t * p.args.ldlse, p.args.lse_TH + t * p.args.ldlse,
                                (size_t)whole.heads * sizeof(float));
        }
        kit_guard_free_all();
    }
}

/* Decoding: a query that is all of its call has the bits that it has among others, whatever its heads, widths, features
 * and spans, over several rounds of key blocks, for any number of threads. */
static void test_one_query_same_bits(void **state)
{
    (void)state;
#define ALL_BUT_DROPOUT .window = 90, .sink_tokens = 5, .softcap = 30.0f, .alibi = 1
    static const test_case some[] = {{1, 1, 64, 230, 1, WHOLE, KIT_NORMAL, 0.125f, 0, PLAIN},
                                     {2, 1, 1, 200, 1, WHOLE, KIT_NORMAL, 1.0f, 0, PLAIN},
                                     {9, 3, 64, 1700, 1, WHOLE, KIT_NORMAL, 0.125f, 1, PLAIN}, /* two rounds */
                                     {4, 1, 33, 210, 1, SPANS, KIT_NORMAL, 0.2f, 3, PLAIN},
                                     {5, 1, 80, 400, 0, WHOLE, KIT_NORMAL, 0.1f, 0, PLAIN},
                                     {14, 2, 128, 210, 1, GAP, KIT_NORMAL, 0.1f, 0, PLAIN},
                                     {16, 1, 24, 210, 1, WHOLE, KIT_HUGE, 0.2f, 1, PLAIN},
                                     {6, 2, 40, 600, 1, WHOLE, KIT_NORMAL, 0.2f, 0, {ALL_BUT_DROPOUT}, 1},
                                     {6, 2, 40, 210, 0, SPANS, KIT_NORMAL, 0.2f, 2, {ALL_BUT_DROPOUT}, 1},
                                     {3, 1, 100, 1700, 1, WHOLE, KIT_NORMAL, 0.1f, 0, {.softcap = 3.0f}, 1},
                                     {3, 3, 20, 210, 1, GAP, KIT_NORMAL, 0.2f, 0, {.window = 50, .sink_tokens = 4}, 0},
                                     {4, 2, 48, 300, 1, WHOLE, KIT_NORMAL, 0.15f, 0, {.alibi = 1}, 0}};
    for (size_t n = 0; n < sizeof some / sizeof *some; n++)
        for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
            problem whole, p;
            build(&whole, &some[n], 9);
            build(&p, &some[n], 9);
            run(&whole, (fur_isa)isa, 1, 0);
            int64_t first = p.pieces[0].first_position;
            for (int64_t t = 0; t < some[n].rows; t += t < some[n].rows - 70 ? 61 : 1) {
                problem one = p;
                one.c.rows = one.args.piece_count = one.pieces[0].count = 1;
                one.pieces[0].first_row = t;
                one.pieces[0].first_position = first + t;
                one.args.pieces = one.pieces;
                run(&one, (fur_isa)isa, 1 + (int)(t % 3), 0);
                size_t bytes = (size_t)(some[n].heads * some[n].head_dim) * sizeof(float);
                kit_check_same_bits("o", whole.args.o_THD + t * p.args.ldo, p.args.o_THD + t * p.args.ldo, bytes);
                kit_check_same_bits("lse", whole.args.lse_TH + t * p.args.ldlse, p.args.lse_TH + t * p.args.ldlse,
                                    (size_t)some[n].heads * sizeof(float));
            }
            kit_guard_free_all();
        }
}

/* The problem of the key heads [first, first + count) alone: the same arrays, from those heads on. Its arguments point
 * into *part. */
static void heads_of(const problem *p, int64_t first, int64_t count, problem *part)
{
    *part = *p;
    int64_t group = p->c.heads / p->c.kv_heads, at = first * p->c.head_dim, q_at = at * group;
    part->c.heads = count * group;
    part->c.kv_heads = count;
    fur_attention_args *a = &part->args;
    a->heads = part->c.heads;
    a->kv_heads = count;
    a->first_head = first * group;
    a->all_heads = p->c.heads;
    a->q_THD += q_at;
    a->o_THD += q_at;
    a->lse_TH += a->first_head;
    a->do_THD += q_at;
    a->dq_THD += q_at;
    if (a->features.sink_H) {
        a->features.sink_H += a->first_head;
        a->dsink_H += a->first_head;
    }
    for (int64_t s = 0; s < part->span_count; s++) {
        part->spans[s].k_SKD += at;
        part->spans[s].v_SKD += at;
        part->spans[s].dk_SKD += at;
        part->spans[s].dv_SKD += at;
    }
    a->pieces = part->pieces;
    for (int64_t i = 0; i < a->piece_count; i++)
        part->pieces[i].spans = part->spans + (p->pieces[i].spans - p->spans);
}

/* A layer's heads in one call or in several: the same bits, slopes and draws among them. */
static void test_heads_in_groups_same_bits(void **state)
{
    (void)state;
    static const test_case some[] = {{12, 6, 20, 210, 1, WHOLE, KIT_NORMAL, 0.2f, 5, PLAIN},
                                     {12, 12, 16, 600, 1, LATE, KIT_NORMAL, 0.2f, 0, PLAIN},
                                     {12, 6, 20, 300, 1, DOCUMENTS, KIT_NORMAL, 0.2f, 0, {EVERYTHING}, 1},
                                     {6, 6, 20, 210, 0, SHARED, KIT_NORMAL, 0.2f, 3, {EVERYTHING}, 1}};
    for (int number = 0; number < 4 * ((int)kit_best_isa() + 1); number++) {
        const test_case *c = &some[number % 4];
        fur_isa isa = (fur_isa)(number / 4);
        results whole = run_both(c, isa, 2);
        problem all;
        for (int64_t count = 1; count < c->kv_heads; count++) {
            if (c->kv_heads % count != 0)
                continue;
            build(&all, c, 9);
            for (int backward = 0; backward < 2; backward++)
                for (int64_t first = 0; first < c->kv_heads; first += count) {
                    problem part;
                    heads_of(&all, first, count, &part);
                    run(&part, isa, 2, backward);
                }
            kit_check_same_bits("o", whole.o, all.args.o_THD, whole.o_bytes);
            kit_check_same_bits("lse", whole.lse, all.args.lse_TH, whole.lse_bytes);
            kit_check_same_bits("dq", whole.dq, all.args.dq_THD, whole.dq_bytes);
            kit_check_same_bits("dk", whole.dk, all.dk, whole.dk_bytes);
            kit_check_same_bits("dv", whole.dv, all.dv, whole.dk_bytes);
            if (c->sinks)
                kit_check_same_bits("dsink", whole.dsink, all.dsink, (size_t)c->heads * sizeof(float));
        }
        kit_guard_free_all();
    }
}

static void fill_nan(float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = NAN;
}

/* NaN in everything of token t changes no bit of what cannot see it, or what it cannot see. */
static void test_nan_does_not_leak(void **state)
{
    (void)state;
    test_case c = {2, 1, 40, 330, 1, WHOLE, KIT_NORMAL, 0.2f, 0, PLAIN};
    for (int isa = 0; isa <= (int)kit_best_isa(); isa++)
        for (int64_t t = 0; t < c.rows; t += 47) {
            results clean = run_both(&c, (fur_isa)isa, 2);
            problem p;
            build(&p, &c, 9);
            fill_nan(p.k + t * p.args.ldk, p.args.ldk);
            fill_nan(p.v + t * p.args.ldk, p.args.ldk);
            run(&p, (fur_isa)isa, 2, 0);
            kit_check_same_bits("o before", clean.o, p.args.o_THD, (size_t)(t * p.args.ldo) * sizeof(float));
            kit_check_same_bits("lse before", clean.lse, p.args.lse_TH, (size_t)(t * p.args.ldlse) * sizeof(float));
            for (int64_t i = t * p.args.ldo; i < c.rows * p.args.ldo; i++)
                assert_true(isnan(p.args.o_THD[i])); /* and where it is seen, it shows */

            build(&p, &c, 9);
            run(&p, (fur_isa)isa, 2, 0);
            fill_nan(p.k + t * p.args.ldk, p.args.ldk);
            fill_nan(p.v + t * p.args.ldk, p.args.ldk);
            run(&p, (fur_isa)isa, 2, 1);
            kit_check_same_bits("dq before", clean.dq, p.args.dq_THD, (size_t)(t * p.args.lddq) * sizeof(float));
            kit_check_same_bits("dk before", clean.dk, p.dk, (size_t)(t * p.args.lddk) * sizeof(float));
            int64_t after = (t + 1) * p.args.lddk;
            kit_check_same_bits("dk after", clean.dk + after, p.dk + after, clean.dk_bytes - (size_t)after * 4);
            kit_check_same_bits("dv after", clean.dv + after, p.dv + after, clean.dk_bytes - (size_t)after * 4);

            build(&p, &c, 9);
            run(&p, (fur_isa)isa, 2, 0);
            fill_nan(p.q + t * p.args.ldq, p.args.ldq);
            fill_nan(p.d_o + t * p.args.lddo, p.args.lddo);
            run(&p, (fur_isa)isa, 2, 1);
            kit_check_same_bits("dk of later keys", clean.dk + after, p.dk + after, clean.dk_bytes - (size_t)after * 4);
            kit_check_same_bits("dv of later keys", clean.dv + after, p.dv + after, clean.dk_bytes - (size_t)after * 4);
            kit_check_same_bits("dq of other rows", clean.dq, p.args.dq_THD, (size_t)(t * p.args.lddq) * sizeof(float));
            kit_guard_free_all();
        }
}

/* The same for a window with sink tokens: what is outside of it is not seen either, by no bit, in both directions. */
static void test_nan_outside_window(void **state)
{
    (void)state;
    enum { WINDOW = 50, SINKS = 2 };
    for (int number = 0; number < 2 * ((int)kit_best_isa() + 1); number++) {
        fur_isa isa = (fur_isa)(number / 2);
        test_case c = {2, 1, 40, 330, number % 2, WHOLE, KIT_NORMAL, 0.2f, 0, PLAIN};
        c.f = (fur_attention_features){.window = WINDOW, .sink_tokens = SINKS, .alibi = 1, .softcap = 5};
        for (int64_t t = 0; t < c.rows; t += 41) {
            results clean = run_both(&c, isa, 2);
            problem p;
            build(&p, &c, 9);
            fill_nan(p.k + t * p.args.ldk, p.args.ldk);
            fill_nan(p.v + t * p.args.ldk, p.args.ldk);
            run(&p, isa, 2, 0);
            float *o = kit_guard_copy(p.args.o_THD, c.rows * p.args.ldo);
            build(&p, &c, 9);
            run(&p, isa, 2, 0);
            fill_nan(p.k + t * p.args.ldk, p.args.ldk);
            fill_nan(p.v + t * p.args.ldk, p.args.ldk);
            run(&p, isa, 2, 1);
            for (int64_t i = 0; i < c.rows; i++) {
                int seen = sees(&c, i, t), same_o, same_dq;
                same_o = !memcmp(clean.o + i * p.args.ldo, o + i * p.args.ldo, (size_t)p.args.ldo * 4);
                same_dq = !memcmp(clean.dq + i * p.args.lddq, p.args.dq_THD + i * p.args.lddq, (size_t)p.args.lddq * 4);
                if (same_o == seen || same_dq == seen)
                    fail_msg("isa %d, causal %d: row %lld, NaN in key %lld: o %s, dq %s", (int)isa, c.causal,
                             (long long)i, (long long)t, same_o ? "same" : "other", same_dq ? "same" : "other");
            }
            kit_guard_free_all();
        }
    }
}

/* Slopes of the paper: a geometric sequence for 8 heads, and for 12 four more from that of 16 heads. */
static void test_slopes(void **state)
{
    (void)state;
    for (int64_t head = 0; head < 8; head++)
        assert_true(fur_attention_slope(8, head) == ldexp(1, -(int)(head + 1)));
    for (int64_t head = 0; head < 12; head++)
        assert_true(fabs(fur_attention_slope(12, head) -
                         exp2(head < 8 ? -(double)(head + 1) : -0.5 - (double)(head - 8))) < 1e-15);
    assert_true(fur_attention_slope(1, 0) == ldexp(1, -8));
}

/* About the share that was asked for is left out, and each pair has its own draw. */
static void test_draws(void **state)
{
    (void)state;
    int64_t below = 0, equal = 0;
    for (int64_t i = 0; i < 100000; i++) {
        uint32_t draw = fur_attention_draw(5, i % 7, i / 7 % 100, i / 700);
        below += draw < (uint32_t)(0.3 * 0x1p32);
        equal += draw == fur_attention_draw(5, i % 7, i / 7 % 100 + 1, i / 700);
    }
    assert_true(llabs(below - 30000) < (int64_t)5 * 145); /* 5 standard deviations */
    assert_int_equal(equal, 0);
}

/* Rows that see nothing: o = 0, lse = -infinity, dq = 0, and dk, dv untouched where no query sees the key. */
static void test_blind(void **state)
{
    (void)state;
    for (int isa = 0; isa <= (int)kit_best_isa(); isa++) {
        problem p;
        test_case c = {4, 2, 24, 70, 1, WHOLE, KIT_NORMAL, 0.2f, 0, PLAIN};
        build(&p, &c, 3);
        p.spans[0].first_position = 1000;
        int64_t floats = p.keys * p.args.lddk;
        float *dk = kit_guard_copy(p.dk, floats), *dv = kit_guard_copy(p.dv, floats);
        run(&p, (fur_isa)isa, 2, 0);
        run(&p, (fur_isa)isa, 2, 1);
        for (int64_t i = 0; i < c.rows * p.args.ldo; i++)
            assert_true(p.args.o_THD[i] == 0.0f && p.args.dq_THD[i] == 0.0f);
        for (int64_t i = 0; i < c.rows * c.heads; i++)
            assert_true(p.args.lse_TH[i] == -INFINITY);
        kit_check_same_bits("dk", dk, p.dk, (size_t)floats * sizeof *dk);
        kit_check_same_bits("dv", dv, p.dv, (size_t)floats * sizeof *dv);
        kit_guard_free_all();
    }
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
    (void)state;
    problem p;
    test_case c = {4, 2, 16, 9, 1, SHARED, KIT_NORMAL, 0.2f, 0, PLAIN};
    kit_exec kit;
    kit_exec_init(&kit, kit_best_isa(), 2, 1 << 24);
    build(&p, &c, 3);
    fur_attention_args good = p.args, bad = good;
    assert_int_equal(fur_attention_forward(&kit.exec, &good), FUR_OK);
    bad.kv_heads = 3;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_SHAPE);
    assert_non_null(strstr(kit.error.text, "4 heads on 3 key heads of width 16"));
    bad = good;
    bad.head_dim = 1025;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_SHAPE);
    bad = good;
    bad.ldk = 31;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_SHAPE);
    bad = good;
    bad.lddq = 63;
    assert_int_equal(fur_attention_backward(&kit.exec, &bad), FUR_E_SHAPE);
    bad = good;
    bad.first_head = 2;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_SHAPE); /* of how many? */
    bad.all_heads = 5;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_SHAPE);
    assert_non_null(strstr(kit.error.text, "heads 2 to 5 of a layer of 5"));
    bad = good;
    bad.features.window = -1;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_ARGUMENT);
    bad = good;
    bad.features.softcap = -1;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_ARGUMENT);
    bad = good;
    bad.features.dropout = 1;
    assert_int_equal(fur_attention_forward(&kit.exec, &bad), FUR_E_ARGUMENT);
    p.spans[1].first_position = 2; /* below the end of the span before */
    assert_int_equal(fur_attention_forward(&kit.exec, &good), FUR_E_SHAPE);
    assert_non_null(strstr(kit.error.text, "span 1"));
    p.spans[1].first_position = 4;
    p.spans[1].dk_SKD = NULL;
    assert_int_equal(fur_attention_backward(&kit.exec, &good), FUR_E_ARGUMENT);
    p.pieces[0].count = -1;
    assert_int_equal(fur_attention_forward(&kit.exec, &good), FUR_E_SHAPE);
    kit_exec_clear(&kit);

    build(&p, &c, 3);
    for (int backward = 0; backward < 2; backward++) {
        fur_exec ask = {.threads = 2, .isa = kit_best_isa()};
        int64_t bytes = fur_attention_workspace(&ask, c.heads, c.kv_heads, c.head_dim, c.rows, backward);
        kit_exec_init(&kit, kit_best_isa(), 2, bytes - FUR_ARENA_ALIGN);
        assert_int_equal(backward ? fur_attention_backward(&kit.exec, &p.args)
                                  : fur_attention_forward(&kit.exec, &p.args),
                         FUR_E_MEMORY);
        assert_int_equal(kit.workspace.used, 0);
        kit_exec_clear(&kit);
    }
    kit_guard_free_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_bounds),
        cmocka_unit_test(test_backward_bounds),
        cmocka_unit_test(test_gradient_is_slope),
        cmocka_unit_test(test_exponential),
        cmocka_unit_test(test_threads_same_bits),
        cmocka_unit_test(test_cuts_same_bits),
        cmocka_unit_test(test_one_query_same_bits),
        cmocka_unit_test(test_heads_in_groups_same_bits),
        cmocka_unit_test(test_nan_does_not_leak),
        cmocka_unit_test(test_blind),
        cmocka_unit_test(test_nan_outside_window),
        cmocka_unit_test(test_slopes),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
