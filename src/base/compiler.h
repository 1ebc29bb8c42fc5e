/* SPDX-License-Identifier: Apache-2.0 */
/* The only place for compiler extensions. */
#ifndef FUR_BASE_COMPILER_H
#define FUR_BASE_COMPILER_H

#if defined(__GNUC__) || defined(__clang__)
#    define FUR_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#    define FUR_ALWAYS_INLINE       static inline __attribute__((always_inline))
#    define FUR_NOINLINE            __attribute__((noinline))
#    define FUR_ALIGNED(bytes)      __attribute__((aligned(bytes)))
#    define FUR_MUST_USE            __attribute__((warn_unused_result))
#else
#    define FUR_PRINTF(text, first)
#    define FUR_ALWAYS_INLINE static inline
#    define FUR_NOINLINE
#    define FUR_ALIGNED(bytes)
#    define FUR_MUST_USE
#endif

#if defined(__clang__)
#    define FUR_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#    define FUR_UNROLL _Pragma("GCC unroll 32")
#else
#    define FUR_UNROLL
#endif

/* restrict in C, nothing in C++ (internal headers are C only, public ones do not use it). */
#define FUR_RESTRICT restrict

#endif
