/* SPDX-License-Identifier: Apache-2.0 */
#include "store/encode.h"

#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "base/size.h"

#define Q8_BLOCK ((int64_t)32)

const char *fur_stored_type_name(fur_stored_type type)
{
    return type == FUR_STORED_BF16 ? "bf16" : type == FUR_STORED_Q8 ? "q8" : "f32";
}

const char *fur_store_place_name(fur_store_place place)
{
    static const char *const names[] = {"chosen", "memory", "again", "disk"};
    return place <= FUR_STORE_DISK ? names[place] : NULL;
}

int64_t fur_encoded_row_bytes(fur_stored_type type, int64_t width)
{
    if (type == FUR_STORED_BF16)
        return fur_round_up(2 * width, 4);
    if (type == FUR_STORED_Q8)
        return fur_div_up(width, Q8_BLOCK) * (Q8_BLOCK + 4);
    return 4 * width;
}

static void encode_bf16(int64_t width, const float *x, unsigned char *out)
{
    for (int64_t i = 0; i < width; i++) {
        uint16_t half = fur_bf16_of(x[i]);
        memcpy(out + 2 * i, &half, sizeof half);
    }
}

static void decode_bf16(int64_t width, const unsigned char *data, float *x)
{
    for (int64_t i = 0; i < width; i++) {
        uint16_t half;
        memcpy(&half, data + 2 * i, sizeof half);
        x[i] = fur_bf16_value(half);
    }
}

static void encode_q8(int64_t width, const float *x, unsigned char *out)
{
    for (int64_t first = 0; first < width; first += Q8_BLOCK, out += Q8_BLOCK + 4) {
        int64_t count = fur_min_i64(Q8_BLOCK, width - first);
        float largest = 0;
        for (int64_t i = 0; i < count; i++)
            largest = fmaxf(largest, fabsf(x[first + i]));
        float scale = largest / 127.0f, inverse = scale > 0 ? 1.0f / scale : 0;
        memcpy(out, &scale, sizeof scale);
        memset(out + 4, 0, (size_t)Q8_BLOCK);
        for (int64_t i = 0; i < count; i++) {
            float q = fminf(127.0f, fmaxf(-127.0f, rintf(x[first + i] * inverse)));
            out[4 + i] = (unsigned char)(int8_t)q;
        }
    }
}

static void decode_q8(int64_t width, const unsigned char *data, float *x)
{
    for (int64_t first = 0; first < width; first += Q8_BLOCK, data += Q8_BLOCK + 4) {
        float scale;
        memcpy(&scale, data, sizeof scale);
        for (int64_t i = 0; i < fur_min_i64(Q8_BLOCK, width - first); i++)
            x[first + i] = scale * (float)(int8_t)data[4 + i];
    }
}

void fur_rows_encode(const fur_exec *exec, fur_stored_type type, int64_t rows, int64_t width, const float *x_TW,
                     void *out)
{
    int64_t bytes = fur_encoded_row_bytes(type, width);
    unsigned char *to = out;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows > 64)
    for (int64_t t = 0; t < rows; t++) {
        if (type == FUR_STORED_BF16)
            encode_bf16(width, x_TW + t * width, to + t * bytes);
        else if (type == FUR_STORED_Q8)
            encode_q8(width, x_TW + t * width, to + t * bytes);
        else
            memcpy(to + t * bytes, x_TW + t * width, (size_t)bytes);
    }
}

void fur_rows_decode(const fur_exec *exec, fur_stored_type type, int64_t rows, int64_t width, const void *data,
                     float *x_TW)
{
    int64_t bytes = fur_encoded_row_bytes(type, width);
    const unsigned char *from = data;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows > 64)
    for (int64_t t = 0; t < rows; t++) {
        if (type == FUR_STORED_BF16)
            decode_bf16(width, from + t * bytes, x_TW + t * width);
        else if (type == FUR_STORED_Q8)
            decode_q8(width, from + t * bytes, x_TW + t * width);
        else
            memcpy(x_TW + t * width, from + t * bytes, (size_t)bytes);
    }
}

void fur_rows_split(const fur_exec *exec, int64_t parts, int64_t rows, int64_t width, const float *x_TW, float *out)
{
    int64_t own = width / parts;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows > 64)
    for (int64_t t = 0; t < rows; t++)
        for (int64_t p = 0; p < parts; p++)
            memcpy(out + (p * rows + t) * own, x_TW + t * width + p * own, (size_t)own * sizeof(float));
}

void fur_rows_join(const fur_exec *exec, int64_t parts, int64_t rows, int64_t width, const float *data, float *x_TW)
{
    int64_t own = width / parts;
#pragma omp parallel for schedule(static) num_threads(exec->threads) if (rows > 64)
    for (int64_t t = 0; t < rows; t++)
        for (int64_t p = 0; p < parts; p++)
            memcpy(x_TW + t * width + p * own, data + (p * rows + t) * own, (size_t)own * sizeof(float));
}
