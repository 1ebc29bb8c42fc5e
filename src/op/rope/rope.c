/* SPDX-License-Identifier: Apache-2.0 */
/* Checks, angles, threads and dispatch of rope.
 *
 * A sine costs as much as turning ten pairs, so that few are computed: a position is split into 64 high + low, and
 * cos, sin of the sum come from those of the two parts. The 64 low parts are tabled once a call, the high part changes
 * every 64 tokens. The split is by position, not by token, so that an angle's bits never depend on the call. */
#include "op/rope/rope.h"

#include <math.h>

#include "op/chunk.h"
#include "op/rope/rope_kernel.h"

enum { LOW = 64 };
/* From this many tokens on the table of low parts pays. */
enum { TABLE_TOKENS = 32 };
static const int64_t position_limit = (int64_t)1 << 40;

static const fur_rope_kernel *kernel_of(const fur_exec *exec)
{
#if FUR_HAVE_AVX512
    if (exec->isa >= FUR_ISA_AVX512)
        return &fur_rope_avx512;
#endif
#if FUR_HAVE_AVX2
    if (exec->isa >= FUR_ISA_AVX2)
        return &fur_rope_avx2;
#endif
    (void)exec;
    return &fur_rope_ref;
}

static double or_else(double value, double otherwise)
{
    return value > 0 ? value : otherwise;
}

/* YaRN: 1 where a pair turns more than beta_fast times within the original context, 0 below beta_slow, linear in i
 * between (arXiv 2309.00071, equations 19 to 23; bounds rounded to whole pairs as in its published code, unless asked).
 */
static void mix_yarn(const fur_rope *rope, int64_t head_dim, double *frequency)
{
    const fur_rope_scaling *s = &rope->scaling;
    double D = (double)head_dim, turns = (double)s->original_context / 6.283185307179586;
    double unit = D / (2 * log(rope->theta));
    double low = unit * log(turns / or_else(s->beta_fast, 32)), high = unit * log(turns / or_else(s->beta_slow, 1));
    low = fmax(0, s->unrounded ? low : floor(low));
    high = fmin(D - 1, s->unrounded ? high : ceil(high));
    double width = high == low ? 0.001 : high - low;
    for (int64_t i = 0; i < head_dim / 2; i++) {
        double stretched = fmin(1, fmax(0, ((double)i - low) / width));
        frequency[i] = frequency[i] / s->factor * stretched + frequency[i] * (1 - stretched);
    }
}

static void mix_llama3(const fur_rope *rope, int64_t head_dim, double *frequency)
{
    const fur_rope_scaling *s = &rope->scaling;
    double low = or_else(s->low_freq_factor, 1), high = or_else(s->high_freq_factor, 4);
    for (int64_t i = 0; i < head_dim / 2; i++) {
        double waves = (double)s->original_context * frequency[i] / 6.283185307179586;
        double plain = fmin(1, fmax(0, (waves - low) / (high - low)));
        frequency[i] = (1 - plain) * frequency[i] / s->factor + plain * frequency[i];
    }
}

void fur_rope_frequencies(const fur_rope *rope, int64_t head_dim, double *frequency, double *magnitude)
{
    const fur_rope_scaling *s = &rope->scaling;
    double D = (double)head_dim, theta = rope->theta;
    if (s->type == FUR_ROPE_NTK && head_dim > 2)
        theta *= pow(s->factor, D / (D - 2));
    for (int64_t i = 0; i < head_dim / 2; i++)
        frequency[i] = pow(theta, -2.0 * (double)i / D);
    *magnitude = 1;
    if (s->type == FUR_ROPE_LINEAR)
        for (int64_t i = 0; i < head_dim / 2; i++)
            frequency[i] /= s->factor;
    if (s->type == FUR_ROPE_LLAMA3)
        mix_llama3(rope, head_dim, frequency);
    if (s->type == FUR_ROPE_YARN) {
        mix_yarn(rope, head_dim, frequency);
        *magnitude = or_else(s->attention_factor, 0.1 * log(s->factor) + 1);
    }
}

/* Scratch of one thread: the present high part (2 half doubles), a low part not in the table (likewise), and the row of
 * cosines and sines (2 half floats). */
typedef struct scratch {
    double *high, *low;
    float *row;
    int64_t high_position; /* -1: none yet */
} scratch;

static int64_t scratch_bytes(int64_t half)
{
    return fur_round_up(half * (int64_t)(4 * sizeof(double) + 2 * sizeof(float)), FUR_ARENA_ALIGN);
}

static int64_t table_bytes(int64_t T, int64_t half)
{
    int64_t rows = T >= TABLE_TOKENS ? LOW : 0;
    return fur_round_up((2 * rows + 1) * half * (int64_t)sizeof(double), FUR_ARENA_ALIGN);
}

int64_t fur_rope_workspace(const fur_exec *exec, int64_t T, int64_t head_dim)
{
    return table_bytes(T, head_dim / 2) + exec->threads * scratch_bytes(head_dim / 2);
}

/* cos, then sin, of position * frequency */
static void angles(int64_t half, const double *frequency, int64_t position, double *cos_sin)
{
    for (int64_t i = 0; i < half; i++) {
        double angle = (double)position * frequency[i];
        cos_sin[i] = cos(angle);
        cos_sin[half + i] = sin(angle);
    }
}

/* Fills s->row with cos and sin (negated if inverse) of a position's angles, times the magnitude. table: LOW rows, or
 * NULL. */
static void prepare_row(int64_t half, const double *frequency, double magnitude, const double *table, int64_t position,
                        int inverse, scratch *s)
{
    int64_t rest = position % LOW, high = position - rest;
    if (high != s->high_position) {
        angles(half, frequency, high, s->high);
        s->high_position = high;
    }
    if (!table)
        angles(half, frequency, rest, s->low);
    const double *low = table ? table + rest * 2 * half : s->low;
    const double *cos_h = s->high, *sin_h = s->high + half, *cos_l = low, *sin_l = low + half;
    double signed_magnitude = inverse ? -magnitude : magnitude;
    float *row = s->row;
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
        row[i] = (float)(magnitude * (cos_h[i] * cos_l[i] - sin_h[i] * sin_l[i]));
        row[half + i] = (float)(signed_magnitude * (sin_h[i] * cos_l[i] + cos_h[i] * sin_l[i]));
    }
}

static fur_status check(const fur_exec *exec, int64_t T, int64_t heads, int64_t head_dim, const fur_rope *rope,
                        const int64_t *position_T, int64_t ldx)
{
    int64_t width;
    if (T < 0 || head_dim < 2 || head_dim % 2 || !fur_mul_ok(heads, head_dim, &width) || ldx < width)
        return fur_error_set(exec->error, FUR_E_SHAPE, "rope of %lld tokens of %lld heads of width %lld, %lld apart",
                             (long long)T, (long long)heads, (long long)head_dim, (long long)ldx);
    if (!(rope->theta > 0 && isfinite(rope->theta)))
        return fur_error_set(exec->error, FUR_E_ARGUMENT, "rope base %g: expected a positive number", rope->theta);
    const fur_rope_scaling *s = &rope->scaling;
    if (s->type == FUR_ROPE_DYNAMIC || (s->type != FUR_ROPE_PLAIN && !(s->factor > 0 && isfinite(s->factor))) ||
        ((s->type == FUR_ROPE_YARN || s->type == FUR_ROPE_LLAMA3) && s->original_context < 1))
        return fur_error_set(exec->error, FUR_E_ARGUMENT, "rope scaling of type %d by %g from %lld positions",
                             (int)s->type, s->factor, (long long)s->original_context);
    for (int64_t t = 0; t < T; t++)
        if (position_T[t] < 0 || position_T[t] >= position_limit)
            return fur_error_set(exec->error, FUR_E_ARGUMENT, "rope: position %lld of token %lld is not in [0, 2^40)",
                                 (long long)position_T[t], (long long)t);
    return FUR_OK;
}

fur_status fur_rope_apply(const fur_exec *exec, int64_t T, int64_t heads, int64_t head_dim, const fur_rope *rope,
                          const int64_t *position_T, int inverse, float *x_THD, int64_t ldx)
{
    FUR_TRY(check(exec, T, heads, head_dim, rope, position_T, ldx));
    const fur_rope_kernel *kernel = kernel_of(exec);
    int64_t half = head_dim / 2, mark = fur_arena_mark(exec->workspace);
    double *frequency = fur_arena_push(exec->workspace, table_bytes(T, half));
    unsigned char *pieces = fur_arena_push(exec->workspace, exec->threads * scratch_bytes(half));
    if (!frequency || !pieces) {
        fur_arena_release(exec->workspace, mark);
        return fur_error_set(exec->error, FUR_E_MEMORY, "rope needs %lld bytes of workspace",
                             (long long)fur_rope_workspace(exec, T, head_dim));
    }
    double *table = T >= TABLE_TOKENS ? frequency + half : NULL;
    double magnitude;
    fur_rope_frequencies(rope, head_dim, frequency, &magnitude);
    int64_t share = fur_div_up(T, exec->threads);
#pragma omp parallel num_threads(exec->threads) if (table)
    {
#pragma omp for schedule(static)
        for (int64_t low = 0; low < (table ? LOW : 0); low++)
            angles(half, frequency, low, table + low * 2 * half);
#pragma omp for schedule(static)
        for (int64_t p = 0; p < exec->threads; p++) {
            double *mine = (double *)(void *)(pieces + p * scratch_bytes(half));
            scratch s = {.high = mine, .low = mine + 2 * half, .high_position = -1};
            s.row = (float *)(void *)(mine + 4 * half);
            for (int64_t t = p * share; t < fur_min_i64(T, (p + 1) * share); t++) {
                prepare_row(half, frequency, magnitude, table, position_T[t], inverse, &s);
                kernel->turn(heads, half, s.row, x_THD + t * ldx);
            }
        }
    }
    fur_arena_release(exec->workspace, mark);
    return FUR_OK;
}
