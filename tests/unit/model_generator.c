/* SPDX-License-Identifier: Apache-2.0 */
/* A generator continues as fur_generate does, however its text is fed; begins anew; and refuses what has no place. */
#include <string.h>

#include "kit/model.h"

enum { PROMPT = 11, NEW = 30 };

typedef struct text {
    int64_t count;
    int32_t ids[NEW];
} text;

static int take(void *user, int32_t id)
{
    text *t = user;
    t->ids[t->count++] = id;
    return 0;
}

static void continues(fur_context *context, fur_generator *g, const text *want)
{
    fur_sampling greedy;
    fur_sampling_defaults(&greedy);
    greedy.temperature = 0;
    for (int64_t i = 0; i < want->count; i++) {
        int32_t id, again;
        kit_ok(context, fur_generator_next(g, &greedy, &id));
        kit_ok(context, fur_generator_next(g, &greedy, &again));
        assert_int_equal(id, again);
        assert_int_equal(id, want->ids[i]);
        kit_ok(context, fur_generator_feed(g, &id, 1));
    }
}

static void a_fed_text_continues_the_same(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    for (int i = 0; i < kit_model_case_count; i++) {
        const fur_model_config *c = &kit_model_cases[i].config;
        if (!c->causal || c->features)
            continue;
        fur_model_config config = kit_config_for(c, 512);
        fur_model *model = kit_model(context, &config, 3);
        fur_generator *g;
        int32_t prompt[PROMPT];
        const int32_t *ids;
        text want = {0};
        fur_sampling greedy;
        fur_sampling_defaults(&greedy);
        greedy.temperature = 0;
        for (int32_t t = 0; t < PROMPT; t++)
            prompt[t] = (7 * t + 3) % (int32_t)config.vocabulary;
        kit_ok(context, fur_generate(context, model, prompt, PROMPT, NEW, &greedy, 0, take, &want));
        kit_ok(context, fur_generator_open(context, model, PROMPT + NEW, 0, &g));
        for (int piece = 1; piece <= PROMPT; piece += 4) {
            fur_generator_restart(g);
            for (int at = 0; at < PROMPT; at += piece)
                kit_ok(context, fur_generator_feed(g, prompt + at, at + piece < PROMPT ? piece : PROMPT - at));
            continues(context, g, &want);
            assert_int_equal(fur_generator_tokens(g, &ids), PROMPT + NEW);
            assert_memory_equal(ids, prompt, sizeof prompt);
            assert_memory_equal(ids + PROMPT, want.ids, sizeof want.ids);
        }
        fur_generator_close(g);
        fur_model_destroy(model);
    }
    fur_context_destroy(context);
}

static void what_has_no_place_is_refused(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model_config config = kit_config_for(&kit_model_cases[0].config, 64);
    fur_model *model = kit_model(context, &config, 3);
    fur_generator *g;
    int32_t id = 1, bad = (int32_t)config.vocabulary;
    fur_sampling s;
    fur_sampling_defaults(&s);
    assert_int_equal(fur_generator_open(context, model, 0, 0, &g), FUR_E_ARGUMENT);
    assert_int_equal(fur_generator_open(context, model, config.context + 1, 0, &g), FUR_E_ARGUMENT);
    assert_int_equal(fur_generator_open(context, model, 4, 1000, &g), FUR_E_DOES_NOT_FIT);
    assert_null(g);
    kit_ok(context, fur_generator_open(context, model, 2, 0, &g));
    assert_int_equal(fur_generator_next(g, &s, &id), FUR_E_ARGUMENT);
    assert_int_equal(fur_generator_feed(g, &bad, 1), FUR_E_ARGUMENT);
    kit_ok(context, fur_generator_feed(g, (int32_t[]){1, 2}, 2));
    assert_int_equal(fur_generator_feed(g, &id, 1), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(context), "1 more tokens, expected 0 to 0"));
    s.min_p = 2;
    assert_int_equal(fur_generator_next(g, &s, &id), FUR_E_ARGUMENT);
    fur_generator_close(g);
    fur_generator_close(NULL);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_fed_text_continues_the_same),
                                       cmocka_unit_test(what_has_no_place_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
