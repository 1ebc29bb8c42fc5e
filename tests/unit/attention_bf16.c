/* SPDX-License-Identifier: Apache-2.0 */
/* Attention with keys and values in bf16, every variant, and the AMX one on emulated tiles (tests/tiles): its error
 * against the formulas in double on unrounded inputs is at most twice that of the plain formula in bf16, which rounds
 * q, k, v, do, P, dS and o and sums in f32 (in the Euclidean norm and in the greatest element); and what holds to the
 * bit: threads, invisible NaN. */
#include "op/attention/attention_test.h"

#include <stdio.h>

#include "base/bf16.h"
#include "cpu/cpu.h"
#include "tiles/attention_tiles.h"

#define CASE(of_heads, of_keys, width, queries, is_causal, spans, factor, gap)                                         \
    {                                                                                                                  \
        .heads = of_heads, .kv_heads = of_keys, .head_dim = width, .rows = queries, .causal = is_causal,               \
        .arrangement = spans, .fill = KIT_NORMAL, .scale = factor, .padding = gap                                      \
    }

static const test_case cases[] = {
    CASE(2, 2, 64, 7, 1, WHOLE, 0.125f, 0),     CASE(2, 2, 64, 31, 1, WHOLE, 0.125f, 0),
    CASE(2, 1, 64, 65, 1, WHOLE, 0.125f, 3),    CASE(2, 2, 64, 193, 1, WHOLE, 0.125f, 0),
    CASE(2, 2, 64, 600, 1, WHOLE, 0.125f, 0),   CASE(1, 1, 64, 300, 0, WHOLE, 0.125f, 0),
    CASE(2, 1, 1, 65, 1, WHOLE, 0.5f, 3),       CASE(2, 1, 5, 65, 1, LATE, 0.4f, 3),
    CASE(2, 1, 33, 97, 1, WHOLE, 0.2f, 1),      CASE(2, 1, 80, 97, 1, EARLY, 0.1f, 3),
    CASE(2, 1, 128, 130, 1, LATE, 0.1f, 0),     CASE(1, 1, 250, 65, 1, WHOLE, 0.06f, 2),
    CASE(1, 1, 1024, 40, 1, WHOLE, 0.03f, 0),   CASE(6, 2, 20, 210, 0, SPANS, 0.2f, 5),
    CASE(6, 2, 20, 210, 1, SPANS, 0.2f, 5),     CASE(6, 2, 20, 210, 1, GAP, 0.2f, 5),
    CASE(6, 2, 20, 210, 1, DOCUMENTS, 0.2f, 5), CASE(6, 2, 20, 210, 0, SHARED, 0.2f, 5),
    CASE(8, 1, 64, 1, 1, LATE, 0.125f, 0),      CASE(2, 1, 16, 300, 0, WHOLE, 5.0f, 1),
    CASE(2, 1, 16, 300, 1, LATE, -1.0f, 1),
};
enum { CASES = sizeof cases / sizeof *cases };

/* The problem with its keys and values in bf16. */
typedef struct stored {
    problem p;
    uint16_t *k, *v;
} stored;

static uint16_t *rounded(const float *x, int64_t count)
{
    uint16_t *y = kit_guard((size_t)count * sizeof *y);
    for (int64_t i = 0; i < count; i++)
        y[i] = fur_bf16_of(x[i]);
    return y;
}

static void store(problem *p, stored *out)
{
    out->p = *p;
    out->k = rounded(p->k, p->k_floats);
    out->v = rounded(p->v, p->k_floats);
    for (int64_t i = 0; i < p->span_count; i++) {
        fur_key_span *span = &out->p.spans[i];
        span->k_bf16_SKD = out->k + (span->k_SKD - p->k);
        span->v_bf16_SKD = out->v + (span->v_SKD - p->v);
        span->k_SKD = span->v_SKD = NULL;
    }
    for (int64_t i = 0; i < p->args.piece_count; i++)
        out->p.pieces[i].spans = out->p.spans + (p->pieces[i].spans - p->spans);
    out->p.args.pieces = out->p.pieces;
}

/* The variants of this machine; and after the last one the AMX kernel on tiles in plain C, where there is AVX2. */
static int last_variant(void)
{
    return (int)kit_best_isa() + (FUR_HAVE_AVX2 && kit_best_isa() >= FUR_ISA_AVX2);
}

#if FUR_HAVE_AVX2
static fur_status run_on_tiles(kit_exec *kit, const stored *s, int backward)
{
    return backward ? tiles_attention_backward(&kit->exec, &s->p.args)
                    : tiles_attention_forward(&kit->exec, &s->p.args);
}

static int64_t bytes_on_tiles(const fur_exec *ask, const test_case *c, int backward)
{
    return tiles_attention_workspace(ask, c->heads, c->kv_heads, c->head_dim, c->rows, backward);
}
#else
static fur_status run_on_tiles(kit_exec *kit, const stored *s, int backward)
{
    (void)s, (void)backward;
    return fur_error_set(&kit->error, FUR_E_UNSUPPORTED, "no tiles here");
}

static int64_t bytes_on_tiles(const fur_exec *ask, const test_case *c, int backward)
{
    (void)ask, (void)c, (void)backward;
    return 0;
}
#endif

static void run_bf16(const stored *s, int variant, int threads, int backward)
{
    kit_exec kit;
    int tiles = variant > (int)kit_best_isa();
    fur_isa isa = tiles ? FUR_ISA_AMX : (fur_isa)variant;
    fur_exec ask = {.threads = threads, .isa = isa, .compute = FUR_COMPUTE_BF16};
    const test_case *c = &s->p.c;
    int64_t bytes = tiles ? bytes_on_tiles(&ask, c, backward)
                          : fur_attention_workspace(&ask, c->heads, c->kv_heads, c->head_dim, c->rows, backward);
    kit_exec_init(&kit, isa, threads, bytes);
    kit.exec.compute = FUR_COMPUTE_BF16;
    memset(kit.workspace.base, 0xff, (size_t)bytes); /* NaN */
    fur_status status = tiles      ? run_on_tiles(&kit, s, backward)
                        : backward ? fur_attention_backward(&kit.exec, &s->p.args)
                                   : fur_attention_forward(&kit.exec, &s->p.args);
    if (status != FUR_OK)
        fail_msg("%s", kit.error.text);
    assert_int_equal(kit.workspace.used, 0);
    kit_exec_clear(&kit);
}

/* ---- the plain formula in bf16 ----------------------------------------------------------------------------------- */

static float round_of(double x)
{
    return fur_bf16_round((float)x);
}

/* o, dq dense [rows][heads][D]; dk, dv [keys][kv_heads][D]. Each as f32 held in doubles. */
static void plain_query(const problem *p, const query *x, expected *e)
{
    int64_t D = p->c.head_dim;
    const float *q = p->args.q_THD + x->row * p->args.ldq + x->head * D;
    const float *d_o = p->args.do_THD + x->row * p->args.lddo + x->head * D;
    float s[MOST_KEYS], max = -INFINITY, sum = 0, delta = 0;
    double *o = e->o + (x->row * p->c.heads + x->head) * D, *dq = e->dq + (o - e->o);
    for (int64_t j = 0; j < x->seen; j++) {
        const float *k = p->k + x->keys[j] * p->args.ldk + x->kv_head * D;
        s[j] = 0;
        for (int64_t d = 0; d < D; d++)
            s[j] += round_of((double)q[d]) * round_of((double)k[d]);
        s[j] *= p->c.scale;
        max = s[j] > max ? s[j] : max;
    }
    for (int64_t j = 0; j < x->seen; j++)
        sum += s[j] = expf(s[j] - max);
    for (int64_t d = 0; d < D; d++) {
        float value = 0;
        for (int64_t j = 0; j < x->seen; j++)
            value +=
                round_of((double)(s[j] / sum)) * round_of((double)p->v[x->keys[j] * p->args.ldk + x->kv_head * D + d]);
        o[d] = (double)round_of((double)value);
        delta += round_of((double)d_o[d]) * (float)o[d];
    }
    for (int64_t j = 0; j < x->seen; j++) {
        int64_t at = (x->keys[j] * p->c.kv_heads + x->kv_head) * D;
        const float *k = p->k + x->keys[j] * p->args.ldk + x->kv_head * D;
        const float *v = p->v + x->keys[j] * p->args.ldk + x->kv_head * D;
        float P = s[j] / sum, dp = 0;
        for (int64_t d = 0; d < D; d++)
            dp += round_of((double)d_o[d]) * round_of((double)v[d]);
        float dS = round_of((double)(P * (dp - delta) * p->c.scale));
        for (int64_t d = 0; d < D; d++) {
            dq[d] = (double)((float)dq[d] + dS * round_of((double)k[d]));
            e->dk[at + d] = (double)((float)e->dk[at + d] + dS * round_of((double)q[d]));
            e->dv[at + d] = (double)((float)e->dv[at + d] + round_of((double)P) * round_of((double)d_o[d]));
        }
    }
}

static void plain(const problem *p, expected *e)
{
    static query x; /* too large for some stacks */
    for (int64_t n = 0; n < p->args.piece_count; n++)
        for (int64_t i = 0; i < p->pieces[n].count; i++)
            for (int64_t head = 0; head < p->c.heads; head++) {
                query_scores(p, &p->pieces[n], i, head, &x);
                plain_query(p, &x, e);
            }
}

/* ---- the comparison ---------------------------------------------------------------------------------------------- */

/* `got` less `before` (may be NULL), row stride ld, against dense arrays. */
static double check_twice(const char *name, const test_case *c, int isa, const float *got, int64_t ld,
                          const float *before, const double *truth, const double *other, int64_t rows, int64_t width)
{
    double error = 0, yardstick = 0, size = 0, worst = 0, worst_other = 0, largest = 0;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t i = 0; i < width; i++) {
            double start = before ? (double)before[t * ld + i] : 0, want = truth[t * width + i];
            double a = (double)got[t * ld + i] - start - want, b = other[t * width + i] - want;
            /* what is added to rounds the sum once more */
            a = fmax(0, fabs(a) - 2 * KIT_U * (fabs(start) + fabs(want)));
            error += a * a;
            yardstick += b * b;
            size += want * want;
            worst = fmax(worst, a);
            worst_other = fmax(worst_other, fabs(b));
            largest = fmax(largest, fabs(want));
            if (isnan(a) || !isfinite((double)got[t * ld + i]))
                fail_msg("%s is not a number", name);
        }
    if (!(sqrt(error) <= 2 * sqrt(yardstick) + 1e-6 * sqrt(size)) || !(worst <= 2 * worst_other + 1e-6 * largest))
        fail_msg(
            "%s, isa %d, %d on %d heads of %d, %d rows, arrangement %d: off by %.3g, at most %.3g; plain bf16 %.3g, "
            "%.3g",
            name, isa, (int)c->heads, (int)c->kv_heads, (int)c->head_dim, (int)c->rows, (int)c->arrangement,
            sqrt(error / size), worst, sqrt(yardstick / size), worst_other);
    return yardstick > 0 ? sqrt(error / yardstick) : 0;
}

static void test_twice_the_plain_formula(void **state)
{
    (void)state;
    double most[FUR_ISA_COUNT + 1][4] = {{0}};
    for (int i = 0; i < CASES; i++) {
        problem p;
        stored s;
        expected truth, other;
        build(&p, &cases[i], (uint64_t)i);
        expected_init(&truth, &p);
        expected_init(&other, &p);
        run(&p, FUR_ISA_REF, 1, 0);
        expect(&p, &truth, 0);
        expect(&p, &truth, 1);
        plain(&p, &other);
        store(&p, &s);
        int64_t width = p.c.kv_heads * p.c.head_dim, q = p.c.heads * p.c.head_dim;
        int64_t floats = (p.keys - 1) * p.args.lddk + width;
        float *dk = kit_guard_copy(p.dk, floats), *dv = kit_guard_copy(p.dv, floats);
        for (int isa = 0; isa <= last_variant(); isa++) {
            memcpy(p.dk, dk, (size_t)floats * sizeof *dk);
            memcpy(p.dv, dv, (size_t)floats * sizeof *dv);
            run_bf16(&s, isa, 2, 0);
            run_bf16(&s, isa, 2, 1);
            const test_case *c = &p.c;
            double ratio[4] = {
                check_twice("o", c, isa, p.args.o_THD, p.args.ldo, NULL, truth.o, other.o, c->rows, q),
                check_twice("dq", c, isa, p.args.dq_THD, p.args.lddq, NULL, truth.dq, other.dq, c->rows, q),
                check_twice("dk", c, isa, p.dk, p.args.lddk, dk, truth.dk, other.dk, p.keys, width),
                check_twice("dv", c, isa, p.dv, p.args.lddk, dv, truth.dv, other.dv, p.keys, width)};
            for (int n = 0; n < 4; n++)
                most[isa][n] = fmax(most[isa][n], ratio[n]);
        }
        expected_clear(&truth);
        expected_clear(&other);
        kit_guard_free_all();
    }
    for (int isa = 0; isa <= last_variant(); isa++)
        print_message("%s: error over that of the plain bf16 formula, worst case: o %.2f, dq %.2f, dk %.2f, dv %.2f\n",
                      isa > (int)kit_best_isa() ? "emulated tiles" : fur_isa_name((fur_isa)isa), most[isa][0],
                      most[isa][1], most[isa][2], most[isa][3]);
}

/* With features keys and values in bf16 go through the f32 kernels: the bits of a call on rounded f32 keys. A machine
 * with tiles has AVX-512, so without it the emulated ones are left out: the call would take that variant. */
static void test_features_take_the_f32_kernels(void **state)
{
    (void)state;
#define FEATURES(...)                                                                                                  \
    {                                                                                                                  \
        .heads = 4, .kv_heads = 2, .head_dim = 20, .rows = 210, .causal = 1, .fill = KIT_NORMAL, .scale = 0.2f,        \
        .padding = 3, __VA_ARGS__                                                                                      \
    }
    static const test_case featured[] = {FEATURES(.f.window = 64), FEATURES(.f.softcap = 2, .f.alibi = 1),
                                         FEATURES(.f.window = 50, .f.sink_tokens = 4), FEATURES(.sinks = 1),
                                         FEATURES(.f.dropout = 0.3f, .f.dropout_key = 7)};
    int last = kit_best_isa() >= FUR_ISA_AVX512 ? last_variant() : (int)kit_best_isa();
    for (size_t n = 0; n < sizeof featured / sizeof *featured; n++)
        for (int isa = 0; isa <= last; isa++) {
            problem p;
            stored s;
            build(&p, &featured[n], n);
            int64_t width = p.c.kv_heads * p.c.head_dim, floats = (p.keys - 1) * p.args.lddk + width;
            int64_t o_floats = (p.c.rows - 1) * p.args.ldo + p.c.heads * p.c.head_dim;
            float *dk = kit_guard_copy(p.dk, floats), *dv = kit_guard_copy(p.dv, floats);
            store(&p, &s);
            run_bf16(&s, isa, 2, 0);
            run_bf16(&s, isa, 2, 1);
            float *o = kit_guard_copy(p.args.o_THD, o_floats), *got = kit_guard_copy(p.dk, floats);
            memcpy(p.dk, dk, (size_t)floats * sizeof *dk);
            memcpy(p.dv, dv, (size_t)floats * sizeof *dv);
            for (int64_t i = 0; i < p.k_floats; i++) {
                p.k[i] = fur_bf16_round(p.k[i]);
                p.v[i] = fur_bf16_round(p.v[i]);
            }
            fur_isa own = isa > (int)kit_best_isa() ? kit_best_isa() : (fur_isa)isa;
            run(&p, own, 2, 0);
            run(&p, own, 2, 1);
            kit_check_same_bits("o with features", o, p.args.o_THD, (size_t)o_floats * sizeof *o);
            kit_check_same_bits("dk with features", got, p.dk, (size_t)floats * sizeof *got);
            kit_guard_free_all();
        }
}

/* ---- to the bit -------------------------------------------------------------------------------------------------- */

typedef struct results {
    float *o, *lse, *dq, *dk, *dv;
    size_t o_bytes, lse_bytes, dq_bytes, dk_bytes;
} results;

/* `spoil` >= 0: that key, and that query's row of do, are NaN where nobody before them may see it. */
static results run_both(const test_case *c, int variant, int threads, int64_t spoil, float with)
{
    problem p;
    stored s;
    build(&p, c, 9);
    for (int64_t d = 0; spoil >= 0 && d < c->kv_heads * c->head_dim; d++)
        p.k[spoil * p.args.ldk + d] = p.v[spoil * p.args.ldk + d] = with;
    store(&p, &s);
    run_bf16(&s, variant, threads, 0);
    run_bf16(&s, variant, threads, 1);
    int64_t heads = c->heads * c->head_dim, kv_heads = c->kv_heads * c->head_dim;
    return (results){.o = p.args.o_THD,
                     .lse = p.args.lse_TH,
                     .dq = p.args.dq_THD,
                     .dk = p.dk,
                     .dv = p.dv,
                     .o_bytes = (size_t)((c->rows - 1) * p.args.ldo + heads) * sizeof(float),
                     .lse_bytes = (size_t)p.lse_floats * sizeof(float),
                     .dq_bytes = (size_t)((c->rows - 1) * p.args.lddq + heads) * sizeof(float),
                     .dk_bytes = (size_t)((p.keys - 1) * p.args.lddk + kv_heads) * sizeof(float)};
}

static void test_threads_same_bits(void **state)
{
    (void)state;
    static const test_case some[] = {CASE(6, 2, 20, 210, 1, WHOLE, 0.2f, 5), CASE(6, 2, 20, 210, 1, DOCUMENTS, 0.2f, 5),
                                     CASE(6, 2, 20, 210, 0, SHARED, 0.2f, 5), CASE(4, 4, 32, 700, 1, LATE, 0.2f, 0),
                                     CASE(1, 1, 64, 900, 1, WHOLE, 0.125f, 0)};
    for (size_t n = 0; n < sizeof some / sizeof *some; n++)
        for (int isa = 0; isa <= last_variant(); isa++) {
            results one = run_both(&some[n], isa, 1, -1, 0);
            for (int threads = 2; threads <= 3; threads++) {
                results more = run_both(&some[n], isa, threads, -1, 0);
                kit_check_same_bits("o", one.o, more.o, one.o_bytes);
                kit_check_same_bits("lse", one.lse, more.lse, one.lse_bytes);
                kit_check_same_bits("dq", one.dq, more.dq, one.dq_bytes);
                kit_check_same_bits("dk", one.dk, more.dk, one.dk_bytes);
                kit_check_same_bits("dv", one.dv, more.dv, one.dk_bytes);
            }
            kit_guard_free_all();
        }
}

/* A key in the future changes no bit of the rows before it, be it NaN or infinite; those after it are NaN. */
static void test_invisible_keys_change_nothing(void **state)
{
    (void)state;
    static const float with[] = {NAN, INFINITY};
    test_case c = CASE(2, 1, 40, 230, 1, WHOLE, 0.15f, 0);
    int64_t spoil = 131;
    for (int isa = 0; isa <= last_variant(); isa++)
        for (int n = 0; n < 2; n++) {
            results clean = run_both(&c, isa, 2, -1, 0), spoilt = run_both(&c, isa, 2, spoil, with[n]);
            int64_t heads = c.heads * c.head_dim;
            kit_check_same_bits("o", clean.o, spoilt.o, (size_t)(spoil * heads) * sizeof(float));
            kit_check_same_bits("lse", clean.lse, spoilt.lse, (size_t)(spoil * c.heads) * sizeof(float));
            kit_check_same_bits("dq", clean.dq, spoilt.dq, (size_t)(spoil * heads) * sizeof(float));
            for (int64_t d = 0; d < heads; d++)
                assert_true(isnan(spoilt.o[c.rows / 2 * 2 * heads - heads + d]));
            kit_guard_free_all();
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_twice_the_plain_formula), cmocka_unit_test(test_features_take_the_f32_kernels),
        cmocka_unit_test(test_threads_same_bits), cmocka_unit_test(test_invisible_keys_change_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
