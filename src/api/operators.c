/* SPDX-License-Identifier: Apache-2.0 */
#include "api/operators.h"

fur_status fur_operator_check_size(fur_error *error, const char *name, size_t have, size_t expected)
{
    if (have == expected)
        return FUR_OK;
    return fur_error_set(error, FUR_E_ARGUMENT, "%s has %zu bytes, this library expects %zu", name, have, expected);
}

fur_status fur_operator_arena(fur_error *error, const char *what, int64_t bytes, int64_t limit, fur_arena *out)
{
    if (limit < 0)
        return fur_error_set(error, FUR_E_ARGUMENT, "%s: memory_bytes is %lld, expected 0 (no limit) or above", what,
                             (long long)limit);
    if (limit > 0 && bytes > limit)
        return fur_error_set(error, FUR_E_DOES_NOT_FIT, "%s: needs %lld bytes of workspace, the limit is %lld", what,
                             (long long)bytes, (long long)limit);
    return fur_arena_create(error, bytes, out);
}
