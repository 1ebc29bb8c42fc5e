/* SPDX-License-Identifier: Apache-2.0 */
/* Windows and RoPE scaling from the words of the command line. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "model/config.h"

/* ---- windows ---------------------------------------------------------------------------------------------------- */

/* "4096", "4K", "1M"; "none" is 0. */
static bool parse_window(const char *text, int64_t *out)
{
    char *end;
    if (strcmp(text, "none") == 0) {
        *out = 0;
        return true;
    }
    errno = 0;
    long long value = strtoll(text, &end, 10);
    int64_t unit = *end == 'K' || *end == 'k' ? 1 << 10 : *end == 'M' || *end == 'm' ? 1 << 20 : 1;
    end += unit > 1;
    if (end == text || *end || errno || value < 0 || value > ((int64_t)1 << 40) / unit)
        return false;
    *out = value * unit;
    return true;
}

/* "WINDOW" or "WINDOW@FIRST[-LAST]" */
static fur_status set_window_part(fur_context *context, fur_model_config *config, const char *part, size_t length)
{
    char text[64];
    if (length == 0 || length >= sizeof text)
        return fur_error_set(&context->error, FUR_E_ARGUMENT, "--window: expected WINDOW or WINDOW@FIRST-LAST,...");
    memcpy(text, part, length);
    text[length] = 0;
    int64_t first = 0, last = config->layers - 1, window = 0;
    char *at = strchr(text, '@');
    if (at) {
        FUR_TRY(fur_config_layer_range(&context->error, config, "--window", at + 1, &first, &last));
        *at = 0;
    }
    bool good = parse_window(text, &window), whole = good && window >= config->context;
    bool zero = good && window == 0 && strcmp(text, "none") != 0;
    for (int64_t layer = first; layer <= last; layer++)
        good = good && !(zero && !fur_config_is_almost_linear(config, layer));
    if (!good)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "--window: '%s', expected 1 token or more (0 or more for almost-linear layers), or none",
                             text);
    if (whole)
        fur_log(context, FUR_LOG_INFO, "a window of %lld is no window in a context of %lld", (long long)window,
                (long long)config->context);
    /* to almost-linear layers all of the context is near then, which is exact attention */
    for (int64_t layer = first; layer <= last; layer++)
        config->window[layer] = whole ? (fur_config_is_almost_linear(config, layer) ? config->context : 0) : window;
    return FUR_OK;
}

fur_status fur_config_set_window(fur_context *context, fur_model_config *config, const char *spec)
{
    return fur_config_set_parts(context, config, spec, set_window_part);
}

/* ---- RoPE scaling ----------------------------------------------------------------------------------------------- */

static const char *const scalings[] = {"none", "linear", "ntk", "dynamic", "yarn", "llama3"};
enum { SCALINGS = sizeof scalings / sizeof scalings[0] };

const char *fur_rope_scaling_name(int type)
{
    return type >= 0 && type < SCALINGS ? scalings[type] : NULL;
}

bool fur_rope_scaling_has_original(fur_rope_scaling_type type)
{
    return type == FUR_ROPE_DYNAMIC || type == FUR_ROPE_YARN || type == FUR_ROPE_LLAMA3;
}

/* 0 is the default. */
static bool same(double a, double b, double otherwise)
{
    a = a > 0 ? a : otherwise;
    b = b > 0 ? b : otherwise;
    return !(a < b) && !(a > b);
}

bool fur_rope_scaling_same(const fur_rope_scaling *a, const fur_rope_scaling *b)
{
    return a->type == b->type && same(a->factor, b->factor, 1) && a->original_context == b->original_context &&
           same(a->attention_factor, b->attention_factor, 0) && same(a->beta_fast, b->beta_fast, 32) &&
           same(a->beta_slow, b->beta_slow, 1) && same(a->low_freq_factor, b->low_freq_factor, 1) &&
           same(a->high_freq_factor, b->high_freq_factor, 4) && a->unrounded == b->unrounded;
}

fur_status fur_config_set_rope_scaling(fur_context *context, fur_model_config *config, const char *spec)
{
    fur_rope_scaling scaling = {0};
    size_t length = strcspn(spec, ":");
    int type = 0;
    while (type < SCALINGS && (strlen(scalings[type]) != length || strncmp(scalings[type], spec, length) != 0))
        type++;
    scaling.type = (fur_rope_scaling_type)type;
    char *end = (char *)(uintptr_t)(spec + length);
    bool good = type < SCALINGS;
    if (good && type != FUR_ROPE_PLAIN) {
        good = *end == ':';
        if (good)
            scaling.factor = strtod(end + 1, &end);
        if (good && fur_rope_scaling_has_original(scaling.type)) {
            good = *end == ':';
            if (good)
                scaling.original_context = strtoll(end + 1, &end, 10);
        }
    }
    if (!good || *end)
        return fur_error_set(&context->error, FUR_E_ARGUMENT,
                             "--rope-scaling: '%s', expected linear:FACTOR, ntk:FACTOR, dynamic:FACTOR:ORIGINAL, "
                             "yarn:FACTOR:ORIGINAL, llama3:FACTOR:ORIGINAL or none",
                             spec);
    FUR_TRY(fur_rope_scaling_check(&context->error, config, &scaling));
    if (!fur_rope_scaling_same(&scaling, &config->rope_scaling))
        config->family[0] = 0; /* its file did not say that */
    config->rope_scaling = scaling;
    return FUR_OK;
}

fur_status fur_rope_scaling_check(fur_error *error, const fur_model_config *c, const fur_rope_scaling *s)
{
    if (s->type == FUR_ROPE_PLAIN)
        return FUR_OK;
    if (!fur_rope_scaling_name((int)s->type))
        return fur_error_set(error, FUR_E_ARGUMENT, "RoPE scaling of unknown type %d", (int)s->type);
    if (c->position != FUR_POSITION_ROPE)
        return fur_error_set(error, FUR_E_ARGUMENT, "RoPE scaling %s with %s positions: expected RoPE",
                             scalings[s->type], c->position == FUR_POSITION_ALIBI ? "ALiBi" : "learned");
    if (!(s->factor >= 1 && s->factor <= 1e6))
        return fur_error_set(error, FUR_E_ARGUMENT, "RoPE scaling factor %g, expected 1 to 1e6", s->factor);
    if (fur_rope_scaling_has_original(s->type) && (s->original_context < 1 || s->original_context > (int64_t)1 << 40))
        return fur_error_set(error, FUR_E_ARGUMENT, "RoPE scaling %s: original context %lld, expected 1 to 2^40",
                             scalings[s->type], (long long)s->original_context);
    double fast = s->beta_fast > 0 ? s->beta_fast : 32, slow = s->beta_slow > 0 ? s->beta_slow : 1;
    double low = s->low_freq_factor > 0 ? s->low_freq_factor : 1;
    double high = s->high_freq_factor > 0 ? s->high_freq_factor : 4;
    if (!(fast >= slow && high > low && isfinite(fast) && isfinite(high)) ||
        !(s->attention_factor >= 0 && s->attention_factor < 1e6))
        return fur_error_set(error, FUR_E_ARGUMENT,
                             "RoPE scaling %s: beta_fast %g, beta_slow %g, low_freq_factor %g, high_freq_factor %g, "
                             "attention_factor %g",
                             scalings[s->type], fast, slow, low, high, s->attention_factor);
    return FUR_OK;
}
