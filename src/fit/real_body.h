/* SPDX-License-Identifier: Apache-2.0 */
/* Curvature in one type: REAL is float or double, GEMM, GEMV and EXP_MUL, EXP its functions. Included once for each. */

static void narrow(const double *from, int64_t count, void *to)
{
    for (int64_t i = 0; i < count; i++)
        ((REAL *)to)[i] = (REAL)from[i];
}

/* out [m, n], leading dimension ld, += a^T b over the rows of a tile */
static void add_over_rows(int64_t m, int64_t n, int64_t rows, const REAL *a, const REAL *b, REAL *part, double *out,
                          int64_t ld)
{
    GEMM(true, false, m, n, rows, 1, a, m, b, n, 0, part, n);
    for (int64_t i = 0; i < m; i++)
        for (int64_t c = 0; c < n; c++)
            out[i * ld + c] += (double)part[i * n + c];
}

static const REAL *keys_of(const fit_problem *p, const fit_curvature *c, int64_t key)
{
    return (const REAL *)c->k + key * p->d2;
}

static void refresh(const fit_problem *p, const double *x, const fit_point *point, fit_curvature *c)
{
    int64_t D2 = fit_d2(p), D3 = fit_d3(p), width = p->heads * p->dv, steps = (p->m + p->tile_keys - 1) / p->tile_keys;
#pragma omp parallel for schedule(static) num_threads(p->exec->threads)
    for (int64_t i = 0; i < steps; i++) {
        fit_scratch *s = &p->scratch[omp_get_thread_num()];
        int64_t key = i * p->tile_keys, count = p->m - key < p->tile_keys ? p->m - key : p->tile_keys;
        if (!c->keys_ready)
            narrow(fit_rows(&p->k, key, count, s->raw, s->k), count * p->d2, (REAL *)c->k + key * p->d2);
        const double *v = fit_rows(&p->v, key, count, s->raw, s->v);
        if (!c->keys_ready && c->v)
            narrow(v, count * p->d3, (REAL *)c->v + key * p->d3);
        for (int64_t row = 0; row < count; row += p->tile_rows) { /* s->o holds tile_rows rows */
            int64_t now = count - row < p->tile_rows ? count - row : p->tile_rows;
            for (int64_t h = 0; h < p->heads; h++) {
                REAL *to = (REAL *)c->vy + (key + row) * width + h * p->dv;
                fur_la_gemm_f64(false, false, now, p->dv, p->d3, 1, v + row * p->d3, p->d3,
                                point->y + h * p->d3 * p->dv, p->dv, 0, s->o, p->dv);
                for (int64_t r = 0; r < now; r++)
                    narrow(s->o + r * p->dv, p->dv, to + r * width);
            }
        }
    }
    c->keys_ready = true;
    fit_y_given(p, point->y, c->given);
    for (int64_t h = 0; h < p->heads && c->twice; h++) { /* inputs less their mean are k back^T */
        const double *given = c->given + h * p->v.raw->width * p->dv;
        for (int64_t row = 0; row < p->d2; row += p->tile_rows) {
            int64_t now = p->d2 - row < p->tile_rows ? p->d2 - row : p->tile_rows;
            fur_la_gemm_f64(true, false, now, p->dv, p->k.raw->width, 1, p->k.back + row, p->d2, given, p->dv, 0,
                            p->scratch[0].o, p->dv);
            narrow(p->scratch[0].o, now * p->dv, (REAL *)c->turn + (h * p->d2 + row) * p->dv);
        }
    }
#pragma omp parallel for schedule(static) num_threads(p->exec->threads)
    for (int64_t t = 0; t < p->train.count; t++) {
        const fit_tile *tile = &p->train.at[t];
        fit_scratch *s = &p->scratch[omp_get_thread_num()];
        const double *a = fit_rows(&p->a, tile->row, tile->rows, s->raw, s->a);
        fur_la_gemm_f64(false, false, tile->rows, D2, p->d1, 1, a, p->d1, x, D2, 0, s->u, D2);
        narrow(s->u, tile->rows * D2, (REAL *)c->u + tile->row * D2);
        for (int64_t h = 0; h < p->heads; h++) {
            fur_la_gemm_f64(false, false, tile->rows, p->dv, D3, 1, point->q + tile->row * D3, D3,
                            point->o + h * D3 * p->dv, p->dv, 0, s->o, p->dv);
            for (int64_t i = 0; i < tile->rows; i++)
                narrow(s->o + i * p->dv, p->dv, (REAL *)c->o + (tile->row + i) * width + h * p->dv);
        }
    }
}

/* ---- G of rows ----------------------------------------------------------------------------------------------------
 */

/* kr [K, d2, columns]: key times columns first.. of v Y */
static void keys_times_values(const fit_problem *p, int64_t K, const REAL *k, const REAL *vy, int64_t first,
                              int64_t columns, REAL *kr)
{
    for (int64_t j = 0; j < K; j++)
        for (int64_t i = 0; i < p->d2; i++) {
            REAL x = k[j * p->d2 + i], *to = kr + (j * p->d2 + i) * columns;
            const REAL *values = vy + j * p->heads * p->dv + first;
            for (int64_t c = 0; c < columns; c++)
                to[c] = x * values[c];
        }
}

/* kr [K, columns]: products of entries i and e >= i of a key, for i from first to end-1 */
static void keys_times_keys(const fit_problem *p, int64_t K, const REAL *k, int64_t first, int64_t end, int64_t columns,
                            REAL *kr)
{
    for (int64_t j = 0; j < K; j++) {
        REAL *to = kr + j * columns;
        for (int64_t i = first; i < end; i++) {
            const REAL *key = k + j * p->d2;
            for (int64_t e = i; e < p->d2; e++)
                to[e - i] = key[i] * key[e];
            to += p->d2 - i;
        }
    }
}

/* Adds weighted sums of k k^T to cov [count, d2 (d2 + 1) / 2], upper triangle row by row, some rows of it at a time. */
static void add_squares(const fit_problem *p, const fit_curvature *c, int64_t count, int64_t K, const REAL *weights,
                        const REAL *k, REAL *kr, REAL *cov)
{
    int64_t most = c->value_columns * p->d2, whole = p->d2 * (p->d2 + 1) / 2, at = 0;
    for (int64_t first = 0, end; first < p->d2; first = end) {
        int64_t columns = 0;
        for (end = first; end < p->d2 && columns + p->d2 - end <= most; end++)
            columns += p->d2 - end;
        keys_times_keys(p, K, k, first, end, columns, kr);
        GEMM(false, false, count, columns, K, 1, weights, K, kr, columns, 1, cov + at, whole);
        at += columns;
    }
}

/* g [d2, dv], leading dimension dv, = w Cov(k, k) turn of one row from its sums. */
static void turn_squares(const fit_problem *p, const REAL *sums, const REAL *mean, REAL w, const REAL *turn,
                         REAL *square, REAL *g)
{
    for (int64_t i = 0; i < p->d2; i++)
        for (int64_t e = i; e < p->d2; e++)
            square[e * p->d2 + i] = square[i * p->d2 + e] = w * (*sums++ - mean[i] * mean[e]);
    GEMM(false, false, p->d2, p->dv, p->d2, 1, square, p->d2, turn, p->dv, 0, g, p->dv);
}

/* Of one head and at most cov_rows rows. cov is [count, column blocks, d2, columns], or add_squares's. */
static void rows_of_head(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                         int64_t head, int64_t count, const int64_t *row, const double *scale, fit_real_scratch *s,
                         REAL *g)
{
    int64_t D2 = fit_d2(p), wide = p->d2 * p->dv, width = p->heads * p->dv;
    REAL *u = s->t, *weights = s->s, *cov = s->cov, *mk = s->mk, *mv = s->mv;
    int64_t most = 0;
    memset(cov, 0, (size_t)(count * (c->twice ? p->d2 * (p->d2 + 1) / 2 : wide)) * sizeof *cov);
    memset(mk, 0, (size_t)(count * p->d2) * sizeof *mk);
    memset(mv, 0, (size_t)(count * p->dv) * sizeof *mv);
    for (int64_t i = 0; i < count; i++) {
        memcpy(u + i * p->d2, (const REAL *)c->u + (tile->row + row[i]) * D2 + head * p->d2, (size_t)p->d2 * sizeof *u);
        int64_t sees = fit_visible(p, tile, row[i]);
        most = sees > most ? sees : most;
    }
    for (int64_t key = 0; key < most; key += p->tile_keys) {
        int64_t K = most - key < p->tile_keys ? most - key : p->tile_keys;
        const REAL *k = keys_of(p, c, tile->key + key);
        const REAL *vy = (const REAL *)c->vy + (tile->key + key) * width + head * p->dv;
        GEMM(false, true, count, K, p->d2, 1, u, p->d2, k, p->d2, 0, weights, K);
        for (int64_t i = 0; i < count; i++) {
            int64_t sees = fit_visible(p, tile, row[i]) - key;
            sees = sees < 0 ? 0 : sees > K ? K : sees;
            (void)EXP(sees, weights + i * K, (REAL)point->lse[head * p->n + tile->row + row[i]]);
            memset(weights + i * K + sees, 0, (size_t)(K - sees) * sizeof *weights);
        }
        GEMM(false, false, count, p->d2, K, 1, weights, K, k, p->d2, 1, mk, p->d2);
        if (c->twice) {
            add_squares(p, c, count, K, weights, k, s->kr, cov);
            continue;
        }
        GEMM(false, false, count, p->dv, K, 1, weights, K, vy, width, 1, mv, p->dv);
        for (int64_t first = 0; first < p->dv; first += c->value_columns) {
            int64_t columns = p->dv - first < c->value_columns ? p->dv - first : c->value_columns;
            keys_times_values(p, K, k, vy, first, columns, s->kr);
            GEMM(false, false, count, p->d2 * columns, K, 1, weights, K, s->kr, p->d2 * columns, 1, cov + first * p->d2,
                 wide);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        REAL w = (REAL)(fit_root_w(p, tile->row + row[i]) * (scale ? scale[i] : 1));
        if (c->twice) {
            turn_squares(p, cov + i * (p->d2 * (p->d2 + 1) / 2), mk + i * p->d2, w, (const REAL *)c->turn + head * wide,
                         s->square, g + (i * D2 + head * p->d2) * p->dv);
            continue;
        }
        for (int64_t first = 0; first < p->dv; first += c->value_columns) {
            int64_t columns = p->dv - first < c->value_columns ? p->dv - first : c->value_columns;
            const REAL *from = cov + i * wide + first * p->d2;
            for (int64_t r = 0; r < p->d2; r++) {
                REAL *to = g + (i * D2 + head * p->d2 + r) * p->dv + first, m = mk[i * p->d2 + r];
                for (int64_t b = 0; b < columns; b++)
                    to[b] = w * (from[r * columns + b] - m * mv[i * p->dv + first + b]);
            }
        }
    }
}

static void rows(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                 int64_t count, const int64_t *row, const double *scale, int thread, void *g)
{
    for (int64_t at = 0; at < count; at += c->cov_rows) {
        int64_t now = count - at < c->cov_rows ? count - at : c->cov_rows;
        for (int64_t h = 0; h < p->heads; h++)
            rows_of_head(p, point, c, tile, h, now, row + at, scale ? scale + at : NULL, &c->scratch[thread],
                         (REAL *)g + at * fit_d2(p) * p->dv);
    }
}

static void gram(const fit_problem *p, const fit_curvature *c, int64_t count, const void *g, int thread, double *block)
{
    int64_t D2 = fit_d2(p);
    REAL *sum = c->scratch[thread].gram;
    memset(sum, 0, (size_t)(D2 * D2) * sizeof *sum);
    for (int64_t i = 0; i < count; i++) {
        const REAL *one = (const REAL *)g + i * D2 * p->dv;
        GEMM(false, true, D2, D2, p->dv, 1, one, p->dv, one, p->dv, 1, sum, D2);
    }
    for (int64_t i = 0; i < D2 * D2; i++)
        block[i] += (double)sum[i];
}

/* ---- matrix-free ---------------------------------------------------------------------------------------------------
 */

/* a of a tile into z->a */
static const REAL *a_tile(const fit_problem *p, fit_scratch *s, const fit_tile *tile, fit_real_scratch *z)
{
    narrow(fit_rows(&p->a, tile->row, tile->rows, s->raw, s->a), tile->rows * p->d1, z->a);
    return z->a;
}

/* z->t = a d of a tile */
static void direction_tile(const fit_problem *p, fit_scratch *s, const fit_tile *tile, const fit_curvature *c,
                           fit_real_scratch *z)
{
    int64_t D2 = fit_d2(p);
    GEMM(false, false, tile->rows, D2, p->d1, 1, a_tile(p, s, tile, z), p->d1, c->d, D2, 0, z->t, D2);
}

/* w1 += q^T j over rows of a tile */
static void add_explained(const fit_problem *p, int64_t rows, const double *q, const REAL *j, fit_real_scratch *z,
                          double *w1)
{
    int64_t D3 = fit_d3(p);
    narrow(q, rows * D3, z->q);
    add_over_rows(D3, p->dv, rows, z->q, j, z->part, w1, p->dv);
}

/* left = j - q w of rows of a tile */
static void left_over(const fit_problem *p, const fit_curvature *c, int64_t rows, const REAL *j, const double *q,
                      fit_real_scratch *z, REAL *left)
{
    int64_t D3 = fit_d3(p);
    narrow(q, rows * D3, z->q);
    memcpy(left, j, (size_t)(rows * p->dv) * sizeof *left);
    GEMM(false, false, rows, p->dv, D3, -1, z->q, D3, c->w, p->dv, 1, left, p->dv);
}

static int64_t sees_of(const fit_problem *p, const fit_tile *tile, int64_t i, int64_t key, int64_t K)
{
    int64_t sees = fit_visible(p, tile, i) - key;
    return sees < 0 ? 0 : sees > K ? K : sees;
}

static REAL *kept_weights(const fit_problem *p, const fit_curvature *c, const fit_tile *tile, int64_t head, int64_t key)
{
    return (REAL *)c->weights + c->weights_at[tile - p->train.at] + tile->rows * (head * tile->keys + key);
}

/* Logits of keys key .. key+K-1, at `at` among all. */
static void logits(const fit_problem *p, const fit_curvature *c, const fit_tile *tile, int64_t head, int64_t key,
                   int64_t K, REAL *s)
{
    int64_t D2 = fit_d2(p);
    GEMM(false, true, tile->rows, K, p->d2, 1, (const REAL *)c->u + tile->row * D2 + head * p->d2, D2,
         keys_of(p, c, tile->key + key), p->d2, 0, s, K);
}

static void keep(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile)
{
    for (int64_t h = 0; h < p->heads; h++)
        for (int64_t key = 0; key < tile->keys; key += p->tile_keys) {
            int64_t K = tile->keys - key < p->tile_keys ? tile->keys - key : p->tile_keys;
            REAL *weights = kept_weights(p, c, tile, h, key);
            logits(p, c, tile, h, key, K, weights);
            for (int64_t i = 0; i < tile->rows; i++) {
                int64_t sees = sees_of(p, tile, i, key, K);
                (void)EXP(sees, weights + i * K, (REAL)point->lse[h * p->n + tile->row + i]);
                memset(weights + i * K + sees, 0, (size_t)(K - sees) * sizeof *weights);
            }
        }
}

/* s = weights of keys key .. key+K-1 times (e - shift), zero where a row does not see; sums of rows are added to
 * `sums`. What is in e is lost. */
static void weigh(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                  int64_t head, int64_t key, int64_t K, REAL *s, const REAL *e, const double *shift, double *sums)
{
    if (!c->weights)
        logits(p, c, tile, head, key, K, s);
    for (int64_t i = 0; i < tile->rows; i++) {
        int64_t sees = sees_of(p, tile, i, key, K);
        REAL by = shift ? (REAL)shift[i] : 0, sum = 0, *to = s + i * K;
        const REAL *from = e + i * K;
        if (c->weights) {
            const REAL *weights = kept_weights(p, c, tile, head, key) + i * K;
#pragma omp simd reduction(+ : sum)
            for (int64_t b = 0; b < sees; b++) {
                to[b] = weights[b] * (from[b] - by);
                sum += to[b];
            }
        } else {
            sum = EXP_MUL(sees, to, (REAL)point->lse[head * p->n + tile->row + i], from, by);
        }
        memset(to + sees, 0, (size_t)(K - sees) * sizeof *to);
        if (sums)
            sums[i] += (double)sum;
    }
}

static void free_first(const fit_problem *p, const fit_point *point, const fit_curvature *c, const fit_tile *tile,
                       int thread, double *w1, double *w2)
{
    fit_scratch *s = &p->scratch[thread];
    fit_real_scratch *z = &c->scratch[thread];
    int64_t R = tile->rows, D2 = fit_d2(p), D3 = fit_d3(p), width = p->heads * p->dv;
    int64_t e = c->newton ? p->d3 : p->dv, stride = c->newton ? p->d3 : width;
    REAL *acc = z->acc, *j = (REAL *)c->j + tile->row * p->dv;
    double *sum = s->acc; /* J of the tile [R, dv] */
    direction_tile(p, s, tile, c, z);
    memset(sum, 0, (size_t)(R * p->dv) * sizeof *sum);
    for (int64_t h = 0; h < p->heads; h++) {
        memset(acc, 0, (size_t)(R * e) * sizeof *acc);
        memset(s->c, 0, (size_t)R * sizeof *s->c);
        for (int64_t key = 0; key < tile->keys; key += p->tile_keys) {
            int64_t K = tile->keys - key < p->tile_keys ? tile->keys - key : p->tile_keys, at = tile->key + key;
            const REAL *values =
                c->newton ? (const REAL *)c->v + at * p->d3 : (const REAL *)c->vy + at * width + h * p->dv;
            GEMM(false, true, R, K, p->d2, 1, (REAL *)z->t + h * p->d2, D2, keys_of(p, c, at), p->d2, 0, z->e, K);
            weigh(p, point, c, tile, h, key, K, z->s, z->e, NULL, s->c);
            GEMM(false, false, R, e, K, 1, z->s, K, values, stride, 1, acc, e);
        }
        const REAL *o = (const REAL *)c->o + tile->row * width + h * p->dv;
        if (c->newton) { /* sqrt(w) dPhi = sqrt(w) acc - mean q fac, then its product with Y and with the residual */
            double *dphi = s->left;
            memcpy(c->mean + tile->row, s->c, (size_t)R * sizeof *s->c);
            fur_la_gemm_f64(false, false, R, p->d3, D3, 1, point->q + tile->row * D3, D3, point->fac, D3, 0, dphi,
                            p->d3);
            for (int64_t i = 0; i < R; i++)
                for (int64_t b = 0; b < p->d3; b++)
                    dphi[i * p->d3 + b] =
                        fit_root_w(p, tile->row + i) * (double)acc[i * p->d3 + b] - s->c[i] * dphi[i * p->d3 + b];
            fur_la_gemm_f64(false, false, R, p->dv, p->d3, 1, dphi, p->d3, point->y, p->dv, 0, sum, p->dv);
            fur_la_gemm_f64(true, false, p->d3, p->dv, R, 1, dphi, p->d3, point->r + tile->row * p->dv, p->dv, 1, w2,
                            p->dv);
            continue;
        }
        for (int64_t i = 0; i < R; i++)
            for (int64_t b = 0; b < p->dv; b++)
                sum[i * p->dv + b] +=
                    fit_root_w(p, tile->row + i) * (double)acc[i * p->dv + b] - s->c[i] * (double)o[i * width + b];
    }
    narrow(sum, R * p->dv, j);
    add_explained(p, R, point->q + tile->row * D3, j, z, w1);
}

/* Newton's further terms of a tile: left_r for c_k, c for their constant; added to `left` and `shift`. */
static void newton_terms(const fit_problem *p, fit_scratch *s, const fit_tile *tile, const fit_point *point,
                         const fit_curvature *c, const double *dy, double *left, double *shift, REAL *left_r,
                         double *constant)
{
    int64_t R = tile->rows, D3 = fit_d3(p);
    const double *r = point->r + tile->row * p->dv;
    double *x = s->k; /* [R, d3], then [R, dv] */
    fur_la_gemm_f64(false, true, R, p->d3, p->dv, -1, r, p->dv, dy, p->dv, 1, left, p->d3);
    fur_la_gemm_f64(false, true, R, p->d3, p->dv, 1, r, p->dv, point->y, p->dv, 0, x, p->d3);
    for (int64_t i = 0; i < R; i++)
        for (int64_t b = 0; b < p->d3; b++)
            left_r[i * p->d3 + b] = (REAL)(fit_root_w(p, tile->row + i) * x[i * p->d3 + b]);
    fur_la_gemm_f64(false, false, R, p->d3, D3, 1, point->q + tile->row * D3, D3, point->fac, D3, 0, x, p->d3);
    fur_la_gemm_f64(false, false, R, p->dv, p->d3, 1, x, p->d3, dy, p->dv, 0, s->v, p->dv);
    for (int64_t i = 0; i < R; i++) {
        constant[i] = 0;
        for (int64_t b = 0; b < p->dv; b++) {
            double ri = r[i * p->dv + b];
            constant[i] += ri * (double)((const REAL *)c->o)[(tile->row + i) * p->dv + b];
            shift[i] += ri * ((double)((const REAL *)c->j)[(tile->row + i) * p->dv + b] - s->v[i * p->dv + b]);
        }
    }
}

static void free_second(const fit_problem *p, const fit_point *point, const fit_curvature *c, const double *dy,
                        const fit_tile *tile, int thread, double *out)
{
    fit_scratch *s = &p->scratch[thread];
    fit_real_scratch *z = &c->scratch[thread];
    int64_t R = tile->rows, D2 = fit_d2(p), D3 = fit_d3(p), width = p->heads * p->dv;
    int64_t e = c->newton ? p->d3 : p->dv, stride = c->newton ? p->d3 : width;
    REAL *acc = z->acc, *left = z->left;
    const REAL *a = a_tile(p, s, tile, z);
    if (c->newton)
        direction_tile(p, s, tile, c, z);
    left_over(p, c, R, (const REAL *)c->j + tile->row * p->dv, point->q + tile->row * D3, z, acc);
    for (int64_t i = 0; i < R * p->dv; i++)
        s->acc[i] = (double)acc[i];
    for (int64_t h = 0; h < p->heads; h++) {
        const REAL *o = (const REAL *)c->o + tile->row * width + h * p->dv;
        for (int64_t i = 0; i < R; i++) {
            s->c[i] = 0;
            for (int64_t b = 0; b < p->dv; b++)
                s->c[i] += s->acc[i * p->dv + b] * (double)o[i * width + b];
        }
        if (c->newton) {
            fur_la_gemm_f64(false, true, R, p->d3, p->dv, 1, s->acc, p->dv, point->y, p->dv, 0, s->left, p->d3);
            newton_terms(p, s, tile, point, c, dy, s->left, s->c, z->left_r, s->m);
        } else {
            memcpy(s->left, s->acc, (size_t)(R * p->dv) * sizeof *s->left);
        }
        for (int64_t i = 0; i < R; i++)
            for (int64_t b = 0; b < e; b++)
                left[i * e + b] = (REAL)(fit_root_w(p, tile->row + i) * s->left[i * e + b]);
        memset(acc, 0, (size_t)(R * p->d2) * sizeof *acc);
        for (int64_t key = 0; key < tile->keys; key += p->tile_keys) {
            int64_t K = tile->keys - key < p->tile_keys ? tile->keys - key : p->tile_keys, at = tile->key + key;
            const REAL *values =
                c->newton ? (const REAL *)c->v + at * p->d3 : (const REAL *)c->vy + at * width + h * p->dv;
            REAL *to = z->e;
            GEMM(false, true, R, K, e, 1, left, e, values, stride, 0, to, K);
            if (c->newton) { /* (ds - mean) (c_k - c) */
                REAL *ds = z->ds, *ck = z->ck;
                GEMM(false, true, R, K, p->d2, 1, z->t, D2, keys_of(p, c, at), p->d2, 0, ds, K);
                GEMM(false, true, R, K, p->d3, 1, z->left_r, p->d3, values, stride, 0, ck, K);
                for (int64_t i = 0; i < R; i++)
                    for (int64_t b = 0; b < K; b++)
                        to[i * K + b] +=
                            (ds[i * K + b] - (REAL)c->mean[tile->row + i]) * (ck[i * K + b] - (REAL)s->m[i]);
            }
            weigh(p, point, c, tile, h, key, K, z->s, z->e, s->c, NULL);
            GEMM(false, false, R, p->d2, K, 1, z->s, K, keys_of(p, c, at), p->d2, 1, acc, p->d2);
        }
        add_over_rows(p->d1, p->d2, R, a, acc, z->part, out + h * p->d2, D2);
    }
}

/* ---- stored ---------------------------------------------------------------------------------------------------------
 */

static const double *stored_q(const fit_problem *p, const fit_curvature *c, int64_t at)
{
    return c->q + at * fit_d3(p);
}

static void stored_first(const fit_problem *p, const fit_curvature *c, int64_t t, int thread, double *w1)
{
    fit_scratch *s = &p->scratch[thread];
    fit_real_scratch *z = &c->scratch[thread];
    int64_t D2 = fit_d2(p), first = c->sample.at[t], count = c->sample.at[t + 1] - first;
    const fit_tile *tile = &p->train.at[t];
    REAL *dir = z->t, *j = (REAL *)c->j + first * p->dv;
    if (count == 0)
        return;
    direction_tile(p, s, tile, c, z);
    for (int64_t i = 0; i < count; i++) {
        const REAL *g = (const REAL *)c->g + (first + i) * D2 * p->dv;
        GEMV(true, D2, p->dv, g, dir + (c->sample.row[first + i] - tile->row) * D2, j + i * p->dv);
    }
    add_explained(p, count, stored_q(p, c, first), j, z, w1);
}

static void stored_second(const fit_problem *p, const fit_curvature *c, int64_t t, int thread, double *out)
{
    fit_scratch *s = &p->scratch[thread];
    int64_t D2 = fit_d2(p), first = c->sample.at[t], count = c->sample.at[t + 1] - first;
    const fit_tile *tile = &p->train.at[t];
    fit_real_scratch *z = &c->scratch[thread];
    REAL *left = z->left, *t_rows = z->t;
    if (count == 0)
        return;
    left_over(p, c, count, (const REAL *)c->j + first * p->dv, stored_q(p, c, first), z, left);
    memset(t_rows, 0, (size_t)(tile->rows * D2) * sizeof *t_rows);
    for (int64_t i = 0; i < count; i++) {
        const REAL *g = (const REAL *)c->g + (first + i) * D2 * p->dv;
        GEMV(false, D2, p->dv, g, left + i * p->dv, t_rows + (c->sample.row[first + i] - tile->row) * D2);
    }
    add_over_rows(p->d1, D2, tile->rows, a_tile(p, s, tile, z), t_rows, z->part, out, D2);
}
