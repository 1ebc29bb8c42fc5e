/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of a model. A layer is data: norm, attention, residual, norm, feedforward, residual. */
#ifndef FURLONG_CONFIG_H
#define FURLONG_CONFIG_H

#include <stdbool.h>

#include "furlong/context.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FUR_MAX_LAYERS         512
#define FUR_FAR_DEFAULT_WINDOW 128 /* window of layers that are made almost-linear, where they have none */

typedef enum fur_norm_type { FUR_NORM_LAYERNORM = 0, FUR_NORM_RMSNORM = 1 } fur_norm_type;
/* FUR_ACTIVATION_NORM: a LayerNorm in its place, with look-up tables, whose hash is the non-linearity (MemoryFormer) */
typedef enum fur_activation {
    FUR_ACTIVATION_GELU_TANH = 0,
    FUR_ACTIVATION_SWIGLU = 1,
    FUR_ACTIVATION_NORM = 2,
    FUR_ACTIVATION_GEGLU = 3 /* gelu_tanh(gate) up (Gemma) */
} fur_activation;
typedef enum fur_position_type {
    FUR_POSITION_LEARNED = 0,
    FUR_POSITION_ROPE = 1,
    FUR_POSITION_ALIBI = 2 /* scores fall linearly with distance, by head (arXiv 2108.12409) */
} fur_position_type;

/* How RoPE's angles are stretched over a context longer than the one first trained on. Frequencies, i in [0, D / 2):
 * f_i = theta^(-2 i / D). The definitions are those of Hugging Face transformers, in double. */
typedef enum fur_rope_scaling_type {
    FUR_ROPE_PLAIN = 0,
    FUR_ROPE_LINEAR = 1,  /* f_i / factor */
    FUR_ROPE_NTK = 2,     /* theta times factor^(D / (D - 2)) */
    FUR_ROPE_DYNAMIC = 3, /* NTK with factor * context / original_context - (factor - 1); `context` as configured,
                             whatever the length of a row; plain up to original_context */
    FUR_ROPE_YARN = 4, /* arXiv 2309.00071: f_i and f_i / factor mixed by wavelength; cos, sin times attention_factor */
    FUR_ROPE_LLAMA3 = 5 /* Llama 3.1: long waves f_i / factor, short ones f_i, between them a mixture */
} fur_rope_scaling_type;

/* What files hold look-up tables as, row by row (fur_model_convert). int8: times a number a row, max|row| / 127. */
typedef enum fur_table_type { FUR_TABLE_F32 = 0, FUR_TABLE_BF16 = 1, FUR_TABLE_INT8 = 2 } fur_table_type;

typedef struct fur_rope_scaling {
    fur_rope_scaling_type type;
    double factor;                            /* at least 1; ignored with FUR_ROPE_PLAIN, as is all that follows */
    int64_t original_context;                 /* dynamic, YaRN, Llama 3 */
    double attention_factor;                  /* YaRN; 0: 0.1 ln(factor) + 1 */
    double beta_fast, beta_slow;              /* YaRN: turns within original_context; 0: 32 and 1 */
    double low_freq_factor, high_freq_factor; /* Llama 3: original_context over wavelength; 0: 1 and 4 */
    bool unrounded; /* YaRN: bounds not rounded to whole pairs (transformers: truncate false) */
} fur_rope_scaling;

/* Maps that get adapters. */
enum {
    FUR_LORA_Q = 1,
    FUR_LORA_K = 2,
    FUR_LORA_V = 4,
    FUR_LORA_O = 8,
    FUR_LORA_GATE = 16,
    FUR_LORA_UP = 32,
    FUR_LORA_DOWN = 64
};
#define FUR_LORA_MOST_RANK 1024

/* Ids of a vocabulary that mean one thing. */
#define FUR_MOST_SPECIAL_TOKENS 16
typedef struct fur_token_list {
    int64_t count;
    int32_t id[FUR_MOST_SPECIAL_TOKENS];
} fur_token_list;

/* All sizes count elements. Checked by fur_config_check; every function that takes a config calls it. */
typedef struct fur_model_config {
    int64_t vocabulary; /* V: token ids are 0..V-1; 0 for a model over real vectors */
    int64_t features;   /* real-vector input width; 0 for tokens */
    int64_t outputs;    /* regression outputs per position; 0 for a language head */
    int64_t context;    /* longest document: positions 0..context-1 */
    int64_t width;      /* C, 1..65536 */
    int64_t layers;     /* L, 1..FUR_MAX_LAYERS */
    int64_t heads;      /* H query heads */
    int64_t kv_heads;   /* K key heads; divides H */
    int64_t head_dim;   /* D; even; 1..1024 */
    int64_t hidden;     /* F: width inside the feedforward */
    fur_norm_type norm;
    double norm_eps;
    fur_activation activation;
    fur_position_type position;
    double rope_theta;
    fur_rope_scaling rope_scaling;
    bool bias;                            /* biases on every projection (GPT-2) */
    bool bias_qkv, bias_o, bias_ffn;      /* on these alone: q, k and v (Qwen 2), o, the feedforward */
    bool tied;                            /* the output head shares the embedding */
    bool causal;                          /* false: every token of a document sees every other */
    double init_std;                      /* standard deviation of initial weights */
    char name[48];                        /* preset it came from, or "" */
    char attention[FUR_MAX_LAYERS];       /* kind of each layer as an index into fur_attention_kind_name */
    char projection_qkvo, projection_ffn; /* kind index, fur_projection_kind_name */
    int64_t window[FUR_MAX_LAYERS];  /* of each layer: a token sees itself and window - 1 before it (and as many after
                                        it, if not causal); 0: no window */
    int64_t sink_tokens;             /* the first ones of a document, seen in spite of windows */
    bool sink_logits;                /* each head learns a logit that joins the softmax's denominator (gpt-oss) */
    bool qk_norm;                    /* RMSNorm of each head of q and k before RoPE (Qwen 3) */
    double softcap;                  /* scores become softcap tanh(s / softcap) (Gemma 2); 0: none */
    double logit_softcap;            /* so do the head's logits; 0: none. No part of a loss of the caller's */
    double query_scalar;             /* scores are scaled by 1 / sqrt of it (Gemma); 0: of head_dim */
    bool norm_offset;                /* weights of RMSNorms are stored less 1 (Gemma) */
    bool post_norms;                 /* norms of what attention and feedforward add, too (Gemma 2) */
    bool scaled_embedding;           /* embeddings times sqrt(width) (Gemma) */
    bool rope_local[FUR_MAX_LAYERS]; /* layers whose RoPE has, unscaled, base local_rope_theta (Gemma 3) */
    double local_rope_theta;
    fur_token_list bos, eos,
        pad;                  /* that begin, end and fill a text, as the file has them; kept for who reads it next */
    char family[24];          /* model_type of the file it was read from, or "": fur_config_read */
    double dropout;           /* training only: of what attention and feedforward add */
    double embedding_dropout; /* training only: of embeddings */
    double attention_dropout; /* training only: of attention's weights */
    /* Layers of kind almost-linear: a token sees one by one what is in its own chunk of far_chunk tokens (counted from
     * the document's first), in the window[layer] tokens before that (and after it, if not causal; 0: none) and sink
     * tokens; all others through a polynomial of degree far_degree in far_bound times the product of unit-norm query
     * and key, one softmax over both. */
    int64_t far_degree;       /* 1..6 */
    int64_t far_chunk;        /* tokens, 16..4096 */
    int64_t far_max_features; /* most monomials C(head_dim + far_degree, far_degree), up to 2^20 */
    double far_bound;         /* B, 1e-6 to 16: far logits are at most B in size; 0 where far_unbounded */
    bool far_unbounded;       /* logits are those of plain attention; needs far_max_error */
    bool far_fine_gradient; /* gradients by a polynomial of one degree more, which are as near those of exact attention
                               as the output is; backward costs (D + degree + 1) / (degree + 1) times as much */
    double far_max_error;   /* heads whose output errs by more are exact from then on; their keys then count in
                               memory, so that room for all is planned. 0: errors are measured only */
    bool far_bias;          /* each head learns a number that is added to its far logits */
    /* Maps of kind lookup (arXiv 2411.12992): the input is cut into chunks of lookup_bits numbers, whose signs pick a
     * row of the chunk's table; a map's output is the sum of these rows, weighted. With projection_qkvo lookup there is
     * no o map: H * D is the width. */
    int64_t lookup_bits;       /* 1..12; divides the width */
    int64_t lookup_down_bits;  /* of the feedforward's second map, as released two more, 12 at most; divides hidden */
    double lookup_temperature; /* 0: the released score sum |z| prod sigmoid(2 |z|); above 0, t: prod sigmoid(2 |z| / t)
                                */
    bool lookup_two_rows;      /* also the row across the nearest sign change, so that outputs do not jump there */
    /* Low-rank adapters (LoRA, arXiv 2106.09685) beside the maps of lora_targets, y += lora_alpha / lora_rank B (A x).
     * They are all that is trained then: everything else has no gradient and no optimizer state. */
    int64_t lora_rank;         /* 0: none; up to FUR_LORA_MOST_RANK */
    double lora_alpha;         /* above 0 */
    unsigned lora_targets;     /* FUR_LORA_Q | ...; q, k and v together where the family has one tensor for them */
    fur_table_type table_type; /* of tables in the files that the config belongs to; runs that are not for generation
                                  hold them as f32 */
} fur_model_config;

/* Presets by name: bytes-1m, bytes-4m, gpt2-124m, llama-135m, llama-1b, mf-tiny and mf-small (MemoryFormer's released
 * shapes); each of the first five also with -almost-linear behind it: heads of 32, all but every fourth layer
 * almost-linear, with a learned far bias; with -lookup: tables for all maps of a layer; with -hybrid: for its
 * feedforward. `context` > 0 replaces the preset's longest
 * document; gpt2-124m beyond 1,024 then uses RoPE, said through the log. */
FUR_API fur_status fur_config_preset(fur_context *context, const char *name, int64_t longest, fur_model_config *out);
/* NULL-terminated list of preset names. */
FUR_API const char *const *fur_config_preset_names(void);
/* Makes the preset's vocabulary that of the byte tokenizer (256). */
FUR_API void fur_config_use_bytes(fur_model_config *config);
/* Turns a config into one over real vectors: linear input projection, regression head, mean squared error. */
FUR_API void fur_config_use_vectors(fur_model_config *config, int64_t features, int64_t outputs);

FUR_API fur_status fur_config_check(fur_context *context, const fur_model_config *config);
FUR_API int64_t fur_config_parameter_count(const fur_model_config *config);
/* What a token's way through all maps of the layers takes, and what it would take if maps of the same widths were
 * dense. */
typedef struct fur_map_costs {
    double multiplications, dense_multiplications;
    int64_t table_parameters, dense_parameters; /* numbers in tables; in the dense maps in their place */
} fur_map_costs;
FUR_API void fur_config_map_costs(const fur_model_config *config, fur_map_costs *out);
/* Monomials of almost-linear layers; INT64_MAX above 2^20. */
FUR_API int64_t fur_config_far_features(const fur_model_config *config);
/* Certified for a new model, whatever its queries and keys: each weight that an almost-linear layer gives a far key
 * differs from what the exponential would give by at most this share e of it. A layer's output o then differs from that
 * of exact attention over the same logits by at most e / (1 - e) times the mean distance of far values from o, where e
 * < 1; as weights are positive, never by more than the largest distance of two values. */
FUR_API double fur_config_far_error(const fur_model_config *config);
/* Tokens from which on an almost-linear layer without a window takes fewer operations than an exact one. */
FUR_API int64_t fur_config_far_crossover(const fur_model_config *config);

/* `--attention exact@0-3,...` and `--projection ffn=lookup,qkvo=dense`; a single word means all. With ffn=lookup the
 * feedforward is that of the released MemoryFormer: hidden becomes width / bits * (bits + 2), a norm takes the place of
 * the activation. */
FUR_API fur_status fur_config_set_attention(fur_context *context, fur_model_config *config, const char *spec);
FUR_API fur_status fur_config_set_projection(fur_context *context, fur_model_config *config, const char *spec);
/* Adapters of rank `rank` (0: none) and strength alpha on `targets`: "all-linear" (all maps of the layers), or modules
 * of the model's family as PEFT names them, "q_proj,v_proj". */
FUR_API fur_status fur_config_set_lora(fur_context *context, fur_model_config *config, int64_t rank, double alpha,
                                       const char *targets);
/* Signs of a chunk; the feedforward's second map gets two more, 12 at most, and hidden what belongs to it. */
FUR_API void fur_config_set_lookup_bits(fur_model_config *config, int64_t bits);
/* `--window 4096`, or by layers: `4096@0-9,none@10-11`. One of the context or more is no window, and is said through
 * the log. */
FUR_API fur_status fur_config_set_window(fur_context *context, fur_model_config *config, const char *spec);
/* `--rope-scaling linear:F | ntk:F | dynamic:F:ORIGINAL | yarn:F:ORIGINAL | llama3:F:ORIGINAL | none`. */
FUR_API fur_status fur_config_set_rope_scaling(fur_context *context, fur_model_config *config, const char *spec);
FUR_API const char *fur_position_name(int type);   /* "learned", "rope", "alibi"; NULL past the last */
FUR_API const char *fur_activation_name(int type); /* "gelu_tanh", "swiglu", "norm", "geglu"; NULL past the last */
/* "none", "linear", "ntk", "dynamic", "yarn", "llama3"; NULL past the last. */
FUR_API const char *fur_rope_scaling_name(int type);
FUR_API const char *fur_table_type_name(int type); /* "f32", "bf16", "int8"; NULL past the last */
/* The type of that name; false: there is none, and *out is left. */
FUR_API bool fur_table_type_find(const char *name, fur_table_type *out);
FUR_API const char *fur_attention_kind_name(int index);  /* NULL past the last */
FUR_API const char *fur_projection_kind_name(int index); /* NULL past the last */

/* Reads a Hugging Face config.json (model_type gpt2, gpt_neox, llama, mistral, qwen2, qwen3, gemma, gemma2,
 * gemma3_text, furlong), with keys as transformers 4 or 5 writes them; that of the folder `path`,
 * with what generation_config.json says of special tokens and adapter_config.json of adapters; or the values of the
 * GGUF file `path` (architectures gpt2, gptneox, llama, qwen2, qwen3, gemma, gemma2, gemma3) that say the same. */
FUR_API fur_status fur_config_read(fur_context *context, const char *path, fur_model_config *out);
/* The model_type under which a model of this shape is written: that of the file it came from while that can say all of
 * it, else the first family that can, else "furlong". Constant. */
FUR_API const char *fur_config_family(const fur_model_config *config);

#ifdef __cplusplus
}
#endif
#endif
