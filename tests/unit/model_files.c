/* SPDX-License-Identifier: Apache-2.0 */
/* Models in and out of folders, and generation: what is written comes back to the bit, in each family; a config.json or
 * a weights file that is wrong is refused with one line that names what; greedy generation from the cache is the argmax
 * of whole rows; sampling is a function of its seed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "kit/files.h"
#include "kit/model.h"
#include "model/parameters.h"

/* ---- there and back ---------------------------------------------------------------------------------------------- */

static void check_same_weights(const fur_model *a, const fur_model *b)
{
    assert_int_equal(fur_model_parameters(a), fur_model_parameters(b));
    for (int64_t i = 0; i < fur_model_parameters(a); i++) {
        fur_parameter_info p, q;
        fur_model_parameter(a, i, &p);
        fur_model_parameter(b, i, &q);
        assert_string_equal(p.name, q.name);
        assert_int_equal(p.count, q.count);
        kit_check_same_bits(p.name, p.data, q.data, (size_t)p.count * sizeof(float));
    }
}

static void what_is_saved_loads_to_the_bit(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    int64_t live = fur_alloc_live();
    int families = 0;
    for (int i = 0; i < kit_model_case_count; i++) {
        const fur_model_config *c = &kit_model_cases[i].config;
        const char *family = fur_config_family(c);
        families |= strcmp(family, "gpt2") == 0       ? 1
                    : strcmp(family, "gpt_neox") == 0 ? 2
                    : strcmp(family, "llama") == 0    ? 4
                                                      : 8;
        fur_model *model = kit_model(context, c, 3), *back;
        kit_folder folder;
        kit_folder_init(&folder);
        kit_ok(context, fur_model_save(context, model, folder.path));
        assert_int_equal(kit_entries(folder.path), 2);
        kit_ok(context, fur_model_load(context, folder.path, &back));
        fur_model_config written = *c, read = *fur_model_config_of(back);
        assert_int_equal(memcmp(written.attention, read.attention, sizeof read.attention), 0);
        assert_true(written.vocabulary == read.vocabulary && written.context == read.context &&
                    written.width == read.width && written.layers == read.layers && written.heads == read.heads &&
                    written.kv_heads == read.kv_heads && written.head_dim == read.head_dim &&
                    written.hidden == read.hidden && written.norm == read.norm && written.norm_eps == read.norm_eps &&
                    written.activation == read.activation && written.position == read.position &&
                    written.bias == read.bias && written.tied == read.tied && written.causal == read.causal &&
                    written.features == read.features && written.outputs == read.outputs &&
                    written.init_std == read.init_std);
        assert_int_equal(memcmp(written.window, read.window, sizeof read.window), 0);
        assert_true(written.sink_tokens == read.sink_tokens && written.sink_logits == read.sink_logits &&
                    written.qk_norm == read.qk_norm && written.softcap == read.softcap &&
                    written.dropout == read.dropout && written.embedding_dropout == read.embedding_dropout &&
                    written.attention_dropout == read.attention_dropout &&
                    written.rope_scaling.type == read.rope_scaling.type &&
                    written.rope_scaling.factor == read.rope_scaling.factor &&
                    written.rope_scaling.original_context == read.rope_scaling.original_context);
        assert_true(written.position == FUR_POSITION_LEARNED || written.rope_theta == read.rope_theta);
        check_same_weights(model, back);
        /* and once more over what is there */
        kit_ok(context, fur_model_save(context, back, folder.path));
        assert_int_equal(kit_entries(folder.path), 2);
        fur_model_destroy(back);
        kit_ok(context, fur_model_load(context, folder.path, &back));
        check_same_weights(model, back);
        fur_model_destroy(back);
        fur_model_destroy(model);
        kit_folder_clear(&folder);
    }
    assert_int_equal(families, 15);
    assert_int_equal(fur_alloc_live(), live);
    fur_context_destroy(context);
}

/* ---- config.json ---------------------------------------------------------------------------------------------------
 */

static const char gpt2_text[] =
    "{\"model_type\": \"gpt2\", \"vocab_size\": 61, \"n_positions\": 64, \"n_embd\": 32, \"n_layer\": 2, \"n_head\": 4}";
static const char neox_text[] =
    "{\"model_type\": \"gpt_neox\", \"vocab_size\": 61, \"max_position_embeddings\": 64, \"hidden_size\": 32,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 128, \"hidden_act\": \"gelu_new\","
    " \"rotary_pct\": 1.0, \"use_parallel_residual\": false}";
static const char llama_text[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 61, \"max_position_embeddings\": 64, \"hidden_size\": 32,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"intermediate_size\": 88}";
static const char furlong_text[] =
    "{\"model_type\": \"furlong\", \"vocab_size\": 61, \"features\": 0, \"outputs\": 0, \"max_position_embeddings\": 64,"
    " \"hidden_size\": 32, \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2,"
    " \"head_dim\": 8, \"intermediate_size\": 88, \"norm\": \"rmsnorm\", \"norm_eps\": 1e-5, \"activation\": \"swiglu\","
    " \"position\": \"rope\", \"rope_theta\": 1e4, \"bias\": false, \"tie_word_embeddings\": true, \"causal\": false,"
    " \"attention\": [\"exact\", \"exact\"], \"projection_qkvo\": \"dense\", \"projection_ffn\": \"dense\"}";

/* The text with one value changed ("key": value), taken out (value NULL), or added. */
static char *altered(const char *text, const char *key, const char *value)
{
    json_error_t error;
    json_t *json = json_loads(text, 0, &error), *new_value = value ? json_loads(value, JSON_DECODE_ANY, &error) : NULL;
    assert_non_null(json);
    assert_true(!value || new_value);
    if (value)
        json_object_set_new(json, key, new_value);
    else
        assert_int_equal(json_object_del(json, key), 0);
    char *out = json_dumps(json, 0);
    json_decref(json);
    assert_non_null(out);
    return out;
}

static void free_text(char *text)
{
    fur_free(text); /* jansson allocates as the library does */
}

static fur_status read_config(fur_context *context, const kit_folder *folder, const char *text, int64_t bytes,
                              fur_model_config *out)
{
    return fur_config_read(context, kit_write(folder, "config.json", text, bytes), out);
}

static void expect_config(fur_context *context, const kit_folder *folder, const char *text, fur_status wanted,
                          const char *part)
{
    fur_model_config config = {.width = -77};
    fur_status status = read_config(context, folder, text, -1, &config);
    const char *error = fur_context_error(context);
    if (status != wanted || !strstr(error, part) || !strstr(error, "config.json"))
        fail_msg("%s\nstatus \"%s\", text \"%s\"; wanted \"%s\" with \"%s\"", text, fur_status_name(status), error,
                 fur_status_name(wanted), part);
    assert_int_equal(config.width, -77); /* untouched */
    assert_null(strchr(error, '\n'));
}

typedef struct alteration {
    const char *text, *key, *value;
    fur_status status;
    const char *part;
} alteration;

static void a_wrong_config_is_refused_by_name(void **state)
{
    (void)state;
    static const alteration list[] = {
        {gpt2_text, "model_type", NULL, FUR_E_FORMAT, "model_type"},
        {gpt2_text, "model_type", "\"mamba\"", FUR_E_UNSUPPORTED, "mamba"},
        {gpt2_text, "model_type", "7", FUR_E_FORMAT, "model_type"},
        {gpt2_text, "n_embd", NULL, FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "0", FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "-32", FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "33", FUR_E_FORMAT, "does not divide"},
        {gpt2_text, "n_embd", "32.5", FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "\"32\"", FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "[32]", FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "9223372036854775807", FUR_E_FORMAT, "n_embd"},
        {gpt2_text, "n_embd", "1099511627776", FUR_E_FORMAT, "width"},
        {gpt2_text, "vocab_size", "1099511627776", FUR_E_FORMAT, "vocabulary"},
        {gpt2_text, "n_positions", "1099511627776", FUR_E_FORMAT, "context"},
        {gpt2_text, "n_layer", "513", FUR_E_FORMAT, "n_layer"},
        {gpt2_text, "n_layer", "1099511627776", FUR_E_FORMAT, "n_layer"},
        {gpt2_text, "n_head", "0", FUR_E_FORMAT, "n_head"},
        {gpt2_text, "n_head", "64", FUR_E_FORMAT, "does not divide"},
        {gpt2_text, "n_inner", "1099511627776", FUR_E_FORMAT, "hidden"},
        {gpt2_text, "layer_norm_epsilon", "0", FUR_E_FORMAT, "layer_norm_epsilon"},
        {gpt2_text, "layer_norm_epsilon", "-1e-5", FUR_E_FORMAT, "layer_norm_epsilon"},
        {gpt2_text, "activation_function", "\"relu\"", FUR_E_UNSUPPORTED, "relu"},
        {gpt2_text, "scale_attn_weights", "false", FUR_E_UNSUPPORTED, "scale_attn_weights"},
        {gpt2_text, "scale_attn_by_inverse_layer_idx", "true", FUR_E_UNSUPPORTED, "inverse_layer"},
        {neox_text, "use_parallel_residual", NULL, FUR_E_UNSUPPORTED, "parallel"},
        {neox_text, "rotary_pct", NULL, FUR_E_UNSUPPORTED, "rotary_pct"},
        {neox_text, "rotary_pct", "0.25", FUR_E_UNSUPPORTED, "rotary_pct"},
        {neox_text, "rope_parameters", "{\"partial_rotary_factor\": 0.25}", FUR_E_UNSUPPORTED, "rotary"},
        {neox_text, "rope_scaling", "{\"type\": \"linear\", \"factor\": 2}", FUR_E_UNSUPPORTED, "rope_scaling"},
        {neox_text, "attention_bias", "false", FUR_E_UNSUPPORTED, "attention_bias"},
        {neox_text, "hidden_act", "\"gelu\"", FUR_E_UNSUPPORTED, "gelu"},
        {llama_text, "intermediate_size", NULL, FUR_E_FORMAT, "intermediate_size"},
        {llama_text, "num_key_value_heads", "3", FUR_E_FORMAT, "key heads"},
        {llama_text, "num_key_value_heads", "8", FUR_E_FORMAT, "kv_heads"},
        {llama_text, "num_key_value_heads", "-1", FUR_E_FORMAT, "num_key_value_heads"},
        {llama_text, "head_dim", "7", FUR_E_FORMAT, "even head_dim"},
        {llama_text, "head_dim", "1099511627776", FUR_E_FORMAT, "head_dim"},
        {llama_text, "rope_theta", "0", FUR_E_FORMAT, "rope_theta"},
        {llama_text, "rope_theta", "1e300", FUR_E_FORMAT, "rope_theta"},
        {llama_text, "rope_scaling", "{\"rope_type\": \"longrope\"}", FUR_E_UNSUPPORTED, "rope_scaling"},
        {llama_text, "rope_parameters", "{\"rope_type\": \"yarn\"}", FUR_E_FORMAT, "factor"},
        {llama_text, "rope_parameters", "{\"rope_type\": \"yarn\", \"factor\": 0.5}", FUR_E_FORMAT, "factor"},
        {llama_text, "rope_scaling", "{\"type\": \"ntk\", \"factor\": 2}", FUR_E_UNSUPPORTED, "ntk"},
        {llama_text, "rope_scaling", "{\"rope_type\": \"llama3\", \"factor\": 2}", FUR_E_FORMAT, "low_freq_factor"},
        {llama_text, "rope_scaling",
         "{\"type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, \"high_freq_factor\": 1}", FUR_E_FORMAT,
         "high_freq_factor"},
        {llama_text, "rope_scaling", "{\"rope_type\": \"default\", \"partial_rotary_factor\": 0.5}", FUR_E_UNSUPPORTED,
         "partial_rotary_factor"},
        {llama_text, "partial_rotary_factor", "0.5", FUR_E_UNSUPPORTED, "partial_rotary_factor"},
        {llama_text, "attention_dropout", "1", FUR_E_FORMAT, "attention_dropout"},
        {gpt2_text, "embd_pdrop", "1", FUR_E_FORMAT, "embd_pdrop"},
        {llama_text, "rope_parameters", "{\"rope_type\": 1}", FUR_E_FORMAT, "rope_type"},
        {llama_text, "attention_bias", "1", FUR_E_FORMAT, "attention_bias"},
        {llama_text, "mlp_bias", "\"no\"", FUR_E_FORMAT, "mlp_bias"},
        {llama_text, "tie_word_embeddings", "1", FUR_E_FORMAT, "tie_word_embeddings"},
        {llama_text, "initializer_range", "-1", FUR_E_FORMAT, "initializer_range"},
        {furlong_text, "attention", NULL, FUR_E_FORMAT, "attention"},
        {furlong_text, "attention", "[\"exact\"]", FUR_E_FORMAT, "2 layers"},
        {furlong_text, "attention", "[\"exact\", \"psychic\"]", FUR_E_UNSUPPORTED, "psychic"},
        {furlong_text, "attention", "[\"exact\", 1]", FUR_E_UNSUPPORTED, "attention"},
        {furlong_text, "projection_ffn", "\"magic\"", FUR_E_UNSUPPORTED, "magic"},
        {furlong_text, "norm", "\"batchnorm\"", FUR_E_UNSUPPORTED, "batchnorm"},
        {furlong_text, "features", "5", FUR_E_FORMAT, "outputs"},
        {furlong_text, "vocab_size", "0", FUR_E_FORMAT, "vocabulary"},
        {furlong_text, "num_hidden_layers", "100000", FUR_E_FORMAT, "num_hidden_layers"},
        {furlong_text, "norm_eps", "1", FUR_E_FORMAT, "norm_eps"},
        {furlong_text, "window", "[4096]", FUR_E_FORMAT, "2 layers"},
        {furlong_text, "window", "[4096, -1]", FUR_E_FORMAT, "window of layer 1"},
        {furlong_text, "window", "[4096, 1.5]", FUR_E_FORMAT, "window of layer 1"},
        {furlong_text, "sink_tokens", "-1", FUR_E_FORMAT, "sink_tokens"},
        {furlong_text, "softcap", "-1", FUR_E_FORMAT, "softcap"},
        {furlong_text, "dropout", "1", FUR_E_FORMAT, "dropout"},
        {furlong_text, "embedding_dropout", "1", FUR_E_FORMAT, "embedding_dropout"},
        {furlong_text, "qk_norm", "1", FUR_E_FORMAT, "qk_norm"},
        {furlong_text, "position", "\"t5\"", FUR_E_UNSUPPORTED, "t5"},
    };
    fur_context *context = kit_context(1);
    kit_folder folder;
    kit_folder_init(&folder);
    fur_json_setup();
    static const char *const good[] = {gpt2_text, neox_text, llama_text, furlong_text};
    fur_model_config config;
    for (int i = 0; i < 4; i++)
        kit_ok(context, read_config(context, &folder, good[i], -1, &config));
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        char *text = altered(list[i].text, list[i].key, list[i].value);
        expect_config(context, &folder, text, list[i].status, list[i].part);
        free_text(text);
    }
    expect_config(context, &folder, "", FUR_E_FORMAT, "");
    expect_config(context, &folder, "no json at all", FUR_E_FORMAT, "");
    expect_config(context, &folder, "[1, 2]", FUR_E_FORMAT, "");
    expect_config(context, &folder, "{\"model_type\": \"gpt2\", \"model_type\": \"llama\"}", FUR_E_FORMAT, "");
    assert_int_equal(fur_config_read(context, kit_path(&folder, "absent.json"), &config), FUR_E_IO);
    assert_non_null(strstr(fur_context_error(context), "absent.json"));
    /* every prefix of a good file is no good file */
    for (int64_t bytes = 0; bytes < (int64_t)strlen(llama_text); bytes++)
        assert_int_equal(read_config(context, &folder, llama_text, bytes, &config), FUR_E_FORMAT);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

static bool same_scaling(const fur_rope_scaling *a, const fur_rope_scaling *b)
{
    return a->type == b->type && a->factor == b->factor && a->original_context == b->original_context &&
           a->attention_factor == b->attention_factor && a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow &&
           a->low_freq_factor == b->low_freq_factor && a->high_freq_factor == b->high_freq_factor &&
           a->unrounded == b->unrounded;
}

/* Scalings of every kind that transformers has for Llama, in both forms, and what is absent. */
static void rope_scalings_of_files_are_read(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    kit_folder_init(&folder);
    fur_json_setup();
    static const struct {
        const char *key, *value;
        fur_rope_scaling scaling;
    } list[] = {
        {"rope_scaling", "{\"type\": \"linear\", \"factor\": 4}", {.type = FUR_ROPE_LINEAR, .factor = 4}},
        {"rope_parameters",
         "{\"rope_type\": \"linear\", \"factor\": 4.0, \"rope_theta\": 1e4}",
         {.type = FUR_ROPE_LINEAR, .factor = 4}},
        {"rope_scaling",
         "{\"type\": \"dynamic\", \"factor\": 2.0}",
         {.type = FUR_ROPE_DYNAMIC, .factor = 2, .original_context = 64}},
        {"rope_scaling",
         "{\"rope_type\": \"yarn\", \"factor\": 8, \"original_max_position_embeddings\": 16}",
         {.type = FUR_ROPE_YARN,
          .factor = 8,
          .original_context = 16,
          .beta_fast = 32,
          .beta_slow = 1}}, /* versions of transformers differ: 8, or 64 / 16 */
        {"rope_scaling",
         "{\"rope_type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 16}",
         {.type = FUR_ROPE_YARN, .factor = 4, .original_context = 16, .beta_fast = 32, .beta_slow = 1}},
        {"rope_scaling",
         "{\"type\": \"yarn\", \"factor\": 8, \"mscale\": 1, \"mscale_all_dim\": 1, \"beta_fast\": 16}",
         {.type = FUR_ROPE_YARN,
          .factor = 8,
          .original_context = 64,
          .attention_factor = 1,
          .beta_fast = 16,
          .beta_slow = 1}},
        {"rope_scaling",
         "{\"type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 16, \"truncate\": false}",
         {.type = FUR_ROPE_YARN,
          .factor = 4,
          .original_context = 16,
          .beta_fast = 32,
          .beta_slow = 1,
          .unrounded = true}},
        {"rope_parameters",
         "{\"rope_type\": \"llama3\", \"factor\": 32, \"original_max_position_embeddings\": 8192, "
         "\"low_freq_factor\": 1, \"high_freq_factor\": 4}",
         {.type = FUR_ROPE_LLAMA3,
          .factor = 32,
          .original_context = 8192,
          .low_freq_factor = 1,
          .high_freq_factor = 4}},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        fur_model_config config;
        char *text = altered(llama_text, list[i].key, list[i].value);
        kit_ok(context, read_config(context, &folder, text, -1, &config));
        if (!same_scaling(&config.rope_scaling, &list[i].scaling))
            fail_msg("%s: type %d, factor %g, original %lld, attention %g", text, (int)config.rope_scaling.type,
                     config.rope_scaling.factor, (long long)config.rope_scaling.original_context,
                     config.rope_scaling.attention_factor);
        const fur_rope_scaling *wanted = &list[i].scaling;
        bool differ = wanted->type == FUR_ROPE_YARN && wanted->original_context == 16 && wanted->factor == 8;
        assert_string_equal(fur_config_family(&config), "llama");
        fur_model_config unsaid = config; /* of no file */
        unsaid.family[0] = 0;
        assert_string_equal(fur_config_family(&unsaid), differ ? "furlong" : "llama");
        free_text(text);
        /* written and read again it is the same */
        fur_model *model;
        fur_model_config back;
        kit_ok(context, fur_model_create(context, &config, 1, &model));
        kit_ok(context, fur_model_save(context, model, folder.path));
        kit_ok(context, fur_config_read(context, kit_path(&folder, "config.json"), &back));
        assert_int_equal(back.rope_scaling.type, config.rope_scaling.type);
        assert_int_equal(back.rope_scaling.original_context, config.rope_scaling.original_context);
        assert_int_equal(back.rope_scaling.unrounded, config.rope_scaling.unrounded);
        fur_model_destroy(model);
    }
    /* the top-level key wins, as in transformers 5 */
    fur_model_config config;
    char *text = altered(llama_text, "rope_scaling",
                         "{\"rope_type\": \"yarn\", \"factor\": 4, \"original_max_position_embeddings\": 8}");
    char *top = altered(text, "original_max_position_embeddings", "16");
    kit_ok(context, read_config(context, &folder, top, -1, &config));
    assert_int_equal(config.rope_scaling.original_context, 16);
    free_text(top);
    free_text(text);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

static void windows_by_layer_are_set_or_refused(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model_config c = kit_model_cases[3].config; /* 3 layers, context 512 */
    kit_ok(context, fur_config_set_window(context, &c, "64"));
    assert_true(c.window[0] == 64 && c.window[2] == 64 && c.window[3] == 0);
    kit_ok(context, fur_config_set_window(context, &c, "32@0,none@1-2"));
    assert_true(c.window[0] == 32 && c.window[1] == 0 && c.window[2] == 0);
    kit_ok(context, fur_config_set_window(context, &c, "1K@0,7@2"));
    assert_true(c.window[0] == 0 && c.window[2] == 7); /* 1,024 is no window in 512 */
    static const char *const bad[] = {
        "", "0", "-1", "1.5", "x", "7@", "7@3", "7@2-1", "7@0-1x", "7,", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(fur_config_set_window(context, &c, bad[i]), FUR_E_ARGUMENT);
        assert_non_null(strstr(fur_context_error(context), "--window"));
        assert_true(c.window[2] == 7);
    }
    static const char *const scalings[] = {"linear",   "linear:",   "linear:0.5", "linear:2:3", "yarn:4",
                                           "yarn:4:0", "yarn:4:-1", "llama3:x:5", "none:1",     "longrope:4:8",
                                           ""};
    for (size_t i = 0; i < sizeof scalings / sizeof scalings[0]; i++)
        assert_int_equal(fur_config_set_rope_scaling(context, &c, scalings[i]), FUR_E_ARGUMENT);
    kit_ok(context, fur_config_set_rope_scaling(context, &c, "yarn:4:128"));
    assert_true(c.rope_scaling.type == FUR_ROPE_YARN && c.rope_scaling.original_context == 128);
    kit_ok(context, fur_config_set_rope_scaling(context, &c, "none"));
    assert_true(c.rope_scaling.type == FUR_ROPE_PLAIN);
    c = kit_model_cases[0].config;
    assert_int_equal(fur_config_set_rope_scaling(context, &c, "linear:2"), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(context), "learned"));
    fur_context_destroy(context);
}

/* Another family, the same weights: a softcap far above all scores changes outputs by its rounding alone. */
static void a_reshaped_model_computes_the_same(void **state)
{
    (void)state;
    enum { T = 100 };
    fur_context *context = kit_context(1);
    for (int i = 0; i < kit_model_case_count; i++) {
        const fur_model_config *c = &kit_model_cases[i].config;
        fur_model *model = kit_model(context, c, 3);
        fur_model_config wanted = *c;
        kit_row row;
        kit_run run;
        static float y[2][T * 128];
        int64_t outputs = c->features ? c->outputs : c->vocabulary;
        if (!(c->softcap > 0))
            wanted.softcap = 1e5;
        wanted.dropout = 0.5;
        for (int after = 0; after < 2; after++) {
            if (after)
                kit_ok(context, fur_model_reshape(context, &wanted, &model));
            kit_row_create(c, (int64_t[]){T, 0}, 1, 4, &row);
            kit_run_create(context, model, &row, 64, FUR_KEEP_NOTHING, &run);
            kit_ok(context, fur_model_outputs(run.run, &row.row, y[after]));
            assert_int_equal(fur_model_reshape(context, &wanted, &model), FUR_E_BUSY);
            kit_run_destroy(&run);
            kit_row_destroy(&row);
        }
        assert_true(fur_model_config_of(model)->softcap > 0);
        assert_string_equal(fur_config_family(fur_model_config_of(model)), "furlong");
        for (int64_t j = 0; j < T * outputs; j++)
            if (!(fabsf(y[0][j] - y[1][j]) <= 1e-4f * (1 + fabsf(y[0][j]))))
                fail_msg("%s: output %lld was %g, is %g", kit_model_cases[i].name, (long long)j, (double)y[0][j],
                         (double)y[1][j]);
        fur_model_destroy(model);
    }
    fur_context_destroy(context);
}

/* Each of GPT-2's three rates is its own; in a file of our own, hidden and embedding rates that an older one has as
 * one. */
static void rates_of_dropout_are_read_and_written(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    kit_folder_init(&folder);
    fur_json_setup();
    fur_model_config config;
    char *text = altered(gpt2_text, "embd_pdrop", "0.0");
    char *both = altered(text, "resid_pdrop", "0.1");
    kit_ok(context, read_config(context, &folder, both, -1, &config));
    assert_true(config.embedding_dropout == 0 && config.dropout == 0.1 && config.attention_dropout == 0);
    assert_string_equal(fur_config_family(&config), "gpt2");
    free_text(text);
    free_text(both);
    text = altered(furlong_text, "dropout", "0.25");
    kit_ok(context, read_config(context, &folder, text, -1, &config));
    assert_true(config.embedding_dropout == 0.25 && config.dropout == 0.25);
    free_text(text);
    config = kit_model_cases[2].config;
    config.embedding_dropout = 0.1; /* gpt_neox has one rate */
    assert_string_equal(fur_config_family(&config), "furlong");
    config.dropout = 0.1;
    assert_string_equal(fur_config_family(&config), "gpt_neox");
    config.dropout = 1 - 1e-12; /* 1 in f32 */
    assert_int_equal(fur_config_check(context, &config), FUR_E_ARGUMENT);
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

/* The two forms in which transformers has written RoPE's settings. */
static void both_forms_of_rope_settings_are_read(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    kit_folder folder;
    kit_folder_init(&folder);
    fur_json_setup();
    fur_model_config config;
    const alteration list[] = {
        {llama_text, "rope_theta", "500000.0", FUR_OK, ""},
        {llama_text, "rope_parameters", "{\"rope_type\": \"default\", \"rope_theta\": 500000.0}", FUR_OK, ""},
        {llama_text, "rope_scaling", "{\"rope_type\": \"default\", \"rope_theta\": 500000.0}", FUR_OK, ""},
        {neox_text, "rotary_emb_base", "500000", FUR_OK, ""},
        {neox_text, "rope_parameters", "{\"rope_theta\": 500000.0, \"partial_rotary_factor\": 1.0}", FUR_OK, ""},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        char *text = altered(list[i].text, list[i].key, list[i].value);
        kit_ok(context, read_config(context, &folder, text, -1, &config));
        assert_true(config.rope_theta == 500000.0);
        free_text(text);
    }
    kit_folder_clear(&folder);
    fur_context_destroy(context);
}

/* ---- weights -------------------------------------------------------------------------------------------------------
 */

/* Writes the model's tensors with one of them changed by `change`; NULL drops nothing. */
enum change { NOTHING, DROPPED, RENAMED, EXTRA, WRONG_SHAPE, WRONG_RANK, WRONG_TYPE, NOT_A_NUMBER, INFINITE };

static void write_changed(fur_model *model, const char *path, int64_t which, enum change change)
{
    fur_tensor_entry entries[64];
    static const float more[4096];
    int64_t count = 0;
    fur_parameter_info p, victim;
    fur_model_parameter(model, which, &victim);
    float kept = victim.data[1];
    if (change == NOT_A_NUMBER || change == INFINITE)
        victim.data[1] = change == INFINITE ? INFINITY : NAN;
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_model_parameter(model, i, &p);
        fur_tensor_entry *e = &entries[count];
        *e = (fur_tensor_entry){
            .name = p.name, .dtype = FUR_DTYPE_F32, .rank = p.rank, .shape = {p.shape[0], p.shape[1]}, .data = p.data};
        count++;
        if (i != which)
            continue;
        count -= change == DROPPED;
        e->name = change == RENAMED ? "model.not_a_tensor" : p.name;
        e->dtype = change == WRONG_TYPE ? FUR_DTYPE_I32 : FUR_DTYPE_F32;
        if (change == WRONG_SHAPE || change == WRONG_RANK) {
            e->data = more;
            e->rank = change == WRONG_RANK ? 3 : p.rank;
            e->shape[0] = change == WRONG_SHAPE ? p.shape[0] + 1 : p.shape[0];
            e->shape[2] = 1;
        }
    }
    if (change == EXTRA)
        entries[count++] =
            (fur_tensor_entry){.name = "model.one_more", .dtype = FUR_DTYPE_F32, .rank = 1, .shape = {4}, .data = more};
    fur_error error;
    kit_expect_ok(&error, fur_safetensors_write(&error, path, entries, count, NULL, 0, NULL));
    victim.data[1] = kept;
}

static void wrong_weights_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        enum change change;
        fur_status status;
        const char *part;
    } list[] = {
        {DROPPED, FUR_E_FORMAT, "down_proj"},
        {RENAMED, FUR_E_FORMAT, "not_a_tensor"},
        {EXTRA, FUR_E_FORMAT, "one_more"},
        {WRONG_SHAPE, FUR_E_SHAPE, "down_proj"},
        {WRONG_RANK, FUR_E_SHAPE, "down_proj"},
        {WRONG_TYPE, FUR_E_FORMAT, "down_proj"},
        {NOT_A_NUMBER, FUR_E_NONFINITE, "down_proj"},
        {INFINITE, FUR_E_NONFINITE, "down_proj"},
    };
    fur_context *context = kit_context(1);
    fur_model_config c = kit_model_cases[3].config;
    fur_model *model = kit_model(context, &c, 3), *back;
    kit_folder folder;
    kit_folder_init(&folder);
    kit_ok(context, fur_model_save(context, model, folder.path));
    int64_t which = 0;
    fur_parameter_info p;
    for (fur_model_parameter(model, which, &p); !strstr(p.name, "1.mlp.down_proj");
         fur_model_parameter(model, which, &p))
        which++;
    const char *path = kit_path(&folder, "model.safetensors");
    write_changed(model, path, which, NOTHING);
    kit_ok(context, fur_model_load(context, folder.path, &back));
    check_same_weights(model, back);
    fur_model_destroy(back);
    int64_t live = fur_alloc_live();
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        write_changed(model, path, which, list[i].change);
        fur_status status = fur_model_load(context, folder.path, &back);
        if (status != list[i].status || !strstr(fur_context_error(context), list[i].part) || back)
            fail_msg("change %d: status \"%s\", text \"%s\"", (int)list[i].change, fur_status_name(status),
                     fur_context_error(context));
        assert_int_equal(fur_alloc_live(), live);
    }
    remove(path);
    assert_int_equal(fur_model_load(context, folder.path, &back), FUR_E_IO);
    remove(kit_path(&folder, "config.json"));
    assert_int_equal(fur_model_load(context, folder.path, &back), FUR_E_IO);
    assert_int_equal(fur_model_load(context, "/nowhere/at/all", &back), FUR_E_IO);
    assert_int_equal(fur_model_save(context, model, "/nowhere/at/all"), FUR_E_IO);
    kit_folder_clear(&folder);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

/* ---- generation
 * ------------------------------------------------------------------------------------------------------ */

typedef struct text {
    int32_t ids[600];
    int64_t count, stop_after;
} text;

static int take(void *user, int32_t id)
{
    text *t = user;
    t->ids[t->count++] = id;
    return t->stop_after > 0 && t->count == t->stop_after;
}

static fur_sampling sampling_of(float temperature, int top_k, float top_p, uint64_t seed)
{
    fur_sampling s;
    fur_sampling_defaults(&s);
    s.temperature = temperature;
    s.top_k = top_k;
    s.top_p = top_p;
    s.seed = seed;
    return s;
}

/* Greedy: each new token is the argmax of fur_model_outputs over all before it. Where the two best logits are closer
 * than the two paths' rounding, either may come; none is that close here, which is checked too. */
static void greedy_generation_is_the_argmax(void **state)
{
    (void)state;
    static const int causal[] = {0, 1, 2, 3, 4};
    static const int64_t prompts[] = {1, 7, 450}; /* the last goes over in chunks */
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 3; k++) {
            fur_model_config c = kit_model_cases[causal[i]].config;
            c.context = 700;
            fur_context *context = kit_context(2);
            fur_model *model = kit_model(context, &c, 3);
            int64_t prompt = prompts[k] == 450 ? 550 : prompts[k], new_tokens = 24, total = prompt + new_tokens;
            kit_row row;
            kit_row_create(&c, (int64_t[]){total, 0}, 1, 9, &row);
            text t = {.count = 0};
            fur_sampling greedy = sampling_of(0, 0, 1, 1);
            kit_ok(context, fur_generate(context, model, row.ids, prompt, new_tokens, &greedy, 0, take, &t));
            assert_int_equal(t.count, new_tokens);
            for (int64_t j = 0; j < new_tokens; j++)
                row.ids[prompt + j] = t.ids[j];
            kit_run run;
            kit_run_create(context, model, &row, 0, FUR_KEEP_NOTHING, &run);
            float *y = calloc((size_t)(total * c.vocabulary), sizeof *y);
            assert_non_null(y);
            kit_ok(context, fur_model_outputs(run.run, &row.row, y));
            for (int64_t j = 0; j < new_tokens; j++) {
                const float *logits = y + (prompt + j - 1) * c.vocabulary;
                float best = -INFINITY, second = -INFINITY, largest = 0;
                int32_t argmax = -1;
                for (int32_t v = 0; v < c.vocabulary; v++) {
                    largest = fmaxf(largest, fabsf(logits[v]));
                    if (logits[v] > best) {
                        second = best;
                        best = logits[v];
                        argmax = v;
                    } else if (logits[v] > second) {
                        second = logits[v];
                    }
                }
                assert_true((double)(best - second) > 1e-5 * (double)largest);
                assert_int_equal(argmax, t.ids[j]);
            }
            free(y);
            kit_run_destroy(&run);
            kit_row_destroy(&row);
            fur_model_destroy(model);
            fur_context_destroy(context);
        }
}

static void sampling_is_a_function_of_its_seed(void **state)
{
    (void)state;
    const fur_model_config *c = &kit_model_cases[3].config;
    fur_context *one = kit_context(1), *two = kit_context(2);
    fur_model *model = kit_model(one, c, 3);
    const int32_t prompt[] = {5, 6, 7};
    text a = {0}, b = {0}, other = {0}, greedy = {0}, narrow = {0}, short_one = {.stop_after = 5};
    fur_sampling s = sampling_of(1.5f, 0, 1, 7);
    kit_ok(one, fur_generate(one, model, prompt, 3, 100, &s, 0, take, &a));
    kit_ok(two, fur_generate(two, model, prompt, 3, 100, &s, 0, take, &b));
    assert_int_equal(a.count, 100);
    kit_check_same_bits("the same seed, 1 and 2 threads", a.ids, b.ids, sizeof a.ids);
    kit_ok(one, fur_generate(one, model, prompt, 3, 100, &s, 0, take, &short_one));
    assert_int_equal(short_one.count, 5);
    kit_check_same_bits("a shorter text", a.ids, short_one.ids, 5 * sizeof a.ids[0]);
    s.seed = 8;
    kit_ok(one, fur_generate(one, model, prompt, 3, 100, &s, 0, take, &other));
    assert_int_not_equal(memcmp(a.ids, other.ids, sizeof a.ids), 0);
    fur_sampling cold = sampling_of(0, 0, 1, 1), first = sampling_of(2, 1, 1, 9);
    kit_ok(one, fur_generate(one, model, prompt, 3, 100, &cold, 0, take, &greedy));
    kit_ok(one, fur_generate(one, model, prompt, 3, 100, &first, 0, take, &narrow));
    kit_check_same_bits("top-k 1 is greedy", greedy.ids, narrow.ids, sizeof greedy.ids);
    text nucleus = {0};
    first = sampling_of(2, 0, 1e-6f, 9);
    kit_ok(one, fur_generate(one, model, prompt, 3, 100, &first, 0, take, &nucleus));
    kit_check_same_bits("a tiny top-p is greedy", greedy.ids, nucleus.ids, sizeof greedy.ids);
    fur_model_destroy(model);
    fur_context_destroy(one);
    fur_context_destroy(two);
}

/* Frequencies of the first token over 4,000 seeds against the softmax of its logits: each within 5 standard deviations.
 */
static void sampling_follows_the_distribution(void **state)
{
    (void)state;
    enum { DRAWS = 4000, VOCABULARY = 97 };
    const fur_model_config *c = &kit_model_cases[3].config;
    assert_int_equal(c->vocabulary, VOCABULARY);
    fur_context *context = kit_context(1);
    fur_model *model = kit_model(context, c, 3);
    kit_row row;
    kit_row_create(c, (int64_t[]){3, 0}, 1, 9, &row);
    kit_run run;
    kit_run_create(context, model, &row, 0, FUR_KEEP_NOTHING, &run);
    float y[3 * VOCABULARY];
    kit_ok(context, fur_model_outputs(run.run, &row.row, y));
    int counts[VOCABULARY] = {0};
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        text t = {0};
        fur_sampling s = sampling_of(0.8f, 0, 1, seed);
        kit_ok(context, fur_generate(context, model, row.ids, 3, 1, &s, 0, take, &t));
        counts[t.ids[0]]++;
    }
    double total = 0;
    for (int v = 0; v < VOCABULARY; v++)
        total += exp((double)y[2 * VOCABULARY + v] / 0.8);
    for (int v = 0; v < VOCABULARY; v++) {
        double p = exp((double)y[2 * VOCABULARY + v] / 0.8) / total;
        assert_true(fabs(counts[v] - DRAWS * p) <= 5 * sqrt(DRAWS * p * (1 - p)) + 1);
    }
    kit_run_destroy(&run);
    kit_row_destroy(&row);
    fur_model_destroy(model);
    fur_context_destroy(context);
}

static void bad_generation_is_refused(void **state)
{
    (void)state;
    fur_context *context = kit_context(1);
    fur_model *model = kit_model(context, &kit_model_cases[3].config, 3);
    fur_model *blind = kit_model(context, &kit_model_cases[5].config, 3),
              *vectors = kit_model(context, &kit_model_cases[7].config, 3);
    int32_t prompt[] = {5, 6, 97};
    text t = {0};
    fur_sampling s = sampling_of(1, 0, 1, 1);
    assert_int_equal(fur_generate(context, model, prompt, 0, 3, &s, 0, take, &t), FUR_E_ARGUMENT);
    assert_int_equal(fur_generate(context, model, prompt, 2, -1, &s, 0, take, &t), FUR_E_ARGUMENT);
    assert_int_equal(fur_generate(context, model, prompt, 2, INT64_MAX, &s, 0, take, &t), FUR_E_ARGUMENT);
    assert_int_equal(fur_generate(context, model, prompt, 2, 511, &s, 0, take, &t), FUR_E_ARGUMENT);
    assert_int_equal(fur_generate(context, model, prompt, 3, 1, &s, 0, take, &t), FUR_E_ARGUMENT);
    assert_non_null(strstr(fur_context_error(context), "token 2 is 97"));
    assert_int_equal(fur_generate(context, model, prompt, 2, 1, &s, 1000, take, &t), FUR_E_DOES_NOT_FIT);
    assert_int_equal(fur_generate(context, blind, prompt, 2, 1, &s, 0, take, &t), FUR_E_UNSUPPORTED);
    assert_int_equal(fur_generate(context, vectors, prompt, 2, 1, &s, 0, take, &t), FUR_E_UNSUPPORTED);
    const fur_sampling bad[] = {sampling_of(-1, 0, 1, 1), sampling_of(NAN, 0, 1, 1),  sampling_of(1, -1, 1, 1),
                                sampling_of(1, 0, 0, 1),  sampling_of(1, 0, 1.5f, 1), sampling_of(1, 0, NAN, 1)};
    for (int i = 0; i < 6; i++)
        assert_int_equal(fur_generate(context, model, prompt, 2, 1, &bad[i], 0, take, &t), FUR_E_ARGUMENT);
    assert_int_equal(t.count, 0);
    kit_ok(context, fur_generate(context, model, prompt, 2, 0, &s, 0, take, &t));
    assert_int_equal(t.count, 0);
    fur_model_destroy(model);
    fur_model_destroy(blind);
    fur_model_destroy(vectors);
    fur_context_destroy(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_loads_to_the_bit),     cmocka_unit_test(a_wrong_config_is_refused_by_name),
        cmocka_unit_test(rope_scalings_of_files_are_read),    cmocka_unit_test(windows_by_layer_are_set_or_refused),
        cmocka_unit_test(a_reshaped_model_computes_the_same), cmocka_unit_test(both_forms_of_rope_settings_are_read),
        cmocka_unit_test(wrong_weights_are_refused_by_name),  cmocka_unit_test(greedy_generation_is_the_argmax),
        cmocka_unit_test(sampling_is_a_function_of_its_seed), cmocka_unit_test(sampling_follows_the_distribution),
        cmocka_unit_test(bad_generation_is_refused),          cmocka_unit_test(rates_of_dropout_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
