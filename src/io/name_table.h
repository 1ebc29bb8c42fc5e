/* SPDX-License-Identifier: Apache-2.0 */
/* Names to indices by hashing: a file with 100,000 tensors is looked up in as many steps, not their square. */
#ifndef FUR_IO_NAME_TABLE_H
#define FUR_IO_NAME_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

typedef struct fur_name_slot fur_name_slot;
typedef struct fur_name_table {
    fur_name_slot *slots;
    uint64_t mask;
} fur_name_table;

/* Room for `count` names; they are not copied and must outlive the table. */
fur_status fur_name_table_init(fur_error *error, fur_name_table *table, int64_t count);
void fur_name_table_clear(fur_name_table *table);
/* False if the name is there already. */
bool fur_name_table_add(fur_name_table *table, const char *name, int64_t index);
/* -1: not there. */
int64_t fur_name_table_find(const fur_name_table *table, const char *name);

#endif
