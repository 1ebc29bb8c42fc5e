/* SPDX-License-Identifier: Apache-2.0 */
/* Packed documents do not see each other, bit for bit.
 *
 * One token is changed. No output that cannot see it may change by a bit: none of another document and, in causal
 * order, none before it. No input gradient of another document may change; they are coupled only by the number of
 * counted positions, which is the same. One target is changed: no output at all, no input gradient of another document
 * and, in causal order, none of a later position. What may see the change must show it, so that the test can fail. At 1
 * and 2 threads, with superblocks that cut documents, and documents that share superblocks. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kit/model.h"

typedef struct answer {
    float *y, *dx;
} answer;

typedef struct scene {
    const char *name;
    fur_context *context;
    fur_model *model;
    kit_run run;
    kit_row row;
    int64_t outputs, inputs;
    int causal;
    int64_t compared, changed;
} scene;

static void answer_of(scene *s, answer *out)
{
    kit_gradient g;
    kit_gradient_create(&s->run, &s->row, NULL, 1.0, &g);
    out->dx = g.dx;
    free(g.all);
    out->y = calloc((size_t)(s->row.tokens * s->outputs), sizeof(float));
    assert_non_null(out->y);
    kit_ok(s->context, fur_model_outputs(s->run.run, &s->row.row, out->y));
}

static void answer_clear(answer *a)
{
    free(a->y);
    free(a->dx);
}

static int64_t document_of(const scene *s, int64_t t)
{
    int64_t d = 0;
    while (s->row.offsets[d + 1] <= t)
        d++;
    return d;
}

/* Rows of [T, width]: those of `may_change` must change somewhere, the others must not. */
static void compare_rows(scene *s, const char *what, int64_t changed_at, int64_t width, const float *before,
                         const float *after, const char *may_change_T, int must_change)
{
    int64_t changed = 0;
    for (int64_t t = 0; t < s->row.tokens; t++) {
        int same = memcmp(before + t * width, after + t * width, (size_t)width * sizeof(float)) == 0;
        if (!same && !may_change_T[t])
            fail_msg("%s: %s of token %lld changed with token %lld", s->name, what, (long long)t,
                     (long long)changed_at);
        s->compared += !may_change_T[t];
        changed += !same;
    }
    if (must_change && !changed)
        fail_msg("%s: no %s changed with token %lld", s->name, what, (long long)changed_at);
    s->changed += changed;
}

static void perturb_input(scene *s, int64_t t)
{
    const fur_model_config *c = fur_model_config_of(s->model);
    if (c->features)
        for (int64_t i = 0; i < c->features; i++)
            s->row.x[t * c->features + i] += 3.0f;
    else
        s->row.ids[t] = (int32_t)((s->row.ids[t] + 1) % c->vocabulary);
}

static void perturb_target(scene *s, int64_t t)
{
    const fur_model_config *c = fur_model_config_of(s->model);
    if (c->features)
        s->row.target_values[t * c->outputs] += 3.0f;
    else
        s->row.targets[t] = (int32_t)((s->row.targets[t] + 1) % c->vocabulary);
}

static int target_counts(const scene *s, int64_t t)
{
    return s->row.targets ? s->row.targets[t] >= 0 : !isnan(s->row.target_values[t * s->outputs]);
}

static void check_token(scene *s, const answer *before, int64_t at)
{
    int64_t T = s->row.tokens, d = document_of(s, at);
    char *sees = calloc((size_t)T, 1), *document = calloc((size_t)T, 1), *none = calloc((size_t)T, 1);
    char *earlier = calloc((size_t)T, 1);
    assert_true(sees && document && none && earlier);
    int has_loss = 0;
    for (int64_t t = s->row.offsets[d]; t < s->row.offsets[d + 1]; t++) {
        document[t] = 1;
        sees[t] = !s->causal || t >= at;
        has_loss |= sees[t] && target_counts(s, t);
        earlier[t] = !s->causal || t <= at;
    }
    answer after;
    kit_row kept = s->row;
    size_t input_bytes = (size_t)(s->row.ids ? T : T * s->inputs) * 4;
    size_t target_bytes = (size_t)(s->row.targets ? T : T * s->outputs) * 4;
    void *input = s->row.ids ? (void *)s->row.ids : s->row.x;
    void *target = s->row.targets ? (void *)s->row.targets : s->row.target_values;
    void *input_copy = malloc(input_bytes), *target_copy = malloc(target_bytes);
    assert_true(input_copy && target_copy);
    memcpy(input_copy, input, input_bytes);
    memcpy(target_copy, target, target_bytes);

    perturb_input(s, at);
    answer_of(s, &after);
    compare_rows(s, "output", at, s->outputs, before->y, after.y, sees, 1);
    compare_rows(s, "input gradient", at, s->inputs, before->dx, after.dx, document, has_loss);
    answer_clear(&after);
    memcpy(input, input_copy, input_bytes);

    if (target_counts(s, at)) {
        perturb_target(s, at);
        answer_of(s, &after);
        compare_rows(s, "output", at, s->outputs, before->y, after.y, none, 0);
        compare_rows(s, "input gradient by a target,", at, s->inputs, before->dx, after.dx, earlier, 1);
        answer_clear(&after);
        memcpy(target, target_copy, target_bytes);
    }
    free(input_copy);
    free(target_copy);
    free(sees);
    free(document);
    free(none);
    free(earlier);
    s->row = kept;
}

/* Borders of documents and superblocks, and what lies between. */
static void check_scene(const kit_model_case *at, int threads, int64_t superblock, fur_keep keep)
{
    const fur_model_config *c = &at->config;
    scene s = {.name = at->name, .context = kit_context(threads), .causal = c->causal};
    s.model = kit_model(s.context, c, 41);
    s.outputs = c->features ? c->outputs : c->vocabulary;
    s.inputs = c->features ? c->features : c->width;
    kit_row_create(c, at->lengths, 1, 42, &s.row);
    kit_run_create(s.context, s.model, &s.row, superblock, keep, &s.run);
    answer before;
    answer_of(&s, &before);
    int64_t last = s.row.tokens - 1;
    for (int64_t d = 0; d < s.row.row.documents; d++) {
        int64_t first = s.row.offsets[d], end = s.row.offsets[d + 1] - 1;
        check_token(&s, &before, first);
        if (end > first)
            check_token(&s, &before, end);
        if (end > first + 1)
            check_token(&s, &before, (first + end) / 2);
    }
    check_token(&s, &before, last < superblock ? last : superblock);
    print_message("%-50s threads %d, superblock %4d: %lld rows unchanged by a bit, %lld changed\n", at->name, threads,
                  (int)superblock, (long long)s.compared, (long long)s.changed);
    answer_clear(&before);
    kit_run_destroy(&s.run);
    kit_row_destroy(&s.row);
    fur_model_destroy(s.model);
    fur_context_destroy(s.context);
}

static void no_bit_crosses_documents(void **state)
{
    (void)state;
    for (int i = 0; i < kit_model_case_count; i++) {
        check_scene(&kit_model_cases[i], 1, 37, FUR_KEEP_NOTHING);
        check_scene(&kit_model_cases[i], 2, 37, FUR_KEEP_ALL);
        check_scene(&kit_model_cases[i], 2, 1000, FUR_KEEP_NOTHING);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_bit_crosses_documents)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
