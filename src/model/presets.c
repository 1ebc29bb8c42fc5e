/* SPDX-License-Identifier: Apache-2.0 */
/* Presets: shapes by name, and what a suffix makes of them. */
#include <stdio.h>
#include <string.h>

#include "base/context.h"
#include "model/config.h"

/* The byte presets train on short documents first. A small RoPE base turns every pair of channels through whole circles
 * within these already, so that longer ones bring no angle never seen: after two minutes of the demo's schedule base
 * 500 gave 2.68 bits per byte where 1e4 gave 2.80, and only with it was no position past 4K worse than those before. */
static const fur_model_config presets[] = {
    {.name = "bytes-1m",
     .vocabulary = 256,
     .context = 1 << 20,
     .width = 128,
     .layers = 4,
     .heads = 4,
     .kv_heads = 4,
     .head_dim = 32,
     .hidden = 384,
     .norm = FUR_NORM_RMSNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_SWIGLU,
     .position = FUR_POSITION_ROPE,
     .rope_theta = 500,
     .tied = true,
     .causal = true,
     .init_std = 0.02},
    {.name = "bytes-4m",
     .vocabulary = 256,
     .context = 1 << 20,
     .width = 256,
     .layers = 5,
     .heads = 8,
     .kv_heads = 8,
     .head_dim = 32,
     .hidden = 704,
     .norm = FUR_NORM_RMSNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_SWIGLU,
     .position = FUR_POSITION_ROPE,
     .rope_theta = 500,
     .tied = true,
     .causal = true,
     .init_std = 0.02},
    {.name = "gpt2-124m",
     .vocabulary = 50257,
     .context = 1024,
     .width = 768,
     .layers = 12,
     .heads = 12,
     .kv_heads = 12,
     .head_dim = 64,
     .hidden = 3072,
     .norm = FUR_NORM_LAYERNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_GELU_TANH,
     .position = FUR_POSITION_LEARNED,
     .rope_theta = 1e4,
     .bias = true,
     .tied = true,
     .causal = true,
     .init_std = 0.02},
    {.name = "llama-135m",
     .vocabulary = 49152,
     .context = 8192,
     .width = 576,
     .layers = 30,
     .heads = 9,
     .kv_heads = 3,
     .head_dim = 64,
     .hidden = 1536,
     .norm = FUR_NORM_RMSNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_SWIGLU,
     .position = FUR_POSITION_ROPE,
     .rope_theta = 1e5,
     .tied = true,
     .causal = true,
     .init_std = 0.02},
    {.name = "llama-1b",
     .vocabulary = 128256,
     .context = 131072,
     .width = 2048,
     .layers = 16,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 64,
     .hidden = 8192,
     .norm = FUR_NORM_RMSNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_SWIGLU,
     .position = FUR_POSITION_ROPE,
     .rope_theta = 5e5,
     .tied = true,
     .causal = true,
     .init_std = 0.02},
    /* MemoryFormer's released shapes (arXiv 2411.12992), but for RoPE of whole heads */
    {.name = "mf-tiny",
     .vocabulary = 50304,
     .context = 2048,
     .width = 512,
     .layers = 6,
     .heads = 8,
     .kv_heads = 8,
     .head_dim = 64,
     .hidden = 640,
     .norm = FUR_NORM_RMSNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_NORM,
     .position = FUR_POSITION_ROPE,
     .rope_theta = 1e4,
     .bias = true,
     .causal = true,
     .init_std = 0.02,
     .projection_qkvo = FUR_PROJECTION_LOOKUP,
     .projection_ffn = FUR_PROJECTION_LOOKUP,
     .lookup_bits = 8,
     .lookup_down_bits = 10},
    {.name = "mf-small",
     .vocabulary = 50304,
     .context = 2048,
     .width = 768,
     .layers = 6,
     .heads = 8,
     .kv_heads = 8,
     .head_dim = 96,
     .hidden = 960,
     .norm = FUR_NORM_RMSNORM,
     .norm_eps = 1e-5,
     .activation = FUR_ACTIVATION_NORM,
     .position = FUR_POSITION_ROPE,
     .rope_theta = 1e4,
     .bias = true,
     .causal = true,
     .init_std = 0.02,
     .projection_qkvo = FUR_PROJECTION_LOOKUP,
     .projection_ffn = FUR_PROJECTION_LOOKUP,
     .lookup_bits = 8,
     .lookup_down_bits = 10},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

#define ALMOST_LINEAR "-almost-linear"
#define LOOKUP        "-lookup"
#define HYBRID        "-hybrid"

const char *const *fur_config_preset_names(void)
{
    static const char *const names[] = {"bytes-1m",
                                        "bytes-4m",
                                        "gpt2-124m",
                                        "llama-135m",
                                        "llama-1b",
                                        "bytes-1m" ALMOST_LINEAR,
                                        "bytes-4m" ALMOST_LINEAR,
                                        "gpt2-124m" ALMOST_LINEAR,
                                        "llama-135m" ALMOST_LINEAR,
                                        "llama-1b" ALMOST_LINEAR,
                                        "bytes-1m" LOOKUP,
                                        "bytes-4m" LOOKUP,
                                        "gpt2-124m" LOOKUP,
                                        "llama-135m" LOOKUP,
                                        "llama-1b" LOOKUP,
                                        "bytes-1m" HYBRID,
                                        "bytes-4m" HYBRID,
                                        "gpt2-124m" HYBRID,
                                        "llama-135m" HYBRID,
                                        "llama-1b" HYBRID,
                                        "mf-tiny",
                                        "mf-small",
                                        NULL};
    return names;
}

/* The shape with heads of 32, at which degree 2 is cheap, and three of four layers almost-linear: the fourth, exact,
 * can pick a single token from anywhere, which a bounded far field cannot. Each head may learn to close its far field.
 */
static void make_almost_linear(fur_model_config *c)
{
    int64_t group = c->heads / c->kv_heads;
    c->heads = c->width / 32;
    c->head_dim = 32;
    c->kv_heads = c->heads / group;
    for (int64_t layer = 0; layer < FUR_MAX_LAYERS; layer++)
        if (layer % 4 != 3) {
            c->attention[layer] = FUR_ATTENTION_ALMOST_LINEAR;
            c->window[layer] = FUR_FAR_DEFAULT_WINDOW;
        }
    c->far_bias = true;
    fur_config_far_defaults(c);
}

static void make_all_lookup(fur_model_config *c)
{
    fur_config_make_lookup(c, true, true);
}

static void make_hybrid(fur_model_config *c)
{
    fur_config_make_lookup(c, false, true);
    fur_config_lookup_rows(c);
}

fur_status fur_config_preset(fur_context *context, const char *name, int64_t longest, fur_model_config *out)
{
    static const struct {
        const char *suffix;
        void (*make)(fur_model_config *);
    } forms[] = {{"", NULL}, {ALMOST_LINEAR, make_almost_linear}, {LOOKUP, make_all_lookup}, {HYBRID, make_hybrid}};
    char listed[48] = "";
    for (int i = 0; fur_config_preset_names()[i]; i++)
        if (strcmp(fur_config_preset_names()[i], name) == 0)
            snprintf(listed, sizeof listed, "%s", name);
    fur_model_config config = {0};
    for (int i = 0; i < PRESETS; i++)
        for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
            char full[sizeof listed];
            snprintf(full, sizeof full, "%s%s", presets[i].name, forms[f].suffix);
            if (!*listed || strcmp(full, listed) != 0)
                continue;
            config = presets[i];
            if (forms[f].make)
                forms[f].make(&config);
            snprintf(config.name, sizeof config.name, "%s", listed);
        }
    if (!*config.name)
        return fur_error_set(
            &context->error, FUR_E_ARGUMENT,
            "unknown preset '%s', expected bytes-1m, bytes-4m, gpt2-124m, llama-135m or llama-1b, each "
            "also with " ALMOST_LINEAR ", " LOOKUP " or " HYBRID " behind it, mf-tiny or mf-small",
            name);
    if (longest > config.context && config.position == FUR_POSITION_LEARNED) {
        config.position = FUR_POSITION_ROPE;
        fur_log(context, FUR_LOG_INFO, "%s learns positions up to %lld only: a context of %lld uses RoPE instead", name,
                (long long)config.context, (long long)longest);
    }
    if (longest > 0 && (longest > config.context || config.position == FUR_POSITION_LEARNED))
        config.context = longest;
    FUR_TRY(fur_config_check(context, &config));
    *out = config;
    return FUR_OK;
}
