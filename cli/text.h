/* SPDX-License-Identifier: Apache-2.0 */
/* Words and figures for people and programs: growable text, human units, tables, JSON lines. stdout carries data and
 * stderr progress; colour only on a terminal, and never with NO_COLOR. The program's only allocation is here: a
 * failure ends the program with code 4 and one line, so that no verb has a half-handled case of its own. */
#ifndef FUR_CLI_TEXT_H
#define FUR_CLI_TEXT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The one compiler extension of the program: it lets the compiler check format strings. */
#if defined(__GNUC__)
#    define CLI_PRINTF(at, first) __attribute__((__format__(__printf__, at, first)))
#else
#    define CLI_PRINTF(at, first)
#endif

/* ---- memory ------------------------------------------------------------------------------------------------- */

void *cli_resize(void *old, size_t count, size_t size); /* realloc with a checked product; ends the program */
char *cli_copy(const char *text);
void cli_free(void *pointer);

/* ---- growable text ------------------------------------------------------------------------------------------ */

typedef struct cli_string {
    char *text; /* always terminated; NULL while empty */
    size_t length, capacity;
} cli_string;

void cli_string_clear(cli_string *string);
void cli_append(cli_string *string, const char *text);
void cli_append_bytes(cli_string *string, const char *bytes, size_t count);
void cli_appendf(cli_string *string, const char *format, ...) CLI_PRINTF(2, 3);
/* Path of `name` in `folder`. The caller frees it. */
char *cli_path(const char *folder, const char *name);
/* Bytes as UTF-8: what is not becomes U+FFFD. For JSON and HTML. */
void cli_append_utf8(cli_string *string, const char *bytes, size_t count);

/* Writes beside, syncs and renames; false with errno set on failure. */
bool cli_file_write(const char *path, const char *bytes, size_t count);

/* ---- units -------------------------------------------------------------------------------------------------- */

#define CLI_UNIT      32                                      /* enough for every function below */
#define CLI_TWO_UNITS 64                                      /* and for a text with two of them */
const char *cli_bytes(char out[CLI_UNIT], int64_t bytes);     /* "412 MiB" */
const char *cli_count(char out[CLI_UNIT], int64_t count);     /* "64K" where exact, else "1,234,567" */
const char *cli_thousands(char out[CLI_UNIT], int64_t count); /* "1,234,567" */
const char *cli_rate(char out[CLI_UNIT], double per_second);  /* "41.2K" */
const char *cli_seconds(char out[CLI_UNIT], double seconds);  /* "0.41 s", "3 min 20 s" */
double cli_clock(void);                                       /* monotonic seconds */

/* ---- terminal ----------------------------------------------------------------------------------------------- */

typedef struct cli_style {
    bool terminal;                             /* moves, bars and colour are allowed */
    bool unicode;                              /* the locale is UTF-8 */
    int columns;                               /* 80 where unknown */
    const char *bold, *dim, *good, *bad, *off; /* "" without colour */
} cli_style;
void cli_style_of(FILE *file, cli_style *style);

/* ---- tables ------------------------------------------------------------------------------------------------- */

#define CLI_TABLE_COLUMNS 10
typedef struct cli_table {
    int columns;
    char align[CLI_TABLE_COLUMNS]; /* 'l' or 'r' */
    char **cells;                  /* row-major; row 0 is the head */
    int rows;
} cli_table;
/* `align` holds one letter a column; the cells of the head follow, as many. */
void cli_table_init(cli_table *table, const char *align, ...);
void cli_table_row(cli_table *table, ...); /* const char * per column; copied */
void cli_table_print(const cli_table *table, FILE *file, const cli_style *style);
void cli_table_clear(cli_table *table);

/* ---- JSON --------------------------------------------------------------------------------------------------- */

/* Sets a number; null where it is not finite, since JSON has no NaN. */
void cli_json_real(json_t *object, const char *key, double value);
void cli_json_int(json_t *object, const char *key, int64_t value);
void cli_json_text(json_t *object, const char *key, const char *text);
void cli_json_bool(json_t *object, const char *key, bool value);
/* Prints the object as one line and releases it. */
void cli_json_print(FILE *file, json_t *object);

#endif
