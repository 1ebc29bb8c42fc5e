/* SPDX-License-Identifier: Apache-2.0 */
/* What layer inputs that are not stored as f32 cost, measured: the gradient of a short row both ways, in the memory
 * that the run has anyway. The second gradient is added with weight -1 to the first, which leaves the difference. */
#include <math.h>

#include "base/size.h"
#include "model/run.h"
#include "op/sumsq/sumsq.h"
#include "store/encode.h"

int64_t fur_run_stored_error_tokens(const fur_run *run)
{
    int64_t exact = fur_encoded_row_bytes(FUR_STORED_F32, run->model->config.width);
    int64_t rows = fur_min_i64(run->shape.superblock, run->shape.tokens);
    return fur_min_i64(512, rows * run->memory.inputs.row_bytes / exact);
}

fur_status fur_run_stored_error(fur_run *run, const fur_row *row, double *out)
{
    fur_store *inputs = &run->memory.inputs, stored = *inputs;
    const fur_model *model = run->model;
    double loss, size = 0, difference = 0;
    fur_model_zero_gradients(run->model);
    inputs->type = FUR_STORED_F32; /* fewer rows, each of more bytes */
    inputs->row_bytes = fur_encoded_row_bytes(FUR_STORED_F32, inputs->width);
    inputs->tokens = row->offsets[row->documents];
    inputs->decoded = NULL;
    fur_status status = fur_model_loss_and_gradient(run, row, NULL, 1.0, &loss, NULL);
    *inputs = stored;
    FUR_TRY(status);
    FUR_TRY(fur_sum_squares(&run->exec, fur_trained_elements(&model->table), model->gradient, &size));
    FUR_TRY(fur_model_loss_and_gradient(run, row, NULL, -1.0, &loss, NULL));
    FUR_TRY(fur_sum_squares(&run->exec, fur_trained_elements(&model->table), model->gradient, &difference));
    fur_model_zero_gradients(run->model);
    *out = size > 0 ? sqrt(difference / size) : 0;
    return FUR_OK;
}
