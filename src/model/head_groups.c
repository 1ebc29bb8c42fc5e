/* SPDX-License-Identifier: Apache-2.0 */
#include "model/head_groups.h"

#include <string.h>

/* ---- what waits ------------------------------------------------------------------------------------------- */

void fur_head_groups_reserve(const fur_model_config *c, const fur_run_shape *shape, fur_arena *arena,
                             int64_t *disk_bytes, fur_head_groups *out)
{
    int64_t q = fur_config_query_width(c), k = fur_config_key_width(c);
    const struct {
        fur_store *store;
        int64_t width;
    } all[] = {{&out->q, q},      {&out->k, k},         {&out->v, k}, {&out->output_gradient, q},
               {&out->output, q}, {&out->lse, c->heads}};
    int count = fur_run_keeps_attention(shape) ? 4 : 6;
    *out = (fur_head_groups){.count = shape->key_groups};
    for (int i = 0; i < count; i++) {
        fur_store_shape rows = {.place = FUR_STORE_DISK,
                                .layers = 1,
                                .tokens = shape->tokens,
                                .width = all[i].width,
                                .block = shape->superblock,
                                .segment = 1,
                                .parts = shape->key_groups};
        fur_store_reserve(arena, &rows, disk_bytes, all[i].store);
    }
}

void fur_head_groups_attach(fur_head_groups *groups, fur_spill *spill)
{
    groups->q.spill = groups->k.spill = groups->v.spill = spill;
    groups->output.spill = groups->lse.spill = groups->output_gradient.spill = spill;
}

void fur_head_groups_begin(fur_head_groups *groups)
{
    fur_store *all[] = {&groups->q, &groups->k, &groups->v, &groups->output_gradient, &groups->output, &groups->lse};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        fur_store_begin(all[i]);
}

fur_status fur_head_groups_get(fur_run *run, fur_store *store, int64_t first, int64_t count, int64_t next, float *rows)
{
    FUR_TRY(fur_store_get_rows(&run->exec, store, 0, first, count, rows));
    if (next >= 0)
        fur_store_ahead(store, 0, next, fur_superblock_rows(run, next));
    return FUR_OK;
}

/* ---- one group -------------------------------------------------------------------------------------------- */

/* A group of a layer's heads in work, as a layer of its own, and where its attention is. */
typedef struct group {
    fur_layer layer;
    int64_t index;
    const fur_scratch *s;
    fur_store *o, *lse;
    int64_t at; /* as which layer of these */
} group;

static group begin_group(fur_run *run, const fur_layer *layer, const fur_scratch *s, int64_t index)
{
    group g = {.layer = *layer, .index = index, .s = s};
    int64_t heads = layer->shape.kv_heads / layer->groups;
    fur_layer_attention_stores(run, layer, &g.o, &g.lse, &g.at);
    layer->kind->part(&layer->shape, index * heads, heads, &g.layer.shape);
    fur_arena_release(&run->memory.state_region, 0);
    layer->kind->reserve(&g.layer.shape, run->shape.tokens, run->shape.superblock, run->shape.purpose == FUR_FOR_TRAIN,
                         &run->memory.state_region, &g.layer.state);
    return g;
}

/* The group's part of a block. */
static fur_status get(fur_run *run, const group *g, fur_store *store, int64_t at, int64_t first, int64_t next,
                      const float **rows)
{
    FUR_TRY(fur_store_get_part(&run->exec, store, at, first, fur_superblock_rows(run, first), g->index, rows));
    if (next >= 0)
        fur_store_ahead_part(store, at, next, fur_superblock_rows(run, next), g->index);
    return FUR_OK;
}

static fur_status put(fur_run *run, const group *g, fur_store *store, int64_t at, int64_t first, const float *rows)
{
    return fur_store_put_part(&run->exec, store, at, first, fur_superblock_rows(run, first), g->index, rows);
}

/* Keys and values of a block come into the state. */
static fur_status absorb(fur_run *run, group *g, int64_t first, int64_t next)
{
    fur_layer *l = &g->layer;
    int64_t count = fur_superblock_rows(run, first);
    size_t bytes = (size_t)(count * l->shape.kv_heads * l->shape.head_dim) * sizeof(float);
    float *k = g->s->q_BQ, *v = g->s->o_BQ;
    const float *waiting;
    l->kind->key_rows(&l->shape, &l->state, first, &k, &v);
    FUR_TRY(get(run, g, &run->memory.groups.k, 0, first, next, &waiting));
    memcpy(k, waiting, bytes);
    FUR_TRY(get(run, g, &run->memory.groups.v, 0, first, next, &waiting));
    memcpy(v, waiting, bytes);
    return l->kind->absorb(&run->exec, &l->shape, &l->state, &run->documents, first, count, k, v);
}

static int64_t block_after(const fur_run *run, int64_t first)
{
    int64_t next = first + run->shape.superblock;
    return next < run->tokens ? next : -1;
}

static fur_status query(fur_run *run, group *g, int64_t first, fur_work done)
{
    fur_layer *l = &g->layer;
    int64_t count = fur_superblock_rows(run, first);
    const float *q;
    FUR_TRY(get(run, g, &run->memory.groups.q, 0, first, block_after(run, first), &q));
    FUR_TRY(
        l->kind->query(&run->exec, &l->shape, &l->state, &run->documents, first, count, q, g->s->o_BQ, g->s->lse_BH));
    FUR_TRY(put(run, g, g->o, g->at, first, g->s->o_BQ));
    FUR_TRY(put(run, g, g->lse, g->at, first, g->s->lse_BH));
    return fur_run_advance(run, first, count, done);
}

/* dk and dv of a block are complete. */
static fur_status put_key_gradients(fur_run *run, group *g, int64_t first)
{
    fur_layer *l = &g->layer;
    float *dk, *dv;
    FUR_TRY(l->kind->key_gradients(&run->exec, &l->shape, &l->state, first, fur_superblock_rows(run, first), &dk, &dv));
    FUR_TRY(put(run, g, &run->memory.groups.k, 0, first, dk));
    return put(run, g, &run->memory.groups.v, 0, first, dv);
}

static fur_status query_backward(fur_run *run, group *g, int64_t first, fur_work done)
{
    fur_layer *l = &g->layer;
    fur_head_groups *waiting = &run->memory.groups;
    int64_t count = fur_superblock_rows(run, first), next = first > 0 ? first - run->shape.superblock : -1;
    const float *q, *o, *lse, *d_o;
    FUR_TRY(get(run, g, &waiting->q, 0, first, next, &q));
    FUR_TRY(get(run, g, g->o, g->at, first, next, &o));
    FUR_TRY(get(run, g, g->lse, g->at, first, next, &lse));
    FUR_TRY(get(run, g, &waiting->output_gradient, 0, first, next, &d_o));
    FUR_TRY(l->kind->query_backward(&run->exec, &l->shape, &l->state, &run->documents, first, count, q, o, lse, d_o,
                                    g->s->dq_BQ));
    FUR_TRY(put(run, g, &waiting->q, 0, first, g->s->dq_BQ));
    return fur_run_advance(run, first, count, done);
}

/* ---- all groups ------------------------------------------------------------------------------------------- */

fur_status fur_head_groups_attend(fur_run *run, const fur_layer *layer, const fur_scratch *s, fur_work done)
{
    int one_pass = layer->kind->keys_ready_at_once(&layer->shape);
    done.attention /= (double)layer->groups;
    for (int64_t i = 0; i < layer->groups; i++) {
        group g = begin_group(run, layer, s, i);
        for (int64_t first = 0; first >= 0; first = block_after(run, first)) {
            FUR_TRY(absorb(run, &g, first, block_after(run, first)));
            if (one_pass)
                FUR_TRY(query(run, &g, first, done));
        }
        FUR_TRY(layer->kind->exchange(&run->exec, &g.layer.shape, &g.layer.state, &run->documents));
        for (int64_t first = 0; !one_pass && first >= 0; first = block_after(run, first))
            FUR_TRY(query(run, &g, first, done));
    }
    return FUR_OK;
}

fur_status fur_head_groups_backward(fur_run *run, const fur_layer *layer, const fur_scratch *s, fur_work done)
{
    int ready = layer->kind->keys_ready_at_once(&layer->shape);
    int64_t step = run->shape.superblock, last = (run->tokens - 1) / step * step;
    done.attention /= (double)layer->groups;
    for (int64_t i = 0; i < layer->groups; i++) {
        group g = begin_group(run, layer, s, i);
        for (int64_t first = 0; first >= 0; first = block_after(run, first)) {
            FUR_TRY(absorb(run, &g, first, block_after(run, first)));
            layer->kind->begin_backward(&run->exec, &g.layer.shape, &g.layer.state, first,
                                        fur_superblock_rows(run, first));
        }
        for (int64_t first = last; first >= 0; first -= step) {
            FUR_TRY(query_backward(run, &g, first, done));
            if (ready)
                FUR_TRY(put_key_gradients(run, &g, first));
        }
        FUR_TRY(layer->kind->exchange_backward(&run->exec, &g.layer.shape, &g.layer.state, &run->documents));
        for (int64_t first = last; !ready && first >= 0; first -= step)
            FUR_TRY(put_key_gradients(run, &g, first));
    }
    return FUR_OK;
}
