/* SPDX-License-Identifier: Apache-2.0 */
/* What attention_test.c works on: problems laid out from a table of cases, and the formulas in double with a bound of
 * the error of every element.
 *
 * The bounds, u = 2^-24, first order terms with their constants rounded up; A_ij = |scale| sum_d |q_id k_jd|.
 * Scores in units of log 2 are sums of D products with rounded factors (scale log2 e, q times it): the exponent's error
 * in natural units is at most (D + 4) u A_ij. Forward. Subtracting the running maximum m, |m| <= Amax_i, costs u (A_ij
 * + Amax_i). When m grows, what was summed is multiplied by 2^(m' - m): all those exponents together err by u times the
 * whole way of m, 2 Amax_i, and each of the B exponentials and its product by 5 u. A weight's relative error is thus
 *     e_ij = exp(u [(D + 5) A_ij + 3 Amax_i + 5 (B + 1)]) - 1.
 * Sums of n terms over B blocks add g = (n + B + 4) u. With p_ij the exact probabilities and E_i = sum_j p_ij e_ij + g,
 *     |o error|   <= sum_j p_ij |v_jd| (e_ij + g) + |o_id| E_i, over 1 - E_i
 *     |lse error| <= max_j log(1 + e_ij) + g + 3 u (|lse| + Amax_i + log n),
 * and since o is a mean of v under any weights, its error never exceeds twice the largest |v_jd|. Weights below 2^-126
 * count as 0.
 * Backward takes o and lse as given. P = 2^(s log2 e - lse log2 e) errs by
 *     dp_ij = p_ij (exp(u [(D + 7) A_ij + 4 |lse_i| + 4]) - 1), at most 1 as P is capped there,
 * g_ij = do_i . v_j - do_i . o_i by dg_ij = (D + 2) u (sum_d |do_id v_jd| + sum_d |do_id o_id|), and so
 *     ds_ij = dp_ij (|g_ij| + dg_ij) + p_ij dg_ij + 2 u p_ij |g_ij|.
 * Each gradient is a sum of such a factor and an exact one: its bound is the sum of (error of the factor) |other| plus
 * (terms + partial sums) u times the sum of absolute terms, plus the rounding of the value it is added to.
 * Features. A softcap's tanh errs by 10 u, the quotient and the product before and after it by 2 u, relative to a score
 * that the cap only makes smaller: 14 u A_ij more, taken as D + 14 for D. ALiBi's slope, distance and product err by 5
 * u of slope |i - j|, which joins A_ij. A sink logit is one more key, without a value. Under dropout do_i . v_j, and
 * P_ij where it meets v or do, have the factor M_ij, with 2 u more. The derivative of the softcap, f = (1 - t)(1 + t),
 * errs by df = 2 |t| ((D + 4) u A_ij / cap + 12 u) + 4 u; then ds_ij has f as a factor and df P_ij |g_ij| more. */
#ifndef FUR_OP_ATTENTION_TEST_H
#define FUR_OP_ATTENTION_TEST_H

#include "kit/kit.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "op/attention/attention.h"
#include "op/attention/attention_kernel.h"

/* ---- cases ------------------------------------------------------------------------------------------------------- */

typedef enum arrangement {
    WHOLE,     /* every query's own position among the keys of one span */
    LATE,      /* queries are the last rows of a longer sequence */
    EARLY,     /* the first queries come before the first key and see nothing */
    SPANS,     /* keys in spans of 1, 2, 3, ... rows */
    GAP,       /* a span of sinks, positions left out, a span of neighbours */
    DOCUMENTS, /* pieces of 1, 2, 3, ... rows, each with its own keys; a piece without queries among them */
    SHARED     /* one document, its queries in three pieces with the same spans */
} arrangement;

typedef struct test_case {
    int64_t heads, kv_heads, head_dim, rows;
    int causal;
    arrangement arrangement;
    kit_fill fill;
    float scale;
    int64_t padding; /* floats between rows */
    fur_attention_features f;
    int sinks; /* with sink logits */
} test_case;

enum { MOST_PIECES = 64, MOST_SPANS = 64, MOST_KEYS = 1200 };

typedef struct problem {
    test_case c;
    fur_attention_args args;
    fur_query_piece pieces[MOST_PIECES];
    fur_key_span spans[MOST_SPANS];
    int64_t span_count, keys;
    float *q, *d_o, *k, *v, *dk, *dv, *sink, *dsink;
    int64_t q_floats, k_floats, lse_floats;
} problem;

/* ---- building a problem ------------------------------------------------------------------------------------------ */

static void add_span(problem *p, int64_t first_key, int64_t count, int64_t position)
{
    assert_true(p->span_count < MOST_SPANS);
    p->spans[p->span_count++] = (fur_key_span){.k_SKD = p->k + first_key * p->args.ldk,
                                               .v_SKD = p->v + first_key * p->args.ldk,
                                               .dk_SKD = p->dk + first_key * p->args.lddk,
                                               .dv_SKD = p->dv + first_key * p->args.lddk,
                                               .first_position = position,
                                               .count = count};
}

static void add_piece(problem *p, int64_t row, int64_t count, int64_t position, int64_t first_span)
{
    assert_true(p->args.piece_count < MOST_PIECES);
    p->pieces[p->args.piece_count++] = (fur_query_piece){.first_row = row,
                                                         .count = count,
                                                         .first_position = position,
                                                         .first_token = 1000 + row,
                                                         .spans = p->spans + first_span,
                                                         .span_count = p->span_count - first_span};
}

static void arrange_documents(problem *p)
{
    for (int64_t row = 0, size = 1; row < p->c.rows; size++) {
        int64_t count = size < p->c.rows - row ? size : p->c.rows - row;
        add_span(p, row, count, 0);
        add_piece(p, row, count, 0, p->span_count - 1);
        if (size == 4)
            add_piece(p, row, 0, 0, p->span_count - 1);
        row += count;
    }
}

static int64_t keys_of(const test_case *c)
{
    return c->arrangement == LATE ? c->rows + 300 : c->rows;
}

static void arrange(problem *p)
{
    int64_t n = p->c.rows, keys = p->keys;
    switch (p->c.arrangement) {
    case WHOLE:
        add_span(p, 0, keys, 0);
        add_piece(p, 0, n, 0, 0);
        break;
    case LATE:
        add_span(p, 0, keys, 0);
        add_piece(p, 0, n, keys - n, 0);
        break;
    case EARLY:
        add_span(p, 0, keys, n / 3);
        add_piece(p, 0, n, 0, 0);
        break;
    case SPANS:
        for (int64_t at = 0, size = 1; at < keys; at += size++)
            add_span(p, at, size < keys - at ? size : keys - at, at);
        add_piece(p, 0, n, 0, 0);
        break;
    case GAP:
        add_span(p, 0, 4, 0);
        add_span(p, 4, 0, 50);
        add_span(p, 4, keys - 4, 90);
        add_piece(p, 0, n, 40, 0);
        break;
    case DOCUMENTS: arrange_documents(p); break;
    case SHARED:
        add_span(p, 0, keys / 2, 0);
        add_span(p, keys / 2, keys - keys / 2, keys / 2);
        add_piece(p, 0, n / 5, 0, 0);
        add_piece(p, n / 5, n / 2, n / 5, 0);
        add_piece(p, n / 5 + n / 2, n - n / 5 - n / 2, n / 5 + n / 2, 0);
        break;
    }
}

/* Every array ends at a page that faults; outputs hold NaN, except dk and dv, which are added to. */
static void build(problem *p, const test_case *c, uint64_t seed)
{
    int64_t heads = c->heads * c->head_dim, kv_heads = c->kv_heads * c->head_dim;
    memset(p, 0, sizeof *p);
    p->c = *c;
    p->keys = keys_of(c);
    p->args = (fur_attention_args){.heads = c->heads,
                                   .kv_heads = c->kv_heads,
                                   .head_dim = c->head_dim,
                                   .scale = c->scale,
                                   .causal = c->causal,
                                   .features = c->f,
                                   .pieces = p->pieces,
                                   .ldq = heads + c->padding,
                                   .ldk = kv_heads + c->padding,
                                   .ldo = heads + 2 * c->padding,
                                   .ldlse = c->heads + c->padding,
                                   .lddo = heads + 3 * c->padding,
                                   .lddq = heads + 4 * c->padding,
                                   .lddk = kv_heads + 5 * c->padding};
    p->q_floats = (c->rows - 1) * p->args.ldq + heads;
    p->k_floats = (p->keys - 1) * p->args.ldk + kv_heads;
    p->lse_floats = (c->rows - 1) * p->args.ldlse + c->heads;
    p->args.q_THD = p->q = kit_guard_filled(p->q_floats, c->fill, seed);
    p->args.o_THD = kit_guard_f32((c->rows - 1) * p->args.ldo + heads);
    p->args.lse_TH = kit_guard_f32(p->lse_floats);
    p->args.do_THD = p->d_o = kit_guard_filled((c->rows - 1) * p->args.lddo + heads, c->fill, seed + 1);
    p->args.dq_THD = kit_guard_f32((c->rows - 1) * p->args.lddq + heads);
    p->k = kit_guard_filled(p->k_floats, c->fill, seed + 2);
    p->v = kit_guard_filled(p->k_floats, c->fill, seed + 3);
    p->dk = kit_guard_filled((p->keys - 1) * p->args.lddk + kv_heads, c->fill, seed + 4);
    p->dv = kit_guard_filled((p->keys - 1) * p->args.lddk + kv_heads, c->fill, seed + 5);
    if (c->sinks) {
        p->args.features.sink_H = p->sink = kit_guard_filled(c->heads, KIT_NORMAL, seed + 6);
        p->args.dsink_H = p->dsink = kit_guard_filled(c->heads, KIT_NORMAL, seed + 7);
    }
    arrange(p);
}

static void run(const problem *p, fur_isa isa, int threads, int backward)
{
    kit_exec kit;
    fur_exec ask = {.threads = threads, .isa = isa};
    int64_t bytes = fur_attention_workspace(&ask, p->c.heads, p->c.kv_heads, p->c.head_dim, p->c.rows, backward);
    kit_exec_init(&kit, isa, threads, bytes);
    memset(kit.workspace.base, 0xff, (size_t)bytes); /* NaN */
    fur_status status =
        backward ? fur_attention_backward(&kit.exec, &p->args) : fur_attention_forward(&kit.exec, &p->args);
    if (status != FUR_OK)
        fail_msg("%s", kit.error.text);
    assert_int_equal(kit.workspace.used, 0);
    assert_true(p->args.all_heads ? kit.workspace.peak <= bytes : kit.workspace.peak == bytes);
    kit_exec_clear(&kit);
}

/* ---- the formulas in double, with bounds ------------------------------------------------------------------------- */

typedef struct expected {
    double *o, *o_bound, *lse, *lse_bound; /* [rows][heads][head_dim], [rows][heads] */
    double *dq, *dq_bound;
    double *dk, *dk_bound, *dv, *dv_bound; /* [keys][kv_heads][head_dim], without what they are added to */
    double *dsink, *dsink_bound;           /* [heads], likewise */
} expected;

static double *doubles(int64_t count)
{
    double *x = fur_calloc((size_t)count, sizeof *x);
    assert_non_null(x);
    return x;
}

static void expected_init(expected *e, const problem *p)
{
    int64_t q = p->c.rows * p->c.heads * p->c.head_dim, k = p->keys * p->c.kv_heads * p->c.head_dim;
    *e = (expected){.o = doubles(q),
                    .o_bound = doubles(q),
                    .lse = doubles(q),
                    .lse_bound = doubles(q),
                    .dq = doubles(q),
                    .dq_bound = doubles(q),
                    .dk = doubles(k),
                    .dk_bound = doubles(k),
                    .dv = doubles(k),
                    .dv_bound = doubles(k),
                    .dsink = doubles(p->c.heads),
                    .dsink_bound = doubles(p->c.heads)};
}

static void expected_clear(expected *e)
{
    double *all[] = {e->o,  e->o_bound,  e->lse, e->lse_bound, e->dq,    e->dq_bound,
                     e->dk, e->dk_bound, e->dv,  e->dv_bound,  e->dsink, e->dsink_bound};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fur_free(all[i]);
}

static int sees(const test_case *c, int64_t i, int64_t j)
{
    if (c->causal && j > i)
        return 0;
    return !c->f.window || j < c->f.sink_tokens || (i - j < c->f.window && j - i < c->f.window);
}

/* The keys one query sees, as row numbers of k, and their positions. */
static int64_t keys_seen(const problem *p, const fur_query_piece *piece, int64_t query, int64_t *rows, int64_t *at)
{
    int64_t count = 0;
    for (int64_t s = 0; s < piece->span_count; s++)
        for (int64_t j = 0; j < piece->spans[s].count; j++)
            if (sees(&p->c, piece->first_position + query, piece->spans[s].first_position + j)) {
                assert_true(count < MOST_KEYS);
                at[count] = piece->spans[s].first_position + j;
                rows[count++] = (piece->spans[s].k_SKD - p->k) / p->args.ldk + j;
            }
    return count;
}

/* As in the paper's reference: the slopes of the power of two below, then every second one of the power above. */
static double slope_of(int64_t heads, int64_t head)
{
    int64_t power = (int64_t)1 << (int)floor(log2((double)heads));
    if (head >= power)
        return pow(pow(2, -4.0 / (double)power), (double)(2 * (head - power) + 1));
    return pow(pow(2, -8.0 / (double)power), (double)(head + 1));
}

/* 0 or 1 / (1 - dropout), from the documented counter. */
static double kept(const problem *p, const fur_query_piece *piece, int64_t i, int64_t head, int64_t at)
{
    double rate = (double)p->c.f.dropout;
    uint32_t words[4];
    fur_random_words(p->c.f.dropout_key, (uint64_t)head << 40 | (uint64_t)(piece->first_token + i), (uint64_t)at / 4,
                     words);
    return (double)words[at % 4] < floor(rate * 4294967296.0) ? 0 : 1 / (1 - rate);
}

static double dot(const float *a, const float *b, int64_t count, double *absolute)
{
    double sum = 0;
    *absolute = 0;
    for (int64_t d = 0; d < count; d++) {
        sum += (double)a[d] * (double)b[d];
        *absolute += fabs((double)a[d] * (double)b[d]);
    }
    return sum;
}

/* One query under one head. */
typedef struct query {
    int64_t row, head, kv_head;
    int64_t seen, keys[MOST_KEYS];
    int64_t at[MOST_KEYS];                    /* positions */
    double s[MOST_KEYS], absolute[MOST_KEYS]; /* scores; A_ij */
    double t[MOST_KEYS];                      /* tanh of the softcap */
    double keep[MOST_KEYS];                   /* M_ij */
    double sink;                              /* -infinity: none */
} query;

/* Scores as they go into the exponential, from scale q . k. */
static void transform(const problem *p, const fur_query_piece *piece, int64_t i, query *x)
{
    double cap = (double)p->c.f.softcap;
    for (int64_t j = 0; j < x->seen; j++) {
        if (cap > 0) {
            x->t[j] = tanh(x->s[j] / cap);
            x->s[j] = cap * x->t[j];
        }
        if (p->c.f.alibi) {
            double bias = slope_of(p->c.heads, x->head) * fabs((double)(piece->first_position + i - x->at[j]));
            x->s[j] -= bias;
            x->absolute[j] += bias;
        }
    }
}

/* scale q . k alone */
static void query_products(const problem *p, const fur_query_piece *piece, int64_t i, int64_t head, query *out)
{
    out->row = piece->first_row + i;
    out->head = head;
    out->kv_head = head / (p->c.heads / p->c.kv_heads);
    out->seen = keys_seen(p, piece, i, out->keys, out->at);
    out->sink = p->sink ? (double)p->sink[head] : -(double)INFINITY;
    const float *q = p->args.q_THD + out->row * p->args.ldq + head * p->c.head_dim;
    for (int64_t j = 0; j < out->seen; j++) {
        const float *k = p->k + out->keys[j] * p->args.ldk + out->kv_head * p->c.head_dim;
        out->s[j] = (double)p->c.scale * dot(q, k, p->c.head_dim, &out->absolute[j]);
        out->absolute[j] *= fabs((double)p->c.scale);
        out->t[j] = 0;
        out->keep[j] = p->c.f.dropout > 0 ? kept(p, piece, i, head, out->at[j]) : 1;
    }
}

static void query_scores(const problem *p, const fur_query_piece *piece, int64_t i, int64_t head, query *out)
{
    query_products(p, piece, i, head, out);
    transform(p, piece, i, out);
}

/* D of the bounds */
static double depth_of(const problem *p)
{
    return (double)p->c.head_dim + (p->c.f.softcap > 0 ? 14 : 0) + (p->c.f.alibi ? 5 : 0);
}

static double softmax(const query *x, double *probability)
{
    double m = x->sink, l = 0;
    for (int64_t j = 0; j < x->seen; j++)
        m = fmax(m, x->s[j]);
    if (m > -(double)INFINITY)
        l = exp(x->sink - m);
    for (int64_t j = 0; j < x->seen; j++)
        l += probability[j] = exp(x->s[j] - m);
    for (int64_t j = 0; j < x->seen; j++)
        probability[j] /= l;
    return m > -(double)INFINITY ? m + log(l) : -(double)INFINITY;
}

static void expect_forward_query(const problem *p, const query *x, expected *e)
{
    int64_t D = p->c.head_dim, at = x->row * p->c.heads + x->head;
    double n = (double)x->seen + (p->sink != NULL), probability[MOST_KEYS], error[MOST_KEYS];
    double blocks = ceil((double)x->seen / FUR_ATTENTION_KEYS) + 1 + (double)p->span_count;
    double largest = p->sink ? fabs(x->sink) : 0, exponent = 0, g = (n + blocks + 4) * KIT_U, E = g,
           lse = softmax(x, probability);
    for (int64_t j = 0; j < x->seen; j++)
        largest = fmax(largest, x->absolute[j]);
    for (int64_t j = 0; j < x->seen; j++) {
        double one = KIT_U * ((depth_of(p) + 5) * x->absolute[j] + 3 * largest + 5 * (blocks + 1));
        exponent = fmax(exponent, one);
        error[j] = expm1(one);
        E += probability[j] * error[j];
    }
    for (int64_t d = 0; d < D; d++) {
        double sum = 0, weighted = 0, top = 0;
        for (int64_t j = 0; j < x->seen; j++) {
            double v = x->keep[j] * (double)p->v[x->keys[j] * p->args.ldk + x->kv_head * D + d];
            sum += probability[j] * v;
            weighted += probability[j] * fabs(v) * (error[j] + g + 2 * KIT_U);
            top = fmax(top, fabs(v));
        }
        double bound = E < 0.5 ? (weighted + fabs(sum) * E) / (1 - E) : (double)INFINITY;
        e->o[at * D + d] = sum;
        e->o_bound[at * D + d] = fmin(bound, 2 * top * (1 + g)) + n * (double)FLT_MIN * (top + 1);
    }
    e->lse[at] = lse;
    e->lse_bound[at] = n > 0 ? exponent + g + 3 * KIT_U * (fabs(lse) + largest + log(n)) : 0;
}

/* With o and lse as the problem holds them. */
static void expect_backward_query(const problem *p, const query *x, double rows, expected *e)
{
    int64_t D = p->c.head_dim;
    const float *q = p->args.q_THD + x->row * p->args.ldq + x->head * D;
    const float *o = p->args.o_THD + x->row * p->args.ldo + x->head * D;
    const float *d_o = p->args.do_THD + x->row * p->args.lddo + x->head * D;
    double lse = (double)p->args.lse_TH[x->row * p->args.ldlse + x->head], scale = (double)p->c.scale;
    double n = (double)x->seen,
           own = (n + n / FUR_ATTENTION_KEYS + FUR_ATTENTION_CHUNKS + 5 + (double)p->span_count) * KIT_U;
    double other = (2 * rows + 4) * KIT_U, delta_absolute, delta = dot(d_o, o, D, &delta_absolute);
    double *dq = e->dq + (x->row * p->c.heads + x->head) * D, *dq_bound = e->dq_bound + (dq - e->dq);
    for (int64_t j = 0; j < x->seen; j++) {
        int64_t at = (x->keys[j] * p->c.kv_heads + x->kv_head) * D;
        const float *k = p->k + x->keys[j] * p->args.ldk + x->kv_head * D;
        const float *v = p->v + x->keys[j] * p->args.ldk + x->kv_head * D;
        double M = x->keep[j], t = x->t[j], f = (1 - t) * (1 + t), cap = (double)p->c.f.softcap;
        double absolute, g = M * dot(d_o, v, D, &absolute) - delta, P = exp(fmin(0, x->s[j] - lse));
        double dp = P * expm1(KIT_U * ((depth_of(p) + 7) * x->absolute[j] + 4 * fabs(lse) + 4));
        dp = fmin(1, dp) + (double)FLT_MIN;
        double dg = ((double)D + 4) * KIT_U * (M * absolute + delta_absolute);
        double df =
            cap > 0 ? 2 * fabs(t) * (((double)D + 4) * KIT_U * x->absolute[j] / cap + 12 * KIT_U) + 4 * KIT_U : 0;
        double ds = (f + df) * (dp * (fabs(g) + dg) + P * dg + 3 * KIT_U * P * fabs(g)) + df * P * fabs(g);
        g *= f;
        double S = fabs(scale) * (P * fabs(g) + ds), dS = fabs(scale) * ds;
        for (int64_t d = 0; d < D; d++) {
            dq[d] += scale * P * g * (double)k[d];
            dq_bound[d] += (dS + own * S) * fabs((double)k[d]) + 1e-43;
            e->dk[at + d] += scale * P * g * (double)q[d];
            e->dk_bound[at + d] += (dS + other * S) * fabs((double)q[d]) + 1e-43;
            e->dv[at + d] += P * M * (double)d_o[d];
            e->dv_bound[at + d] += M * (dp + (other + 2 * KIT_U) * (P + dp)) * fabs((double)d_o[d]) + 1e-43;
        }
    }
    if (p->sink) { /* in double: only the order of sums differs */
        double P = exp(fmin(0, x->sink - lse));
        e->dsink[x->head] -= P * delta;
        e->dsink_bound[x->head] += 1e-12 * P * delta_absolute;
    }
}

static void expect(const problem *p, expected *e, int backward)
{
    static query x; /* too large for some stacks */
    int64_t group = p->c.heads / p->c.kv_heads;
    for (int64_t k = 0; k < p->args.piece_count; k++)
        for (int64_t i = 0; i < p->pieces[k].count; i++)
            for (int64_t head = 0; head < p->c.heads; head++) {
                query_scores(p, &p->pieces[k], i, head, &x);
                if (backward)
                    expect_backward_query(p, &x, (double)(p->c.rows * group), e);
                else
                    expect_forward_query(p, &x, e);
            }
}

#endif
