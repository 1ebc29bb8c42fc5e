/* SPDX-License-Identifier: Apache-2.0 */
/* Look-up tables through the trainer: rows that lag behind when a run is stopped go on to the same bits, whatever it
 * evaluates and saves on the way; an error after an update ends the run without a checkpoint; what does not go on. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "io/file.h"
#include "io/folder.h"
#include "kit/files.h"
#include "kit/model.h"

enum { STEPS = 70 }; /* more than FUR_LOOKUP_BEHIND */

typedef struct scene {
    fur_context *context;
    kit_folder folder;
    fur_corpus *corpus;
    fur_train_settings settings;
    int64_t stop_after; /* steps; 0: not stopped */
    char output[600];
} scene;

static void open_context(scene *s)
{
    fur_corpus_settings settings;
    const char *path = kit_path(&s->folder, "text");
    s->context = kit_context(1);
    fur_corpus_settings_defaults(&settings);
    settings.paths = &path;
    settings.path_count = 1;
    kit_ok(s->context, fur_corpus_open(s->context, &settings, &s->corpus));
}

static void close_context(scene *s)
{
    fur_corpus_close(s->corpus);
    fur_context_destroy(s->context);
}

static void open_scene(scene *s, const char *preset)
{
    char text[4096];
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + (i * i + i / 7) % 23);
    kit_folder_init(&s->folder);
    kit_write(&s->folder, "text", text, (int64_t)sizeof text);
    open_context(s);
    fur_train_settings_defaults(&s->settings);
    kit_ok(s->context, fur_config_preset(s->context, preset, 16, &s->settings.model));
    s->settings.model.layers = 1;
    s->settings.row_tokens = 64;
    s->settings.phases[0].context = 16;
    s->settings.max_steps = STEPS;
    s->settings.warmup_steps = 4;
    s->settings.eval_tokens = 64;
    s->settings.keep_checkpoints = 0;
}

static void close_scene(scene *s)
{
    close_context(s);
    kit_folder_clear(&s->folder);
}

static void on_event(void *user, const fur_train_event *event)
{
    scene *s = user;
    if (event->type == FUR_EVENT_STEP && event->step == s->stop_after)
        fur_context_stop(s->context);
}

static fur_status train(scene *s, const char *folder)
{
    fur_train_result result;
    snprintf(s->output, sizeof s->output, "%s/%s", s->folder.path, folder);
    s->settings.output_dir = s->output;
    return fur_train_run(s->context, &s->settings, s->corpus, NULL, on_event, s, &result);
}

static void same_end(const scene *s, const char *a, const char *b)
{
    static const char *const names[] = {"model.safetensors", "optimizer.safetensors"};
    for (int i = 0; i < 2; i++) {
        char path[700], *text[2];
        int64_t bytes[2];
        fur_error error;
        for (int k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/%s/step-%06d/%s", s->folder.path, k ? b : a, STEPS, names[i]);
            kit_expect_ok(&error, fur_file_read(&error, path, (int64_t)1 << 30, &text[k], &bytes[k]));
        }
        assert_int_equal(bytes[0], bytes[1]);
        kit_check_same_bits(names[i], text[0], text[1], (size_t)bytes[0]);
        fur_free(text[0]);
        fur_free(text[1]);
    }
}

static void stopped_runs_go_on_to_the_same_bits(void **state)
{
    (void)state;
    static const int64_t stops[] = {3, 66}; /* before and after all rows are caught up */
    scene s;
    open_scene(&s, "bytes-1m-lookup");
    kit_ok(s.context, train(&s, "straight"));
    for (int i = 0; i < 2; i++) {
        const char *folder = i ? "late" : "early";
        s.stop_after = stops[i];
        assert_int_equal(train(&s, folder), FUR_E_INTERRUPTED);
        close_context(&s); /* which was told to stop */
        open_context(&s);
        s.stop_after = 0;
        s.settings.resume = "latest";
        kit_ok(s.context, train(&s, folder));
        s.settings.resume = NULL;
        same_end(&s, "straight", folder);
    }
    s.settings.eval_steps = 5;
    s.settings.save_steps = 17;
    kit_ok(s.context, train(&s, "watched"));
    same_end(&s, "straight", "watched");
    close_scene(&s);
}

static void another_optimizer_does_not_go_on(void **state)
{
    (void)state;
    scene s;
    open_scene(&s, "bytes-1m-hybrid");
    s.settings.max_steps = 2;
    kit_ok(s.context, train(&s, "run"));
    s.settings.resume = "latest";
    s.settings.max_steps = 4;
    s.settings.table_adam = true;
    assert_int_equal(train(&s, "run"), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(s.context), "tables updated by adam: the checkpoint was made with lazy"));
    s.settings.table_adam = false;
    kit_ok(s.context, train(&s, "run"));
    close_scene(&s);
}

static float *parameter(const fur_model *model, const char *part, int64_t *count)
{
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        if (strstr(p.name, part)) {
            *count = p.count;
            return p.data;
        }
    }
    fail_msg("no parameter %s", part);
    return NULL;
}

static void scale(fur_model *model, const char *part, float by)
{
    int64_t count = 0;
    float *x = parameter(model, part, &count);
    for (int64_t i = 0; i < count; i++)
        x[i] *= by;
}

/* Weights with which loss and tables' gradients are finite, and the gradient of o is not: values of 1e36 that o brings
 * back to size, and a head that makes the loss's gradient large. */
static void save_overflowing(scene *s, const char *folder)
{
    fur_model *model;
    kit_ok(s->context, fur_model_create(s->context, &s->settings.model, 1, &model));
    scale(model, "v_proj", 1e36f);
    scale(model, "o_proj", 1e-36f);
    scale(model, "model.norm", 1e8f);
    kit_ok(s->context, fur_folder_create(&s->context->error, folder));
    kit_ok(s->context, fur_model_save(s->context, model, folder));
    fur_model_destroy(model);
}

static void an_error_after_an_update_ends_the_run(void **state)
{
    (void)state;
    scene s;
    char from[600];
    open_scene(&s, "bytes-1m-hybrid");
    snprintf(from, sizeof from, "%s/from", s.folder.path);
    save_overflowing(&s, from);
    s.settings.init_from = from;
    for (int skip = 0; skip < 2; skip++) {
        s.settings.skip_nonfinite = skip;
        assert_int_equal(train(&s, skip ? "skip" : "run"), FUR_E_NONFINITE);
        assert_non_null(strstr(fur_context_error(s.context), "step 1: after tables were updated, so that this step"));
        assert_non_null(strstr(fur_context_error(s.context), "o_proj"));
        assert_false(fur_path_exists(kit_path(&s.folder, skip ? "skip/latest" : "run/latest")));
    }
    close_scene(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stopped_runs_go_on_to_the_same_bits),
        cmocka_unit_test(another_optimizer_does_not_go_on),
        cmocka_unit_test(an_error_after_an_update_ends_the_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
