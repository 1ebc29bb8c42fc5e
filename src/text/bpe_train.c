/* SPDX-License-Identifier: Apache-2.0 */
#include "text/bpe_train.h"

#include <string.h>

#include "base/alloc.h"
#include "base/size.h"
#include "io/file.h"
#include "text/vocabulary.h"

#define MOST_WORDS ((int64_t)1 << 30)

typedef struct word {
    int64_t count;
    int64_t first; /* its symbols: bytes of `text` while words are counted, then of `symbols` */
    int32_t length;
} word;

/* A pair of neighbours: how often it is there, and the words it was ever seen in. */
typedef struct pair {
    int32_t left, right;
    int64_t count;
    int64_t where;   /* newest link, -1: none */
    int32_t touched; /* by the merge that made this token */
} pair;

typedef struct link {
    int32_t word;
    int64_t next;
} link;

typedef struct chance {
    int64_t count;
    int32_t pair;
} chance;

struct fur_bpe_trainer {
    int32_t byte_ids[256];
    fur_string text;
    word *words;
    int64_t word_count, word_capacity;
    int32_t *word_slots; /* [word_mask + 1] -1: free */
    uint64_t word_mask;
    int32_t *symbols; /* [text.length] */
    pair *pairs;
    int64_t pair_count, pair_capacity;
    int32_t *pair_slots;
    uint64_t pair_mask;
    link *links;
    int64_t link_count, link_capacity;
    chance *heap; /* the most frequent first */
    int64_t heap_length, heap_capacity;
};

/* Room for one more of an array that doubles. */
static fur_status make_room(fur_error *error, void **array, int64_t count, int64_t *capacity, size_t element)
{
    if (count < *capacity)
        return FUR_OK;
    int64_t wanted = *capacity ? 2 * *capacity : 1024, bytes;
    if (count >= MOST_WORDS || !fur_mul_ok(wanted, (int64_t)element, &bytes))
        return fur_error_set(error, FUR_E_UNSUPPORTED, "more than %lld different words or pairs",
                             (long long)MOST_WORDS);
    void *larger = fur_realloc(*array, (size_t)bytes);
    if (!larger)
        return fur_memory_error(error, bytes, "the words of a text");
    *array = larger;
    *capacity = wanted;
    return FUR_OK;
}

static fur_status new_slots(fur_error *error, int32_t **slots, uint64_t *mask, uint64_t count)
{
    int32_t *larger = fur_malloc(count * sizeof *larger);
    if (!larger)
        return fur_memory_error(error, (int64_t)(count * sizeof *larger), "the words of a text");
    memset(larger, 0xff, count * sizeof *larger);
    fur_free(*slots);
    *slots = larger;
    *mask = count - 1;
    return FUR_OK;
}

fur_status fur_bpe_trainer_create(fur_error *error, const int32_t byte_ids[256], fur_bpe_trainer **out)
{
    fur_bpe_trainer *trainer = fur_calloc(1, sizeof *trainer);
    if (!trainer)
        return fur_memory_error(error, (int64_t)sizeof *trainer, "a trainer");
    memcpy(trainer->byte_ids, byte_ids, sizeof trainer->byte_ids);
    fur_status status = new_slots(error, &trainer->word_slots, &trainer->word_mask, 4096);
    if (status == FUR_OK)
        status = new_slots(error, &trainer->pair_slots, &trainer->pair_mask, 4096);
    if (status != FUR_OK) {
        fur_bpe_trainer_destroy(trainer);
        return status;
    }
    *out = trainer;
    return FUR_OK;
}

void fur_bpe_trainer_destroy(fur_bpe_trainer *trainer)
{
    if (!trainer)
        return;
    fur_string_clear(&trainer->text);
    fur_free(trainer->words);
    fur_free(trainer->word_slots);
    fur_free(trainer->symbols);
    fur_free(trainer->pairs);
    fur_free(trainer->pair_slots);
    fur_free(trainer->links);
    fur_free(trainer->heap);
    fur_free(trainer);
}

/* ---- words ---------------------------------------------------------------------------------------------------- */

static uint64_t word_slot(const fur_bpe_trainer *t, const char *text, int64_t bytes)
{
    for (uint64_t slot = fur_text_hash(text, bytes);; slot++) {
        int32_t index = t->word_slots[slot & t->word_mask];
        if (index < 0)
            return slot & t->word_mask;
        const word *w = &t->words[index];
        if (w->length == bytes && memcmp(t->text.data + w->first, text, (size_t)bytes) == 0)
            return slot & t->word_mask;
    }
}

static fur_status grow_word_slots(fur_error *error, fur_bpe_trainer *t)
{
    if (2 * (uint64_t)t->word_count <= t->word_mask)
        return FUR_OK;
    FUR_TRY(new_slots(error, &t->word_slots, &t->word_mask, 2 * (t->word_mask + 1)));
    for (int64_t i = 0; i < t->word_count; i++)
        t->word_slots[word_slot(t, t->text.data + t->words[i].first, t->words[i].length)] = (int32_t)i;
    return FUR_OK;
}

fur_status fur_bpe_trainer_add(fur_error *error, fur_bpe_trainer *t, const char *text, int64_t bytes)
{
    if (bytes > INT32_MAX)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "a word of %lld bytes", (long long)bytes);
    uint64_t slot = word_slot(t, text, bytes);
    if (t->word_slots[slot] >= 0) {
        t->words[t->word_slots[slot]].count++;
        return FUR_OK;
    }
    void *words = t->words;
    fur_status status = make_room(error, &words, t->word_count, &t->word_capacity, sizeof *t->words);
    t->words = words;
    FUR_TRY(status);
    int64_t first = t->text.length;
    FUR_TRY(fur_string_add(error, &t->text, text, bytes));
    t->words[t->word_count] = (word){.count = 1, .first = first, .length = (int32_t)bytes};
    t->word_slots[slot] = (int32_t)t->word_count++;
    return grow_word_slots(error, t);
}

int64_t fur_bpe_trainer_words(const fur_bpe_trainer *trainer)
{
    return trainer->word_count;
}

/* ---- pairs ---------------------------------------------------------------------------------------------------- */

static uint64_t pair_slot(const fur_bpe_trainer *t, int32_t left, int32_t right)
{
    uint64_t slot = (((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1) * 0x9e3779b97f4a7c15u;
    for (slot ^= slot >> 29;; slot++) {
        int32_t index = t->pair_slots[slot & t->pair_mask];
        if (index < 0 || (t->pairs[index].left == left && t->pairs[index].right == right))
            return slot & t->pair_mask;
    }
}

static fur_status pair_of(fur_error *error, fur_bpe_trainer *t, int32_t left, int32_t right, int32_t *index)
{
    uint64_t slot = pair_slot(t, left, right);
    *index = t->pair_slots[slot];
    if (*index >= 0)
        return FUR_OK;
    void *pairs = t->pairs;
    fur_status status = make_room(error, &pairs, t->pair_count, &t->pair_capacity, sizeof *t->pairs);
    t->pairs = pairs;
    FUR_TRY(status);
    *index = (int32_t)t->pair_count;
    t->pairs[t->pair_count] = (pair){.left = left, .right = right, .where = -1};
    t->pair_slots[slot] = (int32_t)t->pair_count++;
    if (2 * (uint64_t)t->pair_count <= t->pair_mask)
        return FUR_OK;
    FUR_TRY(new_slots(error, &t->pair_slots, &t->pair_mask, 2 * (t->pair_mask + 1)));
    for (int64_t i = 0; i < t->pair_count; i++)
        t->pair_slots[pair_slot(t, t->pairs[i].left, t->pairs[i].right)] = (int32_t)i;
    return FUR_OK;
}

/* Counts a pair of a word, `times` more or fewer often; the word is noted where it is more. */
static fur_status count_pair(fur_error *error, fur_bpe_trainer *t, int32_t left, int32_t right, int64_t times,
                             int32_t in_word, int32_t *index)
{
    FUR_TRY(pair_of(error, t, left, right, index));
    pair *p = &t->pairs[*index];
    p->count += times;
    if (times < 0 || (p->where >= 0 && t->links[p->where].word == in_word))
        return FUR_OK;
    void *links = t->links;
    fur_status status = make_room(error, &links, t->link_count, &t->link_capacity, sizeof *t->links);
    t->links = links;
    FUR_TRY(status);
    t->links[t->link_count] = (link){.word = in_word, .next = p->where};
    p->where = t->link_count++;
    return FUR_OK;
}

/* ---- the most frequent ---------------------------------------------------------------------------------------- */

static bool comes_before(const fur_bpe_trainer *t, const chance *a, const chance *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    const pair *p = &t->pairs[a->pair], *q = &t->pairs[b->pair];
    return p->left != q->left ? p->left < q->left : p->right < q->right;
}

static fur_status push(fur_error *error, fur_bpe_trainer *t, int32_t index)
{
    void *heap = t->heap;
    fur_status status = make_room(error, &heap, t->heap_length, &t->heap_capacity, sizeof *t->heap);
    t->heap = heap;
    FUR_TRY(status);
    chance new = {.count = t->pairs[index].count, .pair = index};
    int64_t at = t->heap_length++;
    while (at > 0 && comes_before(t, &new, &t->heap[(at - 1) / 2])) {
        t->heap[at] = t->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->heap[at] = new;
    return FUR_OK;
}

static chance pop(fur_bpe_trainer *t)
{
    chance top = t->heap[0], last = t->heap[--t->heap_length];
    int64_t at = 0, count = t->heap_length;
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && comes_before(t, &t->heap[child + 1], &t->heap[child]))
            child++;
        if (!comes_before(t, &t->heap[child], &last))
            break;
        t->heap[at] = t->heap[child];
    }
    t->heap[at] = last;
    return top;
}

/* ---- merging -------------------------------------------------------------------------------------------------- */

static fur_status count_all_pairs(fur_error *error, fur_bpe_trainer *t)
{
    t->symbols = fur_malloc((size_t)t->text.length * sizeof *t->symbols);
    if (!t->symbols)
        return fur_memory_error(error, t->text.length * (int64_t)sizeof *t->symbols, "the words of a text");
    for (int64_t i = 0; i < t->text.length; i++)
        t->symbols[i] = t->byte_ids[(unsigned char)t->text.data[i]];
    for (int64_t i = 0; i < t->word_count; i++) {
        const word *w = &t->words[i];
        const int32_t *s = t->symbols + w->first;
        int32_t index;
        for (int32_t j = 0; j + 1 < w->length; j++)
            FUR_TRY(count_pair(error, t, s[j], s[j + 1], w->count, (int32_t)i, &index));
    }
    for (int64_t i = 0; i < t->pair_count; i++)
        FUR_TRY(push(error, t, (int32_t)i));
    return FUR_OK;
}

static fur_status touch(fur_error *error, fur_bpe_trainer *t, int32_t index, int32_t merged, fur_ids *touched)
{
    if (t->pairs[index].touched == merged)
        return FUR_OK;
    t->pairs[index].touched = merged;
    return fur_ids_add(error, touched, index);
}

/* Joins the pair wherever the word has it, left to right; neighbours that are new are noted in `touched`. */
static fur_status merge_in_word(fur_error *error, fur_bpe_trainer *t, int32_t in_word, int32_t left, int32_t right,
                                int32_t merged, fur_ids *touched)
{
    word *w = &t->words[in_word];
    int32_t *s = t->symbols + w->first;
    int32_t index;
    for (int32_t i = 0; i + 1 < w->length; i++) {
        if (s[i] != left || s[i + 1] != right)
            continue;
        if (i > 0) {
            FUR_TRY(count_pair(error, t, s[i - 1], left, -w->count, in_word, &index));
            FUR_TRY(count_pair(error, t, s[i - 1], merged, w->count, in_word, &index));
            FUR_TRY(touch(error, t, index, merged, touched));
        }
        if (i + 2 < w->length) {
            FUR_TRY(count_pair(error, t, right, s[i + 2], -w->count, in_word, &index));
            FUR_TRY(count_pair(error, t, merged, s[i + 2], w->count, in_word, &index));
            FUR_TRY(touch(error, t, index, merged, touched));
        }
        s[i] = merged;
        memmove(s + i + 1, s + i + 2, (size_t)(w->length - i - 2) * sizeof *s);
        w->length--;
    }
    return FUR_OK;
}

static fur_status merge_pair(fur_error *error, fur_bpe_trainer *t, int32_t index, int32_t merged, fur_ids *touched)
{
    pair p = t->pairs[index];
    touched->length = 0;
    for (int64_t at = p.where; at >= 0; at = t->links[at].next)
        FUR_TRY(merge_in_word(error, t, t->links[at].word, p.left, p.right, merged, touched));
    t->pairs[index].count = 0;
    for (int64_t i = 0; i < touched->length; i++)
        FUR_TRY(push(error, t, touched->data[i]));
    return FUR_OK;
}

static fur_status run(fur_error *error, fur_bpe_trainer *t, int64_t most, fur_ids *pairs, fur_ids *touched)
{
    FUR_TRY(count_all_pairs(error, t));
    for (int64_t done = 0; done < most && t->heap_length > 0;) {
        chance top = pop(t);
        const pair *p = &t->pairs[top.pair];
        if (p->count < 1)
            continue;
        if (p->count != top.count) { /* fewer since it was noted */
            if (p->count < top.count)
                FUR_TRY(push(error, t, top.pair));
            continue;
        }
        FUR_TRY(fur_ids_add(error, pairs, p->left));
        FUR_TRY(fur_ids_add(error, pairs, p->right));
        FUR_TRY(merge_pair(error, t, top.pair, (int32_t)(256 + done), touched));
        done++;
    }
    return FUR_OK;
}

fur_status fur_bpe_trainer_run(fur_error *error, fur_bpe_trainer *trainer, int64_t most, fur_ids *pairs)
{
    fur_ids touched = {0};
    fur_status status = run(error, trainer, most, pairs, &touched);
    fur_ids_clear(&touched);
    return status;
}
