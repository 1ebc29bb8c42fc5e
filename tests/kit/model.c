/* SPDX-License-Identifier: Apache-2.0 */
#include "kit/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

/* clang-format off */
#define GPT   .norm = FUR_NORM_LAYERNORM, .activation = FUR_ACTIVATION_GELU_TANH, .bias = true, .norm_eps = 1e-5
#define LLAMA .norm = FUR_NORM_RMSNORM, .activation = FUR_ACTIVATION_SWIGLU, .norm_eps = 1e-5
#define GEMMA .norm = FUR_NORM_RMSNORM, .activation = FUR_ACTIVATION_GEGLU, .norm_eps = 1e-5, .norm_offset = true, \
    .scaled_embedding = true
#define ROPE  .position = FUR_POSITION_ROPE, .rope_theta = 1e4
#define TABLE .position = FUR_POSITION_LEARNED, .rope_theta = 1e4
#define FAR(p, B, T, b) \
    .far_degree = p, .far_bound = B, .far_chunk = T, .far_bias = b, .far_max_features = 65536
#define LOOKUP(up, down) \
    .norm = FUR_NORM_RMSNORM, .activation = FUR_ACTIVATION_NORM, .bias = true, .norm_eps = 1e-5, .lookup_bits = up, \
    .lookup_down_bits = down
#define SHAPE(C, H, K, D, F) \
    .context = 512, .layers = 3, .width = C, .heads = H, .kv_heads = K, .head_dim = D, .hidden = F, .init_std = 0.15

const kit_model_case kit_model_cases[] = {
    {"gpt2",
     {.vocabulary = 97, SHAPE(32, 4, 4, 8, 128), GPT, TABLE, .tied = true, .causal = true}, {70, 1, 64, 65}},
    {"gpt2 untied, one document",
     {.vocabulary = 61, SHAPE(24, 3, 3, 8, 50), GPT, TABLE, .causal = true}, {200}},
    {"gpt_neox",
     {.vocabulary = 61, SHAPE(32, 2, 2, 16, 96), GPT, ROPE, .causal = true}, {33, 100, 68}},
    {"llama, grouped heads",
     {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, .causal = true}, {70, 1, 64, 65}},
    {"llama tied, one key head, heads not the width",
     {.vocabulary = 50, SHAPE(20, 3, 1, 10, 37), LLAMA, ROPE, .tied = true, .causal = true}, {200}},
    {"bidirectional, biases with swiglu, grouped heads",
     {.vocabulary = 61, SHAPE(32, 4, 2, 8, 40), LLAMA, .bias = true, ROPE, .tied = true}, {90, 40, 70}},
    {"bidirectional, learned positions, odd heads",
     {.vocabulary = 61, SHAPE(21, 3, 3, 7, 33), GPT, TABLE}, {1, 1, 130, 68}},
    {"vectors, causal",
     {.features = 5, .outputs = 3, SHAPE(32, 4, 4, 8, 64), LLAMA, ROPE, .causal = true}, {120, 80}},
    {"vectors, bidirectional, learned positions",
     {.features = 3, .outputs = 40, SHAPE(24, 4, 2, 6, 64), GPT, TABLE}, {120, 1, 79}},
    {"windows, sinks of both kinds, ALiBi, softcap, norms of q and k",
     {.vocabulary = 50, SHAPE(20, 3, 1, 10, 37), LLAMA, .position = FUR_POSITION_ALIBI, .rope_theta = 1e4, .causal = true,
      .window = {20, 0, 7}, .sink_tokens = 3, .sink_logits = true, .softcap = 4, .qk_norm = true}, {70, 1, 64, 65}},
    {"windows alone, grouped heads",
     {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, .causal = true, .window = {20, 2, 70}}, {150, 1, 49}},
    {"the same bidirectional, YaRN, a window in every layer",
     {.vocabulary = 50, SHAPE(32, 4, 2, 8, 40), LLAMA, ROPE, .window = {20, 33, 7}, .sink_tokens = 3,
      .sink_logits = true, .softcap = 4, .qk_norm = true,
      .rope_scaling = {.type = FUR_ROPE_YARN, .factor = 4, .original_context = 64}}, {90, 40, 70}},
    {"almost-linear, a window, grouped heads, bias",
     {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, .causal = true, FAR(3, 1, 16, true), .attention = {1, 1, 1},
      .window = {20, 0, 5}},
     {150, 1, 16, 33}},
    {"almost-linear about an exact layer, sinks of both kinds, softcap, norms of q and k",
     {.vocabulary = 50, SHAPE(20, 3, 1, 10, 37), LLAMA, ROPE, .causal = true, FAR(2, 1.5, 17, true), .attention = {1, 0, 1},
      .window = {0, 30, 40}, .sink_tokens = 3, .sink_logits = true, .softcap = 4, .qk_norm = true}, {200}},
    {"almost-linear, bidirectional, learned positions",
     {.vocabulary = 61, SHAPE(32, 4, 4, 8, 40), GPT, TABLE, FAR(4, 1, 16, false), .attention = {1, 1, 1},
      .window = {0, 10, 24}}, {120, 1, 79}},
    {"look-up tables for all maps, as released",
     {.vocabulary = 97, SHAPE(32, 4, 4, 8, 48), LOOKUP(4, 6), ROPE, .projection_qkvo = 1, .projection_ffn = 1,
      .causal = true}, {70, 1, 64, 65}},
    {"look-up feedforward with two rows about almost-linear and exact layers, grouped heads",
     {.vocabulary = 61, SHAPE(32, 4, 2, 8, 40), LOOKUP(8, 10), ROPE, .projection_ffn = 1, .lookup_temperature = 1.5,
      .lookup_two_rows = true, .tied = true, .causal = true, FAR(2, 1, 16, true), .attention = {1, 0, 1},
      .window = {20, 0, 5}}, {150, 1, 49}},
    {"look-up tables of two rows, bidirectional, learned positions, grouped heads",
     {.vocabulary = 50, SHAPE(72, 6, 2, 12, 60), LOOKUP(6, 5), TABLE, .projection_qkvo = 1, .projection_ffn = 1,
      .lookup_two_rows = true, .tied = true}, {90, 40, 70}},
    {"mistral, one window in all layers",
     {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, .causal = true, .window = {20, 20, 20}}, {150, 1, 49}},
    {"qwen 2, biases of q, k and v, a window in the last layers",
     {.vocabulary = 61, SHAPE(24, 4, 2, 6, 50), LLAMA, ROPE, .bias_qkv = true, .tied = true, .causal = true,
      .window = {0, 30, 30}}, {70, 1, 64, 65}},
    {"qwen 3, heads not the width",
     {.vocabulary = 97, SHAPE(20, 3, 1, 10, 37), LLAMA, ROPE, .qk_norm = true, .causal = true,
      .rope_scaling = {.type = FUR_ROPE_YARN, .factor = 8, .original_context = 64, .unrounded = true}}, {200}},
    {"gemma",
     {.vocabulary = 97, SHAPE(32, 4, 1, 10, 56), GEMMA, ROPE, .tied = true, .causal = true}, {70, 1, 64, 65}},
    {"gemma 2",
     {.vocabulary = 97, SHAPE(32, 4, 2, 8, 56), GEMMA, ROPE, .post_norms = true, .softcap = 3, .logit_softcap = 2,
      .query_scalar = 13, .tied = true, .causal = true, .window = {20, 0, 20}}, {70, 1, 64, 65}},
    {"gemma 3, a RoPE base of layers with windows, untied",
     {.vocabulary = 61, SHAPE(24, 3, 1, 12, 50), GEMMA, ROPE, .post_norms = true, .qk_norm = true, .query_scalar = 40,
      .causal = true, .window = {17, 17, 0}, .rope_local = {true, true}, .local_rope_theta = 300,
      .rope_scaling = {.type = FUR_ROPE_LINEAR, .factor = 8}}, {150, 1, 49}},
    {"four LayerNorms, scaled embedding beside learned positions, biases of q, k, v and the feedforward, bidirectional",
     {.vocabulary = 61, SHAPE(32, 4, 2, 8, 40), TABLE, .norm = FUR_NORM_LAYERNORM, .norm_eps = 1e-5, .post_norms = true,
      .activation = FUR_ACTIVATION_GEGLU, .bias_qkv = true, .bias_ffn = true, .scaled_embedding = true,
      .logit_softcap = 5}, {90, 40, 70}},
    {"norms of what look-up maps add, where there is no o",
     {.vocabulary = 97, SHAPE(32, 4, 4, 8, 48), LOOKUP(4, 6), ROPE, .post_norms = true, .norm_offset = true,
      .projection_qkvo = 1, .projection_ffn = 1, .causal = true}, {70, 1, 64, 65}},
};
/* clang-format on */
const int kit_model_case_count = (int)(sizeof kit_model_cases / sizeof kit_model_cases[0]);

static void *grab(int64_t count, size_t bytes)
{
    void *memory = calloc(count > 0 ? (size_t)count : 1, bytes);
    if (!memory)
        fail_msg("no memory for %lld values", (long long)count);
    return memory;
}

fur_context *kit_context(int threads)
{
    return kit_context_of(threads, "f32");
}

fur_context *kit_context_of(int threads, const char *dtype)
{
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    settings.threads = threads;
    settings.dtype = dtype;
    fur_context *context = NULL;
    char text[512];
    fur_status status = fur_context_create(&settings, &context, text, sizeof text);
    if (status == FUR_E_UNSUPPORTED) {
        printf("skipped: %s\n", text);
        exit(77);
    }
    if (status != FUR_OK)
        fail_msg("%s", text);
    return context;
}

void kit_ok(fur_context *context, fur_status status)
{
    if (status != FUR_OK)
        fail_msg("%s: %s", fur_status_name(status), fur_context_error(context));
}

fur_model_config kit_config_for(const fur_model_config *config, int64_t tokens)
{
    fur_model_config c = *config;
    c.context = c.context < tokens ? tokens : c.context;
    return c;
}

fur_model *kit_model(fur_context *context, const fur_model_config *config, uint64_t seed)
{
    fur_model *model;
    kit_ok(context, fur_model_create(context, config, seed, &model));
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p;
        fur_model_parameter(model, i, &p);
        bool mean = p.constant && strstr(p.name, "_mean") != NULL; /* of far fields: 0 in a new model */
        if (p.rank != 1 && !mean)
            continue;
        float *noise = grab(p.count, sizeof *noise);
        fur_random_normal(seed, 1000 + (uint64_t)i, mean ? 0.1 : 0.2, noise, p.count);
        for (int64_t j = 0; j < p.count; j++)
            p.data[j] += noise[j];
        free(noise);
    }
    return model;
}

void kit_row_create(const fur_model_config *c, const int64_t *lengths, int64_t scaled, uint64_t seed, kit_row *out)
{
    memset(out, 0, sizeof *out);
    int64_t documents = 0;
    for (; lengths[documents]; documents++)
        out->offsets[documents + 1] = out->offsets[documents] + lengths[documents] * scaled;
    int64_t T = out->tokens = out->offsets[documents];
    out->row = (fur_row){.documents = documents, .offsets = out->offsets};
    if (c->features) {
        out->x = grab(T * c->features, sizeof(float));
        out->target_values = grab(T * c->outputs, sizeof(float));
        fur_random_normal(seed, 1, 1.0, out->x, T * c->features);
        fur_random_normal(seed, 2, 1.0, out->target_values, T * c->outputs);
    } else {
        out->ids = grab(T, sizeof(int32_t));
        out->targets = grab(T, sizeof(int32_t));
    }
    for (int64_t t = 0; t < T; t++) {
        int counts = fur_random_u64(seed, 3, (uint64_t)t) % 8 != 0;
        if (c->features) {
            for (int64_t j = 0; j < c->outputs && !counts; j++)
                out->target_values[t * c->outputs + j] = NAN;
        } else {
            out->ids[t] = (int32_t)(fur_random_u64(seed, 4, (uint64_t)t) % (uint64_t)c->vocabulary);
            out->targets[t] = counts ? (int32_t)(fur_random_u64(seed, 5, (uint64_t)t) % (uint64_t)c->vocabulary) : -1;
        }
    }
    out->row.ids_T = out->ids;
    out->row.target_T = out->targets;
    out->row.x_TI = out->x;
    out->row.target_TO = out->target_values;
}

void kit_row_destroy(kit_row *row)
{
    free(row->ids);
    free(row->targets);
    free(row->x);
    free(row->target_values);
    memset(row, 0, sizeof *row);
}

void kit_run_create(fur_context *context, fur_model *model, const kit_row *row, int64_t superblock, fur_keep keep,
                    kit_run *out)
{
    kit_run_create_in(context, model, row, superblock, keep, NULL, out);
}

void kit_run_create_in(fur_context *context, fur_model *model, const kit_row *row, int64_t superblock, fur_keep keep,
                       const char *folder, kit_run *out)
{
    memset(out, 0, sizeof *out);
    out->context = context;
    out->model = model;
    fur_plan_request_defaults(&out->request);
    out->request.row_tokens = row->tokens;
    for (int64_t d = 0; d < row->row.documents; d++) {
        int64_t length = row->offsets[d + 1] - row->offsets[d];
        if (length > out->request.document_tokens)
            out->request.document_tokens = length;
    }
    out->request.superblock = superblock;
    out->request.keep = keep;
    out->request.error_rows = 64;
    out->request.measured_gflops = 100;
    if (folder) {
        out->request.disk_bytes = (int64_t)1 << 40;
        out->request.disk_dir = folder;
        out->request.inputs = FUR_STORE_DISK;
        out->request.attention = keep == FUR_KEEP_ALL ? FUR_STORE_DISK : FUR_STORE_CHOSEN;
        out->request.keys = FUR_STORE_DISK;
    }
    kit_ok(context, fur_plan_make(context, fur_model_config_of(model), &out->request, &out->plan));
    kit_ok(context, fur_run_create(context, model, &out->plan, &out->request, &out->run));
}

void kit_run_destroy(kit_run *run)
{
    fur_run_destroy(run->run);
    memset(run, 0, sizeof *run);
}

void kit_gradient_create(kit_run *run, const kit_row *row, const fur_loss *loss, double weight, kit_gradient *out)
{
    const fur_model_config *c = fur_model_config_of(run->model);
    memset(out, 0, sizeof *out);
    for (int64_t i = 0; i < fur_model_parameters(run->model); i++) {
        fur_parameter_info p;
        fur_model_parameter(run->model, i, &p);
        out->count += p.count;
    }
    out->dx_count = row->tokens * (c->features ? c->features : c->width);
    out->all = grab(out->count, sizeof(float));
    out->dx = grab(out->dx_count, sizeof(float));
    fur_model_zero_gradients(run->model);
    kit_ok(run->context, fur_model_loss_and_gradient(run->run, &row->row, loss, weight, &out->loss, out->dx));
    int64_t at = 0;
    for (int64_t i = 0; i < fur_model_parameters(run->model); i++) {
        fur_parameter_info p;
        fur_model_parameter(run->model, i, &p);
        memcpy(out->all + at, p.gradient, (size_t)p.count * sizeof(float));
        at += p.count;
    }
    assert_int_equal(at, out->count);
}

void kit_gradient_destroy(kit_gradient *gradient)
{
    free(gradient->all);
    free(gradient->dx);
    memset(gradient, 0, sizeof *gradient);
}

static double ratio_of(double error, double scale)
{
    if (error == 0.0)
        return 0;
    return scale > 0 ? sqrt(error / scale) : (double)INFINITY;
}

double kit_relative_error(int64_t count, const float *got, const double *want, const double *scale)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        double difference = (double)got[i] - want[i];
        error += difference * difference;
        size += scale[i] * scale[i];
    }
    return ratio_of(error, size);
}

double kit_relative_error_f64(int64_t count, const double *got, const double *want, const double *scale)
{
    double error = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        error += (got[i] - want[i]) * (got[i] - want[i]);
        size += scale[i] * scale[i];
    }
    return ratio_of(error, size);
}
