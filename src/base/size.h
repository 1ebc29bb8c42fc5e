/* SPDX-License-Identifier: Apache-2.0 */
/* Checked size arithmetic for everything that comes from a file or a user. */
#ifndef FUR_BASE_SIZE_H
#define FUR_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* False on overflow or a negative operand; *out is then untouched. */
static inline bool fur_mul_ok(int64_t a, int64_t b, int64_t *out)
{
    if (a < 0 || b < 0 || (b != 0 && a > INT64_MAX / b))
        return false;
    *out = a * b;
    return true;
}

static inline bool fur_add_ok(int64_t a, int64_t b, int64_t *out)
{
    if (a < 0 || b < 0 || a > INT64_MAX - b)
        return false;
    *out = a + b;
    return true;
}

static inline int64_t fur_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t fur_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ceil(a / b) for a >= 0, b > 0 */
static inline int64_t fur_div_up(int64_t a, int64_t b)
{
    return a / b + (a % b != 0);
}

static inline int64_t fur_round_up(int64_t a, int64_t multiple)
{
    return fur_div_up(a, multiple) * multiple;
}

#endif
