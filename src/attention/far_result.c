/* SPDX-License-Identifier: Apache-2.0 */
/* What comes of a sample: errors, certificates, polynomials. */
#include <string.h>

#include "attention/far_fit.h"
#include "attention/far_sums.h"

/* ---- errors ------------------------------------------------------------------------------------------------------ */

/* sqrt(r), r = sum of `squares` / sum of `of`, from a sample of `count` among `all`. The interval is the jackknife's:
 * of log r with one row left out in turn, (1 - count / all) (count - 1) / count times the sum of squared differences
 * from their mean is the variance. */
static fur_sampled_error ratio_of(int64_t count, int64_t all, const double *squares, const double *of)
{
    double a = 0, b = 0, mean = 0, spread = 0, fourth = 0, n = (double)count;
    for (int64_t i = 0; i < count; i++) {
        a += squares[i];
        b += of[i];
    }
    if (a <= 0 || !(b > 0) || !isfinite(a)) {
        double value = a <= 0 ? 0 : (double)INFINITY; /* a may be NaN */
        return (fur_sampled_error){value, value, value};
    }
    fur_sampled_error out = {.value = sqrt(a / b), .low = sqrt(a / b), .high = sqrt(a / b)};
    if (count < 2 || count == all)
        return out;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < count; i++) { /* a row that is all there is counts as if it were nearly all */
            double rest = log(fmax(a - squares[i], 1e-3 * a) / fmax(b - of[i], 1e-3 * b));
            double square = (rest - mean) * (rest - mean);
            if (pass == 0)
                mean += rest / n;
            spread += pass * square;
            fourth += pass * square * square;
        }
    double rows = spread * spread / fourth;           /* that count */
    double quantile = 1.96 + 2.4 / fmax(1, rows - 1); /* Student's, nearly */
    double reach = 0.5 * quantile * sqrt((1 - n / (double)all) * spread * (n - 1) / n);
    out.low *= exp(-reach);
    out.high *= exp(reach);
    return out;
}

/* The gradient by a row from that by its unit row and that by itself. */
static void through_unit(const fur_far_sample *s, const float *row, float factor, const double *near, double *unit_D,
                         double *out_D)
{
    int64_t D = s->shape->head_dim;
    double along = 0;
    for (int64_t d = 0; d < D && fur_far_is_bounded(s->shape); d++)
        along += unit_D[d] * (double)factor * (double)row[d];
    for (int64_t d = 0; d < D; d++)
        out_D[d] = near[d] + (double)factor * (unit_D[d] - along * (double)factor * (double)row[d]);
}

static void difference(const float *got, const double *exact, int64_t count, double *squares, double *of)
{
    *squares = *of = 0;
    for (int64_t d = 0; d < count; d++) {
        *squares += ((double)got[d] - exact[d]) * ((double)got[d] - exact[d]);
        *of += exact[d] * exact[d];
    }
}

/* o, dq and the far share of one sampled query from its sums. */
static void finish_query(const fur_far_sample *s, int64_t m, int64_t head, double *o, double *dq, double *far_share)
{
    const fur_attention_shape *shape = s->shape;
    query_sums sums = query_sums_at(s, m, head);
    sampled_query query = sampled_query_of(s, m, head);
    int64_t D = shape->head_dim;
    double total = *sums.total, delta = 0, near[FUR_FAR_MOST_DIM], unit[FUR_FAR_MOST_DIM];
    if (shape->features.sink_H)
        total += exp((double)shape->features.sink_H[head] - *sums.maximum);
    for (int64_t d = 0; d < D; d++) {
        o[d] = sums.o[d] / total;
        delta += o[d] * (double)query.d_o[d];
    }
    for (int64_t d = 0; d < D; d++) {
        near[d] = (sums.near_dk[d] - delta * sums.near_k[d]) / total;
        unit[d] = (double)bound_of(s->shape) * (sums.far_dk[d] - delta * sums.far_k[d]) / total;
    }
    through_unit(s, query.q, query.slope / bound_of(s->shape), near, unit, dq);
    *far_share = *sums.far_total / total;
}

/* What the polynomial would have given, where the layer is exact. */
static void finish_assumed(const fur_far_sample *s, int64_t m, int64_t head, float *o_D)
{
    query_sums sums = query_sums_at(s, m, head);
    double total = *sums.assumed_total;
    if (s->shape->features.sink_H)
        total += exp((double)s->shape->features.sink_H[head] - *sums.maximum);
    for (int64_t d = 0; d < s->shape->head_dim; d++)
        o_D[d] = total > 0 ? (float)(sums.assumed_o[d] / total) : INFINITY;
}

static void query_errors(fur_far_sample *s, int64_t head, fur_head_error *out)
{
    int64_t D = s->shape->head_dim;
    double *o_squares = s->point, *o_of = s->point + s->count, *dq_squares = s->weight, *dq_of = s->weight + s->count;
    double o[FUR_FAR_MOST_DIM], dq[FUR_FAR_MOST_DIM], share, shares = 0;
    float assumed[FUR_FAR_MOST_DIM];
    for (int64_t m = 0; m < s->count; m++) {
        int64_t at = (m * s->shape->heads + head) * D;
        finish_query(s, m, head, o, dq, &share);
        shares += share;
        if (s->assumed)
            finish_assumed(s, m, head, assumed);
        difference(s->assumed ? assumed : s->o_MHD + at, o, D, &o_squares[m], &o_of[m]);
        difference(s->dq_MHD + at, dq, D, &dq_squares[m], &dq_of[m]);
    }
    out->tokens = s->count;
    out->far_share = shares / (double)s->count;
    out->o = ratio_of(s->count, s->tokens, o_squares, o_of);
    out->dq = ratio_of(s->count, s->tokens, dq_squares, dq_of);
}

static void key_errors(fur_far_sample *s, int64_t kv_head, fur_head_error *out)
{
    int64_t D = s->shape->head_dim;
    double *dk_squares = s->point, *dk_of = s->point + s->count, *dv_squares = s->weight, *dv_of = s->weight + s->count;
    for (int64_t m = 0; m < s->count; m++) {
        int64_t at = (m * s->shape->kv_heads + kv_head) * D;
        double *near_dk = s->key_sums + 3 * at, *far_dk = near_dk + D, *dv = far_dk + D, dk[FUR_FAR_MOST_DIM];
        through_unit(s, s->k_MKD + at, unit_factor(s, s->k_MKD + at, 1), near_dk, far_dk, dk);
        difference(s->dk_MKD + at, dk, D, &dk_squares[m], &dk_of[m]);
        difference(s->dv_MKD + at, dv, D, &dv_squares[m], &dv_of[m]);
    }
    out->dk = ratio_of(s->count, s->tokens, dk_squares, dk_of);
    out->dv = ratio_of(s->count, s->tokens, dv_squares, dv_of);
}

/* Of op/far in f32, in units of 2^-24 and of the sum of absolute terms: sums of blocks of a chunk, features, and R
 * terms in a row where a state is read. */
static double roundings(const fur_far_sample *s)
{
    const fur_attention_shape *shape = s->shape;
    int64_t features = fur_far_features(shape->head_dim, shape->far.degree);
    return (double)(fur_min_i64(128, shape->chunk) + features + 2 * shape->far.degree + 16);
}

/* With |P - e^t| <= alpha + beta t^power, the weights of a row err by at most r = alpha x + beta y of its normaliser
 * in all, so that its output errs by at most r / (1 - r) times the longest distance of a value from it: the sum over
 * rows of the squares of r (V + d), and 1 / (1 - r) at its largest. `rounded` is what r gains by rounding. */
static double moments_square(const fur_far_sample *s, int64_t head, double range, double rounded, double V)
{
    const query_bounds *q = query_bounds_of(s, head);
    int64_t kv_head = head / fur_far_group(s->shape), degree = s->shape->far.degree, power = moment_power(s, kv_head);
    double alpha, beta, sum = 0;
    const double of_value[3] = {V * V, 2 * V, 1};
    if (power == 0 || !(q->x > 0))
        return (double)INFINITY;
    fur_far_majorant(s->shape->far.coefficient_KP + kv_head * (degree + 1), degree, range, power, q->y / q->x, &alpha,
                     &beta);
    /* y is a sum of terms of both signs, each at most range^power in size */
    alpha += rounded + beta * roundings(s) * 0x1p-24 * pow(range, (double)power);
    double most = alpha * q->most_x + beta * q->most_y;
    for (int i = 0; i < 3; i++)
        sum += of_value[i] * (alpha * alpha * q->xx[i] + 2 * alpha * beta * q->xy[i] + beta * beta * q->yy[i]);
    return most < 1 ? sum / ((1 - most) * (1 - most)) : (double)INFINITY;
}

/* With weights w~ = w (1 + delta), |delta| <= e, o~ the output computed, c a point, V the longest |v - c|: o~ - o is
 * sum w delta (v - o) / sum w (1 + delta), and o - o~ is sum w~ delta' (v - o~) / (1 - sum w~ delta'), delta' =
 * delta / (1 + delta). Outputs with exact weights are within V of c; with positive ones two of them within 2 V. The
 * least of these and of what the moments of far logits give. */
static void certify(const fur_far_sample *s, int64_t head, fur_head_error *out)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, kv_head = head / fur_far_group(s->shape), degree = shape->far.degree;
    const query_bounds *q = query_bounds_of(s, head);
    const key_bounds *k = key_bounds_of(s, kv_head);
    const float *c = shape->far.coefficient_KP + kv_head * (degree + 1);
    if (shape->far.exact_K && shape->far.exact_K[kv_head] > 0) /* nothing but rounding */
        return;
    double range = fmax(1e-6, (double)bound_of(s->shape) * q->longest_centred * k->longest_centred);
    double error = fur_far_relative_error(c, degree, range), sizes = 0, power = 1;
    for (int64_t l = 0; l <= degree; l++) {
        sizes += fabs((double)c[l]) * power;
        power *= range;
    }
    out->largest = range;
    out->weight_error = isfinite(error) ? error : 1e30;
    double rounded = roundings(s) * 0x1p-24 * sizes;
    error += rounded * exp(range);
    double V = k->value_distance, centre = centred_length(s->centre_KD + kv_head * D, 0, s->centre_KD + kv_head * D, D);
    if (shape->features.sink_H) /* as if 0 were a value */
        V = fmax(V, centre);
    double sum = q->far_rows * V * V + 2 * V * q->distance + q->distance_squares;
    double square = moments_square(s, head, range, rounded, V);
    if (!s->assumed || error < 1) /* the output computed is where it is; one that is not may be anywhere */
        square = fmin(square, sum);
    if (error < 1) {
        double share = fmin(1, error / (1 - error));
        square = fmin(square, q->far_rows * 4 * V * V * share * share);
    }
    if (error < 0.5)
        square = fmin(square, sum * (error / (1 - 2 * error)) * (error / (1 - 2 * error)));
    out->certificate = q->squares > 0 ? fmin(1e30, sqrt(square / q->squares)) : 0;
}

/* Centred logits t of the far pairs of sampled tokens, and attention's weight of each over e^t. Of one query head, or
 * where that is -1 of those of the group in turn. */
static int64_t far_pairs(const fur_far_sample *s, int64_t kv_head, int64_t only_head, const float *query_mean,
                         const float *key_mean, double *point, double *weight)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, group = fur_far_group(s->shape), pairs = 0;
    for (int64_t i = 0; i < s->count; i++) {
        sight see = sight_of(shape, s->token[i], s->start[i], s->length[i]);
        for (int64_t j = 0; j < s->count; j++) {
            int64_t head = only_head >= 0 ? only_head : kv_head * group + (i + j) % group;
            int64_t row = s->token[j];
            if (row < see.from || row >= see.to || !is_far(&see, row))
                continue;
            const float *q = s->q_MHD + (i * shape->heads + head) * D,
                        *k = s->k_MKD + (j * shape->kv_heads + kv_head) * D;
            float qf = unit_factor(s, q, shape->far.scale), kf = unit_factor(s, k, 1);
            double t = 0, whole = 0;
            for (int64_t d = 0; d < D; d++) {
                double x = (double)qf * (double)q[d], y = (double)kf * (double)k[d];
                whole += x * y;
                t += (x - (double)query_mean[d]) * (y - (double)key_mean[d]);
            }
            double B = (double)bound_of(s->shape), rest = B * (whole - t) + (double)fur_far_bias(shape, head);
            point[pairs] = B * t;
            weight[pairs++] = exp(fmin(600, rest - (double)s->lse_MH[i * shape->heads + head]));
        }
    }
    return pairs;
}

void fur_far_sample_end(fur_far_sample *s, fur_head_error *out_H)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim;
    for (int64_t head = 0; head < shape->heads; head++) {
        fur_head_error *out = &out_H[head];
        int64_t kv_head = head / fur_far_group(s->shape);
        const fur_sampled_error unknown = {(double)NAN, (double)NAN, (double)NAN};
        *out = (fur_head_error){.head = head, .dk = unknown, .dv = unknown};
        query_errors(s, head, out);
        if (s->assumed)
            out->dq = unknown;
        else
            key_errors(s, kv_head, out);
        certify(s, head, out);
        int64_t pairs = far_pairs(s, kv_head, head, shape->far.query_mean_KD + kv_head * D,
                                  shape->far.key_mean_KD + kv_head * D, s->point, s->weight);
        double sum = 0, first = 0, second = 0;
        for (int64_t i = 0; i < pairs; i++) {
            double w = s->weight[i] * exp(fmin(600, s->point[i])); /* attention's */
            sum += w;
            first += w * s->point[i];
            second += w * s->point[i] * s->point[i];
        }
        out->deviation = sum > 0 ? sqrt(fmax(0, second / sum - first / sum * (first / sum))) : (double)NAN;
    }
}

int fur_far_sample_fit(fur_far_sample *s, int64_t kv_head, fur_far_constants *out)
{
    const fur_attention_shape *shape = s->shape;
    int64_t D = shape->head_dim, group = fur_far_group(s->shape), degree = shape->far.degree;
    float query_mean[FUR_FAR_MOST_DIM] = {0}, key_mean[FUR_FAR_MOST_DIM] = {0};
    for (int64_t m = 0; m < s->count; m++) {
        const float *k = s->k_MKD + (m * shape->kv_heads + kv_head) * D;
        add_row(unit_factor(s, k, 1) / (float)s->count, k, D, key_mean);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
            const float *q = s->q_MHD + (m * shape->heads + head) * D;
            add_row(unit_factor(s, q, shape->far.scale) / (float)(s->count * group), q, D, query_mean);
        }
    }
    int64_t pairs = far_pairs(s, kv_head, -1, query_mean, key_mean, s->point, s->weight);
    if (pairs < 4 * (degree + 1))
        return 1;
    double query = 1, key = 1;
    if (!fur_far_is_bounded(s->shape)) {
        query = 0;
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            query = fmax(query, query_bounds_of(s, head)->longest);
        key = key_bounds_of(s, kv_head)->longest;
    }
    query += sqrt((double)dot(query_mean, query_mean, D));
    key += sqrt((double)dot(key_mean, key_mean, D));
    /* a little more than the product: unit rows are rounded */
    double range = (double)bound_of(s->shape) * query * key * (1 + 1e-5);
    fur_far_fit(pairs, s->point, s->weight, fur_far_is_bounded(s->shape) ? range : 0, degree, out->coefficient_P);
    if (out->fine_P)
        fur_far_fit(pairs, s->point, s->weight, fur_far_is_bounded(s->shape) ? range : 0, degree + 1, out->fine_P);
    memcpy(out->query_mean_D, query_mean, (size_t)D * sizeof(float));
    memcpy(out->key_mean_D, key_mean, (size_t)D * sizeof(float));
    out->range = (float)range;
    return 0;
}
