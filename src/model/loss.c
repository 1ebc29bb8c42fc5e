/* SPDX-License-Identifier: Apache-2.0 */
/* The loss stage: final norm, then any fur_loss, over token blocks. Built in: cross-entropy over tiles of tokens and
 * vocabulary, and mean squared error. The gradient by the hidden state takes its place in x; T x V never exists. */
#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/config.h"
#include "model/head_xent.h"
#include "model/run.h"
#include "op/matmul/matmul.h"
#include "op/softcap/softcap.h"

/* What both built-in losses carry as fur_loss.self. */
typedef struct head_loss {
    fur_run *run;
    fur_projection head;
    fur_gradient_sink sink; /* weight NULL: no gradient wanted */
    int64_t counted;        /* positions that count */
    double weight;          /* of the row's gradients, head included */
    double sum;
    float *nll_T; /* whole row, or NULL */
} head_loss;

static double mean_weight(const head_loss *h)
{
    return h->counted ? 1.0 / (double)h->counted : 0.0;
}

fur_status fur_run_cap_logits(const fur_run *run, int64_t count, float *logits)
{
    double cap = run->model->config.logit_softcap;
    return cap > 0 ? fur_softcap(&run->exec, count, (float)cap, logits) : FUR_OK;
}

/* ---- cross-entropy ---------------------------------------------------------------------------------------- */

static fur_status xent_begin(void *self, int64_t tokens, int64_t width)
{
    head_loss *h = self;
    (void)width;
    for (int64_t t = 0; t < tokens; t++)
        h->counted += h->run->row->target_T[t] >= 0;
    return FUR_OK;
}

static fur_status xent_block(void *self, int pass, int64_t first, int64_t count, const float *h_TC, float *dh_TC)
{
    head_loss *h = self;
    (void)pass;
    const fur_head_xent xent = {h->head, h->sink, h->run->shape.vocabulary_tile,
                                (float)h->run->model->config.logit_softcap, &h->run->memory.loss};
    FUR_TRY(fur_head_xent_rows(&h->run->exec, &xent, count, h_TC, h->run->row->target_T + first,
                               (float)(h->weight * mean_weight(h)), dh_TC, &h->sum));
    if (h->nll_T)
        memcpy(h->nll_T + first, h->run->memory.loss.nll_t, (size_t)count * sizeof(float));
    return FUR_OK;
}

/* ---- mean squared error ----------------------------------------------------------------------------------- */

/* A target row counts unless its first output is NaN; then all must be numbers. */
static bool target_counts(const float *target_O)
{
    return !isnan(target_O[0]);
}

static fur_status mse_begin(void *self, int64_t tokens, int64_t width)
{
    head_loss *h = self;
    int64_t outputs = h->head.out;
    (void)width;
    for (int64_t t = 0; t < tokens; t++)
        h->counted += target_counts(h->run->row->target_TO + t * outputs);
    return FUR_OK;
}

static fur_status mse_block(void *self, int pass, int64_t first, int64_t count, const float *h_TC, float *dh_TC)
{
    head_loss *h = self;
    fur_run *run = h->run;
    int64_t outputs = h->head.out;
    float *y = run->memory.loss.logits_tV;
    (void)pass;
    fur_projection_input input;
    FUR_TRY(h->head.kind->prepare(&run->exec, &h->head, count, h_TC, h->head.in, &input));
    FUR_TRY(h->head.kind->forward(&run->exec, &h->head, &input, 0, y, outputs));
    double scale = 2.0 * h->weight * mean_weight(h) / (double)outputs;
    for (int64_t t = 0; t < count; t++) {
        const float *target = run->row->target_TO + (first + t) * outputs;
        bool counts = target_counts(target);
        double sum = 0;
        for (int64_t o = 0; o < outputs; o++) {
            double difference = counts ? (double)y[t * outputs + o] - (double)target[o] : 0;
            sum += difference * difference;
            y[t * outputs + o] = (float)(scale * difference);
        }
        h->sum += sum / (double)outputs;
        if (h->nll_T)
            h->nll_T[first + t] = counts ? (float)(sum / (double)outputs) : NAN;
    }
    if (!dh_TC)
        return FUR_OK;
    return h->head.kind->backward(&run->exec, &h->head, &input, y, outputs, 0, dh_TC, h->head.in, &h->sink);
}

static fur_status head_end(void *self, double *loss)
{
    head_loss *h = self;
    *loss = h->sum * mean_weight(h);
    return FUR_OK;
}

/* ---- any loss over the row -------------------------------------------------------------------------------- */

static void scale_rows(float *x, int64_t count, double weight)
{
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)(weight * (double)x[i]);
}

static fur_status loss_block(fur_run *run, const fur_loss *loss, int pass, int64_t first, int64_t count, int gradient,
                             double weight)
{
    const fur_parameter_table *table = &run->model->table;
    fur_loss_scratch *s = &run->memory.loss;
    int64_t width = run->model->config.width;
    float *x = run->memory.x_TC + first * width;
    FUR_TRY(fur_norm_rows(&run->exec, run->model, table->final_norm_w, table->final_norm_b, count, x, s->h_tC));
    float *dh = gradient && pass == loss->passes - 1 ? s->dh_tC : NULL;
    FUR_TRY(loss->block(loss->self, pass, first, count, s->h_tC, dh));
    if (!dh)
        return FUR_OK;
    if (weight != 1.0)
        scale_rows(dh, count * width, weight);
    return fur_norm_rows_backward(&run->exec, run->model, table->final_norm_w, table->final_norm_b, count, x, dh, x, 0);
}

static fur_status loss_over_row(fur_run *run, const fur_loss *loss, int gradient, double weight, double *out_loss)
{
    FUR_TRY(loss->begin(loss->self, run->tokens, run->model->config.width));
    for (int pass = 0; pass < loss->passes; pass++)
        for (int64_t first = 0; first < run->tokens; first += run->shape.loss_tile) {
            int64_t count = fur_min_i64(run->shape.loss_tile, run->tokens - first);
            FUR_TRY(loss_block(run, loss, pass, first, count, gradient, weight));
        }
    FUR_TRY(loss->end(loss->self, out_loss));
    if (!isfinite(*out_loss))
        return fur_error_set(run->exec.error, FUR_E_NONFINITE, "the loss is not finite (output head)");
    return FUR_OK;
}

fur_status fur_run_loss(fur_run *run, const fur_loss *loss, int gradient, double weight, double *out_loss, float *nll_T)
{
    if (loss) {
        if (loss->passes < 1 || loss->passes > 2 || !loss->begin || !loss->block || !loss->end)
            return fur_error_set(run->exec.error, FUR_E_ARGUMENT, "a loss needs begin, block, end and 1 or 2 passes");
        return loss_over_row(run, loss, gradient, weight, out_loss);
    }
    /* The head's gradients carry the weight too, so the built-in losses apply it where the gradient begins. */
    head_loss self = {
        .run = run, .weight = weight, .head = fur_model_map(run->model, &run->model->table.head), .nll_T = nll_T};
    if (gradient)
        self.sink = fur_run_sink(run, &run->model->table.head);
    int vectors = run->model->config.features > 0;
    if (vectors ? !run->row->target_TO : !run->row->target_T)
        return fur_error_set(run->exec.error, FUR_E_ARGUMENT, "the row has no targets for the built-in loss");
    fur_loss built_in = {&self, 1, vectors ? mse_begin : xent_begin, vectors ? mse_block : xent_block, head_end};
    return loss_over_row(run, &built_in, gradient, 1.0, out_loss);
}
