/* SPDX-License-Identifier: Apache-2.0 */
#include "io/name_table.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "io/hash.h"

struct fur_name_slot {
    const char *name; /* NULL: free */
    int64_t index;
};

fur_status fur_name_table_init(fur_error *error, fur_name_table *table, int64_t count)
{
    uint64_t slots = 8;
    while (slots < 2 * (uint64_t)count) /* at most half full */
        slots *= 2;
    table->slots = fur_calloc(slots, sizeof *table->slots);
    table->mask = slots - 1;
    return table->slots ? FUR_OK : fur_memory_error(error, (int64_t)(slots * sizeof *table->slots), "a table of names");
}

void fur_name_table_clear(fur_name_table *table)
{
    fur_free(table->slots);
    *table = (fur_name_table){0};
}

/* The slot that holds the name, or the free one where it belongs. */
static fur_name_slot *slot_of(const fur_name_table *table, const char *name)
{
    uint64_t at = fur_hash_bytes(name, (int64_t)strlen(name)) & table->mask;
    while (table->slots[at].name && strcmp(table->slots[at].name, name) != 0)
        at = (at + 1) & table->mask;
    return &table->slots[at];
}

bool fur_name_table_add(fur_name_table *table, const char *name, int64_t index)
{
    fur_name_slot *slot = slot_of(table, name);
    if (slot->name)
        return false;
    *slot = (fur_name_slot){name, index};
    return true;
}

int64_t fur_name_table_find(const fur_name_table *table, const char *name)
{
    const fur_name_slot *slot = slot_of(table, name);
    return slot->name ? slot->index : -1;
}
