/* SPDX-License-Identifier: Apache-2.0 */
/* Layers that hold keys and values of a window only, against layers that hold those of the whole row.
 *
 * This program has a table of kinds of its own: 0 is `exact`; WHOLE is `exact` made to hold all rows, with a reach of
 * everything, so that backward rebuilds them in ascending order. A state of either begins as NaN, so that a row that is
 * read before it is absorbed, or after another took its place, is seen in every result.
 *
 * Same bits: loss, gradients, outputs, for windows of 2 tokens to beyond the row, blocks that divide nothing, packed
 * documents, grouped heads, dropout, ALiBi, kept attention outputs, f32 and bf16, the store on disk. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/fault.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/config.h"
#include "model/run.h"

#define DISK ((int64_t)1 << 40)

/* ---- kinds ------------------------------------------------------------------------------------------------------- */

static int keep_state;        /* generation: the state stays from one token to the next */
static int64_t rows_absorbed; /* since it was last set to 0 */

static void poison(void *values, int64_t bytes)
{
    if (values && !keep_state)
        memset(values, 0xff, (size_t)bytes); /* a NaN in f32 and in bf16 */
}

static void reserve_poisoned(const fur_attention_shape *shape, int64_t rows, int64_t block, int backward,
                             fur_arena *arena, fur_attention_state *out)
{
    fur_attention_exact.reserve(shape, rows, block, backward, arena, out);
    int64_t elements = out->capacity * shape->kv_heads * shape->head_dim;
    poison(out->k_SKD, 4 * elements);
    poison(out->v_SKD, 4 * elements);
    poison(out->k_bf16_SKD, 2 * elements);
    poison(out->v_bf16_SKD, 2 * elements);
    poison(out->dk_SKD, 4 * elements);
    poison(out->dv_SKD, 4 * elements);
}

static void reserve_whole(const fur_attention_shape *shape, int64_t rows, int64_t block, int backward, fur_arena *arena,
                          fur_attention_state *out)
{
    (void)block;
    reserve_poisoned(shape, rows, rows, backward, arena, out);
    assert_int_equal(out->capacity, rows);
}

static int64_t reach_everything(const fur_attention_shape *shape)
{
    (void)shape;
    return INT64_MAX;
}

static fur_status absorb_counted(const fur_exec *exec, const fur_attention_shape *shape, fur_attention_state *state,
                                 const fur_documents *documents, int64_t first, int64_t count, float *k_TKD,
                                 float *v_TKD)
{
    rows_absorbed += count;
    return fur_attention_exact.absorb(exec, shape, state, documents, first, count, k_TKD, v_TKD);
}

enum { WHOLE = FUR_ATTENTION_ALMOST_LINEAR + 1, KINDS };

/* In the place of src/attention/kind.c. */
int fur_attention_kind_count(void)
{
    return KINDS;
}

const fur_attention_kind *fur_attention_kind_at(int index)
{
    static fur_attention_kind kinds[KINDS];
    for (int i = 0; i < KINDS; i++) {
        kinds[i] = i == FUR_ATTENTION_ALMOST_LINEAR ? fur_attention_almost_linear : fur_attention_exact;
        if (i != FUR_ATTENTION_ALMOST_LINEAR)
            kinds[i].reserve = i == WHOLE ? reserve_whole : reserve_poisoned;
        kinds[i].absorb = absorb_counted;
    }
    kinds[WHOLE].name = "whole";
    kinds[WHOLE].reach = reach_everything;
    return &kinds[index];
}

/* ---- rows through both ------------------------------------------------------------------------------------------- */

enum { LAYERS = 3 };

static const fur_model_config plain = {.vocabulary = 53,
                                       .context = 4096,
                                       .width = 24,
                                       .layers = LAYERS,
                                       .heads = 4,
                                       .kv_heads = 2,
                                       .head_dim = 8,
                                       .hidden = 40,
                                       .norm = FUR_NORM_RMSNORM,
                                       .norm_eps = 1e-5,
                                       .activation = FUR_ACTIVATION_SWIGLU,
                                       .position = FUR_POSITION_ROPE,
                                       .rope_theta = 1e4,
                                       .causal = true,
                                       .init_std = 0.15};

static fur_model_config config_of(int64_t window, int features, int whole)
{
    fur_model_config c = plain;
    for (int layer = 0; layer < LAYERS; layer++) {
        c.window[layer] = layer == 1 && features ? 3 * window : window;
        c.attention[layer] = whole ? WHOLE : 0;
    }
    if (features) {
        c.position = FUR_POSITION_ALIBI;
        c.sink_logits = true;
        c.softcap = 5;
        c.dropout = 0.1;
        c.attention_dropout = 0.2;
    }
    return c;
}

typedef struct result {
    kit_gradient gradient;
    double loss;
    int64_t tokens, state_bytes;
    float *y;
} result;

typedef struct setting {
    int64_t window, superblock;
    const int64_t *lengths;
    int features, threads;
    const char *dtype;
    fur_store_place inputs, attention;
    const char *folder;
} setting;

static void result_of(const setting *s, int whole, result *out)
{
    fur_context *context = kit_context_of(s->threads, s->dtype);
    fur_model_config config = config_of(s->window, s->features, whole);
    fur_model *model = kit_model(context, &config, 41);
    kit_row row;
    kit_row_create(&config, s->lengths, 1, 42, &row);
    kit_run run = {.context = context, .model = model};
    fur_plan_request_defaults(&run.request);
    run.request.row_tokens = row.tokens;
    run.request.superblock = s->superblock;
    run.request.measured_gflops = 100;
    run.request.inputs = s->inputs;
    run.request.attention = s->attention;
    run.request.disk_bytes = s->folder ? DISK : 0;
    run.request.disk_dir = s->folder;
    kit_ok(context, fur_plan_make(context, &config, &run.request, &run.plan));
    kit_ok(context, fur_run_create(context, model, &run.plan, &run.request, &run.run));
    fur_run_set_random(run.run, 7, 3);
    *out = (result){.tokens = row.tokens, .state_bytes = run.run->memory.state_bytes};
    rows_absorbed = 0;
    kit_gradient_create(&run, &row, NULL, 1.0, &out->gradient);
    if (s->inputs != FUR_STORE_AGAIN)
        assert_int_equal(rows_absorbed, 2 * LAYERS * row.tokens);
    kit_ok(context, fur_model_loss(run.run, &row.row, NULL, &out->loss, NULL));
    out->y = calloc((size_t)(row.tokens * config.vocabulary), sizeof *out->y);
    assert_non_null(out->y);
    kit_ok(context, fur_model_outputs(run.run, &row.row, out->y));
    assert_true(isfinite(out->loss) && isfinite(out->gradient.loss));
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void result_clear(result *r)
{
    kit_gradient_destroy(&r->gradient);
    free(r->y);
}

/* Bytes of the largest layer's state: k, v, dk, dv of whole blocks that a block sees. */
static int64_t state_of_rings(const setting *s, int64_t tokens)
{
    int64_t window = s->window * (s->features ? 3 : 1), blocks = (window - 1 + s->superblock - 1) / s->superblock + 1;
    int64_t rows = blocks * s->superblock < tokens ? blocks * s->superblock : tokens;
    return rows * plain.kv_heads * plain.head_dim * (strcmp(s->dtype, "bf16") == 0 ? 12 : 16);
}

static int check(const setting *s)
{
    char text[160];
    result ring, all;
    result_of(s, 0, &ring);
    result_of(s, 1, &all);
    snprintf(text, sizeof text, "window %d, superblock %d, features %d, %s, %d threads, inputs %d, attention %d",
             (int)s->window, (int)s->superblock, s->features, s->dtype, s->threads, (int)s->inputs, (int)s->attention);
    kit_check_same_bits(text, &ring.loss, &all.loss, sizeof all.loss);
    kit_check_same_bits(text, &ring.gradient.loss, &all.gradient.loss, sizeof all.loss);
    kit_check_same_bits(text, ring.gradient.all, all.gradient.all, (size_t)all.gradient.count * sizeof(float));
    kit_check_same_bits(text, ring.gradient.dx, all.gradient.dx, (size_t)all.gradient.dx_count * sizeof(float));
    kit_check_same_bits(text, ring.y, all.y, (size_t)(all.tokens * plain.vocabulary) * sizeof(float));
    int64_t want = state_of_rings(s, ring.tokens), slack = 5 * FUR_ARENA_ALIGN;
    if (!(ring.state_bytes >= want && ring.state_bytes <= want + slack))
        fail_msg("%s: a state of %lld bytes, expected %lld", text, (long long)ring.state_bytes, (long long)want);
    int smaller = ring.state_bytes < all.state_bytes;
    result_clear(&ring);
    result_clear(&all);
    return smaller;
}

static const int64_t one_document[] = {300, 0}, packed[] = {133, 1, 64, 2, 100, 0};

static void a_ring_has_the_bits_of_all_rows(void **state)
{
    (void)state;
    static const int64_t windows[] = {2, 14, 37, 38, 64, 65, 100, 299, 3000};
    static const int64_t superblocks[] = {13, 37, 64, 128};
    int runs = 0, smaller = 0;
    for (size_t w = 0; w < sizeof windows / sizeof windows[0]; w++)
        for (size_t b = 0; b < sizeof superblocks / sizeof superblocks[0]; b++)
            for (int i = 0; i < 2; i++, runs++) {
                setting s = {.window = windows[w],
                             .superblock = superblocks[b],
                             .lengths = i ? packed : one_document,
                             .features = (int)((w + b) % 2) ^ i,
                             .threads = (runs / 3) % 2 + 1,
                             .dtype = runs % 3 == 2 ? "bf16" : "f32",
                             .inputs = FUR_STORE_MEMORY,
                             .attention = runs % 2 ? FUR_STORE_MEMORY : FUR_STORE_AGAIN};
                smaller += check(&s);
            }
    assert_true(smaller > runs / 2 && smaller < runs);
    print_message("%d rows: the same bits from %d rings and %d states of all rows\n", runs, smaller, runs - smaller);
}

/* ---- the store --------------------------------------------------------------------------------------------------- */

static int count_reads(void *user, fur_io_op op, const char *path)
{
    int64_t *reads = user;
    *reads += op == FUR_IO_READ && strstr(path, "store-") != NULL;
    return 0;
}

/* Everywhere the store may be; and on disk each layer's input is read once to absorb and once to query, so that what is
 * fetched ahead is what is asked for next. */
static void a_ring_and_the_store(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    static const int64_t windows[] = {2, 64, 100, 200};
    int64_t blocks = (300 + 63) / 64;
    for (int w = 0; w < 4; w++)
        for (int k = 0; k < 9; k++) {
            setting s = {.window = windows[w],
                         .superblock = 64,
                         .lengths = w % 2 ? packed : one_document,
                         .threads = k % 2 + 1,
                         .dtype = "f32",
                         .inputs = (fur_store_place)(k % 3 + 1),
                         .attention = (fur_store_place)(k / 3 + 1),
                         .folder = folder.path};
            int64_t reads = 0;
            fur_io_hook_set(count_reads, &reads);
            result ring;
            result_of(&s, 0, &ring);
            fur_io_hook_set(NULL, NULL);
            if (s.inputs == FUR_STORE_DISK && s.attention == FUR_STORE_AGAIN)
                if (reads > 2 * LAYERS * blocks || reads < 2 * LAYERS * (blocks - 2))
                    fail_msg("window %d: %lld reads of %lld blocks in %d layers", (int)s.window, (long long)reads,
                             (long long)blocks, LAYERS);
            result_clear(&ring);
            check(&s);
        }
    assert_int_equal(kit_entries(folder.path), 0);
    kit_folder_clear(&folder);
}

/* ---- generation -------------------------------------------------------------------------------------------------- */

static int note_token(void *user, int32_t id)
{
    int32_t **next = user;
    *(*next)++ = id;
    return 0;
}

/* A prompt and tokens behind it, both longer than the ring. */
static void a_ring_generates_what_all_rows_do(void **state)
{
    (void)state;
    enum { PROMPT = 1100, COUNT = 600 };
    fur_context *context = kit_context(1);
    int32_t ids[2][PROMPT + COUNT];
    keep_state = 1;
    for (int whole = 0; whole < 2; whole++) {
        fur_model_config config = config_of(100, 0, whole);
        fur_model *model = kit_model(context, &config, 41);
        for (int i = 0; i < PROMPT; i++)
            ids[whole][i] = (i * i + i / 7) % 53;
        int32_t *next = ids[whole] + PROMPT;
        fur_sampling sampling;
        fur_sampling_defaults(&sampling);
        kit_ok(context, fur_generate(context, model, ids[whole], PROMPT, COUNT, &sampling, 0, note_token, &next));
        assert_true(next == ids[whole] + PROMPT + COUNT);
        fur_model_destroy(model);
    }
    keep_state = 0;
    kit_check_same_bits("generated tokens", ids[0], ids[1], sizeof ids[0]);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_ring_has_the_bits_of_all_rows),
                                       cmocka_unit_test(a_ring_and_the_store),
                                       cmocka_unit_test(a_ring_generates_what_all_rows_do)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
