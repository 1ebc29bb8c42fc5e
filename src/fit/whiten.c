/* SPDX-License-Identifier: Apache-2.0 */
/* Rows in whitened coordinates, and the QR of tall arrays by chunks. */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "base/size.h"
#include "fit/la.h"
#include "fit/problem.h"

void fit_raw_rows(const fit_array *array, int64_t first, int64_t count, double *out)
{
    int64_t from = first * array->width, numbers = count * array->width;
    if (!array->f32) {
        memcpy(out, (const double *)array->data + from, (size_t)numbers * sizeof *out);
        return;
    }
    const float *in = (const float *)array->data + from;
    for (int64_t i = 0; i < numbers; i++)
        out[i] = (double)in[i];
}

static void centred_rows(const fit_side *side, int64_t first, int64_t count, double *out)
{
    int64_t width = side->raw->width;
    fit_raw_rows(side->raw, first, count, out);
    for (int64_t i = 0; i < count && side->mean; i++)
        for (int64_t c = 0; c < width; c++)
            out[i * width + c] -= side->mean[c];
}

const double *fit_rows(const fit_side *side, int64_t first, int64_t count, double *raw, double *out)
{
    if (side->stored)
        return side->stored + first * side->width;
    centred_rows(side, first, count, raw);
    fur_la_gemm_f64(false, false, count, side->width, side->raw->width, 1, raw, side->raw->width, side->map,
                    side->width, 0, out, side->width);
    return out;
}

/* ---- QR ---------------------------------------------------------------------------------------------------------- */

typedef struct qr_chunks {
    int64_t size, count, last;
} qr_chunks;

/* Rows of a chunk: few enough chunks that the QR of their R is small beside the rest, and never fewer rows than
 * columns. The last chunk has the rows left over and is no longer than two. */
static qr_chunks chunks_of(int64_t n, int64_t w)
{
    int64_t size = fur_max_i64(1024, 4 * w);
    int64_t count = fur_max_i64(1, n / size);
    return (qr_chunks){.size = size, .count = count, .last = n - (count - 1) * size};
}

enum { STRIP = 64 };

static int64_t thread_doubles(int64_t w)
{
    return fur_max_i64(fur_la_qr_work(w), STRIP * w);
}

/* One chunk more than it takes: with fewer columns, after a cut, there may be. */
int64_t fit_tall_qr_bytes(const fur_exec *exec, int64_t n, int64_t w)
{
    qr_chunks c = chunks_of(n, w);
    return ((c.count + 1) * w * w + exec->threads * thread_doubles(w)) * 8 + (int64_t)2 * FUR_ARENA_ALIGN;
}

fur_status fit_tall_qr(const fur_exec *exec, int64_t n, int64_t w, double *a, double *r)
{
    qr_chunks c = chunks_of(n, w);
    fur_arena *arena = exec->workspace;
    int64_t mark = fur_arena_mark(arena);
    double *stack = fur_arena_push(arena, c.count * w * w * 8);
    double *work = fur_arena_push(arena, exec->threads * thread_doubles(w) * 8);
    if (arena->failed)
        return fur_error_set(exec->error, FUR_E_INTERNAL, "QR of %lld x %lld: workspace too small", (long long)n,
                             (long long)w);
    bool good = true;
#pragma omp parallel for schedule(static) num_threads(exec->threads) reduction(&& : good)
    for (int64_t i = 0; i < c.count; i++)
        good = fur_la_qr(i + 1 < c.count ? c.size : c.last, w, a + i * c.size * w, c.count > 1 ? stack + i * w * w : r,
                         work + omp_get_thread_num() * thread_doubles(w)) &&
               good;
    if (good && c.count > 1) {
        good = fur_la_qr(c.count * w, w, stack, r, work);
#pragma omp parallel for schedule(static) num_threads(exec->threads)
        for (int64_t i = 0; i < c.count; i++) {
            double *strip = work + omp_get_thread_num() * thread_doubles(w), *rows = a + i * c.size * w;
            int64_t count = i + 1 < c.count ? c.size : c.last;
            for (int64_t at = 0; at < count; at += STRIP) {
                int64_t now = fur_min_i64(STRIP, count - at);
                memcpy(strip, rows + at * w, (size_t)(now * w) * sizeof *strip);
                fur_la_gemm_f64(false, false, now, w, w, 1, strip, w, stack + i * w * w, w, 0, rows + at * w, w);
            }
        }
    }
    fur_arena_release(arena, mark);
    return good ? FUR_OK
                : fur_error_set(exec->error, FUR_E_INTERNAL, "QR of %lld x %lld failed", (long long)n, (long long)w);
}

/* ---- whitening --------------------------------------------------------------------------------------------------- */

/* R of the centred rows [0, n), a block of rows at a time under the R so far: nothing of length n. */
static fur_status accumulate_r(const fur_exec *exec, const fit_side *side, int64_t n, double *r)
{
    fur_arena *arena = exec->workspace;
    int64_t mark = fur_arena_mark(arena), w = side->raw->width, block = fur_max_i64(512, 2 * w);
    double *stack = fur_arena_push(arena, (block + w) * w * 8);
    double *work = fur_arena_push(arena, fur_la_qr_work(w) * 8);
    if (arena->failed)
        return fur_error_set(exec->error, FUR_E_INTERNAL, "whitening: workspace too small");
    bool good = true;
    memset(r, 0, (size_t)(w * w) * sizeof *r);
    for (int64_t at = 0; at < n && good; at += block) {
        int64_t now = fur_min_i64(block, n - at);
        memcpy(stack, r, (size_t)(w * w) * sizeof *r);
        centred_rows(side, at, now, stack + w * w);
        good = fur_la_qr(w + now, w, stack, r, work);
    }
    fur_arena_release(arena, mark);
    return good ? FUR_OK : fur_error_set(exec->error, FUR_E_INTERNAL, "QR of the inputs failed");
}

int64_t fit_whiten_bytes(int64_t w)
{
    int64_t block = fur_max_i64(512, 2 * w);
    int64_t qr = (block + w) * w + fur_la_qr_work(w), svd = 2 * w * w + fur_la_svd_work(w, w);
    return (w * w + fur_max_i64(qr, svd)) * 8 + (int64_t)5 * FUR_ARENA_ALIGN;
}

fur_status fit_whiten(const fur_exec *exec, int64_t n, double cut, const char *name, fit_side *side)
{
    fur_arena *arena = exec->workspace;
    int64_t mark = fur_arena_mark(arena), w = side->raw->width;
    double *r = fur_arena_push(arena, w * w * 8);
    FUR_TRY(accumulate_r(exec, side, n, r));
    double *u = fur_arena_push(arena, w * w * 8), *vt = fur_arena_push(arena, w * w * 8);
    double *work = fur_arena_push(arena, fur_la_svd_work(w, w) * 8);
    if (arena->failed)
        return fur_error_set(exec->error, FUR_E_INTERNAL, "whitening: workspace too small");
    if (!fur_la_svd(w, w, r, u, side->values, vt, work))
        return fur_error_set(exec->error, FUR_E_INTERNAL, "the singular values of \"%s\" did not converge", name);
    double root = sqrt((double)n), size = 0; /* what rounding of the stored numbers is relative to has the mean in it */
    int64_t kept = 0;
    for (int64_t c = 0; c < w && side->mean; c++)
        size = hypot(size, side->mean[c] * root);
    for (int64_t c = 0; c < w; c++)
        kept += side->values[c] > cut * fmax(side->values[0], size);
    if (kept == 0)
        return fur_error_set(exec->error, FUR_E_SHAPE, "array \"%s\" has rank 0%s", name,
                             side->mean ? " once its mean is taken off: all keys are alike" : ": all its rows are 0");
    for (int64_t c = 0; c < w; c++)
        for (int64_t i = 0; i < kept; i++) {
            side->map[c * kept + i] = vt[i * w + c] / side->values[i] * root;
            side->back[c * kept + i] = vt[i * w + c] * side->values[i] / root;
        }
    side->width = kept;
    for (int64_t c = 0; c < w; c++)
        side->values[c] /= root;
    fur_arena_release(arena, mark);
    return FUR_OK;
}
