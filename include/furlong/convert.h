/* SPDX-License-Identifier: Apache-2.0 */
/* A model's files in other forms: look-up tables stored as another type; GGUF in and out. */
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

/* Writes the model in the folder or GGUF file `from` into the new folder `to`: tables as `table_type` (as
 * fur_table_type_name; NULL: as they are), every other tensor in the type it has (GGUF's in blocks: f32), and the
 * tokenizer's files as they are, or made of a GGUF file's vocabulary; a warning is logged where that is of a kind that
 * this version does not have. `to` appears whole or not at all. on_table (may be NULL) is told of each table. Memory:
 * weights that are not tables, and the tables' pages, which the system may take back. Cost: the files are read twice.
 * Errors: FUR_E_ARGUMENT (no such type; a type for a model without tables; `to` exists), FUR_E_NONFINITE (a value
 * overflows bf16; names the tensor), FUR_E_INTERRUPTED (fur_context_stop; there is no `to`), those of fur_model_open
 * and of writing. */
FUR_API fur_status fur_model_convert(fur_context *context, const char *from, const char *to, const char *table_type,
                                     fur_converted_fn on_table, void *user, fur_conversion *out);

typedef struct fur_gguf_written {
    const char *architecture; /* constant */
    int64_t bytes;            /* of the file */
    int64_t tensors;
    int64_t kept;            /* matrices that stayed f32, since their rows are no whole blocks of the type */
    bool vocabulary;         /* whether it has one */
    char no_vocabulary[160]; /* else why not */
} fur_gguf_written;

/* Writes the model in the folder or GGUF file `from` as the new GGUF file `to`, whole or not at all: matrices as `type`
 * (f32, bf16, q8_0), vectors as f32; its vocabulary and chat template too, where GGUF has words for the tokenizer, and
 * what it says is what llama.cpp reads. Memory: all weights as f32. Cost: one reading and one writing. Errors:
 * FUR_E_ARGUMENT (no such type; `to` exists), FUR_E_UNSUPPORTED (no architecture of GGUF, or of what reads it, is this
 * model; says what), FUR_E_NONFINITE (a value overflows the type; names the tensor), FUR_E_INTERRUPTED
 * (fur_context_stop; there is no `to`), those of fur_model_load and of writing. */
FUR_API fur_status fur_model_write_gguf(fur_context *context, const char *from, const char *to, const char *type,
                                        fur_gguf_written *out);

/* A value or a tensor of a GGUF file; texts are good until the call returns. */
typedef struct fur_gguf_item {
    const char *name, *type; /* type: of a value "u32", "text", "array of text", ...; of a tensor "F32", "Q8_0", ... */
    bool tensor;
    int rank; /* of a tensor; rows last */
    int64_t shape[4];
    int64_t count, bytes;
    const char *text; /* of a value, its beginning; of an array its first elements */
} fur_gguf_item;
typedef void (*fur_gguf_item_fn)(void *user, const fur_gguf_item *item);
/* Whether `path` is a GGUF file, by its first bytes or its name's end. */
FUR_API bool fur_is_gguf(const char *path);
/* Tells of every value and then of every tensor, in the file's order. Errors: those of opening; FUR_E_MEMORY. */
FUR_API fur_status fur_gguf_describe(fur_context *context, const char *path, fur_gguf_item_fn on_item, void *user);

#ifdef __cplusplus
}
#endif
#endif
