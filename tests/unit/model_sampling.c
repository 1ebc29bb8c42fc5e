/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling: frequencies of many draws against the distribution that the definitions give, made here by sorting all
 * candidates: each within 5 standard deviations and 5. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kit/kit.h"
#include "model/sampling.h"

enum { VOCABULARY = 700, DRAWS = 20000 };

typedef struct token {
    double logit;
    int32_t id;
} token;

static int by_logit(const void *a, const void *b)
{
    const token *x = a, *y = b;
    if (x->logit < y->logit || x->logit > y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Probabilities by id. */
static void define(const fur_sampling *s, const float *logits, const int32_t *past, int64_t past_count, double *p)
{
    token list[VOCABULARY];
    int64_t from = s->repeat_last_n < 0 || s->repeat_last_n > past_count ? 0 : past_count - s->repeat_last_n;
    for (int32_t v = 0; v < VOCABULARY; v++) {
        double x = (double)logits[v];
        int times = 0;
        for (int64_t i = from; i < past_count; i++)
            times += past[i] == v;
        if (times > 0) {
            x = x > 0 ? x / (double)s->repeat_penalty : x * (double)s->repeat_penalty;
            x -= (double)s->presence_penalty + times * (double)s->frequency_penalty;
        }
        list[v] = (token){x, v};
        p[v] = 0;
    }
    qsort(list, VOCABULARY, sizeof list[0], by_logit);
    int kept = s->top_k > 0 && s->top_k < VOCABULARY ? s->top_k : VOCABULARY;
    double total = 0, sum = 0;
    for (int i = 0; i < kept; i++)
        total += exp(list[i].logit);
    int nucleus = 0;
    while (nucleus < kept && (nucleus == 0 || sum < (double)s->top_p * total))
        sum += exp(list[nucleus++].logit);
    kept = nucleus;
    while (kept > 1 && exp(list[kept - 1].logit - list[0].logit) < (double)s->min_p)
        kept--;
    total = 0;
    for (int i = 0; i < kept; i++)
        total += exp(list[i].logit / (double)s->temperature);
    for (int i = 0; i < kept; i++)
        p[list[i].id] = exp(list[i].logit / (double)s->temperature) / total;
}

static void check(const char *name, fur_sampling s)
{
    float logits[VOCABULARY];
    int32_t past[90];
    int counts[VOCABULARY] = {0};
    double p[VOCABULARY];
    fur_candidate scratch[VOCABULARY];
    kit_fill_f32(logits, VOCABULARY, KIT_NORMAL, 11);
    for (int i = 0; i < VOCABULARY; i++)
        logits[i] = 2 * logits[i] + (i % 50 == 0 ? 3.0f : 0.0f);
    for (int i = 0; i < 90; i++)
        past[i] = i * 50 % VOCABULARY;
    define(&s, logits, past, 90, p);
    for (uint64_t draw = 0; draw < DRAWS; draw++) {
        int32_t id = fur_sample(&s, draw, VOCABULARY, logits, past, 90, scratch);
        assert_in_range(id, 0, VOCABULARY - 1);
        counts[id]++;
    }
    for (int v = 0; v < VOCABULARY; v++)
        if (!(fabs(counts[v] - DRAWS * p[v]) <= 5 * sqrt(DRAWS * p[v] * (1 - p[v])) + 5))
            fail_msg("%s: token %d came %d times, expected %.1f", name, v, counts[v], DRAWS * p[v]);
}

static void draws_follow_the_definitions(void **state)
{
    (void)state;
    fur_sampling s;
    fur_sampling_defaults(&s);
    s.seed = 5;
    check("the defaults", s);
    s.top_k = 0, s.top_p = 1, s.temperature = 1;
    check("everything", s);
    s.temperature = 2.5f;
    check("hot", s);
    s.top_p = 0.9f;
    check("top-p", s);
    s.top_p = 1, s.min_p = 0.05f, s.temperature = 0.7f;
    check("min-p", s);
    s.top_k = 7, s.top_p = 0.8f;
    check("top-k, top-p and min-p", s);
    s.top_k = 0, s.top_p = 1, s.min_p = 0, s.repeat_penalty = 1.4f;
    check("repeat penalty", s);
    s.presence_penalty = 0.5f, s.frequency_penalty = 0.3f;
    check("all penalties", s);
    s.repeat_last_n = -1;
    check("of everything", s);
    s.repeat_last_n = 3, s.top_k = 40;
    check("of the last three", s);
}

static void zero_temperature_is_the_likeliest(void **state)
{
    (void)state;
    float logits[VOCABULARY];
    fur_candidate scratch[VOCABULARY];
    fur_sampling s;
    kit_fill_f32(logits, VOCABULARY, KIT_NORMAL, 12);
    logits[100] = logits[90] = 9;
    fur_sampling_defaults(&s);
    s.temperature = 0;
    assert_int_equal(fur_sample(&s, 0, VOCABULARY, logits, NULL, 0, scratch), 90);
    s.repeat_penalty = 2;
    assert_int_equal(fur_sample(&s, 0, VOCABULARY, logits, (int32_t[]){90}, 1, scratch), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(draws_follow_the_definitions),
                                       cmocka_unit_test(zero_temperature_is_the_likeliest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
