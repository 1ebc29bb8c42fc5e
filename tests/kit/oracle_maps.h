/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of one token's vector, dense and by look-up. Part of oracle_body.h, over the same REAL and OPERAND; no guard. */

/* One look-up: the table's row, its weight, and the weight's slope by each number of the chunk z. */
static int64_t NAME(look_up)(const oracle *o, int64_t bits, const REAL *z, int flip, REAL *weight, REAL *slope)
{
    double t = o->config.lookup_temperature;
    bool released = !(t > 0);
    REAL scale = 2 / (released ? (REAL)1 : (REAL)t), product = 1, sum = 0, least = 0;
    int64_t row = 0, weakest = 0;
    for (int64_t i = 0; i < bits; i++) {
        REAL m = R_ABS(z[i]);
        row = 2 * row + (z[i] >= 0);
        product *= 1 / (1 + R_EXP(-scale * m));
        sum += m;
        if (i == 0 || m < least) {
            least = m;
            weakest = i;
        }
    }
    if (flip) { /* the share of the row across the nearest change of sign */
        product *= R_EXP(-scale * least);
        sum -= 2 * least;
    }
    *weight = (released ? sum : 1) * product;
    for (int64_t i = 0; i < bits; i++) {
        REAL fall = 1 - 1 / (1 + R_EXP(-scale * R_ABS(z[i])));
        REAL by_m = released ? product * (1 + scale * sum * fall) : product * scale * fall;
        if (flip && i == weakest)
            by_m = released ? -product * (1 + scale * sum * (1 - fall)) : -product * scale * (1 - fall);
        slope[i] = z[i] >= 0 ? by_m : -by_m;
    }
    return flip ? row ^ (int64_t)1 << (bits - 1 - weakest) : row;
}

static int64_t NAME(bits_of)(int64_t in, int64_t rows)
{
    int64_t bits = 1;
    while (in / bits << bits != rows)
        bits++;
    return bits;
}

/* Tiles as fur_parameter_info has them: 64 columns, all rows of all tables, the next 64 columns. */
static int64_t NAME(tile_at)(int64_t rows, int64_t row, int64_t column)
{
    return (column / FUR_LOOKUP_TILE * rows + row) * FUR_LOOKUP_TILE + column % FUR_LOOKUP_TILE;
}

static void NAME(lookup)(const NAME(state) * s, int64_t in, int64_t out, oracle_slice w_at, oracle_slice b_at,
                         const REAL *x_TI, REAL *y_TO)
{
    const REAL *w = s->w[w_at.index], *b = NAME(weights)(s, b_at, 1);
    int64_t rows = s->o->info[w_at.index].shape[0], bits = NAME(bits_of)(in, rows);
    for (int64_t t = 0; t < s->T; t++) {
        for (int64_t j = 0; j < out; j++)
            y_TO[t * out + j] = b ? b[j] : 0;
        for (int64_t k = 0; k < in / bits; k++)
            for (int flip = 0; flip <= (int)s->o->config.lookup_two_rows; flip++) {
                REAL weight, slope[16];
                int64_t row = NAME(look_up)(s->o, bits, x_TI + t * in + k * bits, flip, &weight, slope);
                for (int64_t j = 0; j < out; j++)
                    y_TO[t * out + j] += weight * w[NAME(tile_at)(rows, (k << bits) + row, j)];
            }
    }
}

static void NAME(lookup_backward)(const NAME(state) * s, int64_t in, int64_t out, oracle_slice w_at, oracle_slice b_at,
                                  const REAL *x_TI, const REAL *dy_TO, REAL *dx_TI)
{
    const REAL *w = s->w[w_at.index];
    int64_t rows = s->o->info[w_at.index].shape[0], bits = NAME(bits_of)(in, rows);
    for (int64_t t = 0; t < s->T; t++) {
        const REAL *dy = dy_TO + t * out;
        for (int64_t j = 0; b_at.index >= 0 && j < out; j++) {
            s->dw[b_at.index][j] += dy[j];
            s->terms[b_at.index][j] += fabs((double)dy[j]);
        }
        for (int64_t k = 0; k < in / bits; k++)
            for (int flip = 0; flip <= (int)s->o->config.lookup_two_rows; flip++) {
                REAL weight, slope[16], g = 0;
                int64_t row = NAME(look_up)(s->o, bits, x_TI + t * in + k * bits, flip, &weight, slope);
                for (int64_t j = 0; j < out; j++) {
                    int64_t at = NAME(tile_at)(rows, (k << bits) + row, j);
                    g += dy[j] * w[at];
                    s->dw[w_at.index][at] += weight * dy[j];
                    s->terms[w_at.index][at] += fabs((double)weight * (double)dy[j]);
                }
                for (int64_t i = 0; i < bits; i++)
                    dx_TI[t * in + k * bits + i] += g * slope[i];
            }
    }
}

/* y (+)= x w^T + b */
static void NAME(linear)(const NAME(state) * s, int64_t in, int64_t out, oracle_slice w_at, oracle_slice b_at,
                         const REAL *x_TI, int add, REAL *y_TO)
{
    const REAL *w = NAME(weights)(s, w_at, in), *b = NAME(weights)(s, b_at, 1);
    if (s->o->info[w_at.index].table) {
        NAME(lookup)(s, in, out, w_at, b_at, x_TI, y_TO);
        return;
    }
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t j = 0; j < out; j++) {
            REAL sum = 0;
            for (int64_t i = 0; i < in; i++)
                sum += OPERAND(x_TI[t * in + i]) * OPERAND(w[j * in + i]);
            if (b)
                sum += b[j];
            y_TO[t * out + j] = add ? y_TO[t * out + j] + sum : sum;
        }
}

/* dw += dy^T x, db += sum dy, dx += dy w */
static void NAME(linear_backward)(const NAME(state) * s, int64_t in, int64_t out, oracle_slice w_at, oracle_slice b_at,
                                  const REAL *x_TI, const REAL *dy_TO, REAL *dx_TI)
{
    if (s->o->info[w_at.index].table) {
        NAME(lookup_backward)(s, in, out, w_at, b_at, x_TI, dy_TO, dx_TI);
        return;
    }
    const REAL *w = NAME(weights)(s, w_at, in);
    REAL *dw = s->dw[w_at.index] + w_at.row * in;
    double *terms = s->terms[w_at.index] + w_at.row * in;
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t j = 0; j < out; j++) {
            REAL dy = dy_TO[t * out + j];
            for (int64_t i = 0; i < in; i++) {
                dw[j * in + i] += OPERAND(dy) * OPERAND(x_TI[t * in + i]);
                terms[j * in + i] += fabs((double)dy * (double)x_TI[t * in + i]);
            }
            if (b_at.index >= 0) {
                s->dw[b_at.index][b_at.row + j] += dy;
                s->terms[b_at.index][b_at.row + j] += fabs((double)dy);
            }
        }
    for (int64_t t = 0; t < s->T; t++)
        for (int64_t i = 0; i < in; i++) {
            REAL sum = 0;
            for (int64_t j = 0; j < out; j++)
                sum += OPERAND(dy_TO[t * out + j]) * OPERAND(w[j * in + i]);
            dx_TI[t * in + i] += sum;
        }
}
