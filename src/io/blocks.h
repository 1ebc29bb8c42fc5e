/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in blocks of small integers that share a scale, as GGUF files hold them. In the order of their bytes, d and m
 * f16, little endian; q of a block of 32 by halves: byte i holds element i in its low bits, element i + 16 in its high
 * ones:
 *
 *      Q4_0  d, 16 bytes q                     d (q - 8)
 *      Q4_1  d, m, 16 bytes q                  d q + m
 *      Q5_0  d, 32 fifth bits, 16 bytes q      d (q - 16)
 *      Q5_1  d, m, 32 fifth bits, 16 bytes q   d q + m
 *      Q8_0  d, 32 bytes q                     d q
 *
 * In blocks of 256, whose parts of 32 (Q6_K: 16) elements have scales s and minima t of 6 (8) bits:
 *
 *      Q4_K  d, m, 12 bytes s and t, 128 bytes q                     (d s) q - (m t)
 *      Q5_K  d, m, 12 bytes s and t, 32 bytes fifth bits, 128 q      (d s) q - (m t)
 *      Q6_K  128 bytes q, 64 bytes upper bits, 16 bytes s, d         (d s) (q - 32)
 *
 * Arithmetic is f32 in the order written, so that values are those of the format's own tools to the bit. */
#ifndef FUR_IO_BLOCKS_H
#define FUR_IO_BLOCKS_H

#include <stdint.h>

void fur_q4_0_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q4_1_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q5_0_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q5_1_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q8_0_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q4_k_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q5_k_to_f32(const unsigned char *from, int64_t blocks, float *to);
void fur_q6_k_to_f32(const unsigned char *from, int64_t blocks, float *to);

/* Q8_0: d = max |x| / 127, q = x (1 / d) to nearest, ties away from zero, and d rounded to f16 only then. x is finite;
 * a d beyond f16 becomes infinity. */
void fur_q8_0_of_f32(const float *from, int64_t blocks, unsigned char *to);

#endif
