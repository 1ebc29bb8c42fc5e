/* SPDX-License-Identifier: Apache-2.0 */
/* The store: layer inputs, attention outputs and Adam's moments in every place they may be.
 *
 * Same bits: loss, every gradient, the gradient by the input, and weights and moments after three updates, for layer
 * inputs in memory, of every second layer, on disk; attention in memory, on disk, computed again; moments in memory, on
 * disk; feedforward values kept or not; 1 and 2 threads; causal and bidirectional; packed documents; dropout. Likewise
 * for heads in every number of groups, in f32 and bf16. Faults: each operation on the store's file fails in turn, in
 * the sweep and in the update. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/fault.h"
#include "io/hash.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/run.h"
#include "op/adamw/adamw.h"
#include "store/encode.h"

#define DISK ((int64_t)1 << 40)

/* All that heads have of their own, and windows that hold a ring in one layer and the whole row in others. */
static const kit_model_case all_of_heads = {"ALiBi, sink logits, softcap, norms of q and k, dropout, 12 heads on 6",
                                            {.vocabulary = 50,
                                             .context = 512,
                                             .width = 30,
                                             .heads = 12,
                                             .kv_heads = 6,
                                             .head_dim = 6,
                                             .hidden = 37,
                                             .init_std = 0.15,
                                             .norm = FUR_NORM_RMSNORM,
                                             .activation = FUR_ACTIVATION_SWIGLU,
                                             .norm_eps = 1e-5,
                                             .position = FUR_POSITION_ALIBI,
                                             .rope_theta = 1e4,
                                             .causal = true,
                                             .window = {0, 20, 0, 50},
                                             .sink_logits = true,
                                             .softcap = 4,
                                             .qk_norm = true},
                                            {70, 1, 64, 65}};

static bool has_dropout(const kit_model_case *at)
{
    for (int i = 0; i < kit_model_case_count; i++)
        if (at == &kit_model_cases[i])
            return i % 4 == 0;
    return true;
}

/* One shape of five layers, so that segments have something to compute again; every fourth one with dropout. */
static fur_model_config five_layers(const kit_model_case *at)
{
    fur_model_config c = at->config;
    c.layers = 5;
    if (has_dropout(at)) {
        c.dropout = c.embedding_dropout = 0.2;
        c.attention_dropout = c.far_degree ? 0 : 0.1;
    }
    return c;
}

static void open_run(fur_context *context, fur_model *model, const kit_row *row, const fur_plan_request *places,
                     kit_run *out)
{
    *out = (kit_run){.context = context, .model = model, .request = *places};
    out->request.row_tokens = row->tokens;
    out->request.superblock = 37;
    out->request.measured_gflops = 100;
    const fur_model_config *config = fur_model_config_of(model);
    kit_ok(context, fur_plan_make(context, config, &out->request, &out->plan));
    kit_ok(context, fur_run_create(context, model, &out->plan, &out->request, &out->run));
    assert_int_equal(out->plan.arena_bytes, fur_run_arena_peak_bytes(out->run));
    assert_int_equal(out->plan.disk_bytes > 0, out->run->spill != NULL);
    bool parts = false; /* some layer's heads may come in groups */
    for (int64_t layer = 0; layer < config->layers; layer++)
        parts = parts || fur_config_heads_part(config, layer);
    if (places->keys != FUR_STORE_DISK)
        assert_int_equal(out->plan.key_groups, 0);
    else if (places->key_groups)
        assert_int_equal(out->plan.key_groups, parts ? places->key_groups : 0);
}

static fur_status update_part(void *user, int64_t first, int64_t count, float *m, float *v)
{
    kit_run *run = user;
    const fur_adamw_args args = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = 2, .grad_scale = 1};
    fur_model *model = run->model;
    return fur_adamw_step(&run->run->exec, count, model->data + first, model->gradient + first, m, v, &args);
}

/* What a run leaves: the first step's gradients, what an observer saw of the second one's backward, then weights and
 * moments after three steps, and the loss of an evaluation. */
typedef struct trace {
    kit_gradient first;
    double losses[4];
    uint64_t seen[3];            /* hashes: of gradients by a layer's output, of queries, of keys */
    int64_t bytes, moment_bytes; /* tables have no such moments */
    float *weights, *m, *v;
} trace;

typedef struct sight {
    const fur_model_config *config;
    fur_hash layers, queries, keys;
} sight;

static fur_status see_layer(void *user, int64_t layer, int64_t tokens, const float *dy_TC)
{
    sight *s = user;
    fur_hash_update(&s->layers, &layer, (int64_t)sizeof layer);
    fur_hash_update(&s->layers, dy_TC, tokens * s->config->width * (int64_t)sizeof(float));
    return FUR_OK;
}

static fur_status see_queries(void *user, const fur_observed_queries *seen)
{
    sight *s = user;
    int64_t floats = seen->count * (int64_t)sizeof(float), q = fur_config_query_width(s->config);
    fur_hash_update(&s->queries, &seen->first, (int64_t)sizeof seen->first);
    fur_hash_update(&s->queries, seen->x_BC, floats * s->config->width);
    fur_hash_update(&s->queries, seen->o_BQ, floats * q);
    fur_hash_update(&s->queries, seen->lse_BH, floats * s->config->heads);
    fur_hash_update(&s->queries, seen->dq_BQ, floats * q);
    return FUR_OK;
}

static fur_status see_keys(void *user, const fur_observed_keys *seen)
{
    sight *s = user;
    int64_t bytes = seen->count * fur_config_key_width(s->config) * (int64_t)sizeof(float);
    fur_hash_update(&s->keys, &seen->first, (int64_t)sizeof seen->first);
    fur_hash_update(&s->keys, seen->dk_BK, bytes);
    fur_hash_update(&s->keys, seen->dv_BK, bytes);
    return FUR_OK;
}

static void trace_of(kit_run *run, const kit_row *row, trace *out)
{
    static sight s;
    const fur_observer observer = {&s, see_layer, see_queries, see_keys};
    s.config = fur_model_config_of(run->model);
    fur_hash_begin(&s.layers);
    fur_hash_begin(&s.queries);
    fur_hash_begin(&s.keys);
    fur_model *model = run->model;
    const fur_exec *exec = &run->run->exec;
    fur_moments *moments = &run->run->memory.moments;
    out->bytes = model->data_bytes;
    out->moment_bytes = moments->count * (int64_t)sizeof(float);
    out->weights = malloc((size_t)out->bytes);
    out->m = malloc((size_t)out->bytes);
    out->v = malloc((size_t)out->bytes);
    assert_true(out->weights && out->m && out->v);
    kit_ok(run->context, fur_moments_zero(exec, moments));
    for (int step = 0; step < 3; step++) {
        kit_gradient g;
        fur_run_set_random(run->run, 34, (uint64_t)step);
        run->run->observer = step == 1 ? &observer : NULL;
        kit_gradient_create(run, row, NULL, 1.0, &g);
        out->losses[step] = g.loss;
        kit_ok(run->context, fur_moments_each(exec, moments, true, update_part, run));
        if (step == 0)
            out->first = g;
        else
            kit_gradient_destroy(&g);
    }
    out->seen[0] = fur_hash_end(&s.layers);
    out->seen[1] = fur_hash_end(&s.queries);
    out->seen[2] = fur_hash_end(&s.keys);
    kit_ok(run->context, fur_model_loss(run->run, &row->row, NULL, &out->losses[3], NULL));
    memcpy(out->weights, model->data, (size_t)out->bytes);
    kit_ok(run->context, fur_moments_read(exec->error, moments, false, 0, moments->count, out->m));
    kit_ok(run->context, fur_moments_read(exec->error, moments, true, 0, moments->count, out->v));
}

static void trace_clear(trace *t)
{
    kit_gradient_destroy(&t->first);
    free(t->weights);
    free(t->m);
    free(t->v);
}

static void trace_of_type(const kit_model_case *at, const kit_folder *folder, const char *dtype, int threads,
                          const fur_plan_request *places, trace *out)
{
    fur_context *context = kit_context_of(threads, dtype);
    fur_model_config config = five_layers(at);
    fur_model *model = kit_model(context, &config, 31);
    kit_row row;
    kit_run run;
    fur_plan_request request = *places;
    request.disk_dir = folder->path;
    kit_row_create(&config, at->lengths, 1, 32, &row);
    open_run(context, model, &row, &request, &run);
    trace_of(&run, &row, out);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void trace_with(const kit_model_case *at, const kit_folder *folder, int threads, const fur_plan_request *places,
                       trace *out)
{
    trace_of_type(at, folder, "f32", threads, places, out);
}

static void check_same(const char *name, const fur_plan_request *p, int threads, const trace *a, const trace *b)
{
    char text[200];
    snprintf(text, sizeof text, "%s, inputs %d, attention %d, optimizer %d, keys %d in %d, keep %d, %d threads", name,
             (int)p->inputs, (int)p->attention, (int)p->optimizer, (int)p->keys, (int)p->key_groups, (int)p->keep,
             threads);
    kit_check_same_bits(text, a->losses, b->losses, sizeof a->losses);
    kit_check_same_bits(text, a->seen, b->seen, sizeof a->seen);
    kit_check_same_bits(text, a->first.all, b->first.all, (size_t)a->first.count * sizeof(float));
    kit_check_same_bits(text, a->first.dx, b->first.dx, (size_t)a->first.dx_count * sizeof(float));
    kit_check_same_bits(text, a->weights, b->weights, (size_t)a->bytes);
    kit_check_same_bits(text, a->m, b->m, (size_t)a->moment_bytes);
    kit_check_same_bits(text, a->v, b->v, (size_t)a->moment_bytes);
}

static void the_store_changes_no_bit(void **state)
{
    (void)state;
    static const fur_store_place optimizers[] = {FUR_STORE_MEMORY, FUR_STORE_DISK};
    kit_folder folder;
    kit_folder_init(&folder);
    int runs = 0;
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        fur_plan_request p;
        fur_plan_request_defaults(&p);
        p.keep = FUR_KEEP_NOTHING;
        trace reference, other;
        trace_with(at, &folder, 1, &p, &reference);
        p.disk_bytes = DISK;
        for (int k = 0; k < 3 * 3 * 2; k++, runs++) {
            int threads = 1 + (i + k) % 2;
            p.inputs = (fur_store_place)(k % 3 + 1);
            p.attention = (fur_store_place)(k / 3 % 3 + 1);
            p.optimizer = optimizers[k / 9];
            p.keep = p.attention == FUR_STORE_AGAIN ? FUR_KEEP_NOTHING : k % 2 ? FUR_KEEP_ALL : FUR_KEEP_AUTO;
            trace_with(at, &folder, threads, &p, &other);
            check_same(at->name, &p, threads, &reference, &other);
            trace_clear(&other);
        }
        trace_clear(&reference);
    }
    assert_int_equal(kit_entries(folder.path), 0);
    kit_folder_clear(&folder);
    print_message("%d runs of 3 steps, %d shapes: the same bits wherever things are\n", runs, kit_model_case_count);
}

/* Every number of groups, with layer inputs and attention outputs in every place; in some pairs of places if some >= 0.
 */
static int groups_of(const kit_model_case *at, const kit_folder *folder, const char *dtype, int some)
{
    fur_plan_request p;
    fur_plan_request_defaults(&p);
    p.keep = FUR_KEEP_NOTHING;
    trace reference, other;
    trace_of_type(at, folder, dtype, 1, &p, &reference);
    p.disk_bytes = DISK;
    p.keys = FUR_STORE_DISK;
    int runs = 0;
    for (p.key_groups = 1; p.key_groups <= at->config.kv_heads; p.key_groups++) {
        if (at->config.kv_heads % p.key_groups != 0)
            continue;
        for (int k = 0; k < 3 * 3; k++) {
            if (some >= 0 && k % 3 != (k / 3 + some) % 3)
                continue;
            runs++;
            p.inputs = (fur_store_place)(k % 3 + 1);
            p.attention = (fur_store_place)(k / 3 + 1);
            p.keep = p.attention == FUR_STORE_AGAIN ? FUR_KEEP_NOTHING : FUR_KEEP_AUTO;
            trace_of_type(at, folder, dtype, 1 + k % 2, &p, &other);
            check_same(at->name, &p, 1 + k % 2, &reference, &other);
            trace_clear(&other);
        }
    }
    trace_clear(&reference);
    return runs;
}

static void heads_in_groups_change_no_bit(void **state)
{
    (void)state;
    static const char *const types[] = {"f32", "bf16"};
    kit_folder folder;
    kit_folder_init(&folder);
    int runs = 0;
    for (int type = 0; type < 2; type++) {
        runs += groups_of(&all_of_heads, &folder, types[type], -1);
        for (int i = 0; i < kit_model_case_count; i += 1 + 2 * type)
            runs += groups_of(&kit_model_cases[i], &folder, types[type], i + type);
    }
    assert_int_equal(kit_entries(folder.path), 0);
    kit_folder_clear(&folder);
    print_message("%d runs of 3 steps: the same bits in any number of groups of heads\n", runs);
}

/* ---- not exact ---------------------------------------------------------------------------------------------- */

static void encoded_rows_are_within_their_bounds(void **state)
{
    (void)state;
    enum { ROWS = 100, WIDTH = 77 };
    kit_exec kit;
    kit_exec_init(&kit, FUR_ISA_REF, 2, FUR_ARENA_ALIGN);
    const float *x = kit_guard_filled((int64_t)ROWS * WIDTH, KIT_NORMAL, 9);
    float *y = kit_guard_filled((int64_t)ROWS * WIDTH, KIT_ZERO, 9);
    for (fur_stored_type type = FUR_STORED_F32; type <= FUR_STORED_Q8; type++) {
        int64_t bytes = fur_encoded_row_bytes(type, WIDTH);
        void *data = malloc((size_t)(ROWS * bytes));
        assert_non_null(data);
        fur_rows_encode(&kit.exec, type, ROWS, WIDTH, x, data);
        fur_rows_decode(&kit.exec, type, ROWS, WIDTH, data, y);
        for (int64_t i = 0; i < (int64_t)ROWS * WIDTH; i++) {
            int64_t first = i / WIDTH * WIDTH + i % WIDTH / 32 * 32, last = i / WIDTH * WIDTH + WIDTH;
            double largest = 0, error = fabs((double)y[i] - (double)x[i]);
            for (int64_t k = first; k < first + 32 && k < last; k++)
                largest = fmax(largest, fabs((double)x[k]));
            double bound = type == FUR_STORED_Q8     ? largest / 127 * 0.50001
                           : type == FUR_STORED_BF16 ? fabs((double)x[i]) / 256
                                                     : 0;
            if (!(error <= bound))
                fail_msg("type %d, element %lld: %g, wanted %g", (int)type, (long long)i, (double)y[i], (double)x[i]);
        }
        free(data);
    }
    kit_guard_free_all();
    kit_exec_clear(&kit);
}

/* How far the gradient is from the exact one; the same bits in memory and on disk. */
static void inputs_that_are_not_exact(void **state)
{
    (void)state;
    static const char *const names[] = {"f32", "bf16", "q8"};
    static const double bounds[] = {0, 1e-2, 5e-2};
    kit_folder folder;
    kit_folder_init(&folder);
    double worst[3] = {0};
    for (int i = 0; i < kit_model_case_count; i++) {
        const kit_model_case *at = &kit_model_cases[i];
        fur_plan_request p;
        fur_plan_request_defaults(&p);
        p.disk_bytes = DISK;
        trace exact, memory, disk;
        trace_with(at, &folder, 1, &p, &exact);
        for (int type = FUR_STORED_BF16; type <= FUR_STORED_Q8; type++) {
            p.stored = (fur_stored_type)type;
            p.inputs = FUR_STORE_MEMORY;
            trace_with(at, &folder, 1, &p, &memory);
            p.inputs = FUR_STORE_DISK;
            trace_with(at, &folder, 2, &p, &disk);
            check_same(at->name, &p, 2, &memory, &disk);
            double error = 0, size = 0;
            for (int64_t k = 0; k < exact.first.count; k++) {
                double e = (double)exact.first.all[k];
                error += ((double)memory.first.all[k] - e) * ((double)memory.first.all[k] - e);
                size += e * e;
            }
            assert_true(exact.losses[0] == memory.losses[0]); /* forward is exact */
            if (at->config.lookup_bits == 0) /* rounding turns signs there, and other rows are no small error */
                worst[type] = fmax(worst[type], sqrt(error / size));
            trace_clear(&memory);
            trace_clear(&disk);
        }
        p.stored = FUR_STORED_F32;
        p.inputs = FUR_STORE_CHOSEN;
        trace_clear(&exact);
    }
    for (int type = FUR_STORED_BF16; type <= FUR_STORED_Q8; type++) {
        print_message("layer inputs as %-4s: gradient %.1e from exact at most (bound %.0e)\n", names[type], worst[type],
                      bounds[type]);
        assert_true(worst[type] > 1e-5 && worst[type] <= bounds[type]);
    }
    kit_folder_clear(&folder);
}

/* The figure that a run tells about itself is the difference between two runs' gradients. */
static void a_run_measures_its_own_error(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[3];
    kit_folder folder;
    kit_folder_init(&folder);
    fur_context *context = kit_context(2);
    fur_model_config config = five_layers(at);
    fur_model *model = kit_model(context, &config, 31);
    kit_row row, shorter;
    kit_row_create(&config, at->lengths, 1, 32, &row);
    kit_row_create(&config, (int64_t[]){5, 3, 0}, 1, 33, &shorter);
    fur_plan_request p;
    fur_plan_request_defaults(&p);
    p.disk_bytes = DISK;
    p.disk_dir = folder.path;
    kit_run run;
    kit_gradient exact, stored;
    open_run(context, model, &row, &p, &run);
    kit_gradient_create(&run, &shorter, NULL, 1.0, &exact);
    kit_run_destroy(&run);
    for (int k = 0; k < 4; k++) {
        p.stored = k % 2 ? FUR_STORED_Q8 : FUR_STORED_BF16;
        p.inputs = k / 2 ? FUR_STORE_DISK : FUR_STORE_MEMORY;
        open_run(context, model, &row, &p, &run);
        double told, error = 0, size = 0;
        assert_true(fur_run_stored_error_tokens(run.run) >= shorter.tokens);
        kit_ok(context, fur_run_stored_error(run.run, &shorter.row, &told));
        kit_gradient_create(&run, &shorter, NULL, 1.0, &stored);
        for (int64_t i = 0; i < exact.count; i++) {
            error += pow((double)exact.all[i] - (double)stored.all[i], 2);
            size += pow((double)exact.all[i], 2);
        }
        assert_true(told > 0 && fabs(told / sqrt(error / size) - 1) < 1e-3);
        kit_gradient_destroy(&stored);
        kit_run_destroy(&run);
    }
    kit_gradient_destroy(&exact);
    kit_row_destroy(&row);
    kit_row_destroy(&shorter);
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

/* Rows of other lengths, and evaluation, between two of the same: nothing of one is read in another. */
static void rows_do_not_meet_in_the_store(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[0];
    kit_folder folder;
    kit_folder_init(&folder);
    fur_context *context = kit_context(2);
    fur_model_config config = five_layers(at);
    fur_model *model = kit_model(context, &config, 31);
    kit_row row, between;
    kit_run run;
    fur_plan_request p;
    fur_plan_request_defaults(&p);
    p.disk_bytes = DISK;
    p.disk_dir = folder.path;
    p.inputs = p.attention = p.optimizer = p.keys = FUR_STORE_DISK;
    kit_row_create(&config, at->lengths, 1, 32, &row);
    kit_row_create(&config, (int64_t[]){30, 70, 0}, 1, 33, &between);
    open_run(context, model, &row, &p, &run);
    kit_gradient a, b, c;
    double loss;
    kit_gradient_create(&run, &row, NULL, 1.0, &a);
    kit_gradient_create(&run, &between, NULL, 1.0, &b);
    kit_ok(context, fur_model_loss(run.run, &row.row, NULL, &loss, NULL));
    kit_gradient_create(&run, &row, NULL, 1.0, &c);
    kit_check_same_bits("gradient", a.all, c.all, (size_t)a.count * sizeof(float));
    kit_check_same_bits("dx", a.dx, c.dx, (size_t)a.dx_count * sizeof(float));
    kit_gradient_destroy(&a);
    kit_gradient_destroy(&b);
    kit_gradient_destroy(&c);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    kit_row_destroy(&between);
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

/* ---- faults ------------------------------------------------------------------------------------------------- */

typedef struct failing {
    long at, seen; /* the operation that fails, counted from 1; 0: none */
    int error_number;
} failing;

static int fail_at(void *user, fur_io_op op, const char *path)
{
    failing *f = user;
    if ((op != FUR_IO_READ && op != FUR_IO_WRITE && op != FUR_IO_CREATE) || !strstr(path, "store-"))
        return 0;
    return ++f->seen == f->at ? f->error_number : 0;
}

static fur_status read_part(void *user, int64_t first, int64_t count, float *m, float *v)
{
    (void)user, (void)first, (void)count, (void)m, (void)v;
    return FUR_OK;
}

/* Gradients and a pass over the moments with the k-th operation on the store's file failing, for every k, are FUR_E_IO;
 * after all of that, with nothing failing, the gradients are those of a run without faults. */
static void every_operation_on_the_store_may_fail(void **state)
{
    (void)state;
    const kit_model_case *at = &kit_model_cases[3];
    kit_folder folder;
    kit_folder_init(&folder);
    fur_context *context = kit_context(2);
    fur_model_config config = five_layers(at);
    fur_model *model = kit_model(context, &config, 31);
    kit_row row;
    kit_run run;
    fur_plan_request p;
    fur_plan_request_defaults(&p);
    p.disk_bytes = DISK;
    p.disk_dir = folder.path;
    p.inputs = p.attention = p.optimizer = p.keys = FUR_STORE_DISK;
    kit_row_create(&config, at->lengths, 1, 32, &row);
    open_run(context, model, &row, &p, &run);
    kit_gradient want, got;
    kit_ok(context, fur_moments_zero(&run.run->exec, &run.run->memory.moments));
    kit_gradient_create(&run, &row, NULL, 1.0, &want);
    long failed = 0;
    for (failing f = {1, 0, ENOSPC};; f = (failing){f.at + 1, 0, f.at % 2 ? EIO : ENOSPC}) {
        double loss;
        fur_io_hook_set(fail_at, &f);
        fur_status status = fur_model_loss_and_gradient(run.run, &row.row, NULL, 1.0, &loss, NULL);
        if (status == FUR_OK)
            status = fur_moments_each(&run.run->exec, &run.run->memory.moments, true, read_part, NULL);
        fur_spill_clear(run.run->spill);
        fur_io_hook_set(NULL, NULL);
        if (f.seen < f.at) {
            kit_ok(context, status);
            break;
        }
        failed++;
        assert_int_equal(status, FUR_E_IO);
        assert_non_null(strstr(fur_context_error(context), f.error_number == EIO ? "Input/output" : "No space left"));
    }
    assert_true(failed > 50);
    kit_gradient_create(&run, &row, NULL, 1.0, &got);
    kit_check_same_bits("gradient", want.all, got.all, (size_t)want.count * sizeof(float));
    print_message("%ld operations of a step on the store's file, each failed in turn: a status each time\n", failed);
    kit_gradient_destroy(&want);
    kit_gradient_destroy(&got);
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

static void bad_folders_are_refused(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_error error = {FUR_OK, ""};
    fur_spill *spill;
    int64_t live = fur_alloc_live();
    assert_int_equal(fur_spill_create(&error, kit_path(&folder, "none"), 1, &spill), FUR_E_IO);
    assert_non_null(strstr(error.text, "none: cannot use the folder for the store: No such file"));
    assert_int_equal(fur_spill_create(&error, folder.path, INT64_MAX, &spill), FUR_E_IO);
    assert_non_null(strstr(error.text, "are free there"));
    failing f = {1, 0, EACCES};
    fur_io_hook_set(fail_at, &f);
    assert_int_equal(fur_spill_create(&error, folder.path, 1, &spill), FUR_E_IO);
    fur_io_hook_set(NULL, NULL);
    assert_non_null(strstr(error.text, "cannot make the store's file: Permission denied"));
    assert_int_equal(fur_alloc_live(), live);
    fur_status status = FUR_E_MEMORY;
    for (int64_t k = 1; status != FUR_OK; k++) {
        fur_alloc_fail_at(k);
        status = fur_spill_create(&error, folder.path, 1, &spill);
        fur_alloc_fail_at(0);
        assert_true(status == FUR_OK || (status == FUR_E_MEMORY && fur_alloc_live() == live && !spill));
    }
    fur_spill_destroy(spill);
    assert_int_equal(fur_alloc_live(), live);
    /* a range outside the file is nobody's fault but ours */
    char byte = 0;
    assert_int_equal(fur_spill_create(&error, folder.path, 1, &spill), FUR_OK);
    assert_int_equal(kit_entries(folder.path), 0);
    assert_int_equal(fur_spill_wait(&error, spill, fur_spill_write(spill, 1, &byte, 1)), FUR_E_INTERNAL);
    fur_spill_clear(spill);
    assert_int_equal(fur_spill_wait(&error, spill, fur_spill_read(spill, 0, &byte, 1)), FUR_E_IO); /* never written */
    fur_spill_destroy(spill);
    kit_folder_clear(&folder);
}

static void plan_keeps_to_the_disk_it_is_given(void **state)
{
    (void)state;
    fur_context *context = kit_context(2);
    fur_model_config c;
    kit_ok(context, fur_config_preset(context, "gpt2-124m", 65536, &c));
    fur_plan_request r;
    fur_plan plan, with_disk;
    fur_plan_request_defaults(&r);
    r.row_tokens = 65536;
    r.measured_gflops = 300;
    r.memory_bytes = 1;
    kit_ok(context, fur_plan_make(context, &c, &r, &plan));
    assert_true(!plan.fits && plan.disk_bytes == 0);
    int64_t least = plan.peak_bytes, before = INT64_MAX;
    for (int64_t disk = 0; disk <= (int64_t)1 << 36; disk = disk ? disk * 2 : 1 << 26) {
        r.disk_bytes = disk;
        r.memory_bytes = 1;
        kit_ok(context, fur_plan_make(context, &c, &r, &plan));
        assert_true(!plan.fits && plan.disk_bytes <= disk && plan.peak_bytes <= before);
        before = plan.peak_bytes;
        r.memory_bytes = plan.peak_bytes;
        kit_ok(context, fur_plan_make(context, &c, &r, &with_disk));
        assert_true(with_disk.fits && with_disk.disk_bytes <= disk && with_disk.peak_bytes == plan.peak_bytes);
    }
    assert_true(least - before > (int64_t)1900 << 20); /* of 4,057 MiB; what the process holds is in both */
    print_message("gpt2-124m, 65,536 tokens: at least %.0f MiB, with a disk %.0f MiB\n", (double)least / 1048576,
                  (double)before / 1048576);
    r.inputs = FUR_STORE_DISK;
    r.disk_bytes = 0;
    assert_int_equal(fur_plan_make(context, &c, &r, &plan), FUR_E_ARGUMENT);
    r.inputs = FUR_STORE_CHOSEN;
    r.optimizer = FUR_STORE_AGAIN;
    assert_int_equal(fur_plan_make(context, &c, &r, &plan), FUR_E_ARGUMENT);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_changes_no_bit),
        cmocka_unit_test(heads_in_groups_change_no_bit),
        cmocka_unit_test(encoded_rows_are_within_their_bounds),
        cmocka_unit_test(inputs_that_are_not_exact),
        cmocka_unit_test(a_run_measures_its_own_error),
        cmocka_unit_test(rows_do_not_meet_in_the_store),
        cmocka_unit_test(every_operation_on_the_store_may_fail),
        cmocka_unit_test(bad_folders_are_refused),
        cmocka_unit_test(plan_keeps_to_the_disk_it_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
