/* SPDX-License-Identifier: Apache-2.0 */
/* Derived sizes of a config, in one place. */
#ifndef FUR_MODEL_CONFIG_H
#define FUR_MODEL_CONFIG_H

#include "furlong/config.h"

static inline int64_t fur_config_query_width(const fur_model_config *c) /* H * D */
{
    return c->heads * c->head_dim;
}

static inline int64_t fur_config_key_width(const fur_model_config *c) /* K * D */
{
    return c->kv_heads * c->head_dim;
}

/* Width before the activation: gate and up side by side for SwiGLU. */
static inline int64_t fur_config_inner_width(const fur_model_config *c)
{
    return c->activation == FUR_ACTIVATION_SWIGLU ? 2 * c->hidden : c->hidden;
}

/* Outputs of the head: vocabulary or regression outputs. */
static inline int64_t fur_config_head_width(const fur_model_config *c)
{
    return c->features ? c->outputs : c->vocabulary;
}

#endif
