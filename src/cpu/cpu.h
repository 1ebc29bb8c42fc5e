/* SPDX-License-Identifier: Apache-2.0 */
/* Which instruction sets this machine runs, asked of the operating system too. */
#ifndef FUR_CPU_CPU_H
#define FUR_CPU_CPU_H

#include "base/exec.h"

/* Highest variant that processor and operating system both support and this build contains. */
fur_isa fur_cpu_best_isa(void);
const char *fur_isa_name(fur_isa isa);
/* Whether some processor of the architecture that this was compiled for has it. */
int fur_isa_exists(fur_isa isa);
/* Variant of a name ("ref", "avx2", "avx512", "avx512bf16", "amx"), or -1. */
int fur_isa_from_name(const char *name);
/* "AMD EPYC ..." without padding; "unknown" where it cannot be had. */
void fur_cpu_name(char *out, int bytes);
/* Physical cores within the affinity mask and the control group's quota; at least 1. */
int fur_cpu_cores(void);
/* Bytes of one level of data cache of core 0; 0 if unknown. */
int64_t fur_cpu_cache_bytes(int level);
/* RAM of the machine; available now or what the control groups still allow, whichever is less. 0 if unknown. */
int64_t fur_cpu_memory_total(void);
int64_t fur_cpu_memory_available(void);

#endif
