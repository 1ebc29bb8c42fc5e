/* SPDX-License-Identifier: Apache-2.0 */
/* The operator, its AMX kernel made of emulated tiles; its own names, beside the library's. */
#ifndef FUR_TESTS_ATTENTION_TILES_H
#define FUR_TESTS_ATTENTION_TILES_H

#include "op/attention/attention.h"

fur_status tiles_attention_forward(const fur_exec *exec, const fur_attention_args *args);
fur_status tiles_attention_backward(const fur_exec *exec, const fur_attention_args *args);
int64_t tiles_attention_workspace(const fur_exec *exec, int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t rows,
                                  int backward);

#endif
