/* SPDX-License-Identifier: Apache-2.0 */
/* For checks of the sweep from outside: what the backward sweep of a layer reads and computes, shown as it goes by.
 * Pointers are valid during the call only, and nothing may be written through them. A status other than FUR_OK stops
 * the sweep. Without an observer (fur_run.observer NULL) nothing of this costs anything. */
#ifndef FUR_MODEL_OBSERVER_H
#define FUR_MODEL_OBSERVER_H

#include "base/error.h"

/* Rows first .. first+count-1 of a layer in backward. q and k as the maps gave them would be before the rotation by
 * position: dq and dk are gradients by those. */
typedef struct fur_observed_queries {
    int64_t layer, first, count;
    const float *x_BC;          /* the layer's stored input */
    const float *o_BQ, *lse_BH; /* attention output and row statistics that backward works with */
    const float *dq_BQ;
} fur_observed_queries;

typedef struct fur_observed_keys {
    int64_t layer, first, count;
    const float *dk_BK, *dv_BK;
} fur_observed_keys;

typedef struct fur_observer {
    void *user;
    /* dy_TC: the whole gradient by the layer's output, before backward begins */
    fur_status (*layer)(void *user, int64_t layer, int64_t tokens, const float *dy_TC);
    fur_status (*queries)(void *user, const fur_observed_queries *seen);
    fur_status (*keys)(void *user, const fur_observed_keys *seen);
} fur_observer;

#endif
