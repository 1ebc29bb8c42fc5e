/* SPDX-License-Identifier: Apache-2.0 */
/* The plan against what runs do: the arena to the byte, the operators' workspace, the process's peak memory, the
 * longest row, refusals, and sizes chosen to overflow.
 *
 * Workspace: the operators' part of a run's arena never fails a push, and after a whole row the fullest operator has
 * taken at least 9/10 of it (not on ref, whose operators take little and whose products take nothing). Peak memory:
 * above 200 MB the process's VmHWM is within 5 % of the plan, measured in a child process for a clean mark. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kit/model.h"
#include "model/run.h"

static char program[4096];

static void check_items(const fur_plan *plan)
{
    int64_t sum = 0, outside = 0;
    assert_true(plan->item_count > 0 && plan->item_count <= FUR_PLAN_MAX_ITEMS);
    for (int i = 0; i < plan->item_count; i++) {
        assert_true(plan->items[i].bytes > 0 && plan->items[i].name[0]);
        sum += plan->items[i].bytes;
        if (strcmp(plan->items[i].name, "process and libraries") == 0 || strcmp(plan->items[i].name, "data") == 0 ||
            strcmp(plan->items[i].name, "weights") == 0)
            outside += plan->items[i].bytes;
    }
    assert_int_equal(sum, plan->peak_bytes);
    assert_int_equal(sum - outside, plan->arena_bytes);
    assert_true(plan->seconds > 0 && plan->flops > 0);
}

/* ---- the arena --------------------------------------------------------------------------------------------------- */

static double check_run(fur_context *context, const kit_model_case *at, int64_t superblock, fur_keep keep,
                        fur_purpose purpose)
{
    fur_model *model = kit_model(context, &at->config, 5);
    kit_row row;
    kit_row_create(&at->config, at->lengths, 1, 6, &row);
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.purpose = purpose;
    request.row_tokens = row.tokens;
    request.superblock = superblock;
    request.keep = keep;
    request.measured_gflops = 100;
    fur_plan plan;
    kit_ok(context, fur_plan_make(context, &at->config, &request, &plan));
    assert_true(plan.fits && (superblock == 0 || plan.superblock == superblock));
    check_items(&plan);
    fur_run *run;
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    assert_int_equal(fur_run_arena_peak_bytes(run), plan.arena_bytes);
    assert_int_equal(run->arena.capacity, plan.arena_bytes);
    double loss;
    float *y = calloc((size_t)(row.tokens * (at->config.features ? at->config.outputs : at->config.vocabulary)), 4);
    assert_non_null(y);
    if (purpose == FUR_FOR_TRAIN)
        kit_ok(context, fur_model_loss_and_gradient(run, &row.row, NULL, 1.0, &loss, NULL));
    kit_ok(context, fur_model_loss(run, &row.row, NULL, &loss, NULL));
    kit_ok(context, fur_model_outputs(run, &row.row, y));
    assert_int_equal(fur_run_arena_peak_bytes(run), plan.arena_bytes);
    const fur_arena *workspace = &run->memory.workspace;
    assert_false(workspace->failed);
    assert_int_equal(workspace->used, 0);
    assert_true(workspace->peak <= workspace->capacity);
    assert_int_equal(run->memory.state_region.failed, 0);
    double share = (double)workspace->peak / (double)workspace->capacity;
    free(y);
    fur_run_destroy(run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    return share;
}

static void plan_is_the_arena_to_the_byte(void **state)
{
    (void)state;
    static const int64_t superblocks[] = {0, 37, 64, 1000};
    int runs = 0;
    for (int threads = 1; threads <= 3; threads += 2) {
        fur_context *context = kit_context(threads);
        double least = 1;
        for (int i = 0; i < kit_model_case_count; i++)
            for (size_t s = 0; s < sizeof superblocks / sizeof superblocks[0]; s++)
                for (fur_keep keep = FUR_KEEP_AUTO; keep <= FUR_KEEP_ALL; keep++)
                    for (fur_purpose purpose = FUR_FOR_TRAIN; purpose <= FUR_FOR_EVAL; purpose++, runs++)
                        least = fmin(least, check_run(context, &kit_model_cases[i], superblocks[s], keep, purpose));
        print_message("threads %d: operators took at least %.0f %% of the workspace planned for them\n", threads,
                      100 * least);
        if (strcmp(fur_context_isa(context), "ref") != 0)
            assert_true(least >= 0.9);
        fur_context_destroy(context);
    }
    print_message("%d runs: arena equal to the plan, to the byte\n", runs);
}

/* One document per token: the most pieces that attention can be asked for. */
static void plan_holds_for_documents_of_one_token(void **state)
{
    (void)state;
    enum { TOKENS = 300 };
    fur_context *context = kit_context(2);
    for (int i = 0; i < kit_model_case_count; i++) {
        const fur_model_config *c = &kit_model_cases[i].config;
        fur_model *model = kit_model(context, c, 5);
        kit_row row;
        kit_row_create(c, (int64_t[]){TOKENS, 0}, 1, 6, &row);
        int64_t offsets[TOKENS + 1];
        for (int64_t t = 0; t <= TOKENS; t++)
            offsets[t] = t;
        kit_run run;
        kit_run_create(context, model, &row, 100, FUR_KEEP_NOTHING, &run);
        row.row.documents = TOKENS;
        row.row.offsets = offsets;
        double loss;
        kit_ok(context, fur_model_loss_and_gradient(run.run, &row.row, NULL, 1.0, &loss, NULL));
        const fur_arena *workspace = &run.run->memory.workspace;
        assert_true(!workspace->failed && workspace->peak <= workspace->capacity);
        kit_run_destroy(&run);
        kit_row_destroy(&row);
        fur_model_destroy(model);
    }
    fur_context_destroy(context);
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

static fur_plan_request request_of(int64_t tokens, int64_t memory)
{
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    request.row_tokens = tokens;
    request.memory_bytes = memory;
    request.measured_gflops = 100;
    return request;
}

/* Less memory never makes a plan larger or faster, and a plan that fits is within its limit. */
static void plan_uses_the_memory_it_is_given(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    fur_model_config c;
    kit_ok(context, fur_config_preset(context, "bytes-4m", 0, &c));
    fur_plan unlimited, smallest;
    fur_plan_request request = request_of(16384, 0);
    kit_ok(context, fur_plan_make(context, &c, &request, &unlimited));
    assert_true(unlimited.fits && unlimited.keep_attention && unlimited.keep_hidden);
    request.memory_bytes = 1;
    kit_ok(context, fur_plan_make(context, &c, &request, &smallest));
    assert_true(!smallest.fits && smallest.peak_bytes < unlimited.peak_bytes);
    double seconds = unlimited.seconds;
    int kinds = 0;
    for (int64_t memory = unlimited.peak_bytes; memory >= smallest.peak_bytes; memory -= 1 << 22) {
        fur_plan plan;
        request.memory_bytes = memory;
        kit_ok(context, fur_plan_make(context, &c, &request, &plan));
        assert_true(plan.fits && plan.peak_bytes <= memory);
        check_items(&plan);
        assert_true(plan.seconds >= seconds * 0.998); /* candidates within 1/1000 count as equally fast */
        seconds = fmax(seconds, plan.seconds);
        kinds |= 1 << (plan.keep_attention + plan.keep_hidden);
    }
    assert_int_equal(kinds, 7); /* all kept, attention alone, nothing */
    request.memory_bytes = smallest.peak_bytes;
    fur_plan plan;
    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
    assert_true(plan.fits && plan.peak_bytes == smallest.peak_bytes);
    request.memory_bytes--;
    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
    assert_false(plan.fits);
    fur_context_destroy(context);
}

static void plan_longest_is_the_longest(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    static const char *const presets[] = {"bytes-1m", "gpt2-124m", "llama-135m"};
    for (int p = 0; p < 3; p++) {
        fur_model_config c;
        kit_ok(context, fur_config_preset(context, presets[p], 1 << 20, &c));
        for (int purpose = FUR_FOR_TRAIN; purpose <= FUR_FOR_GENERATE; purpose++) {
            int64_t before = 0, longest;
            for (int64_t memory = (int64_t)1 << 24; memory <= (int64_t)1 << 36; memory *= 16) {
                fur_plan_request request = request_of(1, memory);
                request.purpose = (fur_purpose)purpose;
                kit_ok(context, fur_plan_longest(context, &c, &request, &longest));
                assert_true(longest >= before && longest <= c.context);
                fur_plan plan;
                if (longest > 0) {
                    request.row_tokens = longest;
                    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
                    assert_true(plan.fits);
                }
                if (longest < c.context) {
                    request.row_tokens = longest + 1;
                    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
                    assert_false(plan.fits);
                }
                before = longest;
            }
            assert_true(longest > 0);
        }
    }
    fur_context_destroy(context);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void expect_refused(fur_context *context, const fur_model_config *c, fur_plan_request request, const char *part)
{
    fur_plan plan;
    fur_status status = fur_plan_make(context, c, &request, &plan);
    if (status != FUR_E_ARGUMENT || !strstr(fur_context_error(context), part))
        fail_msg("status \"%s\", text \"%s\"; wanted \"%s\"", fur_status_name(status), fur_context_error(context),
                 part);
}

static void plan_refuses_bad_requests(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model_config c = kit_model_cases[0].config;
    fur_plan_request good = request_of(100, 0), r = good;
    r.struct_size = 7;
    expect_refused(context, &c, r, "7 bytes");
    r = good, r.row_tokens = 0;
    expect_refused(context, &c, r, "row of 0 tokens");
    r = good, r.row_tokens = INT64_MAX;
    expect_refused(context, &c, r, "2^40");
    r = good, r.document_tokens = 101;
    expect_refused(context, &c, r, "documents of 101 tokens in a row of 100");
    r = good, r.row_tokens = 513;
    expect_refused(context, &c, r, "context is 512");
    r = good, r.document_tokens = -1;
    expect_refused(context, &c, r, "documents of -1");
    r = good, r.memory_bytes = -1;
    expect_refused(context, &c, r, "memory of -1");
    r = good, r.data_bytes = INT64_MAX;
    expect_refused(context, &c, r, "2^60");
    r = good, r.superblock = INT64_MAX;
    expect_refused(context, &c, r, "superblock");
    r = good, r.keys = FUR_STORE_DISK;
    expect_refused(context, &c, r, "limit there is 0 bytes");
    r.disk_bytes = (int64_t)1 << 40, r.key_groups = 3;
    expect_refused(context, &c, r, "3 groups of 4 key heads");
    r.key_groups = -1;
    expect_refused(context, &c, r, "-1 groups");
    r.keys = FUR_STORE_MEMORY, r.key_groups = 2;
    expect_refused(context, &c, r, "2 groups of 4 key heads, keys in place 1");
    r.keys = FUR_STORE_AGAIN, r.key_groups = 0;
    expect_refused(context, &c, r, "keys in 2");
    c.width = 0;
    expect_refused(context, &c, good, "width is 0");
    fur_context_destroy(context);
}

static void a_run_refuses_a_plan_that_does_not_fit(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    const fur_model_config *c = &kit_model_cases[0].config;
    fur_model *model = kit_model(context, c, 1);
    fur_plan_request request = request_of(100, 1000);
    fur_plan plan;
    fur_run *run;
    kit_ok(context, fur_plan_make(context, c, &request, &plan));
    assert_int_equal(fur_run_create(context, model, &plan, &request, &run), FUR_E_DOES_NOT_FIT);
    assert_null(run);
    request.memory_bytes = 0;
    kit_ok(context, fur_plan_make(context, c, &request, &plan));
    fur_run *other;
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    assert_int_equal(fur_run_create(context, model, &plan, &request, &other), FUR_E_BUSY);
    fur_run_destroy(run);
    kit_ok(context, fur_run_create(context, model, &plan, &request, &run));
    fur_run_destroy(run);
    plan.superblock = 0; /* a plan made up */
    assert_int_equal(fur_run_create(context, model, &plan, &request, &run), FUR_E_ARGUMENT);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

/* Rows that a run must not take. */
static void a_run_refuses_rows_outside_its_plan(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    const fur_model_config *c = &kit_model_cases[0].config;
    fur_model *model = kit_model(context, c, 1);
    kit_row row, longer;
    kit_row_create(c, (int64_t[]){40, 60, 0}, 1, 2, &row);
    kit_row_create(c, (int64_t[]){40, 61, 0}, 1, 2, &longer);
    kit_run run;
    kit_run_create(context, model, &row, 0, FUR_KEEP_NOTHING, &run);
    double loss;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &longer.row, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    assert_non_null(strstr(fur_context_error(context), "101 tokens"));
    fur_row bad = row.row;
    bad.documents = 0;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    bad = row.row, bad.offsets = (int64_t[]){0, 60, 60};
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    bad = row.row, bad.offsets = (int64_t[]){0, 60, 40};
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    bad = row.row, bad.offsets = (int64_t[]){1, 60, 100};
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    bad = row.row, bad.offsets = (int64_t[]){0, 40, INT64_MIN}; /* a difference that overflows */
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    bad = row.row, bad.ids_T = NULL;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    bad = row.row, bad.target_T = NULL;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &bad, NULL, 1, &loss, NULL), FUR_E_ARGUMENT);
    row.targets[7] = 97;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &row.row, NULL, 1, &loss, NULL), FUR_E_SHAPE);
    assert_non_null(strstr(fur_context_error(context), "token 7"));
    row.targets[7] = -1;
    row.ids[9] = 97;
    assert_int_equal(fur_model_loss_and_gradient(run.run, &row.row, NULL, 1, &loss, NULL), FUR_E_ARGUMENT);
    row.ids[9] = -1;
    assert_int_equal(fur_model_loss(run.run, &row.row, NULL, &loss, NULL), FUR_E_ARGUMENT);
    row.ids[9] = 0;
    kit_ok(context, fur_model_loss_and_gradient(run.run, &row.row, NULL, 1, &loss, NULL));
    for (int64_t t = 0; t < row.tokens; t++)
        row.targets[t] = -1; /* nothing counts: no loss, no gradient */
    fur_model_zero_gradients(model);
    kit_ok(context, fur_model_loss_and_gradient(run.run, &row.row, NULL, 1, &loss, NULL));
    assert_true(loss == 0.0);
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        for (int64_t j = 0; j < p.count; j++)
            assert_true(p.gradient[j] == 0.0f);
    }
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    kit_row_destroy(&longer);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

/* A weight that makes a layer's output infinite is reported by the layer's number. */
static void a_run_names_the_layer_that_is_not_finite(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    const fur_model_config *c = &kit_model_cases[3].config;
    for (int64_t layer = 0; layer < c->layers; layer++) {
        fur_model *model = kit_model(context, c, 1);
        kit_row row;
        kit_row_create(c, (int64_t[]){40, 60, 0}, 1, 2, &row);
        kit_run run;
        kit_run_create(context, model, &row, 64, FUR_KEEP_NOTHING, &run);
        char name[80], expected[40];
        snprintf(name, sizeof name, "model.layers.%d.mlp.down_proj.weight", (int)layer);
        snprintf(expected, sizeof expected, "layer %d", (int)layer);
        for (int64_t i = 0; i < fur_model_parameters(model); i++) {
            fur_parameter_info p;
            fur_model_parameter(model, i, &p);
            if (strcmp(p.name, name) == 0)
                p.data[3] = NAN;
        }
        double loss;
        assert_int_equal(fur_model_loss_and_gradient(run.run, &row.row, NULL, 1, &loss, NULL), FUR_E_NONFINITE);
        if (!strstr(fur_context_error(context), expected))
            fail_msg("\"%s\" does not name %s", fur_context_error(context), expected);
        kit_run_destroy(&run);
        kit_row_destroy(&row);
        fur_model_destroy(model);
    }
    fur_context_destroy(context);
}

/* ---- sizes chosen to overflow ------------------------------------------------------------------------------------ */

static fur_model_config hostile(int which)
{
    fur_model_config c = {.vocabulary = 256,
                          .context = (int64_t)1 << 40,
                          .width = 64,
                          .layers = 2,
                          .heads = 4,
                          .kv_heads = 4,
                          .head_dim = 16,
                          .hidden = 128,
                          .norm = FUR_NORM_RMSNORM,
                          .norm_eps = 1e-5,
                          .activation = FUR_ACTIVATION_SWIGLU,
                          .position = FUR_POSITION_ROPE,
                          .rope_theta = 1e4,
                          .causal = true,
                          .init_std = 0.02};
    c.width = which & 1 ? 65536 : c.width;
    c.hidden = which & 2 ? (int64_t)1 << 20 : c.hidden;
    c.layers = which & 4 ? FUR_MAX_LAYERS : c.layers;
    c.heads = c.kv_heads = which & 8 ? 4096 : c.heads;
    c.head_dim = which & 8 ? 1024 : c.head_dim;
    c.vocabulary = which & 16 ? (int64_t)1 << 24 : c.vocabulary;
    if (which & 32) {
        fur_config_use_vectors(&c, (int64_t)1 << 20, (int64_t)1 << 20);
        c.bias = true;
    }
    return c;
}

static void plan_survives_sizes_chosen_to_overflow(void **state)
{
    (void)state;
    static const int64_t rows[] = {1, 4097, (int64_t)1 << 24, (int64_t)1 << 33, (int64_t)1 << 40};
    fur_context *context = kit_context(1);
    int plans = 0, refused = 0;
    for (int which = 0; which < 64; which++) {
        fur_model_config c = hostile(which);
        if (fur_config_check(context, &c) != FUR_OK) {
            refused++;
            continue;
        }
        int64_t last = 0;
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++, plans++) {
            fur_plan_request request = request_of(rows[r], (int64_t)1 << 33);
            request.superblock = which % 3 == 0 ? (int64_t)1 << 24 : 0;
            request.data_bytes = FUR_RUN_MOST_BYTES;
            fur_plan plan;
            kit_ok(context, fur_plan_make(context, &c, &request, &plan));
            check_items(&plan);
            assert_true(!plan.fits && isfinite(plan.seconds) && isfinite(plan.flops));
            assert_true(plan.peak_bytes >= last); /* longer rows are never smaller */
            last = plan.peak_bytes;
            request.data_bytes = 0;
            request.memory_bytes = 0;
            kit_ok(context, fur_plan_make(context, &c, &request, &plan));
            check_items(&plan);
            assert_true(plan.arena_bytes > 0 && plan.fits == (plan.arena_bytes < FUR_RUN_MOST_BYTES));
            assert_true(fur_plan_plain_attention_bytes(&c, rows[r]) > 0);
            assert_true(fur_plan_checkpointed_bytes(&c, rows[r]) > 0);
        }
        fur_plan_request request = request_of(1, (int64_t)1 << 35);
        int64_t longest;
        kit_ok(context, fur_plan_longest(context, &c, &request, &longest));
        assert_true(longest >= 0 && longest < (int64_t)1 << 33);
    }
    print_message("%d plans of sizes up to 2^40 tokens, %d configs refused\n", plans, refused);
    fur_context_destroy(context);
}

/* ---- windows ----------------------------------------------------------------------------------------------------- */

static int64_t item_bytes(const fur_plan *plan, const char *name)
{
    for (int i = 0; i < plan->item_count; i++)
        if (strcmp(plan->items[i].name, name) == 0)
            return plan->items[i].bytes;
    fail_msg("no item \"%s\"", name);
    return 0;
}

static int64_t keys_of(fur_context *context, const fur_model_config *c, int64_t tokens)
{
    fur_plan_request request = request_of(tokens, 0);
    request.superblock = 1024;
    fur_plan plan;
    kit_ok(context, fur_plan_make(context, c, &request, &plan));
    return item_bytes(&plan, "keys, values and their gradients");
}

/* Keys, values and their gradients of one group of heads, where the other places do not fit, in no more groups than it
 * takes; as many bytes as the arena then has, which fur_run_create compares in other tests. */
static void heads_in_groups_hold_a_part_of_the_keys(void **state)
{
    (void)state;
    enum { TOKENS = 1 << 16 };
    fur_context *context = kit_context(2);
    fur_model_config c;
    fur_plan plan, memory;
    kit_ok(context, fur_config_preset(context, "gpt2-124m", TOKENS, &c));
    fur_plan_request r = request_of(TOKENS, 0);
    int64_t bytes = (int64_t)16 * TOKENS * c.kv_heads * c.head_dim, slack = 2 * FUR_ARENA_ALIGN;
    r.disk_bytes = (int64_t)1 << 40;
    r.keys = FUR_STORE_DISK;
    for (r.key_groups = 1; r.key_groups <= c.kv_heads; r.key_groups++) {
        if (c.kv_heads % r.key_groups != 0)
            continue;
        kit_ok(context, fur_plan_make(context, &c, &r, &plan));
        check_items(&plan);
        int64_t held = item_bytes(&plan, "keys, values, gradients of a group of heads");
        assert_int_equal(plan.key_groups, r.key_groups);
        assert_true(held >= bytes / r.key_groups && held <= bytes / r.key_groups + slack);
    }
    r.key_groups = 0;
    kit_ok(context, fur_plan_make(context, &c, &r, &plan));
    assert_int_equal(plan.key_groups, c.kv_heads); /* all that can be is on disk */
    r.keys = FUR_STORE_MEMORY;
    r.memory_bytes = 1;
    kit_ok(context, fur_plan_make(context, &c, &r, &memory));
    assert_true(!memory.fits && memory.key_groups == 0);
    r.keys = FUR_STORE_CHOSEN;
    kit_ok(context, fur_plan_make(context, &c, &r, &plan));
    assert_true(!plan.fits && plan.key_groups == c.kv_heads && plan.peak_bytes < memory.peak_bytes - bytes / 4 * 3);
    int64_t before = 0;
    double seconds = 0;
    for (r.memory_bytes = memory.peak_bytes * 2; r.memory_bytes >= plan.peak_bytes; r.memory_bytes -= 1 << 25) {
        fur_plan chosen;
        kit_ok(context, fur_plan_make(context, &c, &r, &chosen));
        assert_true(chosen.fits && chosen.seconds >= seconds * 0.998);
        assert_true(r.memory_bytes >= memory.peak_bytes || chosen.key_groups >= 2);
        seconds = fmax(seconds, chosen.seconds);
        before = chosen.key_groups > before ? chosen.key_groups : before;
    }
    assert_int_equal(before, c.kv_heads);
    r.memory_bytes = memory.peak_bytes; /* longer rows than with keys in memory */
    int64_t longest;
    c.context = 1 << 22;
    kit_ok(context, fur_plan_longest(context, &c, &r, &longest));
    assert_true(longest > 2 * TOKENS);
    /* nothing to take apart: one key head; rows in sight */
    r = request_of(TOKENS, 0);
    r.disk_bytes = (int64_t)1 << 40;
    r.keys = FUR_STORE_DISK;
    kit_ok(context, fur_config_set_window(context, &c, "4096"));
    kit_ok(context, fur_plan_make(context, &c, &r, &plan));
    assert_true(plan.fits && plan.key_groups == 0);
    kit_ok(context, fur_config_preset(context, "gpt2-124m", TOKENS, &c));
    c.kv_heads = 1;
    kit_ok(context, fur_plan_make(context, &c, &r, &plan));
    assert_true(plan.fits && plan.key_groups == 0);
    fur_context_destroy(context);
}

/* Keys, values and their gradients of whole blocks in sight, however long the row; the largest layer counts. */
static void a_window_bounds_keys_and_values(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    fur_model_config c, other;
    kit_ok(context, fur_config_preset(context, "gpt2-124m", 1 << 20, &c));
    kit_ok(context, fur_config_set_window(context, &c, "4096@0-9,512@10-11"));
    int64_t bytes_of_row = 16 * c.kv_heads * c.head_dim, slack = 2 * FUR_ARENA_ALIGN;
    for (int64_t tokens = 1 << 13; tokens <= 1 << 20; tokens *= 2) {
        int64_t bytes = keys_of(context, &c, tokens);
        assert_true(bytes >= 5120 * bytes_of_row && bytes <= 5120 * bytes_of_row + slack);
    }
    assert_true(keys_of(context, &c, 5000) < 5120 * bytes_of_row); /* a row shorter than that */
    for (int k = 0; k < 3; k++) {
        other = c;
        if (k == 0)
            other.window[11] = 0;
        else if (k == 1)
            other.sink_tokens = 1;
        else
            other.causal = false;
        assert_true(keys_of(context, &other, 1 << 16) >= (1 << 16) * bytes_of_row); /* of the whole row */
    }
    kit_ok(context, fur_config_set_window(context, &c, "4096"));
    fur_plan_request request = request_of(1 << 20, (int64_t)8 << 30);
    request.disk_bytes = (int64_t)100 << 30;
    fur_plan plan;
    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
    assert_true(plan.fits && plan.peak_bytes <= (int64_t)8 << 30);
    kit_ok(context, fur_config_set_window(context, &c, "none"));
    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
    assert_true(plan.fits && plan.key_groups > 1);
    request.keys = FUR_STORE_MEMORY;
    kit_ok(context, fur_plan_make(context, &c, &request, &plan));
    assert_false(plan.fits);
    fur_context_destroy(context);
}

/* ---- peak memory of the process ---------------------------------------------------------------------------------- */

typedef struct big_run {
    const char *name;
    fur_model_config config;
    int64_t tokens;
    fur_keep keep;
    int on_ref; /* little enough work for the reference */
    fur_store_place inputs, attention, optimizer;
    int64_t window, superblock, key_groups;
} big_run;

/* clang-format off */
#define SHAPE(V, C, L, H, K, D, F)                                                                               \
    {.vocabulary = V, .context = 8192, .width = C, .layers = L, .heads = H, .kv_heads = K, .head_dim = D, .hidden = F, \
     .norm = FUR_NORM_RMSNORM, .norm_eps = 1e-5, .activation = FUR_ACTIVATION_SWIGLU, .position = FUR_POSITION_ROPE,   \
     .rope_theta = 1e4, .causal = true, .init_std = 0.02, .tied = true}
#define ANYWHERE FUR_STORE_CHOSEN, FUR_STORE_CHOSEN, FUR_STORE_CHOSEN
static const big_run big_runs[] = {
    {"mostly what is kept", SHAPE(256, 128, 16, 4, 4, 32, 512), 2048, FUR_KEEP_ALL, 0, ANYWHERE, 0, 0, 0},
    {"mostly weights, gradients, Adam", SHAPE(30000, 512, 2, 8, 2, 64, 1024), 16, FUR_KEEP_NOTHING, 1, ANYWHERE, 0, 0, 0},
    {"mostly layer inputs", SHAPE(256, 512, 48, 2, 1, 32, 64), 2048, FUR_KEEP_NOTHING, 0, ANYWHERE, 0, 0, 0},
    {"layer inputs of segments", SHAPE(256, 1024, 48, 2, 1, 32, 64), 2048, FUR_KEEP_NOTHING, 0,
     FUR_STORE_AGAIN, FUR_STORE_CHOSEN, FUR_STORE_CHOSEN, 0, 0, 0},
    {"all on disk", SHAPE(30000, 512, 8, 8, 8, 64, 1024), 128, FUR_KEEP_AUTO, 0, FUR_STORE_DISK, FUR_STORE_DISK,
     FUR_STORE_DISK, 0, 0, 0},
    {"a window", SHAPE(256, 512, 12, 4, 4, 64, 64), 8192, FUR_KEEP_NOTHING, 0, ANYWHERE, 256, 512, 0},
    {"heads in groups", SHAPE(30000, 512, 3, 8, 8, 64, 1024), 4096, FUR_KEEP_NOTHING, 0, ANYWHERE, 0, 512, 4},
};
/* clang-format on */

static fur_status touch(void *user, int64_t first, int64_t count, float *m, float *v)
{
    (void)user, (void)first;
    memset(m, 1, (size_t)count * sizeof *m);
    memset(v, 1, (size_t)count * sizeof *v);
    return FUR_OK;
}

/* What the child does: plans, runs one row, touches what an optimizer would; prints planned and measured bytes. */
static int measure(const big_run *big)
{
    fur_context *context = kit_context(2);
    fur_model_config config = big->config;
    for (int64_t layer = 0; layer < config.layers; layer++)
        config.window[layer] = big->window;
    fur_model *model;
    kit_ok(context, fur_model_create(context, &config, 1, &model));
    kit_row row;
    kit_row_create(&config, (int64_t[]){big->tokens, 0}, 1, 6, &row);
    kit_run run = {.context = context, .model = model};
    fur_plan_request_defaults(&run.request);
    run.request.row_tokens = row.tokens;
    run.request.keep = big->keep;
    run.request.superblock = big->superblock;
    run.request.measured_gflops = 100;
    bool disk = big->inputs == FUR_STORE_DISK || big->key_groups > 0;
    run.request.disk_bytes = disk ? (int64_t)1 << 32 : 0;
    run.request.inputs = big->inputs;
    run.request.attention = big->attention;
    run.request.optimizer = big->optimizer;
    run.request.keys = big->key_groups > 0 ? FUR_STORE_DISK : FUR_STORE_CHOSEN;
    run.request.key_groups = big->key_groups;
    kit_ok(context, fur_plan_make(context, &config, &run.request, &run.plan));
    kit_ok(context, fur_run_create(context, model, &run.plan, &run.request, &run.run));
    double loss;
    kit_ok(context, fur_moments_zero(&run.run->exec, &run.run->memory.moments));
    kit_ok(context, fur_model_loss_and_gradient(run.run, &row.row, NULL, 1.0, &loss, NULL));
    kit_ok(context, fur_moments_each(&run.run->exec, &run.run->memory.moments, true, touch, NULL));
    printf("%lld %lld\n", (long long)run.plan.peak_bytes, (long long)fur_process_peak_rss_bytes());
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
    return 0;
}

static void peak_memory_is_within_5_percent(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    int slow = strcmp(fur_context_isa(context), "ref") == 0;
    fur_context_destroy(context);
    for (size_t i = 0; i < sizeof big_runs / sizeof big_runs[0]; i++) {
        if ((slow || FUR_SANITIZED) && !big_runs[i].on_ref)
            continue;
        char command[4200];
        snprintf(command, sizeof command, "'%s' --measure %d", program, (int)i);
        FILE *child = popen(command, "r");
        assert_non_null(child);
        long long planned = 0, measured = 0;
        int read = fscanf(child, "%lld %lld", &planned, &measured);
        assert_int_equal(pclose(child), 0);
        assert_int_equal(read, 2);
        assert_true(planned > 200000000);
        if (FUR_SANITIZED) /* its own memory is several times the program's */
            continue;
        double error = (double)measured / (double)planned - 1;
        print_message("%-32s planned %.1f MB, peak %.1f MB: %+.1f %% (bound 5 %%)\n", big_runs[i].name,
                      (double)planned * 1e-6, (double)measured * 1e-6, 100 * error);
        assert_true(fabs(error) <= 0.05);
    }
}

/* The pairs that the plan counts, one by one: those that a window and its sink tokens show. */
static void attention_counts_what_a_window_shows(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++)
        for (int64_t window = 0; window < 70; window += 9)
            for (int64_t sinks = 0; sinks < 60; sinks += 7) {
                enum { N = 60 };
                fur_attention_shape shape = {.heads = 3, .kv_heads = 1, .head_dim = 5, .causal = causal};
                shape.features.window = window;
                shape.features.sink_tokens = sinks;
                fur_attention_cost cost;
                int64_t pairs = 0;
                for (int64_t i = 0; i < N; i++)
                    for (int64_t j = 0; j < (causal ? i + 1 : N); j++)
                        pairs += !window || llabs(i - j) < window || j < sinks;
                fur_attention_exact.cost(&shape, 4 * N, N, &cost); /* four such documents */
                double counted = cost.flops_forward / (4.0 * 15.0 * 4.0);
                if (!(fabs(counted - (double)pairs) <= 1e-6))
                    fail_msg("causal %d, window %d, %d sinks: %.1f pairs counted, there are %d", causal, (int)window,
                             (int)sinks, counted, (int)pairs);
            }
}

/* Draws of attention's dropout take time, and no operation that is counted. */
static void plan_counts_the_draws_of_dropout(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_plan plans[2];
    for (int drops = 0; drops < 2; drops++) {
        fur_model_config config = kit_model_cases[3].config;
        config.context = 1 << 20;
        config.attention_dropout = drops ? 0.1 : 0;
        fur_plan_request request;
        fur_plan_request_defaults(&request);
        request.row_tokens = 1 << 20; /* attention is nearly all of it */
        request.superblock = 4096;
        request.keep = FUR_KEEP_NOTHING;
        request.measured_gflops = 100;
        kit_ok(context, fur_plan_make(context, &config, &request, &plans[drops]));
    }
    double ratio = plans[1].seconds / plans[0].seconds;
    assert_true(ratio > 1.65 && ratio < 1.75);
    assert_true(plans[1].flops == plans[0].flops && plans[1].peak_bytes == plans[0].peak_bytes);
    fur_context_destroy(context);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--measure") == 0)
        return measure(&big_runs[strtol(argv[2], NULL, 10)]);
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_is_the_arena_to_the_byte),
        cmocka_unit_test(plan_holds_for_documents_of_one_token),
        cmocka_unit_test(plan_uses_the_memory_it_is_given),
        cmocka_unit_test(plan_longest_is_the_longest),
        cmocka_unit_test(plan_refuses_bad_requests),
        cmocka_unit_test(a_run_refuses_a_plan_that_does_not_fit),
        cmocka_unit_test(a_run_refuses_rows_outside_its_plan),
        cmocka_unit_test(a_run_names_the_layer_that_is_not_finite),
        cmocka_unit_test(plan_survives_sizes_chosen_to_overflow),
        cmocka_unit_test(attention_counts_what_a_window_shows),
        cmocka_unit_test(heads_in_groups_hold_a_part_of_the_keys),
        cmocka_unit_test(a_window_bounds_keys_and_values),
        cmocka_unit_test(plan_counts_the_draws_of_dropout),
        cmocka_unit_test(peak_memory_is_within_5_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
