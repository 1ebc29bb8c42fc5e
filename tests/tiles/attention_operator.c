/* SPDX-License-Identifier: Apache-2.0 */
/* src/op/attention/attention.c once more, with the kernel of attention_kernel_tiles.c in the place of the AMX one. */
#define fur_attention_amx       tiles_attention_kernel
#define fur_attention_forward   tiles_attention_forward
#define fur_attention_backward  tiles_attention_backward
#define fur_attention_workspace tiles_attention_workspace
#define fur_attention_tasks     tiles_attention_tasks
#define fur_attention_slope     tiles_attention_slope
#define fur_attention_draw      tiles_attention_draw
#undef FUR_HAVE_AMX
#define FUR_HAVE_AMX 1

#include "op/attention/attention.c"
