/* SPDX-License-Identifier: Apache-2.0 */
/* What a run says of its error: sampled errors against the whole error by the formula in double, the interval around
 * them, and the certificate, over random shapes of attention. As the number of cases, the first argument of the
 * program: 1,000 for the figure, fewer by default. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "attention/far_field.h"
#include "attention/far_fit.h"
#include "attention/far_sample.h"
#include "base/random.h"
#include "kit/kit.h"

enum { MOST_ROWS = 512, SAMPLED = 64, WORKSPACE = 256 << 20 };

typedef struct shape_case {
    fur_attention_shape shape;
    int64_t rows, document_count, offsets[4];
    double value_mean;
} shape_case;

/* One layer's rows, and what the library makes of them. */
typedef struct layer_run {
    float *q, *k, *v, *d_o, *o, *lse, *dq, *dk, *dv;
    float dbias[8];
    float *constants; /* qbar, kbar [K, D], c [K, degree + 1], bias [H], exact [K] */
    float *fine;      /* [K, degree + 2] */
} layer_run;

static uint64_t draw(uint64_t seed, uint64_t what, uint64_t below)
{
    return fur_random_u64(seed, what, 0) % below;
}

static shape_case case_of(uint64_t seed)
{
    static const int64_t dims[] = {8, 16, 32, 64};
    static const int64_t windows[] = {0, 16, 48};
    shape_case c = {0};
    fur_attention_shape *s = &c.shape;
    s->head_dim = dims[draw(seed, 1, 4)];
    s->kv_heads = 1 + (int64_t)draw(seed, 2, 2);
    s->heads = s->kv_heads * (1 + (int64_t)draw(seed, 3, 2));
    s->scale = 1 / sqrtf((float)s->head_dim);
    s->causal = draw(seed, 4, 4) != 0;
    s->chunk = 16 << draw(seed, 5, 3);
    s->near = windows[draw(seed, 6, 3)];
    s->far = (fur_far){.heads = s->heads,
                       .kv_heads = s->kv_heads,
                       .head_dim = s->head_dim,
                       .value_dim = s->head_dim,
                       .scale = s->scale};
    s->far.bound = (float)(0.25 * pow(2, 5 * fur_random_uniform(seed, 7, 0))); /* 0.25 to 8 */
    s->far.degree = 1 + (int64_t)draw(seed, 8, 6);
    while (fur_far_features(s->head_dim, s->far.degree) > 4096)
        s->far.degree--;
    c.rows = 96 + (int64_t)draw(seed, 9, MOST_ROWS - 96);
    c.document_count = 1;
    c.offsets[1] = c.rows;
    if (draw(seed, 10, 4) == 0) {
        c.document_count = 2;
        c.offsets[1] = c.rows * 2 / 3;
        c.offsets[2] = c.rows;
    }
    c.value_mean = draw(seed, 11, 2) ? 1 : 0;
    return c;
}

static void fill(float *x, int64_t rows, int64_t heads, int64_t D, double mean, uint64_t seed)
{
    fur_random_normal(seed, 1, 1, x, rows * heads * D);
    float centre[8 * 64];
    fur_random_normal(11 + seed % 16, 2, mean, centre, heads * D); /* the same in every row of a case */
    for (int64_t i = 0; i < rows * heads * D; i++)
        x[i] += centre[i % (heads * D)];
}

static void layer_fill(const shape_case *c, uint64_t seed, layer_run *l)
{
    const fur_attention_shape *s = &c->shape;
    fill(l->q, c->rows, s->heads, s->head_dim, 0.5, seed * 64 + 16);
    fill(l->k, c->rows, s->kv_heads, s->head_dim, 0.5, seed * 64 + 17);
    fill(l->v, c->rows, s->kv_heads, s->head_dim, c->value_mean, seed * 64 + 18);
    fur_random_normal(seed, 3, 1, l->d_o, c->rows * s->heads * s->head_dim);
}

static void layer_create(shape_case *c, uint64_t seed, layer_run *l)
{
    fur_attention_shape *s = &c->shape;
    int64_t q = MOST_ROWS * s->heads * s->head_dim, k = MOST_ROWS * s->kv_heads * s->head_dim, D = s->head_dim;
    float **of_q[] = {&l->q, &l->d_o, &l->o, &l->dq}, **of_k[] = {&l->k, &l->v, &l->dk, &l->dv};
    for (int i = 0; i < 4; i++) {
        *of_q[i] = calloc((size_t)q, sizeof(float));
        *of_k[i] = calloc((size_t)k, sizeof(float));
    }
    l->lse = calloc((size_t)(MOST_ROWS * s->heads), sizeof(float));
    l->constants = calloc((size_t)(2 * s->kv_heads * D + s->kv_heads * 8 + s->heads), sizeof(float));
    l->fine = calloc((size_t)(s->kv_heads * 8), sizeof(float));
    float *coefficient = l->constants + 2 * s->kv_heads * D, *bias = coefficient + s->kv_heads * (s->far.degree + 1);
    s->far.query_mean_KD = l->constants;
    s->far.key_mean_KD = l->constants + s->kv_heads * D;
    s->far.coefficient_KP = coefficient;
    s->far.bias_H = bias;
    if (seed % 3 == 0) { /* some heads see their far keys one by one */
        float *exact = bias + s->heads;
        for (int64_t h = 0; h < s->kv_heads; h++)
            exact[h] = seed % 2 == 0 || h == 1;
        s->far.exact_K = s->fine.exact_K = s->exact_K = exact;
        s->hold_all = 1;
    }
    for (int64_t h = 0; h < s->kv_heads; h++) /* until they are fitted */
        fur_far_fit_normal((double)s->far.bound / sqrt((double)D), (double)s->far.bound, s->far.degree,
                           coefficient + h * (s->far.degree + 1));
    if (s->fine.degree) {
        s->fine = s->far;
        s->fine.degree++;
        s->fine.coefficient_KP = l->fine;
        for (int64_t h = 0; h < s->kv_heads; h++)
            fur_far_fit_normal((double)s->far.bound / sqrt((double)D), (double)s->far.bound, s->fine.degree,
                               l->fine + h * (s->fine.degree + 1));
    }
    for (int64_t h = 0; h < s->heads; h++)
        bias[h] = 0.25f * (float)h - 0.5f;
}

static void layer_destroy(layer_run *l)
{
    float *all[] = {l->q, l->k, l->v, l->d_o, l->o, l->lse, l->dq, l->dk, l->dv, l->constants, l->fine};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* Forward and backward of the layer as the sweep does it, in one block, with a sample looking on. */
static void run_layer(const fur_exec *exec, const shape_case *c, layer_run *l, int64_t sampled, uint64_t seed,
                      fur_far_sample *sample, fur_arena *arena)
{
    const fur_attention_kind *kind = &fur_attention_almost_linear;
    fur_attention_shape with_bias = c->shape, *s = &with_bias;
    memset(l->dbias, 0, sizeof l->dbias);
    s->dbias_H = l->dbias;
    fur_documents documents = {c->document_count, c->offsets};
    fur_attention_state state;
    float *k, *v, *dk, *dv;
    assert_true(kind->workspace(exec, s, c->rows, c->document_count, 1) <= WORKSPACE);
    size_t bytes = (size_t)(c->rows * s->kv_heads * s->head_dim) * sizeof(float);
    kind->reserve(s, c->rows, c->rows, 1, arena, &state);
    fur_far_sample_reserve(s, sampled, c->rows, arena, sample);
    assert_false(arena->failed);
    s->moment_THP = sample->moment_BHP;
    kind->key_rows(s, &state, 0, &k, &v);
    memcpy(k, l->k, bytes);
    memcpy(v, l->v, bytes);
    assert_int_equal(kind->absorb(exec, s, &state, &documents, 0, c->rows, k, v), FUR_OK);
    if (kind->query(exec, s, &state, &documents, 0, c->rows, l->q, l->o, l->lse) != FUR_OK)
        fail_msg("%s", exec->error->text);
    kind->begin_backward(exec, s, &state, 0, c->rows);
    fur_far_sample_begin(sample, &c->shape, &documents, seed, 0);
    fur_far_sample_keys(sample, &state, 0, c->rows);
    assert_int_equal(kind->rebuild(exec, s, &state, &documents, 0, c->rows), FUR_OK);
    assert_int_equal(kind->query_backward(exec, s, &state, &documents, 0, c->rows, l->q, l->o, l->lse, l->d_o, l->dq),
                     FUR_OK);
    fur_far_sample_queries(exec, sample, 0, c->rows, l->q, l->o, l->lse, l->d_o, l->dq);
    assert_int_equal(kind->key_gradients(exec, s, &state, 0, c->rows, &dk, &dv), FUR_OK);
    fur_far_sample_gradients(exec, sample, &state, 0, c->rows, dk, dv);
    memcpy(l->dk, dk, bytes);
    memcpy(l->dv, dv, bytes);
}

/* ---- the formula ------------------------------------------------------------------------------------------------- */

typedef struct errors {
    double o, dq, dk, dv, computed; /* computed: |o exact| / |o computed| */
    double dbias, dbias_terms;      /* sum of the far dS, and of their sizes */
} errors;

typedef struct unit_row {
    double x[64], factor;
} unit_row;

static unit_row unit_of(const float *row, int64_t D)
{
    unit_row u;
    double squares = 1e-12;
    for (int64_t d = 0; d < D; d++)
        squares += (double)row[d] * (double)row[d];
    u.factor = 1 / sqrt(squares);
    for (int64_t d = 0; d < D; d++)
        u.x[d] = u.factor * (double)row[d];
    return u;
}

static double product(const float *a, const float *b, int64_t D)
{
    double sum = 0;
    for (int64_t d = 0; d < D; d++)
        sum += (double)a[d] * (double)b[d];
    return sum;
}

/* Logit of key j under query i; *far. -infinity: not seen. */
static double logit_of(const shape_case *c, const layer_run *l, int64_t head, int64_t i, int64_t j, int *far)
{
    const fur_attention_shape *s = &c->shape;
    int64_t D = s->head_dim, d = 0, kv_head = head * s->kv_heads / s->heads;
    while (c->offsets[d + 1] <= i)
        d++;
    int64_t start = c->offsets[d], length = c->offsets[d + 1] - start, chunk = (i - start) / s->chunk;
    *far = 0;
    if (j < start || j >= start + length || (s->causal && j > i))
        return -(double)INFINITY;
    const float *q = l->q + (i * s->heads + head) * D, *k = l->k + (j * s->kv_heads + kv_head) * D;
    int64_t from = chunk * s->chunk - s->near, to = (chunk + 1) * s->chunk + s->near;
    *far = j - start < from || (!s->causal && j - start >= to);
    if (!*far)
        return (double)s->scale * product(q, k, D);
    unit_row a = unit_of(q, D), b = unit_of(k, D);
    double t = 0;
    for (int64_t n = 0; n < D; n++)
        t += a.x[n] * b.x[n];
    return (double)s->far.bound * t + (double)s->far.bias_H[head];
}

static void add_difference(const float *got, const double *exact, int64_t D, double *sum, double *of)
{
    for (int64_t d = 0; d < D; d++) {
        *sum += ((double)got[d] - exact[d]) * ((double)got[d] - exact[d]);
        *of += exact[d] * exact[d];
    }
}

/* Gradient by a row from that by its unit row. */
static void through_unit(const float *row, const double *du, int64_t D, double *out)
{
    unit_row u = unit_of(row, D);
    double along = 0;
    for (int64_t d = 0; d < D; d++)
        along += u.x[d] * du[d];
    for (int64_t d = 0; d < D; d++)
        out[d] += u.factor * (du[d] - along * u.x[d]);
}

/* o and dq of every row by the exact softmax; dk and dv of the group that this head is the first of, with lse and o of
 * the library. */
static errors whole_errors(const shape_case *c, const layer_run *l, int64_t head)
{
    const fur_attention_shape *s = &c->shape;
    int64_t D = s->head_dim, n = c->rows, H = s->heads, K = s->kv_heads, kv = head * K / H, group = H / K;
    double sums[4] = {0}, of[4] = {0}, computed = 0, dbias = 0, dbias_terms = 0,
           *logit = malloc((size_t)n * sizeof *logit);
    int *far = malloc((size_t)n * sizeof *far);
    for (int64_t i = 0; i < n; i++) {
        const float *d_o = l->d_o + (i * H + head) * D, *q = l->q + (i * H + head) * D;
        double most = -(double)INFINITY, total = 0, o[64] = {0}, dq[64] = {0}, du[64] = {0}, delta = 0;
        for (int64_t j = 0; j < n; j++) {
            logit[j] = logit_of(c, l, head, i, j, &far[j]);
            most = fmax(most, logit[j]);
        }
        for (int64_t j = 0; j < n; j++)
            total += exp(logit[j] - most);
        for (int64_t j = 0; j < n; j++)
            for (int64_t d = 0; d < D; d++)
                o[d] += exp(logit[j] - most) / total * (double)l->v[(j * K + kv) * D + d];
        for (int64_t d = 0; d < D; d++)
            delta += o[d] * (double)d_o[d];
        for (int64_t j = 0; j < n; j++) {
            const float *k = l->k + (j * K + kv) * D;
            double ds = exp(logit[j] - most) / total * (product(d_o, l->v + (j * K + kv) * D, D) - delta);
            unit_row b = unit_of(k, D);
            dbias += far[j] ? ds : 0;
            dbias_terms += far[j] ? fabs(ds) : 0;
            for (int64_t d = 0; d < D && fabs(ds) > 0; d++) {
                dq[d] += far[j] ? 0 : ds * (double)s->scale * (double)k[d];
                du[d] += far[j] ? ds * (double)s->far.bound * b.x[d] : 0;
            }
        }
        through_unit(q, du, D, dq);
        add_difference(l->o + (i * H + head) * D, o, D, &sums[0], &of[0]);
        add_difference(l->dq + (i * H + head) * D, dq, D, &sums[1], &of[1]);
        computed += product(l->o + (i * H + head) * D, l->o + (i * H + head) * D, D);
    }
    for (int64_t j = 0; j < n; j++) {
        const float *k = l->k + (j * K + kv) * D, *v = l->v + (j * K + kv) * D;
        double dk[64] = {0}, du[64] = {0}, dv[64] = {0};
        for (int64_t i = 0; i < n; i++)
            for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
                const float *q = l->q + (i * H + h) * D, *d_o = l->d_o + (i * H + h) * D;
                int is_far;
                double p = exp(logit_of(c, l, h, i, j, &is_far) - (double)l->lse[i * H + h]);
                double ds = p * (product(d_o, v, D) - product(d_o, l->o + (i * H + h) * D, D));
                unit_row a = unit_of(q, D);
                for (int64_t d = 0; d < D && p > 0; d++) {
                    dk[d] += is_far ? 0 : ds * (double)s->scale * (double)q[d];
                    du[d] += is_far ? ds * (double)s->far.bound * a.x[d] : 0;
                    dv[d] += p * (double)d_o[d];
                }
            }
        through_unit(k, du, D, dk);
        add_difference(l->dk + (j * K + kv) * D, dk, D, &sums[2], &of[2]);
        add_difference(l->dv + (j * K + kv) * D, dv, D, &sums[3], &of[3]);
    }
    free(logit);
    free(far);
    return (errors){sqrt(sums[0] / of[0]),
                    sqrt(sums[1] / of[1]),
                    sqrt(sums[2] / of[2]),
                    sqrt(sums[3] / of[3]),
                    sqrt(of[0] / computed),
                    dbias,
                    dbias_terms};
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

typedef struct laboratory {
    kit_exec kit;
    fur_arena arena;
} laboratory;

static void laboratory_create(laboratory *lab)
{
    kit_exec_init(&lab->kit, kit_best_isa(), 2, WORKSPACE);
    assert_int_equal(fur_arena_create(&lab->kit.error, (int64_t)256 << 20, &lab->arena), FUR_OK);
}

static void laboratory_destroy(laboratory *lab)
{
    fur_arena_destroy(&lab->arena);
    kit_exec_clear(&lab->kit);
}

/* Constants fitted to other rows of the same distribution, as a run's are to an earlier step's. */
static void fit(laboratory *lab, const shape_case *c, layer_run *l, uint64_t seed)
{
    const fur_attention_shape *s = &c->shape;
    fur_far_sample sample;
    int64_t D = s->head_dim, K = s->kv_heads;
    layer_fill(c, seed, l);
    fur_arena_release(&lab->arena, 0);
    run_layer(&lab->kit.exec, c, l, SAMPLED, seed, &sample, &lab->arena);
    float *copy = malloc((size_t)(2 * K * D + K * 7) * sizeof *copy);
    int fitted = 0;
    memcpy(copy, l->constants, (size_t)(2 * K * D + K * 7) * sizeof *copy);
    for (int64_t h = 0; h < K; h++) {
        fur_far_constants to = {.query_mean_D = copy + h * D,
                                .key_mean_D = copy + (K + h) * D,
                                .coefficient_P = copy + 2 * K * D + h * (s->far.degree + 1),
                                .fine_P = s->fine.degree ? l->fine + h * (s->far.degree + 2) : NULL};
        fitted += fur_far_sample_fit(&sample, h, &to) == 0;
    }
    if (fitted == K)
        memcpy(l->constants, copy, (size_t)(2 * K * D + K * (s->far.degree + 1)) * sizeof *copy);
    free(copy);
}

/* Every token sampled: the sample is the whole, and the interval a point. */
static void test_whole(void **state)
{
    (void)state;
    laboratory lab;
    laboratory_create(&lab);
    double worst = 0;
    for (uint64_t seed = 1; seed <= 36; seed++) {
        shape_case c = case_of(seed);
        layer_run l;
        fur_far_sample sample;
        fur_head_error got[8];
        c.rows = 96 + (int64_t)seed % 7;
        c.offsets[1] = c.document_count > 1 ? c.rows * 2 / 3 : c.rows;
        c.offsets[c.document_count] = c.rows;
        c.shape.fine.degree = seed % 4 == 1 && c.shape.far.degree < 6;
        layer_create(&c, seed, &l);
        fit(&lab, &c, &l, seed + 1000);
        layer_fill(&c, seed, &l);
        fur_arena_release(&lab.arena, 0);
        run_layer(&lab.kit.exec, &c, &l, c.rows, seed, &sample, &lab.arena);
        fur_far_sample_end(&sample, got);
        for (int64_t head = 0; head < c.shape.heads; head++) {
            errors truth = whole_errors(&c, &l, head);
            const double pairs[4][2] = {{got[head].o.value, truth.o},
                                        {got[head].dq.value, truth.dq},
                                        {got[head].dk.value, truth.dk},
                                        {got[head].dv.value, truth.dv}};
            assert_int_equal(got[head].tokens, c.rows);
            int exact = c.shape.exact_K && c.shape.exact_K[head * c.shape.kv_heads / c.shape.heads] > 0;
            assert_true(!exact || fabs((double)l.dbias[head] - truth.dbias) <= 2e-6 * truth.dbias_terms);
            assert_true(got[head].o.low == got[head].o.value && got[head].o.high == got[head].o.value);
            for (int i = 0; i < 4; i++) { /* sums of products in f32: 2e-6 of the whole */
                double off = fabs(pairs[i][0] - pairs[i][1]) / (2e-6 + 1e-4 * pairs[i][1]);
                worst = fmax(worst, off);
                if (!(off <= 1))
                    fail_msg("case %d, head %d, %s: %.4g, by the formula %.4g", (int)seed, (int)head,
                             i == 0   ? "o"
                             : i == 1 ? "dq"
                             : i == 2 ? "dk"
                                      : "dv",
                             pairs[i][0], pairs[i][1]);
            }
        }
        layer_destroy(&l);
    }
    print_message("sampled errors of all rows: at most %.2f of the bound from the formula's\n", worst);
    laboratory_destroy(&lab);
}

/* Gradients by a polynomial of one degree more are several times as near those of exact attention. */
static void test_fine(void **state)
{
    (void)state;
    laboratory lab;
    laboratory_create(&lab);
    for (int64_t degree = 1; degree <= 4; degree++) {
        errors truth[2];
        for (int fine = 0; fine < 2; fine++) {
            shape_case c = case_of(77);
            layer_run l;
            fur_far_sample sample;
            c.shape.head_dim = c.shape.far.head_dim = c.shape.far.value_dim = 8;
            c.shape.far.bound = 1;
            c.shape.far.degree = degree;
            c.shape.fine.degree = fine;
            layer_create(&c, 1, &l);
            fit(&lab, &c, &l, 1234);
            layer_fill(&c, 77, &l);
            fur_arena_release(&lab.arena, 0);
            run_layer(&lab.kit.exec, &c, &l, SAMPLED, 1, &sample, &lab.arena);
            truth[fine] = whole_errors(&c, &l, 0);
            layer_destroy(&l);
        }
        print_message(
            "degree %d: o off by %.1e; dq, dk, dv by %.1e, %.1e, %.1e, with finer gradients %.1e, %.1e, %.1e\n",
            (int)degree, truth[0].o, truth[0].dq, truth[0].dk, truth[0].dv, truth[1].dq, truth[1].dk, truth[1].dv);
        assert_true(fabs(truth[0].o - truth[1].o) <= 1e-6);
        assert_true(truth[1].dq <= 0.6 * truth[0].dq && truth[1].dk <= 0.6 * truth[0].dk);
    }
    laboratory_destroy(&lab);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int case_count = 150;

/* The certificate is above the whole error wherever, and the interval around it nearly always. */
static void test_random(void **state)
{
    (void)state;
    laboratory lab;
    laboratory_create(&lab);
    int cases = 0, heads = 0, silent = 0, spoken = 0, o_covered = 0, dq_covered = 0;
    double *ratio = malloc((size_t)case_count * 8 * sizeof *ratio);
    for (uint64_t seed = 1; cases < case_count; seed++, cases++) {
        shape_case c = case_of(seed * 7919);
        layer_run l;
        fur_far_sample sample;
        fur_head_error got[8];
        layer_create(&c, 1, &l);
        fit(&lab, &c, &l, seed + 500000);
        layer_fill(&c, seed, &l);
        fur_arena_release(&lab.arena, 0);
        run_layer(&lab.kit.exec, &c, &l, SAMPLED, seed, &sample, &lab.arena);
        fur_far_sample_end(&sample, got);
        for (int64_t head = 0; head < c.shape.heads; head++, heads++) {
            errors truth = whole_errors(&c, &l, head);
            const fur_head_error *e = &got[head];
            if (!(isfinite(e->certificate) && e->certificate >= truth.o * truth.computed))
                fail_msg("case %d, head %d: certificate %.4g, error %.4g", cases, (int)head, e->certificate, truth.o);
            o_covered += e->o.low <= truth.o && truth.o <= e->o.high;
            dq_covered += e->dq.low <= truth.dq && truth.dq <= e->dq.high;
            silent += e->certificate >= 1;
            if (e->certificate < 1)
                ratio[spoken++] = e->certificate / fmax(1e-12, truth.o * truth.computed);
        }
        layer_destroy(&l);
    }
    qsort(ratio, (size_t)spoken, sizeof *ratio, by_value);
    print_message("%d cases, %d heads: certificate held in all; it says nothing (1 or more) for %.1f %%; of the others "
                  "it is %.1f times the error in the median, %.1f and %.1f at 10 and 90 %%\n",
                  cases, heads, 100.0 * silent / heads, ratio[spoken / 2], ratio[spoken / 10], ratio[spoken * 9 / 10]);
    print_message("95 %% interval holds the whole error: o %.1f %%, dq %.1f %% (target 90 to 99)\n",
                  100.0 * o_covered / heads, 100.0 * dq_covered / heads);
    assert_true(o_covered >= 0.88 * heads && dq_covered >= 0.88 * heads);
    free(ratio);
    laboratory_destroy(&lab);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole), cmocka_unit_test(test_fine),
                                       cmocka_unit_test(test_random)};
    if (argc > 1)
        case_count = (int)strtol(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
