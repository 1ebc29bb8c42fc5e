/* SPDX-License-Identifier: Apache-2.0 */
/* furlong inspect: what is in a model. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "plan_view.h"
#include "verb.h"

typedef struct tensor_summary {
    double norm, least, greatest;
} tensor_summary;

static tensor_summary summarize(const fur_parameter_info *tensor)
{
    tensor_summary summary = {0.0, HUGE_VAL, -HUGE_VAL};
    for (int64_t i = 0; i < tensor->count; i++) {
        double value = (double)tensor->data[i];
        summary.norm += value * value;
        summary.least = value < summary.least ? value : summary.least;
        summary.greatest = value > summary.greatest ? value : summary.greatest;
    }
    summary.norm = sqrt(summary.norm);
    return summary;
}

static void shape_text(char out[CLI_TWO_UNITS], const fur_parameter_info *tensor)
{
    if (tensor->rank == 2)
        (void)snprintf(out, CLI_TWO_UNITS, "%" PRId64 " x %" PRId64, tensor->shape[0], tensor->shape[1]);
    else
        (void)snprintf(out, CLI_TWO_UNITS, "%" PRId64, tensor->shape[0]);
}

static json_t *config_json(const fur_model_config *config)
{
    json_t *object = json_object();
    cli_json_text(object, "preset", config->name);
    cli_json_int(object, "vocabulary", config->vocabulary);
    cli_json_text(object, "model_type", fur_config_family(config));
    cli_json_int(object, "features", config->features);
    cli_json_int(object, "outputs", config->outputs);
    cli_json_int(object, "context", config->context);
    cli_json_int(object, "width", config->width);
    cli_json_int(object, "layers", config->layers);
    cli_json_int(object, "heads", config->heads);
    cli_json_int(object, "kv_heads", config->kv_heads);
    cli_json_int(object, "head_dim", config->head_dim);
    cli_json_int(object, "hidden", config->hidden);
    cli_json_text(object, "norm", config->norm == FUR_NORM_RMSNORM ? "rmsnorm" : "layernorm");
    cli_json_real(object, "norm_eps", config->norm_eps);
    cli_json_text(object, "activation", fur_activation_name((int)config->activation));
    cli_json_text(object, "position", fur_position_name((int)config->position));
    cli_json_text(object, "rope_scaling", fur_rope_scaling_name((int)config->rope_scaling.type));
    cli_json_int(object, "sink_tokens", config->sink_tokens);
    cli_json_bool(object, "sink_logits", config->sink_logits);
    cli_json_bool(object, "qk_norm", config->qk_norm);
    cli_json_real(object, "softcap", config->softcap);
    cli_json_real(object, "logit_softcap", config->logit_softcap);
    cli_json_real(object, "query_scalar", config->query_scalar);
    cli_json_bool(object, "norm_offset", config->norm_offset);
    cli_json_bool(object, "post_norms", config->post_norms);
    cli_json_bool(object, "scaled_embedding", config->scaled_embedding);
    cli_json_real(object, "dropout", config->dropout);
    cli_json_real(object, "embedding_dropout", config->embedding_dropout);
    cli_json_real(object, "attention_dropout", config->attention_dropout);
    if (config->far_degree > 0) {
        cli_json_int(object, "far_degree", config->far_degree);
        cli_json_real(object, "far_bound", config->far_bound);
        cli_json_int(object, "far_chunk", config->far_chunk);
        cli_json_bool(object, "far_bias", config->far_bias);
    }
    json_t *windows = json_array();
    for (int64_t i = 0; i < config->layers; i++)
        (void)json_array_append_new(windows, json_integer(config->window[i]));
    (void)json_object_set_new(object, "window", windows);
    json_t *local = json_array();
    for (int64_t i = 0; i < config->layers; i++)
        (void)json_array_append_new(local, json_boolean(config->rope_local[i]));
    (void)json_object_set_new(object, "rope_local", local);
    cli_json_real(object, "local_rope_theta", config->local_rope_theta);
    cli_json_real(object, "rope_theta", config->rope_theta);
    cli_json_bool(object, "bias", config->bias);
    cli_json_bool(object, "bias_qkv", config->bias || config->bias_qkv);
    cli_json_bool(object, "bias_o", config->bias || config->bias_o);
    cli_json_bool(object, "bias_ffn", config->bias || config->bias_ffn);
    cli_json_bool(object, "tied", config->tied);
    cli_json_bool(object, "causal", config->causal);
    json_t *kinds = json_array();
    for (int64_t i = 0; i < config->layers; i++) {
        const char *name = fur_attention_kind_name(config->attention[i]);
        (void)json_array_append_new(kinds, json_string(name != NULL ? name : "?"));
    }
    (void)json_object_set_new(object, "attention", kinds);
    const char *qkvo = fur_projection_kind_name(config->projection_qkvo);
    const char *ffn = fur_projection_kind_name(config->projection_ffn);
    cli_json_text(object, "projection_qkvo", qkvo != NULL ? qkvo : "?");
    cli_json_text(object, "projection_ffn", ffn != NULL ? ffn : "?");
    if (config->lookup_bits > 0) {
        cli_json_int(object, "lookup_bits", config->lookup_bits);
        cli_json_int(object, "lookup_down_bits", config->lookup_down_bits);
        cli_json_real(object, "lookup_temperature", config->lookup_temperature);
        cli_json_bool(object, "lookup_two_rows", config->lookup_two_rows);
        cli_json_text(object, "table_type", fur_table_type_name((int)config->table_type));
    }
    return object;
}

static void print_json(const char *folder, const fur_model *model)
{
    const fur_model_config *config = fur_model_config_of(model);
    json_t *object = json_object(), *tensors = json_array();
    cli_json_text(object, "folder", folder);
    cli_json_int(object, "parameters", fur_config_parameter_count(config));
    (void)json_object_set_new(object, "config", config_json(config));
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info tensor;
        fur_model_parameter(model, i, &tensor);
        tensor_summary summary = summarize(&tensor);
        json_t *item = json_object(), *shape = json_array();
        for (int axis = 0; axis < tensor.rank; axis++)
            (void)json_array_append_new(shape, json_integer(tensor.shape[axis]));
        cli_json_text(item, "name", tensor.name);
        (void)json_object_set_new(item, "shape", shape);
        cli_json_text(item, "dtype", "f32");
        cli_json_real(item, "norm", summary.norm);
        cli_json_real(item, "min", summary.least);
        cli_json_real(item, "max", summary.greatest);
        (void)json_array_append_new(tensors, item);
    }
    (void)json_object_set_new(object, "tensors", tensors);
    cli_json_print(stdout, object);
}

static void print_text(const cli_session *session, const char *folder, const fur_model *model)
{
    const fur_model_config *config = fur_model_config_of(model);
    cli_string line = {NULL, 0, 0};
    char count[CLI_UNIT];
    cli_config_line(&line, config);
    printf("%s\n%s\n", folder, line.text);
    cli_string_clear(&line);
    printf("%s, %s, %s positions up to %s, hidden width %" PRId64 ", head %s%s\n",
           config->norm == FUR_NORM_RMSNORM ? "RMSNorm" : "LayerNorm",
           config->activation == FUR_ACTIVATION_SWIGLU  ? "SwiGLU"
           : config->activation == FUR_ACTIVATION_GEGLU ? "GeGLU"
           : config->activation == FUR_ACTIVATION_NORM  ? "look-up tables with a norm between them"
                                                        : "GELU",
           config->position == FUR_POSITION_ROPE    ? "rotary"
           : config->position == FUR_POSITION_ALIBI ? "ALiBi"
                                                    : "learned",
           cli_count(count, config->context), config->hidden, config->tied ? "tied to the embedding" : "of its own",
           config->causal ? ", causal" : ", bidirectional");
    cli_table table;
    cli_table_init(&table, "lrlrrr", "tensor", "shape", "type", "norm", "min", "max");
    for (int64_t i = 0; i < fur_model_parameters(model); i++) {
        fur_parameter_info tensor;
        fur_model_parameter(model, i, &tensor);
        tensor_summary summary = summarize(&tensor);
        char shape[CLI_TWO_UNITS], norm[CLI_UNIT], least[CLI_UNIT], greatest[CLI_UNIT];
        shape_text(shape, &tensor);
        (void)snprintf(norm, sizeof norm, "%.4g", summary.norm);
        (void)snprintf(least, sizeof least, "%.4g", summary.least);
        (void)snprintf(greatest, sizeof greatest, "%.4g", summary.greatest);
        cli_table_row(&table, tensor.name, shape, "f32", norm, least, greatest);
    }
    cli_table_print(&table, stdout, &session->out);
    cli_table_clear(&table);
}

/* ---- a GGUF file, as it is stored ------------------------------------------------------------------------------- */

typedef struct file_view {
    cli_table values, tensors; /* for people */
    json_t *value_list, *tensor_list;
    int64_t bytes;
} file_view;

static void on_item(void *user, const fur_gguf_item *item)
{
    file_view *view = user;
    char shape[4 * CLI_UNIT] = "", count[CLI_UNIT], size[CLI_UNIT];
    json_t *object = json_object();
    cli_json_text(object, item->tensor ? "name" : "key", item->name);
    cli_json_text(object, item->tensor ? "dtype" : "type", item->type);
    if (!item->tensor) {
        cli_json_text(object, "value", item->text);
        cli_json_int(object, "count", item->count);
        (void)json_array_append_new(view->value_list, object);
        cli_table_row(&view->values, item->name, item->type, cli_thousands(count, item->count), item->text);
        return;
    }
    json_t *sizes = json_array();
    for (int axis = 0; axis < item->rank; axis++) {
        size_t used = strlen(shape);
        (void)snprintf(shape + used, sizeof shape - used, "%s%" PRId64, axis > 0 ? " x " : "", item->shape[axis]);
        (void)json_array_append_new(sizes, json_integer(item->shape[axis]));
    }
    (void)json_object_set_new(object, "shape", sizes);
    cli_json_int(object, "bytes", item->bytes);
    (void)json_array_append_new(view->tensor_list, object);
    cli_table_row(&view->tensors, item->name, shape, item->type, cli_bytes(size, item->bytes));
    view->bytes += item->bytes;
}

/* What the model is comes from its values; what it holds is not read. */
static int inspect_file(cli_session *session, const char *path)
{
    file_view view = {.value_list = json_array(), .tensor_list = json_array()};
    fur_model_config config;
    char size[CLI_UNIT];
    cli_table_init(&view.values, "llrl", "key", "type", "elements", "value");
    cli_table_init(&view.tensors, "lrlr", "tensor", "shape", "type", "bytes");
    fur_status status = fur_gguf_describe(session->context, path, on_item, &view);
    if (status == FUR_OK)
        status = fur_config_read(session->context, path, &config);
    if (status == FUR_OK && session->options->json) {
        json_t *object = json_object();
        cli_json_text(object, "file", path);
        cli_json_int(object, "parameters", fur_config_parameter_count(&config));
        (void)json_object_set_new(object, "config", config_json(&config));
        (void)json_object_set(object, "values", view.value_list);
        (void)json_object_set(object, "tensors", view.tensor_list);
        cli_json_print(stdout, object);
    } else if (status == FUR_OK) {
        cli_string line = {NULL, 0, 0};
        cli_config_line(&line, &config);
        printf("%s\n%s\n", path, line.text);
        cli_string_clear(&line);
        cli_table_print(&view.values, stdout, &session->out);
        cli_table_print(&view.tensors, stdout, &session->out);
        printf("tensors take %s\n", cli_bytes(size, view.bytes));
    }
    cli_table_clear(&view.values);
    cli_table_clear(&view.tensors);
    json_decref(view.value_list);
    json_decref(view.tensor_list);
    return status == FUR_OK ? CLI_OK : cli_fail_input(session, status);
}

/* ---- how a text uses the rows of tables --------------------------------------------------------------------- */

static void print_use(const cli_session *session, const fur_table_use *use, int64_t count)
{
    cli_table table;
    int64_t bytes = 0;
    double taken = 0.0, dense = 0.0;
    char total[CLI_UNIT];
    cli_table_init(&table, "lrrrrr", "look-up tables", "rows", "memory", "entropy", "unused", "of dense");
    for (int64_t i = 0; i < count; i++) {
        char rows[CLI_TWO_UNITS], size[CLI_UNIT], entropy[CLI_UNIT], unused[CLI_UNIT], share[CLI_UNIT];
        (void)snprintf(rows, sizeof rows, "%" PRId64 " x %" PRId64, use[i].tables, use[i].rows);
        (void)snprintf(entropy, sizeof entropy, "%.2f bits", use[i].entropy);
        (void)snprintf(unused, sizeof unused, "%.1f %%", 100.0 * use[i].unused);
        (void)snprintf(share, sizeof share, "1 in %.3g", use[i].dense_multiplications / use[i].multiplications);
        cli_table_row(&table, use[i].name, rows, cli_bytes(size, use[i].bytes), entropy, unused, share);
        bytes += use[i].bytes;
        taken += use[i].multiplications;
        dense += use[i].dense_multiplications;
    }
    cli_table_print(&table, stdout, &session->out);
    cli_table_clear(&table);
    printf("tables take %s and 1 in %.3g of the multiplications of dense maps\n", cli_bytes(total, bytes),
           dense / taken);
}

static json_t *use_json(const fur_table_use *use, int64_t count)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) {
        json_t *object = json_object();
        cli_json_text(object, "name", use[i].name);
        cli_json_int(object, "tables", use[i].tables);
        cli_json_int(object, "rows", use[i].rows);
        cli_json_int(object, "columns", use[i].columns);
        cli_json_int(object, "bytes", use[i].bytes);
        cli_json_real(object, "entropy_bits", use[i].entropy);
        cli_json_real(object, "unused_rows", use[i].unused);
        cli_json_real(object, "multiplications", use[i].multiplications);
        cli_json_real(object, "dense_multiplications", use[i].dense_multiplications);
        (void)json_array_append_new(list, object);
    }
    return list;
}

static int inspect_use(cli_session *session, fur_model *model)
{
    const cli_options *options = session->options;
    const fur_model_config *config = fur_model_config_of(model);
    fur_corpus *corpus = NULL;
    fur_table_use *use = NULL;
    int64_t memory, count, context = options->context;
    int code = cli_memory_limit(session, &memory, NULL);
    if (code == CLI_OK)
        code = cli_corpus_open(session, &options->files, config->vocabulary, &corpus);
    if (code != CLI_OK)
        return code;
    if (context == 0)
        context = config->context < 2048 ? config->context : 2048;
    fur_status status =
        fur_measure_table_use(session->context, model, corpus, context, options->max_tokens, memory, &use, &count);
    fur_corpus_close(corpus);
    if (status != FUR_OK)
        return cli_fail_data(session, status);
    if (options->json) {
        json_t *object = json_object();
        (void)json_object_set_new(object, "table_use", use_json(use, count));
        cli_json_print(stdout, object);
    } else {
        print_use(session, use, count);
    }
    fur_table_use_free(use);
    return CLI_OK;
}

int verb_inspect(cli_session *session)
{
    fur_model *model = NULL;
    if (session->options->model == NULL)
        return cli_refuse(session, CLI_USAGE, "expected the folder of a model, such as furlong inspect runs/book-1");
    if (session->options->files.count > 0)
        return cli_with_model(session, inspect_use);
    int code = cli_session_open(session);
    char *folder = code == CLI_OK ? cli_model_folder(session, session->options->model) : NULL;
    if (folder == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    if (fur_is_gguf(folder)) {
        code = inspect_file(session, folder);
        cli_free(folder);
        return code;
    }
    fur_status status = fur_model_load(session->context, folder, &model);
    if (status != FUR_OK)
        code = cli_fail_input(session, status);
    else if (session->options->json)
        print_json(folder, model);
    else
        print_text(session, folder, model);
    if (model != NULL)
        fur_model_destroy(model);
    cli_free(folder);
    return code;
}
