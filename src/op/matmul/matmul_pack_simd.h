/* SPDX-License-Identifier: Apache-2.0 */
/* Packing of f32 into bf16 pairs, for every variant; include the vocabularies of vectors and pairs first. */
#include <string.h>

#include "op/matmul/matmul_kernel.h"
#include "op/simd/pairs_pack.h"

static void pack_rows(const float *from, int64_t ld, int transposed, int64_t rows, int64_t k, uint32_t *to)
{
    int64_t lda = fur_matmul_ld(k), filled = fur_div_up(k, 2), depth = fur_matmul_depth(k);
    if (!transposed) {
        for (int64_t i = 0; i < rows; i++) {
            round_row(from + i * ld, k, to + i * lda);
            memset(to + i * lda + filled, 0, (size_t)(depth - filled) * sizeof *to);
        }
    } else {
        uint32_t part[TURN][TURN];
        for (int64_t first = 0; first < depth; first += FUR_MATMUL_DEPTH / 2)
            for (int64_t i = 0; i < rows; i += TURN) {
                int64_t count = fur_min_i64(TURN, rows - i), whole = fur_round_up(count, 8);
                for (int64_t p = 0; p < FUR_MATMUL_DEPTH / 2; p++) {
                    int64_t at = 2 * (first + p);
                    if (whole > count || at >= k)
                        memset(part[p], 0, (size_t)whole * sizeof part[p][0]);
                    if (at < k)
                        round_pairs(from + at * ld + i, at + 1 < k ? from + (at + 1) * ld + i : NULL, count, part[p]);
                }
                turn_words(part[0], TURN, FUR_MATMUL_DEPTH / 2, whole, to + i * lda + first, lda);
            }
    }
    for (int64_t i = rows; i < fur_round_up(rows, FUR_MATMUL_ROWS); i++)
        memset(to + i * lda, 0, (size_t)depth * sizeof *to);
}

static void pack_panel(const float *from, int64_t ld, int transposed, int64_t k, int64_t columns, uint32_t *to)
{
    int64_t depth = fur_matmul_depth(k);
    if (!transposed) {
        for (int64_t p = 0; p < depth; p++) {
            uint32_t *row = to + p * FUR_MATMUL_PANEL;
            int64_t at = 2 * p, filled = at < k ? columns : 0;
            if (filled)
                round_pairs(from + at * ld, at + 1 < k ? from + (at + 1) * ld : NULL, columns, row);
            memset(row + filled, 0, (size_t)(FUR_MATMUL_PANEL - filled) * sizeof *row);
        }
        return;
    }
    uint32_t part[FUR_MATMUL_PANEL][TURN];
    for (int64_t first = 0; first < depth; first += TURN) {
        int64_t pairs = fur_min_i64(TURN, depth - first),
                values = fur_max_i64(0, fur_min_i64(2 * pairs, k - 2 * first));
        for (int64_t j = 0; j < FUR_MATMUL_PANEL; j++) {
            int64_t filled = j < columns ? fur_div_up(values, 2) : 0;
            if (filled)
                round_row(from + j * ld + 2 * first, values, part[j]);
            memset(part[j] + filled, 0, (size_t)(pairs - filled) * sizeof part[j][0]);
        }
        turn_words(part[0], TURN, FUR_MATMUL_PANEL, pairs, to + first * FUR_MATMUL_PANEL, FUR_MATMUL_PANEL);
    }
}
