/* SPDX-License-Identifier: Apache-2.0 */
/* Stopping: the first signal asks, the second insists. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "session.h"

/* A handler has no other way to reach them. Set before the handlers are installed, cleared after they are removed. */
static fur_context *volatile running;
static volatile sig_atomic_t stopped_by;

static void on_signal(int number)
{
    static const char line[] = "\nstopping at the next safe point; once more ends at once\n";
    if (stopped_by != 0)
        _exit(128 + number);
    stopped_by = number;
    if (running != NULL)
        fur_context_stop(running);
    ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
    (void)written;
}

void cli_signals_install(fur_context *context)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    (void)sigemptyset(&action.sa_mask);
    running = context;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

void cli_signals_remove(void)
{
    (void)signal(SIGINT, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    running = NULL;
}

int cli_signal_code(void)
{
    return stopped_by != 0 ? 128 + (int)stopped_by : 0;
}
