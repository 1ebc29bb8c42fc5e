/* SPDX-License-Identifier: Apache-2.0 */
/* lookup where op_lookup does not look: signs of zeros and NaN, the jump at a sign change, sizes, refusals. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "op/lookup/lookup.h"

static float away_from_zero(float x)
{
    return x + (x < 0 ? -0.05f : 0.05f);
}

/* ---- hash ------------------------------------------------------------------------------------------------------- */

static void test_signs(void **state)
{
    (void)state;
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        kit_exec kit;
        kit_exec_init(&kit, isa, 2, 64);
        enum { T = 21, I = 9 };
        fur_lookup map = {.in = I, .out = 4, .bits = 3, .two_rows = 1};
        float *x = kit_guard_filled(T * I, KIT_NORMAL, 1);
        static const float row[I] = {0.0f, -0.0f, -1, -1e-40f, 1e-40f, 3, -2, 2, 2};
        memcpy(x + 19 * I, row, sizeof row);
        fur_lookup_codes codes;
        fur_lookup_codes_place(&map, T, kit_guard((size_t)fur_lookup_codes_bytes(&map, T)), &codes);
        assert_int_equal(fur_lookup_hash(&kit.exec, &map, x, I, &codes), FUR_OK);
        static const uint16_t want[6] = {6, 3, 3, 2, 7, 7}; /* the flipped bit: the first of the least */
        for (int s = 0; s < 6; s++)
            assert_int_equal(codes.code_ST[s * T + 19], want[s]);
        x[20 * I + 4] = NAN;
        x[17 * I + 8] = -INFINITY;
        assert_int_equal(fur_lookup_hash(&kit.exec, &map, x, I, &codes), FUR_E_NONFINITE);
        assert_string_equal(kit.error.text, "lookup: row 17 of the input is not finite");
        assert_int_equal(codes.code_ST[T + 20] & 2, 0);
        for (int64_t i = 0; i < 6 * T; i++)
            assert_true(codes.code_ST[i] < 8);
        kit_guard_free_all();
        kit_exec_clear(&kit);
    }
}

/* With two rows y has no jump where one coordinate of each chunk passes 0: across 2e-6 of it y moves by no more than
 * its slope allows. With one row it does jump. */
static void test_two_rows_have_no_jump(void **state)
{
    (void)state;
    enum { I = 12, O = 16 };
    for (int score = 0; score < 2; score++)
        for (int two = 0; two < 2; two++) {
            kit_exec kit;
            fur_lookup map = {
                .in = I, .out = O, .bits = 4, .score = (fur_lookup_score)score, .temperature = 1, .two_rows = two};
            map.layout = FUR_LOOKUP_ROWS;
            kit_exec_init(&kit, FUR_ISA_REF, 1, 4096);
            map.table = kit_guard_filled(I / 4 * 16 * O, KIT_NORMAL, 2);
            float *x = kit_guard_filled(2 * I, KIT_NORMAL, 1), *y = kit_guard_f32(2 * O), largest = 0;
            for (int i = 0; i < I; i++) {
                x[i] = away_from_zero(x[i]);
                x[I + i] = x[i];
            }
            for (int i = 1; i < I; i += 4) {
                x[i] = -1e-6f;
                x[I + i] = 1e-6f;
            }
            fur_lookup_codes codes;
            fur_lookup_codes_place(&map, 2, kit_guard((size_t)fur_lookup_codes_bytes(&map, 2)), &codes);
            assert_int_equal(fur_lookup_hash(&kit.exec, &map, x, I, &codes), FUR_OK);
            assert_int_equal(fur_lookup_forward(&kit.exec, &map, &codes, 0, y, O), FUR_OK);
            for (int o = 0; o < O; o++)
                largest = fmaxf(largest, fabsf(y[o] - y[O + o]));
            assert_true(two ? largest < 1e-4f : largest > 1e-2f);
            kit_guard_free_all();
            kit_exec_clear(&kit);
        }
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

static void test_sizes(void **state)
{
    (void)state;
    fur_lookup map = {.in = 768, .out = 700, .bits = 8};
    assert_int_equal(fur_lookup_table_elements(&map), (int64_t)96 * 256 * 704);
    map.layout = FUR_LOOKUP_ROWS;
    assert_int_equal(fur_lookup_table_elements(&map), (int64_t)96 * 256 * 700);
    map.in = map.out = INT64_MAX / 8 * 8;
    assert_int_equal(fur_lookup_table_elements(&map), INT64_MAX);
    map.layout = FUR_LOOKUP_TILES;
    map.out = INT64_MAX;
    assert_int_equal(fur_lookup_table_elements(&map), INT64_MAX);
    assert_int_equal(fur_lookup_codes_bytes(&map, INT64_MAX), INT64_MAX);
    /* what is planned for many tokens serves fewer */
    for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
        fur_exec probe = {.threads = 2, .isa = isa};
        fur_lookup m = {.in = 24, .out = 70, .bits = 3, .two_rows = 1};
        int64_t before = 0;
        for (int64_t T = 0; T < 9000; T += 7) {
            int64_t bytes = fur_lookup_workspace(&probe, &m, T, 1);
            assert_true(bytes >= before);
            before = bytes;
        }
        assert_int_equal(fur_lookup_workspace(&probe, &m, 1 << 20, 1), fur_lookup_workspace(&probe, &m, 8192, 1));
    }
}

static void test_refused(void **state)
{
    (void)state;
    kit_exec kit;
    kit_exec_init(&kit, kit_best_isa(), 1, 64);
    float x[64] = {0}, y[64];
    float memory[256];
    const fur_lookup good = {.in = 8, .out = 8, .bits = 4};
    fur_lookup bad[8];
    for (int i = 0; i < 8; i++)
        bad[i] = good;
    bad[0].bits = 3;
    bad[1].bits = 13;
    bad[1].in = 13;
    bad[2].out = 0;
    bad[3].in = bad[3].out = (int64_t)1 << 40;
    bad[4].score = FUR_LOOKUP_PROBABILITY;
    bad[5].bits = 1;
    bad[5].two_rows = 1;
    bad[6].type = (fur_lookup_type)7;
    bad[7].score = FUR_LOOKUP_PROBABILITY;
    bad[7].temperature = INFINITY;
    for (int i = 0; i < 8; i++)
        assert_int_equal(fur_lookup_check(&kit.error, &bad[i]), i < 4 ? FUR_E_SHAPE : FUR_E_ARGUMENT);
    assert_int_equal(fur_lookup_check(&kit.error, &good), FUR_OK);
    fur_lookup_codes codes;
    fur_lookup_codes_place(&good, 4, memory, &codes);
    assert_int_equal(fur_lookup_hash(&kit.exec, &good, x, 7, &codes), FUR_E_SHAPE);
    assert_int_equal(fur_lookup_hash(&kit.exec, &good, x, 8, &codes), FUR_OK);
    fur_lookup map = good;
    float table[2 * 16 * 64] = {0}, scale[32];
    uint8_t touched[32] = {0};
    map.table = table;
    assert_int_equal(fur_lookup_forward(&kit.exec, &map, &codes, 0, y, 7), FUR_E_SHAPE);
    assert_int_equal(fur_lookup_forward(&kit.exec, &map, &codes, 0, y, 8), FUR_E_MEMORY);
    assert_int_equal(fur_lookup_backward_tables(&kit.exec, &map, &codes, y, 8, table, touched, NULL), FUR_E_MEMORY);
    assert_int_equal(fur_lookup_backward_input(&kit.exec, &map, &codes, x, 8, y, 8, 0, x, 8), FUR_E_MEMORY);
    assert_int_equal(kit.workspace.used, 0);
    map.layout = FUR_LOOKUP_ROWS;
    assert_int_equal(fur_lookup_backward_input(&kit.exec, &map, &codes, x, 8, y, 8, 0, x, 8), FUR_E_UNSUPPORTED);
    map.type = FUR_LOOKUP_I8;
    assert_int_equal(fur_lookup_forward(&kit.exec, &map, &codes, 0, y, 8), FUR_E_ARGUMENT);
    assert_int_equal(fur_lookup_pack(&kit.exec, &map, FUR_LOOKUP_ROWS, FUR_LOOKUP_F32, table, NULL), FUR_E_UNSUPPORTED);
    map.type = FUR_LOOKUP_F32;
    table[8 * 17 + 3] = NAN;
    assert_int_equal(fur_lookup_pack(&kit.exec, &map, FUR_LOOKUP_ROWS, FUR_LOOKUP_I8, memory, scale), FUR_E_NONFINITE);
    assert_string_equal(kit.error.text, "lookup: row 1 of table 1 is not finite");
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signs),
        cmocka_unit_test(test_two_rows_have_no_jump),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
