/* SPDX-License-Identifier: Apache-2.0 */
#include "model/families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/config.h"

/* clang-format off */
/* What Llama and those after it have in common. */
#define KEYS(...)                                                                                                      \
    .keys = {.context = "max_position_embeddings", .width = "hidden_size", .layers = "num_hidden_layers",              \
             .heads = "num_attention_heads", .kv_heads = "num_key_value_heads", .head_dim = "head_dim",                \
             .hidden = "intermediate_size", .norm_eps = "rms_norm_eps", .rope_theta = "rope_theta",                    \
             .rope_share = "partial_rotary_factor", .attention_dropout = "attention_dropout", __VA_ARGS__}
#define ROTARY  .position = FUR_POSITION_ROPE, .rope_scalings = true
#define SWIGLU  .norm = FUR_NORM_RMSNORM, .activation = FUR_ACTIVATION_SWIGLU, .activations = {"silu"}, \
                .activation_default = "silu", ROTARY
#define GEMMA   .norm = FUR_NORM_RMSNORM, .norm_offset = true, .scaled_embedding = true, ROTARY, \
                .activation = FUR_ACTIVATION_GEGLU, .activation_default = "gelu_pytorch_tanh"
#define CAUSAL  {.key = "use_bidirectional_attention", .expected = "causal attention"}

#define MODEL_NAMES                                        \
    [FUR_TENSOR_EMBEDDING] = "model.embed_tokens",         \
    [FUR_TENSOR_FINAL_NORM] = "model.norm",                \
    [FUR_TENSOR_NORM1] = "model.layers.%d.input_layernorm",\
    [FUR_TENSOR_Q] = "model.layers.%d.self_attn.q_proj",   \
    [FUR_TENSOR_K] = "model.layers.%d.self_attn.k_proj",   \
    [FUR_TENSOR_V] = "model.layers.%d.self_attn.v_proj",   \
    [FUR_TENSOR_O] = "model.layers.%d.self_attn.o_proj",   \
    [FUR_TENSOR_GATE] = "model.layers.%d.mlp.gate_proj",   \
    [FUR_TENSOR_UP] = "model.layers.%d.mlp.up_proj",       \
    [FUR_TENSOR_DOWN] = "model.layers.%d.mlp.down_proj"
#define TWO_NORMS [FUR_TENSOR_NORM2] = "model.layers.%d.post_attention_layernorm"
#define FOUR_NORMS                                                               \
    [FUR_TENSOR_POST_NORM1] = "model.layers.%d.post_attention_layernorm",        \
    [FUR_TENSOR_NORM2] = "model.layers.%d.pre_feedforward_layernorm",            \
    [FUR_TENSOR_POST_NORM2] = "model.layers.%d.post_feedforward_layernorm"
#define HEAD_NORMS                                         \
    [FUR_TENSOR_Q_NORM] = "model.layers.%d.self_attn.q_norm", \
    [FUR_TENSOR_K_NORM] = "model.layers.%d.self_attn.k_norm"
#define LM_HEAD [FUR_TENSOR_HEAD] = "lm_head"
#define OWN_NAMES MODEL_NAMES, HEAD_NORMS,                 \
    [FUR_TENSOR_POSITIONS] = "model.positions",            \
    [FUR_TENSOR_INPUT] = "model.input_proj",               \
    [FUR_TENSOR_HEAD] = "head",                            \
    [FUR_TENSOR_SINKS] = "model.layers.%d.self_attn.sinks",\
    [FUR_TENSOR_FAR] = "model.layers.%d.self_attn.far",    \
    [FUR_TENSOR_INNER_NORM] = "model.layers.%d.mlp.norm"

static const fur_family families[] = {
    {.model_type = "gpt2", .architecture = "GPT2LMHeadModel", .gguf = "gpt2",
     .norm = FUR_NORM_LAYERNORM, .position = FUR_POSITION_LEARNED, .bias_qkv = true, .bias_o = true, .bias_ffn = true,
     .activation = FUR_ACTIVATION_GELU_TANH, .activations = {"gelu_new", "gelu_pytorch_tanh"},
     .activation_default = "gelu_new",
     .keys = {.context = "n_positions", .width = "n_embd", .layers = "n_layer", .heads = "n_head", .hidden = "n_inner",
              .activation = "activation_function", .norm_eps = "layer_norm_epsilon", .attention_dropout = "attn_pdrop",
              .dropout = "resid_pdrop", .embedding_dropout = "embd_pdrop"},
     .defaults = {.hidden = 4, .norm_eps = 1e-5, .tied = true},
     .fixed = {{"scale_attn_weights", true, true, "scores scaled by 1 / sqrt(head_dim)"},
               {"scale_attn_by_inverse_layer_idx", false, false, "scores scaled by 1 / sqrt(head_dim)"}},
     .matrices = FUR_FILE_TRANSPOSED, .qkv_layout = FUR_FILE_TRANSPOSED,
     .names = {[FUR_TENSOR_EMBEDDING] = "transformer.wte", [FUR_TENSOR_POSITIONS] = "transformer.wpe",
               [FUR_TENSOR_FINAL_NORM] = "transformer.ln_f", LM_HEAD, [FUR_TENSOR_NORM1] = "transformer.h.%d.ln_1",
               [FUR_TENSOR_QKV] = "transformer.h.%d.attn.c_attn", [FUR_TENSOR_O] = "transformer.h.%d.attn.c_proj",
               [FUR_TENSOR_NORM2] = "transformer.h.%d.ln_2", [FUR_TENSOR_UP] = "transformer.h.%d.mlp.c_fc",
               [FUR_TENSOR_DOWN] = "transformer.h.%d.mlp.c_proj"}},
    {.model_type = "gpt_neox", .architecture = "GPTNeoXForCausalLM", .gguf = "gptneox",
     .norm = FUR_NORM_LAYERNORM, .position = FUR_POSITION_ROPE, .bias_qkv = true, .bias_o = true, .bias_ffn = true,
     .one_dropout = true,
     .activation = FUR_ACTIVATION_GELU_TANH, .activations = {"gelu_new", "gelu_pytorch_tanh"},
     .activation_default = "gelu",
     .keys = {.context = "max_position_embeddings", .width = "hidden_size", .layers = "num_hidden_layers",
              .heads = "num_attention_heads", .hidden = "intermediate_size", .activation = "hidden_act",
              .norm_eps = "layer_norm_eps", .rope_theta = "rotary_emb_base", .rope_share = "rotary_pct",
              .attention_dropout = "attention_dropout", .dropout = "hidden_dropout"},
     .defaults = {.norm_eps = 1e-5, .rope_theta = 1e4, .rope_share = 0.25},
     .fixed = {{"use_parallel_residual", false, true, "sequential residuals"},
               {"attention_bias", true, true, "gpt_neox with biases"}},
     .qkv_layout = FUR_FILE_NEOX_QKV,
     .names = {[FUR_TENSOR_EMBEDDING] = "gpt_neox.embed_in", [FUR_TENSOR_FINAL_NORM] = "gpt_neox.final_layer_norm",
               [FUR_TENSOR_HEAD] = "embed_out", [FUR_TENSOR_NORM1] = "gpt_neox.layers.%d.input_layernorm",
               [FUR_TENSOR_QKV] = "gpt_neox.layers.%d.attention.query_key_value",
               [FUR_TENSOR_O] = "gpt_neox.layers.%d.attention.dense",
               [FUR_TENSOR_NORM2] = "gpt_neox.layers.%d.post_attention_layernorm",
               [FUR_TENSOR_UP] = "gpt_neox.layers.%d.mlp.dense_h_to_4h",
               [FUR_TENSOR_DOWN] = "gpt_neox.layers.%d.mlp.dense_4h_to_h"}},
    {.model_type = "llama", .architecture = "LlamaForCausalLM", .gguf = "llama", .gguf_pairs = true, SWIGLU,
     .whole_heads = true,
     KEYS(.activation = "hidden_act", .attention_bias = "attention_bias", .ffn_bias = "mlp_bias"),
     .defaults = {.context = 2048, .norm_eps = 1e-6, .rope_theta = 1e4, .rope_share = 1},
     .names = {MODEL_NAMES, TWO_NORMS, LM_HEAD}},
    {.model_type = "mistral", .architecture = "MistralForCausalLM", .gguf = "llama", .gguf_pairs = true, SWIGLU, .spans = FUR_SPAN_ALL,
     KEYS(.activation = "hidden_act"),
     .defaults = {.context = 131072, .kv_heads = 8, .norm_eps = 1e-6, .rope_theta = 1e4, .rope_share = 1, .window = 4096},
     .names = {MODEL_NAMES, TWO_NORMS, LM_HEAD}},
    {.model_type = "qwen2", .architecture = "Qwen2ForCausalLM", .gguf = "qwen2", SWIGLU, .spans = FUR_SPAN_FROM,
     .bias_qkv = true, KEYS(.activation = "hidden_act"),
     .defaults = {.context = 32768, .kv_heads = 32, .norm_eps = 1e-6, .rope_theta = 1e4, .rope_share = 1, .window = 4096,
                  .window_from = 28},
     .names = {MODEL_NAMES, TWO_NORMS, LM_HEAD}},
    {.model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .gguf = "qwen3", SWIGLU, .spans = FUR_SPAN_FROM,
     .qk_norm = true, KEYS(.activation = "hidden_act", .attention_bias = "attention_bias"),
     .defaults = {.context = 32768, .kv_heads = 32, .head_dim = 128, .norm_eps = 1e-6, .rope_theta = 1e4, .rope_share = 1,
                  .window = 4096, .window_from = 28},
     .names = {MODEL_NAMES, TWO_NORMS, HEAD_NORMS, LM_HEAD}},
    {.model_type = "gemma", .architecture = "GemmaForCausalLM", .gguf = "gemma", GEMMA,
     .activations = {"gelu_pytorch_tanh", "gelu"}, /* the latter in its first files, which meant the former */
     KEYS(.activation = "hidden_act", .attention_bias = "attention_bias"),
     .defaults = {.context = 8192, .kv_heads = 16, .head_dim = 256, .norm_eps = 1e-6, .rope_theta = 1e4, .rope_share = 1,
                  .tied = true},
     .fixed = {CAUSAL}, .names = {MODEL_NAMES, TWO_NORMS, LM_HEAD}},
    {.model_type = "gemma2", .architecture = "Gemma2ForCausalLM", .gguf = "gemma2", GEMMA, .spans = FUR_SPAN_PATTERN,
     .post_norms = true, .whole_heads = true, .activations = {"gelu_pytorch_tanh"},
     KEYS(.activation = "hidden_activation", .attention_bias = "attention_bias", .softcap = "attn_logit_softcapping",
          .logit_softcap = "final_logit_softcapping", .query_scalar = "query_pre_attn_scalar"),
     .defaults = {.context = 8192, .kv_heads = 4, .head_dim = 256, .norm_eps = 1e-6, .rope_theta = 1e4, .rope_share = 1,
                  .tied = true, .window = 4096, .pattern = 2, .softcap = 50, .logit_softcap = 30, .query_scalar = 256},
     .fixed = {CAUSAL}, .names = {MODEL_NAMES, FOUR_NORMS, LM_HEAD}},
    {.model_type = "gemma3_text", .architecture = "Gemma3ForCausalLM", .gguf = "gemma3", GEMMA,
     .spans = FUR_SPAN_PATTERN, .post_norms = true, .qk_norm = true, .local_rope = true, .whole_heads = true,
     .activations = {"gelu_pytorch_tanh"},
     KEYS(.activation = "hidden_activation", .attention_bias = "attention_bias", .local_rope_theta = "rope_local_base_freq",
          .logit_softcap = "final_logit_softcapping", .query_scalar = "query_pre_attn_scalar"),
     .defaults = {.context = 131072, .kv_heads = 4, .head_dim = 256, .norm_eps = 1e-6, .rope_theta = 1e6,
                  .local_rope_theta = 1e4, .rope_share = 1, .tied = true, .window = 4096, .pattern = 6, .query_scalar = 256},
     .fixed = {CAUSAL}, .refused = {"attn_logit_softcapping", "original_max_position_embeddings"}, /* transformers does nothing by them */
     .names = {MODEL_NAMES, FOUR_NORMS, HEAD_NORMS, LM_HEAD}},
    {.model_type = "furlong", .names = {OWN_NAMES, TWO_NORMS}},
    {.model_type = "furlong", .post_norms = true, .names = {OWN_NAMES, FOUR_NORMS}},
};
enum { FAMILIES = sizeof families / sizeof families[0], OWN = FAMILIES - 2 };
/* clang-format on */

const fur_family *fur_family_at(int index)
{
    return index >= 0 && index <= OWN ? &families[index] : NULL;
}

const fur_family *fur_family_find(const char *model_type)
{
    for (int i = 0; i <= OWN; i++)
        if (strcmp(families[i].model_type, model_type) == 0)
            return &families[i];
    return NULL;
}

const fur_family *fur_family_find_gguf(const char *architecture)
{
    for (int i = 0; i < OWN; i++)
        if (families[i].gguf && strcmp(families[i].gguf, architecture) == 0)
            return &families[i];
    return NULL;
}

const char *fur_family_list(void)
{
    return "gpt2, gpt_neox, llama, mistral, qwen2, qwen3, gemma, gemma2, gemma3_text and furlong";
}

const char *fur_tensor_gguf_name(fur_tensor_role role)
{
    static const char *const names[FUR_TENSOR_ROLES] = {[FUR_TENSOR_EMBEDDING] = "token_embd",
                                                        [FUR_TENSOR_POSITIONS] = "position_embd",
                                                        [FUR_TENSOR_FINAL_NORM] = "output_norm",
                                                        [FUR_TENSOR_HEAD] = "output",
                                                        [FUR_TENSOR_NORM1] = "blk.%d.attn_norm",
                                                        [FUR_TENSOR_QKV] = "blk.%d.attn_qkv",
                                                        [FUR_TENSOR_Q] = "blk.%d.attn_q",
                                                        [FUR_TENSOR_K] = "blk.%d.attn_k",
                                                        [FUR_TENSOR_V] = "blk.%d.attn_v",
                                                        [FUR_TENSOR_Q_NORM] = "blk.%d.attn_q_norm",
                                                        [FUR_TENSOR_K_NORM] = "blk.%d.attn_k_norm",
                                                        [FUR_TENSOR_O] = "blk.%d.attn_output",
                                                        [FUR_TENSOR_POST_NORM1] = "blk.%d.post_attention_norm",
                                                        [FUR_TENSOR_NORM2] = "blk.%d.ffn_norm",
                                                        [FUR_TENSOR_GATE] = "blk.%d.ffn_gate",
                                                        [FUR_TENSOR_UP] = "blk.%d.ffn_up",
                                                        [FUR_TENSOR_DOWN] = "blk.%d.ffn_down",
                                                        [FUR_TENSOR_POST_NORM2] = "blk.%d.post_ffw_norm"};
    return names[role];
}

/* ---- which family can say a config ---------------------------------------------------------------------------- */

bool fur_config_yarn_is_ratio(const fur_model_config *c)
{
    double wanted = (double)c->context, got = c->rope_scaling.factor * (double)c->rope_scaling.original_context;
    return !(got < wanted) && !(got > wanted);
}

/* transformers bends dynamic angles by the length of a row, from the configured context on; we by the configured
 * context. Of YaRN every version of it must make the same, unless a file said it first. It has no bounds that are not
 * rounded where RoPE is by type of layer. */
static bool says_scaling(const fur_family *f, const fur_model_config *c)
{
    const fur_rope_scaling *s = &c->rope_scaling;
    bool whole = s->original_context == c->context, said = strcmp(f->model_type, c->family) == 0;
    if (s->type == FUR_ROPE_PLAIN || !f->rope_scalings)
        return s->type == FUR_ROPE_PLAIN;
    if (s->type == FUR_ROPE_YARN)
        return (said || whole || fur_config_yarn_is_ratio(c)) && !(s->unrounded && f->local_rope);
    return s->type == FUR_ROPE_DYNAMIC ? whole : s->type != FUR_ROPE_NTK;
}

/* One window for all layers that have any, in layers that may; the base of its own goes with it. */
static bool says_windows(const fur_family *f, const fur_model_config *c)
{
    int64_t window = 0;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        int64_t own = c->window[layer];
        if (own && (f->spans == FUR_SPAN_NONE || (window && own != window) || c->sink_tokens))
            return false;
        window = own ? own : window;
        if (c->rope_local[layer] != (f->local_rope && own > 0))
            return false;
    }
    for (int64_t layer = 0; f->spans == FUR_SPAN_ALL && layer < c->layers; layer++)
        if (c->window[layer] != window)
            return false;
    return true;
}

static bool says_biases(const fur_family *f, const fur_model_config *c)
{
    bool qkv = fur_config_has_bias(c, FUR_BIAS_QKV), o = fur_config_has_bias(c, FUR_BIAS_O),
         ffn = fur_config_has_bias(c, FUR_BIAS_FFN);
    bool attention = f->keys.attention_bias ? qkv == o : qkv == f->bias_qkv && o == f->bias_o;
    return attention && (f->keys.ffn_bias || ffn == f->bias_ffn);
}

static bool says_dropout(const fur_family *f, const fur_model_config *c)
{
    bool differ = c->embedding_dropout < c->dropout || c->embedding_dropout > c->dropout;
    if (!f->keys.dropout)
        return !(c->dropout > 0) && !(c->embedding_dropout > 0);
    return !f->one_dropout || !differ;
}

static bool every_layer_is_exact_and_dense(const fur_model_config *c)
{
    for (int64_t layer = 0; layer < c->layers; layer++)
        if (c->attention[layer] != 0)
            return false;
    return c->projection_ffn == 0 && c->projection_qkvo == 0;
}

static bool says(const fur_family *f, const fur_model_config *c)
{
    bool multi_head = c->kv_heads == c->heads && c->head_dim * c->heads == c->width;
    bool whole = c->width % c->heads == 0, integer = !(floor(c->query_scalar) < c->query_scalar);
    if (c->features || !c->causal || !every_layer_is_exact_and_dense(c) || c->sink_logits)
        return false;
    return c->norm == f->norm && c->norm_offset == f->norm_offset && c->post_norms == f->post_norms &&
           c->qk_norm == f->qk_norm && c->scaled_embedding == f->scaled_embedding && c->activation == f->activation &&
           c->position == f->position && (f->keys.kv_heads || multi_head) && (whole || !f->whole_heads) &&
           (f->keys.softcap || !(c->softcap > 0)) && (f->keys.logit_softcap || !(c->logit_softcap > 0)) &&
           (f->keys.query_scalar ? integer : !(c->query_scalar > 0)) && says_biases(f, c) && says_dropout(f, c) &&
           says_windows(f, c) && says_scaling(f, c);
}

const fur_family *fur_config_family_of(const fur_model_config *c)
{
    const fur_family *own = fur_family_find(c->family);
    if (own && own != &families[OWN] && says(own, c))
        return own;
    for (int i = 0; i < OWN; i++)
        if (says(&families[i], c))
            return &families[i];
    return &families[OWN + (c->post_norms ? 1 : 0)];
}

const char *fur_config_family(const fur_model_config *c)
{
    return fur_config_family_of(c)->model_type;
}
