/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that listens to a training run: the moving line, the history for the report, TensorBoard. */
#ifndef FUR_CLI_WATCH_H
#define FUR_CLI_WATCH_H

#include "live.h"
#include "metrics.h"
#include "session.h"
#include "tensorboard.h"

typedef struct cli_watch {
    cli_session *session;
    cli_live live;
    cli_metrics metrics;
    cli_tensorboard board;
    const char *folder; /* TensorBoard events go here, from the first event on: the library makes the folder */
    bool tried;         /* to open the event file */
} cli_watch;

/* From here on lines of `session` clear the moving line first. */
void cli_watch_init(cli_watch *watch, cli_session *session, const char *folder, bool bytes);
void cli_watch_event(void *self, const fur_train_event *event); /* a fur_train_fn */
/* Ends the moving line and the event file; says so where the file could not be written. */
void cli_watch_end(cli_watch *watch);
void cli_watch_clear(cli_watch *watch);

#endif
