/* SPDX-License-Identifier: Apache-2.0 */
/* furlong bench: speed of the library's own operators. */
#include <inttypes.h>
#include <string.h>

#include "bench_lookup.h"
#include "plan_view.h"
#include "verb.h"

typedef struct bench {
    cli_session *session;
    fur_bench_result result;
    json_t *object;
} bench;

static void common(bench *b)
{
    cli_json_text(b->object, "mode", b->session->options->mode);
    cli_json_text(b->object, "dtype", fur_context_dtype(b->session->context));
    cli_json_text(b->object, "isa", fur_context_isa(b->session->context));
    cli_json_int(b->object, "threads", fur_context_threads(b->session->context));
    cli_json_int(b->object, "repetitions", b->result.repetitions);
}

static void finish(bench *b)
{
    if (b->session->options->json)
        cli_json_print(stdout, b->object);
    else
        json_decref(b->object);
    b->object = NULL;
}

static double share(double part, double whole)
{
    return whole > 0.0 ? 100.0 * part / whole : 0.0;
}

static void print_operator(bench *b, const char *name)
{
    const fur_bench_result *r = &b->result;
    char forward[CLI_UNIT], backward[CLI_UNIT];
    if (b->session->options->json)
        return;
    printf("%s, %s, %s, %d threads, best of %d\n", name, fur_context_dtype(b->session->context),
           fur_context_isa(b->session->context), fur_context_threads(b->session->context), r->repetitions);
    printf("  forward   %10s  %7.1f GFLOP/s  %5.1f %% of the peak\n", cli_seconds(forward, r->forward_seconds),
           r->forward_gflops, share(r->forward_gflops, r->peak_gflops));
    printf("  backward  %10s  %7.1f GFLOP/s  %5.1f %% of the peak\n", cli_seconds(backward, r->backward_seconds),
           r->backward_gflops, share(r->backward_gflops, r->peak_gflops));
    printf("  peak of this run %.1f GFLOP/s\n", r->peak_gflops);
}

static void add_operator(bench *b)
{
    const fur_bench_result *r = &b->result;
    cli_json_real(b->object, "forward_seconds", r->forward_seconds);
    cli_json_real(b->object, "backward_seconds", r->backward_seconds);
    cli_json_real(b->object, "forward_gflops", r->forward_gflops);
    cli_json_real(b->object, "backward_gflops", r->backward_gflops);
    cli_json_real(b->object, "peak_gflops", r->peak_gflops);
}

static void add_errors(bench *b)
{
    const fur_bench_result *r = &b->result;
    cli_json_real(b->object, "error_output", r->error_output);
    cli_json_real(b->object, "error_dq", r->error_dq);
    cli_json_real(b->object, "error_dk", r->error_dk);
    cli_json_real(b->object, "error_dv", r->error_dv);
    if (!b->session->options->json)
        printf("  off by at most %.1e of the output, dq %.1e, dk %.1e, dv %.1e (the worst head, sampled)\n",
               r->error_output, r->error_dq, r->error_dk, r->error_dv);
}

static int bench_peak(bench *b)
{
    fur_status status = fur_bench_peak(b->session->context, &b->result);
    if (status != FUR_OK)
        return cli_fail(b->session, status);
    common(b);
    cli_json_real(b->object, "peak_gflops", b->result.peak_gflops);
    cli_json_real(b->object, "register_gflops", b->result.register_gflops);
    cli_json_real(b->object, "product_gflops", b->result.product_gflops);
    if (!b->session->options->json)
        printf("peak %.1f GFLOP/s in %s: registers only %.1f, matrix product %.1f (%s, %d threads)\n",
               b->result.peak_gflops, fur_context_dtype(b->session->context), b->result.register_gflops,
               b->result.product_gflops, fur_context_isa(b->session->context),
               fur_context_threads(b->session->context));
    finish(b);
    return CLI_OK;
}

static int bench_attention(bench *b)
{
    const cli_options *o = b->session->options;
    int64_t kv_heads = o->kv_heads > 0 ? o->kv_heads : o->heads, window = -1;
    char name[96], tokens[CLI_UNIT];
    const char *kind = o->kind != NULL ? o->kind : "exact";
    bool exact = strcmp(kind, "exact") == 0;
    if (strcmp(kind, "dense") == 0 || strcmp(kind, "lookup") == 0)
        return cli_refuse(b->session, CLI_USAGE, "--kind: expected exact or almost-linear for attention, got %s", kind);
    if (o->window != NULL && (!cli_parse_count(o->window, &window) || window < exact))
        return cli_refuse(b->session, CLI_USAGE, "--window: expected a count of at least %d, got '%s'", exact,
                          o->window);
    const fur_bench_attention_settings settings = {.kind = kind,
                                                   .tokens = o->tokens,
                                                   .heads = o->heads,
                                                   .kv_heads = kv_heads,
                                                   .head_dim = o->head_dim,
                                                   .bidirectional = o->bidirectional,
                                                   .window = window,
                                                   .degree = o->degree,
                                                   .chunk = o->chunk,
                                                   .max_features = o->max_features,
                                                   .bound = o->bound};
    fur_status status = fur_bench_attention(b->session->context, &settings, &b->result);
    if (status != FUR_OK)
        return cli_fail(b->session, status);
    common(b);
    cli_json_text(b->object, "kind", kind);
    cli_json_int(b->object, "tokens", o->tokens);
    cli_json_int(b->object, "heads", o->heads);
    cli_json_int(b->object, "kv_heads", kv_heads);
    cli_json_int(b->object, "head_dim", o->head_dim);
    cli_json_bool(b->object, "causal", !o->bidirectional);
    cli_json_int(b->object, "window", window >= 0 ? window : exact ? 0 : FUR_FAR_DEFAULT_WINDOW);
    add_operator(b);
    (void)snprintf(name, sizeof name, "%s attention, %s tokens, %" PRId64 " heads x %" PRId64, kind,
                   cli_count(tokens, o->tokens), o->heads, o->head_dim);
    print_operator(b, name);
    if (!exact)
        add_errors(b);
    finish(b);
    return CLI_OK;
}

static int bench_projection(bench *b)
{
    const cli_options *o = b->session->options;
    char name[96], tokens[CLI_UNIT];
    if (o->kind != NULL && strcmp(o->kind, "lookup") == 0)
        return bench_lookup(b->session);
    if (o->kind != NULL && strcmp(o->kind, "dense") != 0)
        return cli_refuse(b->session, CLI_USAGE, "--kind: expected dense or lookup for projection, got %s", o->kind);
    fur_status status = fur_bench_projection(b->session->context, o->tokens, o->in, o->out, &b->result);
    if (status != FUR_OK)
        return cli_fail(b->session, status);
    common(b);
    cli_json_text(b->object, "kind", "dense");
    cli_json_int(b->object, "tokens", o->tokens);
    cli_json_int(b->object, "in", o->in);
    cli_json_int(b->object, "out", o->out);
    add_operator(b);
    (void)snprintf(name, sizeof name, "dense projection, %s tokens, %" PRId64 " to %" PRId64,
                   cli_count(tokens, o->tokens), o->in, o->out);
    print_operator(b, name);
    finish(b);
    return CLI_OK;
}

/* --keep, and what --disk and its like say. */
static int ask_for_store(const bench *b, fur_plan_request *request)
{
    cli_disk disk;
    int code = cli_disk_limit(b->session, ".", &disk);
    request->keep = cli_keep_of(b->session->options);
    request->disk_bytes = disk.bytes;
    request->disk_dir = disk.folder;
    request->inputs = disk.inputs;
    request->attention = disk.attention;
    request->optimizer = disk.optimizer;
    request->keys = disk.keys;
    request->stored = disk.stored;
    return code;
}

static int bench_step(bench *b)
{
    const cli_options *o = b->session->options;
    fur_model_config config;
    char a[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT], e[CLI_UNIT];
    int code = cli_config_open(b->session, "bytes-1m", o->context > 0 ? o->context : o->tokens, false, &config);
    if (code != CLI_OK)
        return code;
    fur_plan_request request;
    fur_plan_request_defaults(&request);
    code = ask_for_store(b, &request);
    if (code != CLI_OK)
        return code;
    request.row_tokens = o->tokens;
    request.document_tokens = o->context < o->tokens ? o->context : 0;
    request.row_updates = true;
    request.memory_bytes = o->memory;
    fur_status status = fur_bench_step(b->session->context, &config, &request, &b->result);
    if (status != FUR_OK)
        return cli_fail(b->session, status);
    const fur_bench_result *r = &b->result;
    double seconds = r->tokens_per_second > 0.0 ? (double)o->tokens / r->tokens_per_second : 0.0;
    common(b);
    cli_json_text(b->object, "preset", config.name);
    cli_json_int(b->object, "tokens", o->tokens);
    cli_json_real(b->object, "seconds", seconds);
    cli_json_real(b->object, "tokens_per_second", r->tokens_per_second);
    cli_json_real(b->object, "peak_gflops", r->peak_gflops);
    cli_json_int(b->object, "peak_rss_bytes", r->peak_rss_bytes);
    cli_json_int(b->object, "planned_peak_bytes", r->planned_peak_bytes);
    cli_json_int(b->object, "disk_bytes", r->disk_bytes);
    cli_json_real(b->object, "update_seconds", r->update_seconds);
    cli_json_real(b->object, "planned_seconds", r->planned_seconds);
    if (!o->json)
        printf(
            "%s, one step over %s tokens: %s of %s planned, %s tokens/s, peak memory %s of %s planned, disk %s (best "
            "of %d)\n",
            config.name, cli_count(a, o->tokens), cli_seconds(c, seconds),
            cli_seconds((char[CLI_UNIT]){0}, r->planned_seconds), cli_rate(d, r->tokens_per_second),
            cli_bytes(e, r->peak_rss_bytes), cli_bytes((char[CLI_UNIT]){0}, r->planned_peak_bytes),
            cli_bytes((char[CLI_UNIT]){0}, r->disk_bytes), r->repetitions);
    finish(b);
    return CLI_OK;
}

#define DECODE_PROMPT 16

static void add_decode(bench *b, int64_t prompt, const char *name, const char *table_type)
{
    const fur_bench_result *r = &b->result;
    common(b);
    cli_json_text(b->object, "model", name);
    if (table_type != NULL)
        cli_json_text(b->object, "table_type", table_type);
    cli_json_int(b->object, "prompt_tokens", prompt);
    cli_json_bool(b->object, "cold", b->session->options->cold);
    cli_json_real(b->object, "seconds", r->decode_seconds);
    cli_json_real(b->object, "tokens_per_second", r->tokens_per_second);
    cli_json_real(b->object, "head_seconds", r->head_seconds);
    cli_json_real(b->object, "head_share", r->head_seconds / r->decode_seconds);
    cli_json_int(b->object, "read_bytes", r->read_bytes);
    cli_json_int(b->object, "head_bytes", r->head_bytes);
    cli_json_real(b->object, "multiplications", r->multiplications);
    cli_json_int(b->object, "peak_rss_bytes", r->peak_rss_bytes);
    cli_json_int(b->object, "planned_peak_bytes", r->planned_peak_bytes);
}

static void print_decode(bench *b, const char *name, const char *table_type)
{
    const fur_bench_result *r = &b->result;
    char a[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT], e[CLI_UNIT];
    if (b->session->options->json)
        return;
    printf("%s%s%s, a token%s: %s, %s tokens/s, %s, %d threads, best of %d\n", name, table_type ? ", tables of " : "",
           table_type ? table_type : "", b->session->options->cold ? " with cold weights" : "",
           cli_seconds(a, r->decode_seconds), cli_rate(c, r->tokens_per_second), fur_context_isa(b->session->context),
           fur_context_threads(b->session->context), r->repetitions);
    printf("  layers    %10s, maps read %s\n", cli_seconds(a, r->decode_seconds - r->head_seconds),
           cli_bytes(c, r->read_bytes));
    printf("  head      %10s, reads %s: %.0f %% of the time\n", cli_seconds(a, r->head_seconds),
           cli_bytes(c, r->head_bytes), share(r->head_seconds, r->decode_seconds));
    printf("  peak memory %s of %s planned\n", cli_bytes(d, r->peak_rss_bytes), cli_bytes(e, r->planned_peak_bytes));
}

/* The shape of what is timed, and where --model is given its folder. */
static int decode_model(bench *b, int64_t prompt, fur_model_config *config, char **folder)
{
    const cli_options *o = b->session->options;
    int code = cli_config_open(b->session, "gpt2-124m", 0, false, config);
    if (code != CLI_OK)
        return code;
    bool tables = cli_has_tables(config);
    if (o->table_type != NULL && (o->model != NULL || !tables))
        return cli_refuse(b->session, CLI_USAGE, "--table-type: %s",
                          tables ? "the tables of a model in a folder are timed as they are stored (furlong convert)"
                                 : "the model has no look-up tables");
    if (o->table_type != NULL)
        (void)fur_table_type_find(o->table_type, &config->table_type); /* one of them, as the option's choices say */
    if (prompt > FUR_BENCH_MOST_PROMPT)
        return cli_refuse(b->session, CLI_USAGE, "--tokens: a prompt to decode behind has at most %d, got %" PRId64,
                          FUR_BENCH_MOST_PROMPT, prompt);
    if (o->model != NULL && (*folder = cli_model_folder(b->session, o->model)) == NULL)
        return CLI_BAD_INPUT;
    return CLI_OK;
}

static int bench_decode(bench *b)
{
    const cli_options *o = b->session->options;
    fur_bench_decode_settings settings = {.cold = o->cold};
    fur_model_config config;
    char *folder = NULL;
    settings.prompt_tokens = cli_given(o, "tokens") ? o->tokens : DECODE_PROMPT;
    int code = decode_model(b, settings.prompt_tokens, &config, &folder);
    if (code == CLI_OK)
        code = cli_memory_limit(b->session, &settings.memory_bytes, NULL);
    if (code == CLI_OK) {
        fur_status status = fur_bench_decode(b->session->context, folder, &config, &settings, &b->result);
        code = status == FUR_OK ? CLI_OK
               : folder != NULL ? cli_fail_input(b->session, status)
                                : cli_fail(b->session, status);
    }
    if (code == CLI_OK) {
        const char *name = folder != NULL ? folder : config.name;
        const char *type = cli_has_tables(&config) ? fur_table_type_name((int)config.table_type) : NULL;
        add_decode(b, settings.prompt_tokens, name, type);
        print_decode(b, name, type);
        finish(b);
    }
    cli_free(folder);
    return code;
}

static int bench_longest(bench *b)
{
    fur_model_config config;
    fur_plan_request request;
    fur_plan plan;
    int64_t tokens = 0;
    char a[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT], e[CLI_UNIT];
    int code = cli_config_open(b->session, "bytes-1m", 0, false, &config);
    fur_plan_request_defaults(&request);
    request.row_updates = true;
    if (code == CLI_OK)
        code = cli_memory_limit(b->session, &request.memory_bytes, NULL);
    if (code == CLI_OK)
        code = ask_for_store(b, &request);
    if (code != CLI_OK)
        return code;
    fur_status status = fur_plan_longest(b->session->context, &config, &request, &tokens);
    request.row_tokens = request.document_tokens = tokens > 0 ? tokens : 1;
    if (config.context < request.row_tokens)
        config.context = request.row_tokens;
    if (status == FUR_OK)
        status = fur_plan_make(b->session->context, &config, &request, &plan);
    if (status != FUR_OK)
        return cli_fail(b->session, status);
    common(b);
    cli_json_text(b->object, "preset", config.name);
    cli_json_int(b->object, "tokens", tokens);
    cli_json_int(b->object, "memory_bytes", request.memory_bytes);
    cli_json_int(b->object, "planned_peak_bytes", plan.peak_bytes);
    cli_json_int(b->object, "disk_bytes", plan.disk_bytes);
    cli_json_int(b->object, "key_groups", plan.key_groups);
    cli_json_real(b->object, "seconds", plan.seconds);
    if (!b->session->options->json) {
        printf("%s: the longest document in %s has %s tokens: planned %s and %s a step\n", config.name,
               cli_bytes(a, request.memory_bytes), cli_thousands(c, tokens), cli_bytes(d, plan.peak_bytes),
               cli_seconds(e, plan.seconds));
        cli_string places = {NULL, 0, 0};
        cli_plan_places(&places, &plan, "; ");
        printf("%s\n", places.text);
        cli_string_clear(&places);
    }
    finish(b);
    return tokens > 0 ? CLI_OK : cli_refuse(b->session, CLI_DOES_NOT_FIT, "no document fits");
}

/* What a mode does not look at is refused. */
static int check_options(const cli_session *session)
{
    static const struct {
        const char *name, *modes;
    } list[] = {{"window", "attention, step or longest"},
                {"degree", "attention, step or longest"},
                {"bound", "attention, step or longest"},
                {"chunk", "attention, step or longest"},
                {"max-features", "attention, step or longest"},
                {"attention", "step, decode or longest"},
                {"layers", "step, decode or longest"},
                {"model", "decode"},
                {"lookup-bits", "projection, step or decode"},
                {"table-type", "projection or decode"},
                {"codes", "projection"},
                {"cold", "projection or decode"},
                {"ctx-size", "step"},
                {"disk", "step or longest"},
                {"disk-dir", "step or longest"},
                {"store", "step or longest"},
                {"store-dtype", "step or longest"},
                {"keep", "step or longest"}};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
        if (cli_source_of(session->options, list[i].name) == CLI_FROM_COMMAND &&
            strstr(list[i].modes, session->options->mode) == NULL)
            return cli_refuse(session, CLI_USAGE, "--%s: an option of bench %s, not of bench %s", list[i].name,
                              list[i].modes, session->options->mode);
    return CLI_OK;
}

int verb_bench(cli_session *session)
{
    static const struct {
        const char *name;
        int (*run)(bench *);
    } modes[] = {{"peak", bench_peak}, {"attention", bench_attention}, {"projection", bench_projection},
                 {"step", bench_step}, {"decode", bench_decode},       {"longest", bench_longest}};
    int code = check_options(session);
    if (code == CLI_OK)
        code = cli_session_open(session);
    if (code != CLI_OK)
        return code;
    bench b = {.session = session, .object = json_object()};
    memset(&b.result, 0, sizeof b.result);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(session->options->mode, modes[i].name) == 0)
            code = modes[i].run(&b);
    json_decref(b.object); /* still there where the mode failed */
    return code;
}
