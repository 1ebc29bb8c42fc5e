/* SPDX-License-Identifier: Apache-2.0 */
/* Loss over data, and by position within the document: does a longer context help? */
#include "train/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "plan/plan.h"

#define FIRST_BUCKET 1024

/* Bucket 0 holds positions below 1,024, bucket i those below 1,024 * 2^i. */
static int bucket_of(int64_t position)
{
    int bucket = 0;
    while (position >= (int64_t)FIRST_BUCKET << bucket && bucket + 1 < FUR_POSITION_BUCKETS)
        bucket++;
    return bucket;
}

static void add_row(const fur_row *row, const float *nll_T, double *sum, fur_eval_result *out)
{
    for (int64_t d = 0; d < row->documents; d++)
        for (int64_t t = row->offsets[d]; t < row->offsets[d + 1]; t++) {
            if (isnan(nll_T[t]))
                continue;
            int bucket = bucket_of(t - row->offsets[d]);
            out->bucket_tokens[bucket]++;
            out->bucket_loss[bucket] += (double)nll_T[t];
            out->tokens++;
            *sum += (double)nll_T[t];
        }
}

fur_status fur_evaluate_with(fur_run *run, fur_cutter *cutter, int64_t context_tokens, int64_t max_tokens,
                             fur_eval_result *out)
{
    memset(out, 0, sizeof *out);
    double sum = 0, start = fur_clock_seconds();
    fur_cursor cursor = {0, 0, 0};
    int64_t context = fur_min_i64(context_tokens, run->shape.tokens);
    while (max_tokens == 0 || out->tokens < max_tokens) {
        fur_row row;
        double loss;
        FUR_TRY(fur_cutter_row(cutter, context, run->shape.tokens, &cursor, &run->memory, &row));
        if (row.documents == 0)
            break;
        FUR_TRY(fur_model_loss(run, &row, NULL, &loss, run->memory.row_nll_T));
        add_row(&row, run->memory.row_nll_T, &sum, out);
    }
    for (int b = 0; b < FUR_POSITION_BUCKETS; b++) {
        out->bucket_first[b] = b == 0 ? 0 : (int64_t)FIRST_BUCKET << (b - 1);
        if (out->bucket_tokens[b]) {
            out->bucket_loss[b] /= (double)out->bucket_tokens[b];
            out->buckets = b + 1;
        }
    }
    out->loss = out->tokens ? sum / (double)out->tokens : (double)NAN;
    const fur_corpus_info *info = &cutter->info;
    out->bits_per_byte = (double)NAN;
    if (info->text_bytes > 0)
        out->bits_per_byte = out->loss / log(2.0) * ((double)info->tokens / (double)info->text_bytes);
    else if (info->features == 0 && info->vocabulary == 256) /* ids that can only be bytes */
        out->bits_per_byte = out->loss / log(2.0);
    out->seconds = fur_clock_seconds() - start;
    return FUR_OK;
}

fur_status fur_data_check(fur_context *context, const fur_model_config *config, const fur_corpus *corpus)
{
    fur_corpus_info info;
    fur_corpus_info_read(corpus, &info);
    if (info.features != config->features)
        return fur_error_set(&context->error, FUR_E_SHAPE, "the data has %lld features per position, the model %lld%s",
                             (long long)info.features, (long long)config->features,
                             config->features ? "" : " (it reads tokens)");
    if (!info.features && info.vocabulary > config->vocabulary)
        return fur_error_set(&context->error, FUR_E_SHAPE,
                             "the data has token ids up to %lld, the model's vocabulary is %lld",
                             (long long)info.vocabulary - 1, (long long)config->vocabulary);
    return FUR_OK;
}

void fur_eval_settings_defaults(fur_eval_settings *settings)
{
    *settings = (fur_eval_settings){.struct_size = sizeof *settings, .context_tokens = 2048};
}

fur_status fur_evaluate(fur_context *context, fur_model *model, const fur_corpus *corpus,
                        const fur_eval_settings *settings, fur_eval_result *out)
{
    return fur_evaluate_counting(context, model, corpus, settings, NULL, out);
}

static fur_status check_settings(fur_error *error, const fur_eval_settings *s)
{
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "evaluation settings of %zu bytes, expected %zu from the defaults",
                             s->struct_size, sizeof *s);
    if (s->context_tokens < 1 || s->stride < 0 || s->stride > s->context_tokens)
        return fur_error_set(error, FUR_E_ARGUMENT, "stride %lld in a context of %lld, expected 1 to the context",
                             (long long)s->stride, (long long)s->context_tokens);
    return FUR_OK;
}

fur_status fur_evaluate_counting(fur_context *context, fur_model *model, const fur_corpus *corpus,
                                 const fur_eval_settings *settings, uint32_t *use_R, fur_eval_result *out)
{
    FUR_TRY(check_settings(&context->error, settings));
    FUR_TRY(fur_data_check(context, &model->config, corpus));
    fur_cutter cutter;
    FUR_TRY(fur_cutter_create(context, corpus, FUR_PART_ALL, 0, 0, false, &cutter));
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_EVAL;
    request.mapped_tables = model->rows != NULL;
    request.weight_bytes = fur_model_weight_bytes(model);
    request.row_tokens = fur_min_i64(settings->context_tokens, fur_cutter_longest(&cutter));
    cutter.stride = settings->stride;
    request.memory_bytes = settings->memory_bytes;
    request.data_bytes = cutter.info.bytes_held;
    if (use_R)
        request.data_bytes += model->table.table_rows * (int64_t)sizeof *use_R;
    fur_plan plan;
    fur_run *run = NULL;
    fur_status status = fur_plan_make(context, &model->config, &request, &plan);
    if (status == FUR_OK && !plan.fits)
        status = fur_plan_refuse(context, &model->config, &request, &plan);
    if (status == FUR_OK)
        status = fur_run_create(context, model, &plan, &request, &run);
    if (status == FUR_OK)
        run->use_R = use_R;
    if (status == FUR_OK)
        status = fur_evaluate_with(run, &cutter, settings->context_tokens, settings->max_tokens, out);
    if (status == FUR_OK) {
        out->planned_peak_bytes = plan.peak_bytes;
        out->peak_rss_bytes = fur_process_peak_rss_bytes();
    }
    fur_run_destroy(run);
    fur_cutter_destroy(&cutter);
    return status;
}
