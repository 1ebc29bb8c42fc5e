/* SPDX-License-Identifier: Apache-2.0 */
#include "text/bpe.h"

#include <string.h>

#include "base/alloc.h"
#include "io/file.h"
#include "text/utf8.h"

#define FEW  48         /* symbols whose smallest rank is found by looking at all */
#define NONE UINT32_MAX /* rank of a pair that is not joined */

typedef struct symbol {
    int32_t id;
    int32_t before, after; /* -1: none */
} symbol;

typedef struct candidate {
    uint32_t rank;
    int32_t at;    /* left symbol */
    int32_t right; /* id that was to its right */
    int32_t left;
} candidate;

struct fur_bpe_work {
    fur_ids ids;
    symbol *symbols; /* [capacity] */
    candidate *heap; /* [3 * capacity] */
    int64_t capacity, heap_length;
};

/* ---- the list of merges --------------------------------------------------------------------------------------- */

static uint64_t pair_key(int32_t left, int32_t right)
{
    return ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + 1;
}

static uint64_t spread(uint64_t key)
{
    key *= 0x9e3779b97f4a7c15u;
    return key ^ key >> 29;
}

static const fur_bpe_merge *find_merge(const fur_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right);
    for (uint64_t slot = spread(key);; slot++) {
        const fur_bpe_merge *merge = &bpe->merges[slot & bpe->mask];
        if (merge->pair == key)
            return merge;
        if (merge->pair == 0)
            return NULL;
    }
}

fur_status fur_bpe_init(fur_error *error, fur_bpe *bpe, int64_t merge_count)
{
    bpe->mask = 1;
    while (bpe->mask < 2 * (uint64_t)merge_count)
        bpe->mask *= 2;
    bpe->mask--;
    bpe->merges = fur_calloc((size_t)bpe->mask + 1, sizeof *bpe->merges);
    bpe->work = fur_calloc(1, sizeof *bpe->work);
    if (!bpe->merges || !bpe->work)
        return fur_memory_error(error, (int64_t)((bpe->mask + 1) * sizeof *bpe->merges), "merges");
    return FUR_OK;
}

void fur_bpe_clear(fur_bpe *bpe)
{
    fur_free(bpe->merges);
    fur_free(bpe->joints);
    if (bpe->work) {
        fur_ids_clear(&bpe->work->ids);
        fur_free(bpe->work->symbols);
        fur_free(bpe->work->heap);
    }
    fur_free(bpe->work);
    bpe->merges = NULL;
    bpe->joints = NULL;
    bpe->work = NULL;
}

void fur_bpe_add_merge(fur_bpe *bpe, int32_t left, int32_t right, uint32_t rank, int32_t merged)
{
    uint64_t key = pair_key(left, right);
    uint64_t slot = spread(key);
    while (bpe->merges[slot & bpe->mask].pair != 0 && bpe->merges[slot & bpe->mask].pair != key)
        slot++;
    bpe->merges[slot & bpe->mask] = (fur_bpe_merge){.pair = key, .rank = rank, .merged = merged};
}

/* ---- where to cut --------------------------------------------------------------------------------------------- */

static int32_t character_id(const fur_bpe *bpe, const char *at, int64_t bytes)
{
    return bytes == 1 ? bpe->ascii_ids[(unsigned char)*at] : fur_vocabulary_find(bpe->vocabulary, at, bytes);
}

static bool has_joint(const fur_bpe *bpe, uint64_t key)
{
    uint64_t slot = spread(key);
    while (bpe->joints[slot & bpe->joint_mask] != 0 && bpe->joints[slot & bpe->joint_mask] != key)
        slot++;
    return bpe->joints[slot & bpe->joint_mask] == key;
}

static void add_joint(fur_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t key = pair_key(left, right);
    uint64_t slot = spread(key);
    while (bpe->joints[slot & bpe->joint_mask] != 0 && bpe->joints[slot & bpe->joint_mask] != key)
        slot++;
    bpe->joints[slot & bpe->joint_mask] = key;
}

/* A merge joins the last character of its left token to the first of its right one, whatever they grew from. Only where
 * tokens of single bytes take part in merges is that not so: they are no spelling of characters. */
static bool add_joints(fur_bpe *bpe)
{
    for (uint64_t i = 0; i <= bpe->mask; i++) {
        const fur_bpe_merge *merge = &bpe->merges[i];
        if (merge->pair == 0)
            continue;
        int32_t left = (int32_t)((merge->pair - 1) >> 32), right = (int32_t)(merge->pair - 1);
        for (int b = 0; bpe->byte_fallback && b < 256; b++)
            if (bpe->byte_ids[b] == left || bpe->byte_ids[b] == right)
                return false;
        int64_t left_bytes, right_bytes;
        const char *l = fur_vocabulary_text(bpe->vocabulary, left, &left_bytes);
        const char *r = fur_vocabulary_text(bpe->vocabulary, right, &right_bytes);
        if (left_bytes == 0 || right_bytes == 0)
            return false;
        const char *last = l + left_bytes - 1;
        while (last > l && ((unsigned char)*last & 0xc0) == 0x80)
            last--;
        int32_t left_id = character_id(bpe, last, l + left_bytes - last);
        int32_t right_id = character_id(bpe, r, fur_utf8_length(r));
        if (left_id >= 0 && right_id >= 0) /* else the merge is never reached */
            add_joint(bpe, left_id, right_id);
    }
    return true;
}

fur_status fur_bpe_finish(fur_error *error, fur_bpe *bpe)
{
    if (bpe->by_bytes || bpe->whole_words)
        return FUR_OK;
    for (int c = 0; c < 128; c++)
        bpe->ascii_ids[c] = fur_vocabulary_find(bpe->vocabulary, (char[]){(char)c}, 1);
    bpe->joint_mask = bpe->mask;
    bpe->joints = fur_calloc((size_t)bpe->joint_mask + 1, sizeof *bpe->joints);
    if (!bpe->joints)
        return fur_memory_error(error, (int64_t)((bpe->joint_mask + 1) * sizeof *bpe->joints), "merges");
    if (!add_joints(bpe)) {
        fur_free(bpe->joints);
        bpe->joints = NULL;
        return FUR_OK;
    }
    for (int l = 0; l < 128; l++)
        for (int r = 0; r < 128; r++)
            if (bpe->ascii_ids[l] < 0 || bpe->ascii_ids[r] < 0 ||
                has_joint(bpe, pair_key(bpe->ascii_ids[l], bpe->ascii_ids[r])))
                bpe->ascii_joints[l][r / 64] |= (uint64_t)1 << (r % 64);
    return FUR_OK;
}

bool fur_bpe_may_cut(const fur_bpe *bpe, const char *left, int64_t left_bytes, const char *right, int64_t right_bytes)
{
    if (!bpe->joints)
        return false;
    if (left_bytes == 1 && right_bytes == 1) {
        unsigned char l = (unsigned char)*left, r = (unsigned char)*right;
        return !(bpe->ascii_joints[l][r / 64] >> (r % 64) & 1);
    }
    int32_t l = character_id(bpe, left, left_bytes), r = character_id(bpe, right, right_bytes);
    return l >= 0 && r >= 0 && !has_joint(bpe, pair_key(l, r));
}

/* ---- symbols -------------------------------------------------------------------------------------------------- */

static fur_status byte_symbols(fur_error *error, const fur_bpe *bpe, const char *word, int64_t bytes, fur_ids *ids)
{
    FUR_TRY(fur_ids_reserve(error, ids, bytes));
    bool unknown_before = false;
    for (int64_t i = 0; i < bytes; i++) {
        int32_t id = bpe->byte_ids[(unsigned char)word[i]];
        bool unknown = id < 0;
        if (unknown)
            id = bpe->unknown;
        if (id >= 0 && !(unknown && unknown_before && bpe->fuse_unknown))
            ids->data[ids->length++] = id;
        unknown_before = unknown;
    }
    return FUR_OK;
}

/* The tokens of a character's bytes, if all are there. */
static bool fall_back(const fur_bpe *bpe, const char *at, int64_t bytes, fur_ids *ids)
{
    int stray = bytes == 3 ? fur_utf8_stray(fur_utf8_get(at)) : -1;
    char one[4] = {(char)stray};
    if (stray >= 0) {
        at = one;
        bytes = 1;
    }
    for (int64_t i = 0; i < bytes; i++)
        if (bpe->byte_ids[(unsigned char)at[i]] < 0)
            return false;
    for (int64_t i = 0; i < bytes; i++)
        ids->data[ids->length++] = bpe->byte_ids[(unsigned char)at[i]];
    return true;
}

/* An unknown waits until the next character that is a token: bytes in between come before it, as in Hugging Face
 * tokenizers. */
static fur_status character_symbols(fur_error *error, const fur_bpe *bpe, const char *word, int64_t bytes, fur_ids *ids)
{
    FUR_TRY(fur_ids_reserve(error, ids, bytes + 1));
    bool waiting = false;
    for (int64_t at = 0, length; at < bytes; at += length) {
        length = fur_utf8_length(word + at);
        int32_t id = fur_vocabulary_find(bpe->vocabulary, word + at, length);
        if (id < 0 && bpe->byte_fallback && fall_back(bpe, word + at, length, ids))
            continue;
        bool flush = waiting && (id >= 0 || !bpe->fuse_unknown);
        if (flush)
            ids->data[ids->length++] = bpe->unknown;
        if (id >= 0)
            ids->data[ids->length++] = id;
        waiting = id < 0 && bpe->unknown >= 0;
    }
    if (waiting)
        ids->data[ids->length++] = bpe->unknown;
    return FUR_OK;
}

/* ---- merging -------------------------------------------------------------------------------------------------- */

static uint32_t rank_of(const fur_bpe *bpe, int32_t left, int32_t right, int32_t *merged)
{
    const fur_bpe_merge *merge = find_merge(bpe, left, right);
    *merged = merge ? merge->merged : -1;
    return merge ? merge->rank : NONE;
}

static int64_t merge_few(const fur_bpe *bpe, int32_t *ids, int64_t count)
{
    uint32_t rank[FEW];
    int32_t merged[FEW];
    for (int64_t i = 0; i + 1 < count; i++)
        rank[i] = rank_of(bpe, ids[i], ids[i + 1], &merged[i]);
    while (count > 1) {
        int64_t best = 0;
        for (int64_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NONE)
            break;
        ids[best] = merged[best];
        for (int64_t i = best + 1; i + 1 < count; i++) {
            ids[i] = ids[i + 1];
            rank[i - 1] = rank[i];
            merged[i - 1] = merged[i];
        }
        count--;
        if (best > 0)
            rank[best - 1] = rank_of(bpe, ids[best - 1], ids[best], &merged[best - 1]);
        if (best + 1 < count)
            rank[best] = rank_of(bpe, ids[best], ids[best + 1], &merged[best]);
    }
    return count;
}

static bool comes_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct fur_bpe_work *work, candidate new)
{
    int64_t at = work->heap_length++;
    while (at > 0 && comes_before(&new, &work->heap[(at - 1) / 2])) {
        work->heap[at] = work->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    work->heap[at] = new;
}

static candidate heap_pop(struct fur_bpe_work *work)
{
    candidate top = work->heap[0], last = work->heap[--work->heap_length];
    int64_t at = 0, count = work->heap_length;
    for (int64_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && comes_before(&work->heap[child + 1], &work->heap[child]))
            child++;
        if (!comes_before(&work->heap[child], &last))
            break;
        work->heap[at] = work->heap[child];
    }
    work->heap[at] = last;
    return top;
}

static void consider(const fur_bpe *bpe, struct fur_bpe_work *work, int32_t at)
{
    const symbol *left = &work->symbols[at];
    const symbol *right = &work->symbols[left->after];
    const fur_bpe_merge *merge = find_merge(bpe, left->id, right->id);
    if (merge)
        heap_push(work, (candidate){.rank = merge->rank, .at = at, .left = left->id, .right = right->id});
}

static fur_status make_room(fur_error *error, struct fur_bpe_work *work, int64_t count)
{
    if (count <= work->capacity)
        return FUR_OK;
    if (count > INT32_MAX / 2)
        return fur_error_set(error, FUR_E_UNSUPPORTED, "a word of %lld symbols, expected fewer than %d",
                             (long long)count, INT32_MAX / 2);
    fur_free(work->symbols);
    fur_free(work->heap);
    work->capacity = count;
    work->symbols = fur_malloc((size_t)count * sizeof *work->symbols);
    work->heap = fur_malloc((size_t)(3 * count) * sizeof *work->heap); /* each merge adds two, each uses up one */
    if (work->symbols && work->heap)
        return FUR_OK;
    work->capacity = 0;
    return fur_memory_error(error, count * (int64_t)(sizeof *work->symbols + 3 * sizeof *work->heap), "a long word");
}

static fur_status merge_many(fur_error *error, const fur_bpe *bpe, int32_t *ids, int64_t *count)
{
    struct fur_bpe_work *work = bpe->work;
    FUR_TRY(make_room(error, work, *count));
    symbol *symbols = work->symbols;
    for (int32_t i = 0; i < *count; i++)
        symbols[i] = (symbol){.id = ids[i], .before = i - 1, .after = i + 1 < *count ? i + 1 : -1};
    work->heap_length = 0;
    for (int32_t i = 0; i + 1 < *count; i++)
        consider(bpe, work, i);
    while (work->heap_length > 0) {
        candidate top = heap_pop(work);
        symbol *left = &symbols[top.at];
        if (left->id != top.left || left->after < 0 || symbols[left->after].id != top.right)
            continue; /* joined to others since */
        symbol *right = &symbols[left->after];
        left->id = find_merge(bpe, top.left, top.right)->merged;
        left->after = right->after;
        right->id = -1;
        if (left->after >= 0) {
            symbols[left->after].before = top.at;
            consider(bpe, work, top.at);
        }
        if (left->before >= 0)
            consider(bpe, work, left->before);
    }
    int64_t kept = 0;
    for (int32_t i = 0; i >= 0 && kept < *count; i = symbols[i].after)
        ids[kept++] = symbols[i].id;
    *count = kept;
    return FUR_OK;
}

fur_status fur_bpe_encode(fur_error *error, fur_bpe *bpe, const char *word, int64_t bytes, fur_ids *out)
{
    if (bpe->whole_words) {
        int32_t id = fur_vocabulary_find(bpe->vocabulary, word, bytes);
        if (id >= 0)
            return fur_ids_add(error, out, id);
    }
    fur_ids *ids = &bpe->work->ids;
    ids->length = 0;
    FUR_TRY(bpe->by_bytes ? byte_symbols(error, bpe, word, bytes, ids)
                          : character_symbols(error, bpe, word, bytes, ids));
    int64_t count = ids->length;
    if (count > 1 && count <= FEW)
        count = merge_few(bpe, ids->data, count);
    else if (count > 1)
        FUR_TRY(merge_many(error, bpe, ids->data, &count));
    FUR_TRY(fur_ids_reserve(error, out, count));
    if (count > 0)
        memcpy(out->data + out->length, ids->data, (size_t)count * sizeof *out->data);
    out->length += count;
    return FUR_OK;
}
