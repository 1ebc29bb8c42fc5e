/* SPDX-License-Identifier: Apache-2.0 */
/* The table of families: keys of both transformers 4 and 5 give one configuration, what a file leaves out is what
 * transformers takes, what we do not do is refused by name, and a configuration is written under the family that can
 * say all of it. Converted, weights keep their bits in every type and config.json its bytes. The numbers of models of
 * these families: model_gradient.c, golden.c, and bench/show/families.sh against transformers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/tensor_source.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/config.h"
#include "model/family.h"

#define SIZES                                                                                                          \
    "\"vocab_size\": 61, \"max_position_embeddings\": 512, \"hidden_size\": 32, \"num_hidden_layers\": 4,"             \
    " \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 12, \"intermediate_size\": 88"
#define FULL  "\"full_attention\""
#define SLIDE "\"sliding_attention\""

static const char mistral[] = "{\"model_type\": \"mistral\", " SIZES ", \"rope_theta\": 5e5, \"sliding_window\": 32}";
static const char qwen2[] = "{\"model_type\": \"qwen2\", " SIZES ", \"rope_theta\": 1e6, \"use_sliding_window\": true,"
                            " \"sliding_window\": 32, \"max_window_layers\": 3}";
static const char qwen3[] = "{\"model_type\": \"qwen3\", " SIZES ", \"rope_theta\": 1e6, \"rope_scaling\":"
                            " {\"type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 100}}";
static const char gemma[] = "{\"model_type\": \"gemma\", " SIZES ", \"hidden_act\": \"gelu\"}";
static const char gemma2[] = "{\"model_type\": \"gemma2\", " SIZES ", \"sliding_window\": 16}";
static const char gemma3[] =
    "{\"model_type\": \"gemma3_text\", " SIZES ", \"sliding_window\": 16, \"sliding_window_pattern\": 4,"
    " \"rope_theta\": 1e6, \"rope_local_base_freq\": 500.0, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}}";

static const char *const texts[] = {mistral, qwen2, qwen3, gemma, gemma2, gemma3};
enum { TEXTS = sizeof texts / sizeof texts[0] };

static fur_context *context;
static kit_folder folder;

static int open_all(void **state)
{
    (void)state;
    context = kit_context(1);
    kit_folder_init(&folder);
    fur_json_setup();
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    kit_folder_clear(&folder);
    fur_context_destroy(context);
    return 0;
}

static json_t *parsed(const char *text)
{
    json_error_t error;
    json_t *json = json_loads(text, JSON_DECODE_ANY, &error);
    if (!json)
        fail_msg("%s: %s", text, error.text);
    return json;
}

/* The text with keys changed to those of an object (null: taken out). */
static char *altered(const char *text, const char *changes)
{
    json_t *json = parsed(text), *change = parsed(changes), *value;
    const char *key;
    json_object_foreach(change, key, value)
    {
        if (json_is_null(value))
            json_object_del(json, key);
        else
            json_object_set(json, key, value);
    }
    char *out = json_dumps(json, 0);
    json_decref(json);
    json_decref(change);
    assert_non_null(out);
    return out;
}

static fur_model_config config_of(const char *text)
{
    fur_model_config config;
    kit_ok(context, fur_config_read(context, kit_write(&folder, "config.json", text, -1), &config));
    return config;
}

static fur_model_config config_with(const char *text, const char *changes)
{
    char *changed = altered(text, changes);
    fur_model_config config = config_of(changed);
    fur_free(changed);
    return config;
}

/* All that is written of a config. */
static void expect_same(const char *what, const fur_model_config *a, const fur_model_config *b)
{
    json_t *left = fur_config_to_json(a), *right = fur_config_to_json(b);
    if (!left || !right || !json_equal(left, right))
        fail_msg("%s: %s\nand %s", what, json_dumps(left, 0), json_dumps(right, 0));
    json_decref(left);
    json_decref(right);
}

/* ---- reading ------------------------------------------------------------------------------------------------------
 */

static void traits_are_the_familys(void **state)
{
    (void)state;
    fur_model_config c = config_of(mistral);
    assert_true(c.window[0] == 32 && c.window[3] == 32 && !fur_config_has_bias(&c, FUR_BIAS_QKV) &&
                c.rope_theta == 5e5);
    c = config_of(qwen2);
    assert_true(c.window[2] == 0 && c.window[3] == 32 && !c.tied);
    assert_true(fur_config_has_bias(&c, FUR_BIAS_QKV) && !fur_config_has_bias(&c, FUR_BIAS_O) && !c.bias);
    c = config_of(qwen3);
    assert_true(c.qk_norm && c.window[3] == 0 && c.rope_scaling.type == FUR_ROPE_YARN && c.rope_scaling.factor == 4);
    c = config_of(gemma);
    assert_true(c.norm_offset && c.scaled_embedding && c.tied && !c.post_norms && c.activation == FUR_ACTIVATION_GEGLU);
    c = config_of(gemma2);
    assert_true(c.post_norms && c.softcap == 50 && c.logit_softcap == 30 && c.query_scalar == 256);
    assert_true(c.window[0] == 16 && c.window[1] == 0 && c.window[2] == 16 && c.window[3] == 0 && !c.rope_local[0]);
    c = config_of(gemma3);
    assert_true(c.window[0] == 16 && c.window[2] == 16 && c.window[3] == 0 && c.qk_norm && c.post_norms);
    assert_true(c.rope_local[0] && c.rope_local[2] && !c.rope_local[3] && c.local_rope_theta == 500);
    assert_true(c.rope_theta == 1e6 && c.rope_scaling.type == FUR_ROPE_LINEAR && c.softcap == 0 &&
                c.logit_softcap == 0);
}

/* What a file leaves out, and what it says null of. */
static void what_is_absent_is_as_transformers_has_it(void **state)
{
    (void)state;
    fur_model_config c = config_with(mistral, "{\"sliding_window\": null, \"num_key_value_heads\": null,"
                                              " \"num_attention_heads\": 8, \"head_dim\": null}");
    assert_true(c.window[0] == 4096 && c.kv_heads == 8 && c.head_dim == 4);
    char text[640];
    snprintf(text, sizeof text, "%.*s, \"sliding_window\": null}", (int)(strstr(mistral, ", \"sliding") - mistral),
             mistral);
    c = config_of(text);
    assert_true(c.window[0] == 0);
    assert_string_equal(fur_config_family(&c), "mistral");
    c = config_with(qwen2, "{\"use_sliding_window\": null}");
    assert_true(c.window[3] == 0);
    c = config_with(gemma2, "{\"sliding_window\": null, \"head_dim\": null, \"num_key_value_heads\": null}");
    assert_true(c.window[0] == 4096 && c.head_dim == 256 && c.kv_heads == 4);
    c = config_with(gemma3, "{\"rope_theta\": null, \"rope_local_base_freq\": null, \"sliding_window_pattern\": null}");
    assert_true(c.rope_theta == 1e6 && c.local_rope_theta == 1e4 && c.window[3] == 16);
}

static void keys_of_transformers_4_and_5_are_one(void **state)
{
    (void)state;
    static const struct {
        const char *text, *changes;
    } list[] = {
        {mistral, "{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5e5}}"},
        {qwen2, "{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e6},"
                " \"max_window_layers\": 28, \"layer_types\": [" FULL ", " FULL ", " FULL ", " SLIDE "]}"},
        {qwen3, "{\"rope_theta\": null, \"rope_scaling\": null, \"rope_parameters\": {\"rope_type\": \"yarn\","
                " \"rope_theta\": 1e6, \"factor\": 4.0, \"original_max_position_embeddings\": 100}}"},
        {gemma, "{\"hidden_act\": \"gelu_pytorch_tanh\", \"rope_parameters\": {\"rope_type\": \"default\"}}"},
        {gemma2, "{\"layer_types\": [" SLIDE ", " FULL ", " SLIDE ", " FULL "]}"},
        {gemma3, "{\"rope_theta\": null, \"rope_local_base_freq\": null, \"rope_scaling\": null,"
                 " \"sliding_window_pattern\": null, \"layer_types\": [" SLIDE ", " SLIDE ", " SLIDE ", " FULL "],"
                 " \"rope_parameters\": {\"full_attention\": {\"rope_type\": \"linear\", \"factor\": 8.0,"
                 " \"rope_theta\": 1e6}, \"sliding_attention\": {\"rope_type\": \"default\", \"rope_theta\": 500.0}}}"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        fur_model_config old = config_of(list[i].text), new = config_with(list[i].text, list[i].changes);
        expect_same(list[i].text, &old, &new);
    }
}

static void what_is_not_done_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *changes;
        fur_status status;
        const char *part;
    } list[] = {
        {mistral, "{\"model_type\": \"mixtral\"}", FUR_E_UNSUPPORTED, "mixtral"},
        {mistral, "{\"model_type\": \"gemma3\"}", FUR_E_UNSUPPORTED, "gemma3_text"},
        {mistral, "{\"hidden_act\": \"gelu\"}", FUR_E_UNSUPPORTED, "hidden_act is gelu"},
        {mistral, "{\"sliding_window\": 0}", FUR_E_FORMAT, "sliding_window"},
        {mistral, "{\"layer_types\": [" SLIDE ", " FULL ", " SLIDE ", " SLIDE "]}", FUR_E_UNSUPPORTED, "layer_types"},
        {mistral, "{\"quantization_config\": {\"bits\": 4}}", FUR_E_UNSUPPORTED, "quantization_config"},
        {mistral, "{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 4}}", FUR_E_UNSUPPORTED, "longrope"},
        {mistral, "{\"rope_parameters\": {\"rope_type\": \"proportional\"}}", FUR_E_UNSUPPORTED, "proportional"},
        {mistral, "{\"rope_parameters\": {\"full_attention\": {}}}", FUR_E_UNSUPPORTED, "by type of layer"},
        {mistral, "{\"partial_rotary_factor\": 0.5}", FUR_E_UNSUPPORTED, "partial_rotary_factor"},
        {qwen2, "{\"layer_types\": [" FULL "]}", FUR_E_FORMAT, "layer_types"},
        {qwen2, "{\"layer_types\": 7}", FUR_E_FORMAT, "layer_types"},
        {qwen2, "{\"layer_types\": [" FULL ", " FULL ", " FULL ", \"linear_attention\"]}", FUR_E_UNSUPPORTED,
         "linear_attention"},
        {qwen2, "{\"layer_types\": [" FULL ", " FULL ", " FULL ", 1]}", FUR_E_UNSUPPORTED, "layer_types"},
        {qwen2, "{\"use_sliding_window\": false, \"layer_types\": [" FULL ", " FULL ", " FULL ", " SLIDE "]}",
         FUR_E_FORMAT, "layer 3 is sliding_attention"},
        {qwen2, "{\"num_key_value_heads\": 3}", FUR_E_FORMAT, "heads"},
        {qwen2, "{\"num_hidden_layers\": 100000}", FUR_E_FORMAT, "num_hidden_layers"},
        {gemma, "{\"use_bidirectional_attention\": true}", FUR_E_UNSUPPORTED, "use_bidirectional_attention"},
        {gemma2, "{\"hidden_activation\": \"silu\"}", FUR_E_UNSUPPORTED, "hidden_activation"},
        {gemma2, "{\"attn_logit_softcapping\": -1.0}", FUR_E_FORMAT, "attn_logit_softcapping"},
        {gemma2, "{\"query_pre_attn_scalar\": 0}", FUR_E_FORMAT, "query_pre_attn_scalar"},
        {gemma2, "{\"sliding_window_pattern\": 0}", FUR_E_FORMAT, "sliding_window_pattern"},
        {gemma3, "{\"attn_logit_softcapping\": 50.0}", FUR_E_UNSUPPORTED, "attn_logit_softcapping"},
        {gemma3, "{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 1e6}}", FUR_E_FORMAT,
         "full_attention and sliding_attention"},
        {gemma3, "{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 2, \"truncate\": false}}", FUR_E_UNSUPPORTED,
         "rope_scaling.truncate"},
        {gemma3, "{\"rope_parameters\": [1]}", FUR_E_FORMAT, "rope_parameters"},
        {gemma3, "{\"rope_parameters\": {\"sliding_attention\": {\"rope_type\": \"linear\", \"factor\": 2}}}",
         FUR_E_UNSUPPORTED, "plain RoPE in layers with a window"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        char *text = altered(list[i].text, list[i].changes);
        fur_model_config config = {.width = -77};
        fur_status status = fur_config_read(context, kit_write(&folder, "config.json", text, -1), &config);
        const char *error = fur_context_error(context);
        if (status != list[i].status || !strstr(error, list[i].part) || !strstr(error, "config.json") ||
            strchr(error, '\n') || config.width != -77)
            fail_msg("%s\nstatus \"%s\", text \"%s\", wanted \"%s\"", text, fur_status_name(status), error,
                     list[i].part);
        fur_free(text);
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

static void the_family_that_can_say_it_is_written(void **state)
{
    (void)state;
    static const struct {
        const char *name, *family;
    } list[] = {{"llama, grouped heads", "llama"},
                {"mistral, one window in all layers", "mistral"},
                {"windows alone, grouped heads", "furlong"},
                {"qwen 2, biases of q, k and v, a window in the last layers", "qwen2"},
                {"gemma", "gemma"},
                {"gemma 2", "gemma2"},
                {"gemma 3, a RoPE base of layers with windows, untied", "gemma3_text"},
                {"norms of what look-up maps add, where there is no o", "furlong"}};
    int found = 0;
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        for (int k = 0; k < kit_model_case_count; k++)
            if (strcmp(kit_model_cases[k].name, list[i].name) == 0) {
                assert_string_equal(fur_config_family(&kit_model_cases[k].config), list[i].family);
                found++;
            }
    assert_int_equal(found, sizeof list / sizeof list[0]);
    /* a file's own family goes before others that could say it too, while it can */
    fur_model_config c = config_of(qwen3);
    assert_string_equal(fur_config_family(&c), "qwen3");
    c.family[0] = 0; /* YaRN that no file said */
    assert_string_equal(fur_config_family(&c), "furlong");
    c = config_of(mistral);
    memset(c.window, 0, sizeof c.window);
    assert_string_equal(fur_config_family(&c), "mistral");
    c.family[0] = 0;
    assert_string_equal(fur_config_family(&c), "llama");
    c = config_of(mistral);
    c.window[1] = 7;
    assert_string_equal(fur_config_family(&c), "furlong");
}

/* A llama file whose YaRN transformers' versions read differently stays one; the same, asked for here, makes it ours.
 */
static void a_llama_file_with_another_yarn_loads(void **state)
{
    (void)state;
    fur_model *model = kit_model(context, &kit_model_cases[3].config, 3), *back;
    kit_ok(context, fur_model_save(context, model, folder.path));
    json_error_t error;
    json_t *json = json_load_file(kit_path(&folder, "config.json"), 0, &error);
    assert_non_null(json);
    json_object_set_new(
        json, "rope_scaling",
        json_pack("{s:s, s:f, s:i}", "rope_type", "yarn", "factor", 2.0, "original_max_position_embeddings", 64));
    assert_int_equal(json_dump_file(json, kit_path(&folder, "config.json"), 0), 0);
    json_decref(json);
    kit_ok(context, fur_model_load(context, folder.path, &back));
    assert_string_equal(fur_config_family(fur_model_config_of(back)), "llama");
    fur_model_config wanted = *fur_model_config_of(back);
    kit_ok(context, fur_config_set_rope_scaling(context, &wanted, "yarn:2:64"));
    assert_string_equal(wanted.family, "llama"); /* it is what the file says */
    kit_ok(context, fur_config_set_rope_scaling(context, &wanted, "yarn:3:64"));
    kit_ok(context, fur_model_reshape(context, &wanted, &back));
    assert_string_equal(fur_config_family(fur_model_config_of(back)), "furlong");
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info p, q;
        fur_model_parameter(model, i, &p);
        fur_model_parameter(back, i, &q);
        kit_check_same_bits(p.name, p.data, q.data, (size_t)p.count * sizeof(float));
    }
    fur_model_destroy(back);
    fur_model_destroy(model);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    for (int i = 0; i < TEXTS; i++) {
        fur_model_config c =
            config_with(texts[i], "{\"eos_token_id\": [3, 60, 61, \"x\"], \"bos_token_id\": 2, \"pad_token_id\": -1}");
        assert_true(c.bos.count == 1 && c.bos.id[0] == 2 && c.eos.count == 2 && c.eos.id[1] == 60 && c.pad.count == 0);
        json_t *json = fur_config_to_json(&c);
        assert_non_null(json);
        char *text = json_dumps(json, 0);
        json_decref(json);
        fur_model_config back = config_of(text);
        expect_same(texts[i], &c, &back);
        fur_free(text);
    }
}

/* ---- files --------------------------------------------------------------------------------------------------------
 */

/* Every half there is comes back; what lies between two goes to the nearer, ties to the even one. */
static void halves_are_rounded_to_nearest(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t half = (uint16_t)bits, back;
        float value;
        fur_dtype_to_f32(FUR_DTYPE_F16, &half, 1, &value);
        fur_dtype_from_f32(FUR_DTYPE_F16, &value, 1, &back);
        if ((bits & 0x7fff) > 0x7c00)
            assert_true((back & 0x7fff) > 0x7c00);
        else
            assert_int_equal(back, half);
        if ((bits & 0x7fff) >= 0x7bff) /* the next one is no number */
            continue;
        uint16_t after = (uint16_t)(half + 1);
        float next, middle, below, above;
        fur_dtype_to_f32(FUR_DTYPE_F16, &after, 1, &next);
        middle = (value + next) / 2; /* exact */
        uint32_t m;
        memcpy(&m, &middle, sizeof m);
        uint32_t less = m - 1, more = m + 1; /* by size, as halves are numbered */
        memcpy(&below, &less, sizeof below);
        memcpy(&above, &more, sizeof above);
        float three[3] = {below, middle, above};
        uint16_t got[3];
        fur_dtype_from_f32(FUR_DTYPE_F16, three, 3, got);
        assert_int_equal(got[0], half);
        assert_int_equal(got[1], half % 2 ? after : half);
        assert_int_equal(got[2], after);
    }
    const float large[3] = {65519.0f, 65520.0f, -1e30f};
    uint16_t got[3];
    fur_dtype_from_f32(FUR_DTYPE_F16, large, 3, got);
    assert_true(got[0] == 0x7bff && got[1] == 0x7c00 && got[2] == 0xfc00);
}

/* The weights of a folder again, tensor by tensor in F32, F16 and BF16 in turn. bare: names without "model.". */
static void retype(const char *from, const char *to, bool bare)
{
    fur_error error;
    fur_tensor_source *source;
    kit_expect_ok(&error, fur_tensor_source_open(&error, from, &source));
    int64_t count = fur_tensor_source_count(source);
    fur_tensor_entry *entries = calloc((size_t)count, sizeof *entries);
    assert_non_null(entries);
    static const fur_dtype types[] = {FUR_DTYPE_F32, FUR_DTYPE_F16, FUR_DTYPE_BF16};
    for (int64_t i = 0; i < count; i++) {
        const fur_tensor_info *info = fur_tensor_source_at(source, i);
        fur_dtype type = types[i % 3];
        float *values = calloc((size_t)info->count, sizeof *values);
        void *data = calloc((size_t)info->count, (size_t)fur_dtype_bytes(type));
        assert_true(values && data);
        kit_expect_ok(&error,
                      fur_tensor_source_read_f32(&error, source, info->name, info->rank, info->shape, true, values));
        fur_dtype_from_f32(type, values, info->count, data);
        entries[i] = (fur_tensor_entry){.name = info->name + (bare && strncmp(info->name, "model.", 6) == 0 ? 6 : 0),
                                        .dtype = type,
                                        .rank = info->rank,
                                        .data = data};
        memcpy(entries[i].shape, info->shape, sizeof info->shape);
        free(values);
    }
    kit_expect_ok(&error, fur_safetensors_write(&error, to, entries, count, NULL, 0, NULL));
    for (int64_t i = 0; i < count; i++)
        free((void *)(uintptr_t)entries[i].data);
    free(entries);
    fur_tensor_source_close(source);
}

static void expect_same_tensors(const char *a, const char *b)
{
    fur_error error;
    fur_tensor_source *left, *right;
    kit_expect_ok(&error, fur_tensor_source_open(&error, a, &left));
    kit_expect_ok(&error, fur_tensor_source_open(&error, b, &right));
    assert_int_equal(fur_tensor_source_count(left), fur_tensor_source_count(right));
    for (int64_t i = 0; i < fur_tensor_source_count(left); i++) {
        const fur_tensor_info *p = fur_tensor_source_at(left, i), *q = fur_tensor_source_find(right, p->name);
        if (!q || q->dtype != p->dtype || q->rank != p->rank || memcmp(p->shape, q->shape, sizeof p->shape) != 0)
            fail_msg("%s is not what it was", p->name);
        void *x = calloc(1, (size_t)p->bytes), *y = calloc(1, (size_t)p->bytes);
        assert_true(x && y);
        kit_expect_ok(&error, fur_tensor_source_read_raw(&error, left, p->name, p->dtype, p->rank, p->shape, x));
        kit_expect_ok(&error, fur_tensor_source_read_raw(&error, right, p->name, p->dtype, p->rank, p->shape, y));
        kit_check_same_bits(p->name, x, y, (size_t)p->bytes);
        free(x);
        free(y);
    }
    fur_tensor_source_close(left);
    fur_tensor_source_close(right);
}

/* Keys that mean nothing to us too. */
static void a_converted_folder_keeps_its_bits(void **state)
{
    (void)state;
    for (int i = 0; i < TEXTS; i++) {
        kit_folder from, to;
        kit_folder_init(&from);
        kit_folder_init(&to);
        char *text = altered(texts[i], "{\"eos_token_id\": [3, 5], \"transformers_version\": \"4.57.0\"}");
        fur_model_config c = config_of(text);
        fur_model *model = kit_model(context, &c, 5 + (uint64_t)i);
        kit_ok(context, fur_model_save(context, model, folder.path));
        fur_model_destroy(model);
        retype(folder.path, kit_path(&from, "model.safetensors"), i % 2 == 1);
        kit_write(&from, "config.json", text, -1);
        kit_write(&from, "generation_config.json", "{\"eos_token_id\": 7, \"bos_token_id\": null, \"top_p\": 0.9}", -1);
        fur_conversion done;
        const char *out = kit_path(&to, "out");
        kit_ok(context, fur_model_convert(context, from.path, out, NULL, NULL, NULL, &done));
        assert_true(done.bytes_before == done.bytes_after);
        expect_same_tensors(from.path, out);
        char path[640];
        snprintf(path, sizeof path, "%s/config.json", out);
        kit_expect_content(path, text, (int64_t)strlen(text));
        kit_ok(context, fur_model_load(context, out, &model));
        const fur_model_config *read = fur_model_config_of(model); /* generation_config.json came along */
        assert_true(read->eos.count == 1 && read->eos.id[0] == 7 && read->bos.count == 0);
        fur_model_destroy(model);
        fur_free(text);
        kit_folder_clear(&from);
        kit_folder_clear(&to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(traits_are_the_familys),
        cmocka_unit_test(what_is_absent_is_as_transformers_has_it),
        cmocka_unit_test(keys_of_transformers_4_and_5_are_one),
        cmocka_unit_test(what_is_not_done_is_refused_by_name),
        cmocka_unit_test(the_family_that_can_say_it_is_written),
        cmocka_unit_test(a_llama_file_with_another_yarn_loads),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(halves_are_rounded_to_nearest),
        cmocka_unit_test(a_converted_folder_keeps_its_bits),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
