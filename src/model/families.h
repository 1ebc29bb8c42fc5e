/* SPDX-License-Identifier: Apache-2.0 */
/* The families of models that are read and written, as data: what their layers are made of, the keys of their
 * config.json with what transformers takes where one is absent, and the names of their tensors. Nothing else in the
 * program asks which family a model is of; a new one is a row of the table in families.c. */
#ifndef FUR_MODEL_FAMILIES_H
#define FUR_MODEL_FAMILIES_H

#include "furlong/config.h"

/* What a tensor is in its layer, or in the model. */
typedef enum fur_tensor_role {
    FUR_TENSOR_EMBEDDING,
    FUR_TENSOR_POSITIONS,
    FUR_TENSOR_INPUT, /* the map of real vectors */
    FUR_TENSOR_FINAL_NORM,
    FUR_TENSOR_HEAD,
    FUR_TENSOR_NORM1, /* from here on of a layer; before attention */
    FUR_TENSOR_QKV,   /* one tensor for the three */
    FUR_TENSOR_Q,
    FUR_TENSOR_K,
    FUR_TENSOR_V,
    FUR_TENSOR_Q_NORM,
    FUR_TENSOR_K_NORM,
    FUR_TENSOR_SINKS,
    FUR_TENSOR_FAR,
    FUR_TENSOR_O,
    FUR_TENSOR_POST_NORM1, /* of what attention adds */
    FUR_TENSOR_NORM2,      /* before the feedforward */
    FUR_TENSOR_GATE,
    FUR_TENSOR_UP,
    FUR_TENSOR_INNER_NORM,
    FUR_TENSOR_DOWN,
    FUR_TENSOR_POST_NORM2, /* of what the feedforward adds */
    FUR_TENSOR_ROLES
} fur_tensor_role;

/* How a tensor in the family's file differs from ours. */
typedef enum fur_file_layout {
    FUR_FILE_SAME = 0,
    FUR_FILE_TRANSPOSED = 1, /* GPT-2's Conv1D: [in, out] */
    FUR_FILE_NEOX_QKV = 2,   /* GPT-NeoX: rows by head, then q, k, v */
    FUR_FILE_PAIRS = 3       /* GGUF's Llama: of each head's rows the first and the last half by turns */
} fur_file_layout;

/* Which layers have a window, where a file has no layer_types. */
typedef enum fur_span_rule {
    FUR_SPAN_NONE = 0, /* the family has no windows */
    FUR_SPAN_ALL,      /* sliding_window, if any, is every layer's (Mistral) */
    FUR_SPAN_FROM,     /* with use_sliding_window: layers from max_window_layers on (Qwen) */
    FUR_SPAN_PATTERN   /* all but every sliding_window_pattern-th (Gemma) */
} fur_span_rule;

/* Keys of config.json; NULL: the family has none, and the value is what the traits say, or none. */
typedef struct fur_family_keys {
    const char *context, *width, *layers, *heads, *kv_heads, *head_dim, *hidden;
    const char *activation, *norm_eps, *rope_theta, *local_rope_theta, *rope_share;
    const char *attention_bias, *ffn_bias; /* of q, k, v and o; of the feedforward */
    const char *softcap, *logit_softcap, *query_scalar;
    const char *attention_dropout, *dropout, *embedding_dropout;
} fur_family_keys;

/* Values of keys that are absent, as transformers has them. 0: see the comment. */
typedef struct fur_family_defaults {
    int64_t context;     /* 0: required */
    int64_t kv_heads;    /* 0: as heads */
    int64_t head_dim;    /* 0: width / heads */
    int64_t hidden;      /* 0: required; else so many times the width */
    int64_t window;      /* of sliding_window */
    int64_t window_from; /* of max_window_layers */
    int64_t pattern;     /* of sliding_window_pattern */
    double norm_eps, rope_theta, local_rope_theta, rope_share;
    double softcap, logit_softcap, query_scalar;
    bool tied;
} fur_family_defaults;

/* A key that must have one value, or be absent where that means it. */
typedef struct fur_fixed_key {
    const char *key;
    bool wanted, absent;
    const char *expected; /* for the text of the refusal */
} fur_fixed_key;

typedef struct fur_family {
    const char *model_type, *architecture; /* of transformers */
    const char *gguf;                      /* general.architecture, and the prefix of its keys; NULL: none */
    bool gguf_pairs;                       /* there q and k are FUR_FILE_PAIRS, for a RoPE that turns neighbours */
    /* traits of the layers */
    fur_norm_type norm;
    bool norm_offset; /* norms' weights are stored less 1 */
    bool post_norms;  /* norms of what attention and feedforward add, too */
    bool qk_norm;     /* norms of each head of q and k */
    bool scaled_embedding;
    bool local_rope;                 /* layers with a window have a RoPE base of their own */
    bool bias_qkv, bias_o, bias_ffn; /* always */
    bool rope_scalings;              /* every one that transformers has */
    bool one_dropout;                /* of embeddings as of hidden values */
    bool whole_heads;                /* transformers wants a width that heads divide, whatever head_dim is */
    fur_activation activation;
    fur_position_type position;
    fur_span_rule spans;
    /* its files */
    fur_family_keys keys;
    fur_family_defaults defaults;
    const char *activations[3];     /* names that mean `activation`; the first is written */
    const char *activation_default; /* where the key is absent */
    fur_fixed_key fixed[4];         /* up to the first without a key */
    const char *refused[3];         /* keys that must be absent or null, likewise */
    fur_file_layout matrices, qkv_layout;
    const char *names[FUR_TENSOR_ROLES]; /* printf forms with the layer's number, less ".weight" and ".bias"; NULL: the
                                            family has no such tensor */
} fur_family;

/* In the order in which they are tried for a model that says nothing; furlong, which can say everything, is last. NULL
 * past the last. */
const fur_family *fur_family_at(int index);
/* By its model_type; NULL: none. */
const fur_family *fur_family_find(const char *model_type);
/* The first in order that a GGUF of that architecture may be. NULL: none. */
const fur_family *fur_family_find_gguf(const char *architecture);
/* Names of all, for texts: "gpt2, gpt_neox, ...". */
const char *fur_family_list(void);

/* Under which a config is written: that of the file it came from while it can say everything, or the first that can.
 * YaRN that versions of transformers read differently only a file that had it says again. */
const fur_family *fur_config_family_of(const fur_model_config *config);
/* Stem of the tensor's name in GGUF files, which is the same in all architectures; NULL: they have none. */
const char *fur_tensor_gguf_name(fur_tensor_role role);

/* Whether YaRN's factor is context / original_context: transformers 4.48 to 4.57 take that for the factor wherever a
 * file has an original context, transformers 5 and we the factor itself. */
bool fur_config_yarn_is_ratio(const fur_model_config *config);

#endif
