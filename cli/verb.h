/* SPDX-License-Identifier: Apache-2.0 */
/* One function a verb, one file a function. Each returns the exit code. */
#ifndef FUR_CLI_VERB_H
#define FUR_CLI_VERB_H

#include "session.h"

int verb_demo(cli_session *session);
int verb_train(cli_session *session);
int verb_finetune(cli_session *session);
int verb_eval(cli_session *session);
int verb_audit(cli_session *session);
int verb_generate(cli_session *session);
int verb_chat(cli_session *session);
int verb_convert(cli_session *session);
int verb_plan(cli_session *session);
int verb_bench(cli_session *session);
int verb_inspect(cli_session *session);
int verb_doctor(cli_session *session);
int verb_version(cli_session *session);
int verb_fit_attention(cli_session *session);
int verb_tokenizer(cli_session *session);
int verb_long_step(cli_session *session);

#endif
