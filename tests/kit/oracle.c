/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/oracle.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/random.h"
#include "op/lookup/lookup.h"

/* ---- parameters by name ------------------------------------------------------------------------------------------ */

static int64_t index_of(const oracle *o, const char *const *stems, const char *suffix, int64_t layer)
{
    for (; *stems; stems++) {
        char name[160];
        const char *percent = strchr(*stems, '#');
        if (percent)
            snprintf(name, sizeof name, "%.*s%d%s%s", (int)(percent - *stems), *stems, (int)layer, percent + 1, suffix);
        else
            snprintf(name, sizeof name, "%s%s", *stems, suffix);
        for (int64_t i = 0; i < o->parameters; i++)
            if (strcmp(o->info[i].name, name) == 0)
                return i;
    }
    return -1;
}

/* One of the names must be there, of a matrix or a table. */
static oracle_slice weight_of(const oracle *o, const char *const *stems, int64_t layer)
{
    int64_t index = index_of(o, stems, ".weight", layer);
    if (index < 0)
        index = index_of(o, stems, ".table", layer);
    if (index < 0)
        fail_msg("the model has no parameter like %s.weight", stems[0]);
    return (oracle_slice){index, 0};
}

static oracle_slice bias_of(const oracle *o, const char *const *stems, int64_t layer)
{
    return (oracle_slice){index_of(o, stems, ".bias", layer), 0};
}

#define STEMS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void find_queries(const oracle *o, int64_t layer, oracle_layer *l)
{
    int64_t q = o->config.heads * o->config.head_dim, k = o->config.kv_heads * o->config.head_dim;
    const char *const *fused = STEMS("transformer.h.#.attn.c_attn", "gpt_neox.layers.#.attention.query_key_value");
    int64_t w = index_of(o, fused, ".weight", layer), b = index_of(o, fused, ".bias", layer);
    if (w >= 0) {
        l->q_w = (oracle_slice){w, 0};
        l->k_w = (oracle_slice){w, q};
        l->v_w = (oracle_slice){w, q + k};
        l->q_b = (oracle_slice){b, 0};
        l->k_b = (oracle_slice){b, q};
        l->v_b = (oracle_slice){b, q + k};
        return;
    }
    l->q_w = weight_of(o, STEMS("model.layers.#.self_attn.q_proj"), layer);
    l->k_w = weight_of(o, STEMS("model.layers.#.self_attn.k_proj"), layer);
    l->v_w = weight_of(o, STEMS("model.layers.#.self_attn.v_proj"), layer);
    l->q_b = bias_of(o, STEMS("model.layers.#.self_attn.q_proj"), layer);
    l->k_b = bias_of(o, STEMS("model.layers.#.self_attn.k_proj"), layer);
    l->v_b = bias_of(o, STEMS("model.layers.#.self_attn.v_proj"), layer);
}

static void find_layer(const oracle *o, int64_t layer, oracle_layer *l)
{
    const char *const *norm1 =
        STEMS("transformer.h.#.ln_1", "gpt_neox.layers.#.input_layernorm", "model.layers.#.input_layernorm");
    bool four = o->config.post_norms;
    const char *const *norm2 = four ? STEMS("model.layers.#.pre_feedforward_layernorm")
                                    : STEMS("transformer.h.#.ln_2", "gpt_neox.layers.#.post_attention_layernorm",
                                            "model.layers.#.post_attention_layernorm");
    const char *const *post1 = STEMS("model.layers.#.post_attention_layernorm");
    const char *const *post2 = STEMS("model.layers.#.post_feedforward_layernorm");
    const oracle_slice none = {-1, 0};
    l->post1_w = four ? weight_of(o, post1, layer) : none;
    l->post1_b = four ? bias_of(o, post1, layer) : none;
    l->post2_w = four ? weight_of(o, post2, layer) : none;
    l->post2_b = four ? bias_of(o, post2, layer) : none;
    const char *const *out =
        STEMS("transformer.h.#.attn.c_proj", "gpt_neox.layers.#.attention.dense", "model.layers.#.self_attn.o_proj");
    const char *const *up =
        STEMS("transformer.h.#.mlp.c_fc", "gpt_neox.layers.#.mlp.dense_h_to_4h", "model.layers.#.mlp.up_proj");
    const char *const *down =
        STEMS("transformer.h.#.mlp.c_proj", "gpt_neox.layers.#.mlp.dense_4h_to_h", "model.layers.#.mlp.down_proj");
    const char *const *gate = STEMS("model.layers.#.mlp.gate_proj");
    find_queries(o, layer, l);
    l->norm1_w = weight_of(o, norm1, layer);
    l->norm1_b = bias_of(o, norm1, layer);
    l->norm2_w = weight_of(o, norm2, layer);
    l->norm2_b = bias_of(o, norm2, layer);
    if (o->config.projection_qkvo == 0) /* dense */
        l->o_w = weight_of(o, out, layer);
    else
        l->o_w = (oracle_slice){index_of(o, out, ".table", layer), 0};
    l->o_b = bias_of(o, out, layer);
    l->up_w = weight_of(o, up, layer);
    l->up_b = bias_of(o, up, layer);
    l->down_w = weight_of(o, down, layer);
    l->down_b = bias_of(o, down, layer);
    l->gate_w = (oracle_slice){index_of(o, gate, ".weight", layer), 0};
    l->gate_b = bias_of(o, gate, layer);
    const char *const *inner = STEMS("model.layers.#.mlp.norm");
    l->inner_w = (oracle_slice){index_of(o, inner, ".weight", layer), 0};
    l->inner_b = bias_of(o, inner, layer);
    if ((l->inner_w.index >= 0) != (o->config.activation == FUR_ACTIVATION_NORM))
        fail_msg("the feedforward's norm is not where the config has it");
    const char *const *sinks = STEMS("model.layers.#.self_attn.sinks");
    l->q_norm = (oracle_slice){index_of(o, STEMS("model.layers.#.self_attn.q_norm"), ".weight", layer), 0};
    l->k_norm = (oracle_slice){index_of(o, STEMS("model.layers.#.self_attn.k_norm"), ".weight", layer), 0};
    l->sinks = (oracle_slice){index_of(o, sinks, "", layer), 0};
    const char *const *far = STEMS("model.layers.#.self_attn.far");
    l->far_query_mean = (oracle_slice){index_of(o, far, "_query_mean", layer), 0};
    l->far_key_mean = (oracle_slice){index_of(o, far, "_key_mean", layer), 0};
    l->far_coefficients = (oracle_slice){index_of(o, far, "_coefficients", layer), 0};
    l->far_bias = (oracle_slice){index_of(o, far, "_bias", layer), 0};
    bool linear = strcmp(fur_attention_kind_name(o->config.attention[layer]), "almost-linear") == 0;
    if ((l->far_coefficients.index >= 0) != linear || (l->far_bias.index >= 0) != (linear && o->config.far_bias))
        fail_msg("constants of far fields are not where the config has them");
    if ((l->q_norm.index >= 0) != o->config.qk_norm || (l->k_norm.index >= 0) != o->config.qk_norm ||
        (l->sinks.index >= 0) != o->config.sink_logits)
        fail_msg("norms of q and k, or sinks, are not where the config has them");
}

static void *grab(size_t count, size_t bytes)
{
    void *memory = calloc(count ? count : 1, bytes);
    if (!memory)
        fail_msg("no memory for %zu values of the oracle", count);
    return memory;
}

oracle *oracle_create(const fur_model *model)
{
    oracle *o = grab(1, sizeof *o);
    o->config = *fur_model_config_of(model);
    o->parameters = fur_model_parameters(model);
    o->info = grab((size_t)o->parameters, sizeof *o->info);
    o->value = grab((size_t)o->parameters, sizeof *o->value);
    for (int64_t i = 0; i < o->parameters; i++) {
        fur_parameter_info *p = &o->info[i];
        fur_model_parameter(model, i, p);
        o->value[i] = grab((size_t)p->count, sizeof(double));
        for (int64_t j = 0; j < p->count; j++)
            o->value[i][j] = (double)p->data[j];
    }
    o->layers = grab((size_t)o->config.layers, sizeof *o->layers);
    for (int64_t layer = 0; layer < o->config.layers; layer++)
        find_layer(o, layer, &o->layers[layer]);
    const char *const *embedding = STEMS("transformer.wte", "gpt_neox.embed_in", "model.embed_tokens");
    const char *const *final = STEMS("transformer.ln_f", "gpt_neox.final_layer_norm", "model.norm");
    o->embedding = (oracle_slice){index_of(o, embedding, ".weight", 0), 0};
    o->positions = (oracle_slice){index_of(o, STEMS("transformer.wpe", "model.positions"), ".weight", 0), 0};
    o->input_w = (oracle_slice){index_of(o, STEMS("model.input_proj"), ".weight", 0), 0};
    o->input_b = bias_of(o, STEMS("model.input_proj"), 0);
    o->final_w = weight_of(o, final, 0);
    o->final_b = bias_of(o, final, 0);
    o->head = (oracle_slice){index_of(o, STEMS("lm_head", "embed_out", "head"), ".weight", 0), 0};
    if ((o->head.index < 0) != o->config.tied)
        fail_msg("a head of its own and tying exclude each other");
    if (o->config.tied)
        o->head = o->embedding;
    return o;
}

void oracle_destroy(oracle *o)
{
    if (!o)
        return;
    for (int64_t i = 0; i < o->parameters; i++)
        free(o->value[i]);
    free(o->value);
    free(o->info);
    free(o->layers);
    free(o);
}

/* ---- the precisions ------------------------------------------------------------------------------------------ */

/* Document of each token, and its position within. */
static void place_tokens(const fur_row *row, int64_t *document_T, int64_t *position_T)
{
    for (int64_t d = 0; d < row->documents; d++)
        for (int64_t t = row->offsets[d]; t < row->offsets[d + 1]; t++) {
            document_T[t] = d;
            position_T[t] = t - row->offsets[d];
        }
}

/* ---- positions and chance, which need no second precision -------------------------------------------------------- */

/* RoPE frequency of pair i as transformers defines it: interpolated or not by wavelength, each case by itself. */
static double rope_frequency(const fur_model_config *c, int64_t layer, int64_t i, double *magnitude)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    *magnitude = 1;
    if (c->rope_local[layer])
        return 1 / pow(c->local_rope_theta, 2 * (double)i / (double)c->head_dim);
    const double pi = 3.14159265358979323846;
    double D = (double)c->head_dim, base = c->rope_theta, original = (double)s->original_context;
    if (s->type == FUR_ROPE_NTK)
        base *= pow(s->factor, D / (D - 2));
    if (s->type == FUR_ROPE_DYNAMIC)
        base *= pow(s->factor * fmax((double)c->context, original) / original - (s->factor - 1), D / (D - 2));
    double f = 1 / pow(base, 2 * (double)i / D);
    if (s->type == FUR_ROPE_LINEAR)
        return f / s->factor;
    if (s->type == FUR_ROPE_LLAMA3) {
        double low = s->low_freq_factor > 0 ? s->low_freq_factor : 1;
        double high = s->high_freq_factor > 0 ? s->high_freq_factor : 4, wave = 2 * pi / f;
        double smooth = (original / wave - low) / (high - low);
        if (wave < original / high)
            return f;
        return wave > original / low ? f / s->factor : (1 - smooth) * f / s->factor + smooth * f;
    }
    if (s->type == FUR_ROPE_YARN) {
        double fast = s->beta_fast > 0 ? s->beta_fast : 32, slow = s->beta_slow > 0 ? s->beta_slow : 1;
        double low = D * log(original / (fast * 2 * pi)) / (2 * log(base));
        double high = D * log(original / (slow * 2 * pi)) / (2 * log(base));
        low = s->unrounded ? low : floor(low);
        high = s->unrounded ? high : ceil(high);
        low = low < 0 ? 0 : low;
        high = high > D - 1 ? D - 1 : high;
        double ramp = ((double)i - low) / (low == high ? 0.001 : high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        *magnitude = s->attention_factor > 0 ? s->attention_factor : 0.1 * log(s->factor) + 1;
        return f / s->factor * ramp + f * (1 - ramp);
    }
    return f;
}

static double alibi_slope(int64_t heads, int64_t head)
{
    double power = exp2(floor(log2((double)heads)));
    if ((double)head < power)
        return exp2(-8 * (double)(head + 1) / power);
    return exp2(-4 * (2 * ((double)head - power) + 1) / power);
}

/* 0 or 1 / (1 - rate) by word `number` of the stream. */
static double keep_factor(double rate, uint64_t key, uint64_t stream, int64_t number)
{
    uint32_t words[4];
    fur_random_words(key, stream, (uint64_t)number / 4, words);
    return (double)words[number % 4] < floor((double)(float)rate * 4294967296.0) ? 0 : 1 / (1 - rate);
}

static uint64_t drop_key(const oracle *o, int64_t layer, int64_t place)
{
    return fur_random_u64(o->random_seed, o->random_step, (uint64_t)(4 * layer + place));
}

#define REAL            double
#define NAME(x)         x##_f64
#define R_EXP(x)        exp(x)
#define R_LOG(x)        log(x)
#define R_SQRT(x)       sqrt(x)
#define R_TANH(x)       tanh(x)
#define R_ABS(x)        fabs(x)
#define OPERAND(x)      (x)
#define PAIR_OPERAND(x) (x)
#include "kit/oracle_body.h"
#undef NAME
#undef PAIR_OPERAND

#define NAME(x)         x##_f64_bf16
#define PAIR_OPERAND(x) ((double)fur_bf16_round((float)(x)))
#include "kit/oracle_body.h"
#undef REAL
#undef NAME
#undef PAIR_OPERAND
#undef R_EXP
#undef R_LOG
#undef R_SQRT
#undef R_TANH
#undef R_ABS

#define REAL            float
#define NAME(x)         x##_f32
#define R_EXP(x)        expf(x)
#define R_LOG(x)        logf(x)
#define R_SQRT(x)       sqrtf(x)
#define R_TANH(x)       tanhf(x)
#define R_ABS(x)        fabsf(x)
#define PAIR_OPERAND(x) (x)
#include "kit/oracle_body.h"
#undef NAME
#undef OPERAND
#undef PAIR_OPERAND

#define NAME(x)         x##_bf16
#define OPERAND(x)      fur_bf16_round(x)
#define PAIR_OPERAND(x) fur_bf16_round(x)
#include "kit/oracle_body.h"

void oracle_run(const oracle *o, oracle_precision precision, const fur_row *row, oracle_loss_fn loss, void *user,
                double weight, int backward, oracle_output *out)
{
    memset(out, 0, sizeof *out);
    out->parameters = o->parameters;
    out->tokens = row->offsets[row->documents];
    out->outputs = o->config.features ? o->config.outputs : o->config.vocabulary;
    out->input_width = o->config.features ? o->config.features : o->config.width;
    size_t tokens = (size_t)out->tokens, parameters = (size_t)o->parameters;
    out->y_TO = grab(tokens * (size_t)out->outputs, sizeof(double));
    out->y_terms_TO = grab(tokens * (size_t)out->outputs, sizeof(double));
    out->nll_T = grab(tokens, sizeof(double));
    out->dx_TI = grab(tokens * (size_t)out->input_width, sizeof(double));
    out->gradient = grab(parameters, sizeof(double *));
    out->terms = grab(parameters, sizeof(double *));
    for (int64_t i = 0; i < o->parameters; i++) {
        out->gradient[i] = grab((size_t)o->info[i].count, sizeof(double));
        out->terms[i] = grab((size_t)o->info[i].count, sizeof(double));
    }
    if (precision == ORACLE_DOUBLE)
        run_f64(o, row, loss, user, weight, backward, out);
    else if (precision == ORACLE_BF16_ATTENTION)
        run_f64_bf16(o, row, loss, user, weight, backward, out);
    else if (precision == ORACLE_BF16)
        run_bf16(o, row, loss, user, weight, backward, out);
    else
        run_f32(o, row, loss, user, weight, backward, out);
}

void oracle_output_clear(oracle_output *out)
{
    for (int64_t i = 0; i < out->parameters; i++) {
        free(out->gradient[i]);
        free(out->terms[i]);
    }
    free(out->gradient);
    free(out->terms);
    free(out->y_TO);
    free(out->y_terms_TO);
    free(out->nll_T);
    free(out->dx_TI);
    memset(out, 0, sizeof *out);
}
