/* SPDX-License-Identifier: Apache-2.0 */
/* All parameters of a model in one flat f32 array, so that optimizer, norm and zeroing are single passes:
 *
 *   | embedding | positions | layer 0: norm1, q k v, norms of q and k, sinks, far field, o, norm of that, norm2, up,
 * down, norm of that | layer 1 ... | final norm | head | adapters of layer 0 | of layer 1
 * ... || tables of layer 0 | of layer 1 ... |
 *
 * Where there are adapters, nothing before them is trained or has a gradient. Tables, whose rows are updated one by one
 * as soon as their layer's gradient is complete, stand behind all others; a model has adapters or tables, not both.
 * q, k and v of a layer are adjacent, so that families which store them as one tensor see one tensor. */
#ifndef FUR_MODEL_PARAMETERS_H
#define FUR_MODEL_PARAMETERS_H

#include "furlong/model.h"
#include "model/families.h"
#include "projection/kind.h"

typedef struct fur_parameter {
    char name[80];         /* Hugging Face name of the family */
    int64_t offset, count; /* elements in the flat array */
    int rank;
    int64_t shape[2];
    double init_std; /* 0: constant init_value */
    float init_value;
    bool decayed;
    bool constant;                  /* no gradient moves it: an optimizer's moments of it stay 0 */
    bool adapter;                   /* of an adapter: not in the files of the model that it is added to */
    bool table;                     /* rows are updated one by one; count includes padding; files: see row_tables.h */
    int64_t table_index, first_row; /* of a table among all; its rows among theirs */
    fur_file_layout file_layout;
    fur_tensor_role role;
    int64_t layer; /* -1: of the model */
    bool is_bias;
} fur_parameter;

/* A fur_adapter's. */
typedef struct fur_adapter_offsets {
    int64_t a, b, first, count;
} fur_adapter_offsets;

/* A map's tensors as offsets; -1: absent. */
typedef struct fur_map_offsets {
    int64_t in, out, weight, bias;
    const fur_projection_kind *kind;
    int64_t table_index, first_row; /* among all tables, and among their rows; -1: not a table */
    int64_t first_column;           /* among their columns, in whole tiles, of this layer */
    fur_lookup_options lookup;
    const fur_projection_kind *base; /* with adapters, what is wrapped */
    int64_t rank;
    float adapter_scale;
    int adapters;
    fur_adapter_offsets adapter[FUR_MAP_ADAPTERS];
} fur_map_offsets;

typedef struct fur_layer_offsets {
    int64_t norm1_w, norm1_b, norm2_w, norm2_b; /* biases -1 with RMSNorm */
    int64_t post1_w, post1_b, post2_w, post2_b; /* of what attention and feedforward add; -1: absent */
    int64_t q_norm_w, k_norm_w, sinks;          /* [D], [D], [H]; -1: absent */
    /* almost-linear: [K, D], [K, D], [K, degree + 1], [K, 2], with far_max_error [K, 1], with far_fine_gradient [K,
     * degree + 2], which no gradient moves, and [H]; -1: absent */
    int64_t far_query_mean, far_key_mean, far_coefficients, far_fitted, far_exact, far_fine, far_bias;
    fur_map_offsets q, k, v, o, up, down; /* up: gate and up rows where gated. o.in 0: no such map */
    int64_t inner_norm_w, inner_norm_b;   /* in place of an activation; -1: absent */
    int64_t first_table, table_elements;  /* of all its maps */
    int64_t first_table_row, table_rows;
} fur_layer_offsets;

enum { FUR_LAYER_MAPS = 6 };
static inline const fur_map_offsets *fur_layer_map(const fur_layer_offsets *l, int index)
{
    const fur_map_offsets *const maps[FUR_LAYER_MAPS] = {&l->q, &l->k, &l->v, &l->o, &l->up, &l->down};
    return maps[index];
}
/* The same where it is a look-up, else NULL. */
static inline const fur_map_offsets *fur_layer_table(const fur_layer_offsets *l, int index)
{
    const fur_map_offsets *map = fur_layer_map(l, index);
    return map->in && map->first_row >= 0 ? map : NULL;
}

typedef struct fur_parameter_table {
    int64_t count;                              /* tensors */
    int64_t parameters;                         /* numbers, without padding */
    int64_t elements;                           /* of the flat array, without tables */
    int64_t first_trained;                      /* of these; those before it have no gradient */
    int64_t first_table;                        /* elements, rounded up to a tile where there are tables */
    int64_t tables, table_elements, table_rows; /* of all tables, from there on */
    int64_t most_table_elements, most_table_rows, most_table_columns; /* of one layer's */
    fur_parameter *list;
    fur_layer_offsets *layers;
    int64_t embedding, positions, final_norm_w, final_norm_b; /* -1: absent */
    fur_map_offsets input;                                    /* real-vector input; in 0 when absent */
    fur_map_offsets head;                                     /* shares `embedding` when tied */
} fur_parameter_table;

fur_status fur_parameter_table_create(fur_error *error, const fur_model_config *config, fur_parameter_table *out);
void fur_parameter_table_destroy(fur_parameter_table *table);

/* Where column `column` of a table's row lies in it, and the columns from there on that lie side by side. */
static inline int64_t fur_table_at(const fur_parameter *p, int64_t row, int64_t column, int64_t *run)
{
    int64_t within = column % FUR_LOOKUP_TILE, rest = p->shape[1] - column, whole = FUR_LOOKUP_TILE - within;
    *run = rest < whole ? rest : whole;
    return (column / FUR_LOOKUP_TILE * p->shape[0] + row) * FUR_LOOKUP_TILE + within;
}
/* Columns behind the last one become 0. */
void fur_table_clear_padding(const fur_parameter *p, float *data);

/* Bytes of a table's numbers in a file of that type, scales included. */
int64_t fur_parameter_file_bytes(const fur_parameter *p, fur_table_type type);
/* Bytes of all tables' rows, and scales where they have any, as files of that type hold them. */
int64_t fur_table_file_bytes(const fur_parameter_table *table, fur_table_type type);

static inline void fur_parameter_file_shape(const fur_parameter *p, int64_t shape[2])
{
    bool turned = p->file_layout == FUR_FILE_TRANSPOSED && p->rank == 2;
    shape[0] = turned ? p->shape[1] : p->shape[0];
    shape[1] = turned ? p->shape[0] : p->shape[1];
}

/* Elements with gradients and moments, without tables; and where those of an offset are among them, -1: nowhere. */
static inline int64_t fur_trained_elements(const fur_parameter_table *table)
{
    return table->elements - table->first_trained;
}
static inline int64_t fur_trained_at(const fur_parameter_table *table, int64_t offset)
{
    return offset < table->first_trained ? -1 : offset - table->first_trained;
}

/* What adapters may stand beside: the maps of the family's modules that a word means, "all-linear", or a module's name
 * or its last words; 0: none. And the names of those that config.lora_targets has, without the layers' part. */
unsigned fur_config_lora_target(const fur_model_config *config, const char *word, size_t length);
enum { FUR_MOST_LORA_NAMES = 7 };
int fur_config_lora_names(const fur_model_config *config, const char *out[FUR_MOST_LORA_NAMES]);

/* The map over actual arrays; without them (NULL) its shape. */
fur_projection fur_map_at(const fur_map_offsets *map, const float *parameters);

#endif
