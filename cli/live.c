/* SPDX-License-Identifier: Apache-2.0 */
/* The moving line. */
#include "live.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "head_errors.h"

static const double ln2 = 0.69314718055994530942;

void cli_live_init(cli_live *live, FILE *file, bool bytes)
{
    memset(live, 0, sizeof *live);
    live->file = file;
    cli_style_of(file, &live->style);
    live->every = live->style.terminal ? 0.1 : 10.0;
    live->bytes = bytes;
    live->last = -1e9;
    live->loss_stride = 1;
}

void cli_live_clear(void *self)
{
    cli_live *live = self;
    if (live->shown)
        fputs("\r\033[K", live->file);
    live->shown = false;
}

/* Dots of a braille cell from the bottom: left column 7,3,2,1, right column 8,6,5,4. */
void cli_sparkline(cli_string *out, const double *values, int count, int cells)
{
    static const unsigned char left[5] = {0, 0x40, 0x44, 0x46, 0x47}, right[5] = {0, 0x80, 0xA0, 0xB0, 0xB8};
    double low = HUGE_VAL, high = -HUGE_VAL;
    /* the first tenth is steep: what is above the rest is cut off, so that the rest has a shape */
    for (int i = 0; i < count; i++) {
        low = values[i] < low ? values[i] : low;
        if (i >= count / 10)
            high = values[i] > high ? values[i] : high;
    }
    double scale = high > low ? 3.0 / (high - low) : 0.0;
    int columns = 2 * cells;
    for (int cell = 0; cell < cells; cell++) {
        unsigned dots = 0;
        for (int side = 0; side < 2; side++) {
            int column = 2 * cell + side;
            /* with fewer values than columns the curve grows from the left */
            int first = count < columns ? column : (int)((int64_t)column * count / columns);
            if (first >= count || !isfinite(values[first]))
                continue;
            int level = 1 + (int)lround(fmin((values[first] - low) * scale, 3.0));
            dots |= side == 0 ? left[level] : right[level];
        }
        /* U+2800 + dots */
        char text[4] = {(char)0xE2, (char)(0xA0 | dots >> 6), (char)(0x80 | (dots & 0x3F)), '\0'};
        cli_append(out, text);
    }
}

static void remember(cli_live *live, double loss)
{
    live->loss_sum += loss;
    if (++live->loss_pending < live->loss_stride)
        return;
    if (live->loss_count == CLI_LIVE_HISTORY) {
        for (size_t i = 0; i < CLI_LIVE_HISTORY / 2; i++)
            live->loss[i] = 0.5 * (live->loss[2 * i] + live->loss[2 * i + 1]);
        live->loss_count = CLI_LIVE_HISTORY / 2;
        live->loss_stride *= 2;
    }
    live->loss[live->loss_count++] = live->loss_sum / live->loss_pending;
    live->loss_sum = 0.0;
    live->loss_pending = 0;
}

int cli_live_line(cli_string *out, const fur_train_event *event, bool bytes)
{
    char a[CLI_UNIT], b[CLI_UNIT];
    size_t start = out->length;
    int steps = snprintf(NULL, 0, "%" PRId64, event->max_steps);
    bool within = event->type == FUR_EVENT_PROGRESS;
    cli_appendf(out, "step %*" PRId64 "/%" PRId64, steps, event->step + within, event->max_steps);
    if (within)
        cli_appendf(out, " %2.0f %%", 100.0 * event->progress);
    if (!within || event->step > 0) {
        cli_appendf(out, "  loss %.3f", event->loss);
        if (bytes)
            cli_appendf(out, "  %.3f bits/byte", event->loss / ln2);
    }
    if (event->tokens_per_second > 0.0)
        cli_appendf(out, "  %s tok/s", cli_rate(a, event->tokens_per_second));
    cli_appendf(out, "  %s of %s", cli_bytes(a, event->rss_bytes), cli_bytes(b, event->planned_peak_bytes));
    if (event->seconds_left > 0.0)
        cli_appendf(out, "  %s left%s", cli_seconds(a, ceil(event->seconds_left)), within ? " of this step" : "");
    return (int)(out->length - start);
}

static void show(cli_live *live, cli_string *line, int width)
{
    const cli_style *style = &live->style;
    cli_style_of(live->file, &live->style); /* the window may have another width by now */
    live->last = cli_clock();
    if (!style->terminal) {
        fprintf(live->file, "%s\n", line->text);
        return;
    }
    int room = style->columns - 1 - width - 2;
    if (width > style->columns - 1)
        line->text[style->columns - 1] = '\0'; /* plain ASCII up to here */
    fprintf(live->file, "\r\033[K%s", line->text);
    if (style->unicode && room >= 6 && live->loss_count > 1) {
        cli_string spark = {NULL, 0, 0};
        cli_sparkline(&spark, live->loss, live->loss_count, room > 24 ? 24 : room);
        fprintf(live->file, "  %s%s%s", style->good, spark.text, style->off);
        cli_string_clear(&spark);
    }
    (void)fflush(live->file);
    live->shown = true;
}

/* A share of a step is worth a line only where the step itself keeps one waiting. */
static bool worth_telling(const cli_live *live, const fur_train_event *event)
{
    return event->step < event->max_steps && event->step_seconds > (live->style.terminal ? 2.0 : live->every);
}

void cli_live_event(cli_live *live, const fur_train_event *event)
{
    cli_string line = {NULL, 0, 0};
    if (event->type == FUR_EVENT_PROGRESS && !worth_telling(live, event))
        return;
    if (event->type == FUR_EVENT_STEP || event->type == FUR_EVENT_PROGRESS) {
        if (event->type == FUR_EVENT_STEP && isfinite(event->loss))
            remember(live, event->loss);
        bool last = event->step == event->max_steps;
        if (cli_clock() - live->last >= live->every || last) {
            int width = cli_live_line(&line, event, live->bytes);
            show(live, &line, width);
        }
    } else if (event->type == FUR_EVENT_EVAL) {
        cli_live_clear(live);
        fprintf(live->file, "step %" PRId64 ": held-out loss %.4f", event->step, event->loss);
        if (live->bytes)
            fprintf(live->file, ", %s%.3f bits per byte%s", live->style.bold, event->loss / ln2, live->style.off);
        fputc('\n', live->file);
    } else if (event->type == FUR_EVENT_ERRORS && event->error_count > 0) {
        cli_live_clear(live);
        cli_head_errors_line(&line, event->errors, event->error_count);
        fprintf(live->file, "step %" PRId64 ": %s\n", event->step, line.text);
    } else if (event->type == FUR_EVENT_SAVE && event->path != NULL) {
        cli_live_clear(live);
        fprintf(live->file, "%ssaved %s%s\n", live->style.dim, event->path, live->style.off);
    }
    cli_string_clear(&line);
}

void cli_live_text(cli_live *live, const char *text)
{
    if (cli_clock() - live->last < live->every)
        return;
    cli_string line = {NULL, 0, 0};
    cli_append(&line, text);
    int count = live->loss_count;
    live->loss_count = 0; /* no curve beside a line that is not about the loss */
    show(live, &line, (int)line.length);
    live->loss_count = count;
    cli_string_clear(&line);
}
