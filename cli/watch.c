/* SPDX-License-Identifier: Apache-2.0 */
/* Listeners of a training run. */
#include "watch.h"

#include <errno.h>
#include <string.h>

void cli_watch_init(cli_watch *watch, cli_session *session, const char *folder, bool bytes)
{
    memset(watch, 0, sizeof *watch);
    watch->session = session;
    watch->folder = folder;
    cli_live_init(&watch->live, stderr, bytes);
    session->before_line = cli_live_clear;
    session->before_user = &watch->live;
}

void cli_watch_event(void *self, const fur_train_event *event)
{
    cli_watch *watch = self;
    if (watch->folder != NULL && !watch->tried) {
        watch->tried = true;
        if (!cli_tensorboard_open(&watch->board, watch->folder))
            cli_say(watch->session, "warning: no TensorBoard events: %s: %s", watch->folder, strerror(errno));
    }
    cli_metrics_add(&watch->metrics, event);
    cli_tensorboard_event(&watch->board, event);
    cli_live_event(&watch->live, event);
}

void cli_watch_end(cli_watch *watch)
{
    if (watch->live.shown) {
        fputc('\n', stderr); /* the last line stays on screen */
        watch->live.shown = false;
    }
    if (watch->board.file != NULL && !cli_tensorboard_close(&watch->board))
        cli_say(watch->session, "warning: TensorBoard events in %s are incomplete: %s", watch->folder, strerror(errno));
    watch->session->before_line = NULL;
}

void cli_watch_clear(cli_watch *watch)
{
    cli_metrics_clear(&watch->metrics);
}
