/* SPDX-License-Identifier: Apache-2.0 */
/* io/blocks.h and base/f16.h, to the bit, against the PyPI package gguf (tests/golden/blocks.safetensors, made by
 * tools/golden/blocks.py), and f16 against every value it has. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/f16.h"
#include "io/blocks.h"
#include "io/safetensors.h"
#include "kit/files.h"

static const fur_dtype read_types[] = {FUR_DTYPE_F32,  FUR_DTYPE_F16,  FUR_DTYPE_BF16, FUR_DTYPE_Q4_0,
                                       FUR_DTYPE_Q4_1, FUR_DTYPE_Q5_0, FUR_DTYPE_Q5_1, FUR_DTYPE_Q8_0,
                                       FUR_DTYPE_Q4_K, FUR_DTYPE_Q5_K, FUR_DTYPE_Q6_K};

static fur_safetensors *open_golden(void)
{
    char path[512];
    fur_error error = {0};
    fur_safetensors *file = NULL;
    snprintf(path, sizeof path, "%s/golden/blocks.safetensors", FUR_TEST_DATA);
    kit_expect_ok(&error, fur_safetensors_open(&error, path, &file));
    return file;
}

/* The whole of a one-dimensional tensor TYPE.what; freed by the caller. */
static void *golden(const fur_safetensors *file, fur_dtype type, const char *what, fur_dtype as, int64_t *count)
{
    char name[32];
    fur_error error = {0};
    snprintf(name, sizeof name, "%s.%s", fur_dtype_name(type), what);
    const fur_tensor_info *info = fur_safetensors_find(file, name);
    assert_non_null(info);
    void *data = malloc((size_t)info->bytes);
    kit_expect_ok(&error, fur_safetensors_read_raw(&error, file, name, as, 1, info->shape, data));
    *count = info->count;
    return data;
}

static void expect_bits(const char *name, const float *got, const float *want, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (memcmp((const void *)&got[i], (const void *)&want[i], sizeof *got) != 0)
            fail_msg("%s: element %lld is %.9g, expected %.9g", name, (long long)i, (double)got[i], (double)want[i]);
}

static void test_reading(void **state)
{
    (void)state;
    fur_safetensors *file = open_golden();
    for (size_t t = 0; t < sizeof read_types / sizeof read_types[0]; t++) {
        fur_dtype type = read_types[t];
        int64_t bytes, count;
        unsigned char *from = golden(file, type, "bytes", FUR_DTYPE_U8, &bytes);
        float *want = golden(file, type, "values", FUR_DTYPE_F32, &count), *got = malloc((size_t)count * sizeof *got);
        assert_int_equal(bytes, count / fur_dtype_block(type) * fur_dtype_bytes(type));
        fur_dtype_to_f32(type, from, count, got);
        expect_bits(fur_dtype_name(type), got, want, count);
        free(from);
        free(want);
        free(got);
    }
    fur_safetensors_close(file);
}

static void test_writing(void **state)
{
    (void)state;
    fur_safetensors *file = open_golden();
    static const fur_dtype types[] = {FUR_DTYPE_F16, FUR_DTYPE_BF16, FUR_DTYPE_Q8_0};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        int64_t count, bytes;
        float *from = golden(file, types[t], "from", FUR_DTYPE_F32, &count);
        unsigned char *want = golden(file, types[t], "to", FUR_DTYPE_U8, &bytes), *got = calloc((size_t)bytes, 1);
        fur_dtype_from_f32(types[t], from, count, got);
        for (int64_t i = 0; i < bytes; i++)
            if (got[i] != want[i])
                fail_msg("%s: byte %lld is %d, expected %d", fur_dtype_name(types[t]), (long long)i, got[i], want[i]);
        free(from);
        free(want);
        free(got);
    }
    fur_safetensors_close(file);
}

/* Every f16 and back; the numbers between two of them go to the nearer, in the middle to the even one. */
static void test_f16(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float x = fur_f16_value((uint16_t)bits);
        if (isnan(x)) {
            assert_true(isnan(fur_f16_value(fur_f16_of(x))));
            continue;
        }
        assert_int_equal(fur_f16_of(x), bits);
        if ((bits & 0x7fffu) >= 0x7bffu)
            continue;
        float next = fur_f16_value((uint16_t)(bits + 1)), middle = 0.5f * (x + next);
        assert_int_equal(fur_f16_of(middle), bits % 2 ? bits + 1 : bits);
        assert_int_equal(fur_f16_of(nextafterf(middle, x)), bits);
        assert_int_equal(fur_f16_of(nextafterf(middle, next)), bits + 1);
    }
    assert_int_equal(fur_f16_of(65519.996f), 0x7bff);
    assert_int_equal(fur_f16_of(65520), 0x7c00);
    assert_int_equal(fur_f16_of(-INFINITY), 0xfc00);
}

/* A scale whose inverse is no f32: its block is zeros, as it is in f16. */
static void test_tiny_scale(void **state)
{
    (void)state;
    float from[32], to[32];
    unsigned char block[34];
    for (int i = 0; i < 32; i++)
        from[i] = (float)(i - 16) * 1e-39f;
    fur_q8_0_of_f32(from, 1, block);
    fur_q8_0_to_f32(block, 1, to);
    for (int i = 0; i < 32; i++)
        assert_true(to[i] <= 0 && to[i] >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reading),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_f16),
        cmocka_unit_test(test_tiny_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
