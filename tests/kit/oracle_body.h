/* SPDX-License-Identifier: Apache-2.0 */
/* The formulas, over REAL, with OPERAND(x) what a product takes for x, PAIR_OPERAND(x) in attention. Included by
 * oracle.c once for each precision; no guard. */

/* What a layer's backward reads, all whole. */
typedef struct NAME(trace) {
    int64_t index;
    REAL *q_raw_TQ, *k_raw_TK;   /* before the norms of heads */
    REAL *added1_TC, *added2_TC; /* by attention and feedforward, before their norms */
    REAL *x_TC, *h1_TC, *q_TQ, *k_TK, *v_TK, *p_HTT, *p_sink_HT, *o_TQ, *mid_TC, *h2_TC, *gate_TF, *up_TF, *g_TF;
} NAME(trace);

typedef struct NAME(state) {
    const oracle *o;
    const fur_row *row;
    int64_t T;
    int64_t *document_T, *position_T;
    REAL **w;  /* [parameters] weights in REAL */
    REAL **dw; /* gradients */
    double **terms;
    NAME(trace) * layers;
    REAL *x_TC, *h_TC, *y_TO, *dx_TC;
} NAME(state);

static REAL *NAME(numbers)(int64_t count)
{
    return grab((size_t)count, sizeof(REAL));
}

static REAL *NAME(weights)(const NAME(state) * s, oracle_slice at, int64_t columns)
{
    return at.index < 0 ? NULL : s->w[at.index] + at.row * columns;
}

#include "kit/oracle_maps.h"
#include "kit/oracle_norms.h"

/* ---- dropout ----------------------------------------------------------------------------------------------------- */

static void NAME(drop)(const NAME(state) * s, int64_t layer, int64_t place, REAL *x_TC)
{
    const fur_model_config *c = &s->o->config;
    double rate = place == 3 ? c->embedding_dropout : c->dropout; /* 3: of embeddings */
    for (int64_t t = 0; s->o->training && rate > 0 && t < s->T; t++)
        for (int64_t i = 0; i < c->width; i++)
            x_TC[t * c->width + i] *= (REAL)keep_factor(rate, drop_key(s->o, layer, place), (uint64_t)t, i);
}

/* What a layer adds to the residual stream: dropout(norm(y w^T + b)). */
typedef struct NAME(addend) {
    int64_t layer, place, in;
    oracle_slice w, b, norm_w, norm_b;
    REAL *added_TC; /* y w^T + b */
} NAME(addend);

/* x += */
static void NAME(add)(const NAME(state) * s, const NAME(addend) * a, const REAL *y_TI, REAL *x_TC)
{
    const fur_model_config *c = &s->o->config;
    int64_t C = c->width;
    REAL *sum = NAME(numbers)(s->T * C);
    if (a->w.index < 0) /* no map: widths are equal */
        memcpy(sum, y_TI, (size_t)(s->T * C) * sizeof(REAL));
    else
        NAME(linear)(s, a->in, C, a->w, a->b, y_TI, 0, sum);
    memcpy(a->added_TC, sum, (size_t)(s->T * C) * sizeof(REAL));
    if (a->norm_w.index >= 0)
        NAME(norm)(s, NAME(outer_norm)(c), a->norm_w, a->norm_b, a->added_TC, sum);
    NAME(drop)(s, a->layer, a->place, sum);
    for (int64_t i = 0; i < s->T * C; i++)
        x_TC[i] += sum[i];
    free(sum);
}

static void NAME(add_backward)(const NAME(state) * s, const NAME(addend) * a, const REAL *y_TI, const REAL *dx_TC,
                               REAL *dy_TI)
{
    const fur_model_config *c = &s->o->config;
    int64_t C = c->width;
    REAL *dropped = NAME(numbers)(s->T * C), *dadded = NAME(numbers)(s->T * C);
    memcpy(dropped, dx_TC, (size_t)(s->T * C) * sizeof(REAL));
    NAME(drop)(s, a->layer, a->place, dropped);
    if (a->norm_w.index >= 0)
        NAME(norm_backward)(s, NAME(outer_norm)(c), a->norm_w, a->norm_b, a->added_TC, dropped, dadded);
    else
        memcpy(dadded, dropped, (size_t)(s->T * C) * sizeof(REAL));
    for (int64_t i = 0; a->w.index < 0 && i < s->T * C; i++)
        dy_TI[i] += dadded[i];
    if (a->w.index >= 0)
        NAME(linear_backward)(s, a->in, C, a->w, a->b, y_TI, dadded, dy_TI);
    free(dropped);
    free(dadded);
}

/* ---- positions --------------------------------------------------------------------------------------------------- */

static void NAME(rotate)(const NAME(state) * s, int64_t layer, int64_t heads, int inverse, REAL *x_THD)
{
    const fur_model_config *c = &s->o->config;
    int64_t D = c->head_dim, half = D / 2;
    if (c->position != FUR_POSITION_ROPE)
        return;
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t i = 0; i < half; i++) {
            double magnitude, angle = (double)s->position_T[t] * rope_frequency(c, layer, i, &magnitude);
            REAL cosine = (REAL)(magnitude * cos(angle));
            REAL sine = (REAL)(magnitude * (inverse ? -sin(angle) : sin(angle)));
            for (int64_t h = 0; h < heads; h++) {
                REAL *a = x_THD + (t * heads + h) * D + i, *b = a + half, a0 = *a, b0 = *b;
                *a = a0 * cosine - b0 * sine;
                *b = b0 * cosine + a0 * sine;
            }
        }
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static int NAME(is_almost_linear)(const NAME(state) * s, const NAME(trace) * l)
{
    return s->o->layers[l->index].far_coefficients.index >= 0;
}

static int NAME(sees)(const NAME(state) * s, const NAME(trace) * l, int64_t i, int64_t j)
{
    const fur_model_config *c = &s->o->config;
    int64_t window = c->window[l->index], distance = s->position_T[i] - s->position_T[j];
    if (s->document_T[i] != s->document_T[j] || (c->causal && distance < 0))
        return 0;
    if (NAME(is_almost_linear)(s, l))
        return 1;
    return !window || (distance < window && -distance < window) || s->position_T[j] < c->sink_tokens;
}

/* 0 or 1 / (1 - rate) of a weight. */
static REAL NAME(keep)(const NAME(state) * s, const NAME(trace) * l, int64_t h, int64_t i, int64_t j)
{
    double rate = s->o->training ? s->o->config.attention_dropout : 0;
    if (!(rate > 0))
        return 1;
    uint64_t stream = (uint64_t)h << 40 | (uint64_t)i;
    return (REAL)keep_factor(rate, drop_key(s->o, l->index, 0), stream, s->position_T[j]);
}

static REAL NAME(dot)(int64_t count, const REAL *a, const REAL *b)
{
    REAL sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += PAIR_OPERAND(a[i]) * PAIR_OPERAND(b[i]);
    return sum;
}

/* Whether i sees j through the polynomial: j is not in i's chunk, in the window around it, or a sink token. */
static int NAME(is_far)(const NAME(state) * s, const NAME(trace) * l, int64_t i, int64_t j)
{
    const fur_model_config *c = &s->o->config;
    if (!NAME(is_almost_linear)(s, l))
        return 0;
    int64_t at = s->position_T[j], start = s->position_T[i] / c->far_chunk * c->far_chunk;
    int64_t low = start - c->window[l->index], high = start + c->far_chunk + (c->causal ? 0 : c->window[l->index]);
    return at >= c->sink_tokens && (at < low || at >= high);
}

/* A far pair: log of the factors that are exact (f_i, a_j), and the polynomial. */
typedef struct NAME(far_pair) {
    REAL q[128], k[128], r_q, r_k; /* unit rows, one over norms */
    REAL log_factor, p, slope;
} NAME(far_pair);

static REAL NAME(unit)(int64_t D, const REAL *x, REAL *unit)
{
    REAL squares = (REAL)1e-12;
    for (int64_t d = 0; d < D; d++)
        squares += x[d] * x[d];
    REAL r = 1 / R_SQRT(squares);
    for (int64_t d = 0; d < D; d++)
        unit[d] = r * x[d];
    return r;
}

static void NAME(far)(const NAME(state) * s, const NAME(trace) * l, int64_t h, int64_t i, int64_t j, NAME(far_pair) * x)
{
    const fur_model_config *c = &s->o->config;
    const oracle_layer *at = &s->o->layers[l->index];
    int64_t H = c->heads, K = c->kv_heads, D = c->head_dim, g = h / (H / K);
    const REAL *qm = NAME(weights)(s, at->far_query_mean, D) + g * D,
               *km = NAME(weights)(s, at->far_key_mean, D) + g * D;
    const REAL *co = NAME(weights)(s, at->far_coefficients, 1) + g * (c->far_degree + 1);
    const REAL *bias = NAME(weights)(s, at->far_bias, 1);
    REAL B = (REAL)c->far_bound, t = 0, k[128];
    for (int64_t d = 0; d < D; d++)
        k[d] = PAIR_OPERAND(l->k_TK[(j * K + g) * D + d]);
    x->r_q = NAME(unit)(D, l->q_TQ + (i * H + h) * D, x->q);
    x->r_k = NAME(unit)(D, k, x->k);
    x->log_factor = bias ? bias[h] : 0;
    if (s->o->exact_far) { /* e^(B q^.k^): whatever the means */
        x->p = x->slope = 1;
        for (int64_t d = 0; d < D; d++) {
            x->q[d] = PAIR_OPERAND(x->q[d]);
            x->k[d] = PAIR_OPERAND(x->k[d]);
            x->log_factor += B * x->q[d] * x->k[d];
        }
        return;
    }
    for (int64_t d = 0; d < D; d++) {
        t += B * (x->q[d] - qm[d]) * (x->k[d] - km[d]);
        x->log_factor += B * x->q[d] * km[d] + B * qm[d] * (x->k[d] - km[d]);
    }
    x->p = x->slope = 0;
    for (int64_t n = c->far_degree; n >= 0; n--) {
        x->slope = x->slope * t + x->p;
        x->p = x->p * t + co[n];
    }
}

/* dq, dk, dbias from g, the gradient by the log of the weight. */
static void NAME(far_backward)(const NAME(state) * s, const NAME(trace) * l, int64_t h, int64_t i, int64_t j, REAL g,
                               REAL *dq, REAL *dk)
{
    const fur_model_config *c = &s->o->config;
    const oracle_layer *at = &s->o->layers[l->index];
    int64_t D = c->head_dim, kv = h / (c->heads / c->kv_heads);
    const REAL *qm = NAME(weights)(s, at->far_query_mean, D) + kv * D,
               *km = NAME(weights)(s, at->far_key_mean, D) + kv * D;
    NAME(far_pair) x;
    NAME(far)(s, l, h, i, j, &x);
    REAL B = (REAL)c->far_bound, dt = g * x.slope / x.p, a[128], b[128], a_along = 0, b_along = 0;
    for (int64_t d = 0; d < D; d++) {
        a[d] = B * (dt * (x.k[d] - km[d]) + g * km[d]);
        b[d] = B * (dt * (x.q[d] - qm[d]) + g * qm[d]);
        a_along += a[d] * x.q[d];
        b_along += b[d] * x.k[d];
    }
    for (int64_t d = 0; d < D; d++) {
        dq[d] += x.r_q * (a[d] - a_along * x.q[d]);
        dk[d] += x.r_k * (b[d] - b_along * x.k[d]);
    }
    if (at->far_bias.index >= 0) {
        s->dw[at->far_bias.index][h] += g;
        s->terms[at->far_bias.index][h] += fabs((double)g);
    }
}

static void NAME(attention)(const NAME(state) * s, const NAME(trace) * l)
{
    const fur_model_config *c = &s->o->config;
    int64_t T = s->T, H = c->heads, K = c->kv_heads, D = c->head_dim, group = H / K;
    REAL scale = (REAL)(1.0 / sqrt(c->query_scalar > 0 ? c->query_scalar : (double)D)), cap = (REAL)c->softcap;
    const REAL *sinks = NAME(weights)(s, s->o->layers[l->index].sinks, 1);
    for (int64_t h = 0; h < H; h++)
        for (int64_t i = 0; i < T; i++) {
            REAL *p = l->p_HTT + (h * T + i) * T, max = sinks ? sinks[h] : (REAL)-INFINITY, sum = 0;
            REAL slope = (REAL)(c->position == FUR_POSITION_ALIBI ? alibi_slope(H, h) : 0);
            for (int64_t j = 0; j < T; j++)
                if (NAME(is_far)(s, l, i, j) && NAME(sees)(s, l, i, j)) {
                    NAME(far_pair) x;
                    NAME(far)(s, l, h, i, j, &x);
                    p[j] = x.log_factor + R_LOG(x.p);
                    max = p[j] > max ? p[j] : max;
                } else if (NAME(sees)(s, l, i, j)) {
                    p[j] = scale * NAME(dot)(D, l->q_TQ + (i * H + h) * D, l->k_TK + (j * K + h / group) * D);
                    if (cap > 0)
                        p[j] = cap * R_TANH(p[j] / cap);
                    p[j] -= slope * (REAL)llabs(s->position_T[i] - s->position_T[j]);
                    max = p[j] > max ? p[j] : max;
                }
            if (sinks)
                sum = R_EXP(sinks[h] - max);
            for (int64_t j = 0; j < T; j++)
                if (NAME(sees)(s, l, i, j))
                    sum += p[j] = R_EXP(p[j] - max);
            if (sinks)
                l->p_sink_HT[h * T + i] = R_EXP(sinks[h] - max) / sum;
            REAL *o = l->o_TQ + (i * H + h) * D;
            for (int64_t j = 0; j < T; j++)
                if (NAME(sees)(s, l, i, j)) {
                    p[j] /= sum;
                    REAL kept = p[j] * NAME(keep)(s, l, h, i, j);
                    for (int64_t d = 0; d < D; d++)
                        o[d] += PAIR_OPERAND(kept) * PAIR_OPERAND(l->v_TK[(j * K + h / group) * D + d]);
                }
        }
}

static void NAME(attention_backward)(const NAME(state) * s, const NAME(trace) * l, const REAL *do_TQ, REAL *dq_TQ,
                                     REAL *dk_TK, REAL *dv_TK)
{
    const fur_model_config *c = &s->o->config;
    int64_t T = s->T, H = c->heads, K = c->kv_heads, D = c->head_dim, group = H / K;
    REAL scale = (REAL)(1.0 / sqrt(c->query_scalar > 0 ? c->query_scalar : (double)D)), cap = (REAL)c->softcap;
    int64_t sinks = s->o->layers[l->index].sinks.index;
    for (int64_t h = 0; h < H; h++)
        for (int64_t i = 0; i < T; i++) {
            const REAL *p = l->p_HTT + (h * T + i) * T;
            const REAL *grad = do_TQ + (i * H + h) * D, *q = l->q_TQ + (i * H + h) * D;
            /* sum over j of p_ij (do_i . v_j), in the form that needs no second pass over j (arXiv 2205.14135) */
            REAL delta = NAME(dot)(D, grad, l->o_TQ + (i * H + h) * D), *dq = dq_TQ + (i * H + h) * D;
            if (sinks >= 0) {
                s->dw[sinks][h] -= l->p_sink_HT[h * T + i] * delta;
                s->terms[sinks][h] += fabs((double)(l->p_sink_HT[h * T + i] * delta));
            }
            for (int64_t j = 0; j < T; j++) {
                if (!NAME(sees)(s, l, i, j))
                    continue;
                int64_t at = (j * K + h / group) * D;
                REAL keep = NAME(keep)(s, l, h, i, j), kept = p[j] * keep;
                REAL ds = p[j] * (keep * NAME(dot)(D, grad, l->v_TK + at) - delta) * scale;
                if (NAME(is_far)(s, l, i, j)) {
                    for (int64_t d = 0; d < D; d++)
                        dv_TK[at + d] += PAIR_OPERAND(kept) * PAIR_OPERAND(grad[d]);
                    NAME(far_backward)(s, l, h, i, j, ds / scale, dq, dk_TK + at);
                    continue;
                }
                if (cap > 0) {
                    REAL t = R_TANH(scale * NAME(dot)(D, q, l->k_TK + at) / cap);
                    ds *= 1 - t * t;
                }
                for (int64_t d = 0; d < D; d++) {
                    dv_TK[at + d] += PAIR_OPERAND(kept) * PAIR_OPERAND(grad[d]);
                    dk_TK[at + d] += PAIR_OPERAND(ds) * PAIR_OPERAND(q[d]);
                    dq[d] += PAIR_OPERAND(ds) * PAIR_OPERAND(l->k_TK[at + d]);
                }
            }
        }
}

/* ---- the feedforward's inner function ------------------------------------------------------------------------------
 */

static REAL NAME(gelu)(REAL u, REAL *slope)
{
    REAL c = (REAL)0.79788456080286535588, a = (REAL)0.044715;
    REAL t = R_TANH(c * (u + a * u * u * u));
    *slope = (REAL)0.5 * (1 + t) + (REAL)0.5 * u * (1 - t * t) * c * (1 + 3 * a * u * u);
    return (REAL)0.5 * u * (1 + t);
}

static REAL NAME(silu)(REAL u, REAL *slope)
{
    REAL sigma = 1 / (1 + R_EXP(-u));
    *slope = sigma * (1 + u * (1 - sigma));
    return u * sigma;
}

static bool NAME(is_gated)(const NAME(state) * s)
{
    return s->o->config.activation == FUR_ACTIVATION_SWIGLU || s->o->config.activation == FUR_ACTIVATION_GEGLU;
}

static void NAME(activate)(const NAME(state) * s, const oracle_layer *at, const NAME(trace) * l)
{
    REAL slope;
    if (s->o->config.activation == FUR_ACTIVATION_NORM) {
        NAME(norm)(s, NAME(inner_norm)(&s->o->config), at->inner_w, at->inner_b, l->up_TF, l->g_TF);
        return;
    }
    for (int64_t i = 0; i < s->T * s->o->config.hidden; i++)
        l->g_TF[i] = s->o->config.activation == FUR_ACTIVATION_SWIGLU  ? NAME(silu)(l->gate_TF[i], &slope) * l->up_TF[i]
                     : s->o->config.activation == FUR_ACTIVATION_GEGLU ? NAME(gelu)(l->gate_TF[i], &slope) * l->up_TF[i]
                                                                       : NAME(gelu)(l->up_TF[i], &slope);
}

static void NAME(activate_backward)(const NAME(state) * s, const oracle_layer *at, const NAME(trace) * l,
                                    const REAL *dg_TF, REAL *dgate_TF, REAL *dup_TF)
{
    if (s->o->config.activation == FUR_ACTIVATION_NORM) {
        NAME(norm_backward)(s, NAME(inner_norm)(&s->o->config), at->inner_w, at->inner_b, l->up_TF, dg_TF, dup_TF);
        return;
    }
    for (int64_t i = 0; i < s->T * s->o->config.hidden; i++) {
        REAL slope;
        if (NAME(is_gated)(s)) {
            bool silu = s->o->config.activation == FUR_ACTIVATION_SWIGLU;
            dup_TF[i] = dg_TF[i] * (silu ? NAME(silu)(l->gate_TF[i], &slope) : NAME(gelu)(l->gate_TF[i], &slope));
            dgate_TF[i] = dg_TF[i] * l->up_TF[i] * slope;
        } else {
            NAME(gelu)(l->up_TF[i], &slope);
            dup_TF[i] = dg_TF[i] * slope;
        }
    }
}

/* ---- a layer ----------------------------------------------------------------------------------------------------- */

static void NAME(trace_create)(const NAME(state) * s, NAME(trace) * l)
{
    const fur_model_config *c = &s->o->config;
    int64_t T = s->T, q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    *l = (NAME(trace)){.x_TC = NAME(numbers)(T * c->width),
                       .h1_TC = NAME(numbers)(T * c->width),
                       .q_TQ = NAME(numbers)(T * q),
                       .k_TK = NAME(numbers)(T * k),
                       .v_TK = NAME(numbers)(T * k),
                       .p_HTT = NAME(numbers)(c->heads * T * T),
                       .p_sink_HT = NAME(numbers)(c->heads * T),
                       .q_raw_TQ = NAME(numbers)(T * q),
                       .k_raw_TK = NAME(numbers)(T * k),
                       .o_TQ = NAME(numbers)(T * q),
                       .mid_TC = NAME(numbers)(T * c->width),
                       .added1_TC = NAME(numbers)(T * c->width),
                       .added2_TC = NAME(numbers)(T * c->width),
                       .h2_TC = NAME(numbers)(T * c->width),
                       .gate_TF = NAME(numbers)(T * c->hidden),
                       .up_TF = NAME(numbers)(T * c->hidden),
                       .g_TF = NAME(numbers)(T * c->hidden)};
}

static void NAME(trace_destroy)(NAME(trace) * l)
{
    REAL *all[] = {l->x_TC,      l->h1_TC,    l->q_TQ,     l->k_TK,      l->v_TK,     l->p_HTT,
                   l->o_TQ,      l->mid_TC,   l->h2_TC,    l->gate_TF,   l->up_TF,    l->g_TF,
                   l->p_sink_HT, l->q_raw_TQ, l->k_raw_TK, l->added1_TC, l->added2_TC};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static NAME(addend) NAME(of_attention)(const NAME(state) * s, int64_t index)
{
    const oracle_layer *at = &s->o->layers[index];
    return (NAME(addend)){.layer = index,
                          .place = 1,
                          .in = s->o->config.heads * s->o->config.head_dim,
                          .w = at->o_w,
                          .b = at->o_b,
                          .norm_w = at->post1_w,
                          .norm_b = at->post1_b,
                          .added_TC = s->layers[index].added1_TC};
}

static NAME(addend) NAME(of_feedforward)(const NAME(state) * s, int64_t index)
{
    const oracle_layer *at = &s->o->layers[index];
    return (NAME(addend)){.layer = index,
                          .place = 2,
                          .in = s->o->config.hidden,
                          .w = at->down_w,
                          .b = at->down_b,
                          .norm_w = at->post2_w,
                          .norm_b = at->post2_b,
                          .added_TC = s->layers[index].added2_TC};
}

/* s->x becomes the layer's output. */
static void NAME(layer)(const NAME(state) * s, int64_t index)
{
    const fur_model_config *c = &s->o->config;
    const oracle_layer *at = &s->o->layers[index];
    const NAME(trace) *l = &s->layers[index];
    const NAME(addend) attention = NAME(of_attention)(s, index), feedforward = NAME(of_feedforward)(s, index);
    int64_t C = c->width, q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    size_t bytes = (size_t)(s->T * C) * sizeof(REAL);
    memcpy(l->x_TC, s->x_TC, bytes);
    NAME(norm)(s, NAME(outer_norm)(&s->o->config), at->norm1_w, at->norm1_b, l->x_TC, l->h1_TC);
    NAME(linear)(s, C, q, at->q_w, at->q_b, l->h1_TC, 0, l->q_TQ);
    NAME(linear)(s, C, k, at->k_w, at->k_b, l->h1_TC, 0, l->k_TK);
    NAME(linear)(s, C, k, at->v_w, at->v_b, l->h1_TC, 0, l->v_TK);
    memcpy(l->q_raw_TQ, l->q_TQ, (size_t)(s->T * q) * sizeof(REAL));
    memcpy(l->k_raw_TK, l->k_TK, (size_t)(s->T * k) * sizeof(REAL));
    NAME(norm_heads)(s, at->q_norm, c->heads, l->q_raw_TQ, l->q_TQ);
    NAME(norm_heads)(s, at->k_norm, c->kv_heads, l->k_raw_TK, l->k_TK);
    NAME(rotate)(s, index, c->heads, 0, l->q_TQ);
    NAME(rotate)(s, index, c->kv_heads, 0, l->k_TK);
    NAME(attention)(s, l);
    NAME(add)(s, &attention, l->o_TQ, s->x_TC);
    memcpy(l->mid_TC, s->x_TC, bytes);
    NAME(norm)(s, NAME(outer_norm)(&s->o->config), at->norm2_w, at->norm2_b, l->mid_TC, l->h2_TC);
    if (NAME(is_gated)(s))
        NAME(linear)(s, C, c->hidden, at->gate_w, at->gate_b, l->h2_TC, 0, l->gate_TF);
    NAME(linear)(s, C, c->hidden, at->up_w, at->up_b, l->h2_TC, 0, l->up_TF);
    NAME(activate)(s, at, l);
    NAME(add)(s, &feedforward, l->g_TF, s->x_TC);
}

/* s->dx, gradient by the layer's output, becomes that by its input. */
static void NAME(layer_backward)(const NAME(state) * s, int64_t index)
{
    const fur_model_config *c = &s->o->config;
    const oracle_layer *at = &s->o->layers[index];
    const NAME(trace) *l = &s->layers[index];
    const NAME(addend) attention = NAME(of_attention)(s, index), feedforward = NAME(of_feedforward)(s, index);
    int64_t T = s->T, C = c->width, q = c->heads * c->head_dim, k = c->kv_heads * c->head_dim;
    REAL *dg = NAME(numbers)(T * c->hidden), *dgate = NAME(numbers)(T * c->hidden), *dup = NAME(numbers)(T * c->hidden);
    REAL *dh2 = NAME(numbers)(T * C), *dh1 = NAME(numbers)(T * C), *grad = NAME(numbers)(T * q);
    REAL *dq = NAME(numbers)(T * q), *dk = NAME(numbers)(T * k), *dv = NAME(numbers)(T * k);
    NAME(add_backward)(s, &feedforward, l->g_TF, s->dx_TC, dg);
    NAME(activate_backward)(s, at, l, dg, dgate, dup);
    if (NAME(is_gated)(s))
        NAME(linear_backward)(s, C, c->hidden, at->gate_w, at->gate_b, l->h2_TC, dgate, dh2);
    NAME(linear_backward)(s, C, c->hidden, at->up_w, at->up_b, l->h2_TC, dup, dh2);
    NAME(norm_backward)(s, NAME(outer_norm)(&s->o->config), at->norm2_w, at->norm2_b, l->mid_TC, dh2, s->dx_TC);
    NAME(add_backward)(s, &attention, l->o_TQ, s->dx_TC, grad);
    NAME(attention_backward)(s, l, grad, dq, dk, dv);
    NAME(rotate)(s, index, c->heads, 1, dq);
    NAME(rotate)(s, index, c->kv_heads, 1, dk);
    NAME(norm_heads_backward)(s, at->q_norm, c->heads, l->q_raw_TQ, dq);
    NAME(norm_heads_backward)(s, at->k_norm, c->kv_heads, l->k_raw_TK, dk);
    NAME(linear_backward)(s, C, q, at->q_w, at->q_b, l->h1_TC, dq, dh1);
    NAME(linear_backward)(s, C, k, at->k_w, at->k_b, l->h1_TC, dk, dh1);
    NAME(linear_backward)(s, C, k, at->v_w, at->v_b, l->h1_TC, dv, dh1);
    NAME(norm_backward)(s, NAME(outer_norm)(&s->o->config), at->norm1_w, at->norm1_b, l->x_TC, dh1, s->dx_TC);
    REAL *all[] = {dg, dgate, dup, dh2, dh1, grad, dq, dk, dv};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* ---- input ------------------------------------------------------------------------------------------------------- */

static REAL *NAME(real_input)(const NAME(state) * s)
{
    int64_t count = s->T * s->o->config.features;
    REAL *x = NAME(numbers)(count);
    for (int64_t i = 0; i < count; i++)
        x[i] = (REAL)s->row->x_TI[i];
    return x;
}

static REAL NAME(embedding_scale)(const fur_model_config *c)
{
    return c->scaled_embedding ? (REAL)sqrt((double)c->width) : 1;
}

static void NAME(input)(const NAME(state) * s)
{
    const fur_model_config *c = &s->o->config;
    if (c->features) {
        REAL *x = NAME(real_input)(s);
        NAME(linear)(s, c->features, c->width, s->o->input_w, s->o->input_b, x, 0, s->x_TC);
        free(x);
    }
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t i = 0; i < c->width; i++) {
            if (!c->features)
                s->x_TC[t * c->width + i] =
                    NAME(embedding_scale)(c) * s->w[s->o->embedding.index][s->row->ids_T[t] * c->width + i];
            if (c->position == FUR_POSITION_LEARNED)
                s->x_TC[t * c->width + i] += s->w[s->o->positions.index][s->position_T[t] * c->width + i];
        }
}

static void NAME(add_row)(const NAME(state) * s, int64_t index, int64_t row, REAL scale, const REAL *dx_C)
{
    int64_t C = s->o->config.width;
    for (int64_t i = 0; i < C; i++) {
        s->dw[index][row * C + i] += scale * dx_C[i];
        s->terms[index][row * C + i] += fabs((double)scale * (double)dx_C[i]);
    }
}

static void NAME(input_backward)(const NAME(state) * s, double *dx_TI)
{
    const fur_model_config *c = &s->o->config;
    for (int64_t t = 0; t < s->T; t++) {
        const REAL *dx = s->dx_TC + t * c->width;
        if (!c->features)
            NAME(add_row)(s, s->o->embedding.index, s->row->ids_T[t], NAME(embedding_scale)(c), dx);
        if (c->position == FUR_POSITION_LEARNED)
            NAME(add_row)(s, s->o->positions.index, s->position_T[t], 1, dx);
    }
    int64_t wide = c->features ? c->features : c->width;
    REAL *dx = s->dx_TC;
    if (c->features) {
        REAL *x = NAME(real_input)(s);
        dx = NAME(numbers)(s->T * c->features);
        NAME(linear_backward)(s, c->features, c->width, s->o->input_w, s->o->input_b, x, s->dx_TC, dx);
        free(x);
    }
    for (int64_t i = 0; i < s->T * wide; i++)
        dx_TI[i] = (double)dx[i];
    if (dx != s->dx_TC)
        free(dx);
}

/* ---- losses ------------------------------------------------------------------------------------------------------ */

static double NAME(cross_entropy)(const NAME(state) * s, double weight, REAL *dy_TV, double *nll_T)
{
    int64_t V = s->o->config.vocabulary, counted = 0;
    double total = 0;
    for (int64_t t = 0; t < s->T; t++)
        counted += s->row->target_T[t] >= 0;
    for (int64_t t = 0; t < s->T; t++) {
        const REAL *y = s->y_TO + t * V;
        int32_t target = s->row->target_T[t];
        nll_T[t] = (double)NAN;
        if (target < 0)
            continue;
        REAL max = y[0], sum = 0;
        for (int64_t v = 1; v < V; v++)
            max = y[v] > max ? y[v] : max;
        for (int64_t v = 0; v < V; v++)
            sum += R_EXP(y[v] - max);
        REAL lse = max + R_LOG(sum);
        nll_T[t] = (double)(lse - y[target]);
        total += nll_T[t];
        for (int64_t v = 0; v < V; v++)
            dy_TV[t * V + v] = (REAL)(weight / (double)counted) * (R_EXP(y[v] - lse) - (REAL)(v == target));
    }
    return counted ? total / (double)counted : 0;
}

static double NAME(squared_error)(const NAME(state) * s, double weight, REAL *dy_TO, double *nll_T)
{
    int64_t O = s->o->config.outputs, counted = 0;
    double total = 0;
    for (int64_t t = 0; t < s->T; t++)
        counted += !isnan(s->row->target_TO[t * O]);
    for (int64_t t = 0; t < s->T; t++) {
        const float *target = s->row->target_TO + t * O;
        nll_T[t] = (double)NAN;
        if (isnan(target[0]))
            continue;
        nll_T[t] = 0;
        for (int64_t j = 0; j < O; j++) {
            REAL difference = s->y_TO[t * O + j] - (REAL)target[j];
            nll_T[t] += (double)(difference * difference) / (double)O;
            dy_TO[t * O + j] = (REAL)(2 * weight / ((double)counted * (double)O)) * difference;
        }
        total += nll_T[t];
    }
    return counted ? total / (double)counted : 0;
}

/* dh becomes the gradient by the hidden state after the final norm. */
static double NAME(loss)(const NAME(state) * s, oracle_loss_fn loss, void *user, double weight, double *nll_T,
                         REAL *dh_TC)
{
    int64_t count = s->T * s->o->config.width,
            outputs = s->o->config.features ? s->o->config.outputs : s->o->config.vocabulary;
    double value;
    if (loss) {
        double *h = grab((size_t)count, sizeof *h), *dh = grab((size_t)count, sizeof *dh);
        for (int64_t i = 0; i < count; i++)
            h[i] = (double)s->h_TC[i];
        value = loss(user, s->T, s->o->config.width, h, dh);
        for (int64_t i = 0; i < count; i++)
            dh_TC[i] = (REAL)(weight * dh[i]);
        free(h);
        free(dh);
        return value;
    }
    if (s->o->config.features ? !s->row->target_TO : !s->row->target_T)
        return 0;
    REAL *dy = NAME(numbers)(s->T * outputs);
    value =
        s->o->config.features ? NAME(squared_error)(s, weight, dy, nll_T) : NAME(cross_entropy)(s, weight, dy, nll_T);
    REAL logit_cap = (REAL)s->o->config.logit_softcap;
    for (int64_t i = 0; logit_cap > 0 && i < s->T * outputs; i++)
        dy[i] *= 1 - s->y_TO[i] / logit_cap * (s->y_TO[i] / logit_cap);
    NAME(linear_backward)(s, s->o->config.width, outputs, s->o->head, (oracle_slice){-1, 0}, s->h_TC, dy, dh_TC);
    free(dy);
    return value;
}

static void NAME(head)(const NAME(state) * s, oracle_output *out)
{
    int64_t C = s->o->config.width, O = out->outputs;
    const REAL *w = NAME(weights)(s, s->o->head, C);
    REAL cap = (REAL)s->o->config.logit_softcap;
    NAME(linear)(s, C, O, s->o->head, (oracle_slice){-1, 0}, s->h_TC, 0, s->y_TO);
    for (int64_t i = 0; cap > 0 && i < s->T * O; i++)
        s->y_TO[i] = cap * R_TANH(s->y_TO[i] / cap);
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t j = 0; j < O; j++) {
            out->y_TO[t * O + j] = (double)s->y_TO[t * O + j];
            for (int64_t i = 0; i < C; i++)
                out->y_terms_TO[t * O + j] += fabs((double)s->h_TC[t * C + i] * (double)w[j * C + i]);
        }
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

static void NAME(state_create)(const oracle *o, const fur_row *row, oracle_output *out, NAME(state) * s)
{
    int64_t T = out->tokens, count = T * o->config.width;
    *s = (NAME(state)){.o = o, .row = row, .T = T, .terms = out->terms};
    s->document_T = grab((size_t)T, sizeof *s->document_T);
    s->position_T = grab((size_t)T, sizeof *s->position_T);
    place_tokens(row, s->document_T, s->position_T);
    s->w = grab((size_t)o->parameters, sizeof *s->w);
    s->dw = grab((size_t)o->parameters, sizeof *s->dw);
    for (int64_t i = 0; i < o->parameters; i++) {
        s->w[i] = NAME(numbers)(o->info[i].count);
        s->dw[i] = NAME(numbers)(o->info[i].count);
        for (int64_t j = 0; j < o->info[i].count; j++)
            s->w[i][j] = (REAL)o->value[i][j];
    }
    s->layers = grab((size_t)o->config.layers, sizeof *s->layers);
    for (int64_t layer = 0; layer < o->config.layers; layer++) {
        NAME(trace_create)(s, &s->layers[layer]);
        s->layers[layer].index = layer;
    }
    s->x_TC = NAME(numbers)(count);
    s->h_TC = NAME(numbers)(count);
    s->dx_TC = NAME(numbers)(count);
    s->y_TO = NAME(numbers)(T * out->outputs);
}

static void NAME(state_destroy)(NAME(state) * s)
{
    for (int64_t layer = 0; layer < s->o->config.layers; layer++)
        NAME(trace_destroy)(&s->layers[layer]);
    for (int64_t i = 0; i < s->o->parameters; i++) {
        free(s->w[i]);
        free(s->dw[i]);
    }
    void *all[] = {s->layers, s->w, s->dw, s->document_T, s->position_T, s->x_TC, s->h_TC, s->dx_TC, s->y_TO};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

static void NAME(run)(const oracle *o, const fur_row *row, oracle_loss_fn loss, void *user, double weight, int backward,
                      oracle_output *out)
{
    NAME(state) s;
    NAME(state_create)(o, row, out, &s);
    NAME(input)(&s);
    NAME(drop)(&s, 0, 3, s.x_TC);
    for (int64_t layer = 0; layer < o->config.layers; layer++)
        NAME(layer)(&s, layer);
    NAME(norm)(&s, NAME(outer_norm)(&o->config), o->final_w, o->final_b, s.x_TC, s.h_TC);
    NAME(head)(&s, out);
    REAL *dh = NAME(numbers)(s.T * o->config.width);
    out->loss = NAME(loss)(&s, loss, user, weight, out->nll_T, dh);
    if (backward) {
        NAME(norm_backward)(&s, NAME(outer_norm)(&o->config), o->final_w, o->final_b, s.x_TC, dh, s.dx_TC);
        for (int64_t layer = o->config.layers - 1; layer >= 0; layer--)
            NAME(layer_backward)(&s, layer);
        NAME(drop)(&s, 0, 3, s.dx_TC);
        NAME(input_backward)(&s, out->dx_TI);
        for (int64_t i = 0; i < o->parameters; i++)
            for (int64_t j = 0; j < o->info[i].count; j++)
                out->gradient[i][j] = (double)s.dw[i][j];
    }
    free(dh);
    NAME(state_destroy)(&s);
}
