/* SPDX-License-Identifier: Apache-2.0 */
/* Hash and the gradient by the input, over the vocabularies of op/simd: lanes are tokens. Rows are turned in panels of
 * eight chunks, whose columns are a multiple of eight. */
#include "op/lookup/lookup_kernel.h"
#include "op/simd/simd_math.h"
#include "op/simd/transpose.h"

#define PANEL_CHUNKS ((int64_t)8)

typedef struct panel {
    float lane[PANEL_CHUNKS * FUR_LOOKUP_MOST_BITS * VL]; /* [column][token] */
} panel;

static inline __m256i mask_of_eight(int64_t n)
{
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}

/* Columns of up to VL tokens; beyond `tokens` the last one again. */
static void turn_in(int64_t tokens, int64_t columns, const float *x, int64_t ldx, float *out)
{
    for (int64_t c = 0; c < columns; c += 8) {
        __m256i mask = mask_of_eight(fur_min_i64(8, columns - c));
        for (int64_t t = 0; t < VL; t += 8) {
            __m256 r[8];
            for (int64_t i = 0; i < 8; i++)
                r[i] = _mm256_maskload_ps(x + fur_min_i64(t + i, tokens - 1) * ldx + c, mask);
            transpose_8(r);
            for (int64_t i = 0; i < 8; i++)
                _mm256_storeu_ps(out + (c + i) * VL + t, r[i]);
        }
    }
}

static void turn_out(int64_t tokens, int64_t columns, const float *in, int add, float *dx, int64_t lddx)
{
    for (int64_t c = 0; c < columns; c += 8) {
        __m256i mask = mask_of_eight(fur_min_i64(8, columns - c));
        for (int64_t t = 0; t < VL; t += 8) {
            __m256 r[8];
            for (int64_t i = 0; i < 8; i++)
                r[i] = _mm256_loadu_ps(in + (c + i) * VL + t);
            transpose_8(r);
            for (int64_t i = 0; i < 8 && t + i < tokens; i++) {
                float *to = dx + (t + i) * lddx + c;
                r[i] = add ? _mm256_add_ps(_mm256_maskload_ps(to, mask), r[i]) : r[i];
                if (columns - c >= 8)
                    _mm256_storeu_ps(to, r[i]);
                else
                    _mm256_maskstore_ps(to, mask, r[i]);
            }
        }
    }
}

/* ---- hash ------------------------------------------------------------------------------------------------------- */

typedef struct codes_of_lanes {
    V code, weight, flipped, flipped_weight, bad; /* bad: NaN where a number is not finite */
} codes_of_lanes;

static inline V vabs(V a)
{
    return vmax(vsub(vset(0.0f), a), a);
}

FUR_ALWAYS_INLINE void hash_chunk(const fur_lookup *map, const float *z_iV, codes_of_lanes *out)
{
    const V zero = vset(0), one = vset(1);
    int magnitude = map->score == FUR_LOOKUP_MAGNITUDE;
    V factor = vset(magnitude ? -2.0f : -2.0f / map->temperature);
    V code = zero, sum = zero, product = one, least = vset(3.4e38f), flip = zero;
    float bit = (float)(1 << map->bits);
    for (int64_t i = 0; i < map->bits; i++) {
        V z = vload(z_iV + i * VL), m = vabs(z), b = vset(bit *= 0.5f);
        V set = vfrom(z, zero, b, zero);
        code = vadd(code, set);
        sum = vadd(sum, m);
        product = vfma(product, vexp(vmul(m, factor)), product);
        out->bad = vfma(z, zero, out->bad);
        if (map->two_rows) {
            flip = vwhere_greater(least, m, vsub(b, vadd(set, set)), flip);
            least = vmin(least, m);
        }
    }
    out->code = code;
    out->weight = vdiv(magnitude ? sum : one, product);
    if (map->two_rows) {
        out->flipped = vadd(code, flip);
        V size = magnitude ? vsub(sum, vadd(least, least)) : one;
        out->flipped_weight = vdiv(vmul(size, vexp(vmul(least, factor))), product);
    }
}

static inline void store_codes(V code, V weight, int64_t tokens, uint16_t *code_T, float *weight_T)
{
    float number[VL];
    vstore(number, code);
    for (int64_t i = 0; i < tokens; i++)
        code_T[i] = (uint16_t)number[i];
    if (tokens == VL)
        vstore(weight_T, weight);
    else
        vstore_part(weight_T, tokens, weight);
}

/* VL tokens, or the last ones */
static int64_t hash_lanes(const fur_lookup *map, int64_t t, int64_t tokens, const float *x_TI, int64_t ldx,
                          const fur_lookup_codes *out)
{
    int64_t K = map->in / map->bits;
    panel p;
    codes_of_lanes c = {.bad = vset(0)};
    for (int64_t k0 = 0; k0 < K; k0 += PANEL_CHUNKS) {
        int64_t chunks = fur_min_i64(PANEL_CHUNKS, K - k0);
        turn_in(tokens, chunks * map->bits, x_TI + t * ldx + k0 * map->bits, ldx, p.lane);
        for (int64_t k = 0; k < chunks; k++) {
            int64_t at = (k0 + k) * out->tokens + t, flipped = at + K * out->tokens;
            hash_chunk(map, p.lane + k * map->bits * VL, &c);
            store_codes(c.code, c.weight, tokens, out->code_ST + at, out->weight_ST + at);
            if (map->two_rows)
                store_codes(c.flipped, c.flipped_weight, tokens, out->code_ST + flipped, out->weight_ST + flipped);
        }
    }
    float bad[VL];
    vstore(bad, c.bad);
    for (int64_t i = 0; i < tokens; i++)
        if (bad[i] != 0)
            return t + i;
    return -1;
}

static inline void scatter_codes(V code, V weight, int64_t chunks, int64_t stride, uint16_t *code_K, float *weight_K)
{
    float number[VL], size[VL];
    vstore(number, code);
    vstore(size, weight);
    for (int64_t i = 0; i < chunks; i++) {
        code_K[i * stride] = (uint16_t)number[i];
        weight_K[i * stride] = size[i];
    }
}

/* One token: lanes are chunks. The same bits as among others. */
static int64_t hash_token(const fur_lookup *map, int64_t t, const float *x, const fur_lookup_codes *out)
{
    int64_t K = map->in / map->bits, stride = out->tokens;
    panel p;
    codes_of_lanes c = {.bad = vset(0)};
    for (int64_t k = 0; k < K; k += VL) {
        int64_t chunks = fur_min_i64(VL, K - k), at = k * stride + t, flipped = at + K * stride;
        turn_in(chunks, map->bits, x + k * map->bits, map->bits, p.lane);
        hash_chunk(map, p.lane, &c);
        scatter_codes(c.code, c.weight, chunks, stride, out->code_ST + at, out->weight_ST + at);
        if (map->two_rows)
            scatter_codes(c.flipped, c.flipped_weight, chunks, stride, out->code_ST + flipped,
                          out->weight_ST + flipped);
    }
    float bad[VL];
    vstore(bad, c.bad);
    for (int64_t i = 0; i < VL; i++)
        if (bad[i] != 0)
            return t;
    return -1;
}

static int64_t hash(const fur_lookup *map, int64_t first, int64_t count, const float *x_TI, int64_t ldx,
                    const fur_lookup_codes *out)
{
    int64_t bad = -1;
    for (int64_t t = first, step; t < first + count; t += step) {
        int64_t left = first + count - t;
        step = left <= VL / 4 ? 1 : fur_min_i64(VL, left);
        int64_t found = step == 1 ? hash_token(map, t, x_TI + t * ldx, out) : hash_lanes(map, t, step, x_TI, ldx, out);
        bad = bad < 0 ? found : bad;
    }
    return bad;
}

/* ---- gradient by the input -------------------------------------------------------------------------------------- */

/* dz of a chunk over z; g: of the row, and of the flipped row where there are two. */
FUR_ALWAYS_INLINE void input_chunk(const fur_lookup *map, V g, V g_flipped, float *z_iV)
{
    const V zero = vset(0), one = vset(1), two = vset(2);
    int magnitude = map->score == FUR_LOOKUP_MAGNITUDE;
    V factor = vset(magnitude ? -2.0f : -2.0f / map->temperature);
    V sum = zero, product = one, least = vset(3.4e38f), e[FUR_LOOKUP_MOST_BITS];
    for (int64_t i = 0; i < map->bits; i++) {
        V m = vabs(vload(z_iV + i * VL));
        e[i] = vexp(vmul(m, factor));
        sum = vadd(sum, m);
        product = vfma(product, e[i], product);
        least = vmin(least, m);
    }
    /* weights of 1 and of q in dw/dm, for the row and, e^(-2 least) times, for the flipped one */
    V gp = vdiv(g, product), gp_flipped = zero, sum_flipped = zero;
    if (map->two_rows) {
        gp_flipped = vmul(vdiv(g_flipped, product), vexp(vmul(least, factor)));
        sum_flipped = vsub(sum, vadd(least, least));
    }
    V of_q = magnitude ? vmul(two, vmul(gp, sum)) : vmul(gp, vsub(zero, factor));
    V of_q_flipped = magnitude ? vmul(two, vmul(gp_flipped, sum_flipped)) : vmul(gp_flipped, vsub(zero, factor));
    V plain = magnitude ? gp : zero, plain_flipped = magnitude ? gp_flipped : zero;
    V chosen = zero; /* 1 from the flipped coordinate on */
    for (int64_t i = 0; i < map->bits; i++) {
        V z = vload(z_iV + i * VL), under = vdiv(one, vadd(one, e[i])), q = vmul(e[i], under);
        V d = vfma(of_q, q, plain);
        if (map->two_rows) {
            V this_one = vfrom(least, vabs(z), vsub(one, chosen), zero);
            chosen = vadd(chosen, this_one);
            V other = vfma(of_q_flipped, q, plain_flipped);
            V flipped = vsub(zero, vfma(of_q_flipped, under, plain_flipped));
            d = vadd(d, vwhere_greater(this_one, zero, flipped, other));
        }
        vstore(z_iV + i * VL, vfrom(z, zero, d, vsub(zero, d)));
    }
}

static void input(const fur_lookup *map, int64_t count, const float *x_TI, int64_t ldx, const float *g_TS, int add,
                  float *dx_TI, int64_t lddx)
{
    int64_t K = map->in / map->bits, stride = fur_lookup_score_stride(map);
    panel p;
    float g[2][PANEL_CHUNKS * VL];
    memset(g, 0, sizeof g);
    for (int64_t t = 0; t < count; t += VL) {
        int64_t tokens = fur_min_i64(VL, count - t);
        for (int64_t k0 = 0; k0 < K; k0 += PANEL_CHUNKS) {
            int64_t chunks = fur_min_i64(PANEL_CHUNKS, K - k0), columns = chunks * map->bits;
            turn_in(tokens, columns, x_TI + t * ldx + k0 * map->bits, ldx, p.lane);
            turn_in(tokens, chunks, g_TS + t * stride + k0, stride, g[0]);
            if (map->two_rows)
                turn_in(tokens, chunks, g_TS + t * stride + K + k0, stride, g[1]);
            for (int64_t k = 0; k < chunks; k++)
                input_chunk(map, vload(g[0] + k * VL), vload(g[1] + k * VL), p.lane + k * map->bits * VL);
            turn_out(tokens, columns, p.lane, add, dx_TI + t * lddx + k0 * map->bits, lddx);
        }
    }
}
