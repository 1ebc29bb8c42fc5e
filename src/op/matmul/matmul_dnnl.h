/* SPDX-License-Identifier: Apache-2.0 */
/* One tile of a product as a single-threaded oneDNN primitive; the only files that include dnnl.h are matmul_dnnl.c and
 * nobody else. Primitives are cached for the process, by shape and strides. */
#ifndef FUR_OP_MATMUL_DNNL_H
#define FUR_OP_MATMUL_DNNL_H

#include "op/matmul/matmul.h"

/* Scratch that each thread reserves. The tile sizes of matmul.c keep every primitive below it (asserted at creation);
 * the largest seen is 2.6 MiB (transposed A, 512 x 512 x 4096). */
#define FUR_DNNL_SCRATCH_BYTES ((int64_t)3 << 20)

typedef struct fur_dnnl_product fur_dnnl_product;

/* Looks the primitive up or makes it. Release each acquired one; NULL may be released. */
fur_status fur_dnnl_product_acquire(fur_error *error, const fur_matmul_args *tile, fur_dnnl_product **out);
void fur_dnnl_product_release(fur_dnnl_product *product);
/* Non-zero on failure. Thread-safe. */
int fur_dnnl_product_run(const fur_dnnl_product *product, const fur_matmul_args *tile, void *scratch);

#endif
