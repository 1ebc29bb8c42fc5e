/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays that grow, of text, ids and spans; zeroed structs are empty. */
#ifndef FUR_TEXT_BUFFER_H
#define FUR_TEXT_BUFFER_H

#include <stdint.h>

#include "base/error.h"

typedef struct fur_string {
    char *data; /* not terminated */
    int64_t length, capacity;
} fur_string;

typedef struct fur_ids {
    int32_t *data;
    int64_t length, capacity;
} fur_ids;

/* Bytes first..end-1 of a text; id: the token they are, or a mark of their user. */
typedef struct fur_span {
    int64_t first, end;
    int32_t id;
} fur_span;

typedef struct fur_spans {
    fur_span *data;
    int64_t length, capacity;
} fur_spans;

/* Makes room for `more` beyond length. */
fur_status fur_string_reserve(fur_error *error, fur_string *string, int64_t more);
fur_status fur_string_add(fur_error *error, fur_string *string, const char *text, int64_t bytes);
void fur_string_clear(fur_string *string);

fur_status fur_ids_reserve(fur_error *error, fur_ids *ids, int64_t more);
fur_status fur_ids_add(fur_error *error, fur_ids *ids, int32_t id);
void fur_ids_clear(fur_ids *ids);

fur_status fur_spans_add(fur_error *error, fur_spans *spans, fur_span span);
void fur_spans_clear(fur_spans *spans);

#endif
