/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of multiple-choice items against whole models in double, one document at a time (kit/oracle.h), and against
 * the library's own losses of single documents, whatever the rows they are packed into.
 *
 * As in model_gradient.c the plain formula in f32 is the yardstick. Over all scores of a list,
 *   || score - truth || <= 4 || plain - truth || + u || truth ||        =: E
 * and two ways of packing, each within E of the truth, are within 2 E of each other. Predictions then follow: where the
 * first two scores of an item are further apart than 2 E, no packing may change the answer, and the test's items are
 * drawn so that all are. Look-up models are left out of it: a code that rounding flips is no rounding of the score. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "kit/files.h"
#include "kit/model.h"
#include "kit/oracle.h"

enum { ITEMS = 24, MOST_CHOICES = 5, MOST = ITEMS * MOST_CHOICES, LONGEST_PROMPT = 70, LONGEST_CHOICE = 30 };

typedef struct sample {
    int64_t item, index, of, right;
    int64_t prompt, own; /* bytes */
    char text[LONGEST_PROMPT + LONGEST_CHOICE + 1];
} sample;

typedef struct samples {
    int64_t count, tokens, longest;
    sample list[MOST];
    double truth[MOST], plain[MOST];
    double bound; /* E */
} samples;

static uint32_t below(uint64_t item, uint64_t what, uint32_t limit)
{
    return (uint32_t)(fur_random_u64(77, item, what) % limit);
}

/* Item 0 has the shortest of all: a prompt and choices of one byte. */
static void draw_samples(samples *s)
{
    memset(s, 0, sizeof *s);
    for (int64_t i = 0; i < ITEMS; i++) {
        int64_t of = 2 + below((uint64_t)i, 0, MOST_CHOICES - 1), right = below((uint64_t)i, 1, (uint32_t)of);
        int64_t prompt = i == 0 ? 1 : 1 + below((uint64_t)i, 2, LONGEST_PROMPT);
        for (int64_t c = 0; c < of; c++) {
            sample *at = &s->list[s->count++];
            *at = (sample){.item = i, .index = c, .of = of, .right = c == right, .prompt = prompt};
            at->own = i == 0 ? 1 : 1 + below((uint64_t)i, 10 + (uint64_t)c, LONGEST_CHOICE);
            for (int64_t t = 0; t < at->prompt + at->own; t++) {
                uint64_t what = t < prompt ? 100 : 1000 + 100 * (uint64_t)c;
                at->text[t] = (char)('a' + below((uint64_t)i, what + (uint64_t)t, 26));
            }
            int64_t positions = at->prompt + at->own - 1;
            s->tokens += positions;
            s->longest = positions > s->longest ? positions : s->longest;
        }
    }
}

/* The items as JSONL, with members that nobody reads. */
static const char *write_samples(const kit_folder *folder, const samples *s)
{
    char *text = NULL;
    size_t bytes = 0;
    int answer = 0;
    FILE *out = open_memstream(&text, &bytes);
    assert_non_null(out);
    for (int64_t i = 0; i < s->count; i++) {
        const sample *at = &s->list[i];
        bool last = at->index + 1 == at->of;
        if (at->index == 0)
            (void)fprintf(out, "{\"id\": %d, \"prompt\": \"%.*s\", \"choices\": [", (int)at->item, (int)at->prompt,
                          at->text);
        (void)fprintf(out, "\"%.*s\"%s", (int)at->own, at->text + at->prompt, last ? "]" : ", ");
        answer = at->right ? (int)at->index : answer;
        if (last)
            (void)fprintf(out, ", \"answer\": %d}\n", answer);
    }
    assert_int_equal(fclose(out), 0);
    const char *path = kit_write(folder, "items.jsonl", text, (int64_t)bytes);
    free(text);
    return path;
}

/* ---- the truth
 * ------------------------------------------------------------------------------------------------------- */

typedef struct document {
    int32_t ids[LONGEST_PROMPT + LONGEST_CHOICE], targets[LONGEST_PROMPT + LONGEST_CHOICE];
    int64_t offsets[2];
    fur_row row;
} document;

static void document_of(const sample *at, document *d)
{
    int64_t positions = at->prompt + at->own - 1;
    for (int64_t t = 0; t < positions; t++) {
        d->ids[t] = (unsigned char)at->text[t];
        d->targets[t] = t + 1 < at->prompt ? -1 : (unsigned char)at->text[t + 1];
    }
    d->offsets[0] = 0;
    d->offsets[1] = positions;
    d->row = (fur_row){.documents = 1, .offsets = d->offsets, .ids_T = d->ids, .target_T = d->targets};
}

static double oracle_score(const oracle *o, oracle_precision precision, const sample *at)
{
    document d;
    oracle_output out;
    double sum = 0;
    document_of(at, &d);
    oracle_run(o, precision, &d.row, NULL, NULL, 1.0, 0, &out);
    for (int64_t t = at->prompt - 1; t < d.offsets[1]; t++)
        sum -= out.nll_T[t];
    oracle_output_clear(&out);
    return sum;
}

static double distance(int64_t count, const double *a, const double *b)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (a[i] - (b ? b[i] : 0)) * (a[i] - (b ? b[i] : 0));
    return sqrt(sum);
}

static void find_truth(samples *s, const fur_model *model)
{
    oracle *o = oracle_create(model);
    for (int64_t i = 0; i < s->count; i++) {
        s->truth[i] = oracle_score(o, ORACLE_DOUBLE, &s->list[i]);
        s->plain[i] = oracle_score(o, ORACLE_FLOAT, &s->list[i]);
    }
    oracle_destroy(o);
    s->bound = 4 * distance(s->count, s->plain, s->truth) + KIT_U * distance(s->count, s->truth, NULL);
}

/* Items whose answer has the highest true score; by bytes if asked. Fails where rounding could decide. */
static int64_t true_rights(const samples *s, bool by_bytes)
{
    int64_t rights = 0;
    for (int64_t i = 0; i < s->count; i += s->list[i].of) {
        double best = -(double)INFINITY, second = -(double)INFINITY;
        bool right = false;
        for (int64_t c = i; c < i + s->list[i].of; c++) {
            double score = s->truth[c] / (by_bytes ? (double)s->list[c].own : 1.0);
            second = fmax(second, fmin(best, score));
            right = score > best ? s->list[c].right : right;
            best = fmax(best, score);
        }
        assert_true(best - second > 2 * s->bound);
        rights += right;
    }
    return rights;
}

/* The library's own loss of each document alone. */
static void single_scores(fur_context *context, fur_model *model, const samples *s, double *score)
{
    fur_plan_request request;
    fur_plan plan;
    fur_run *run;
    fur_plan_request_defaults(&request);
    request.purpose = FUR_FOR_EVAL;
    request.row_tokens = s->longest;
    kit_ok(context, fur_plan_make(context, fur_model_config_of(model), &request, &plan));
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    for (int64_t i = 0; i < s->count; i++) {
        document d;
        float nll[LONGEST_PROMPT + LONGEST_CHOICE];
        double loss;
        document_of(&s->list[i], &d);
        kit_ok(context, fur_model_loss(run, &d.row, NULL, &loss, nll));
        score[i] = 0;
        for (int64_t t = s->list[i].prompt - 1; t < d.offsets[1]; t++)
            score[i] -= (double)nll[t];
    }
    fur_run_destroy(run);
}

/* ---- tests
 * ----------------------------------------------------------------------------------------------------------- */

static fur_choices *open_list(fur_context *context, const char *path)
{
    fur_choices_settings settings;
    fur_choices *list;
    fur_choices_settings_defaults(&settings);
    settings.path = path;
    kit_ok(context, fur_choices_open(context, &settings, &list));
    return list;
}

/* sqrt of the sample variance over the number, from the definition */
static double error_of(int64_t rights, int64_t items)
{
    double mean = (double)rights / (double)items, sum = 0;
    for (int64_t i = 0; i < items; i++) {
        double off = (i < rights ? 1.0 : 0.0) - mean;
        sum += off * off;
    }
    return sqrt(sum / (double)(items - 1) / (double)items);
}

static void check_result(const samples *s, const fur_choices_result *r)
{
    int64_t rights = true_rights(s, false), by_bytes = true_rights(s, true);
    assert_int_equal(r->items, ITEMS);
    assert_true(fabs(r->accuracy - (double)rights / ITEMS) < 1e-15);
    assert_true(fabs(r->byte_accuracy - (double)by_bytes / ITEMS) < 1e-15);
    assert_true(fabs(r->accuracy_error - error_of(rights, ITEMS)) < 1e-14);
    assert_true(fabs(r->byte_accuracy_error - error_of(by_bytes, ITEMS)) < 1e-14);
}

static void check_model(const char *name, const fur_model_config *config)
{
    static samples s;
    kit_folder folder;
    fur_context *context = kit_context(1), *two = kit_context(2);
    fur_model *model = kit_model(context, config, 31);
    kit_folder_init(&folder);
    draw_samples(&s);
    find_truth(&s, model);
    fur_choices *list = open_list(context, write_samples(&folder, &s));
    double single[MOST], packed[MOST], threads[MOST], worst = 0, apart = 0;
    single_scores(context, model, &s, single);
    static const int64_t rows[] = {1, 137, 1000, 0};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fur_choices_result result;
        kit_ok(context, fur_score_choices(context, model, list, rows[i], 0, packed, &result));
        assert_int_equal(result.row_tokens, rows[i] == 1 ? s.longest : rows[i] == 0 ? s.tokens : rows[i]);
        check_result(&s, &result);
        worst = fmax(worst, distance(s.count, packed, s.truth));
        apart = fmax(apart, distance(s.count, packed, single));
        kit_ok(two, fur_score_choices(two, model, list, rows[i], 0, threads, &result));
        kit_check_same_bits("scores by 1 and 2 threads", packed, threads, (size_t)s.count * sizeof *packed);
    }
    print_message("%-60s off by %.2e, from single documents by %.2e; bound %.2e\n", name, worst, apart, s.bound);
    assert_true(worst <= s.bound && apart <= 2 * s.bound);
    fur_choices_close(list);
    fur_model_destroy(model);
    fur_context_destroy(two);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

static void scores_of_every_shape(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        fur_model_config c = kit_model_cases[i].config;
        if (!c.causal || c.features || c.projection_ffn || c.projection_qkvo)
            continue;
        c.vocabulary = 256;
        check_model(kit_model_cases[i].name, &c);
    }
}

static void rows_shrink_to_the_limit(void **state)
{
    (void)state;
    static samples s;
    kit_folder folder;
    fur_context *context = kit_context(1);
    fur_model_config c = kit_model_cases[3].config;
    c.vocabulary = 256;
    fur_model *model = kit_model(context, &c, 31);
    fur_choices_result large, small, between;
    kit_folder_init(&folder);
    draw_samples(&s);
    fur_choices *list = open_list(context, write_samples(&folder, &s));
    kit_ok(context, fur_score_choices(context, model, list, 0, 0, NULL, &large));
    kit_ok(context, fur_score_choices(context, model, list, 1, 0, NULL, &small));
    int64_t limit = small.planned_peak_bytes + 100000;
    kit_ok(context, fur_score_choices(context, model, list, 0, limit, NULL, &between));
    assert_true(between.planned_peak_bytes <= limit);
    assert_true(between.row_tokens < large.row_tokens && between.row_tokens >= small.row_tokens);
    assert_true(fabs(between.accuracy - large.accuracy) < 1e-15);
    assert_int_equal(fur_score_choices(context, model, list, 0, small.planned_peak_bytes / 2, NULL, &between),
                     FUR_E_DOES_NOT_FIT);
    assert_non_null(strstr(fur_context_error(context), "need at least"));
    fur_choices_close(list);
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

/* Equal scores: the first choice is the answer given. One item has no standard error. */
static void the_first_of_equal_scores(void **state)
{
    (void)state;
    kit_folder folder;
    fur_context *context = kit_context(1);
    fur_model_config c = kit_model_cases[0].config;
    c.vocabulary = 256;
    fur_model *model = kit_model(context, &c, 5);
    kit_folder_init(&folder);
    for (int answer = 0; answer < 2; answer++) {
        char line[100];
        fur_choices_result result;
        (void)snprintf(line, sizeof line, "{\"prompt\":\"a\",\"choices\":[\"bc\",\"bc\"],\"answer\":%d}", answer);
        fur_choices *list = open_list(context, kit_write(&folder, "same.jsonl", line, -1));
        kit_ok(context, fur_score_choices(context, model, list, 0, 0, NULL, &result));
        assert_true(fabs(result.accuracy - (answer == 0)) < 1e-15 &&
                    fabs(result.byte_accuracy - (answer == 0)) < 1e-15);
        assert_true(isnan(result.accuracy_error) && isnan(result.byte_accuracy_error));
        fur_choices_close(list);
    }
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

static void expect_refused(const fur_model_config *config, const char *path, int64_t row_tokens, fur_status wanted,
                           const char *part)
{
    fur_context *context = kit_context(1);
    fur_model *model = kit_model(context, config, 5);
    fur_choices *list = open_list(context, path);
    fur_choices_result result;
    fur_status status = fur_score_choices(context, model, list, row_tokens, 0, NULL, &result);
    print_message("  %s\n", fur_context_error(context));
    assert_int_equal(status, wanted);
    assert_non_null(strstr(fur_context_error(context), part));
    fur_choices_close(list);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void what_cannot_be_scored(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    const char *path = kit_write(&folder, "items.jsonl",
                                 "{\"prompt\":\"ab\",\"choices\":[\"c\",\"d\"],\"answer\":0}\n\n"
                                 "{\"prompt\":\"ab\",\"choices\":[\"c\",\"1234567\"],\"answer\":1}\n",
                                 -1);
    fur_model_config c = kit_model_cases[3].config;
    expect_refused(&c, path, 0, FUR_E_SHAPE, "items.jsonl: token ids up to 255, the model's vocabulary is 97");
    c.vocabulary = 256;
    expect_refused(&c, path, -1, FUR_E_ARGUMENT, "rows of -1 tokens");
    c.context = 7;
    expect_refused(&c, path, 0, FUR_E_SHAPE, "items.jsonl:3: prompt and choice take 8 positions, the model has 7");
    c.context = 8;
    c.causal = false;
    expect_refused(&c, path, 0, FUR_E_UNSUPPORTED, "only causal language models");
    for (int i = 0; i < kit_model_case_count; i++)
        if (kit_model_cases[i].config.features && kit_model_cases[i].config.causal)
            expect_refused(&kit_model_cases[i].config, path, 0, FUR_E_UNSUPPORTED, "only causal language models");
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_of_every_shape), cmocka_unit_test(rows_shrink_to_the_limit),
        cmocka_unit_test(the_first_of_equal_scores), cmocka_unit_test(what_cannot_be_scored)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
