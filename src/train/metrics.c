/* SPDX-License-Identifier: Apache-2.0 */
#include "train/metrics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/file.h"
#include "io/json.h"

/* Bytes of the whole lines up to last_step; steps only rise, so the first line beyond it ends the search. */
static off_t good_bytes(FILE *file, int64_t last_step)
{
    static const char start[] = "{\"step\":";
    off_t good = 0, at = 0;
    char part[4096];
    for (bool first_part = true; fgets(part, sizeof part, file);) {
        size_t length = strlen(part);
        if (first_part &&
            (strncmp(part, start, sizeof start - 1) != 0 || strtoll(part + sizeof start - 1, NULL, 10) > last_step))
            break;
        at += (off_t)length;
        first_part = part[length - 1] == '\n';
        if (first_part)
            good = at;
    }
    return good;
}

fur_status fur_metrics_open(fur_context *context, const char *run_dir, int64_t last_step, fur_metrics *out)
{
    memset(out, 0, sizeof *out);
    FUR_TRY(fur_path_join(&context->error, run_dir, "metrics.jsonl", &out->path));
    out->file = fopen(out->path, "a+e");
    if (out->file && fseek(out->file, 0, SEEK_SET) == 0 &&
        ftruncate(fileno(out->file), good_bytes(out->file, last_step)) == 0 && fseek(out->file, 0, SEEK_END) == 0)
        return FUR_OK;
    fur_status status = fur_io_error(&context->error, out->path, "open", errno);
    fur_metrics_close(out);
    return status;
}

void fur_metrics_close(fur_metrics *metrics)
{
    if (metrics->file)
        fclose(metrics->file);
    fur_free(metrics->path);
    memset(metrics, 0, sizeof *metrics);
}

/* JSON has no NaN. */
static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *step_line(const fur_train_event *e)
{
    return json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "step", (json_int_t)e->step,
                     "tokens", (json_int_t)e->tokens, "context", (json_int_t)e->context, "loss", number(e->loss), "lr",
                     number(e->lr), "grad_norm", number(e->grad_norm), "seconds", number(e->seconds),
                     "tokens_per_second", number(e->tokens_per_second), "rss_bytes", (json_int_t)e->rss_bytes,
                     "peak_rss_bytes", (json_int_t)e->peak_rss_bytes, "planned_peak_bytes",
                     (json_int_t)e->planned_peak_bytes, "arena_peak_bytes", (json_int_t)e->arena_peak_bytes,
                     "planned_arena_bytes", (json_int_t)e->planned_arena_bytes);
}

static json_t *eval_line(const fur_train_event *e, const fur_eval_result *eval)
{
    json_t *positions = json_array();
    for (int b = 0; b < eval->buckets; b++)
        json_array_append_new(positions,
                              json_pack("{s:I, s:I, s:o}", "from", (json_int_t)eval->bucket_first[b], "tokens",
                                        (json_int_t)eval->bucket_tokens[b], "loss", number(eval->bucket_loss[b])));
    return json_pack("{s:I, s:I, s:o, s:o, s:I, s:o, s:o}", "step", (json_int_t)e->step, "tokens",
                     (json_int_t)e->tokens, "eval_loss", number(eval->loss), "eval_bits_per_byte",
                     number(eval->bits_per_byte), "eval_tokens", (json_int_t)eval->tokens, "seconds",
                     number(e->seconds), "by_position", positions);
}

static json_t *interval(const fur_sampled_error *e)
{
    return json_pack("[o, o, o]", number(e->value), number(e->low), number(e->high));
}

static json_t *errors_line(const fur_train_event *e)
{
    json_t *heads = json_array();
    for (int64_t i = 0; i < e->error_count; i++) {
        const fur_head_error *h = &e->errors[i];
        json_array_append_new(heads, json_pack("{s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b}",
                                               "layer", (json_int_t)h->layer, "head", (json_int_t)h->head, "sampled",
                                               (json_int_t)h->tokens, "o", interval(&h->o), "dq", interval(&h->dq),
                                               "dk", interval(&h->dk), "dv", interval(&h->dv), "certificate",
                                               number(h->certificate), "weight_error", number(h->weight_error),
                                               "far_share", number(h->far_share), "deviation", number(h->deviation),
                                               "largest", number(h->largest), "exact", (int)h->exact));
    }
    return json_pack("{s:I, s:I, s:o}", "step", (json_int_t)e->step, "context", (json_int_t)e->context, "head_errors",
                     heads);
}

fur_status fur_metrics_write(fur_context *context, fur_metrics *metrics, const fur_train_event *event,
                             const fur_eval_result *eval)
{
    fur_json_setup();
    json_t *line = eval                              ? eval_line(event, eval)
                   : event->type == FUR_EVENT_ERRORS ? errors_line(event)
                                                     : step_line(event);
    if (!line)
        return fur_memory_error(&context->error, 1024, metrics->path);
    int failed = json_dumpf(line, metrics->file, JSON_COMPACT | JSON_REAL_PRECISION(9)) != 0;
    json_decref(line);
    failed |= fputc('\n', metrics->file) == EOF;
    failed |= fflush(metrics->file) != 0;
    return failed ? fur_io_error(&context->error, metrics->path, "write", errno) : FUR_OK;
}
