/* SPDX-License-Identifier: Apache-2.0 */
/* Heads between models and files, for fit-attention. */
#ifndef FUR_CLI_FIT_MODEL_H
#define FUR_CLI_FIT_MODEL_H

#include "session.h"

/* --capture: the whole verb. */
int cli_fit_capture(cli_session *session);
/* --install: --model with the fitted head, saved in the folder. */
int cli_fit_install(const cli_session *session, const fur_fit_result *result);
/* What --install would refuse, before any work. */
int cli_fit_check_install(const cli_session *session);

#endif
