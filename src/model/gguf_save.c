/* SPDX-License-Identifier: Apache-2.0 */
/* A config as the values of a GGUF file, or what no reader of those could know refused. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"
#include "model/gguf.h"
#include "op/rope/rope.h"

void fur_gguf_rope_factors(const fur_model_config *config, float *out)
{
    double plain[FUR_GGUF_MOST_PAIRS], scaled[FUR_GGUF_MOST_PAIRS], magnitude;
    fur_rope rope = {.theta = config->rope_theta};
    fur_rope_frequencies(&rope, config->head_dim, plain, &magnitude);
    rope.scaling = config->rope_scaling;
    fur_rope_frequencies(&rope, config->head_dim, scaled, &magnitude);
    for (int64_t i = 0; i < config->head_dim / 2; i++)
        out[i] = (float)(plain[i] / scaled[i]);
}

int64_t fur_gguf_query_scalar(const fur_family *family, int64_t layers, int64_t width, int64_t heads, int64_t head_dim)
{
    bool largest =
        (strcmp(family->gguf, "gemma2") == 0 && layers == 46) || (strcmp(family->gguf, "gemma3") == 0 && layers == 62);
    return largest ? width / heads : head_dim;
}

static fur_status refuse(fur_error *error, const fur_family *family, const char *what)
{
    return fur_error_set(error, FUR_E_UNSUPPORTED, "readers of GGUF's architecture %s do not know %s", family->gguf,
                         what);
}

/* YaRN that only our own family can say in a config.json is as good as any here. */
const fur_family *fur_gguf_family_of(const fur_model_config *config)
{
    fur_model_config plain = *config;
    if (plain.rope_scaling.type == FUR_ROPE_YARN)
        plain.rope_scaling = (fur_rope_scaling){0};
    const fur_family *family = fur_config_family_of(&plain);
    return family->gguf ? family : NULL;
}

static bool windows_follow_rule(const fur_family *f, const fur_model_config *c)
{
    int64_t window = 0;
    for (int64_t layer = 0; layer < c->layers; layer++)
        window = window > 0 ? window : c->window[layer];
    if (f->local_rope && window == 0) /* layers that would have one have a base of their own */
        return false;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        bool slides = f->spans == FUR_SPAN_PATTERN && (layer + 1) % f->defaults.pattern != 0;
        if (f->spans == FUR_SPAN_PATTERN ? c->window[layer] != (slides ? window : 0)
                                         : c->window[layer] > 0 && c->window[layer] < c->context)
            return false;
    }
    return true;
}

static fur_status check(fur_error *error, const fur_family *f, const fur_model_config *c)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    double wanted = f->keys.query_scalar ? (double)fur_gguf_query_scalar(f, c->layers, c->width, c->heads, c->head_dim)
                                         : (double)c->head_dim;
    double scalar = c->query_scalar > 0 ? c->query_scalar : (double)c->head_dim;
    if (!windows_follow_rule(f, c))
        return refuse(error, f, "windows in these layers");
    if (scalar < wanted || scalar > wanted)
        return refuse(error, f, "scores scaled by another number than the width of a head");
    if (s->type == FUR_ROPE_NTK || s->type == FUR_ROPE_DYNAMIC)
        return refuse(error, f, "RoPE scaled as ntk or dynamic");
    if (s->type == FUR_ROPE_YARN && (s->attention_factor > 0 || s->unrounded))
        return refuse(error, f, "YaRN with an attention factor of its own, or bounds that are not rounded");
    return FUR_OK;
}

/* Keys of an architecture begin with its name. */
typedef struct writing {
    fur_gguf_builder *to;
    const char *architecture;
} writing;

static void put_int(const writing *w, const char *name, int64_t value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", w->architecture, name);
    fur_gguf_put_u32(w->to, key, value);
}

static void put_number(const writing *w, const char *name, double value)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", w->architecture, name);
    fur_gguf_put_f32(w->to, key, value);
}

static void put_rope(const writing *w, const fur_family *f, const fur_model_config *c)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    char key[96];
    put_int(w, "rope.dimension_count", c->head_dim);
    put_number(w, "rope.freq_base", c->rope_theta);
    if (f->local_rope)
        put_number(w, "rope.freq_base_swa", c->local_rope_theta);
    if (s->type != FUR_ROPE_LINEAR && s->type != FUR_ROPE_YARN)
        return;
    snprintf(key, sizeof key, "%s.rope.scaling.type", w->architecture);
    fur_gguf_put_text(w->to, key, fur_rope_scaling_name((int)s->type));
    put_number(w, "rope.scaling.factor", s->factor);
    if (s->type == FUR_ROPE_LINEAR)
        return;
    put_int(w, "rope.scaling.original_context_length", s->original_context);
    if (s->beta_fast > 0)
        put_number(w, "rope.scaling.yarn_beta_fast", s->beta_fast);
    if (s->beta_slow > 0)
        put_number(w, "rope.scaling.yarn_beta_slow", s->beta_slow);
}

static void put_attention(const writing *w, const fur_family *f, const fur_model_config *c)
{
    int64_t window = 0;
    for (int64_t layer = 0; layer < c->layers; layer++)
        window = window > 0 ? window : c->window[layer];
    put_int(w, "attention.head_count", c->heads);
    put_int(w, "attention.head_count_kv", c->kv_heads);
    if (f->keys.head_dim) {
        put_int(w, "attention.key_length", c->head_dim);
        put_int(w, "attention.value_length", c->head_dim);
    }
    put_number(w, c->norm == FUR_NORM_RMSNORM ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon",
               c->norm_eps);
    if (f->spans == FUR_SPAN_PATTERN)
        put_int(w, "attention.sliding_window", window > 0 ? window : c->context);
    if (c->softcap > 0)
        put_number(w, "attn_logit_softcapping", c->softcap);
    if (c->logit_softcap > 0)
        put_number(w, "final_logit_softcapping", c->logit_softcap);
}

fur_status fur_gguf_config_values(fur_error *error, const fur_model_config *c, fur_gguf_builder *to)
{
    const fur_family *f = fur_gguf_family_of(c);
    if (!f)
        return fur_error_set(error, FUR_E_UNSUPPORTED,
                             "GGUF has no architecture for a model that only furlong's own config.json can describe");
    FUR_TRY(check(error, f, c));
    writing w = {to, f->gguf};
    fur_gguf_put_text(to, "general.architecture", f->gguf);
    fur_gguf_put_text(to, "general.type", "model");
    put_int(&w, "vocab_size", c->vocabulary);
    put_int(&w, "context_length", c->context);
    put_int(&w, "embedding_length", c->width);
    put_int(&w, "block_count", c->layers);
    put_int(&w, "feed_forward_length", c->hidden);
    put_attention(&w, f, c);
    if (c->position == FUR_POSITION_ROPE)
        put_rope(&w, f, c);
    if (strcmp(f->gguf, "gptneox") == 0)
        fur_gguf_put_bool(to, "gptneox.use_parallel_residual", false);
    return FUR_OK;
}
