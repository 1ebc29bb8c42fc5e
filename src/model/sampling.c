/* SPDX-License-Identifier: Apache-2.0 */
#include "model/sampling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/random.h"
#include "base/size.h"

#define SAMPLING_STREAM 0x73616d70 /* its own stream of the seed */

void fur_sampling_defaults(fur_sampling *sampling)
{
    memset(sampling, 0, sizeof *sampling);
    sampling->struct_size = sizeof *sampling;
    sampling->temperature = 0.8f;
    sampling->top_k = 40;
    sampling->top_p = 0.95f;
    sampling->repeat_penalty = 1;
    sampling->repeat_last_n = 64;
    sampling->seed = 1;
}

fur_status fur_sampling_check(fur_context *context, const fur_sampling *s)
{
    fur_error *error = &context->error;
    if (s->struct_size != sizeof *s)
        return fur_error_set(error, FUR_E_ARGUMENT, "fur_sampling has %zu bytes, this library expects %zu",
                             s->struct_size, sizeof *s);
    if (!(s->temperature >= 0 && s->temperature < 1000))
        return fur_error_set(error, FUR_E_ARGUMENT, "temperature is %g, expected 0 to 1000", (double)s->temperature);
    if (s->top_k < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "top-k is %d, expected 0 (all) or more", s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return fur_error_set(error, FUR_E_ARGUMENT, "top-p is %g, expected above 0 and at most 1", (double)s->top_p);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return fur_error_set(error, FUR_E_ARGUMENT, "min-p is %g, expected 0 to 1", (double)s->min_p);
    if (!(s->repeat_penalty > 0 && s->repeat_penalty < 1000) || !(fabsf(s->presence_penalty) < 1000) ||
        !(fabsf(s->frequency_penalty) < 1000) || s->repeat_last_n < -1)
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "penalties: repeat %g, presence %g, frequency %g of the last %d, expected above 0, both "
                             "below 1000 in size, and -1 or more",
                             (double)s->repeat_penalty, (double)s->presence_penalty, (double)s->frequency_penalty,
                             s->repeat_last_n);
    return FUR_OK;
}

static int by_falling_logit(const void *a, const void *b)
{
    const fur_candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool is_before(const fur_candidate *a, const fur_candidate *b)
{
    return a->logit > b->logit || (a->logit >= b->logit && a->id < b->id);
}

/* Candidates, of which the first `sorted` are the likeliest, in order. */
typedef struct ranking {
    fur_candidate *list;
    int64_t count, sorted;
} ranking;

/* list[0 .. wanted) become the likeliest of `count`, in no order (Hoare's selection). */
static void select_first(fur_candidate *list, int64_t count, int64_t wanted)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        fur_candidate pivot = list[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (is_before(&list[i], &pivot))
                i++;
            while (is_before(&pivot, &list[j]))
                j--;
            if (i <= j) {
                fur_candidate other = list[i];
                list[i++] = list[j];
                list[j--] = other;
            }
        }
        if (wanted <= j + 1)
            high = j;
        else if (wanted > i)
            low = i;
        else
            return;
    }
}

/* At least so many are in order; more, so that the next ones come cheaply. */
static void rank(ranking *r, int64_t wanted)
{
    if (wanted <= r->sorted)
        return;
    int64_t next = fur_min_i64(r->count, fur_max_i64(wanted, fur_max_i64(64, 2 * r->sorted)));
    fur_candidate *rest = r->list + r->sorted;
    select_first(rest, r->count - r->sorted, next - r->sorted);
    qsort(rest, (size_t)(next - r->sorted), sizeof *rest, by_falling_logit);
    r->sorted = next;
}

/* Weight of a candidate, against the likeliest one's 1. */
static double weight(const ranking *r, int64_t index, double temperature)
{
    return exp(((double)r->list[index].logit - (double)r->list[0].logit) / temperature);
}

static double total_weight(const ranking *r, int64_t kept, double temperature)
{
    double total = 0;
    for (int64_t i = 0; i < kept; i++)
        total += weight(r, i, temperature);
    return total;
}

static void penalise(const fur_sampling *s, const int32_t *past, int64_t count, fur_candidate *list)
{
    int64_t last = s->repeat_last_n < 0 ? count : fur_min_i64(count, s->repeat_last_n);
    bool none = !(s->repeat_penalty < 1 || s->repeat_penalty > 1) && !(fabsf(s->presence_penalty) > 0) &&
                !(fabsf(s->frequency_penalty) > 0);
    if (none)
        return;
    for (int64_t i = count - last; i < count; i++) {
        fur_candidate *c = &list[past[i]];
        if (c->id >= 0) { /* the first time; a negative id says that it was seen */
            c->logit = c->logit > 0 ? c->logit / s->repeat_penalty : c->logit * s->repeat_penalty;
            c->logit -= s->presence_penalty;
            c->id = -1;
        }
        c->logit -= s->frequency_penalty;
    }
    for (int64_t i = count - last; i < count; i++)
        list[past[i]].id = past[i];
}

/* How many of the likeliest are drawn among. */
static int64_t kept_of(const fur_sampling *s, ranking *r)
{
    int64_t kept = s->top_k > 0 ? fur_min_i64(s->top_k, r->count) : r->count;
    rank(r, kept < r->count ? kept : 1);
    if (s->top_p < 1) {
        double limit = (double)s->top_p * total_weight(r, kept, 1), sum = 0;
        int64_t nucleus = 0;
        while (nucleus < kept && (nucleus == 0 || sum < limit)) {
            rank(r, nucleus + 1);
            sum += weight(r, nucleus++, 1);
        }
        kept = nucleus;
    }
    if (s->min_p > 0) {
        int64_t likely = 0;
        for (int64_t i = 0; i < kept; i++)
            likely += weight(r, i, 1) >= (double)s->min_p;
        kept = likely;
        rank(r, kept);
    }
    return kept;
}

int32_t fur_sample(const fur_sampling *s, uint64_t draw, int64_t vocabulary, const float *logits_V, const int32_t *past,
                   int64_t past_count, fur_candidate *scratch)
{
    ranking r = {.list = scratch, .count = vocabulary};
    for (int64_t v = 0; v < vocabulary; v++)
        scratch[v] = (fur_candidate){logits_V[v], (int32_t)v};
    penalise(s, past, past_count, scratch);
    if (s->temperature == 0.0f) {
        int64_t best = 0;
        for (int64_t v = 1; v < vocabulary; v++)
            if (is_before(&scratch[v], &scratch[best]))
                best = v;
        return scratch[best].id;
    }
    int64_t kept = kept_of(s, &r);
    double temperature = (double)s->temperature;
    double point = fur_random_uniform(s->seed, SAMPLING_STREAM, draw) * total_weight(&r, kept, temperature);
    for (int64_t i = 0; i < kept; i++) {
        rank(&r, i + 1);
        point -= weight(&r, i, temperature);
        if (point < 0)
            return r.list[i].id;
    }
    return r.list[kept - 1].id;
}
