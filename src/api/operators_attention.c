/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on arrays of the caller, through the seam: keys and values stay where they are (keys_elsewhere). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "api/operators.h"
#include "attention/far_fit.h"
#include "base/size.h"

#define DEFAULT_DEGREE 2
#define DEFAULT_CHUNK  128
#define DEFAULT_BOUND  1.0

#define MOST_ROWS  ((int64_t)1 << 40)
#define MOST_HEADS ((int64_t)1 << 16)
#define MOST_WIDTH 1024

/* Rows of a call of the seam: as large as training has them, so that what backward gathers of a call stays small. */
#define BLOCK_ROWS 4096

void fur_operator_attention_defaults(fur_operator_attention *s)
{
    memset(s, 0, sizeof *s);
    s->struct_size = sizeof *s;
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

static fur_status check_widths(fur_error *error, const fur_operator_attention_job *job)
{
    const fur_operator_attention *s = &job->s;
    int64_t elements;
    if (s->queries < 1 || s->keys < 1 || s->queries > MOST_ROWS || s->keys > MOST_ROWS || s->heads < 1 ||
        s->heads > MOST_HEADS || s->kv_heads < 1 || s->kv_heads > s->heads || s->head_dim < 1 ||
        s->head_dim > MOST_WIDTH)
        return fur_error_set(error, FUR_E_SHAPE, "%s: expected 1 to 2^40 rows, 1 to %lld heads, widths of 1 to %d",
                             job->what, (long long)MOST_HEADS, MOST_WIDTH);
    if (s->heads % s->kv_heads)
        return fur_error_set(error, FUR_E_SHAPE, "%s: %lld query heads do not divide into %lld key heads", job->what,
                             (long long)s->heads, (long long)s->kv_heads);
    if (s->queries > s->keys)
        return fur_error_set(error, FUR_E_SHAPE,
                             "%s: more queries than keys; queries stand at the last positions of the keys", job->what);
    if (!fur_mul_ok(s->keys, s->heads * s->head_dim * (int64_t)sizeof(double), &elements))
        return fur_error_set(error, FUR_E_SHAPE, "%s: more bytes than can be counted", job->what);
    return FUR_OK;
}

static fur_status check_offsets(fur_error *error, const fur_operator_attention_job *job)
{
    const fur_operator_attention *s = &job->s;
    const int64_t *key = s->offsets, *query = s->query_offsets;
    int64_t n = s->documents;
    if (!key && (n > 1 || query))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: %lld documents without offsets", job->what, (long long)n);
    if (!key)
        return FUR_OK;
    if (key[0] != 0 || key[n] != s->keys || (query && (query[0] != 0 || query[n] != s->queries)))
        return fur_error_set(error, FUR_E_SHAPE, "%s: offsets of %lld documents from %lld to %lld, expected 0 to %lld",
                             job->what, (long long)n, (long long)(query ? query[0] : key[0]),
                             (long long)(query ? query[n] : key[n]), (long long)(query ? s->queries : s->keys));
    for (int64_t i = 0; i < n; i++) {
        if (key[i + 1] <= key[i])
            return fur_error_set(error, FUR_E_SHAPE, "%s: document %lld begins at key %lld and ends at %lld", job->what,
                                 (long long)i, (long long)key[i], (long long)key[i + 1]);
        if (query && (query[i + 1] < query[i] || query[i + 1] - query[i] > key[i + 1] - key[i]))
            return fur_error_set(error, FUR_E_SHAPE,
                                 "%s: document %lld has %lld queries and %lld keys, expected 0 to as many", job->what,
                                 (long long)i, (long long)(query[i + 1] - query[i]), (long long)(key[i + 1] - key[i]));
    }
    if (!query && n > 1 && s->queries != s->keys)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "%s: %lld documents, and no query_offsets say which queries are whose", job->what,
                             (long long)n);
    return FUR_OK;
}

static fur_status check_exact(fur_error *error, const fur_operator_attention_job *job)
{
    const fur_operator_attention *s = &job->s;
    if (s->degree || s->chunk || s->bound > 0 || s->coefficient_KP || s->query_mean_KD || s->key_mean_KD || s->bias_H)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "%s: degree, chunk, bound, coefficients, means and bias are of kind almost-linear",
                             job->what);
    if (!(s->softcap >= 0) || !((float)s->softcap < INFINITY) || !(s->dropout >= 0) || !((float)s->dropout < 1))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: softcap %g, dropout %g, expected 0 or above, dropout below 1",
                             job->what, s->softcap, s->dropout);
    return FUR_OK;
}

static fur_status check_almost_linear(fur_error *error, const fur_operator_attention_job *job)
{
    const fur_operator_attention *s = &job->s;
    if (s->softcap > 0 || s->alibi || s->sink_H || s->dropout > 0)
        return fur_error_set(error, FUR_E_UNSUPPORTED,
                             "%s: almost-linear attention has no softcap, ALiBi, sink logits or dropout", job->what);
    if (s->queries != s->keys ||
        (s->query_offsets && memcmp(s->query_offsets, s->offsets, (size_t)(s->documents + 1) * sizeof(int64_t)) != 0))
        return fur_error_set(error, FUR_E_UNSUPPORTED, "%s: almost-linear attention takes a query for every key",
                             job->what);
    if (s->degree < 1 || s->degree > FUR_FAR_MOST_DEGREE || s->head_dim > FUR_FAR_MOST_DIM ||
        fur_far_features(s->head_dim, s->degree) == INT64_MAX)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "%s: degree %lld at heads of %lld: expected 1 to %d, heads of 1 to %d, and at most %lld "
                             "features",
                             job->what, (long long)s->degree, (long long)s->head_dim, FUR_FAR_MOST_DEGREE,
                             FUR_FAR_MOST_DIM, (long long)FUR_FAR_MOST_FEATURES);
    /* sums before each block of a row; in backward one each */
    int64_t floats = fur_far_state_floats(s->kv_heads, s->head_dim, s->head_dim, s->degree), bytes;
    if (!fur_mul_ok(floats, (s->keys / BLOCK_ROWS + 2) * (int64_t)sizeof(float), &bytes))
        return fur_error_set(error, FUR_E_SHAPE, "%s: more bytes than can be counted", job->what);
    if (s->chunk < 16 || s->chunk > 4096)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: chunk %lld, expected 16 to 4096", job->what,
                             (long long)s->chunk);
    if (!(s->bound >= 1e-6 && s->bound <= 16))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: bound %g, expected 1e-6 to 16", job->what, s->bound);
    for (int64_t i = 0; s->coefficient_KP && i < s->kv_heads * (s->degree + 1); i++)
        if (!isfinite(s->coefficient_KP[i]))
            return fur_error_set(error, FUR_E_ARGUMENT, "%s: coefficient %lld of key head %lld is %g", job->what,
                                 (long long)(i % (s->degree + 1)), (long long)(i / (s->degree + 1)),
                                 (double)s->coefficient_KP[i]);
    return FUR_OK;
}

static const fur_attention_kind *kind_of(const char *name)
{
    for (int i = 0; i < fur_attention_kind_count(); i++)
        if (strcmp(fur_attention_kind_at(i)->name, name) == 0)
            return fur_attention_kind_at(i);
    return NULL;
}

static void set_defaults(fur_operator_attention *s, int far)
{
    s->kv_heads = s->kv_heads ? s->kv_heads : s->heads;
    s->keys = s->keys ? s->keys : s->queries;
    s->documents = s->documents ? s->documents : 1;
    if (!far)
        return;
    s->degree = s->degree ? s->degree : DEFAULT_DEGREE;
    s->chunk = s->chunk ? s->chunk : DEFAULT_CHUNK;
    s->bound = s->bound > 0 || s->bound < 0 ? s->bound : DEFAULT_BOUND;
}

static fur_attention_shape shape_of(const fur_context *context, const fur_operator_attention *s, double scale)
{
    fur_attention_shape shape = {.heads = s->heads,
                                 .kv_heads = s->kv_heads,
                                 .head_dim = s->head_dim,
                                 .scale = (float)scale,
                                 .causal = !s->bidirectional,
                                 .compute = context->exec.compute,
                                 .keys_elsewhere = 1,
                                 .features = {.sink_tokens = s->sink_tokens,
                                              .softcap = (float)s->softcap,
                                              .alibi = s->alibi,
                                              .sink_H = s->sink_H,
                                              .dropout = (float)s->dropout,
                                              .dropout_key = s->dropout_key}};
    if (s->degree == 0) {
        shape.features.window = s->window;
        return shape;
    }
    shape.near = fur_min_i64(s->window, s->keys);
    shape.chunk = s->chunk;
    shape.far = (fur_far){.heads = s->heads,
                          .kv_heads = s->kv_heads,
                          .head_dim = s->head_dim,
                          .value_dim = s->head_dim,
                          .degree = s->degree,
                          .bound = (float)s->bound,
                          .query_mean_KD = s->query_mean_KD,
                          .key_mean_KD = s->key_mean_KD,
                          .coefficient_KP = s->coefficient_KP,
                          .bias_H = s->bias_H};
    return shape;
}

fur_status fur_operator_attention_check(fur_context *context, const fur_operator_attention *settings,
                                        fur_operator_attention_job *job)
{
    fur_error *error = &context->error;
    FUR_TRY(fur_operator_check_size(error, "fur_operator_attention", settings->struct_size, sizeof *settings));
    memset(job, 0, sizeof *job);
    job->s = *settings;
    fur_operator_attention *s = &job->s;
    job->kind = kind_of(s->kind ? s->kind : "exact");
    if (!job->kind)
        return fur_error_set(error, FUR_E_ARGUMENT, "attention: no kind '%s'", s->kind);
    int far = job->kind == &fur_attention_almost_linear;
    set_defaults(s, far);
    snprintf(job->what, sizeof job->what, "attention of q[%lld,%lld,%lld] over k[%lld,%lld,%lld]",
             (long long)s->queries, (long long)s->heads, (long long)s->head_dim, (long long)s->keys,
             (long long)s->kv_heads, (long long)s->head_dim);
    FUR_TRY(check_widths(error, job));
    if (s->documents < 1 || s->documents > s->keys || s->window < 0 || s->window > MOST_ROWS || s->sink_tokens < 0 ||
        s->sink_tokens > MOST_ROWS)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "%s: %lld documents, window %lld, %lld sink tokens, expected a document for each key at "
                             "most, and 0 to 2^40",
                             job->what, (long long)s->documents, (long long)s->window, (long long)s->sink_tokens);
    if (!isfinite(s->scale) || !isfinite((float)s->scale))
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: scale %g", job->what, s->scale);
    FUR_TRY(check_offsets(error, job));
    FUR_TRY(far ? check_almost_linear(error, job) : check_exact(error, job));
    job->scale = s->scale > 0 || s->scale < 0 ? s->scale : 1.0 / sqrt((double)s->head_dim);
    job->shape = shape_of(context, s, job->scale);
    job->whole[1] = s->keys;
    job->documents = (fur_documents){s->documents, s->offsets};
    job->segments = s->query_offsets ? s->documents : 1;
    return FUR_OK;
}

fur_operator_segment fur_operator_segment_of(const fur_operator_attention_job *job, int64_t index)
{
    const fur_operator_attention *s = &job->s;
    if (!s->query_offsets)
        return (fur_operator_segment){s->keys - s->queries, s->queries, 0};
    int64_t count = s->query_offsets[index + 1] - s->query_offsets[index];
    return (fur_operator_segment){s->offsets[index + 1] - count, count, s->query_offsets[index]};
}

void fur_operator_far_constants(fur_operator_attention_job *job, fur_arena *arena)
{
    const fur_operator_attention *s = &job->s;
    fur_far *far = &job->shape.far;
    if (far->degree == 0)
        return;
    float *mean = NULL, *coefficient = NULL;
    if (!s->query_mean_KD || !s->key_mean_KD)
        mean = fur_arena_push_f32(arena, s->kv_heads * s->head_dim);
    if (!s->coefficient_KP)
        coefficient = fur_arena_push_f32(arena, s->kv_heads * (s->degree + 1));
    if (!arena->base)
        return;
    if (mean)
        memset(mean, 0, (size_t)(s->kv_heads * s->head_dim) * sizeof *mean);
    for (int64_t h = 0; coefficient && h < s->kv_heads; h++)
        fur_far_fit_normal(s->bound / sqrt((double)s->head_dim), s->bound, s->degree,
                           coefficient + h * (s->degree + 1));
    far->query_mean_KD = s->query_mean_KD ? s->query_mean_KD : mean;
    far->key_mean_KD = s->key_mean_KD ? s->key_mean_KD : mean;
    far->coefficient_KP = s->coefficient_KP ? s->coefficient_KP : coefficient;
}

/* ---- f32 --------------------------------------------------------------------------------------------------------- */

typedef struct attention_run {
    fur_operator_attention_job job;
    fur_exec exec;
    fur_arena arena;
    fur_attention_state state;
    int64_t block, width, key_width;
    float *lse, *dsink, *dbias; /* where the caller does not want them */
} attention_run;

static void lay_out(attention_run *r, int backward, fur_arena *arena)
{
    const fur_operator_attention *s = &r->job.s;
    r->job.kind->reserve(&r->job.shape, s->keys, r->block, backward, arena, &r->state);
    fur_operator_far_constants(&r->job, arena);
    r->lse = fur_arena_push_f32(arena, backward ? 0 : s->queries * s->heads);
    r->dsink = fur_arena_push_f32(arena, backward ? s->heads : 0);
    r->dbias = fur_arena_push_f32(arena, backward ? s->heads : 0);
}

static fur_status measure(fur_context *context, const fur_operator_attention *settings, int backward, attention_run *r,
                          int64_t *bytes)
{
    memset(r, 0, sizeof *r);
    FUR_TRY(fur_operator_attention_check(context, settings, &r->job));
    const fur_operator_attention *s = &r->job.s;
    if (!r->job.documents.offsets)
        r->job.documents.offsets = r->job.whole;
    r->exec = context->exec;
    r->block = fur_min_i64(BLOCK_ROWS, s->keys);
    r->width = s->heads * s->head_dim;
    r->key_width = s->kv_heads * s->head_dim;
    fur_arena counting = fur_arena_counting();
    lay_out(r, backward, &counting);
    int64_t work = r->job.kind->workspace(&r->exec, &r->job.shape, r->block, s->documents, backward);
    if (counting.failed || !fur_add_ok(counting.peak, work, bytes) || !fur_add_ok(*bytes, FUR_ARENA_ALIGN, bytes))
        return fur_error_set(&context->error, FUR_E_SHAPE, "%s: more bytes of workspace than can be counted",
                             r->job.what);
    return FUR_OK;
}

fur_status fur_operator_attention_bytes(fur_context *context, const fur_operator_attention *settings, bool backward,
                                        int64_t *out)
{
    attention_run r;
    return measure(context, settings, backward, &r, out);
}

static fur_status begin(fur_context *context, const fur_operator_attention *settings, int backward, attention_run *r)
{
    int64_t bytes;
    FUR_TRY(measure(context, settings, backward, r, &bytes));
    FUR_TRY(fur_operator_arena(&context->error, r->job.what, bytes, settings->memory_bytes, &r->arena));
    lay_out(r, backward, &r->arena);
    r->exec.workspace = &r->arena;
    return FUR_OK;
}

static float *not_const(const float *x)
{
    return (float *)(uintptr_t)x; /* the seam has one pointer for what it reads here and writes elsewhere */
}

/* Calls for rows, none of which crosses a multiple of the block. */
typedef fur_status (*rows_fn)(void *user, attention_run *r, int64_t first, int64_t count, int64_t query);

static fur_status ascending(attention_run *r, rows_fn fn, void *user)
{
    for (int64_t i = 0; i < r->job.segments; i++) {
        fur_operator_segment s = fur_operator_segment_of(&r->job, i);
        for (int64_t first = s.first, end = s.first + s.count, next; first < end; first = next) {
            next = fur_min_i64(end, (first / r->block + 1) * r->block);
            FUR_TRY(fn(user, r, first, next - first, s.query + first - s.first));
        }
    }
    return FUR_OK;
}

static fur_status descending(attention_run *r, rows_fn fn, void *user)
{
    for (int64_t i = r->job.segments - 1; i >= 0; i--) {
        fur_operator_segment s = fur_operator_segment_of(&r->job, i);
        for (int64_t end = s.first + s.count, first; end > s.first; end = first) {
            first = fur_max_i64(s.first, (end - 1) / r->block * r->block);
            FUR_TRY(fn(user, r, first, end - first, s.query + first - s.first));
        }
    }
    return FUR_OK;
}

static fur_status absorb_all(attention_run *r, const float *k, const float *v, int backward)
{
    const fur_attention_shape *shape = &r->job.shape;
    if (shape->compute == FUR_COMPUTE_F32) {
        r->state.k_SKD = not_const(k);
        r->state.v_SKD = not_const(v);
    }
    for (int64_t first = 0; first < r->job.s.keys; first += r->block) {
        int64_t count = fur_min_i64(r->block, r->job.s.keys - first), at = first * r->key_width;
        FUR_TRY(r->job.kind->absorb(&r->exec, shape, &r->state, &r->job.documents, first, count, not_const(k + at),
                                    not_const(v + at)));
        if (backward)
            r->job.kind->begin_backward(&r->exec, shape, &r->state, first, count);
    }
    return FUR_OK;
}

typedef struct forward_arrays {
    const float *q;
    float *o, *lse;
} forward_arrays;

static fur_status query(void *user, attention_run *r, int64_t first, int64_t count, int64_t row)
{
    const forward_arrays *a = user;
    return r->job.kind->query(&r->exec, &r->job.shape, &r->state, &r->job.documents, first, count,
                              a->q + row * r->width, a->o + row * r->width, a->lse + row * r->job.s.heads);
}

fur_status fur_operator_attention_forward(fur_context *context, const fur_operator_attention *settings,
                                          const float *q_THD, const float *k_SKD, const float *v_SKD, float *o_THD,
                                          float *lse_TH)
{
    attention_run r;
    FUR_TRY(begin(context, settings, 0, &r));
    forward_arrays arrays = {q_THD, o_THD, lse_TH ? lse_TH : r.lse};
    fur_status status = absorb_all(&r, k_SKD, v_SKD, 0);
    if (status == FUR_OK)
        status = ascending(&r, query, &arrays);
    fur_arena_destroy(&r.arena);
    return status;
}

static fur_status rebuild(void *user, attention_run *r, int64_t first, int64_t count, int64_t row)
{
    (void)user, (void)row;
    return r->job.kind->rebuild(&r->exec, &r->job.shape, &r->state, &r->job.documents, first, count);
}

typedef struct backward_arrays {
    const float *q, *o, *lse, *d_o;
    float *dq;
} backward_arrays;

static fur_status query_backward(void *user, attention_run *r, int64_t first, int64_t count, int64_t row)
{
    const backward_arrays *a = user;
    int64_t at = row * r->width;
    return r->job.kind->query_backward(&r->exec, &r->job.shape, &r->state, &r->job.documents, first, count, a->q + at,
                                       a->o + at, a->lse + row * r->job.s.heads, a->d_o + at, a->dq + at);
}

/* Where gradients by sink logits or biases are added up: the caller's place or one here; none without these. */
static float *zeroed(const attention_run *r, const float *values, float *wanted, float *own)
{
    if (!values)
        return NULL;
    float *out = wanted ? wanted : own;
    memset(out, 0, (size_t)r->job.s.heads * sizeof *out);
    return out;
}

fur_status fur_operator_attention_backward(fur_context *context, const fur_operator_attention *settings,
                                           const float *q_THD, const float *k_SKD, const float *v_SKD,
                                           const float *o_THD, const float *lse_TH, const float *do_THD,
                                           const fur_operator_attention_gradients *out)
{
    attention_run r;
    FUR_TRY(begin(context, settings, 1, &r));
    r.state.dk_SKD = out->dk_SKD;
    r.state.dv_SKD = out->dv_SKD;
    r.job.shape.dsink_H = zeroed(&r, settings->sink_H, out->dsink_H, r.dsink);
    r.job.shape.dbias_H = zeroed(&r, settings->bias_H, out->dbias_H, r.dbias);
    backward_arrays arrays = {q_THD, o_THD, lse_TH, do_THD, out->dq_THD};
    fur_status status = absorb_all(&r, k_SKD, v_SKD, 1);
    if (status == FUR_OK && r.job.kind->rebuild)
        status = ascending(&r, rebuild, NULL);
    if (status == FUR_OK)
        status = descending(&r, query_backward, &arrays);
    fur_arena_destroy(&r.arena);
    return status;
}
