/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of creating, running, saving, loading and generating fails in turn: a status each time,
 * FUR_E_MEMORY, with a text; nothing left behind; and afterwards the same call works, with the same bits as ever.
 * Allocations inside oneDNN are its own and are not counted; what this library keeps for its products is, and is
 * dropped before each try. Run under the address sanitizer by ./dev asan. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "kit/files.h"
#include "kit/model.h"
#include "op/matmul/matmul.h"

typedef struct scene {
    const kit_model_case *at;
    fur_context *context;
    kit_folder folder;
    kit_row row;
    double loss; /* of the run that went through */
    int32_t ids[16];
    int64_t id_count;
} scene;

typedef fur_status (*body)(scene *s);

/* Runs the body with the k-th allocation failing, for every k it makes. Returns their number. */
static int64_t fail_each(const char *what, scene *s, body call)
{
    fur_matmul_cache_clear();
    int64_t live = fur_alloc_live();
    for (int64_t k = 1;; k++) {
        fur_alloc_fail_at(k);
        fur_status status = call(s);
        fur_alloc_fail_at(0);
        fur_matmul_cache_clear();
        if (fur_alloc_live() != live)
            fail_msg("%s, %s: allocation %lld failing: %lld left behind", s->at->name, what, (long long)k,
                     (long long)(fur_alloc_live() - live));
        if (status == FUR_OK)
            return k - 1;
        const char *text = fur_context_error(s->context);
        if (status != FUR_E_MEMORY || !text[0] || strchr(text, '\n'))
            fail_msg("%s, %s: allocation %lld failing: status \"%s\", text \"%s\"", s->at->name, what, (long long)k,
                     fur_status_name(status), text);
    }
}

static fur_status create(scene *s)
{
    fur_model *model = NULL;
    fur_status status = fur_model_create(s->context, &s->at->config, 5, &model);
    fur_model_destroy(model);
    return status;
}

/* Plan, run, loss and gradient, outputs. */
static fur_status step(scene *s)
{
    fur_model *model = NULL;
    fur_run *run = NULL;
    fur_plan plan;
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.row_tokens = s->row.tokens;
    request.superblock = 37;
    float *y = calloc((size_t)(s->row.tokens * 100), sizeof *y);
    assert_non_null(y);
    fur_status status = fur_model_create(s->context, &s->at->config, 5, &model);
    if (status == FUR_OK)
        status = fur_plan_make(s->context, &s->at->config, &request, &plan);
    if (status == FUR_OK)
        status = fur_run_create(s->context, model, &plan, &request, &run);
    if (status == FUR_OK)
        status = fur_model_loss_and_gradient(run, &s->row.row, NULL, 1.0, &s->loss, NULL);
    if (status == FUR_OK)
        status = fur_model_outputs(run, &s->row.row, y);
    fur_run_destroy(run);
    fur_model_destroy(model);
    free(y);
    return status;
}

static fur_status longest(scene *s)
{
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.memory_bytes = (int64_t)1 << 30;
    int64_t tokens;
    return fur_plan_longest(s->context, &s->at->config, &request, &tokens);
}

static fur_status save(scene *s)
{
    fur_model *model = NULL;
    fur_status status = fur_model_create(s->context, &s->at->config, 5, &model);
    if (status == FUR_OK)
        status = fur_model_save(s->context, model, s->folder.path);
    fur_model_destroy(model);
    return status;
}

static fur_status load(scene *s)
{
    fur_model *model = NULL;
    fur_status status = fur_model_load(s->context, s->folder.path, &model);
    assert_int_equal(status != FUR_OK, model == NULL);
    fur_model_destroy(model);
    return status;
}

static int take(void *user, int32_t id)
{
    scene *s = user;
    s->ids[s->id_count++] = id;
    return 0;
}

static fur_status generate(scene *s)
{
    fur_model *model = NULL;
    fur_sampling sampling;
    fur_sampling_defaults(&sampling);
    s->id_count = 0;
    fur_status status = fur_model_create(s->context, &s->at->config, 5, &model);
    if (status == FUR_OK)
        status = fur_generate(s->context, model, s->row.ids, 9, 4, &sampling, 0, take, s);
    fur_model_destroy(model);
    return status;
}

/* A fresh context each time: the plan measures the machine's rate on its first call. */
static fur_status fresh_context(scene *s)
{
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    settings.threads = 2;
    fur_context *context = NULL;
    char text[512] = "";
    fur_status status = fur_context_create(&settings, &context, text, sizeof text);
    if (status != FUR_OK) {
        assert_null(context);
        assert_true(text[0]);
        return status;
    }
    fur_context *kept = s->context;
    s->context = context;
    status = step(s);
    s->context = kept;
    fur_context_destroy(context);
    return status;
}

static void every_allocation_of_a_model_may_fail(void **state)
{
    (void)state;
    int64_t live = fur_alloc_live(), total = 0;
    for (int i = 0; i < kit_model_case_count; i++) {
        scene s = {.at = &kit_model_cases[i], .context = kit_context(2)};
        kit_row_create(&s.at->config, (int64_t[]){30, 20, 0}, 1, 6, &s.row);
        kit_folder_init(&s.folder);
        assert_int_equal(step(&s), FUR_OK);
        double loss = s.loss;
        int64_t count = fail_each("create", &s, create);
        int64_t steps = fail_each("plan, run, step", &s, step);
        assert_true(count >= 4 && steps > count);
        count += steps + fail_each("longest", &s, longest) + fail_each("save", &s, save);
        assert_int_equal(save(&s), FUR_OK);
        assert_int_equal(kit_entries(s.folder.path), 2); /* failed writes leave nothing beside */
        count += fail_each("load", &s, load);
        if (!s.at->config.features && s.at->config.causal) {
            assert_int_equal(generate(&s), FUR_OK);
            int32_t ids[16];
            memcpy(ids, s.ids, sizeof ids);
            count += fail_each("generate", &s, generate);
            assert_int_equal(s.id_count, 4);
            kit_check_same_bits("ids", ids, s.ids, 4 * sizeof ids[0]);
        }
        assert_true(s.loss == loss);
        print_message("%-50s %lld allocations, each failed: a status each time, nothing left\n", s.at->name,
                      (long long)count);
        total += count;
        kit_folder_clear(&s.folder);
        kit_row_destroy(&s.row);
        fur_context_destroy(s.context);
    }
    scene s = {.at = &kit_model_cases[0], .context = kit_context(2)};
    kit_row_create(&s.at->config, (int64_t[]){30, 20, 0}, 1, 6, &s.row);
    fur_matmul_cache_clear();
    int64_t before = fur_alloc_live(), k = 1;
    for (fur_status status = FUR_E_MEMORY; status != FUR_OK; k++) {
        fur_alloc_fail_at(k);
        status = fresh_context(&s);
        fur_alloc_fail_at(0);
        fur_matmul_cache_clear();
        assert_int_equal(fur_alloc_live(), before);
        assert_true(status == FUR_OK || status == FUR_E_MEMORY);
    }
    total += k - 2;
    kit_row_destroy(&s.row);
    fur_context_destroy(s.context);
    fur_matmul_cache_clear();
    assert_int_equal(fur_alloc_live(), live);
    print_message("%lld allocations failed in turn\n", (long long)total);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_of_a_model_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
