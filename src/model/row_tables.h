/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up tables as whole rows of the type that files have: mapped from a file, so that decoding reads the rows it
 * needs and no others, or made in memory. And tables to and from files, whatever way a model holds them.
 *
 * In a file a table NAME of K tables of R rows is a tensor NAME [K R, out] of F32, BF16 or I8; with I8 there is a
 * tensor NAME_scale [K R] of F32, all finite and above 0: a row's values are its scale times the int8. */
#ifndef FUR_MODEL_ROW_TABLES_H
#define FUR_MODEL_ROW_TABLES_H

#include "io/tensor_source.h"
#include "model/parameters.h"

typedef struct fur_row_table {
    fur_lookup_type type;
    fur_tensor_map map;
    float *scale_R; /* int8 alone */
} fur_row_table;

typedef struct fur_scale_name {
    char text[96];
} fur_scale_name;
fur_scale_name fur_table_scale_name(const fur_parameter *p);

/* Maps a table. All of it is checked: f32 and bf16 are read once, in pieces, so that nothing that is not finite is
 * found out only when a token comes upon it; pages of the map are read later, as rows are used. Errors: FUR_E_FORMAT,
 * FUR_E_SHAPE, FUR_E_NONFINITE (of weights), each naming the tensor. */
fur_status fur_row_table_open(fur_error *error, const fur_tensor_source *source, const fur_parameter *p,
                              fur_lookup_type type, fur_row_table *out);
/* Memory for a table whose rows `draw` have their values from, in turn; draw [draw_rows, columns]. */
fur_status fur_row_table_fill(fur_error *error, const fur_parameter *p, fur_lookup_type type, const float *draw,
                              int64_t draw_rows, fur_row_table *out);
void fur_row_table_close(fur_row_table *table); /* also of a zeroed one */
/* A row's values. */
void fur_row_table_get(const fur_row_table *table, int64_t row, int64_t columns, float *out);
/* The same of f32 in tiles. */
void fur_row_from_tiles(const fur_parameter *p, const float *tiles, int64_t row, float *out);
/* All rows to f32 in tiles. */
fur_status fur_row_table_unpack(fur_error *error, const fur_row_table *table, const fur_parameter *p, float *tiles);

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

/* Gives a table's rows to the writer of a file in the type wanted; from `rows`, or where that is NULL from f32 in
 * tiles.
 */
typedef struct fur_table_writer {
    const fur_parameter *parameter;
    const fur_row_table *rows;
    const float *tiles;
    fur_lookup_type type;
    float *row; /* of as many floats as the widest table has columns; may be shared by writers of one file */
    void *coded;
} fur_table_writer;

/* Entries of the file: 1, or 2 with scales; *name must live as long as they do. */
int fur_table_entries(fur_table_writer *writer, fur_scale_name *name, fur_tensor_entry *out);
/* What is stored against what it stands for: the largest difference as a share of the largest value in its row; and the
 * norm of all differences as a share of that of all values. FUR_E_NONFINITE: a value overflows the type. */
fur_status fur_table_rounding(fur_error *error, const fur_table_writer *writer, double *largest, double *norm);

#endif
