/* SPDX-License-Identifier: Apache-2.0 */
/* lookup against its definition by the softmax over all rows of a table, in double; the gradient by x against central
 * differences of that, with inputs away from sign changes.
 *
 * Bounds, u = 2^-24. Each factor 1 + e^(-2m/t) is off by at most 2.2 u (exponential 2 u and its argument's rounding, at
 * most e^-1 u; the sum), a product or quotient adds u: P is off by (4 bits + 2) u, s by bits u, so w by (5 bits + 8) u.
 * e^(-2m/t) alone is off by (2 + 4 m / t) u, and s - 2m by bits u s. Sums of n terms: n u times their absolute sum. */
#include "kit/kit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "op/lookup/lookup.h"

typedef enum inputs { ANY, ONE_ROW } inputs;

typedef struct test_case {
    int64_t T, in, out, bits;
    fur_lookup_score score;
    float temperature;
    int two_rows;
    inputs inputs;
} test_case;

static const test_case cases[] = {
    {1, 8, 1, 8, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {3, 6, 5, 1, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {2, 4, 64, 2, FUR_LOOKUP_MAGNITUDE, 0, 1, ANY},
    {7, 9, 65, 3, FUR_LOOKUP_PROBABILITY, 0.5f, 0, ANY},
    {17, 64, 100, 4, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {33, 15, 17, 5, FUR_LOOKUP_PROBABILITY, 2, 1, ANY},
    {19, 66, 130, 6, FUR_LOOKUP_MAGNITUDE, 0, 1, ANY},
    {5, 7, 96, 7, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {259, 80, 192, 8, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {67, 72, 33, 8, FUR_LOOKUP_PROBABILITY, 1, 1, ANY},
    {31, 18, 40, 9, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {35, 30, 63, 10, FUR_LOOKUP_MAGNITUDE, 0, 1, ANY},
    {6, 11, 10, 11, FUR_LOOKUP_PROBABILITY, 1, 0, ANY},
    {34, 24, 70, 12, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
    {300, 40, 48, 8, FUR_LOOKUP_MAGNITUDE, 0, 0, ONE_ROW},
    {8195, 4, 3, 2, FUR_LOOKUP_MAGNITUDE, 0, 1, ANY},
    {66, 5, 20, 1, FUR_LOOKUP_PROBABILITY, 1, 1, ANY},
    {1, 512, 2100, 2, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY}, /* rows of 2 MB: two threads share them */
    {0, 8, 8, 4, FUR_LOOKUP_MAGNITUDE, 0, 0, ANY},
};
enum { CASES = sizeof cases / sizeof cases[0] };

/* Padding columns of x and y, which nobody may touch. */
enum { GAP = 3 };

typedef struct problem {
    const test_case *c;
    fur_lookup map; /* f32, layout TILES */
    int64_t K, R, S, ldx, ldy;
    float *x, *table, *bias, *dy, *y_old, *dx_old; /* table: [K][R][O] */
    uint16_t *code_ST;
    double *weight_ST, *weight_bound_ST; /* of the definition */
} problem;

static double *doubles(int64_t count)
{
    double *x = calloc((size_t)count + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

static double temperature_of(const test_case *c)
{
    return c->score == FUR_LOOKUP_MAGNITUDE ? 1 : (double)c->temperature;
}

/* Weight of row `code` for a chunk: its share of the softmax, times <z, S_code> or 1. */
static double weight_of(const test_case *c, const double *z, int64_t code, double *share)
{
    double sum = 0, mine = 0;
    for (int64_t r = 0; r < (int64_t)1 << c->bits; r++) {
        double logit = 0;
        for (int64_t i = 0; i < c->bits; i++)
            logit += r >> (c->bits - 1 - i) & 1 ? z[i] : -z[i];
        sum += exp(logit / temperature_of(c));
        mine = r == code ? logit : mine;
    }
    *share = exp(mine / temperature_of(c)) / sum;
    return c->score == FUR_LOOKUP_MAGNITUDE ? mine * *share : *share;
}

/* Code, weights and their bounds of one chunk, for the row and the flipped one. */
static void define_chunk(const test_case *c, const double *z, int64_t code[2], double w[2], double bound[2])
{
    double size = 0;
    int64_t least = 0;
    code[0] = 0;
    for (int64_t i = 0; i < c->bits; i++) {
        code[0] += z[i] >= 0 ? (int64_t)1 << (c->bits - 1 - i) : 0;
        least = fabs(z[i]) < fabs(z[least]) ? i : least;
        size += fabs(z[i]);
    }
    code[1] = code[0] ^ (int64_t)1 << (c->bits - 1 - least);
    for (int n = 0; n < 2; n++) {
        double share;
        w[n] = weight_of(c, z, code[n], &share);
        bound[n] = (5 * (double)c->bits + 8) * KIT_U * w[n] + 1e-37;
        if (n == 1)
            bound[n] += share * KIT_U * (c->score == FUR_LOOKUP_MAGNITUDE ? (double)c->bits * size : 1) +
                        (3 + 4 * fabs(z[least]) / temperature_of(c)) * KIT_U * w[n];
    }
}

static void define_row(const problem *p, const double *x, int64_t *code_S, double *w_S, double *bound_S)
{
    for (int64_t k = 0; k < p->K; k++) {
        int64_t code[2] = {0};
        double w[2] = {0}, bound[2] = {0};
        define_chunk(p->c, x + k * p->c->bits, code, w, bound);
        for (int64_t n = 0; n * p->K < p->S; n++) {
            code_S[n * p->K + k] = code[n];
            w_S[n * p->K + k] = w[n];
            bound_S[n * p->K + k] = bound[n];
        }
    }
}

static float away_from_zero(float x)
{
    return x + (x < 0 ? -0.05f : 0.05f);
}

static void *allocate(int64_t bytes)
{
    void *p = malloc((size_t)bytes + 1);
    assert_non_null(p);
    return p;
}

static void setup(const test_case *c, problem *p)
{
    *p = (problem){.c = c, .map = {.in = c->in, .out = c->out, .bits = c->bits, .score = c->score}};
    p->map.temperature = c->temperature;
    p->map.two_rows = c->two_rows;
    p->K = fur_lookup_tables(&p->map);
    p->R = fur_lookup_rows(&p->map);
    p->S = fur_lookup_slots(&p->map);
    p->ldx = c->in + GAP;
    p->ldy = c->out + GAP;
    p->x = kit_guard_filled(c->T * p->ldx, KIT_NORMAL, 1);
    for (int64_t i = 0; i < c->T * p->ldx; i++)
        p->x[i] = c->inputs == ONE_ROW ? fabsf(p->x[i]) + 0.05f : away_from_zero(p->x[i]);
    p->table = kit_guard_filled(p->K * p->R * c->out, KIT_NORMAL, 2);
    p->bias = kit_guard_filled(c->out, KIT_NORMAL, 3);
    p->dy = kit_guard_filled(c->T * p->ldy, KIT_NORMAL, 4);
    p->y_old = kit_guard_filled(c->T * p->ldy, KIT_NORMAL, 5);
    p->dx_old = kit_guard_filled(c->T * p->ldx, KIT_NORMAL, 6);
    p->map.bias_O = p->bias;
    p->code_ST = allocate(p->S * c->T * 2);
    p->weight_ST = doubles(p->S * c->T);
    p->weight_bound_ST = doubles(p->S * c->T);
    int64_t *code = allocate(p->S * (int64_t)sizeof *code);
    double *x = doubles(c->in), *w = doubles(p->S), *bound = doubles(p->S);
    for (int64_t t = 0; t < c->T; t++) {
        for (int64_t i = 0; i < c->in; i++)
            x[i] = (double)p->x[t * p->ldx + i];
        define_row(p, x, code, w, bound);
        for (int64_t s = 0; s < p->S; s++) {
            p->code_ST[s * c->T + t] = (uint16_t)code[s];
            p->weight_ST[s * c->T + t] = w[s];
            p->weight_bound_ST[s * c->T + t] = bound[s];
        }
    }
    free(code);
    free(x);
    free(w);
    free(bound);
}

static void teardown(problem *p)
{
    free(p->code_ST);
    free(p->weight_ST);
    free(p->weight_bound_ST);
    kit_guard_free_all();
}

static void ready(kit_exec *kit, const problem *p, fur_isa isa, int threads)
{
    fur_exec probe = {.threads = threads, .isa = isa};
    int64_t bytes = fur_lookup_workspace(&probe, &p->map, p->c->T, 1);
    for (fur_lookup_type type = FUR_LOOKUP_F32; type <= FUR_LOOKUP_I8; type++) {
        fur_lookup map = p->map;
        map.type = type;
        int64_t more = fur_lookup_workspace(&probe, &map, p->c->T, 0);
        bytes = more > bytes ? more : bytes;
    }
    kit_exec_init(kit, isa, threads, bytes);
}

static fur_lookup_codes hashed(kit_exec *kit, const problem *p)
{
    fur_lookup_codes codes;
    int64_t bytes = fur_lookup_codes_bytes(&p->map, p->c->T);
    fur_lookup_codes_place(&p->map, p->c->T, kit_guard((size_t)bytes), &codes);
    if (fur_lookup_hash(&kit->exec, &p->map, p->x, p->ldx, &codes) != FUR_OK)
        fail_msg("%s", kit->error.text);
    return codes;
}

/* The table in a layout and type, at a page's end. */
static fur_lookup packed(kit_exec *kit, const problem *p, fur_lookup_layout layout, fur_lookup_type type)
{
    fur_lookup rows = p->map, map = p->map;
    rows.layout = FUR_LOOKUP_ROWS;
    rows.table = p->table;
    map.layout = layout;
    map.type = type;
    void *table = kit_guard((size_t)(fur_lookup_table_elements(&map) * fur_lookup_type_bytes(type)));
    float *scale = kit_guard_f32(p->K * p->R);
    assert_int_equal(fur_lookup_pack(&kit->exec, &rows, layout, type, table, scale), FUR_OK);
    map.table = table;
    map.row_scale_KR = scale;
    return map;
}

static int64_t element_at(const fur_lookup *map, int64_t k, int64_t r, int64_t o)
{
    int64_t K = map->in / map->bits, R = (int64_t)1 << map->bits;
    if (map->layout == FUR_LOOKUP_ROWS)
        return (k * R + r) * map->out + o;
    return ((o / FUR_LOOKUP_TILE * K + k) * R + r) * FUR_LOOKUP_TILE + o % FUR_LOOKUP_TILE;
}

static double value_at(const fur_lookup *map, int64_t k, int64_t r, int64_t o)
{
    int64_t at = element_at(map, k, r, o);
    switch (map->type) {
    case FUR_LOOKUP_F32: return (double)((const float *)map->table)[at];
    case FUR_LOOKUP_BF16: return (double)fur_bf16_value(((const uint16_t *)map->table)[at]);
    default: break;
    }
    return (double)map->row_scale_KR[(k << map->bits) + r] * (double)((const int8_t *)map->table)[at];
}

/* ---- hash ------------------------------------------------------------------------------------------------------- */

static void test_hash(void **state)
{
    (void)state;
    for (int n = 0; n < CASES; n++)
        for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
            problem p;
            kit_exec kit;
            setup(&cases[n], &p);
            ready(&kit, &p, isa, 1);
            fur_lookup_codes codes = hashed(&kit, &p);
            kit_check_same_bits("codes", codes.code_ST, p.code_ST, (size_t)(p.S * p.c->T) * sizeof(uint16_t));
            kit_check_bound("weights", codes.weight_ST, p.weight_ST, p.weight_bound_ST, 1, p.S * p.c->T);
            kit_exec_clear(&kit);
            teardown(&p);
        }
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

/* y and its bound; adds to what y holds. */
static void define_y(const problem *p, const fur_lookup *map, double *y_TO, double *bound_TO)
{
    int64_t T = p->c->T, O = p->c->out;
    for (int64_t t = 0; t < T; t++)
        for (int64_t o = 0; o < O; o++) {
            double sum = (double)p->bias[o], terms = fabs(sum), e = 0, whole = 0, largest = 0;
            for (int64_t s = 0; s < p->S; s++) {
                int64_t k = s % p->K, r = p->code_ST[s * T + t];
                double value = value_at(map, k, r, o), w = p->weight_ST[s * T + t];
                double scale = map->type == FUR_LOOKUP_I8 ? (double)map->row_scale_KR[k * p->R + r] : 1;
                sum += w * value;
                terms += fabs(w * value);
                e += p->weight_bound_ST[s * T + t] * fabs(value);
                whole += fabs(value / scale);
                largest = fmax(largest, w * scale);
            }
            double old = y_TO[t * O + o];
            y_TO[t * O + o] += sum;
            bound_TO[t * O + o] = e + (double)(p->S + 4) * KIT_U * terms + KIT_U * (fabs(old) + fabs(old + sum));
            if (map->type == FUR_LOOKUP_I8)
                bound_TO[t * O + o] += 1.001 * ldexp(1, -16) * largest * whole;
        }
}

/* Columns of [T][ld] without the gap, which must be as in `old`. */
static float *without_gap(const float *x, const float *old, int64_t T, int64_t columns, int64_t ld)
{
    float *out = kit_guard_f32(T * columns);
    for (int64_t t = 0; t < T; t++) {
        memcpy(out + t * columns, x + t * ld, (size_t)columns * sizeof(float));
        kit_check_same_bits("gap", x + t * ld + columns, old + t * ld + columns, (size_t)(ld - columns) * 4);
    }
    return out;
}

static void check_forward(const problem *p, fur_lookup_layout layout, fur_lookup_type type, fur_isa isa, int add)
{
    kit_exec kit;
    ready(&kit, p, isa, 1);
    int64_t T = p->c->T, O = p->c->out;
    fur_lookup map = packed(&kit, p, layout, type);
    fur_lookup_codes codes = hashed(&kit, p);
    float *y = kit_guard_copy(p->y_old, T * p->ldy);
    assert_int_equal(fur_lookup_forward(&kit.exec, &map, &codes, add, y, p->ldy), FUR_OK);
    double *want = doubles(T * O), *bound = doubles(T * O);
    for (int64_t i = 0; add && i < T * O; i++)
        want[i] = (double)p->y_old[i / O * p->ldy + i % O];
    define_y(p, &map, want, bound);
    kit_check_bound("y", without_gap(y, p->y_old, T, O, p->ldy), want, bound, 1, T * O);
    /* two threads, and a part of the rows: the same bits */
    kit.exec.threads = 2;
    kit_exec two;
    ready(&two, p, isa, 2);
    float *again = kit_guard_copy(p->y_old, T * p->ldy);
    assert_int_equal(fur_lookup_forward(&two.exec, &map, &codes, add, again, p->ldy), FUR_OK);
    kit_check_same_bits("threads", again, y, (size_t)(T * p->ldy) * sizeof(float));
    problem part = *p;
    test_case fewer = *p->c;
    fewer.T = T / 2;
    part.c = &fewer;
    fur_lookup_codes half = hashed(&kit, &part);
    memcpy(again, p->y_old, (size_t)(T * p->ldy) * sizeof(float));
    assert_int_equal(fur_lookup_forward(&two.exec, &map, &half, add, again, p->ldy), FUR_OK);
    kit_check_same_bits("rows", again, y, (size_t)(T / 2 * p->ldy) * sizeof(float));
    free(want);
    free(bound);
    kit_exec_clear(&two);
    kit_exec_clear(&kit);
}

static void test_forward(void **state)
{
    (void)state;
    for (int n = 0; n < CASES; n++)
        for (int kind = 0; kind < 12; kind++)
            for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
                problem p;
                setup(&cases[n], &p);
                check_forward(&p, (fur_lookup_layout)(kind % 2), (fur_lookup_type)(kind / 2 % 3), isa, kind / 6);
                teardown(&p);
            }
}

/* ---- backward --------------------------------------------------------------------------------------------------- */

static void check_tables(const problem *p, fur_isa isa)
{
    kit_exec kit, two;
    ready(&kit, p, isa, 1);
    ready(&two, p, isa, 2);
    fur_lookup map = p->map;
    int64_t T = p->c->T, O = p->c->out, rows = p->K * p->R, elements = fur_lookup_table_elements(&map);
    fur_lookup_codes codes = hashed(&kit, p);
    /* untouched rows of the first call hold NaN; the second adds to all, the third with two threads as the first */
    float *d = kit_guard_f32(elements), *again = kit_guard_f32(elements), *db = kit_guard_filled(O, KIT_NORMAL, 9);
    float *db_again = kit_guard_copy(db, O), *db_old = kit_guard_copy(db, O);
    uint8_t *touched = kit_guard((size_t)rows), *touched_again = kit_guard((size_t)rows);
    memset(touched, 0, (size_t)rows);
    memset(touched_again, 0, (size_t)rows);
    double *want = doubles(elements), *bound = doubles(elements), *want_db = doubles(O), *bound_db = doubles(O);
    uint8_t *read = calloc((size_t)rows, 1);
    int64_t *count = calloc((size_t)rows, sizeof *count);
    assert_true(read && count);
    for (int64_t s = 0; s < p->S; s++)
        for (int64_t t = 0; t < T; t++)
            count[s % p->K * p->R + p->code_ST[s * T + t]]++;
    for (int64_t s = 0; s < p->S; s++)
        for (int64_t t = 0; t < T; t++) {
            int64_t k = s % p->K, r = p->code_ST[s * T + t];
            read[k * p->R + r] = 1;
            for (int64_t o = 0; o < O; o++) {
                double dy = (double)p->dy[t * p->ldy + o], w = p->weight_ST[s * T + t];
                want[element_at(&map, k, r, o)] += w * dy;
                bound[element_at(&map, k, r, o)] +=
                    fabs(dy) * (p->weight_bound_ST[s * T + t] + (double)(2 * count[k * p->R + r] + 2) * KIT_U * w);
            }
        }
    for (int64_t o = 0; o < O; o++) {
        want_db[o] = (double)db_old[o];
        for (int64_t t = 0; t < T; t++) {
            want_db[o] += (double)p->dy[t * p->ldy + o];
            bound_db[o] += (double)(T + 2) * KIT_U * fabs((double)p->dy[t * p->ldy + o]);
        }
        bound_db[o] += (double)(T + 2) * KIT_U * fabs((double)db_old[o]);
    }
    for (int pass = 1; pass <= 2; pass++) {
        assert_int_equal(
            fur_lookup_backward_tables(&kit.exec, &map, &codes, p->dy, p->ldy, d, touched, pass == 1 ? db : NULL),
            FUR_OK);
        kit_check_same_bits("touched", touched, read, (size_t)rows);
        if (pass == 1) {
            assert_int_equal(
                fur_lookup_backward_tables(&two.exec, &map, &codes, p->dy, p->ldy, again, touched_again, db_again),
                FUR_OK);
            kit_check_same_bits("threads", again, d, (size_t)elements * sizeof(float));
            kit_check_same_bits("threads, bias", db_again, db, (size_t)O * sizeof(float));
            kit_check_bound("dbias", db, want_db, bound_db, 1, O);
        }
        for (int64_t i = 0; i < elements; i++) {
            int64_t row = i / FUR_LOOKUP_TILE % rows;
            if (!read[row])
                assert_true(isnan(d[i]));
            else
                assert_true(fabs((double)d[i] - pass * want[i]) <= pass * bound[i]);
        }
    }
    free(want);
    free(bound);
    free(want_db);
    free(bound_db);
    free(read);
    free(count);
    kit_exec_clear(&kit);
    kit_exec_clear(&two);
}

static void test_backward_tables(void **state)
{
    (void)state;
    for (int n = 0; n < CASES; n++)
        for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++) {
            problem p;
            setup(&cases[n], &p);
            check_tables(&p, isa);
            teardown(&p);
        }
}

/* dx and its bound for token t */
static void define_dx(const problem *p, const fur_lookup *map, int64_t t, double *dx_I, double *bound_I)
{
    int64_t T = p->c->T, bits = p->c->bits;
    for (int64_t k = 0; k < p->K; k++) {
        double g[2] = {0}, terms[2] = {0}, z[FUR_LOOKUP_MOST_BITS], size = 0, share;
        int64_t code[2] = {0};
        for (int64_t n = 0; n * p->K < p->S; n++) {
            code[n] = p->code_ST[(n * p->K + k) * T + t];
            for (int64_t o = 0; o < p->c->out; o++) {
                double term = (double)p->dy[t * p->ldy + o] * value_at(map, k, code[n], o);
                g[n] += term;
                terms[n] += fabs(term);
            }
        }
        for (int64_t i = 0; i < bits; i++) {
            z[i] = (double)p->x[t * p->ldx + k * bits + i];
            size += fabs(z[i]);
        }
        double scale = p->c->score == FUR_LOOKUP_MAGNITUDE ? 1 + 2 * size : 2 / (double)p->c->temperature;
        double relative = ((double)p->c->out + 6 * (double)bits + 16 + 4 * size) * KIT_U;
        for (int64_t i = 0; i < bits; i++) {
            static const double step[4] = {-2, -1, 1, 2}, weight[4] = {1, -8, 8, -1};
            double keep = z[i], h = 2e-4, d = 0;
            for (int n = 0; n < 4; n++) {
                z[i] = keep + step[n] * h;
                for (int64_t m = 0; m * p->K < p->S; m++) /* the rows stay those of x */
                    d += weight[n] / (12 * h) * g[m] * weight_of(p->c, z, code[m], &share);
            }
            z[i] = keep;
            dx_I[k * bits + i] += d;
            /* the second: truncation and cancellation of the differences */
            bound_I[k * bits + i] =
                (relative * scale + 1e-10) * (terms[0] + terms[1]) + KIT_U * fabs(dx_I[k * bits + i]);
        }
    }
}

static void check_input(const problem *p, fur_isa isa, int add)
{
    kit_exec kit, two;
    ready(&kit, p, isa, 1);
    ready(&two, p, isa, 2);
    int64_t T = p->c->T, I = p->c->in;
    fur_lookup map = packed(&kit, p, FUR_LOOKUP_TILES, FUR_LOOKUP_F32);
    fur_lookup_codes codes = hashed(&kit, p);
    float *dx = kit_guard_copy(p->dx_old, T * p->ldx), *again = kit_guard_copy(p->x, T * p->ldx);
    assert_int_equal(fur_lookup_backward_input(&kit.exec, &map, &codes, p->x, p->ldx, p->dy, p->ldy, add, dx, p->ldx),
                     FUR_OK);
    double *want = doubles(T * I), *bound = doubles(T * I);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t i = 0; add && i < I; i++)
            want[t * I + i] = (double)p->dx_old[t * p->ldx + i];
        define_dx(p, &map, t, want + t * I, bound + t * I);
    }
    float *got = without_gap(dx, p->dx_old, T, I, p->ldx);
    kit_check_bound("dx", got, want, bound, 1, T * I);
    if (!add) { /* in place, two threads */
        assert_int_equal(
            fur_lookup_backward_input(&two.exec, &map, &codes, again, p->ldx, p->dy, p->ldy, 0, again, p->ldx), FUR_OK);
        kit_check_same_bits("in place", without_gap(again, p->x, T, I, p->ldx), got, (size_t)(T * I) * sizeof(float));
    }
    free(want);
    free(bound);
    kit_exec_clear(&kit);
    kit_exec_clear(&two);
}

static void test_backward_input(void **state)
{
    (void)state;
    for (int n = 0; n < CASES; n++)
        for (fur_isa isa = FUR_ISA_REF; isa <= kit_best_isa(); isa++)
            for (int add = 0; add < 2; add++) {
                problem p;
                setup(&cases[n], &p);
                check_input(&p, isa, add);
                teardown(&p);
            }
}

/* ---- hash at the edges, counts, packing ------------------------------------------------------------------------- */

static void test_counts(void **state)
{
    (void)state;
    for (int n = 0; n < CASES; n++) {
        problem p;
        kit_exec kit;
        setup(&cases[n], &p);
        ready(&kit, &p, FUR_ISA_REF, 1);
        fur_lookup_codes codes = hashed(&kit, &p);
        uint32_t *count = calloc((size_t)(p.K * p.R), sizeof *count), *want = calloc((size_t)(p.K * p.R), sizeof *want);
        assert_true(count && want);
        for (int64_t i = 0; i < p.S * p.c->T; i++)
            want[i / p.c->T % p.K * p.R + p.code_ST[i]]++;
        assert_int_equal(fur_lookup_count_rows(&kit.exec, &p.map, &codes, count), FUR_OK);
        kit_check_same_bits("counts", count, want, (size_t)(p.K * p.R) * sizeof *count);
        free(count);
        free(want);
        kit_exec_clear(&kit);
        teardown(&p);
    }
}

/* Every type through tiles and back is the same; values are the nearest of the type. */
static void test_pack(void **state)
{
    (void)state;
    for (int n = 0; n < CASES; n++)
        for (fur_lookup_type type = FUR_LOOKUP_F32; type <= FUR_LOOKUP_I8; type++) {
            problem p;
            kit_exec kit;
            setup(&cases[n], &p);
            memset(p.table, 0, (size_t)p.c->out * sizeof(float)); /* a row of zeros */
            ready(&kit, &p, FUR_ISA_REF, 2);
            fur_lookup rows = packed(&kit, &p, FUR_LOOKUP_ROWS, type), tiles = packed(&kit, &p, FUR_LOOKUP_TILES, type);
            size_t bytes = (size_t)(fur_lookup_table_elements(&rows) * fur_lookup_type_bytes(type));
            void *back = kit_guard(bytes);
            assert_int_equal(fur_lookup_pack(&kit.exec, &tiles, FUR_LOOKUP_ROWS, type, back, NULL), FUR_OK);
            kit_check_same_bits("back", back, rows.table, bytes);
            for (int64_t i = 0; i < p.K * p.R * p.c->out; i++) {
                int64_t row = i / p.c->out;
                double value = value_at(&tiles, row / p.R, row % p.R, i % p.c->out), x = (double)p.table[i];
                double scale = type == FUR_LOOKUP_I8 ? (double)tiles.row_scale_KR[row] : 0;
                double bound[] = {0, ldexp(fabs(x), -8), 0.5001 * scale};
                assert_true(fabs(value - x) <= bound[type] && (type != FUR_LOOKUP_I8 || scale > 0));
            }
            for (int64_t i = p.c->out; i % FUR_LOOKUP_TILE; i++) /* padding of the last row */
                assert_true(value_at(&tiles, p.K - 1, p.R - 1, i) == 0);
            kit_exec_clear(&kit);
            teardown(&p);
        }
}

/* What a writer of files makes row by row is what fur_lookup_pack makes of whole tables, and comes back within half a
 * step of its type. */
static void test_rows(void **state)
{
    (void)state;
    enum { WIDTH = 70, COUNT = 16 };
    const int64_t OUT = WIDTH, K = 2, BITS = 3, ROWS = COUNT;
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 1, 1 << 20);
    float *rows = kit_guard_filled(ROWS * OUT, KIT_NORMAL, 3), scale[COUNT], back[WIDTH];
    memset(rows + 5 * OUT, 0, (size_t)OUT * sizeof *rows);
    kit_fill_f32(rows + 6 * OUT, OUT, KIT_TINY, 4);
    kit_fill_f32(rows + 7 * OUT, OUT, KIT_HUGE, 5);
    fur_lookup map = {.in = K * BITS, .out = OUT, .bits = BITS, .layout = FUR_LOOKUP_ROWS, .table = rows};
    for (int type = FUR_LOOKUP_F32; type <= FUR_LOOKUP_I8; type++) {
        int64_t bytes = OUT * fur_lookup_type_bytes((fur_lookup_type)type);
        unsigned char *whole = kit_guard((size_t)(ROWS * bytes)), *row = kit_guard((size_t)bytes);
        assert_int_equal(fur_lookup_pack(&kit.exec, &map, FUR_LOOKUP_ROWS, (fur_lookup_type)type, whole, scale),
                         FUR_OK);
        for (int64_t r = 0; r < ROWS; r++) {
            const float *x = rows + r * OUT;
            float own = fur_lookup_row_scale((fur_lookup_type)type, OUT, x);
            fur_lookup_row_encode((fur_lookup_type)type, OUT, x, own, row);
            kit_check_same_bits("a row", row, whole + r * bytes, (size_t)bytes);
            if (type == FUR_LOOKUP_I8)
                kit_check_same_bits("its scale", &own, &scale[r], sizeof own);
            else
                assert_true(own == 1);
            fur_lookup_row_decode((fur_lookup_type)type, OUT, row, own, back);
            for (int64_t i = 0; i < OUT; i++) {
                double half = type == FUR_LOOKUP_F32    ? 0
                              : type == FUR_LOOKUP_BF16 ? fabs((double)x[i]) / 256
                                                        : (0.5 + 256 * KIT_U) * (double)own;
                assert_true(fabs((double)back[i] - (double)x[i]) <= half);
            }
        }
    }
    rows[3] = NAN;
    assert_true(isinf(fur_lookup_row_scale(FUR_LOOKUP_I8, OUT, rows)));
    kit_guard_free_all();
    kit_exec_clear(&kit);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash),           cmocka_unit_test(test_forward), cmocka_unit_test(test_backward_tables),
        cmocka_unit_test(test_backward_input), cmocka_unit_test(test_counts),  cmocka_unit_test(test_pack),
        cmocka_unit_test(test_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
