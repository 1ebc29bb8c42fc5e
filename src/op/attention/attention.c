/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, workspace, threads and dispatch of attention. */
#include "op/attention/attention.h"

#include <math.h>
#include <omp.h>

#include "op/attention/attention_kernel.h"

/* With exec->compute bf16 keys and values are of that: products of bf16 where the machine has fast ones and the call no
 * features, else these operands in the f32 kernels. */
static const fur_attention_kernel *kernel_of(const fur_exec *exec, int featureless)
{
    if (exec->compute == FUR_COMPUTE_BF16 && featureless) {
#if FUR_HAVE_AMX
        if (exec->isa >= FUR_ISA_AMX)
            return &fur_attention_amx;
#endif
#if FUR_HAVE_AVX512BF16
        if (exec->isa == FUR_ISA_AVX512BF16)
            return &fur_attention_avx512bf16;
#endif
    }
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_attention_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_attention_avx2;
#endif
    (void)exec, (void)featureless;
    return &fur_attention_ref;
}

static int is_featureless(const fur_attention_args *args)
{
    const fur_attention_features *f = &args->features;
    return !f->window && !(f->softcap > 0) && !f->alibi && !(f->dropout > 0) && !f->sink_H;
}

/* ---- features ---------------------------------------------------------------------------------------------------- */

double fur_attention_slope(int64_t heads, int64_t head)
{
    int64_t power = 1;
    while (2 * power <= heads)
        power *= 2;
    if (head < power)
        return exp2(-8.0 * (double)(head + 1) / (double)power);
    return exp2(-8.0 * (double)(2 * (head - power) + 1) / (double)(2 * power));
}

uint32_t fur_attention_draw(uint64_t key, int64_t head, int64_t token, int64_t position)
{
    uint32_t words[4];
    fur_random_words(key, (uint64_t)head << 40 | (uint64_t)token, (uint64_t)position >> 2, words);
    return words[position & 3];
}

/* ---- checks ------------------------------------------------------------------------------------------------------ */

/* Far above what memory can hold, and products of a few such numbers' sums stay in range. */
#define LARGEST_COUNT ((int64_t)1 << 40)
#define LARGEST_HEADS ((int64_t)1 << 16)

static fur_status check_widths(const fur_exec *exec, const fur_attention_args *a, int backward)
{
    if (a->kv_heads < 1 || a->heads < 1 || a->heads > LARGEST_HEADS || a->heads % a->kv_heads != 0 || a->head_dim < 1 ||
        a->head_dim > FUR_ATTENTION_HEAD_DIM)
        return fur_error_set(exec->error, FUR_E_SHAPE,
                             "attention of %lld heads on %lld key heads of width %lld: key heads must divide heads, "
                             "width be 1..%d",
                             (long long)a->heads, (long long)a->kv_heads, (long long)a->head_dim,
                             FUR_ATTENTION_HEAD_DIM);
    if (a->first_head < 0 || a->all_heads < 0 || a->all_heads > LARGEST_HEADS ||
        (a->all_heads ? a->first_head > a->all_heads - a->heads : a->first_head != 0) ||
        a->all_heads % (a->heads / a->kv_heads) != 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "attention of heads %lld to %lld of a layer of %lld",
                             (long long)a->first_head, (long long)(a->first_head + a->heads - 1),
                             (long long)a->all_heads);
    int64_t q = a->heads * a->head_dim, k = a->kv_heads * a->head_dim;
    if (a->ldq < q || a->ldo < q || a->ldk < k || a->ldlse < a->heads)
        return fur_error_set(exec->error, FUR_E_SHAPE,
                             "attention strides ldq %lld, ldo %lld (at least %lld), ldk %lld (%lld), ldlse %lld (%lld)",
                             (long long)a->ldq, (long long)a->ldo, (long long)q, (long long)a->ldk, (long long)k,
                             (long long)a->ldlse, (long long)a->heads);
    if (backward && (a->lddo < q || a->lddq < q || a->lddk < k))
        return fur_error_set(exec->error, FUR_E_SHAPE,
                             "attention backward strides lddo %lld, lddq %lld (at least %lld), lddk %lld (%lld)",
                             (long long)a->lddo, (long long)a->lddq, (long long)q, (long long)a->lddk, (long long)k);
    return FUR_OK;
}

static fur_status check_features(const fur_exec *exec, const fur_attention_args *a)
{
    const fur_attention_features *f = &a->features;
    if (f->window < 0 || f->window > LARGEST_COUNT || f->sink_tokens < 0 || f->sink_tokens > LARGEST_COUNT)
        return fur_error_set(exec->error, FUR_E_ARGUMENT, "attention window %lld, sink tokens %lld: expected 0 to 2^40",
                             (long long)f->window, (long long)f->sink_tokens);
    if (!(f->softcap >= 0) || !isfinite(f->softcap) || !(f->dropout >= 0 && f->dropout < 1))
        return fur_error_set(exec->error, FUR_E_ARGUMENT,
                             "attention softcap %g, dropout %g: expected at least 0, dropout below 1",
                             (double)f->softcap, (double)f->dropout);
    return FUR_OK;
}

static fur_status check_piece(const fur_exec *exec, const fur_query_piece *piece, int64_t number, int backward)
{
    if (piece->count < 0 || piece->count > LARGEST_COUNT || piece->first_row < 0 || piece->first_row > LARGEST_COUNT ||
        piece->first_position < 0 || piece->first_position > LARGEST_COUNT || piece->span_count < 0 ||
        piece->first_token < 0 || piece->first_token > LARGEST_COUNT - piece->count)
        return fur_error_set(exec->error, FUR_E_SHAPE, "attention piece %lld: %lld queries at row %lld, position %lld",
                             (long long)number, (long long)piece->count, (long long)piece->first_row,
                             (long long)piece->first_position);
    int64_t after = 0;
    for (int64_t i = 0; i < piece->span_count; i++) {
        const fur_key_span *span = &piece->spans[i];
        if (span->count < 0 || span->count > LARGEST_COUNT || span->first_position < after ||
            span->first_position > LARGEST_COUNT)
            return fur_error_set(exec->error, FUR_E_SHAPE,
                                 "attention piece %lld, span %lld: %lld keys at position %lld (at least %lld)",
                                 (long long)number, (long long)i, (long long)span->count,
                                 (long long)span->first_position, (long long)after);
        if (backward && span->count && (!span->dk_SKD || !span->dv_SKD))
            return fur_error_set(exec->error, FUR_E_ARGUMENT, "attention piece %lld, span %lld: no place for dk or dv",
                                 (long long)number, (long long)i);
        after = span->first_position + span->count;
    }
    return FUR_OK;
}

static fur_status check(const fur_exec *exec, const fur_attention_args *args, int backward)
{
    FUR_TRY(check_widths(exec, args, backward));
    FUR_TRY(check_features(exec, args));
    for (int64_t p = 0; p < args->piece_count; p++)
        FUR_TRY(check_piece(exec, &args->pieces[p], p, backward));
    return FUR_OK;
}

/* ---- workspace --------------------------------------------------------------------------------------------------- */

typedef struct layout {
    fur_attention_run *runs; /* one more than there are: the end */
    float *scratch;          /* of thread 0 */
    int64_t scratch_floats;  /* per thread */
    float *lse2_KR, *delta_KR, *dq_part_CTHD;
    fur_attention_one one; /* its arrays, where the variant has it */
    float *one_scratch;    /* of thread 0 */
    int64_t one_scratch_floats;
    int fits;
} layout;

/* A function of the problem alone, so that the order of summation is, too: of the layer's key heads, however many of
 * them are here. About 16 tasks feed the cores people have; with few key heads memory is dearer than the tasks. */
static int64_t key_chunks(int64_t kv_heads)
{
    return fur_min_i64(FUR_ATTENTION_CHUNKS, fur_div_up(16, kv_heads));
}

int64_t fur_attention_tasks(int64_t kv_heads, int64_t all_kv_heads)
{
    return kv_heads * key_chunks(all_kv_heads);
}

/* Key heads of the layer. */
static int64_t all_kv_heads(const fur_attention_args *args)
{
    return args->all_heads ? args->all_heads / (args->heads / args->kv_heads) : args->kv_heads;
}

/* Arrays of the call of one query. */
static void lay_out_one(const fur_exec *exec, const fur_attention_one_kernel *kernel, fur_arena *arena, int64_t heads,
                        int64_t head_dim, layout *out)
{
    int64_t align = FUR_ARENA_ALIGN / (int64_t)sizeof(float);
    fur_attention_one *one = &out->one;
    one->lds = (int64_t)FUR_ATTENTION_ROUND * FUR_ATTENTION_KEYS + align; /* not a power of two: other cache sets */
    one->ldo = fur_round_up(head_dim, kernel->slice);
    one->q_HD = fur_arena_push_f32(arena, heads * head_dim);
    one->s_HS = fur_arena_push_f32(arena, heads * one->lds);
    one->o_HD = fur_arena_push_f32(arena, heads * one->ldo);
    one->m_H = fur_arena_push_f32(arena, heads);
    one->l_H = fur_arena_push_f32(arena, heads);
    one->top_HB = fur_arena_push_f32(arena, heads * FUR_ATTENTION_ROUND);
    one->factor_HB = fur_arena_push_f32(arena, heads * FUR_ATTENTION_ROUND);
    out->one_scratch_floats = fur_round_up(kernel->scratch_floats(head_dim), align);
    out->one_scratch = fur_arena_push_f32(arena, out->one_scratch_floats * exec->threads);
    out->fits = out->fits && one->q_HD && one->s_HS && one->o_HD && one->m_H && one->l_H && one->top_HB &&
                one->factor_HB && out->one_scratch;
}

static layout lay_out(const fur_exec *exec, const fur_attention_kernel *kernel, fur_arena *arena, int64_t heads,
                      int64_t chunks, int64_t head_dim, int64_t rows, int backward)
{
    layout out = {0};
    int64_t floats = backward ? kernel->backward_floats(head_dim) : kernel->forward_floats(head_dim);
    out.scratch_floats = fur_round_up(floats, FUR_ARENA_ALIGN / (int64_t)sizeof(float));
    out.runs = fur_arena_push(arena, (rows + 1) * (int64_t)sizeof *out.runs);
    out.scratch = fur_arena_push_f32(arena, out.scratch_floats * exec->threads);
    out.fits = out.runs && out.scratch;
    if (!backward && kernel->one)
        lay_out_one(exec, kernel->one, arena, heads, head_dim, &out);
    if (backward && kernel->has_parts) {
        out.lse2_KR = fur_arena_push_f32(arena, rows * heads);
        out.delta_KR = fur_arena_push_f32(arena, rows * heads);
        out.dq_part_CTHD = fur_arena_push_f32(arena, (chunks - 1) * rows * heads * head_dim);
        out.fits = out.fits && out.lse2_KR && out.delta_KR && out.dq_part_CTHD;
    }
    return out;
}

int64_t fur_attention_workspace(const fur_exec *exec, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t rows,
                                int backward)
{
    int64_t bytes = 0;
    for (int featureless = 0; featureless <= 1; featureless++) {
        fur_arena arena = fur_arena_counting();
        lay_out(exec, kernel_of(exec, featureless), &arena, heads, key_chunks(kv_heads), head_dim, rows, backward);
        bytes = fur_max_i64(bytes, arena.peak);
    }
    return bytes;
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

typedef struct task_set {
    fur_attention_call call;
    int64_t block_rows; /* virtual rows per block */
    int64_t blocks;     /* of all runs, for one key head */
    layout layout;
} task_set;

static int64_t count_rows(const fur_attention_args *args)
{
    int64_t rows = 0;
    for (int64_t p = 0; p < args->piece_count; p++)
        rows += args->pieces[p].count;
    return rows;
}

/* Blocks small enough to give every thread several: a row's result does not depend on its block. */
static int64_t choose_block_rows(const fur_exec *exec, int64_t rows, int64_t heads)
{
    int64_t size = FUR_ATTENTION_ROWS;
    while (size > 64 && rows * heads < size * 6 * exec->threads)
        size /= 2;
    return size;
}

static double pairs(const fur_query_piece *piece)
{
    double keys = 0;
    for (int64_t i = 0; i < piece->span_count; i++)
        keys += (double)piece->spans[i].count;
    return keys * (double)piece->count;
}

/* Sets the owner of every run: the chunk with the least work so far. Runs that share their keys share the owner; those
 * with more than an eighth of the work (at four chunks) are spread. A function of the problem alone. */
static void deal_keys(const fur_attention_call *call, fur_attention_run *runs)
{
    double all = 0, load_C[FUR_ATTENTION_CHUNKS] = {0};
    for (int64_t r = 0; r < call->run_count; r++)
        all += pairs(runs[r].piece);
    for (int64_t r = 0, next; r < call->run_count; r = next) {
        double work = 0;
        int64_t owner = 0;
        next = fur_attention_next_keys(call, r);
        for (int64_t i = r; i < next; i++)
            work += pairs(runs[i].piece);
        for (int64_t chunk = 1; chunk < call->chunks; chunk++)
            owner = load_C[chunk] < load_C[owner] ? chunk : owner;
        if (call->chunks > 1 && work > all / (double)(2 * call->chunks))
            owner = FUR_ATTENTION_SPREAD;
        else
            load_C[owner] += work;
        for (int64_t i = r; i < next; i++)
            runs[i].owner = owner;
    }
}

static fur_status prepare_tasks(const fur_exec *exec, const fur_attention_kernel *kernel,
                                const fur_attention_args *args, int backward, task_set *out)
{
    int64_t rows = count_rows(args), chunks = key_chunks(all_kv_heads(args));
    layout at = lay_out(exec, kernel, exec->workspace, args->heads, chunks, args->head_dim, rows, backward);
    if (!at.fits)
        return fur_error_set(
            exec->error, FUR_E_MEMORY, "attention of %lld queries, %lld heads of %lld, needs %lld bytes of workspace",
            (long long)rows, (long long)args->heads, (long long)args->head_dim,
            (long long)fur_attention_workspace(exec, args->heads, args->kv_heads, args->head_dim, rows, backward));
    const fur_attention_features *f = &args->features;
    *out = (task_set){.block_rows = choose_block_rows(exec, rows, args->heads), .layout = at};
    out->call = (fur_attention_call){.args = args,
                                     .group = args->heads / args->kv_heads,
                                     .all_heads = args->all_heads ? args->all_heads : args->heads,
                                     .plain = !f->window && !(f->softcap > 0) && !f->alibi && !(f->dropout > 0),
                                     .drop_below = (uint32_t)fmin((double)f->dropout * 0x1p32, 0xffffffffp0),
                                     .keep_scale = (float)(1.0 / (1.0 - (double)f->dropout)),
                                     .runs = at.runs,
                                     .rows = rows,
                                     .chunks = chunks,
                                     .lse2_KR = at.lse2_KR,
                                     .delta_KR = at.delta_KR,
                                     .dq_part_CTHD = at.dq_part_CTHD};
    int64_t first_row = 0, n = 0;
    for (int64_t p = 0; p < args->piece_count; p++) {
        const fur_query_piece *piece = &args->pieces[p];
        if (piece->count == 0)
            continue;
        at.runs[n++] = (fur_attention_run){.piece = piece, .first_row = first_row, .first_block = out->blocks};
        first_row += piece->count;
        out->blocks += fur_div_up(piece->count * out->call.group, out->block_rows);
    }
    out->call.run_count = n;
    if (backward)
        deal_keys(&out->call, at.runs);
    return FUR_OK;
}

/* Task `index` of blocks * kv_heads. Last rows first: in causal order they have the most keys, and what is long must
 * not come last. */
static fur_attention_rows rows_of_task(const task_set *tasks, int64_t index)
{
    const fur_attention_call *call = &tasks->call;
    int64_t block = tasks->blocks - 1 - index / call->args->kv_heads;
    int64_t low = 0, high = call->run_count - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (call->runs[middle].first_block <= block)
            low = middle;
        else
            high = middle - 1;
    }
    const fur_attention_run *run = &call->runs[low];
    int64_t begin = (block - run->first_block) * tasks->block_rows;
    fur_attention_rows rows = fur_attention_rows_of(call, run, index % call->args->kv_heads);
    rows.begin = begin;
    rows.end = fur_min_i64(begin + tasks->block_rows, rows.end);
    return rows;
}

static float *scratch_of(const task_set *tasks)
{
    return tasks->layout.scratch + omp_get_thread_num() * tasks->layout.scratch_floats;
}

/* ---- one query --------------------------------------------------------------------------------------------------- */

/* Below so many numbers of keys a thread costs more than it brings. */
#define ONE_SERIAL 65536

static void forward_one(const fur_exec *exec, const fur_attention_one_kernel *kernel, const task_set *tasks)
{
    fur_attention_one one = tasks->layout.one;
    const fur_attention_args *args = tasks->call.args;
    int64_t kv_heads = args->kv_heads, slices = one.ldo / kernel->slice;
    int alone = pairs(tasks->call.runs[0].piece) * (double)(kv_heads * args->head_dim) < ONE_SERIAL;
    one.call = &tasks->call;
    kernel->begin(&one);
#pragma omp parallel num_threads(exec->threads) if (!alone)
    {
        float *scratch = tasks->layout.one_scratch + omp_get_thread_num() * tasks->layout.one_scratch_floats;
        for (;;) {
#pragma omp single
            kernel->next_round(&one);
            if (one.blocks == 0)
                break;
#pragma omp for schedule(static)
            for (int64_t i = 0; i < one.blocks * kv_heads; i++)
                kernel->scores(&one, i % kv_heads, i / kv_heads, scratch);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < kv_heads; i++)
                kernel->weights(&one, i);
#pragma omp for schedule(static)
            for (int64_t i = 0; i < kv_heads * slices; i++)
                kernel->values(&one, i / slices, i % slices, scratch);
        }
#pragma omp for schedule(static)
        for (int64_t i = 0; i < kv_heads; i++)
            kernel->end(&one, i);
    }
}

static int is_one(const fur_attention_kernel *kernel, const fur_attention_args *args, const fur_attention_call *call)
{
    return kernel->one && call->rows == 1 && !(args->features.dropout > 0);
}

fur_status fur_attention_forward(const fur_exec *exec, const fur_attention_args *args)
{
    FUR_TRY(check(exec, args, 0));
    const fur_attention_kernel *kernel = kernel_of(exec, is_featureless(args));
    int64_t mark = fur_arena_mark(exec->workspace);
    task_set tasks;
    fur_status status = prepare_tasks(exec, kernel, args, 0, &tasks);
    int64_t count = status == FUR_OK ? tasks.blocks * args->kv_heads : 0;
    if (status == FUR_OK && is_one(kernel, args, &tasks.call)) {
        forward_one(exec, kernel->one, &tasks);
        count = 0;
    }
#pragma omp parallel for schedule(dynamic, 1) num_threads(exec->threads) if (count > 1)
    for (int64_t i = 0; i < count; i++) {
        fur_attention_rows rows = rows_of_task(&tasks, i);
        kernel->forward(&tasks.call, &rows, scratch_of(&tasks));
    }
    fur_arena_release(exec->workspace, mark);
    return status;
}

static double dot_f64(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t d = 0; d < count; d++)
        sum += (double)a[d] * (double)b[d];
    return sum;
}

/* The sink is a key without a value: dS = exp(sink - lse) (0 - delta). */
static void sink_gradient(const fur_attention_args *a, int64_t head)
{
    double sum = 0, sink = (double)a->features.sink_H[head];
    for (int64_t p = 0; p < a->piece_count; p++)
        for (int64_t row = a->pieces[p].first_row; row < a->pieces[p].first_row + a->pieces[p].count; row++) {
            double lse = (double)a->lse_TH[row * a->ldlse + head];
            double delta = dot_f64(a->do_THD + row * a->lddo + head * a->head_dim,
                                   a->o_THD + row * a->ldo + head * a->head_dim, a->head_dim);
            sum -= exp(fmin(0.0, sink - lse)) * delta;
        }
    a->dsink_H[head] = (float)((double)a->dsink_H[head] + sum);
}

fur_status fur_attention_backward(const fur_exec *exec, const fur_attention_args *args)
{
    FUR_TRY(check(exec, args, 1));
    const fur_attention_kernel *kernel = kernel_of(exec, is_featureless(args));
    int64_t mark = fur_arena_mark(exec->workspace);
    task_set tasks;
    fur_status status = prepare_tasks(exec, kernel, args, 1, &tasks);
    if (status != FUR_OK) {
        fur_arena_release(exec->workspace, mark);
        return status;
    }
    int64_t row_tasks = tasks.blocks * args->kv_heads, key_tasks = args->kv_heads * tasks.call.chunks;
#pragma omp parallel num_threads(exec->threads) if (row_tasks > 0)
    {
        if (kernel->prepare) {
#pragma omp for schedule(static)
            for (int64_t i = 0; i < row_tasks; i++) {
                fur_attention_rows rows = rows_of_task(&tasks, i);
                kernel->prepare(&tasks.call, &rows);
            }
        }
#pragma omp for schedule(dynamic, 1)
        for (int64_t i = 0; i < key_tasks; i++)
            kernel->keys(&tasks.call, i / tasks.call.chunks, i % tasks.call.chunks, scratch_of(&tasks));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < row_tasks; i++) {
            fur_attention_rows rows = rows_of_task(&tasks, i);
            kernel->finish(&tasks.call, &rows);
        }
        if (args->features.sink_H && args->dsink_H) {
#pragma omp for schedule(static)
            for (int64_t head = 0; head < args->heads; head++)
                sink_gradient(args, head);
        }
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}
