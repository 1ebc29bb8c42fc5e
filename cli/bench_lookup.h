/* SPDX-License-Identifier: Apache-2.0 */
#ifndef FUR_CLI_BENCH_LOOKUP_H
#define FUR_CLI_BENCH_LOOKUP_H

#include "verb.h"

/* furlong bench projection --kind lookup */
int bench_lookup(cli_session *session);

#endif
