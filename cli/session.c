/* SPDX-License-Identifier: Apache-2.0 */
/* Context, exit codes, inputs. */
#include "session.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- refusing ----------------------------------------------------------------------------------------------- */

static void before_line(const cli_session *session)
{
    if (session->before_line != NULL)
        session->before_line(session->before_user);
}

int cli_refuse(const cli_session *session, int code, const char *format, ...)
{
    va_list arguments;
    before_line(session);
    fprintf(stderr, "furlong %s: ", cli_verbs[session->options->verb].name);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return code;
}

int cli_exit_code(fur_status status, bool reading_input)
{
    switch (status) {
    case FUR_OK: return CLI_OK;
    case FUR_E_ARGUMENT: return CLI_USAGE;
    case FUR_E_MEMORY:
    case FUR_E_DOES_NOT_FIT: return CLI_DOES_NOT_FIT;
    case FUR_E_SHAPE:
    case FUR_E_IO: return reading_input ? CLI_BAD_INPUT : CLI_FAILED;
    case FUR_E_FORMAT: return CLI_BAD_INPUT;
    case FUR_E_UNSUPPORTED: return reading_input ? CLI_BAD_INPUT : CLI_USAGE;
    case FUR_E_NONFINITE: return reading_input ? CLI_BAD_INPUT : CLI_NOT_FINITE;
    case FUR_E_INTERRUPTED: return cli_signal_code() != 0 ? cli_signal_code() : CLI_FAILED;
    case FUR_E_BUSY: return CLI_FAILED;
    case FUR_E_INTERNAL: break;
    }
    return CLI_FAILED;
}

static int fail(const cli_session *session, fur_status status, bool reading_input)
{
    const char *text = session->context != NULL ? fur_context_error(session->context) : "";
    return cli_refuse(session, cli_exit_code(status, reading_input), "%s",
                      text[0] != '\0' ? text : fur_status_name(status));
}

int cli_fail(const cli_session *session, fur_status status)
{
    return fail(session, status, false);
}

int cli_fail_input(const cli_session *session, fur_status status)
{
    return fail(session, status, true);
}

int cli_fail_data(const cli_session *session, fur_status status)
{
    const cli_list *files = &session->options->files;
    if (status != FUR_E_SHAPE || files->count == 0)
        return cli_fail(session, status);
    return cli_refuse(session, CLI_BAD_INPUT, "%s%s: %s", files->items[0], files->count > 1 ? " and the others" : "",
                      fur_context_error(session->context));
}

void cli_say(const cli_session *session, const char *format, ...)
{
    va_list arguments;
    before_line(session);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

/* ---- context ------------------------------------------------------------------------------------------------ */

static void on_log(void *user, fur_log_level level, const char *line)
{
    const cli_session *session = user;
    before_line(session);
    fprintf(stderr, "%s%s\n", level == FUR_LOG_WARNING ? "warning: " : "", line);
}

int cli_session_open(cli_session *session)
{
    char text[CLI_ERROR];
    fur_context_settings settings;
    fur_context_settings_defaults(&settings);
    settings.threads = (int)session->options->threads;
    settings.isa = session->options->isa;
    settings.dtype = session->options->dtype;
    settings.log = on_log;
    settings.log_user = session;
    fur_status status = fur_context_create(&settings, &session->context, text, sizeof text);
    if (status != FUR_OK)
        return cli_refuse(session, cli_exit_code(status, false), "%s", text);
    cli_signals_install(session->context);
    return CLI_OK;
}

void cli_session_close(cli_session *session)
{
    if (session->context != NULL) {
        cli_signals_remove();
        fur_context_destroy(session->context);
    }
    session->context = NULL;
}

fur_keep cli_keep_of(const cli_options *options)
{
    const char *name = options->keep;
    return strcmp(name, "nothing") == 0 ? FUR_KEEP_NOTHING : strcmp(name, "all") == 0 ? FUR_KEEP_ALL : FUR_KEEP_AUTO;
}

int cli_memory_limit(const cli_session *session, int64_t *bytes, bool *chosen)
{
    bool given = session->options->memory > 0;
    fur_machine machine;
    *bytes = session->options->memory;
    if (!given) {
        fur_status status = fur_machine_read(session->context, &machine);
        if (status != FUR_OK)
            return cli_fail(session, status);
        *bytes = fur_machine_default_memory(&machine);
    }
    if (chosen != NULL)
        *chosen = !given;
    return CLI_OK;
}

/* Free bytes where `path` is or would be made. */
static bool free_bytes(const char *path, int64_t *out)
{
    struct statvfs about;
    char *part = cli_copy(path);
    bool known = false;
    for (size_t end = strlen(part); !known && end > 0; part[end] = '\0') {
        known = statvfs(part, &about) == 0;
        while (end > 0 && part[end - 1] == '/')
            end--;
        while (end > 0 && part[end - 1] != '/')
            end--;
    }
    known = known || statvfs(".", &about) == 0;
    cli_free(part);
    double bytes = known ? (double)about.f_bavail * (double)about.f_frsize : 0.0;
    *out = bytes < 1e18 ? (int64_t)bytes : (int64_t)1e18;
    return known;
}

int cli_disk_limit(const cli_session *session, const char *folder, cli_disk *out)
{
    const cli_options *options = session->options;
    *out = (cli_disk){.folder = options->disk_dir != NULL ? options->disk_dir : folder, .bytes = options->disk};
    out->stored = strcmp(options->store_dtype, "bf16") == 0 ? FUR_STORED_BF16
                  : strcmp(options->store_dtype, "q8") == 0 ? FUR_STORED_Q8
                                                            : FUR_STORED_F32;
    if (!cli_given(options, "disk")) {
        if (!free_bytes(out->folder, &out->bytes))
            return cli_refuse(session, CLI_FAILED, "%s: %s", out->folder, strerror(errno));
        out->bytes = out->bytes / 5 * 4;
    }
    if (strcmp(options->store, "disk") != 0)
        return CLI_OK;
    if (out->bytes == 0 && cli_given(options, "disk"))
        return cli_refuse(session, CLI_USAGE, "--store disk with --disk 0: expected room on disk");
    if (out->bytes == 0)
        return cli_refuse(session, CLI_FAILED, "%s: no room on disk for --store disk", out->folder);
    out->inputs = out->optimizer = out->keys = FUR_STORE_DISK;
    out->attention = cli_keep_of(options) == FUR_KEEP_NOTHING ? FUR_STORE_CHOSEN : FUR_STORE_DISK;
    return CLI_OK;
}

/* ---- inputs ------------------------------------------------------------------------------------------------- */

static bool exists(const char *folder, const char *name)
{
    char *path = cli_path(folder, name);
    bool there = access(path, F_OK) == 0;
    cli_free(path);
    return there;
}

/* `latest` of a run is a link to the step folder, or a file whose first line names it. */
static char *latest_of(const char *folder)
{
    struct stat info;
    char *path = cli_path(folder, "latest"), *found = NULL;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        found = cli_copy(path);
    } else {
        FILE *file = fopen(path, "rb");
        char line[1024] = "";
        if (file != NULL && fgets(line, sizeof line, file) != NULL) {
            line[strcspn(line, "\r\n")] = '\0';
            found = line[0] == '/' ? cli_copy(line) : cli_path(folder, line);
        }
        if (file != NULL)
            (void)fclose(file);
    }
    cli_free(path);
    return found;
}

char *cli_model_folder(const cli_session *session, const char *name)
{
    struct stat info;
    if (stat(name, &info) != 0) {
        (void)cli_refuse(session, CLI_BAD_INPUT, "%s: %s", name, strerror(errno));
        return NULL;
    }
    if (!S_ISDIR(info.st_mode) && fur_is_gguf(name))
        return cli_copy(name);
    if (!S_ISDIR(info.st_mode)) {
        (void)cli_refuse(session, CLI_BAD_INPUT,
                         "%s: expected a GGUF file, or a folder with config.json and model.safetensors, found another "
                         "file",
                         name);
        return NULL;
    }
    if (exists(name, "config.json") || exists(name, "adapter_config.json"))
        return cli_copy(name);
    char *latest = exists(name, "latest") ? latest_of(name) : NULL;
    if (latest == NULL)
        (void)cli_refuse(session, CLI_BAD_INPUT, "%s: expected config.json, or latest of a training run, found neither",
                         name);
    return latest;
}

int cli_weights_fit(const cli_session *session, const char *model, bool used)
{
    fur_model_config config;
    int64_t limit, weights = 0;
    char needed[CLI_UNIT], given[CLI_UNIT];
    fur_status status = fur_config_read(session->context, model, &config);
    if (status == FUR_OK && used)
        status = fur_model_open_bytes(session->context, model, &weights);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    int code = cli_memory_limit(session, &limit, NULL);
    if (!used)
        weights = fur_config_parameter_count(&config) * (int64_t)sizeof(float); /* at most 2^40 of them */
    if (code != CLI_OK || weights <= limit)
        return code;
    return cli_refuse(session, CLI_DOES_NOT_FIT, "%s: its weights need %s%s, more than %s", model,
                      cli_bytes(needed, weights), used ? "" : " as f32", cli_bytes(given, limit));
}

/* used: the model is neither trained nor changed, so that its weights stay as the file has them. */
static int with_model(cli_session *session, bool used, int (*run)(cli_session *session, fur_model *model))
{
    fur_model *model = NULL;
    int code = cli_session_open(session);
    char *folder = code == CLI_OK ? cli_model_folder(session, session->options->model) : NULL;
    if (folder == NULL)
        return code != CLI_OK ? code : CLI_BAD_INPUT;
    code = cli_weights_fit(session, folder, used);
    if (code == CLI_OK) {
        fur_status status = (used ? fur_model_open : fur_model_load)(session->context, folder, &model);
        code = status != FUR_OK ? cli_fail_input(session, status) : run(session, model);
    }
    if (model != NULL)
        fur_model_destroy(model);
    cli_free(folder);
    return code;
}

int cli_with_model(cli_session *session, int (*run)(cli_session *session, fur_model *model))
{
    return with_model(session, false, run);
}

int cli_with_used_model(cli_session *session, int (*run)(cli_session *session, fur_model *model))
{
    return with_model(session, true, run);
}

char *cli_tokenizer_name(const cli_session *session)
{
    const cli_options *options = session->options;
    if (options->tokenizer != NULL || options->model == NULL)
        return cli_copy(options->tokenizer != NULL ? options->tokenizer : "bytes");
    char *folder = cli_model_folder(session, options->model);
    if (folder == NULL || fur_is_gguf(folder) || exists(folder, "tokenizer.json"))
        return folder;
    cli_free(folder);
    return cli_copy("bytes");
}

int cli_tokenizer_vocabulary(const cli_session *session, const char *name, int64_t *vocabulary)
{
    fur_tokenizer *tokenizer;
    fur_status status = fur_tokenizer_open(session->context, name, &tokenizer);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    *vocabulary = fur_tokenizer_vocabulary(tokenizer);
    fur_tokenizer_close(tokenizer);
    return CLI_OK;
}

int cli_corpus_open(const cli_session *session, const cli_list *files, int64_t vocabulary, fur_corpus **corpus)
{
    char *tokenizer = cli_tokenizer_name(session);
    if (tokenizer == NULL)
        return CLI_BAD_INPUT;
    fur_corpus_settings settings;
    fur_corpus_settings_defaults(&settings);
    settings.paths = files->items;
    settings.path_count = files->count;
    settings.tokenizer = tokenizer;
    settings.vocabulary = vocabulary;
    settings.skip_bad = session->options->skip_bad;
    fur_status status = fur_corpus_open(session->context, &settings, corpus);
    cli_free(tokenizer);
    return status == FUR_OK ? CLI_OK : cli_fail_input(session, status);
}

int64_t cli_almost_linear_layers(const fur_model_config *config)
{
    int64_t count = 0;
    for (int64_t layer = 0; layer < config->layers; layer++)
        count += strcmp(fur_attention_kind_name(config->attention[layer]), "almost-linear") == 0;
    return count;
}

bool cli_has_tables(const fur_model_config *config)
{
    return strcmp(fur_projection_kind_name(config->projection_qkvo), "lookup") == 0 ||
           strcmp(fur_projection_kind_name(config->projection_ffn), "lookup") == 0;
}

/* Options of almost-linear layers, asked for where there are none. */
static int check_far(const cli_session *session, const fur_model_config *config)
{
    static const char *const names[] = {"degree",        "bound",        "chunk",    "far-bias",
                                        "fine-gradient", "max-features", "max-error"};
    if (cli_almost_linear_layers(config) > 0)
        return CLI_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (cli_given(session->options, names[i]))
            return cli_refuse(session, CLI_USAGE, "--%s: no layer is almost-linear (--attention almost-linear)",
                              names[i]);
    return CLI_OK;
}

/* The same of look-up maps. */
static int check_lookup(const cli_session *session, const fur_model_config *config)
{
    static const char *const names[] = {"lookup-bits", "lookup-temperature", "lookup-rows", "table-lr",
                                        "table-optimizer"};
    if (cli_has_tables(config))
        return CLI_OK;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (cli_given(session->options, names[i]))
            return cli_refuse(session, CLI_USAGE, "--%s: no map is a look-up (--projection lookup)", names[i]);
    return CLI_OK;
}

/* What --window and the options beside it ask of a model's shape. Weights that a model of a folder lacks, or positions
 * it did not learn, cannot be asked for. */
static int apply_attention(const cli_session *session, int64_t longest, fur_model_config *config)
{
    const cli_options *options = session->options;
    fur_status status = FUR_OK;
    bool loaded = options->model != NULL;
    const struct {
        const char *name;
        bool same;
    } made[] = {{"position", false}, /* that of a model is not asked for by name */
                {"qk-norm", config->qk_norm},
                {"sink-logits", config->sink_logits},
                {"far-bias", config->far_bias},
                {"fine-gradient", config->far_fine_gradient},
                {"lookup-bits", config->lookup_bits == options->lookup_bits},
                {"lookup-temperature", fabs(config->lookup_temperature - options->lookup_temperature) <= 0},
                {"lookup-rows", 1 + config->lookup_two_rows == options->lookup_rows},
                {"degree", config->far_degree == options->degree},
                {"chunk", config->far_chunk == options->chunk},
                {"max-features", config->far_max_features == options->max_features},
                {"bound", fabs(config->far_bound - options->bound) <= 0}};
    for (size_t i = 0; loaded && i < sizeof made / sizeof made[0]; i++)
        if (cli_given(options, made[i].name) && !made[i].same)
            return cli_refuse(session, CLI_USAGE, "--%s: the model in %s was made without it", made[i].name,
                              options->model);
    if (cli_given(options, "lookup-bits") && !loaded)
        fur_config_set_lookup_bits(config, options->lookup_bits);
    if (cli_given(options, "lookup-temperature"))
        config->lookup_temperature = options->lookup_temperature;
    if (cli_given(options, "lookup-rows"))
        config->lookup_two_rows = options->lookup_rows == 2;
    config->sink_logits |= options->sink_logits;
    config->qk_norm |= options->qk_norm;
    if (cli_given(options, "sink-tokens"))
        config->sink_tokens = options->sink_tokens;
    if (cli_given(options, "softcap"))
        config->softcap = options->softcap;
    if (cli_given(options, "dropout"))
        config->dropout = config->embedding_dropout = options->dropout;
    if (cli_given(options, "attention-dropout"))
        config->attention_dropout = options->attention_dropout;
    if (cli_given(options, "degree"))
        config->far_degree = options->degree;
    if (cli_given(options, "bound"))
        config->far_bound = options->bound;
    if (cli_given(options, "chunk"))
        config->far_chunk = options->chunk;
    if (cli_given(options, "max-features"))
        config->far_max_features = options->max_features;
    if (cli_given(options, "max-error"))
        config->far_max_error = options->max_error;
    config->far_bias |= options->far_bias;
    config->far_fine_gradient |= options->fine_gradient;
    if (options->window != NULL)
        status = fur_config_set_window(session->context, config, options->window);
    if (status == FUR_OK && (check_far(session, config) != CLI_OK || check_lookup(session, config) != CLI_OK))
        return CLI_USAGE;
    int64_t widest = 0;
    for (int64_t layer = 0; layer < config->layers; layer++)
        widest = config->window[layer] > widest ? config->window[layer] : widest;
    if (status == FUR_OK && widest == 0 && cli_almost_linear_layers(config) == 0 && cli_given(options, "sink-tokens") &&
        options->sink_tokens > 0)
        cli_say(session, "--sink-tokens: nothing, since no layer has a window: every token sees the first ones");
    if (status == FUR_OK && options->window != NULL && longest > 0 && widest >= longest)
        cli_say(session, "--window: %" PRId64 " tokens are no window in a context of %" PRId64, widest, longest);
    if (status == FUR_OK)
        status = fur_config_check(session->context, config);
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

/* A model's context ends where its positions do; a scaling of RoPE lets it grow, and ALiBi never ends. */
static int open_folder(const cli_session *session, int64_t longest, fur_model_config *config)
{
    const cli_options *options = session->options;
    char *folder = cli_model_folder(session, options->model);
    if (folder == NULL)
        return CLI_BAD_INPUT;
    fur_status status = fur_config_read(session->context, folder, config);
    cli_free(folder);
    if (status != FUR_OK)
        return cli_fail_input(session, status);
    if (options->rope_scaling != NULL)
        status = fur_config_set_rope_scaling(session->context, config, options->rope_scaling);
    if (status != FUR_OK)
        return cli_fail(session, status);
    bool stretched = options->rope_scaling != NULL && config->rope_scaling.type != FUR_ROPE_PLAIN;
    bool taught = options->verb == CLI_FINETUNE && config->position == FUR_POSITION_ROPE && longest > config->context;
    if (taught && !stretched)
        cli_say(session,
                "positions from %" PRId64
                " on are new to the model, whose RoPE goes on as it is; --rope-scaling stretches it",
                config->context);
    if ((stretched || taught || config->position == FUR_POSITION_ALIBI) && longest > config->context)
        config->context = longest;
    if (longest > config->context)
        return cli_refuse(session, CLI_USAGE, "--ctx-size: the model has positions up to %" PRId64 ", got %" PRId64,
                          config->context, longest);
    return CLI_OK;
}

/* A table of positions has a row for each of the longest document and no more. */
static int open_preset(const cli_session *session, const char *preset, int64_t longest, bool bytes,
                       fur_model_config *config)
{
    const cli_options *options = session->options;
    /* with --position, what the preset would make of a long context is not asked, and so not said */
    int64_t asked = options->position == NULL ? longest : 0;
    fur_status status =
        fur_config_preset(session->context, options->preset != NULL ? options->preset : preset, asked, config);
    if (status != FUR_OK)
        return cli_fail(session, status);
    if (bytes)
        fur_config_use_bytes(config);
    if (options->layers > 0)
        config->layers = options->layers;
    for (int type = 0; options->position != NULL && fur_position_name(type) != NULL; type++)
        if (strcmp(options->position, fur_position_name(type)) == 0)
            config->position = (fur_position_type)type;
    if (longest > 0 && (longest > config->context || config->position == FUR_POSITION_LEARNED))
        config->context = longest;
    if (options->rope_scaling != NULL)
        status = fur_config_set_rope_scaling(session->context, config, options->rope_scaling);
    return status == FUR_OK ? CLI_OK : cli_fail(session, status);
}

int cli_config_open(const cli_session *session, const char *preset, int64_t longest, bool bytes,
                    fur_model_config *config)
{
    const cli_options *options = session->options;
    fur_status status = FUR_OK;
    if (options->model != NULL && options->preset != NULL && cli_source_of(options, "preset") == CLI_FROM_COMMAND)
        return cli_refuse(session, CLI_USAGE, "--model and --preset: expected one of them");
    if (options->model != NULL && options->layers > 0)
        return cli_refuse(session, CLI_USAGE,
                          "--layers: a preset may have another number of layers, a model has its own");
    int code = options->model != NULL ? open_folder(session, longest, config)
                                      : open_preset(session, preset, longest, bytes, config);
    if (code != CLI_OK)
        return code;
    /* without --attention a model or preset keeps its own kinds */
    if (options->attention != NULL) {
        fur_model_config asked = *config;
        status = fur_config_set_attention(session->context, &asked, options->attention);
        if (status == FUR_OK && options->model != NULL &&
            memcmp(asked.attention, config->attention, (size_t)config->layers) != 0)
            return cli_refuse(session, CLI_USAGE, "--attention: the model in %s has other kinds of layers",
                              options->model);
        *config = asked;
    }
    if (status == FUR_OK && options->projection != NULL) {
        fur_model_config asked = *config;
        status = fur_config_set_projection(session->context, &asked, options->projection);
        if (status == FUR_OK && options->model != NULL &&
            (asked.projection_qkvo != config->projection_qkvo || asked.projection_ffn != config->projection_ffn))
            return cli_refuse(session, CLI_USAGE, "--projection: the model in %s has other kinds of maps",
                              options->model);
        *config = asked;
    }
    return status == FUR_OK ? apply_attention(session, longest, config) : cli_fail(session, status);
}
