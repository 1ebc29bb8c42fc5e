/* SPDX-License-Identifier: Apache-2.0 */
/* Derived sizes of a config, in one place. */
#ifndef FUR_MODEL_CONFIG_H
#define FUR_MODEL_CONFIG_H

#include "base/error.h"
#include "furlong/config.h"
#include "projection/kind.h"

/* "FIRST" or "FIRST-LAST" of the config's layers; `option` begins the text of an error. */
fur_status fur_config_layer_range(fur_error *error, const fur_model_config *config, const char *option,
                                  const char *range, int64_t *first, int64_t *last);
/* Calls `set` for each part, between commas, of an option by layers; the config changes only where all parts are right.
 */
typedef fur_status (*fur_config_set_part_fn)(fur_context *context, fur_model_config *config, const char *part,
                                             size_t length);
fur_status fur_config_set_parts(fur_context *context, fur_model_config *config, const char *spec,
                                fur_config_set_part_fn set);
/* Kinds that know where they start from. */
bool fur_rope_scaling_has_original(fur_rope_scaling_type type);
bool fur_rope_scaling_same(const fur_rope_scaling *a, const fur_rope_scaling *b);
fur_status fur_rope_scaling_check(fur_error *error, const fur_model_config *config, const fur_rope_scaling *scaling);

/* Index of the kind; what its layers need beside others depends on it in config, its shape for the seam, parameters and
 * files, and nowhere else. */
#define FUR_ATTENTION_ALMOST_LINEAR 1

static inline bool fur_config_is_almost_linear(const fur_model_config *c, int64_t layer)
{
    return c->attention[layer] == FUR_ATTENTION_ALMOST_LINEAR;
}

/* What is 0 of the far_ members becomes the default. */
void fur_config_far_defaults(fur_model_config *config);

static inline bool fur_config_has_far(const fur_model_config *c)
{
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (fur_config_is_almost_linear(c, layer))
            return true;
    return false;
}

static inline bool fur_config_has_lookup(const fur_model_config *c)
{
    return c->projection_qkvo == FUR_PROJECTION_LOOKUP || c->projection_ffn == FUR_PROJECTION_LOOKUP;
}

/* The released MemoryFormer adds what attention gives to the residual stream as it is. */
static inline bool fur_config_has_output_map(const fur_model_config *c)
{
    return c->projection_qkvo != FUR_PROJECTION_LOOKUP;
}

/* What is 0 of the lookup_ members becomes the default. */
void fur_config_lookup_defaults(fur_model_config *config);
/* q, k and v, or the feedforward, become those of the released MemoryFormer. */
void fur_config_make_lookup(fur_model_config *config, bool qkvo, bool ffn);
/* How many rows are read where nobody says: one as released, two where the feedforward alone has tables. With one, its
 * residual stream, which attention's dense maps write, soon picks the same rows for all tokens (docs/NUMERICS.md). */
void fur_config_lookup_rows(fur_model_config *config);

static inline int64_t fur_config_query_width(const fur_model_config *c) /* H * D */
{
    return c->heads * c->head_dim;
}

static inline int64_t fur_config_key_width(const fur_model_config *c) /* K * D */
{
    return c->kv_heads * c->head_dim;
}

typedef enum fur_bias_part { FUR_BIAS_QKV, FUR_BIAS_O, FUR_BIAS_FFN } fur_bias_part;
static inline bool fur_config_has_bias(const fur_model_config *c, fur_bias_part part)
{
    return c->bias || (part == FUR_BIAS_QKV ? c->bias_qkv : part == FUR_BIAS_O ? c->bias_o : c->bias_ffn);
}

/* Whether the feedforward's first map has rows of a gate and of what it gates. */
static inline bool fur_config_is_gated(const fur_model_config *c)
{
    return c->activation == FUR_ACTIVATION_SWIGLU || c->activation == FUR_ACTIVATION_GEGLU;
}

/* Width before the activation: gate and up side by side where there is a gate. */
static inline int64_t fur_config_inner_width(const fur_model_config *c)
{
    return fur_config_is_gated(c) ? 2 * c->hidden : c->hidden;
}

/* Outputs of the head: vocabulary or regression outputs. */
static inline int64_t fur_config_head_width(const fur_model_config *c)
{
    return c->features ? c->outputs : c->vocabulary;
}

#endif
