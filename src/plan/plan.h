/* SPDX-License-Identifier: Apache-2.0 */
/* What the library itself asks of the plan, beside the public calls. */
#ifndef FUR_PLAN_PLAN_H
#define FUR_PLAN_PLAN_H

#include "model/run.h"

/* The plan with the blocks of a given shape, for resuming a run with the same bits; what is kept, and where, is chosen
 * anew. */
fur_status fur_plan_of_shape(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                             const fur_run_shape *shape, fur_plan *out);
/* FUR_E_DOES_NOT_FIT, whose text says what is needed, what is allowed, and the largest context that would fit. */
fur_status fur_plan_refuse(fur_context *context, const fur_model_config *config, const fur_plan_request *request,
                           const fur_plan *plan);

#endif
