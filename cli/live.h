/* SPDX-License-Identifier: Apache-2.0 */
/* One moving line on a terminal, or a plain line now and then elsewhere. Always stderr. */
#ifndef FUR_CLI_LIVE_H
#define FUR_CLI_LIVE_H

#include "furlong/furlong.h"
#include "text.h"

#define CLI_LIVE_HISTORY 4096

typedef struct cli_live {
    FILE *file;
    cli_style style;
    double every;                  /* seconds between plain lines; the moving line has a tenth of a second */
    bool bytes;                    /* a token is a byte: bits per byte are known */
    double last;                   /* clock of the last line */
    bool shown;                    /* a moving line is on screen */
    double loss[CLI_LIVE_HISTORY]; /* of the sparkline; halved in number when full */
    int loss_count, loss_stride;
    double loss_sum;
    int loss_pending;
} cli_live;

void cli_live_init(cli_live *live, FILE *file, bool bytes);
/* STEP events update the line; EVAL and SAVE events are lines of their own. */
void cli_live_event(cli_live *live, const fur_train_event *event);
/* Any other progress, such as "long step: 34 s of about 96 s". */
void cli_live_text(cli_live *live, const char *text);
/* Removes the moving line. Call before printing anything else. */
void cli_live_clear(void *self);

/* The line without its sparkline; `columns` it took are returned. For tests. */
int cli_live_line(cli_string *out, const fur_train_event *event, bool bytes);
/* `cells` braille characters, two values each, scaled to the range of the values. */
void cli_sparkline(cli_string *out, const double *values, int count, int cells);

#endif
