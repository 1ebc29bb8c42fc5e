/* SPDX-License-Identifier: Apache-2.0 */
/* The audit of a whole model: heads over target stay exact and the loss stays what it was; a head whose normaliser
 * fails becomes exact, is said once, and the loss is that of exact attention; measured errors are the same whatever the
 * blocks; a model that stops measuring or changes its limit keeps its weights. */
#include <math.h>
#include <string.h>

#include "kit/files.h"
#include "kit/model.h"

static int warnings;

static void on_log(void *user, fur_log_level level, const char *line)
{
    (void)user;
    warnings += level == FUR_LOG_WARNING;
    print_message("  %s\n", line);
}

static fur_context *context_with_log(void)
{
    fur_context_settings settings;
    fur_context *context;
    char error[256];
    fur_context_settings_defaults(&settings);
    settings.threads = 2;
    settings.log = on_log;
    assert_int_equal(fur_context_create(&settings, &context, error, sizeof error), FUR_OK);
    warnings = 0;
    return context;
}

static fur_model_config config_of(void)
{
    return (fur_model_config){.vocabulary = 256,
                              .context = 512,
                              .width = 32,
                              .layers = 3,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_dim = 8,
                              .hidden = 48,
                              .norm = FUR_NORM_RMSNORM,
                              .norm_eps = 1e-5,
                              .activation = FUR_ACTIVATION_SWIGLU,
                              .position = FUR_POSITION_ROPE,
                              .rope_theta = 500,
                              .causal = true,
                              .init_std = 0.1,
                              .window = {0, 100, 0}};
}

static fur_corpus *corpus_of(fur_context *context, const kit_folder *folder)
{
    char text[2048];
    fur_corpus_settings settings;
    fur_corpus *corpus;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + (i * i + i / 7) % 23);
    const char *path = kit_write(folder, "text", text, (int64_t)sizeof text);
    fur_corpus_settings_defaults(&settings);
    settings.paths = &path;
    settings.path_count = 1;
    kit_ok(context, fur_corpus_open(context, &settings, &corpus));
    return corpus;
}

static int exact_of(const fur_audit_result *result)
{
    int count = 0;
    for (int64_t i = 0; i < result->error_count; i++)
        count += result->errors[i].exact;
    return count;
}

static void test_audit(void **state)
{
    (void)state;
    fur_context *context = context_with_log();
    kit_folder folder;
    kit_folder_init(&folder);
    fur_corpus *corpus = corpus_of(context, &folder);
    fur_model_config config = config_of();
    fur_model *model = kit_model(context, &config, 3), *mixed;
    fur_audit_settings settings;
    fur_audit_result result;
    fur_audit_settings_defaults(&settings);
    settings.context_tokens = 512;
    settings.chunk = 32;

    settings.max_error = 1e-8; /* nothing is that exact */
    kit_ok(context, fur_audit(context, model, corpus, &settings, &result, &mixed));
    assert_null(mixed);
    assert_int_equal(result.error_count, 8); /* two layers of four heads: the third has a window */
    assert_int_equal(exact_of(&result), 8);
    fur_audit_result_clear(&result);

    settings.max_error = 100; /* everything is */
    kit_ok(context, fur_audit(context, model, corpus, &settings, &result, &mixed));
    assert_non_null(mixed);
    assert_int_equal(exact_of(&result), 0);
    double all = fabs(result.mixed_loss - result.exact_loss), median = result.errors[3].o.value;
    fur_audit_result_clear(&result);

    settings.max_error = median; /* some are */
    fur_model_destroy(mixed);
    kit_ok(context, fur_audit(context, model, corpus, &settings, &result, &mixed));
    assert_non_null(mixed);
    assert_true(exact_of(&result) > 0 && exact_of(&result) < 8 && exact_of(&result) % 2 == 0); /* groups of two */
    for (int64_t i = 0; i < result.error_count; i++)
        assert_true(result.errors[i].exact || result.errors[i].o.value <= median);
    print_message("loss moves by %.1e with all heads almost-linear, by %.1e with those within %.1e\n", all,
                  fabs(result.mixed_loss - result.exact_loss), median);
    assert_true(fabs(result.mixed_loss - result.exact_loss) <= 0.1 * median);

    /* saved and read again it is the same; a polynomial that is negative makes its heads exact, and so the loss */
    const char *path = kit_path(&folder, "");
    kit_ok(context, fur_model_save(context, mixed, path));
    fur_model *again;
    kit_ok(context, fur_model_load(context, path, &again));
    fur_eval_result eval;
    fur_eval_settings eval_settings;
    fur_eval_settings_defaults(&eval_settings);
    eval_settings.context_tokens = 512;
    kit_ok(context, fur_evaluate(context, again, corpus, &eval_settings, &eval));
    assert_true(eval.loss == result.mixed_loss);
    for (int64_t i = 0; i < fur_model_parameters(again); i++) {
        fur_parameter_info p;
        fur_model_parameter(again, i, &p);
        for (int64_t j = 0; strstr(p.name, "far_coefficients") && j < p.count; j += 3)
            p.data[j] = -1e4f;
    }
    warnings = 0;
    kit_ok(context, fur_evaluate(context, again, corpus, &eval_settings, &eval));
    assert_in_range(warnings, 1, 4);
    print_message("loss with heads that failed made exact: %.7f, exact %.7f\n", eval.loss, result.exact_loss);
    assert_true(fabs(eval.loss - result.exact_loss) <= 2e-6);
    int said = warnings;
    kit_ok(context, fur_evaluate(context, again, corpus, &eval_settings, &eval));
    assert_int_equal(warnings, said);
    fur_audit_result_clear(&result);
    fur_model_destroy(again);
    fur_model_destroy(mixed);
    fur_model_destroy(model);
    fur_corpus_close(corpus);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

/* The same errors from rows in one block, in several, and from a ring that does not hold the row. */
static void test_blocks(void **state)
{
    (void)state;
    static const int64_t lengths[] = {400, 70, 42, 0}, blocks[] = {1024, 96, 37};
    fur_context *context = kit_context(2);
    fur_model_config config = config_of();
    for (int causal = 0; causal < 2; causal++) {
        fur_head_error first[12], got[12];
        config.causal = causal;
        memset(config.attention, 1, 3);
        config.window[1] = 40;
        config.far_degree = 2;
        config.far_bound = 2;
        config.far_chunk = 16;
        config.far_max_features = 1000;
        config.far_bias = true;
        fur_model *model = kit_model(context, &config, 4);
        kit_row row;
        kit_row_create(&config, lengths, 1, 5, &row);
        for (size_t b = 0; b < sizeof blocks / sizeof blocks[0]; b++) {
            kit_run run;
            double loss;
            kit_run_create(context, model, &row, blocks[b], FUR_KEEP_NOTHING, &run);
            kit_ok(context, fur_run_measure_errors(run.run, 9, false));
            kit_ok(context, fur_model_loss_and_gradient(run.run, &row.row, NULL, 1.0, &loss, NULL));
            assert_int_equal(fur_run_head_errors(run.run, b == 0 ? first : got), 12);
            for (int i = 0; i < 12 && b > 0; i++) {
                const double pairs[][2] = {
                    {first[i].o.value, got[i].o.value},    {first[i].dq.value, got[i].dq.value},
                    {first[i].dk.value, got[i].dk.value},  {first[i].dv.value, got[i].dv.value},
                    {first[i].o.high, got[i].o.high},      {first[i].certificate, got[i].certificate},
                    {first[i].deviation, got[i].deviation}};
                for (size_t j = 0; j < sizeof pairs / sizeof pairs[0]; j++)
                    if (!(fabs(pairs[j][0] - pairs[j][1]) <= 1e-6 + 2e-3 * pairs[j][0]))
                        fail_msg("head %d, figure %d: %.6g in one block, %.6g in blocks of %d", i, (int)j, pairs[j][0],
                                 pairs[j][1], (int)blocks[b]);
            }
            kit_run_destroy(&run);
        }
        kit_row_destroy(&row);
        fur_model_destroy(model);
    }
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_audit), cmocka_unit_test(test_blocks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
