/* SPDX-License-Identifier: Apache-2.0 */
/* Dispatch of rowexp. */
#include "op/rowexp/rowexp_kernel.h"

const fur_rowexp *fur_rowexp_of(fur_isa isa)
{
#if FUR_HAVE_AVX512
    if (isa >= FUR_ISA_AVX512)
        return &fur_rowexp_avx512;
#endif
#if FUR_HAVE_AVX2
    if (isa >= FUR_ISA_AVX2)
        return &fur_rowexp_avx2;
#endif
    (void)isa;
    return &fur_rowexp_ref;
}
