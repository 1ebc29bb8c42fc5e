/* SPDX-License-Identifier: Apache-2.0 */
/* Multiple choice: which of several continuations of a prompt does a model find likeliest? */
#ifndef FURLONG_CHOICES_H
#define FURLONG_CHOICES_H

#include "furlong/data.h"
#include "furlong/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A list of items. Small ones are in RAM, larger ones in an unlinked temporary file. */
typedef struct fur_choices fur_choices;

typedef struct fur_choices_settings {
    size_t struct_size;
    const char *path; /* JSONL, also as *.zst; "-" for stdin. Each line, of at most 16 MiB, is an object with "prompt"
                         (a string), "choices" (two strings or more, none of them empty) and "answer" (which one is
                         right, from 0); other members are not read */
    const char *tokenizer; /* as fur_tokenizer_open takes it; "bytes" */
    bool skip_bad;         /* skip lines that are not such items, count and say; else refuse with the line number */
} fur_choices_settings;

typedef struct fur_choices_info {
    int64_t items;
    int64_t choices;       /* of all items */
    int64_t tokens;        /* positions that scoring computes: each choice's, and its prompt's again for each */
    int64_t longest;       /* most positions that a prompt with one of its choices takes */
    int64_t skipped_lines; /* with skip_bad */
    int64_t bytes_held;    /* RAM */
    double chance;         /* expected accuracy of guessing: mean over items of 1 / choices */
} fur_choices_info;

FUR_API void fur_choices_settings_defaults(fur_choices_settings *settings);
/* Reads the list once. Prompt and choices are encoded each by itself, and nothing is put between them: a choice that
 * begins with a space says so. Errors name file and line. The caller closes it. */
FUR_API fur_status fur_choices_open(fur_context *context, const fur_choices_settings *settings, fur_choices **out);
FUR_API void fur_choices_close(fur_choices *choices); /* NULL allowed */
FUR_API void fur_choices_info_read(const fur_choices *choices, fur_choices_info *out);

typedef struct fur_choices_result {
    int64_t items;
    double accuracy;      /* share of items whose right choice has the highest score */
    double byte_accuracy; /* the same with scores divided by the bytes of the choice */
    /* standard errors of these: sqrt(p (1 - p) / (items - 1)); NaN of one item */
    double accuracy_error, byte_accuracy_error;
    int64_t row_tokens; /* of the rows that choices were packed into */
    int64_t peak_rss_bytes, planned_peak_bytes;
    double seconds;
} fur_choices_result;

/* Scores every choice: sum over its tokens of log p(token | prompt, earlier tokens of the choice), in nats. The highest
 * score, of equal ones the first, is the model's answer. Prompts with their choices are packed into rows of at most
 * row_tokens (0: 8,192), fewer where memory_bytes (0: no limit) wants it, never fewer than the longest needs; the
 * packing changes a score by f32 rounding at most. score_N: NULL, or receives [info.choices] scores in the order of the
 * file. Cost: 2 P + attention flops for each of info.tokens positions. Errors: FUR_E_UNSUPPORTED (no causal language
 * model), FUR_E_SHAPE (an item longer than the model's context, with its line; a vocabulary that the model lacks),
 * those of fur_plan_make and fur_model_loss. Source: acc and acc_norm of EleutherAI's evaluation harness, whose
 * acc_norm divides by characters: for ASCII the same. */
FUR_API fur_status fur_score_choices(fur_context *context, fur_model *model, const fur_choices *choices,
                                     int64_t row_tokens, int64_t memory_bytes, double *score_N,
                                     fur_choices_result *out);

#ifdef __cplusplus
}
#endif
#endif
