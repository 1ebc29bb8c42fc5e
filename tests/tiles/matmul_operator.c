/* SPDX-License-Identifier: Apache-2.0 */
/* src/op/matmul/matmul_bf16.c once more, with the kernel of matmul_kernel_tiles.c in the place of the AMX one. */
#define fur_matmul_amx            tiles_matmul_kernel
#define fur_matmul_bf16           tiles_matmul
#define fur_matmul_bf16_workspace tiles_matmul_workspace
#undef FUR_HAVE_AMX
#define FUR_HAVE_AMX 1

#include "op/matmul/matmul_bf16.c"
