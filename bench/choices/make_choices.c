/* SPDX-License-Identifier: Apache-2.0 */
/* make_choices TEXT ITEMS SEED equal|own [PROMPT-BYTES]: items for `furlong eval --task`, a line each on standard
 * output, from the last tenth of a text, which `furlong train` holds out.
 *
 * A prompt is whole words, at most PROMPT-BYTES (256) of them in bytes; the right choice is what follows, to the end of
 * a word 32 to 64 bytes on; the three wrong ones begin and end with words elsewhere in the same tenth, as long as the
 * right one to the byte (equal), or each of a length drawn like its (own). None overlaps another or the prompt. Item i
 * comes from the i-th of ITEMS stretches, the answer's place is drawn, and the same seed gives the same items. */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/random.h"
#include "base/size.h"
#include "io/file.h"

enum { CHOICES = 4, LEAST = 32, MOST = 64, TRIES = 100000 };

typedef struct span {
    int64_t from, to;
} span;

typedef struct maker {
    const char *text;
    int64_t first, end; /* the tenth */
    int64_t *ends;      /* [count] places after a word that a choice may follow and a prompt precede */
    int64_t count;
    int64_t prompt_bytes;
    bool equal;
    uint64_t seed, item, draws;
} maker;

static void die(const char *format, ...) FUR_PRINTF(1, 2);
static void die(const char *format, ...)
{
    va_list words;
    va_start(words, format);
    (void)fputs("make_choices: ", stderr);
    (void)vfprintf(stderr, format, words);
    (void)fputc('\n', stderr);
    va_end(words);
    exit(1);
}

static int64_t draw(maker *m, int64_t below)
{
    return (int64_t)(fur_random_u64(m->seed, m->item, m->draws++) % (uint64_t)below);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static bool is_end(const maker *m, int64_t at)
{
    return at > m->first && at < m->end && is_space(m->text[at]) && !is_space(m->text[at - 1]);
}

static void find_ends(maker *m)
{
    int64_t from = m->first + m->prompt_bytes;
    m->ends = malloc((size_t)fur_max_i64(1, m->end - m->first) * sizeof *m->ends);
    if (!m->ends)
        die("out of memory");
    for (int64_t at = from; at + MOST < m->end; at++)
        if (is_end(m, at))
            m->ends[m->count++] = at;
}

/* The last end of a word at most `length` bytes on; empty where that is too near. */
static span follow(const maker *m, int64_t from, int64_t length)
{
    int64_t to = from + length;
    while (to - from >= LEAST && !is_end(m, to))
        to--;
    return to - from >= LEAST ? (span){from, to} : (span){from, from};
}

static bool meets(const maker *m, const span *a, const span *b)
{
    int64_t length = a->to - a->from;
    return (a->from < b->to && b->from < a->to) ||
           (length == b->to - b->from && memcmp(m->text + a->from, m->text + b->from, (size_t)length) == 0);
}

/* Spans of the prompt, the right choice and the wrong ones; false: draw again. */
static bool draw_spans(maker *m, int64_t at, span *prompt, span *spans)
{
    *prompt = (span){at - m->prompt_bytes, at};
    while (!is_space(m->text[prompt->from - 1]) || is_space(m->text[prompt->from]))
        if (++prompt->from == at)
            return false;
    spans[0] = follow(m, at, LEAST + draw(m, MOST - LEAST + 1));
    int64_t length = spans[0].to - at;
    for (int made = 1; made < CHOICES; made++) {
        int64_t from = m->ends[draw(m, m->count)];
        if (!m->equal)
            spans[made] = follow(m, from, LEAST + draw(m, MOST - LEAST + 1));
        else
            spans[made] = (span){from, is_end(m, from + length) ? from + length : from};
        bool good = spans[made].to > from && !meets(m, &spans[made], prompt);
        for (int i = 0; i < made; i++)
            good = good && !meets(m, &spans[made], &spans[i]);
        if (!good)
            return false;
    }
    return length > 0;
}

/* NULL where a text is no UTF-8. */
static json_t *item_of(const maker *m, const span *prompt, const span *spans, int64_t answer)
{
    json_t *choices = json_array();
    for (int64_t i = 0; choices && i < CHOICES; i++) {
        const span *s = &spans[i == answer ? 0 : i < answer ? i + 1 : i];
        if (json_array_append_new(choices, json_stringn(m->text + s->from, (size_t)(s->to - s->from))) != 0) {
            json_decref(choices);
            return NULL;
        }
    }
    return json_pack("{s:s%, s:o, s:I}", "prompt", m->text + prompt->from, (size_t)(prompt->to - prompt->from),
                     "choices", choices, "answer", (json_int_t)answer);
}

static void make_item(maker *m, int64_t item, int64_t items)
{
    int64_t from = item * m->count / items, to = (item + 1) * m->count / items;
    m->item = (uint64_t)item;
    m->draws = 0;
    for (int tries = 0; tries < TRIES; tries++) {
        span prompt, spans[CHOICES];
        if (!draw_spans(m, m->ends[from + draw(m, to - from)], &prompt, spans))
            continue;
        json_t *json = item_of(m, &prompt, spans, draw(m, CHOICES));
        if (!json)
            continue;
        if (json_dumpf(json, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF)
            die("cannot write");
        json_decref(json);
        return;
    }
    die("item %" PRId64 " found no choices in %" PRId64 " bytes: expected a longer text of words in UTF-8", item,
        m->end - m->first);
}

int main(int count, char **words)
{
    if (count < 5 || count > 6 || (strcmp(words[4], "equal") != 0 && strcmp(words[4], "own") != 0)) {
        (void)fprintf(stderr, "make_choices TEXT ITEMS SEED equal|own [PROMPT-BYTES]\n");
        return 2;
    }
    fur_error error = {0};
    char *text;
    maker m = {.equal = strcmp(words[4], "equal") == 0,
               .seed = strtoull(words[3], NULL, 10),
               .prompt_bytes = count > 5 ? strtoll(words[5], NULL, 10) : 256};
    int64_t items = strtoll(words[2], NULL, 10);
    if (items < 1 || items > 1000000 || m.prompt_bytes < 16 || m.prompt_bytes > 1 << 20)
        die("expected 1 to 1,000,000 items and prompts of 16 to 1,048,576 bytes");
    if (fur_file_read(&error, words[1], (int64_t)1 << 32, &text, &m.end) != FUR_OK)
        die("%s", error.text);
    m.text = text;
    m.first = m.end - (int64_t)((double)m.end * 0.1);
    find_ends(&m);
    if (m.count < items)
        die("%" PRId64 " ends of words in the last tenth of %s, expected %" PRId64 " or more", m.count, words[1],
            items);
    for (int64_t i = 0; i < items; i++)
        make_item(&m, i, items);
    free(m.ends);
    fur_free(text);
    if (fflush(stdout) != 0)
        die("cannot write");
    return 0;
}
