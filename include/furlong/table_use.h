/* SPDX-License-Identifier: Apache-2.0 */
/* How a text uses the rows of a model's look-up tables. */
#ifndef FURLONG_TABLE_USE_H
#define FURLONG_TABLE_USE_H

#include "furlong/data.h"
#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of one map: all its tables together. */
typedef struct fur_table_use {
    const char *name;              /* the tensor's, owned by the model */
    int64_t tables, rows, columns; /* K tables of `rows` rows of `columns` numbers */
    int64_t bytes;                 /* of all, as f32 */
    double entropy;                /* bits of the rows' shares of use, mean over tables; log2(rows) at most */
    double unused;                 /* share of all rows that no token used */
    double multiplications;        /* of a token */
    double dense_multiplications;  /* of a dense map of the same widths */
} fur_table_use;

/* Runs the corpus, cut into documents of context_tokens, at most max_tokens of it (0: all), through the model and
 * counts. *out has *count elements and is the caller's: fur_table_use_free. Cost: an evaluation. Errors: those of
 * fur_evaluate; FUR_E_ARGUMENT where the model has no tables. */
FUR_API fur_status fur_measure_table_use(fur_context *context, fur_model *model, const fur_corpus *corpus,
                                         int64_t context_tokens, int64_t max_tokens, int64_t memory_bytes,
                                         fur_table_use **out, int64_t *count);
FUR_API void fur_table_use_free(fur_table_use *use);

#ifdef __cplusplus
}
#endif
#endif
