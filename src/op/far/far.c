/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, layout of features, workspace, threads and dispatch of far. */
#include "op/far/far.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "op/far/far_kernel.h"

static const fur_far_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_far_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_far_avx2;
#endif
    (void)exec;
    return &fur_far_ref;
}

/* ---- layout of features ------------------------------------------------------------------------------------------ */

/* C(n + k, k), saturating; every partial product is a binomial, so that the division is exact. */
static int64_t choose(int64_t n, int64_t k)
{
    int64_t out = 1;
    for (int64_t i = 1; i <= k; i++) {
        if (out > FUR_FAR_MOST_FEATURES)
            return INT64_MAX;
        out = out * (n + i) / i;
    }
    return out <= FUR_FAR_MOST_FEATURES ? out : INT64_MAX;
}

int64_t fur_far_features(int64_t head_dim, int64_t degree)
{
    return choose(head_dim, degree);
}

/* Features of degree l of D variables. */
static int64_t of_degree(int64_t D, int64_t l)
{
    return D > 0 ? choose(D - 1, l) : l == 0;
}

static fur_far_layout sizes(int64_t D, int64_t degree)
{
    fur_far_layout l = {.dim = D, .degree = degree, .rows = D + 1, .slice_count = degree * D};
    l.features = fur_far_features(D, degree);
    l.lower = fur_far_features(D, degree - 1);
    l.top_slice = (degree - 1) * D;
    l.top_column = fur_round_up(l.lower, FUR_FAR_PADDING);
    l.stride = l.top_column + fur_round_up(l.features - l.lower, FUR_FAR_PADDING);
    if (l.stride % 1024 == 0) /* rows must not all fall into the same sets of the cache */
        l.stride += FUR_FAR_PADDING;
    return l;
}

int64_t fur_far_state_floats(int64_t kv_heads, int64_t head_dim, int64_t degree)
{
    fur_far_layout l = sizes(head_dim, degree);
    return kv_heads * 2 * l.rows * l.stride;
}

static void make_slices(const fur_far_layout *l, fur_far_slice *slices)
{
    int64_t start = 1, previous_end = 1;
    for (int64_t degree = 1; degree <= l->degree; degree++) {
        for (int64_t a = 0; a < l->dim; a++) {
            int64_t length = of_degree(l->dim - a, degree - 1);
            slices[(degree - 1) * l->dim + a] = (fur_far_slice){a, start, length, previous_end - length};
            start += length;
        }
        previous_end = start;
    }
}

/* Monomial m of degree l counts l! / (product of factorials of its exponents) times in (x.y)^l: that of its source,
 * times l over the exponent of its first variable. */
static void make_multinomials(const fur_far_layout *l, float *multinomial, int32_t *exponent)
{
    multinomial[0] = 1;
    exponent[0] = 0;
    for (int64_t n = 0; n < l->slice_count; n++) {
        const fur_far_slice *s = &l->slices[n];
        int64_t degree = n / l->dim + 1;
        /* of the source, the features whose first variable is a come first: as many as a's slice of that degree */
        int64_t same = degree > 1 ? l->slices[n - l->dim].length : 0;
        for (int64_t i = 0; i < s->length; i++) {
            int32_t run = i < same ? exponent[s->source + i] + 1 : 1;
            exponent[s->start + i] = run;
            multinomial[s->start + i] = multinomial[s->source + i] * (float)degree / (float)run;
        }
    }
}

/* w of every key head, by columns. Multinomials are integers up to 720, exact in f32. */
static void make_weights(const fur_far *far, const fur_far_layout *l, const float *multinomial, float *w_KR)
{
    for (int64_t h = 0; h < far->kv_heads; h++) {
        float *w = w_KR + h * l->stride;
        double power = 1, factor = (double)fur_far_factor(far);
        for (int64_t i = 0; i < l->stride; i++)
            w[i] = 0;
        int64_t m = 0;
        for (int64_t degree = 0; degree <= l->degree; degree++) {
            float c = (float)((double)far->coefficient_KP[h * (l->degree + 1) + degree] * power);
            power *= factor;
            for (int64_t i = of_degree(l->dim, degree); i > 0; i--, m++)
                w[fur_far_column(l, m)] = c * multinomial[m];
        }
    }
}

/* ---- checks, workspace ------------------------------------------------------------------------------------------- */

static fur_status check(const fur_exec *exec, const fur_far *f, int64_t rows)
{
    if (f->kv_heads < 1 || f->heads < 1 || f->heads > (1 << 16) || f->heads % f->kv_heads || f->head_dim < 1 ||
        f->head_dim > FUR_FAR_MOST_DIM || f->degree < 1 || f->degree > FUR_FAR_MOST_DEGREE || rows < 0 ||
        rows > (int64_t)1 << 40)
        return fur_error_set(exec->error, FUR_E_SHAPE,
                             "far field of %lld rows, %lld heads on %lld key heads of width %lld, degree %lld: key "
                             "heads must divide heads, width be 1..%d, degree 1..%d",
                             (long long)rows, (long long)f->heads, (long long)f->kv_heads, (long long)f->head_dim,
                             (long long)f->degree, FUR_FAR_MOST_DIM, FUR_FAR_MOST_DEGREE);
    if (fur_far_features(f->head_dim, f->degree) == INT64_MAX)
        return fur_error_set(exec->error, FUR_E_SHAPE, "far field: more than %lld features at width %lld, degree %lld",
                             (long long)FUR_FAR_MOST_FEATURES, (long long)f->head_dim, (long long)f->degree);
    if (!(f->bound >= 0 && f->bound <= 64) || !f->query_mean_KD || !f->key_mean_KD || !f->coefficient_KP)
        return fur_error_set(exec->error, FUR_E_ARGUMENT,
                             "far field: bound %g, expected 0 to 64, and means and coefficients", (double)f->bound);
    for (int64_t i = 0; i < f->kv_heads * (f->degree + 1); i++)
        if (!isfinite(f->coefficient_KP[i]))
            return fur_error_set(exec->error, FUR_E_ARGUMENT, "far field: coefficient %lld of key head %lld is %g",
                                 (long long)(i % (f->degree + 1)), (long long)(i / (f->degree + 1)),
                                 (double)f->coefficient_KP[i]);
    return FUR_OK;
}

typedef struct layout {
    fur_far_layout features;
    fur_far_slice *slices;
    float *multinomial, *w_KR;
    int32_t *exponent;
    float *x_KTD, *y_KTE, *df_KT; /* T: virtual rows of the call */
    float *scratch;
    int64_t scratch_floats; /* per thread */
    int fits;
} layout;

static layout lay_out(const fur_exec *exec, fur_arena *arena, int64_t heads, int64_t kv_heads, int64_t head_dim,
                      int64_t degree, int64_t rows)
{
    layout out = {.features = sizes(head_dim, degree)};
    const fur_far_layout *l = &out.features;
    int64_t virtual_rows = rows * heads;
    out.slices = fur_arena_push(arena, l->slice_count * (int64_t)sizeof *out.slices);
    out.multinomial = fur_arena_push_f32(arena, l->features);
    out.exponent = fur_arena_push(arena, l->features * (int64_t)sizeof *out.exponent);
    out.w_KR = fur_arena_push_f32(arena, kv_heads * l->stride);
    out.x_KTD = fur_arena_push_f32(arena, virtual_rows * l->dim);
    out.y_KTE = fur_arena_push_f32(arena, virtual_rows * l->rows);
    out.df_KT = fur_arena_push_f32(arena, virtual_rows);
    int64_t floats = fur_max_i64(kernel_of(exec)->scratch_floats(l), fur_far_ref.scratch_floats(l));
    out.scratch_floats = fur_round_up(floats, FUR_ARENA_ALIGN / (int64_t)sizeof(float));
    out.scratch = fur_arena_push_f32(arena, out.scratch_floats * exec->threads);
    out.fits =
        out.slices && out.multinomial && out.exponent && out.w_KR && out.x_KTD && out.y_KTE && out.df_KT && out.scratch;
    return out;
}

int64_t fur_far_workspace(const fur_exec *exec, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t degree,
                          int64_t rows)
{
    fur_arena arena = fur_arena_counting();
    lay_out(exec, &arena, heads, kv_heads, head_dim, degree, rows);
    return arena.peak;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

typedef struct task_set {
    const fur_far_kernel *kernel;
    fur_far_call call;
    layout at;
    int64_t mark;
    int64_t rows;   /* under one key head: keys, or virtual rows of queries */
    int64_t blocks; /* of FUR_FAR_ROWS of them */
} task_set;

static fur_status begin(const fur_exec *exec, const fur_far *far, int64_t rows, int64_t group, task_set *out)
{
    FUR_TRY(check(exec, far, rows));
    *out = (task_set){.kernel = kernel_of(exec), .mark = fur_arena_mark(exec->workspace)};
    out->at = lay_out(exec, exec->workspace, far->kv_heads * group, far->kv_heads, far->head_dim, far->degree, rows);
    if (!out->at.fits) {
        fur_arena_release(exec->workspace, out->mark);
        return fur_error_set(exec->error, FUR_E_MEMORY, "far field of %lld rows: workspace too small", (long long)rows);
    }
    out->rows = rows * group;
    out->blocks = fur_div_up(out->rows, FUR_FAR_ROWS);
    make_slices(&out->at.features, out->at.slices);
    out->at.features.slices = out->at.slices;
    out->call = (fur_far_call){.far = far, .layout = out->at.features, .group = far->heads / far->kv_heads};
    return FUR_OK;
}

static float *scratch_of(const task_set *t)
{
    return t->at.scratch + omp_get_thread_num() * t->at.scratch_floats;
}

/* A part of the rows of one key head. */
typedef struct block {
    int64_t kv_head, first, count;
} block;

static block block_of(const task_set *t, int64_t index)
{
    int64_t first = index / t->call.far->kv_heads * FUR_FAR_ROWS;
    return (block){index % t->call.far->kv_heads, first, fur_min_i64(FUR_FAR_ROWS, t->rows - first)};
}

static int left_out(const task_set *t, int64_t kv_head)
{
    const float *exact = t->call.far->exact_K;
    return exact && exact[kv_head] > 0;
}

static float *x_of(const task_set *t, block b)
{
    return t->at.x_KTD + (b.kv_head * t->rows + b.first) * t->call.layout.dim;
}

static float *y_of(const task_set *t, block b)
{
    return t->at.y_KTE + (b.kv_head * t->rows + b.first) * t->call.layout.rows;
}

/* Tasks of one key head's sum: with few key heads, ranges of features, each of which forms the lower ones again. */
static int64_t segments_of(const fur_far_layout *l, int64_t kv_heads)
{
    int64_t blocks = fur_div_up(l->features - l->lower, FUR_FAR_BLOCK);
    return fur_min_i64(fur_div_up(8, kv_heads), blocks);
}

/* Columns from which segment `index` of `count` sums. */
static int64_t segment_start(const fur_far_layout *l, int64_t index, int64_t count)
{
    int64_t blocks = fur_div_up(l->features - l->lower, FUR_FAR_BLOCK);
    return index == 0 ? 0 : index == count ? l->stride : l->top_column + blocks * index / count * FUR_FAR_BLOCK;
}

/* state += sum of the x and y that the workspace holds */
static void add_rows(const fur_exec *exec, const task_set *t, float *state_KER)
{
    const fur_far_layout *l = &t->call.layout;
    int64_t heads = t->call.far->kv_heads, segments = segments_of(l, heads), size = 2 * l->rows * l->stride;
    make_multinomials(l, t->at.multinomial, t->at.exponent);
    make_weights(t->call.far, l, t->at.multinomial, t->at.w_KR);
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (heads * segments > 1)
    for (int64_t i = 0; i < heads * segments; i++) {
        int64_t h = i / segments, s = i % segments;
        if (left_out(t, h))
            continue;
        block all = {h, 0, t->rows};
        t->kernel->add(l, segment_start(l, s, segments), segment_start(l, s + 1, segments), t->rows, x_of(t, all),
                       y_of(t, all), t->at.w_KR + h * l->stride, state_KER + h * size, scratch_of(t));
    }
}

fur_status fur_far_add_keys(const fur_exec *exec, const fur_far *far, const fur_far_keys *keys, float sign,
                            float *state_KER)
{
    task_set t;
    FUR_TRY(begin(exec, far, keys->count, 1, &t));
    t.call.keys = keys;
    int64_t count = t.blocks * far->kv_heads;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        block b = block_of(&t, i);
        if (left_out(&t, b.kv_head))
            continue;
        float *y = y_of(&t, b);
        t.kernel->keys(&t.call, b.kv_head, b.first, b.count, x_of(&t, b), y, scratch_of(&t));
        for (int64_t n = 0; n < b.count * t.call.layout.rows; n++)
            y[n] *= sign;
    }
    if (keys->count)
        add_rows(exec, &t, state_KER);
    fur_arena_release(exec->workspace, t.mark);
    return FUR_OK;
}

static fur_status check_normalisers(const fur_exec *exec, const fur_far *far, const fur_far_queries *queries)
{
    for (int64_t i = 0; i < queries->count * far->heads; i++)
        if (isnan(queries->lse_TH[i]))
            return fur_error_set(exec->error, FUR_E_NONFINITE,
                                 "far field: the normaliser of head %lld is not positive at row %lld of the call",
                                 (long long)(i % far->heads), (long long)(i / far->heads));
    return FUR_OK;
}

fur_status fur_far_query(const fur_exec *exec, const fur_far *far, const float *state_KER,
                         const fur_far_queries *queries)
{
    task_set t;
    FUR_TRY(begin(exec, far, queries->count, far->heads / far->kv_heads, &t));
    t.call.queries = queries;
    t.call.state_KER = state_KER;
    int64_t count = t.blocks * far->kv_heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        block b = block_of(&t, i);
        if (left_out(&t, b.kv_head))
            continue;
        t.kernel->query(&t.call, b.kv_head, b.first, b.first + b.count, scratch_of(&t));
    }
    fur_arena_release(exec->workspace, t.mark);
    return check_normalisers(exec, far, queries);
}

fur_status fur_far_query_backward(const fur_exec *exec, const fur_far *far, const float *state_KER,
                                  const fur_far_queries *queries)
{
    task_set t;
    FUR_TRY(begin(exec, far, queries->count, far->heads / far->kv_heads, &t));
    t.call.queries = queries;
    t.call.state_KER = state_KER;
    int64_t count = t.blocks * far->kv_heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        block b = block_of(&t, i);
        if (left_out(&t, b.kv_head))
            continue;
        t.kernel->query_backward(&t.call, b.kv_head, b.first, b.first + b.count,
                                 t.at.df_KT + b.kv_head * t.rows + b.first, scratch_of(&t));
    }
    for (int64_t h = 0; queries->dbias_H && h < far->heads; h++) {
        double sum = 0;
        if (left_out(&t, h / t.call.group))
            continue;
        const float *df = t.at.df_KT + h / t.call.group * t.rows;
        for (int64_t v = h % t.call.group; v < t.rows; v += t.call.group)
            sum += (double)df[v];
        queries->dbias_H[h] += (float)sum;
    }
    fur_arena_release(exec->workspace, t.mark);
    return FUR_OK;
}

fur_status fur_far_moments(const fur_exec *exec, const fur_far *far, const float *state_KER,
                           const fur_far_queries *queries, float *moment_THP)
{
    task_set t;
    FUR_TRY(begin(exec, far, queries->count, far->heads / far->kv_heads, &t));
    t.call.queries = queries;
    t.call.state_KER = state_KER;
    int64_t count = t.blocks * far->kv_heads;
    memset(moment_THP, 0, (size_t)(queries->count * far->heads * (far->degree + 1)) * sizeof *moment_THP);
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        block b = block_of(&t, i);
        if (left_out(&t, b.kv_head))
            continue;
        fur_far_ref.moments(&t.call, b.kv_head, b.first, b.first + b.count, moment_THP, scratch_of(&t));
    }
    fur_arena_release(exec->workspace, t.mark);
    return FUR_OK;
}

fur_status fur_far_add_queries(const fur_exec *exec, const fur_far *far, const fur_far_queries *queries,
                               float *gradient_KER)
{
    task_set t;
    FUR_TRY(begin(exec, far, queries->count, far->heads / far->kv_heads, &t));
    t.call.queries = queries;
    int64_t count = t.blocks * far->kv_heads;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        block b = block_of(&t, i);
        if (left_out(&t, b.kv_head))
            continue;
        t.kernel->queries(&t.call, b.kv_head, b.first, b.first + b.count, x_of(&t, b), y_of(&t, b), scratch_of(&t));
    }
    if (queries->count)
        add_rows(exec, &t, gradient_KER);
    fur_arena_release(exec->workspace, t.mark);
    return FUR_OK;
}

fur_status fur_far_key_backward(const fur_exec *exec, const fur_far *far, const float *gradient_KER,
                                const fur_far_keys *keys, float sign)
{
    task_set t;
    FUR_TRY(begin(exec, far, keys->count, 1, &t));
    t.call.keys = keys;
    t.call.state_KER = gradient_KER;
    t.call.sign = sign;
    int64_t count = t.blocks * far->kv_heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        block b = block_of(&t, i);
        if (left_out(&t, b.kv_head))
            continue;
        t.kernel->key_backward(&t.call, b.kv_head, b.first, b.count, scratch_of(&t));
    }
    fur_arena_release(exec->workspace, t.mark);
    return FUR_OK;
}
