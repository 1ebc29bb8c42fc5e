/* SPDX-License-Identifier: Apache-2.0 */
#include "head_errors.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int worse_first(const void *a, const void *b)
{
    double x = ((const fur_head_error *)a)->o.value, y = ((const fur_head_error *)b)->o.value;
    return (x < y) - (x > y);
}

fur_head_error *cli_head_errors_sorted(const fur_head_error *errors, int64_t count)
{
    fur_head_error *sorted = cli_resize(NULL, (size_t)(count > 0 ? count : 1), sizeof *sorted);
    memcpy(sorted, errors, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, worse_first);
    return sorted;
}

cli_head_summary cli_head_errors_summary(const fur_head_error *errors, int64_t count)
{
    cli_head_summary out = {.median = (double)NAN, .dq = (double)NAN, .dk = (double)NAN, .dv = (double)NAN};
    fur_head_error *sorted = cli_head_errors_sorted(errors, count);
    int64_t measured = 0;
    for (int64_t i = 0; i < count; i++) {
        const fur_head_error *e = &errors[i];
        out.exact += e->exact;
        if (!e->exact && (out.worst == NULL || e->o.value > out.worst->o.value))
            out.worst = e;
        out.dq = fmax(out.dq, e->dq.value); /* of NaN and a number, the number */
        out.dk = fmax(out.dk, e->dk.value);
        out.dv = fmax(out.dv, e->dv.value);
    }
    for (int64_t i = 0; i < count; i++)
        if (!sorted[i].exact)
            sorted[measured++] = sorted[i];
    if (measured > 0)
        out.median = sorted[measured / 2].o.value;
    cli_free(sorted);
    return out;
}

void cli_head_errors_line(cli_string *out, const fur_head_error *errors, int64_t count)
{
    cli_head_summary s = cli_head_errors_summary(errors, count);
    char worst[CLI_TWO_UNITS];
    if (s.worst == NULL) {
        cli_appendf(out, "attention: all %" PRId64 " heads are exact", count);
        return;
    }
    cli_sampled_error(worst, &s.worst->o);
    cli_appendf(out, "attention off by %s at most, layer %" PRId64 " head %" PRId64 "; median %.1e", worst,
                s.worst->layer, s.worst->head, s.median);
    if (isfinite(s.dq))
        cli_appendf(out, "; dq %.1e, dk %.1e, dv %.1e at most", s.dq, s.dk, s.dv);
    if (s.exact > 0)
        cli_appendf(out, "; %" PRId64 " of %" PRId64 " heads exact", s.exact, count);
}

void cli_sampled_error(char out[CLI_TWO_UNITS], const fur_sampled_error *e)
{
    if (isnan(e->value))
        (void)snprintf(out, CLI_TWO_UNITS, "-");
    else if (isinf(e->value)) /* the normaliser is not positive somewhere */
        (void)snprintf(out, CLI_TWO_UNITS, "fails");
    else if (e->low < e->high)
        (void)snprintf(out, CLI_TWO_UNITS, "%.1e (%.1e to %.1e)", e->value, e->low, e->high);
    else
        (void)snprintf(out, CLI_TWO_UNITS, "%.1e", e->value);
}

void cli_head_errors_print(const fur_head_error *errors, int64_t count, int64_t most, const char *fate, FILE *file,
                           const cli_style *style)
{
    fur_head_error *sorted = cli_head_errors_sorted(errors, count);
    bool gradients = count > 0 && isfinite(sorted[count - 1].dq.value);
    cli_table table;
    cli_table_init(&table, "rrlllrrr", "layer", "head", "output off by (95 %)", gradients ? "dq" : "", fate,
                   "far share", "far logits", "certified");
    for (int64_t i = 0; i < count && i < most; i++) {
        const fur_head_error *e = &sorted[i];
        char layer[CLI_UNIT], head[CLI_UNIT], o[CLI_TWO_UNITS], dq[CLI_TWO_UNITS], share[CLI_UNIT], spread[CLI_UNIT],
            certified[CLI_UNIT];
        (void)snprintf(layer, sizeof layer, "%" PRId64, e->layer);
        (void)snprintf(head, sizeof head, "%" PRId64, e->head);
        cli_sampled_error(o, &e->o);
        cli_sampled_error(dq, &e->dq);
        (void)snprintf(share, sizeof share, "%.2f", e->far_share);
        (void)snprintf(spread, sizeof spread, "%.2g", e->deviation);
        (void)snprintf(certified, sizeof certified, e->certificate < 1 ? "%.1e" : "nothing", e->certificate);
        cli_table_row(&table, layer, head, o, gradients ? dq : "", e->exact ? "exact" : "almost-linear", share, spread,
                      certified);
    }
    cli_table_print(&table, file, style);
    cli_table_clear(&table);
    if (count > most)
        fprintf(file, "and %" PRId64 " heads with smaller errors\n", count - most);
    cli_free(sorted);
}

static void add_interval(json_t *object, const char *key, const fur_sampled_error *e)
{
    const double values[3] = {e->value, e->low, e->high};
    json_t *list = json_array();
    for (int i = 0; i < 3; i++)
        (void)json_array_append_new(list, isfinite(values[i]) ? json_real(values[i]) : json_null());
    (void)json_object_set_new(object, key, list);
}

json_t *cli_head_errors_json(const fur_head_error *errors, int64_t count)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) {
        const fur_head_error *e = &errors[i];
        json_t *object = json_object();
        cli_json_int(object, "layer", e->layer);
        cli_json_int(object, "head", e->head);
        add_interval(object, "o", &e->o);
        add_interval(object, "dq", &e->dq);
        add_interval(object, "dk", &e->dk);
        add_interval(object, "dv", &e->dv);
        cli_json_real(object, "certificate", e->certificate);
        cli_json_real(object, "weight_error", e->weight_error);
        cli_json_real(object, "far_share", e->far_share);
        cli_json_real(object, "deviation", e->deviation);
        cli_json_real(object, "largest", e->largest);
        cli_json_bool(object, "exact", e->exact);
        (void)json_array_append_new(list, object);
    }
    return list;
}
