/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUR_OP_ROWEXP_KERNEL_H
#define FUR_OP_ROWEXP_KERNEL_H

#include "op/rowexp/rowexp.h"

extern const fur_rowexp fur_rowexp_ref, fur_rowexp_avx2, fur_rowexp_avx512;

#endif
