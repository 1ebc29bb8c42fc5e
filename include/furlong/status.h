/* SPDX-License-Identifier: Apache-2.0 */
/* Status codes. Every fallible function returns one; its text, with the operand shapes, tensor name
 * or file offset concerned, is kept on the context (fur_context_error). Values are never renumbered. */
#ifndef FURLONG_STATUS_H
#define FURLONG_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(FUR_BUILD_SHARED)
#    define FUR_API __attribute__((visibility("default")))
#else
#    define FUR_API
#endif

typedef enum fur_status {
    FUR_OK = 0,
    FUR_E_ARGUMENT = 1,     /* a setting or argument is outside its documented range */
    FUR_E_SHAPE = 2,        /* operand shapes do not fit each other */
    FUR_E_MEMORY = 3,       /* an allocation failed although the plan allowed it */
    FUR_E_DOES_NOT_FIT = 4, /* refused before work: the memory or disk limit is too small */
    FUR_E_IO = 5,           /* the operating system refused to read or write */
    FUR_E_FORMAT = 6,       /* a file's content breaks its format; the text has key or offset */
    FUR_E_UNSUPPORTED = 7,  /* understood, but refused: the text names the combination */
    FUR_E_NONFINITE = 8,    /* NaN or infinity in loss, gradient or weights; the text names the layer */
    FUR_E_INTERRUPTED = 9,  /* stopped by fur_context_stop at a safe point */
    FUR_E_BUSY = 10,        /* another run holds the output folder */
    FUR_E_INTERNAL = 11     /* a defect of Furlong itself */
} fur_status;

/* A short constant name such as "does not fit"; never NULL. */
FUR_API const char *fur_status_name(fur_status status);

#ifdef __cplusplus
}
#endif
#endif
