/* SPDX-License-Identifier: Apache-2.0 */
/* Other processes that hold other rows of the same tokens, in order: rank 0 the first. How bytes travel is the owner's
 * matter; a message is received whole, and in the order sent. */
#ifndef FUR_COMM_COMM_H
#define FUR_COMM_COMM_H

#include <stdint.h>

#include "base/error.h"

typedef struct fur_comm {
    int rank, ranks;
    void *user;
    fur_status (*send)(void *user, fur_error *error, int to, const void *data, int64_t bytes);
    fur_status (*receive)(void *user, fur_error *error, int from, void *data, int64_t bytes);
} fur_comm;

#endif
