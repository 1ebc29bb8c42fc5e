/* SPDX-License-Identifier: Apache-2.0 */
/* What long-context training needs, two by two: the table of all pairs of features is generated, and for each pair, on
 * a small model (features of one group exclude each other; a pair that fur_config_check refused would fail):
 *   gradient   loss and every parameter's gradient, with dropout, against the oracle in double (kit/oracle.h): at most
 *              4 times the plain formula's error + u for a tensor, 2 times for the whole, as in model_gradient.c; with
 *              superblocks that cut windows and documents
 *   bits       the same at 1 and 2 threads, of the model saved and loaded again, and with the store on disk as in
 *              memory
 *   leak       one token is changed: by no bit does an output change out of its reach through all layers, or an input
 *              gradient of another document; what is in reach shows it
 *   generated  each token is the one of the greatest logit of the whole row
 * With bf16 the plain formula is the one that rounds each operand of each product to bf16, and the factors stay:
 * library and formula round the same operands (the library fewer where its products are f32), so that both errors are
 * draws of the same size; of a tensor of few numbers (4 sink logits) one of them may cancel by chance. */
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

typedef struct combination {
    char name[400];
    fur_model_config config;
    int64_t lengths[5];
    const char *dtype; /* of products */
    int on_disk;       /* layer inputs and attention outputs */
} combination;

typedef struct feature {
    const char *name;
    group group;
    void (*apply)(combination *x);
} feature;

static void windows(combination *x)
{
    x->config.window[0] = 9;
    x->config.window[2] = 17;
}
static void sink_tokens(combination *x)
{
    x->config.sink_tokens = 3;
}
static void sink_logits(combination *x)
{
    x->config.sink_logits = true;
}
static void grouped(combination *x)
{
    x->config.kv_heads = 2;
}
static void one_key_head(combination *x)
{
    x->config.kv_heads = 1;
}
static void scaling(combination *x, fur_rope_scaling_type type)
{
    x->config.rope_scaling = (fur_rope_scaling){.type = type, .factor = 4, .original_context = 128};
}
static void linear(combination *x)
{
    scaling(x, FUR_ROPE_LINEAR);
}
static void ntk(combination *x)
{
    scaling(x, FUR_ROPE_NTK);
}
static void dynamic(combination *x)
{
    scaling(x, FUR_ROPE_DYNAMIC);
}
static void yarn(combination *x)
{
    scaling(x, FUR_ROPE_YARN);
}
static void llama3(combination *x)
{
    scaling(x, FUR_ROPE_LLAMA3);
}
static void alibi(combination *x)
{
    x->config.position = FUR_POSITION_ALIBI;
}
static void learned(combination *x)
{
    x->config.position = FUR_POSITION_LEARNED;
}
static void softcap(combination *x)
{
    x->config.softcap = 3;
}
static void qk_norm(combination *x)
{
    x->config.qk_norm = true;
}
static void logit_softcap(combination *x)
{
    x->config.logit_softcap = 2;
}
static void post_norms(combination *x)
{
    x->config.post_norms = true;
}
static void gemma(combination *x)
{
    x->config.norm_offset = x->config.scaled_embedding = true;
    x->config.activation = FUR_ACTIVATION_GEGLU;
    x->config.query_scalar = 13;
}
static void local_rope(combination *x)
{
    x->config.rope_local[0] = x->config.rope_local[2] = true;
    x->config.local_rope_theta = 300;
}
static void bidirectional(combination *x)
{
    x->config.causal = false;
}
static void dropout(combination *x)
{
    x->config.dropout = 0.25;
    x->config.embedding_dropout = 0.125;
}
static void attention_dropout(combination *x)
{
    x->config.attention_dropout = 0.25;
}
static void width_16(combination *x)
{
    x->config.head_dim = 16;
}
static void width_64(combination *x)
{
    x->config.head_dim = 64;
}
static void width_256(combination *x)
{
    x->config.head_dim = 256;
}
static void documents(combination *x)
{
    static const int64_t packed[] = {33, 1, 40, 22, 0};
    memcpy(x->lengths, packed, sizeof packed);
}
static void bf16(combination *x)
{
    x->dtype = "bf16";
}
static void on_disk(combination *x)
{
    x->on_disk = 1;
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
    {"logit softcap", ALONE, logit_softcap},
    {"post norms", ALONE, post_norms},
    {"gemma's norms, embedding, gate, scale", ALONE, gemma},
    {"local rope base", POSITIONS, local_rope},
    {"bidirectional", ALONE, bidirectional},
    {"dropout", ALONE, dropout},
    {"attention dropout", ALONE, attention_dropout},
    {"heads of 16", WIDTH, width_16},
    {"heads of 64", WIDTH, width_64},
    {"heads of 256", WIDTH, width_256},
    {"bf16", ALONE, bf16},
    {"store on disk", ALONE, on_disk},
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

static combination combination_of(const feature *const *list, int count)
{
    combination x = {.config = plain, .lengths = {TOKENS}, .dtype = "f32"};
    for (int i = 0; i < count; i++) {
        size_t used = strlen(x.name);
        list[i]->apply(&x);
        snprintf(x.name + used, sizeof x.name - used, "%s%s", used ? " x " : "", list[i]->name);
    }
    return x;
}

/* ---- one combination ----------------------------------------------------------------------------------------------
 */

enum { F32, BF16 };

/* Of all combinations. Errors are over the plain formula's, with products of f32 and of bf16. */
typedef struct tally {
    double tensor[2], whole[2], loss[2]; /* worst */
    int64_t same, moved;                 /* rows that the leak test compared */
} tally;

static const int64_t superblocks[] = {13, 64};

typedef struct scene {
    const combination *x;
    int number; /* of the combination: not all look at the same tokens */
    int precision;
    fur_context *context, *two; /* of one thread and of two */
    fur_model *model;
    kit_row row;
    kit_folder folder;
    kit_gradient gradient[2]; /* of the row, by superblocks */
    tally *all;
} scene;

static void open_run(scene *s, fur_context *context, int64_t superblock, fur_keep keep, int disk, kit_run *run)
{
    kit_run_create_in(context, s->model, &s->row, superblock, keep, disk ? s->folder.path : NULL, run);
    assert_int_equal(run->plan.inputs == FUR_STORE_DISK, disk);
}

static kit_gradient gradient_at(scene *s, fur_context *context, int64_t superblock, fur_keep keep, int disk)
{
    kit_run run;
    kit_gradient g;
    open_run(s, context, superblock, keep, disk, &run);
    fur_run_set_random(run.run, 77, 5);
    kit_gradient_create(&run, &s->row, NULL, 1.0, &g);
    kit_run_destroy(&run);
    return g;
}

static kit_gradient gradient_of(scene *s, fur_context *context, int64_t superblock, fur_keep keep)
{
    return gradient_at(s, context, superblock, keep, s->x->on_disk);
}

static void outputs_of(scene *s, fur_context *context, int64_t superblock, float *y_TV)
{
    kit_run run;
    open_run(s, context, superblock, FUR_KEEP_NOTHING, s->x->on_disk, &run);
    kit_ok(context, fur_model_outputs(run.run, &s->row.row, y_TV));
    kit_run_destroy(&run);
}

/* Returns the error over the yardstick. */
static double check_error(scene *s, const char *what, int64_t superblock, double error, double yardstick, double factor)
{
    if (!(error <= factor * yardstick + KIT_U))
        fail_msg("%s, superblock %lld, %s: error %.3g, the plain formula in %s has %.3g", s->x->name,
                 (long long)superblock, what, error, s->x->dtype, yardstick);
    return yardstick > 0 ? error / yardstick : 0;
}

/* Of the loss, relative to it. That of bf16 is a mean over positions of errors that may cancel by chance: their root
 * mean square, which no mean of them exceeds. */
static double loss_yardstick(const scene *s, const oracle_output *truth, const oracle_output *formula)
{
    double squares = 0, counted = 0;
    if (s->precision == F32)
        return fabs(formula->loss - truth->loss) / fabs(truth->loss) + 2 * KIT_U;
    for (int64_t t = 0; t < truth->tokens; t++)
        if (!isnan(truth->nll_T[t])) {
            squares += (formula->nll_T[t] - truth->nll_T[t]) * (formula->nll_T[t] - truth->nll_T[t]);
            counted++;
        }
    return sqrt(squares / counted) / fabs(truth->loss);
}

static void check_gradient(scene *s, const oracle *o, const oracle_output *truth, const oracle_output *formula,
                           const kit_gradient *g, int64_t superblock)
{
    double error = 0, plain_error = 0, size = 0, ratio;
    const float *got = g->all;
    tally *worst = s->all;
    int at = s->precision;
    for (int64_t i = 0; i < o->parameters; i++) {
        int64_t count = o->info[i].count;
        ratio = check_error(
            s, o->info[i].name, superblock, kit_relative_error(count, got, truth->gradient[i], truth->terms[i]),
            kit_relative_error_f64(count, formula->gradient[i], truth->gradient[i], truth->terms[i]), 4);
        worst->tensor[at] = fmax(worst->tensor[at], ratio);
        for (int64_t j = 0; j < count; j++) {
            double t = truth->gradient[i][j], f = formula->gradient[i][j];
            error += ((double)got[j] - t) * ((double)got[j] - t);
            plain_error += (f - t) * (f - t);
            size += t * t;
        }
        got += count;
    }
    ratio = check_error(s, "the whole gradient", superblock, sqrt(error / size), sqrt(plain_error / size), 2);
    worst->whole[at] = fmax(worst->whole[at], ratio);
    assert_true(sqrt(error / size) <= 4e-6 * (at == BF16 ? 0x1p15 : 1)); /* what a rounding to bf16 is of one to f32 */
    ratio = check_error(s, "gradient by the input", superblock,
                        kit_relative_error(g->dx_count, g->dx, truth->dx_TI, truth->dx_TI),
                        kit_relative_error_f64(g->dx_count, formula->dx_TI, truth->dx_TI, truth->dx_TI), 4);
    worst->tensor[at] = fmax(worst->tensor[at], ratio);
    ratio = check_error(s, "loss", superblock, fabs(g->loss - truth->loss) / fabs(truth->loss),
                        loss_yardstick(s, truth, formula), 2);
    worst->loss[at] = fmax(worst->loss[at], ratio);
}

static void check_same_gradient(const scene *s, const char *what, const kit_gradient *a, const kit_gradient *b)
{
    char text[500];
    snprintf(text, sizeof text, "%s: gradient %s", s->x->name, what);
    kit_check_same_bits(text, &a->loss, &b->loss, sizeof a->loss);
    kit_check_same_bits(text, a->all, b->all, (size_t)a->count * sizeof(float));
    kit_check_same_bits(text, a->dx, b->dx, (size_t)a->dx_count * sizeof(float));
}

static void check_gradients(scene *s)
{
    oracle *o = oracle_create(s->model);
    oracle_output truth, formula;
    o->training = 1;
    o->random_seed = 77;
    o->random_step = 5;
    oracle_run(o, ORACLE_DOUBLE, &s->row.row, NULL, NULL, 1, 1, &truth);
    oracle_run(o, s->precision == BF16 ? ORACLE_BF16 : ORACLE_FLOAT, &s->row.row, NULL, NULL, 1, 1, &formula);
    for (int i = 0; i < 2; i++) {
        s->gradient[i] = gradient_of(s, s->context, superblocks[i], i % 2 ? FUR_KEEP_ALL : FUR_KEEP_NOTHING);
        check_gradient(s, o, &truth, &formula, &s->gradient[i], superblocks[i]);
    }
    oracle_output_clear(&truth);
    oracle_output_clear(&formula);
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

/* Of documents that the token is not in. */
static void check_input_gradients(scene *s, int64_t at, int i, fur_context *context)
{
    int64_t C = s->x->config.width;
    if (s->row.row.documents == 1)
        return;
    kit_gradient g = gradient_of(s, context, superblocks[i], FUR_KEEP_NOTHING);
    for (int64_t t = 0; t < TOKENS; t++)
        if (document_of(s, t) != document_of(s, at) &&
            memcmp(s->gradient[i].dx + t * C, g.dx + t * C, (size_t)C * sizeof(float)) != 0)
            fail_msg("%s: input gradient %lld changed with token %lld", s->x->name, (long long)t, (long long)at);
    kit_gradient_destroy(&g);
}

static void check_leak(scene *s, int64_t at, int i)
{
    int64_t V = s->x->config.vocabulary, moved = 0;
    fur_context *context = i ? s->two : s->context;
    static float before[TOKENS * 64], after[TOKENS * 64];
    char reach[TOKENS];
    int32_t id = s->row.ids[at];
    reach_of(s, at, reach);
    outputs_of(s, context, superblocks[i], before);
    s->row.ids[at] = (int32_t)((id + 1) % V);
    outputs_of(s, context, superblocks[i], after);
    check_input_gradients(s, at, i, context);
    s->row.ids[at] = id;
    for (int64_t t = 0; t < TOKENS; t++) {
        int same = memcmp(before + t * V, after + t * V, (size_t)V * sizeof(float)) == 0;
        if (!same && !reach[t])
            fail_msg("%s: output %lld changed with token %lld", s->x->name, (long long)t, (long long)at);
        s->all->same += !reach[t];
        moved += !same;
    }
    if (!moved)
        fail_msg("%s: nothing changed with token %lld", s->x->name, (long long)at);
    s->all->moved += moved;
}

static void check_leaks(scene *s)
{
    static const int64_t tokens[] = {0, 33, 45, 72, 95};
    for (int i = 0; i < 2; i++)
        check_leak(s, tokens[(s->number + i) % 5], i);
}

/* ---- the same bits, and generation ------------------------------------------------------------------------------- */

/* Few and large calls at 2 threads: where there are fewer processors than threads, each call waits. */
static void check_same_bits(scene *s)
{
    fur_model *model = s->model;
    kit_ok(s->two, fur_model_save(s->two, model, s->folder.path));
    kit_ok(s->two, fur_model_load(s->two, s->folder.path, &s->model));
    kit_gradient g = gradient_of(s, s->two, superblocks[1], FUR_KEEP_NOTHING);
    check_same_gradient(s, "at 2 threads, of the model saved and loaded", &s->gradient[1], &g);
    kit_gradient_destroy(&g);
    fur_model_destroy(s->model);
    s->model = model;
    if (!s->x->on_disk)
        return;
    g = gradient_at(s, s->context, superblocks[0], FUR_KEEP_NOTHING, 0);
    check_same_gradient(s, "in memory", &s->gradient[0], &g);
    kit_gradient_destroy(&g);
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
    outputs_of(&t, t.context, 1000, y);
    for (int64_t i = PROMPT; i < PROMPT + COUNT; i++) {
        const float *logits = y + (i - 1) * c->vocabulary;
        float top = logits[0];
        for (int64_t v = 1; v < c->vocabulary; v++)
            top = fmaxf(top, logits[v]);
        /* blocks differ, and so may the last bits; not with bf16, whose products look at a row alone */
        if (!(logits[ids[i]] >= top - (s->precision == BF16 ? 0 : 1e-4f * (1 + fabsf(top)))))
            fail_msg("%s: token %lld was generated with logit %g, the greatest is %g", s->x->name, (long long)i,
                     (double)logits[ids[i]], (double)top);
    }
    kit_row_destroy(&t.row);
}

static void check_combination(const combination *x, int number, tally *all)
{
    scene s = {.x = x, .number = number, .precision = strcmp(x->dtype, "bf16") == 0 ? BF16 : F32, .all = all};
    s.context = kit_context_of(1, x->dtype);
    s.two = kit_context_of(2, x->dtype);
    s.model = kit_model(s.context, &x->config, 31);
    kit_folder_init(&s.folder);
    kit_row_create(&x->config, x->lengths, 1, 32, &s.row);
    assert_int_equal(s.row.tokens, TOKENS);
    check_gradients(&s);
    check_same_bits(&s);
    check_leaks(&s);
    check_generation(&s);
    for (int i = 0; i < 2; i++)
        kit_gradient_destroy(&s.gradient[i]);
    kit_row_destroy(&s.row);
    kit_folder_clear(&s.folder);
    fur_model_destroy(s.model);
    fur_context_destroy(s.two);
    fur_context_destroy(s.context);
}

static void print_tally(const tally *t)
{
    for (int at = F32; at <= BF16; at++)
        print_message("%-4s: at most %.2f times the plain formula's error in a tensor (allowed 4), %.2f in the whole "
                      "gradient (2), %.2f in the loss (2)\n",
                      at == F32 ? "f32" : "bf16", t->tensor[at], t->whole[at], t->loss[at]);
    print_message("%lld rows out of a changed token's reach, none changed by a bit; %lld within it changed\n",
                  (long long)t->same, (long long)t->moved);
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
    tally all = {0};
    for (int a = 0; a < FEATURES; a++)
        for (int b = a; b < FEATURES; b++) {
            if (exclude_each_other(&features[a], &features[b]))
                continue;
            const feature *list[] = {&features[a], &features[b]};
            combination x = combination_of(list, a == b ? 1 : 2);
            check_combination(&x, pairs + alone, &all);
            pairs += a != b;
            alone += a == b;
        }
    print_message("%d features alone and %d pairs of them, none refused\n", alone, pairs);
    print_tally(&all);
}

/* One of each group, and all that stand alone, in every choice of positions; causal or not, with bf16 or without. */
static void everything_together(void **state)
{
    (void)state;
    int count = 0;
    tally all = {0};
    for (int p = 0; p < FEATURES; p++)
        for (int without = 0; without < 4 && features[p].group == POSITIONS; without++) {
            const feature *list[FEATURES];
            int n = 0;
            for (int f = 0; f < FEATURES; f++) {
                const feature *x = &features[f];
                if ((without & 1 && x->apply == bidirectional) || (without & 2 && x->apply == bf16))
                    continue;
                if (x->group == ALONE || f == p || x->apply == grouped || x->apply == width_16)
                    list[n++] = x;
            }
            combination x = combination_of(list, n);
            check_combination(&x, count++, &all);
        }
    print_message("%d combinations of everything at once\n", count);
    print_tally(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_pair_of_features), cmocka_unit_test(everything_together)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
