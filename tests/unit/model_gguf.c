/* SPDX-License-Identifier: Apache-2.0 */
/* model/gguf.h: models of every architecture to a GGUF file and back to the bit, and files that say what a model cannot
 * be refused by key or tensor. That other programs read and write the same is in bench/show/gguf.sh. */
#include "kit/gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/context.h"
#include "kit/model.h"
#include "model/family.h"
#include "model/gguf.h"

/* clang-format off */
#define SHAPE(C, H, K, D, F) .context = 256, .width = C, .layers = 6, .heads = H, .kv_heads = K, .head_dim = D, .hidden = F
#define GPT   .norm = FUR_NORM_LAYERNORM, .activation = FUR_ACTIVATION_GELU_TANH, .bias = true, .norm_eps = 1e-5
#define LLAMA .norm = FUR_NORM_RMSNORM, .activation = FUR_ACTIVATION_SWIGLU, .norm_eps = 1e-5
#define GEMMA .norm = FUR_NORM_RMSNORM, .activation = FUR_ACTIVATION_GEGLU, .norm_eps = 1e-6, .norm_offset = true, \
    .scaled_embedding = true, .tied = true
#define ROPE  .position = FUR_POSITION_ROPE, .rope_theta = 5e5
#define REST  .causal = true, .init_std = 0.02

static const struct {
    const char *architecture;
    fur_model_config config;
} models[] = {
    {"gpt2", {.vocabulary = 61, SHAPE(32, 4, 4, 8, 96), GPT, .position = FUR_POSITION_LEARNED, .rope_theta = 1e4,
              .tied = true, REST}},
    {"gptneox", {.vocabulary = 61, SHAPE(32, 4, 4, 8, 96), GPT, ROPE, REST}},
    {"llama", {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, .tied = true, REST}},
    {"llama", {.vocabulary = 97, SHAPE(32, 2, 1, 32, 88), LLAMA, ROPE, REST,
               .rope_scaling = {.type = FUR_ROPE_LLAMA3, .factor = 32, .original_context = 64, .low_freq_factor = 1,
                                .high_freq_factor = 4}}},
    {"llama", {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, REST,
               .rope_scaling = {.type = FUR_ROPE_YARN, .factor = 4, .original_context = 64, .beta_fast = 32,
                                .beta_slow = 1}}},
    {"llama", {.vocabulary = 97, SHAPE(32, 4, 2, 8, 88), LLAMA, ROPE, REST,
               .rope_scaling = {.type = FUR_ROPE_LINEAR, .factor = 2.5}}},
    {"qwen2", {.vocabulary = 61, SHAPE(24, 4, 2, 6, 50), LLAMA, ROPE, .bias_qkv = true, .tied = true, REST}},
    {"qwen3", {.vocabulary = 61, SHAPE(24, 4, 2, 10, 50), LLAMA, ROPE, .qk_norm = true, REST}},
    {"gemma", {.vocabulary = 61, SHAPE(32, 4, 1, 10, 56), GEMMA, ROPE, REST}},
    {"gemma2", {.vocabulary = 61, SHAPE(32, 4, 2, 8, 56), GEMMA, ROPE, .post_norms = true, .softcap = 50,
                .logit_softcap = 30, .query_scalar = 8, REST, .window = {20, 0, 20, 0, 20, 0}}},
    {"gemma3", {.vocabulary = 61, SHAPE(24, 3, 1, 12, 50), GEMMA, ROPE, .post_norms = true, .qk_norm = true,
                .query_scalar = 12, REST, .window = {17, 17, 17, 17, 17, 0},
                .rope_local = {true, true, true, true, true, false}, .local_rope_theta = 1e4,
                .rope_scaling = {.type = FUR_ROPE_LINEAR, .factor = 8}}},
};
/* clang-format on */
enum { MODELS = sizeof models / sizeof models[0] };

static void save(fur_context *context, const fur_model *model, const char *path, fur_dtype dtype, int64_t *kept)
{
    fur_gguf_builder values = {0};
    kit_ok(context, fur_gguf_config_values(&context->error, &model->config, &values));
    kit_ok(context, fur_gguf_weights_write(&context->error, model, path, &values, dtype, kept));
    fur_gguf_builder_clear(&values);
}

/* What config.json says of both. */
static void expect_same_config(const fur_model_config *got, const fur_model_config *want)
{
    json_t *a = fur_config_to_json(got), *b = fur_config_to_json(want);
    char *one = json_dumps(a, JSON_SORT_KEYS), *other = json_dumps(b, JSON_SORT_KEYS);
    assert_string_equal(one, other);
    fur_free(one);
    fur_free(other);
    json_decref(a);
    json_decref(b);
}

/* Norms that files have 1 more of come back rounded: to within half an ulp of a number below 2. */
static void expect_same_weights(const fur_model *got, const fur_model *want)
{
    float off = want->config.norm_offset ? 0x1p-24f : 0;
    assert_int_equal(got->table.elements, want->table.elements);
    for (int64_t i = 0; i < want->table.elements; i++)
        if (!(fabsf(got->data[i] - want->data[i]) <= off))
            fail_msg("element %lld is %.9g, expected %.9g", (long long)i, (double)got->data[i], (double)want->data[i]);
}

static void test_round_trips(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    for (int i = 0; i < MODELS; i++) {
        fur_context *context = kit_context(1);
        fur_model *model = kit_model(context, &models[i].config, 7), *loaded;
        const char *path = kit_path(&folder, "m.gguf");
        int64_t kept;
        char *architecture;
        fur_gguf *file;
        save(context, model, path, FUR_DTYPE_F32, &kept);
        assert_int_equal(kept, 0);
        kit_ok(context, fur_gguf_open(&context->error, path, &file));
        kit_ok(context, fur_gguf_text(&context->error, file, "general.architecture", &architecture));
        assert_string_equal(architecture, models[i].architecture);
        fur_free(architecture);
        fur_gguf_close(file);
        kit_ok(context, fur_model_load(context, path, &loaded));
        expect_same_config(&loaded->config, &model->config);
        expect_same_weights(loaded, model);
        fur_model_destroy(loaded);
        fur_model_destroy(model);
        fur_context_destroy(context);
    }
    kit_folder_clear(&folder);
}

/* What an array of a head's rows is in Llama's files: 0, D / 2, 1, D / 2 + 1, ... */
static void test_rows_of_heads(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_context *context = kit_context(1);
    fur_model *model = kit_model(context, &models[2].config, 3);
    const char *path = kit_path(&folder, "m.gguf");
    int64_t kept, shape[2] = {16, 32}; /* key heads * D, width */
    fur_gguf *file;
    float rows[16 * 32];
    save(context, model, path, FUR_DTYPE_F32, &kept);
    kit_ok(context, fur_gguf_open(&context->error, path, &file));
    fur_tensor tensor = {fur_gguf_input(file), fur_gguf_find(file, "blk.4.attn_k.weight"), "k"};
    kit_ok(context, fur_tensor_read_f32(&context->error, &tensor, 2, shape, true, rows));
    const float *ours = model->data + model->table.layers[4].k.weight;
    for (int row = 0; row < 16; row++) {
        int from = row / 8 * 8 + row % 2 * 4 + row % 8 / 2;
        assert_memory_equal(rows + 32 * row, ours + 32 * from, 32 * sizeof(float));
    }
    fur_gguf_close(file);
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

/* Rows of 32, 50 and 56: bf16 takes all of them, blocks of Q8_0 only some. */
static void test_types(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    fur_context *context = kit_context(1);
    fur_model *model = kit_model(context, &models[2].config, 3), *loaded;
    const char *path = kit_path(&folder, "m.gguf");
    int64_t kept;
    save(context, model, path, FUR_DTYPE_BF16, &kept);
    assert_int_equal(kept, 0);
    kit_ok(context, fur_model_load(context, path, &loaded));
    for (int64_t i = 0; i < model->table.elements; i++)
        assert_true(fabsf(loaded->data[i] - model->data[i]) <= 0x1p-8f * fabsf(model->data[i]));
    fur_model_destroy(loaded);
    save(context, model, path, FUR_DTYPE_Q8_0, &kept);
    assert_int_equal(kept, models[2].config.layers); /* down: rows of 88 */
    kit_ok(context, fur_model_load(context, path, &loaded));
    const fur_layer_offsets *at = &model->table.layers[0];
    assert_memory_equal(loaded->data + at->down.weight, model->data + at->down.weight, 32 * 88 * sizeof(float));
    float most = 0, off = 0;
    for (int64_t i = 0; i < 97 * 32; i++) {
        most = fmaxf(most, fabsf(model->data[i]));
        off = fmaxf(off, fabsf(model->data[i] - loaded->data[i]));
    }
    assert_true(off > 0 && off <= most * (0.5f / 127 + 0x1p-11f)); /* half a step, and the f16 of the scale */
    fur_model_destroy(loaded);
    fur_model_destroy(model);
    fur_context_destroy(context);
    kit_folder_clear(&folder);
}

static void test_no_architecture(void **state)
{
    (void)state;
    static const struct {
        int model;
        const char *what;
    } cases[] = {{2, "GGUF has no architecture for a model that only furlong's own"},
                 {3, "architecture llama do not know RoPE scaled as ntk or dynamic"},
                 {6, "architecture qwen2 do not know windows in these layers"},
                 {9, "architecture gemma2 do not know windows in these layers"},
                 {10, "architecture gemma3 do not know scores scaled by another number"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_error error = {0};
        fur_gguf_builder values = {0};
        fur_model_config config = models[cases[i].model].config;
        if (i == 0)
            config.attention[1] = 1;
        else if (i == 1)
            config.rope_scaling = (fur_rope_scaling){.type = FUR_ROPE_DYNAMIC, .factor = 2, .original_context = 256};
        else if (i == 4)
            config.query_scalar = 7;
        else
            config.window[1] = config.window[5] = 20;
        kit_expect(&error, fur_gguf_config_values(&error, &config, &values), FUR_E_UNSUPPORTED, cases[i].what);
        fur_gguf_builder_clear(&values);
    }
}

/* ---- files of others, by hand ------------------------------------------------------------------------------------ */

/* A llama of one layer, width 8, two heads, 5 tokens: values, less the one that is left out or given otherwise. */
typedef struct by_hand {
    const char *without; /* key or tensor */
    const char *key;     /* instead */
    int type;            /* of fur_gguf_type; -1: none */
    double value;
    int64_t rows;      /* of the embedding */
    const char *extra; /* tensor of 8 */
} by_hand;

static bool is_left_out(const by_hand *h, const char *name)
{
    return h->without && strcmp(h->without, name) == 0;
}

static void put_changed(kit_bytes *b, const by_hand *h)
{
    if (h->type == FUR_GGUF_U32)
        kit_put_value_u32(b, h->key, (uint32_t)h->value);
    else if (h->type == FUR_GGUF_F32)
        kit_put_value_f32(b, h->key, (float)h->value);
    else if (h->type == FUR_GGUF_TEXT)
        kit_put_value_text(b, h->key, "text");
    else if (h->type == FUR_GGUF_BOOL) {
        kit_put_text(b, h->key);
        kit_put_u32(b, FUR_GGUF_BOOL);
        kit_put(b, h->value > 0 ? "\1" : "\0", 1);
    } else if (h->type == FUR_GGUF_ARRAY) { /* of tokens */
        kit_put_text(b, h->key);
        kit_put_u32(b, FUR_GGUF_ARRAY);
        kit_put_u32(b, FUR_GGUF_TEXT);
        kit_put_u64(b, (uint64_t)h->value);
        for (int i = 0; i < (int)h->value; i++)
            kit_put_text(b, "t");
    }
}

static const char *write_by_hand(const kit_folder *folder, kit_bytes *b, const by_hand *h)
{
    static const struct {
        const char *key;
        uint32_t value;
    } values[] = {{"llama.context_length", 64},      {"llama.embedding_length", 8},
                  {"llama.block_count", 1},          {"llama.feed_forward_length", 12},
                  {"llama.attention.head_count", 2}, {"llama.attention.head_count_kv", 1}};
    static const struct {
        const char *name;
        uint64_t row, rows;
    } tensors[] = {
        {"token_embd.weight", 8, 0},      {"blk.0.attn_norm.weight", 8, 1}, {"blk.0.attn_q.weight", 8, 8},
        {"blk.0.attn_k.weight", 8, 4},    {"blk.0.attn_v.weight", 8, 4},    {"blk.0.attn_output.weight", 8, 8},
        {"blk.0.ffn_norm.weight", 8, 1},  {"blk.0.ffn_gate.weight", 8, 12}, {"blk.0.ffn_up.weight", 8, 12},
        {"blk.0.ffn_down.weight", 12, 8}, {"output_norm.weight", 8, 1}};
    enum { VALUES = sizeof values / sizeof values[0], TENSORS = sizeof tensors / sizeof tensors[0] };
    uint64_t value_count = h->type >= 0, tensor_count = h->extra != NULL, offset = 0;
    value_count += !is_left_out(h, "general.architecture");
    value_count += !is_left_out(h, "llama.attention.layer_norm_rms_epsilon");
    for (int i = 0; i < VALUES; i++)
        value_count += !is_left_out(h, values[i].key);
    for (int i = 0; i < TENSORS; i++)
        tensor_count += !is_left_out(h, tensors[i].name);
    kit_put_gguf(b, tensor_count, value_count);
    if (!is_left_out(h, "general.architecture"))
        kit_put_value_text(b, "general.architecture", "llama");
    if (!is_left_out(h, "llama.attention.layer_norm_rms_epsilon"))
        kit_put_value_f32(b, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    for (int i = 0; i < VALUES; i++)
        if (!is_left_out(h, values[i].key))
            kit_put_value_u32(b, values[i].key, values[i].value);
    put_changed(b, h);
    for (int i = 0; i < TENSORS; i++) {
        uint64_t rows = tensors[i].rows ? tensors[i].rows : (uint64_t)h->rows;
        if (is_left_out(h, tensors[i].name))
            continue;
        kit_put_tensor(b, tensors[i].name, tensors[i].rows == 1 ? 1 : 2, (uint64_t[]){tensors[i].row, rows}, 0, offset);
        offset += (tensors[i].row * rows * 4 + 31) / 32 * 32;
    }
    if (h->extra)
        kit_put_tensor(b, h->extra, 1, (uint64_t[]){8}, 0, offset);
    kit_put_align(b, 32);
    kit_put_zeros(b, (int64_t)offset + 32);
    return kit_write_bytes(folder, "hand.gguf", b);
}

static void test_by_hand(void **state)
{
    (void)state;
    static const struct {
        by_hand file;
        fur_status status; /* FUR_OK: it loads */
        const char *part;
    } cases[] = {
        {{.type = -1, .rows = 5}, FUR_OK, NULL},
        {{.key = "llama.rope.freq_base", .type = FUR_GGUF_F32, .value = 1e5, .rows = 5}, FUR_OK, NULL},
        {{.key = "tokenizer.ggml.tokens", .type = FUR_GGUF_ARRAY, .value = 5, .rows = 5}, FUR_OK, NULL},
        {{.key = "llama.attention.sliding_window", .type = FUR_GGUF_U32, .value = 20, .rows = 5}, FUR_OK, NULL},
        {{.key = "llama.expert_count", .type = FUR_GGUF_U32, .value = 0, .rows = 5}, FUR_OK, NULL},
        {{.key = "general.note", .type = FUR_GGUF_TEXT, .rows = 5}, FUR_OK, NULL},
        {{.without = "general.architecture", .type = -1, .rows = 5},
         FUR_E_FORMAT,
         "\"general.architecture\": it is missing"},
        {{.without = "general.architecture", .key = "general.architecture", .type = FUR_GGUF_TEXT, .rows = 5},
         FUR_E_UNSUPPORTED,
         "general.architecture is text, this version has gpt2"},
        {{.without = "general.architecture", .key = "general.architecture", .type = FUR_GGUF_U32, .rows = 5},
         FUR_E_FORMAT,
         "u32, expected text"},
        {{.without = "llama.block_count", .type = -1, .rows = 5}, FUR_E_FORMAT, "\"llama.block_count\": it is missing"},
        {{.without = "llama.block_count", .key = "llama.block_count", .type = FUR_GGUF_TEXT, .rows = 5},
         FUR_E_FORMAT,
         "\"llama.block_count\": text, expected an integer"},
        {{.without = "llama.block_count", .key = "llama.block_count", .type = FUR_GGUF_F32, .value = 1, .rows = 5},
         FUR_E_FORMAT,
         "\"llama.block_count\": f32, expected an integer"},
        {{.without = "llama.block_count", .key = "llama.block_count", .type = FUR_GGUF_U32, .value = 0, .rows = 5},
         FUR_E_FORMAT,
         "\"llama.block_count\": it is 0"},
        {{.without = "llama.block_count", .key = "llama.block_count", .type = FUR_GGUF_U32, .value = 4e9, .rows = 5},
         FUR_E_FORMAT,
         "\"llama.block_count\": it is 4000000000"},
        {{.without = "llama.block_count", .key = "llama.block_count", .type = FUR_GGUF_U32, .value = 2, .rows = 5},
         FUR_E_FORMAT,
         "\"blk.1.attn_norm.weight\" is missing"},
        {{.without = "llama.attention.head_count",
          .key = "llama.attention.head_count",
          .type = FUR_GGUF_ARRAY,
          .value = 1,
          .rows = 5},
         FUR_E_FORMAT,
         "an array of text, expected an integer"},
        {{.without = "llama.attention.head_count",
          .key = "llama.attention.head_count",
          .type = FUR_GGUF_U32,
          .value = 3,
          .rows = 5},
         FUR_E_FORMAT,
         "width 8 does not divide into 3 heads"},
        {{.without = "llama.attention.layer_norm_rms_epsilon", .type = -1, .rows = 5},
         FUR_E_FORMAT,
         "\"llama.attention.layer_norm_rms_epsilon\": it is missing, expected a number"},
        {{.key = "llama.rope.freq_base", .type = FUR_GGUF_F32, .value = (double)NAN, .rows = 5},
         FUR_E_FORMAT,
         "it is nan"},
        {{.key = "llama.rope.dimension_count", .type = FUR_GGUF_U32, .value = 2, .rows = 5},
         FUR_E_UNSUPPORTED,
         "\"llama.rope.dimension_count\": less than a head"},
        {{.key = "llama.attention.value_length", .type = FUR_GGUF_U32, .value = 2, .rows = 5},
         FUR_E_UNSUPPORTED,
         "\"llama.attention.value_length\": not the length of keys"},
        {{.key = "llama.rope.scaling.type", .type = FUR_GGUF_TEXT, .rows = 5},
         FUR_E_UNSUPPORTED,
         "\"llama.rope.scaling.type\": text, this version has none, linear and yarn"},
        {{.key = "llama.attention.causal", .type = FUR_GGUF_BOOL, .value = 0, .rows = 5}, FUR_E_UNSUPPORTED, "causal"},
        {{.key = "llama.expert_count", .type = FUR_GGUF_U32, .value = 8, .rows = 5}, FUR_E_UNSUPPORTED, "experts"},
        {{.key = "split.count", .type = FUR_GGUF_U32, .value = 3, .rows = 5}, FUR_E_UNSUPPORTED, "one of 3 parts"},
        {{.key = "llama.logit_scale", .type = FUR_GGUF_F32, .value = 2, .rows = 5},
         FUR_E_UNSUPPORTED,
         "key \"llama.logit_scale\" is not known to this version"},
        {{.key = "tokenizer.ggml.tokens", .type = FUR_GGUF_ARRAY, .value = 4, .rows = 5},
         FUR_E_FORMAT,
         "\"tokenizer.ggml.tokens\": 4 tokens, the embedding has 5 rows"},
        {{.key = "tokenizer.ggml.tokens", .type = FUR_GGUF_U32, .value = 5, .rows = 5},
         FUR_E_FORMAT,
         "expected an array of text"},
        {{.key = "llama.vocab_size", .type = FUR_GGUF_U32, .value = 6, .rows = 5},
         FUR_E_FORMAT,
         "\"llama.vocab_size\": it is 6, the embedding has 5 rows"},
        {{.without = "token_embd.weight", .type = -1, .rows = 5}, FUR_E_FORMAT, "\"token_embd.weight\": expected rows"},
        {{.without = "blk.0.ffn_up.weight", .type = -1, .rows = 5}, FUR_E_FORMAT, "\"blk.0.ffn_up.weight\" is missing"},
        {{.type = -1, .rows = 5, .extra = "blk.0.attn_q.bias"}, FUR_E_FORMAT, "\"blk.0.attn_k.bias\" is missing"},
        {{.type = -1, .rows = 5, .extra = "blk.0.attn_sinks.weight"},
         FUR_E_FORMAT,
         "tensor 'blk.0.attn_sinks.weight' is not part of this model"},
        {{.type = -1, .rows = 5, .extra = "rope_freqs.weight"}, FUR_E_SHAPE, "shape [8], expected [2]"},
        {{.type = -1, .rows = 5, .extra = "output.weight"}, FUR_E_SHAPE, "shape [8], expected [5, 8]"},
    };
    kit_folder folder;
    kit_folder_init(&folder);
    kit_bytes *b = calloc(1, sizeof *b);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fur_context *context = kit_context(1);
        fur_model *model = NULL;
        const char *path = write_by_hand(&folder, b, &cases[i].file);
        fur_status status = fur_model_load(context, path, &model);
        if (cases[i].status == FUR_OK)
            kit_ok(context, status);
        else
            kit_expect(&context->error, status, cases[i].status, cases[i].part);
        if (model) {
            assert_int_equal(model->config.vocabulary, 5);
            assert_true(model->config.tied);
            bool window = cases[i].file.key && strstr(cases[i].file.key, "sliding_window");
            assert_int_equal(model->config.window[0], window ? 20 : 0);
            fur_model_destroy(model);
        }
        fur_context_destroy(context);
    }
    free(b);
    kit_folder_clear(&folder);
}

typedef struct loading {
    fur_context *context;
    const char *path;
} loading;

static fur_status load(void *user, fur_error *error)
{
    const loading *l = user;
    fur_model *model = NULL;
    fur_status status = fur_model_load(l->context, l->path, &model);
    *error = l->context->error;
    if (status == FUR_E_MEMORY && !strstr(error->text, "out of memory")) /* models say it in other words */
        fur_error_prefix(error, "out of memory");
    if (model)
        fur_model_destroy(model);
    return status;
}

static void test_memory(void **state)
{
    (void)state;
    kit_folder folder;
    kit_folder_init(&folder);
    loading l = {kit_context(1), kit_path(&folder, "m.gguf")};
    fur_model *model = kit_model(l.context, &models[3].config, 7);
    int64_t kept;
    save(l.context, model, l.path, FUR_DTYPE_F32, &kept);
    fur_model_destroy(model);
    assert_true(kit_each_allocation_fails(load, &l) > 50);
    fur_context_destroy(l.context);
    kit_folder_clear(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),     cmocka_unit_test(test_rows_of_heads), cmocka_unit_test(test_types),
        cmocka_unit_test(test_no_architecture), cmocka_unit_test(test_by_hand),       cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
