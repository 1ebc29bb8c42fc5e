/* SPDX-License-Identifier: Apache-2.0 */
/* What long-context training needs, two by two: the table of all pairs of features is generated, and for each pair, on
 * a small model, gradient   loss and every parameter's gradient against the oracle in double (kit/oracle.h), within the
 * bounds of model_gradient.c: 4 times the plain f32 formula's error + u for a tensor, 2 times for the whole; with
 *              superblocks that cut windows and documents; the same bits at 1 and 2 threads
 *   leak       one token is changed: by no bit does an output change out of its reach through all layers, or an input
 *              gradient of another document; what is in reach shows it
 *   files      saved and loaded again, the same loss to the bit (gradient's row, without dropout)
 * Features of one group exclude each other. A pair that fur_config_check refuses must be in the list of refusals. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kit/files.h"
#include "kit/model.h"
#include "kit/oracle.h"

/* ---- the table ----------------------------------------------------------------------------------------------------
 */

typedef enum group { ALONE, KEYS, POSITIONS, WIDTH } group;

typedef struct feature {
    const char *name;
    group group;
    void (*apply)(fur_model_config *c);
} feature;

static void windows(fur_model_config *c)
{
    c->window[0] = 9;
    c->window[2] = 17;
}
static void sink_tokens(fur_model_config *c)
{
    c->sink_tokens = 3;
}
static void sink_logits(fur_model_config *c)
{
    c->sink_logits = true;
}
static void grouped(fur_model_config *c)
{
    c->kv_heads = 2;
}
static void one_key_head(fur_model_config *c)
{
    c->kv_heads = 1;
}
static void scaling(fur_model_config *c, fur_rope_scaling_type type)
{
    c->rope_scaling = (fur_rope_scaling){.type = type, .factor = 4, .original_context = 128};
}
static void linear(fur_model_config *c)
{
    scaling(c, FUR_ROPE_LINEAR);
}
static void ntk(fur_model_config *c)
{
    scaling(c, FUR_ROPE_NTK);
}
static void dynamic(fur_model_config *c)
{
    scaling(c, FUR_ROPE_DYNAMIC);
}
static void yarn(fur_model_config *c)
{
    scaling(c, FUR_ROPE_YARN);
}
static void llama3(fur_model_config *c)
{
    scaling(c, FUR_ROPE_LLAMA3);
}
static void alibi(fur_model_config *c)
{
    c->position = FUR_POSITION_ALIBI;
}
static void learned(fur_model_config *c)
{
    c->position = FUR_POSITION_LEARNED;
}
static void softcap(fur_model_config *c)
{
    c->softcap = 3;
}
static void qk_norm(fur_model_config *c)
{
    c->qk_norm = true;
}
static void bidirectional(fur_model_config *c)
{
    c->causal = false;
}
static void dropout(fur_model_config *c)
{
    c->dropout = 0.25;
    c->embedding_dropout = 0.125;
}
static void attention_dropout(fur_model_config *c)
{
    c->attention_dropout = 0.25;
}
static void width_16(fur_model_config *c)
{
    c->head_dim = 16;
}
static void width_64(fur_model_config *c)
{
    c->head_dim = 64;
}
static void width_256(fur_model_config *c)
{
    c->head_dim = 256;
}
static void documents(fur_model_config *c)
{
    (void)c; /* lengths_of */
}

static const feature features[] = {
    {"documents", ALONE, documents},
    {"window", ALONE, windows},
    {"sink tokens", ALONE, sink_tokens},
    {"sink logits", ALONE, sink_logits},
    {"grouped heads", KEYS, grouped},
    {"one key head", KEYS, one_key_head},
    {"rope linear", POSITIONS, linear},
    {"rope ntk", POSITIONS, ntk},
    {"rope dynamic", POSITIONS, dynamic},
    {"rope yarn", POSITIONS, yarn},
    {"rope llama3", POSITIONS, llama3},
    {"alibi", POSITIONS, alibi},
    {"learned positions", POSITIONS, learned},
    {"softcap", ALONE, softcap},
    {"q/k norms", ALONE, qk_norm},
    {"bidirectional", ALONE, bidirectional},
    {"dropout", ALONE, dropout},
    {"attention dropout", ALONE, attention_dropout},
    {"heads of 16", WIDTH, width_16},
    {"heads of 64", WIDTH, width_64},
    {"heads of 256", WIDTH, width_256},
};
enum { FEATURES = sizeof features / sizeof features[0], TOKENS = 96 };

static const fur_model_config plain = {.vocabulary = 41,
                                       .context = 512,
                                       .width = 24,
                                       .layers = 3,
                                       .heads = 4,
                                       .kv_heads = 4,
                                       .head_dim = 8,
                                       .hidden = 40,
                                       .norm = FUR_NORM_RMSNORM,
                                       .norm_eps = 1e-5,
                                       .activation = FUR_ACTIVATION_SWIGLU,
                                       .position = FUR_POSITION_ROPE,
                                       .rope_theta = 1e4,
                                       .causal = true,
                                       .init_std = 0.15};

typedef struct combination {
    char name[400];
    fur_model_config config;
    int64_t lengths[5];
} combination;

static void add_feature(combination *x, const feature *f)
{
    static const int64_t packed[] = {33, 1, 40, 22, 0};
    f->apply(&x->config);
    if (f->apply == documents)
        memcpy(x->lengths, packed, sizeof packed);
    size_t used = strlen(x->name);
    snprintf(x->name + used, sizeof x->name - used, "%s%s", used ? " x " : "", f->name);
}

static combination combination_of(const feature *const *list, int count)
{
    combination x = {.config = plain, .lengths = {TOKENS}};
    for (int i = 0; i < count; i++)
        add_feature(&x, list[i]);
    return x;
}

/* ---- one combination ----------------------------------------------------------------------------------------------
 */

typedef struct scene {
    const combination *x;
    int number; /* of the combination: not all look at the same tokens */
    fur_context *context;
    fur_model *model;
    kit_row row;
    double worst;        /* error of a tensor over plain f32's */
    int64_t same, moved; /* rows that the leak test compared */
} scene;

static kit_gradient gradient_of(scene *s, fur_model *model, fur_context *context, int64_t superblock, fur_keep keep)
{
    kit_run run;
    kit_gradient g;
    kit_run_create(context, model, &s->row, superblock, keep, &run);
    fur_run_set_random(run.run, 77, 5);
    kit_gradient_create(&run, &s->row, NULL, 1.0, &g);
    kit_run_destroy(&run);
    return g;
}

static void outputs_of(scene *s, int64_t superblock, float *y_TV)
{
    kit_run run;
    kit_run_create(s->context, s->model, &s->row, superblock, FUR_KEEP_NOTHING, &run);
    kit_ok(s->context, fur_model_outputs(run.run, &s->row.row, y_TV));
    kit_run_destroy(&run);
}

static void check_error(scene *s, const char *what, int64_t superblock, double error, double yardstick, double factor)
{
    if (!(error <= factor * yardstick + KIT_U))
        fail_msg("%s, superblock %lld, %s: error %.3g, plain f32 has %.3g", s->x->name, (long long)superblock, what,
                 error, yardstick);
}

static void check_gradient(scene *s, const oracle *o, const oracle_output *truth, const oracle_output *f32,
                           const kit_gradient *g, int64_t superblock)
{
    double error = 0, plain_error = 0, size = 0;
    const float *got = g->all;
    for (int64_t i = 0; i < o->parameters; i++) {
        int64_t count = o->info[i].count;
        double e = kit_relative_error(count, got, truth->gradient[i], truth->terms[i]);
        double y = kit_relative_error_f64(count, f32->gradient[i], truth->gradient[i], truth->terms[i]);
        check_error(s, o->info[i].name, superblock, e, y, 4);
        s->worst = fmax(s->worst, y > 0 ? e / y : 0);
        for (int64_t j = 0; j < count; j++) {
            error += ((double)got[j] - truth->gradient[i][j]) * ((double)got[j] - truth->gradient[i][j]);
            plain_error +=
                (f32->gradient[i][j] - truth->gradient[i][j]) * (f32->gradient[i][j] - truth->gradient[i][j]);
            size += truth->gradient[i][j] * truth->gradient[i][j];
        }
        got += count;
    }
    check_error(s, "the whole gradient", superblock, sqrt(error / size), sqrt(plain_error / size), 2);
    assert_true(sqrt(error / size) <= 4e-6);
    check_error(s, "gradient by the input", superblock,
                kit_relative_error(g->dx_count, g->dx, truth->dx_TI, truth->dx_TI),
                kit_relative_error_f64(g->dx_count, f32->dx_TI, truth->dx_TI, truth->dx_TI), 4);
    double loss = fabs(truth->loss);
    check_error(s, "loss", superblock, fabs(g->loss - truth->loss) / loss,
                fabs(f32->loss - truth->loss) / loss + 2 * KIT_U, 2);
}

static void check_gradients(scene *s)
{
    oracle *o = oracle_create(s->model);
    oracle_output truth, f32;
    o->training = 1;
    o->random_seed = 77;
    o->random_step = 5;
    oracle_run(o, ORACLE_DOUBLE, &s->row.row, NULL, NULL, 1, 1, &truth);
    oracle_run(o, ORACLE_FLOAT, &s->row.row, NULL, NULL, 1, 1, &f32);
    fur_context *two = kit_context(2);
    static const int64_t superblocks[] = {13, 64};
    for (int i = 0; i < 2; i++) {
        kit_gradient one =
            gradient_of(s, s->model, s->context, superblocks[i], i % 2 ? FUR_KEEP_ALL : FUR_KEEP_NOTHING);
        check_gradient(s, o, &truth, &f32, &one, superblocks[i]);
        if (i == 1) { /* few and large calls: where there are fewer processors than threads, each call waits */
            kit_gradient more = gradient_of(s, s->model, two, superblocks[i], FUR_KEEP_NOTHING);
            kit_check_same_bits("gradient at 2 threads", one.all, more.all, (size_t)one.count * sizeof(float));
            kit_check_same_bits("dx at 2 threads", one.dx, more.dx, (size_t)one.dx_count * sizeof(float));
            kit_gradient_destroy(&more);
        }
        kit_gradient_destroy(&one);
    }
    fur_context_destroy(two);
    oracle_output_clear(&truth);
    oracle_output_clear(&f32);
    oracle_destroy(o);
}

/* ---- leaks --------------------------------------------------------------------------------------------------------
 */

static int64_t document_of(const scene *s, int64_t t)
{
    int64_t d = 0;
    while (s->row.offsets[d + 1] <= t)
        d++;
    return d;
}

static int sees(const scene *s, int64_t layer, int64_t i, int64_t j)
{
    const fur_model_config *c = &s->x->config;
    int64_t start = s->row.offsets[document_of(s, i)], window = c->window[layer];
    if (document_of(s, j) != document_of(s, i) || (c->causal && j > i))
        return 0;
    return !window || llabs(i - j) < window || j - start < c->sink_tokens;
}

/* reach[i]: whether output i may depend on token `at`, through all layers. */
static void reach_of(const scene *s, int64_t at, char reach[TOKENS])
{
    memset(reach, 0, TOKENS);
    reach[at] = 1;
    for (int64_t layer = 0; layer < s->x->config.layers; layer++) {
        char next[TOKENS];
        for (int64_t i = 0; i < TOKENS; i++) {
            next[i] = reach[i];
            for (int64_t j = 0; j < TOKENS; j++)
                next[i] |= reach[j] && sees(s, layer, i, j);
        }
        memcpy(reach, next, TOKENS);
    }
}

static void check_leak(scene *s, int64_t at, int64_t superblock)
{
    int64_t V = s->x->config.vocabulary, C = s->x->config.width;
    static float before[TOKENS * 64], after[TOKENS * 64];
    char reach[TOKENS];
    int32_t id = s->row.ids[at];
    reach_of(s, at, reach);
    outputs_of(s, superblock, before);
    kit_gradient g = gradient_of(s, s->model, s->context, superblock, FUR_KEEP_NOTHING);
    s->row.ids[at] = (int32_t)((id + 1) % V);
    outputs_of(s, superblock, after);
    kit_gradient h = gradient_of(s, s->model, s->context, superblock, FUR_KEEP_NOTHING);
    s->row.ids[at] = id;
    int64_t moved = 0;
    for (int64_t i = 0; i < TOKENS; i++) {
        int same = memcmp(before + i * V, after + i * V, (size_t)V * sizeof(float)) == 0;
        int same_dx = memcmp(g.dx + i * C, h.dx + i * C, (size_t)C * sizeof(float)) == 0;
        if (!same && !reach[i])
            fail_msg("%s: output %lld changed with token %lld", s->x->name, (long long)i, (long long)at);
        if (!same_dx && document_of(s, i) != document_of(s, at))
            fail_msg("%s: input gradient %lld changed with token %lld", s->x->name, (long long)i, (long long)at);
        s->same += !reach[i];
        moved += !same;
    }
    if (!moved)
        fail_msg("%s: nothing changed with token %lld", s->x->name, (long long)at);
    s->moved += moved;
    kit_gradient_destroy(&g);
    kit_gradient_destroy(&h);
}

static void check_leaks(scene *s)
{
    fur_context *one = s->context, *two = kit_context(2);
    static const int64_t tokens[] = {0, 33, 45, 72, 95};
    for (int i = 0; i < 2; i++) {
        s->context = i % 2 ? two : one;
        check_leak(s, tokens[(s->number + i) % 5], i ? 64 : 13);
    }
    s->context = one;
    fur_context_destroy(two);
}

/* ---- files --------------------------------------------------------------------------------------------------------
 */

static void check_files(scene *s)
{
    int64_t V = s->x->config.vocabulary;
    static float before[TOKENS * 64], after[TOKENS * 64];
    kit_folder folder;
    kit_folder_init(&folder);
    fur_model *back, *model = s->model;
    kit_ok(s->context, fur_model_save(s->context, model, folder.path));
    kit_ok(s->context, fur_model_load(s->context, folder.path, &back));
    outputs_of(s, 64, before);
    kit_gradient g = gradient_of(s, model, s->context, 64, FUR_KEEP_NOTHING);
    s->model = back;
    outputs_of(s, 64, after);
    kit_gradient h = gradient_of(s, back, s->context, 64, FUR_KEEP_NOTHING);
    s->model = model;
    kit_check_same_bits("outputs of a model saved and loaded", before, after, (size_t)(TOKENS * V) * sizeof(float));
    kit_check_same_bits("its input gradient", g.dx, h.dx, (size_t)g.dx_count * sizeof(float));
    kit_gradient_destroy(&g);
    kit_gradient_destroy(&h);
    fur_model_destroy(back);
    kit_folder_clear(&folder);
}

/* Generation against outputs: the token of the greatest logit, one at a time behind the prompt. */
static int note_token(void *user, int32_t id)
{
    int32_t **next = user;
    *(*next)++ = id;
    return 0;
}

static void check_generation(scene *s)
{
    enum { PROMPT = 40, COUNT = 30 };
    const fur_model_config *c = &s->x->config;
    int32_t ids[PROMPT + COUNT], *next = ids + PROMPT;
    if (!c->causal)
        return;
    memcpy(ids, s->row.ids, PROMPT * sizeof *ids);
    fur_sampling sampling;
    fur_sampling_defaults(&sampling);
    sampling.temperature = 0;
    kit_ok(s->context, fur_generate(s->context, s->model, ids, PROMPT, COUNT, &sampling, 0, note_token, &next));
    scene t = *s;
    int64_t length[] = {PROMPT + COUNT, 0};
    kit_row_create(c, length, 1, 9, &t.row);
    memcpy(t.row.ids, ids, sizeof ids);
    static float y[TOKENS * 64];
    outputs_of(&t, 1000, y);
    for (int64_t i = PROMPT; i < PROMPT + COUNT; i++) {
        const float *logits = y + (i - 1) * c->vocabulary;
        float top = logits[0];
        for (int64_t v = 1; v < c->vocabulary; v++)
            top = fmaxf(top, logits[v]);
        /* blocks differ, and so may the last bits */
        if (!(logits[ids[i]] >= top - 1e-4f * (1 + fabsf(top))))
            fail_msg("%s: token %lld was generated with logit %g, the greatest is %g", s->x->name, (long long)i,
                     (double)logits[ids[i]], (double)top);
    }
    kit_row_destroy(&t.row);
}

static double check_combination(const combination *x, int number, int64_t *same, int64_t *moved)
{
    scene s = {.x = x, .number = number, .context = kit_context(1)};
    s.model = kit_model(s.context, &x->config, 31);
    kit_row_create(&x->config, x->lengths, 1, 32, &s.row);
    assert_int_equal(s.row.tokens, TOKENS);
    check_gradients(&s);
    check_leaks(&s);
    check_files(&s);
    check_generation(&s);
    *same += s.same;
    *moved += s.moved;
    kit_row_destroy(&s.row);
    fur_model_destroy(s.model);
    fur_context_destroy(s.context);
    return s.worst;
}

/* ---- tests --------------------------------------------------------------------------------------------------------
 */

static int exclude_each_other(const feature *a, const feature *b)
{
    return a != b && a->group != ALONE && a->group == b->group;
}

static void every_pair_of_features(void **state)
{
    (void)state;
    int pairs = 0, alone = 0;
    double worst = 0;
    int64_t same = 0, moved = 0;
    for (int a = 0; a < FEATURES; a++)
        for (int b = a; b < FEATURES; b++) {
            if (exclude_each_other(&features[a], &features[b]))
                continue;
            const feature *list[] = {&features[a], &features[b]};
            combination x = combination_of(list, a == b ? 1 : 2);
            worst = fmax(worst, check_combination(&x, pairs + alone, &same, &moved));
            pairs += a != b;
            alone += a == b;
        }
    print_message(
        "%d features alone and %d pairs of them, none refused: worst tensor %.2f times plain f32's error "
        "(at most 4)\n%lld rows out of a changed token's reach, none changed by a bit; %lld within it changed\n",
        alone, pairs, worst, (long long)same, (long long)moved);
}

/* One of each group, and all that stand alone, in every choice of positions. */
static void everything_together(void **state)
{
    (void)state;
    int count = 0;
    double worst = 0;
    int64_t same = 0, moved = 0;
    for (int p = 0; p < FEATURES; p++)
        for (int causal = 0; causal < 2 && features[p].group == POSITIONS; causal++) {
            const feature *list[FEATURES];
            int n = 0;
            for (int f = 0; f < FEATURES; f++)
                if ((features[f].group == ALONE && !(causal && features[f].apply == bidirectional)) || f == p ||
                    features[f].apply == grouped || features[f].apply == width_16)
                    list[n++] = &features[f];
            combination x = combination_of(list, n);
            worst = fmax(worst, check_combination(&x, count, &same, &moved));
            count++;
        }
    print_message("%d combinations of everything at once: worst tensor %.2f times plain f32's error\n", count, worst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_pair_of_features), cmocka_unit_test(everything_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
