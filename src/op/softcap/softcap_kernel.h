/* SPDX-License-Identifier: Apache-2.0 */
/* What a variant of softcap provides: a stretch of elements of one thread, no checks. */
#ifndef FUR_OP_SOFTCAP_KERNEL_H
#define FUR_OP_SOFTCAP_KERNEL_H

#include <stdint.h>

typedef struct fur_softcap_kernel {
    void (*softcap)(int64_t count, float cap, float *x);
} fur_softcap_kernel;

extern const fur_softcap_kernel fur_softcap_ref, fur_softcap_avx2, fur_softcap_avx512;

#endif
