/* SPDX-License-Identifier: Apache-2.0 */
/* gemv: every type and variant within its bound of the sums in double, the same bits for any number of threads, nothing
 * read or written outside. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/blocks.h"
#include "base/random.h"
#include "op/gemv/gemv_kernel.h"

typedef struct shape {
    int64_t tokens, in, out;
} shape;
static const shape shapes[] = {{1, 32, 1}, {1, 64, 7}, {2, 96, 33}, {4, 768, 50},  {3, 160, 1030},
                               {1, 0, 5},  {0, 32, 4}, {1, 32, 0},  {1, 4096, 65}, {1, 576, 1536}};
static const int64_t odd_widths[] = {1, 5, 17, 31, 67, 129};

static void decode(fur_gemv_type type, const unsigned char *block, float *to)
{
    static void (*const decoders[FUR_GEMV_TYPES])(const unsigned char *block, float *to) = {
        [FUR_GEMV_Q8_0] = fur_block_q8_0, [FUR_GEMV_Q4_0] = fur_block_q4_0, [FUR_GEMV_Q4_1] = fur_block_q4_1,
        [FUR_GEMV_Q5_0] = fur_block_q5_0, [FUR_GEMV_Q5_1] = fur_block_q5_1, [FUR_GEMV_Q4_K] = fur_block_q4_k,
        [FUR_GEMV_Q5_K] = fur_block_q5_k, [FUR_GEMV_Q6_K] = fur_block_q6_k};
    decoders[type](block, to);
}

/* Where a block's f16 scales are, the second -1: none. */
static const int scales_at[FUR_GEMV_TYPES][2] = {
    [FUR_GEMV_Q8_0] = {0, -1}, [FUR_GEMV_Q4_0] = {0, -1}, [FUR_GEMV_Q4_1] = {0, 2}, [FUR_GEMV_Q5_0] = {0, -1},
    [FUR_GEMV_Q5_1] = {0, 2},  [FUR_GEMV_Q4_K] = {0, 2},  [FUR_GEMV_Q5_K] = {0, 2}, [FUR_GEMV_Q6_K] = {208, -1}};

/* Rows of blocks whose bytes are drawn, but for scales, which are small numbers; *exact: what they stand for. */
static void draw_blocks(fur_gemv_type type, int64_t count, uint64_t seed, unsigned char *rows, double *exact)
{
    fur_gemv_block block = fur_gemv_block_of(type);
    float w[256];
    for (int64_t i = 0; i < count; i += block.elements, rows += block.bytes) {
        for (int64_t k = 0; k < block.bytes; k++)
            rows[k] = (unsigned char)fur_random_u64(seed, (uint64_t)i, (uint64_t)k);
        for (int k = 0; k < 2; k++) {
            uint16_t scale = fur_f16_of(0.003f + 0.001f * (float)((i / block.elements + k) % 7));
            if (scales_at[type][k] >= 0)
                memcpy(rows + scales_at[type][k], &scale, 2);
        }
        decode(type, rows, w);
        for (int64_t k = 0; k < block.elements; k++)
            exact[i + k] = (double)w[k];
    }
}

/* Rows as a type stores them, at a page's end; *exact: what they stand for. */
static void *coded_rows(fur_gemv_type type, int64_t out, int64_t in, uint64_t seed, double *exact)
{
    int64_t row_bytes = fur_gemv_row_bytes(type, in);
    float *w = kit_guard_filled(out * in, KIT_NORMAL, seed);
    unsigned char *rows = kit_guard((size_t)(out * row_bytes));
    if (fur_gemv_block_of(type).elements > 1)
        draw_blocks(type, out * in, seed, rows, exact);
    for (int64_t i = 0; type == FUR_GEMV_F32 && i < out * in; i++) {
        memcpy(rows + 4 * i, &w[i], 4);
        exact[i] = (double)w[i];
    }
    for (int64_t i = 0; type == FUR_GEMV_BF16 && i < out * in; i++) {
        uint16_t half = fur_bf16_of(w[i]);
        memcpy(rows + 2 * i, &half, 2);
        exact[i] = (double)fur_bf16_value(half);
    }
    return rows;
}

static void check_shape(fur_gemv_type type, shape s, int add, int with_bias)
{
    double *w = calloc((size_t)(s.out * s.in + 1), sizeof *w),
           *want = calloc((size_t)(s.tokens * s.out + 1), sizeof *want);
    double *terms = calloc((size_t)(s.tokens * s.out + 1), sizeof *terms),
           *bound = calloc((size_t)(s.tokens * s.out + 1), sizeof *bound);
    assert_true(w && want && terms && bound);
    void *rows = coded_rows(type, s.out, s.in, 3, w);
    float *x = kit_guard_filled(s.tokens * s.in, KIT_NORMAL, 4), *bias = kit_guard_filled(s.out, KIT_NORMAL, 5);
    float *before = kit_guard_filled(s.tokens * s.out, KIT_NORMAL, 6);
    for (int64_t t = 0; t < s.tokens; t++)
        for (int64_t o = 0; o < s.out; o++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < s.in; i++) {
                double term = w[o * s.in + i] * (double)x[t * s.in + i];
                sum += term;
                size += fabs(term);
            }
            double more = (with_bias ? (double)bias[o] : 0) + (add ? (double)before[t * s.out + o] : 0);
            want[t * s.out + o] = sum + more;
            terms[t * s.out + o] =
                size + (with_bias ? fabs((double)bias[o]) : 0) + (add ? fabs((double)before[t * s.out + o]) : 0);
        }
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        double lanes = isa == FUR_ISA_REF ? 1e30 : isa == FUR_ISA_AVX2 ? 8 : 16;
        for (int64_t i = 0; i < s.tokens * s.out; i++)
            bound[i] = ((double)s.in / ((type < FUR_GEMV_Q4_0 ? 4 : 2) * lanes) + 8 + 4) * KIT_U * terms[i];
        float *one = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            kit_exec kit;
            kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
            float *y = kit_guard_copy(before, s.tokens * s.out);
            fur_gemv_args args = {.type = type,
                                  .tokens = s.tokens,
                                  .in = s.in,
                                  .out = s.out,
                                  .w_OI = rows,
                                  .x_TI = x,
                                  .ldx = s.in,
                                  .bias_O = with_bias ? bias : NULL,
                                  .add = add,
                                  .y_TO = y,
                                  .ldy = s.out};
            assert_int_equal(fur_gemv(&kit.exec, &args), FUR_OK);
            (void)kit_check_bound("gemv", y, want, bound, 1, s.tokens * s.out);
            if (one)
                kit_check_same_bits("threads", one, y, (size_t)(s.tokens * s.out) * sizeof *y);
            one = y;
            kit_exec_clear(&kit);
        }
    }
    kit_guard_free_all();
    free(w);
    free(want);
    free(terms);
    free(bound);
}

static void test_cases(void **state)
{
    (void)state;
    for (int type = FUR_GEMV_F32; type < FUR_GEMV_TYPES; type++) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            if (shapes[i].in % fur_gemv_block_of((fur_gemv_type)type).elements == 0)
                check_shape((fur_gemv_type)type, shapes[i], (int)(i % 2), i % 3 == 0);
        for (size_t i = 0; type <= FUR_GEMV_BF16 && i < sizeof odd_widths / sizeof odd_widths[0]; i++)
            check_shape((fur_gemv_type)type, (shape){2, odd_widths[i], 9}, 0, 1);
    }
}

/* Every variant decodes a row to the bits of base/blocks.h, for any number of threads. */
static void test_decode(void **state)
{
    (void)state;
    for (int type = FUR_GEMV_F32; type < FUR_GEMV_TYPES; type++)
        for (int wide = 0; wide <= 1; wide++) {
            int64_t in = type <= FUR_GEMV_BF16 ? 37 : 256 + wide * 1024, out = 3 + wide * 90;
            double *want = calloc((size_t)(out * in), sizeof *want);
            assert_non_null(want);
            void *rows = coded_rows((fur_gemv_type)type, out, in, 11, want);
            float *exact = kit_guard_f32(out * in);
            for (int64_t i = 0; i < out * in; i++)
                exact[i] = (float)want[i];
            for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
                for (int threads = 1; threads <= 3; threads++) {
                    kit_exec kit;
                    kit_exec_init(&kit, isa, threads, FUR_ARENA_ALIGN);
                    float *got = kit_guard_f32(out * in);
                    assert_int_equal(fur_gemv_decode(&kit.exec, (fur_gemv_type)type, in, out, rows, got), FUR_OK);
                    kit_check_same_bits("decoded", exact, got, (size_t)(out * in) * sizeof *got);
                    kit_exec_clear(&kit);
                }
            free(want);
            kit_guard_free_all();
        }
}

static void test_refused(void **state)
{
    (void)state;
    float x[64] = {0}, y[8] = {0};
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, FUR_ARENA_ALIGN);
    fur_gemv_args good = {
        .type = FUR_GEMV_Q8_0, .tokens = 1, .in = 32, .out = 0, .w_OI = x, .x_TI = x, .ldx = 32, .y_TO = y, .ldy = 0};
    assert_int_equal(fur_gemv(&kit.exec, &good), FUR_OK);
    fur_gemv_args bad[4] = {good, good, good, good};
    bad[0].in = bad[0].ldx = 33;
    bad[1].tokens = FUR_GEMV_MOST + 1;
    bad[2].ldx = 31;
    bad[3].out = -1;
    for (int i = 0; i < 4; i++)
        assert_int_equal(fur_gemv(&kit.exec, &bad[i]), FUR_E_SHAPE);
    assert_non_null(strstr(kit.error.text, "gemv: w[-1,32] of type 2 with x[1,32]"));
    assert_int_equal(fur_gemv_decode(&kit.exec, FUR_GEMV_Q4_K, 128, 1, x, y), FUR_E_SHAPE);
    assert_non_null(strstr(kit.error.text, "gemv: w[1,128] of type 7 to decode"));
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases), cmocka_unit_test(test_decode),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
