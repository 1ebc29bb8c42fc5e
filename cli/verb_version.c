/* SPDX-License-Identifier: Apache-2.0 */
/* Version, features, instruction set. */
#include "verb.h"

int verb_version(cli_session *session)
{
    int code = cli_session_open(session);
    if (code != CLI_OK)
        return code;
    const char *isa = fur_context_isa(session->context);
    if (session->options->json) {
        json_t *object = json_object();
        cli_json_text(object, "version", fur_version());
        cli_json_text(object, "isa", isa);
        cli_json_print(stdout, object);
    } else {
        printf("furlong %s, instruction set %s\n", fur_version(), isa);
    }
    return CLI_OK;
}
