/* SPDX-License-Identifier: Apache-2.0 */
/* All parameters of a model in one flat f32 array, so that optimizer, norm and zeroing are single passes:
 *
 *   | embedding | positions | layer 0: norm1, q k v, norms of q and k, sinks, far field, o, norm2, up, down | layer 1
 * ... | final norm | head |
 *
 * q, k and v of a layer are adjacent, so that families which store them as one tensor see one tensor. */
#ifndef FUR_MODEL_PARAMETERS_H
#define FUR_MODEL_PARAMETERS_H

#include "furlong/model.h"
#include "projection/kind.h"

/* How a tensor in the family's file differs from ours. */
typedef enum fur_file_layout {
    FUR_FILE_SAME = 0,
    FUR_FILE_TRANSPOSED = 1, /* GPT-2's Conv1D: [in, out] */
    FUR_FILE_NEOX_QKV = 2    /* GPT-NeoX: rows by head, then q, k, v */
} fur_file_layout;

typedef struct fur_parameter {
    char name[80];         /* Hugging Face name of the family */
    int64_t offset, count; /* elements in the flat array */
    int rank;
    int64_t shape[2];
    double init_std; /* 0: constant init_value */
    float init_value;
    bool decayed;
    bool constant; /* no gradient moves it: an optimizer's moments of it stay 0 */
    fur_file_layout file_layout;
} fur_parameter;

/* A map's tensors as offsets; -1: absent. */
typedef struct fur_map_offsets {
    int64_t in, out, weight, bias;
    const fur_projection_kind *kind;
} fur_map_offsets;

typedef struct fur_layer_offsets {
    int64_t norm1_w, norm1_b, norm2_w, norm2_b; /* biases -1 with RMSNorm */
    int64_t q_norm_w, k_norm_w, sinks;          /* [D], [D], [H]; -1: absent */
    /* almost-linear: [K, D], [K, D], [K, degree + 1], [K, 2], with far_max_error [K, 1], with far_fine_gradient [K,
     * degree + 2], which no gradient moves, and [H]; -1: absent */
    int64_t far_query_mean, far_key_mean, far_coefficients, far_fitted, far_exact, far_fine, far_bias;
    fur_map_offsets q, k, v, o, up, down; /* up: gate and up rows for SwiGLU */
} fur_layer_offsets;

typedef struct fur_parameter_table {
    int64_t count;    /* parameters */
    int64_t elements; /* of the flat array */
    fur_parameter *list;
    fur_layer_offsets *layers;
    int64_t embedding, positions, final_norm_w, final_norm_b; /* -1: absent */
    fur_map_offsets input;                                    /* real-vector input; in 0 when absent */
    fur_map_offsets head;                                     /* shares `embedding` when tied */
} fur_parameter_table;

fur_status fur_parameter_table_create(fur_error *error, const fur_model_config *config, fur_parameter_table *out);
void fur_parameter_table_destroy(fur_parameter_table *table);

/* Family under which a config is written: "gpt2", "gpt_neox", "llama" or "furlong". */
const char *fur_config_family(const fur_model_config *config);

/* The map over actual arrays; gradients may be NULL where none are wanted. */
fur_projection fur_map_at(const fur_map_offsets *map, const float *parameters);
fur_gradient_sink fur_sink_at(const fur_map_offsets *map, float *gradients);

#endif
