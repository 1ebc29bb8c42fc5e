/* SPDX-License-Identifier: Apache-2.0 */
/* A model's files, with look-up tables stored as another type. */
#ifndef FURLONG_CONVERT_H
#define FURLONG_CONVERT_H

#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fur_converted_table {
    const char *name;                  /* the tensor's; good until the call returns */
    int64_t rows, columns;             /* of all its tables together */
    int64_t bytes_before, bytes_after; /* in the files, scales included */
    double largest_error;              /* of a number, as a share of the largest in its row */
    double error_norm;                 /* of all errors, as a share of that of all numbers */
} fur_converted_table;
typedef void (*fur_converted_fn)(void *user, const fur_converted_table *table);

typedef struct fur_conversion {
    fur_table_type table_type;
    int64_t tables;
    int64_t bytes_before, bytes_after; /* of all tensors */
    double largest_error;              /* of all tables */
} fur_conversion;

/* Writes the model in folder `from` into the new folder `to`: tables as `table_type` (as fur_table_type_name; NULL: as
 * they are), every other tensor as f32, and the tokenizer's files as they are. `to` appears whole or not at all.
 * on_table (may be NULL) is told of each table. Memory: weights that are not tables, and the tables' pages, which the
 * system may take back. Cost: the files are read twice. Errors: FUR_E_ARGUMENT (no such type; a type for a model
 * without tables; `to` exists), FUR_E_NONFINITE (a value overflows bf16; names the tensor), FUR_E_INTERRUPTED
 * (fur_context_stop; there is no `to`), those of fur_model_open and of writing. */
FUR_API fur_status fur_model_convert(fur_context *context, const char *from, const char *to, const char *table_type,
                                     fur_converted_fn on_table, void *user, fur_conversion *out);

#ifdef __cplusplus
}
#endif
#endif
