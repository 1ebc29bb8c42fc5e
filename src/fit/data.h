/* SPDX-License-Identifier: Apache-2.0 */
/* What a fit is made to: arrays in memory, checked, rows sorted into sequences that see nothing of each other. */
#ifndef FUR_FIT_DATA_H
#define FUR_FIT_DATA_H

#include <stdbool.h>

#include "base/context.h"
#include "furlong/fit.h"
#include "io/dtype.h"

/* Rows of numbers as they are kept: f64 where they came so, else f32, which holds f16 and bf16 exactly. */
typedef struct fit_array {
    void *data; /* owned, except where it is another's: shared */
    bool f32, shared;
    int64_t rows, width;
} fit_array;

struct fur_fit_data {
    fit_array a1, a2, a3, b;
    double *weights;  /* [rows of a1]; NULL */
    int64_t *queries; /* first row of each sequence, and the end [sequences + 1] */
    int64_t *keys;    /* the same of keys */
    int64_t sequences;
    double epsilon; /* unit round-off of the narrowest type among the arrays */
    const char *stored_type;
    /* a start, where the file has one */
    double *x; /* [heads][a1 width][a2 width]; NULL */
    int64_t start_heads;
};
typedef struct fur_fit_data fit_data;

/* Bytes of the arrays. */
int64_t fit_data_bytes(const fit_data *data);
/* Sorts the rows of each sequence by segment, in order within each, so that segments become sequences. `segments` has a
 * number for each row. Needs as many keys as queries. */
fur_status fit_data_split_segments(fur_error *error, fit_data *data, const int64_t *segments);
/* Shapes against each other and every number finite; names the array and the first place. */
fur_status fit_data_check(fur_error *error, const fit_data *data, const char *name);
fit_data *fit_data_new(fur_error *error);
double fit_array_get(const fit_array *array, int64_t index);

#endif
