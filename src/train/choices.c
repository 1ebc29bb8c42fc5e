/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of choices: a prompt with one of its choices is a document of a packed row, the choice its only targets. */
#include "text/choices.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "plan/plan.h"

#define ROW_TOKENS 8192 /* enough that products of matrices run at their full speed */

/* Where the items stand. */
typedef struct judge {
    double best, best_by_byte; /* scores so far of the item in progress */
    bool right, right_by_byte; /* whether the answer has them */
    int64_t items, rights, rights_by_byte;
} judge;

static void take_score(judge *j, const fur_choice *c, double score)
{
    double by_byte = score / (double)c->bytes;
    if (c->index == 0 || score > j->best) {
        j->best = score;
        j->right = c->right;
    }
    if (c->index == 0 || by_byte > j->best_by_byte) {
        j->best_by_byte = by_byte;
        j->right_by_byte = c->right;
    }
    if (c->index + 1 < c->of)
        return;
    j->items++;
    j->rights += j->right;
    j->rights_by_byte += j->right_by_byte;
}

/* The first `count` tokens of prompt and choice. */
static fur_status copy_ids(fur_error *error, const fur_choices *list, const fur_choice *c, int64_t count, int32_t *ids)
{
    int64_t prompt = fur_min_i64(count, c->prompt_count);
    FUR_TRY(fur_choices_ids(error, list, c->prompt_first, prompt, ids));
    return fur_choices_ids(error, list, c->first, count - prompt, ids + prompt);
}

static void count_none(int32_t *targets, int64_t count)
{
    for (int64_t t = 0; t < count; t++)
        targets[t] = -1;
}

/* As many choices as the row holds, from the one at `from` on; *count is their number. Where more follow, the row is
 * filled up with the beginning of the next, of which nothing counts: rows of one length keep the products of matrices
 * to shapes that were seen before, for each of which code is generated. */
static fur_status fill_row(fur_run *run, const fur_choices *list, int64_t from, fur_row *row, int64_t *count)
{
    fur_run_memory *m = &run->memory;
    fur_error *error = run->exec.error;
    int64_t used = 0, documents = 0;
    m->row_offsets[0] = 0;
    for (*count = 0; from + *count < list->info.choices && used < run->shape.tokens; (*count)++) {
        fur_choice c;
        FUR_TRY(fur_choices_entry(error, list, from + *count, &c));
        int64_t positions = fur_choice_positions(&c), room = run->shape.tokens - used;
        int32_t *targets = m->row_targets_T + used;
        FUR_TRY(copy_ids(error, list, &c, fur_min_i64(positions, room), m->row_ids_T + used));
        m->row_offsets[++documents] = used + fur_min_i64(positions, room);
        if (positions > room) {
            count_none(targets, room);
            break;
        }
        count_none(targets, c.prompt_count - 1);
        FUR_TRY(fur_choices_ids(error, list, c.first, c.count, targets + c.prompt_count - 1));
        used += positions;
    }
    *row = (fur_row){
        .documents = documents, .offsets = m->row_offsets, .ids_T = m->row_ids_T, .target_T = m->row_targets_T};
    return FUR_OK;
}

static double score_of(const float *nll_T, const fur_choice *c)
{
    double sum = 0;
    for (int64_t t = c->prompt_count - 1; t < fur_choice_positions(c); t++)
        sum -= (double)nll_T[t];
    return sum;
}

static fur_status score_all(fur_run *run, const fur_choices *list, double *score_N, judge *j)
{
    for (int64_t from = 0; from < list->info.choices;) {
        fur_row row;
        double loss;
        int64_t count;
        FUR_TRY(fill_row(run, list, from, &row, &count));
        FUR_TRY(fur_model_loss(run, &row, NULL, &loss, run->memory.row_nll_T));
        for (int64_t d = 0; d < count; d++) {
            fur_choice choice;
            FUR_TRY(fur_choices_entry(run->exec.error, list, from + d, &choice));
            double score = score_of(run->memory.row_nll_T + row.offsets[d], &choice);
            take_score(j, &choice, score);
            if (score_N)
                score_N[from + d] = score;
        }
        from += count;
    }
    return FUR_OK;
}

static fur_status check(fur_error *error, const fur_model_config *c, const fur_choices *list, int64_t row_tokens)
{
    if (c->features || !c->causal)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "only causal language models score choices");
    if (list->vocabulary > c->vocabulary)
        return fur_error_set(error, FUR_E_SHAPE, "%s: token ids up to %lld, the model's vocabulary is %lld", list->name,
                             (long long)list->vocabulary - 1, (long long)c->vocabulary);
    if (list->info.longest > c->context)
        return fur_error_set(error, FUR_E_SHAPE, "%s:%lld: prompt and choice take %lld positions, the model has %lld",
                             list->name, (long long)list->longest_line, (long long)list->info.longest,
                             (long long)c->context);
    if (row_tokens < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "rows of %lld tokens, expected 0 (chosen) or more",
                             (long long)row_tokens);
    return FUR_OK;
}

/* The longest rows that memory allows, halved from what is wanted. */
static fur_status plan_rows(fur_context *context, const fur_model_config *config, const fur_choices_info *info,
                            int64_t wanted, fur_plan_request *request, fur_plan *plan)
{
    request->row_tokens = fur_max_i64(info->longest, fur_min_i64(info->tokens, wanted));
    for (;;) {
        FUR_TRY(fur_plan_make(context, config, request, plan));
        if (plan->fits)
            return FUR_OK;
        if (request->row_tokens == info->longest)
            return fur_plan_refuse(context, config, request, plan);
        request->row_tokens = fur_max_i64(info->longest, request->row_tokens / 2);
    }
}

static double standard_error(double share, int64_t items)
{
    return items > 1 ? sqrt(share * (1 - share) / (double)(items - 1)) : (double)NAN;
}

fur_status fur_score_choices(fur_context *context, fur_model *model, const fur_choices *choices, int64_t row_tokens,
                             int64_t memory_bytes, double *score_N, fur_choices_result *out)
{
    double start = fur_clock_seconds();
    judge j = {0};
    fur_plan_request request;
    fur_plan plan;
    fur_run *run = NULL;
    memset(out, 0, sizeof *out);
    FUR_TRY(check(&context->error, &model->config, choices, row_tokens));
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_EVAL;
    request.mapped_tables = model->rows != NULL;
    request.weight_bytes = fur_model_weight_bytes(model);
    request.document_tokens = choices->info.longest;
    request.memory_bytes = memory_bytes;
    request.data_bytes = choices->info.bytes_held;
    FUR_TRY(plan_rows(context, &model->config, &choices->info, row_tokens ? row_tokens : ROW_TOKENS, &request, &plan));
    FUR_TRY(fur_run_create(context, model, &plan, &request, &run));
    fur_status status = score_all(run, choices, score_N, &j);
    fur_run_destroy(run);
    FUR_TRY(status);
    double share = (double)j.rights / (double)j.items, by_byte = (double)j.rights_by_byte / (double)j.items;
    *out = (fur_choices_result){.items = j.items,
                                .accuracy = share,
                                .byte_accuracy = by_byte,
                                .accuracy_error = standard_error(share, j.items),
                                .byte_accuracy_error = standard_error(by_byte, j.items),
                                .row_tokens = request.row_tokens,
                                .planned_peak_bytes = plan.peak_bytes,
                                .peak_rss_bytes = fur_process_peak_rss_bytes(),
                                .seconds = fur_clock_seconds() - start};
    return FUR_OK;
}
