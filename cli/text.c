/* SPDX-License-Identifier: Apache-2.0 */
/* Text, units, tables and JSON lines of the program. */
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- memory ------------------------------------------------------------------------------------------------- */

void *cli_resize(void *old, size_t count, size_t size)
{
    void *block = size != 0 && count > SIZE_MAX / size ? NULL : realloc(old, count * size > 0 ? count * size : 1);
    if (block == NULL) {
        fprintf(stderr, "furlong: out of memory for %zu bytes of text\n", count * size);
        exit(4);
    }
    return block;
}

char *cli_copy(const char *text)
{
    size_t bytes = strlen(text) + 1;
    return memcpy(cli_resize(NULL, bytes, 1), text, bytes);
}

void cli_free(void *pointer)
{
    free(pointer);
}

/* ---- growable text ------------------------------------------------------------------------------------------ */

static void string_reserve(cli_string *string, size_t more)
{
    size_t need = string->length + more + 1;
    if (need <= string->capacity)
        return;
    size_t capacity = string->capacity > 0 ? string->capacity : 64;
    while (capacity < need)
        capacity *= 2;
    string->text = cli_resize(string->text, capacity, 1);
    string->capacity = capacity;
}

void cli_string_clear(cli_string *string)
{
    free(string->text);
    *string = (cli_string){NULL, 0, 0};
}

void cli_append_bytes(cli_string *string, const char *bytes, size_t count)
{
    string_reserve(string, count);
    memcpy(string->text + string->length, bytes, count);
    string->length += count;
    string->text[string->length] = '\0';
}

void cli_append(cli_string *string, const char *text)
{
    cli_append_bytes(string, text, strlen(text));
}

void cli_appendf(cli_string *string, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length > 0) {
        string_reserve(string, (size_t)length);
        (void)vsnprintf(string->text + string->length, (size_t)length + 1, format, again);
        string->length += (size_t)length;
    }
    va_end(again);
}

char *cli_path(const char *folder, const char *name)
{
    cli_string path = {NULL, 0, 0};
    size_t length = strlen(folder);
    cli_appendf(&path, length > 0 && folder[length - 1] == '/' ? "%s%s" : "%s/%s", folder, name);
    return path.text;
}

/* Length of the valid UTF-8 sequence at `bytes`, 0 where there is none. Overlong forms, surrogates and values above
 * U+10FFFF are not valid. */
static size_t utf8_length(const unsigned char *bytes, size_t count)
{
    static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (bytes[0] < 0x80)
        return 1;
    size_t length = bytes[0] >= 0xF0 ? 4 : bytes[0] >= 0xE0 ? 3 : 2;
    if (bytes[0] < 0xC2 || bytes[0] > 0xF4 || length > count)
        return 0;
    uint32_t value = bytes[0] & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (bytes[i] & 0x3F);
    }
    return value < lowest[length] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF) ? 0 : length;
}

void cli_append_utf8(cli_string *string, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count;) {
        size_t length = utf8_length((const unsigned char *)bytes + i, count - i);
        if (length > 0)
            cli_append_bytes(string, bytes + i, length);
        else
            cli_append(string, "\xEF\xBF\xBD");
        i += length > 0 ? length : 1;
    }
    if (string->text == NULL)
        cli_append(string, "");
}

bool cli_file_write(const char *path, const char *bytes, size_t count)
{
    cli_string beside = {NULL, 0, 0};
    cli_appendf(&beside, "%s.part", path);
    FILE *file = fopen(beside.text, "wb");
    bool good = file != NULL;
    if (good) {
        good = fwrite(bytes, 1, count, file) == count && fflush(file) == 0 && fsync(fileno(file)) == 0;
        good = fclose(file) == 0 && good;
        good = good && rename(beside.text, path) == 0;
        if (!good) {
            int reason = errno;
            (void)unlink(beside.text);
            errno = reason;
        }
    }
    cli_string_clear(&beside);
    return good;
}

/* ---- units -------------------------------------------------------------------------------------------------- */

/* Three significant digits, never "1.00e3". */
static int digits_after_point(double value)
{
    return value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
}

const char *cli_bytes(char out[CLI_UNIT], int64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    int unit = 0;
    while (fabs(value) >= 1000.0 && unit < 6) {
        value /= 1024.0;
        unit++;
    }
    int digits = unit == 0 ? 0 : digits_after_point(fabs(value));
    if (digits > 0 && value == floor(value))
        digits = 0;
    (void)snprintf(out, CLI_UNIT, "%.*f %s", digits, value, units[unit]);
    return out;
}

const char *cli_thousands(char out[CLI_UNIT], int64_t count)
{
    char plain[CLI_UNIT];
    int length = snprintf(plain, sizeof plain, "%" PRId64, count);
    int digits = count < 0 ? length - 1 : length, used = 0;
    for (int i = 0; i < length && used < CLI_UNIT - 2; i++) {
        out[used++] = plain[i];
        int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && left < digits)
            out[used++] = ',';
    }
    out[used] = '\0';
    return out;
}

const char *cli_count(char out[CLI_UNIT], int64_t count)
{
    if (count >= 1 << 20 && count % (1 << 20) == 0)
        (void)snprintf(out, CLI_UNIT, "%" PRId64 "M", count >> 20);
    else if (count >= 1 << 10 && count % (1 << 10) == 0)
        (void)snprintf(out, CLI_UNIT, "%" PRId64 "K", count >> 10);
    else
        (void)cli_thousands(out, count);
    return out;
}

const char *cli_rate(char out[CLI_UNIT], double per_second)
{
    static const char *const units[] = {"", "K", "M", "G", "T"};
    int unit = 0;
    double value = per_second;
    while (value >= 999.5 && unit < 4) {
        value /= 1000.0;
        unit++;
    }
    (void)snprintf(out, CLI_UNIT, "%.*f%s", value == floor(value) && unit == 0 ? 0 : digits_after_point(value), value,
                   units[unit]);
    return out;
}

const char *cli_seconds(char out[CLI_UNIT], double seconds)
{
    if (!(seconds >= 0.0) || seconds > 1e12)
        (void)snprintf(out, CLI_UNIT, "?");
    else if (seconds > 0.0 && seconds < 9.995e-4)
        (void)snprintf(out, CLI_UNIT, "%.*f us", digits_after_point(seconds * 1e6), seconds * 1e6);
    else if (seconds > 0.0 && seconds < 0.1)
        (void)snprintf(out, CLI_UNIT, "%.*f ms", digits_after_point(seconds * 1e3), seconds * 1e3);
    else if (seconds < 99.5)
        (void)snprintf(out, CLI_UNIT, "%.*f s",
                       seconds == floor(seconds) || seconds >= 19.95 ? 0
                       : seconds < 9.995                             ? 2
                                                                     : 1,
                       seconds);
    else if (seconds < 3599.5) {
        int64_t whole = (int64_t)(seconds + 0.5);
        (void)snprintf(out, CLI_UNIT, "%" PRId64 " min %02" PRId64 " s", whole / 60, whole % 60);
    } else if (seconds < 172800.0) {
        int64_t minutes = (int64_t)(seconds / 60.0 + 0.5);
        (void)snprintf(out, CLI_UNIT, "%" PRId64 " h %02" PRId64 " min", minutes / 60, minutes % 60);
    } else {
        (void)snprintf(out, CLI_UNIT, "%.*f days", digits_after_point(seconds / 86400.0), seconds / 86400.0);
    }
    return out;
}

double cli_clock(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- terminal ----------------------------------------------------------------------------------------------- */

static bool locale_is_utf8(void)
{
    const char *name = getenv("LC_ALL");
    if (name == NULL || name[0] == '\0')
        name = getenv("LC_CTYPE");
    if (name == NULL || name[0] == '\0')
        name = getenv("LANG");
    return name != NULL && (strstr(name, "UTF-8") != NULL || strstr(name, "utf8") != NULL ||
                            strstr(name, "UTF8") != NULL || strstr(name, "utf-8") != NULL);
}

void cli_style_of(FILE *file, cli_style *style)
{
    const char *kind = getenv("TERM"), *quiet = getenv("NO_COLOR");
    bool terminal = isatty(fileno(file)) == 1 && (kind == NULL || strcmp(kind, "dumb") != 0);
    bool colour = terminal && (quiet == NULL || quiet[0] == '\0');
    *style = (cli_style){terminal, locale_is_utf8(), 80, "", "", "", "", ""};
    struct winsize size;
    if (terminal && ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        style->columns = size.ws_col;
    if (colour) {
        style->bold = "\033[1m";
        style->dim = "\033[2m";
        style->good = "\033[32m";
        style->bad = "\033[31m";
        style->off = "\033[0m";
    }
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static void table_add(cli_table *table, va_list cells)
{
    size_t used = (size_t)(table->rows * table->columns);
    table->cells = cli_resize(table->cells, used + (size_t)table->columns, sizeof *table->cells);
    for (int i = 0; i < table->columns; i++)
        table->cells[used + (size_t)i] = cli_copy(va_arg(cells, const char *));
    table->rows++;
}

void cli_table_init(cli_table *table, const char *align, ...)
{
    *table = (cli_table){.columns = (int)strlen(align)};
    memcpy(table->align, align, strlen(align));
    va_list head;
    va_start(head, align);
    table_add(table, head);
    va_end(head);
}

void cli_table_row(cli_table *table, ...)
{
    va_list cells;
    va_start(cells, table);
    table_add(table, cells);
    va_end(cells);
}

/* Columns a text takes on screen: UTF-8 continuation bytes take none. */
static int text_width(const char *text)
{
    int width = 0;
    for (; *text != '\0'; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

void cli_table_print(const cli_table *table, FILE *file, const cli_style *style)
{
    int widths[CLI_TABLE_COLUMNS] = {0};
    for (int row = 0; row < table->rows; row++) {
        for (int i = 0; i < table->columns; i++) {
            int width = text_width(table->cells[row * table->columns + i]);
            if (width > widths[i])
                widths[i] = width;
        }
    }
    bool headed = false;
    for (int i = 0; i < table->columns; i++)
        headed = headed || table->cells[i][0] != '\0';
    for (int row = headed ? 0 : 1; row < table->rows; row++) {
        for (int i = 0; i < table->columns; i++) {
            const char *cell = table->cells[row * table->columns + i];
            int pad = widths[i] - text_width(cell);
            bool last = i == table->columns - 1;
            bool left = table->align[i] == 'l';
            fprintf(file, "  %*s%s%s%s%*s", left ? 0 : pad, "", row == 0 ? style->dim : "", cell,
                    row == 0 ? style->off : "", left && !last ? pad : 0, "");
        }
        fputc('\n', file);
    }
}

void cli_table_clear(cli_table *table)
{
    for (int i = 0; i < table->rows * table->columns; i++)
        free(table->cells[i]);
    free(table->cells);
    *table = (cli_table){.columns = 0};
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

void cli_json_real(json_t *object, const char *key, double value)
{
    (void)json_object_set_new(object, key, isfinite(value) ? json_real(value) : json_null());
}

void cli_json_int(json_t *object, const char *key, int64_t value)
{
    (void)json_object_set_new(object, key, json_integer(value));
}

void cli_json_text(json_t *object, const char *key, const char *text)
{
    cli_string clean = {NULL, 0, 0};
    cli_append_utf8(&clean, text, strlen(text));
    (void)json_object_set_new(object, key, json_string(clean.text));
    cli_string_clear(&clean);
}

void cli_json_bool(json_t *object, const char *key, bool value)
{
    (void)json_object_set_new(object, key, json_boolean(value));
}

void cli_json_print(FILE *file, json_t *object)
{
    (void)json_dumpf(object, file, JSON_COMPACT | JSON_REAL_PRECISION(17));
    fputc('\n', file);
    (void)fflush(file);
    json_decref(object);
}
