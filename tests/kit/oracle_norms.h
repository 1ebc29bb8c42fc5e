/* SPDX-License-Identifier: Apache-2.0 */
/* Norms of rows and of heads. Part of oracle_body.h, over the same REAL; no guard. */

/* A row of `width` numbers: one of a layer's norms, or the LayerNorm inside the feedforward. */
typedef struct NAME(normed) {
    int64_t width;
    int layernorm;
    REAL offset; /* of weights from what is stored */
} NAME(normed);

static NAME(normed) NAME(outer_norm)(const fur_model_config *c)
{
    return (NAME(normed)){c->width, c->norm == FUR_NORM_LAYERNORM, c->norm_offset};
}

static NAME(normed) NAME(inner_norm)(const fur_model_config *c)
{
    return (NAME(normed)){c->hidden, 1, 0};
}

static void NAME(norm_statistics)(const fur_model_config *c, NAME(normed) rows, const REAL *x_C, REAL *mean, REAL *r)
{
    REAL n = (REAL)rows.width, sum = 0, squares = 0;
    for (int64_t i = 0; i < rows.width; i++)
        sum += x_C[i];
    *mean = rows.layernorm ? sum / n : 0;
    for (int64_t i = 0; i < rows.width; i++)
        squares += (x_C[i] - *mean) * (x_C[i] - *mean);
    *r = 1 / R_SQRT(squares / n + (REAL)c->norm_eps);
}

static void NAME(norm)(const NAME(state) * s, NAME(normed) rows, oracle_slice w_at, oracle_slice b_at, const REAL *x_TC,
                       REAL *y_TC)
{
    const fur_model_config *c = &s->o->config;
    const REAL *w = NAME(weights)(s, w_at, 1), *b = NAME(weights)(s, b_at, 1);
    for (int64_t t = 0; t < s->T; t++) {
        REAL mean, r;
        NAME(norm_statistics)(c, rows, x_TC + t * rows.width, &mean, &r);
        for (int64_t i = 0; i < rows.width; i++) {
            REAL y = (x_TC[t * rows.width + i] - mean) * r * (rows.offset + w[i]);
            y_TC[t * rows.width + i] = b ? y + b[i] : y;
        }
    }
}

/* dx += */
static void NAME(norm_backward)(const NAME(state) * s, NAME(normed) rows, oracle_slice w_at, oracle_slice b_at,
                                const REAL *x_TC, const REAL *dy_TC, REAL *dx_TC)
{
    const fur_model_config *c = &s->o->config;
    const REAL *w = NAME(weights)(s, w_at, 1);
    REAL n = (REAL)rows.width;
    for (int64_t t = 0; t < s->T; t++) {
        const REAL *x = x_TC + t * rows.width, *dy = dy_TC + t * rows.width;
        REAL mean, r, g_sum = 0, gx_sum = 0;
        NAME(norm_statistics)(c, rows, x, &mean, &r);
        for (int64_t i = 0; i < rows.width; i++) {
            REAL hat = (x[i] - mean) * r;
            g_sum += dy[i] * (rows.offset + w[i]);
            gx_sum += dy[i] * (rows.offset + w[i]) * hat;
            s->dw[w_at.index][i] += dy[i] * hat;
            s->terms[w_at.index][i] += fabs((double)dy[i] * (double)hat);
            if (b_at.index >= 0) {
                s->dw[b_at.index][i] += dy[i];
                s->terms[b_at.index][i] += fabs((double)dy[i]);
            }
        }
        REAL g_mean = rows.layernorm ? g_sum / n : 0;
        for (int64_t i = 0; i < rows.width; i++) {
            REAL hat = (x[i] - mean) * r;
            dx_TC[t * rows.width + i] += r * (dy[i] * (rows.offset + w[i]) - g_mean - hat * gx_sum / n);
        }
    }
}

/* RMSNorm of each head, and its gradient by x in place of that by y; nothing without a weight. */
static void NAME(norm_heads)(const NAME(state) * s, oracle_slice w_at, int64_t heads, const REAL *x_THD, REAL *y_THD)
{
    const fur_model_config *c = &s->o->config;
    int64_t D = c->head_dim;
    const REAL *w = NAME(weights)(s, w_at, 1), offset = c->norm_offset;
    for (int64_t t = 0; w && t < s->T * heads; t++) {
        REAL squares = 0;
        for (int64_t d = 0; d < D; d++)
            squares += x_THD[t * D + d] * x_THD[t * D + d];
        REAL r = 1 / R_SQRT(squares / (REAL)D + (REAL)c->norm_eps);
        for (int64_t d = 0; d < D; d++)
            y_THD[t * D + d] = x_THD[t * D + d] * r * (offset + w[d]);
    }
}

static void NAME(norm_heads_backward)(const NAME(state) * s, oracle_slice w_at, int64_t heads, const REAL *x_THD,
                                      REAL *dy_THD)
{
    const fur_model_config *c = &s->o->config;
    int64_t D = c->head_dim;
    const REAL *w = NAME(weights)(s, w_at, 1), offset = c->norm_offset;
    for (int64_t t = 0; w && t < s->T * heads; t++) {
        const REAL *x = x_THD + t * D;
        REAL *dy = dy_THD + t * D, squares = 0, sum = 0;
        for (int64_t d = 0; d < D; d++)
            squares += x[d] * x[d];
        REAL r = 1 / R_SQRT(squares / (REAL)D + (REAL)c->norm_eps);
        for (int64_t d = 0; d < D; d++) {
            s->dw[w_at.index][d] += dy[d] * x[d] * r;
            s->terms[w_at.index][d] += fabs((double)(dy[d] * x[d] * r));
            sum += dy[d] * (offset + w[d]) * x[d] * r;
        }
        for (int64_t d = 0; d < D; d++)
            dy[d] = r * (dy[d] * (offset + w[d]) - x[d] * r * sum / (REAL)D);
    }
}
