/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, layout of features, workspace, threads and dispatch of far. */
#include "op/far/far.h"

#include <math.h>
#include <omp.h>

#include "op/far/far_kernel.h"

/* Products of pairs where they are known to be faster; elsewhere f32 operands are within the bound of bf16 too. */
static const fur_far_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512BF16
    if (exec->compute == FUR_COMPUTE_BF16 && exec->isa == FUR_ISA_AVX512BF16)
        return &fur_far_avx512bf16;
#endif
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

static fur_far_layout sizes(const fur_exec *exec, int64_t head_dim, int64_t value_dim, int64_t degree)
{
    return (fur_far_layout){.dim = head_dim,
                            .value_dim = value_dim,
                            .degree = degree,
                            .columns = value_dim + 1,
                            .features = fur_far_features(head_dim, degree),
                            .lower = fur_far_features(head_dim, degree - 1),
                            .rounded = exec->compute == FUR_COMPUTE_BF16,
                            .slice_count = degree * head_dim,
                            .top_slice = (degree - 1) * head_dim};
}

int64_t fur_far_state_floats(int64_t kv_heads, int64_t head_dim, int64_t value_dim, int64_t degree)
{
    return kv_heads * 2 * fur_far_features(head_dim, degree) * (value_dim + 1);
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

/* w of every key head. Multinomials are integers up to 720, exact in f32. */
static void make_weights(const fur_far *far, const fur_far_layout *l, const float *multinomial, float *w_KR)
{
    for (int64_t h = 0; h < far->kv_heads; h++) {
        float *w = w_KR + h * l->features;
        double power = 1, factor = (double)fur_far_factor(far);
        int64_t m = 0;
        for (int64_t degree = 0; degree <= l->degree; degree++) {
            float c = (float)((double)far->coefficient_KP[h * (l->degree + 1) + degree] * power);
            power *= factor;
            for (int64_t i = of_degree(l->dim, degree); i > 0; i--, m++)
                w[m] = c * multinomial[m];
        }
    }
}

/* ---- checks, workspace ------------------------------------------------------------------------------------------- */

static fur_status check(const fur_exec *exec, const fur_far *f, int64_t rows)
{
    if (f->kv_heads < 1 || f->heads < 1 || f->heads > (1 << 16) || f->heads % f->kv_heads || f->head_dim < 1 ||
        f->head_dim > FUR_FAR_MOST_DIM || f->value_dim < 1 || f->value_dim > FUR_FAR_MOST_DIM || f->degree < 1 ||
        f->degree > FUR_FAR_MOST_DEGREE || rows < 0 || rows > (int64_t)1 << 40)
        return fur_error_set(
            exec->error, FUR_E_SHAPE,
            "far field of %lld rows, %lld heads on %lld key heads of width %lld, values of %lld, degree "
            "%lld: key heads must divide heads, widths be 1..%d, degree 1..%d",
            (long long)rows, (long long)f->heads, (long long)f->kv_heads, (long long)f->head_dim,
            (long long)f->value_dim, (long long)f->degree, FUR_FAR_MOST_DIM, FUR_FAR_MOST_DEGREE);
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
    float *x_STD, *y_STE, *df_ST; /* S: slots, of key heads or threads; T: rows of a step under one key head */
    uint32_t *packed_SW;          /* W: words of a packed state */
    int64_t rows, packed_words;   /* T, in whole tasks; W */
    float *scratch;
    int64_t scratch_floats; /* per thread */
    int fits;
} layout;

/* `rows`: virtual ones of a step under one key head. */
static layout lay_out(const fur_exec *exec, fur_arena *arena, const fur_far *far, int64_t rows)
{
    const fur_far_kernel *kernel = kernel_of(exec);
    layout out = {.features = sizes(exec, far->head_dim, far->value_dim, far->degree),
                  .rows = fur_round_up(rows, FUR_FAR_ROWS)};
    const fur_far_layout *l = &out.features;
    int64_t slots = fur_max_i64(far->kv_heads, exec->threads), all_rows = out.rows * slots;
    out.slices = fur_arena_push(arena, l->slice_count * (int64_t)sizeof *out.slices);
    out.multinomial = fur_arena_push_f32(arena, l->features);
    out.exponent = fur_arena_push(arena, l->features * (int64_t)sizeof *out.exponent);
    out.w_KR = fur_arena_push_f32(arena, far->kv_heads * l->features);
    out.x_STD = fur_arena_push_f32(arena, all_rows * l->dim);
    out.y_STE = fur_arena_push_f32(arena, all_rows * l->columns + FUR_FAR_SPARE);
    out.df_ST = fur_arena_push_f32(arena, all_rows);
    out.packed_words = kernel->pack ? fur_round_up(kernel->packed_words(l), FUR_ARENA_ALIGN / 4) : 0;
    out.packed_SW = fur_arena_push(arena, slots * out.packed_words * (int64_t)sizeof *out.packed_SW);
    int64_t floats = fur_max_i64(kernel->scratch_floats(l), fur_far_ref.scratch_floats(l));
    out.scratch_floats = fur_round_up(floats, FUR_ARENA_ALIGN / (int64_t)sizeof(float));
    out.scratch = fur_arena_push_f32(arena, out.scratch_floats * exec->threads);
    out.fits = out.slices && out.multinomial && out.exponent && out.w_KR && out.x_STD && out.y_STE && out.df_ST &&
               out.packed_SW && out.scratch;
    return out;
}

int64_t fur_far_workspace(const fur_exec *exec, const fur_far *far, int64_t rows)
{
    fur_arena arena = fur_arena_counting();
    lay_out(exec, &arena, far, rows * (far->heads / far->kv_heads));
    return arena.peak;
}

/* ---- one step of one key head ------------------------------------------------------------------------------------ */

typedef struct steps {
    const fur_far *far;
    const fur_far_kernel *kernel;
    layout at;
    int64_t group;
} steps;

static int is_of_keys(const fur_far_step *step)
{
    return step->type == FUR_FAR_ADD_KEYS || step->type == FUR_FAR_KEY_BACKWARD;
}

static int is_sum(const fur_far_step *step)
{
    return step->type == FUR_FAR_ADD_KEYS || step->type == FUR_FAR_ADD_QUERIES;
}

/* Keys, or virtual rows of queries, under one key head. */
static int64_t rows_of(const steps *t, const fur_far_step *step)
{
    return is_of_keys(step) ? step->keys.count : step->queries.count * t->group;
}

static float *scratch_of(const steps *t)
{
    return t->at.scratch + omp_get_thread_num() * t->at.scratch_floats;
}

static int left_out(const fur_far *far, int64_t kv_head)
{
    return far->exact_K && far->exact_K[kv_head] > 0;
}

static uint32_t *packed_of(const steps *t, int64_t slot)
{
    return t->at.packed_SW + slot * t->at.packed_words;
}

static int reads_state(const fur_far_step *step)
{
    return step->type == FUR_FAR_QUERY || step->type == FUR_FAR_QUERY_BACKWARD || step->type == FUR_FAR_KEY_BACKWARD;
}

/* Where x, y and df of a slot's rows from `first` on stand. */
static float *x_of(const steps *t, int64_t slot, int64_t first)
{
    return t->at.x_STD + (slot * t->at.rows + first) * t->at.features.dim;
}

static float *y_of(const steps *t, int64_t slot, int64_t first)
{
    return t->at.y_STE + (slot * t->at.rows + first) * t->at.features.columns;
}

static float *df_of(const steps *t, int64_t slot, int64_t first)
{
    return t->at.df_ST + slot * t->at.rows + first;
}

/* What is done for rows first .. first+count-1, at most FUR_FAR_ROWS. */
static void run_rows(const steps *t, const fur_far_step *step, int64_t h, int64_t slot, int64_t first, int64_t count)
{
    const fur_far_layout *l = &t->at.features;
    const fur_far_call call = {.far = t->far,
                               .layout = *l,
                               .group = t->group,
                               .keys = &step->keys,
                               .queries = &step->queries,
                               .state_KRE = step->state_KRE,
                               .packed = packed_of(t, slot),
                               .sign = step->sign};
    float *x = x_of(t, slot, first), *y = y_of(t, slot, first), *scratch = scratch_of(t);
    switch (step->type) {
    case FUR_FAR_ADD_KEYS:
        t->kernel->keys(&call, h, first, count, x, y, scratch);
        for (int64_t n = 0; n < count * l->columns; n++)
            y[n] *= step->sign;
        break;
    case FUR_FAR_ADD_QUERIES: t->kernel->queries(&call, h, first, first + count, x, y, scratch); break;
    case FUR_FAR_QUERY: t->kernel->query(&call, h, first, first + count, scratch); break;
    case FUR_FAR_QUERY_BACKWARD:
        t->kernel->query_backward(&call, h, first, first + count, df_of(t, slot, first), scratch);
        break;
    case FUR_FAR_KEY_BACKWARD: t->kernel->key_backward(&call, h, first, count, scratch); break;
    case FUR_FAR_MOMENTS: fur_far_ref.moments(&call, h, first, first + count, step->moment_THP, scratch); break;
    }
}

/* state += sum of the x and y that the slot holds, features [from, to) */
static void run_sum(const steps *t, const fur_far_step *step, int64_t h, int64_t slot, int64_t from, int64_t to)
{
    const fur_far_layout *l = &t->at.features;
    t->kernel->add(l, from, to, rows_of(t, step), x_of(t, slot, 0), y_of(t, slot, 0), t->at.w_KR + h * l->features,
                   step->state_KRE + h * fur_far_head_floats(l), scratch_of(t));
}

/* The slot's packed state, features [from, to) of the highest degree */
static void run_pack(const steps *t, const fur_far_step *step, int64_t h, int64_t slot, int64_t from, int64_t to)
{
    const fur_far_layout *l = &t->at.features;
    t->kernel->pack(l, step->type, fur_max_i64(from, l->lower), to, step->state_KRE + h * fur_far_head_floats(l),
                    packed_of(t, slot));
}

static int is_packed(const steps *t, const fur_far_step *step)
{
    return t->kernel->pack && reads_state(step) && rows_of(t, step);
}

/* dbias of the heads that read key head h */
static void run_bias(const steps *t, const fur_far_step *step, int64_t h, int64_t slot)
{
    if (step->type != FUR_FAR_QUERY_BACKWARD || !step->queries.dbias_H)
        return;
    const float *df = df_of(t, slot, 0);
    for (int64_t g = 0; g < t->group; g++) {
        double sum = 0;
        for (int64_t v = g; v < rows_of(t, step); v += t->group)
            sum += (double)df[v];
        step->queries.dbias_H[h * t->group + g] += (float)sum;
    }
}

/* ---- all steps --------------------------------------------------------------------------------------------------- */

/* One key head after the other goes through all steps: its sum stays in the second cache from step to step. */
static void run_by_heads(const fur_exec *exec, const steps *t, const fur_far_step *list, int64_t count)
{
    int64_t K = t->far->kv_heads;
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (K > 1)
    for (int64_t h = 0; h < K; h++) {
        int64_t slot = omp_get_thread_num();
        for (int64_t i = 0; i < count && !left_out(t->far, h); i++) {
            const fur_far_step *step = &list[i];
            int64_t rows = rows_of(t, step), features = t->at.features.features;
            if (is_packed(t, step))
                run_pack(t, step, h, slot, 0, features);
            for (int64_t first = 0; first < rows; first += FUR_FAR_ROWS)
                run_rows(t, step, h, slot, first, fur_min_i64(FUR_FAR_ROWS, rows - first));
            if (is_sum(step) && rows)
                run_sum(t, step, h, slot, 0, features);
            run_bias(t, step, h, slot);
        }
    }
}

/* Tasks of one key head's sum: with few key heads, ranges of features, each of which forms the lower ones again. */
static int64_t segments_of(const fur_far_layout *l, int64_t kv_heads)
{
    int64_t blocks = fur_div_up(l->features - l->lower, FUR_FAR_BLOCK);
    return fur_min_i64(fur_div_up(8, kv_heads), blocks);
}

/* Features from which segment `index` of `count` sums. */
static int64_t segment_start(const fur_far_layout *l, int64_t index, int64_t count)
{
    int64_t blocks = fur_div_up(l->features - l->lower, FUR_FAR_BLOCK);
    return index == 0 ? 0 : index == count ? l->features : l->lower + blocks * index / count * FUR_FAR_BLOCK;
}

typedef void segment_work(const steps *t, const fur_far_step *step, int64_t h, int64_t slot, int64_t from, int64_t to);

/* Something for all features of every key head, in parallel segments. */
static void run_segments(const fur_exec *exec, const steps *t, const fur_far_step *step, segment_work *work)
{
    int64_t K = t->far->kv_heads, segments = segments_of(&t->at.features, K);
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (K * segments > 1)
    for (int64_t n = 0; n < K * segments; n++) {
        int64_t h = n / segments, part = n % segments;
        if (!left_out(t->far, h))
            work(t, step, h, h, segment_start(&t->at.features, part, segments),
                 segment_start(&t->at.features, part + 1, segments));
    }
}

/* Key heads too few for the threads, or not in equal shares: step by step, each in parts. */
static void run_by_steps(const fur_exec *exec, const steps *t, const fur_far_step *list, int64_t count)
{
    int64_t K = t->far->kv_heads;
    for (int64_t i = 0; i < count; i++) {
        const fur_far_step *step = &list[i];
        int64_t rows = rows_of(t, step), tasks = fur_div_up(rows, FUR_FAR_ROWS) * K;
        if (is_packed(t, step))
            run_segments(exec, t, step, run_pack);
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (tasks > 1)
        for (int64_t n = 0; n < tasks; n++) {
            int64_t h = n % K, first = n / K * FUR_FAR_ROWS;
            if (!left_out(t->far, h))
                run_rows(t, step, h, h, first, fur_min_i64(FUR_FAR_ROWS, rows - first));
        }
        if (is_sum(step) && rows)
            run_segments(exec, t, step, run_sum);
        for (int64_t h = 0; h < K; h++)
            if (!left_out(t->far, h))
                run_bias(t, step, h, h);
    }
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

fur_status fur_far_run(const fur_exec *exec, const fur_far *far, const fur_far_step *list, int64_t count)
{
    int64_t keys = 0, queries = 0, mark = fur_arena_mark(exec->workspace), K = far->kv_heads;
    for (int64_t i = 0; i < count; i++) {
        FUR_TRY(check(exec, far, is_of_keys(&list[i]) ? list[i].keys.count : list[i].queries.count));
        keys = fur_max_i64(keys, is_of_keys(&list[i]) ? list[i].keys.count : 0);
        queries = fur_max_i64(queries, is_of_keys(&list[i]) ? 0 : list[i].queries.count);
    }
    if (count == 0)
        return FUR_OK;
    steps t = {.far = far, .kernel = kernel_of(exec), .group = far->heads / K};
    int64_t most = fur_max_i64(keys, queries * t.group);
    t.at = lay_out(exec, exec->workspace, far, most);
    if (!t.at.fits) {
        fur_arena_release(exec->workspace, mark);
        return fur_error_set(exec->error, FUR_E_MEMORY, "far field of %lld rows: workspace too small", (long long)most);
    }
    make_slices(&t.at.features, t.at.slices);
    t.at.features.slices = t.at.slices;
    make_multinomials(&t.at.features, t.at.multinomial, t.at.exponent);
    make_weights(far, &t.at.features, t.at.multinomial, t.at.w_KR);
    if (K % exec->threads == 0 || K >= (int64_t)4 * exec->threads)
        run_by_heads(exec, &t, list, count);
    else
        run_by_steps(exec, &t, list, count);
    fur_arena_release(exec->workspace, mark);
    for (int64_t i = 0; i < count; i++)
        if (list[i].type == FUR_FAR_QUERY)
            FUR_TRY(check_normalisers(exec, far, &list[i].queries));
    return FUR_OK;
}
