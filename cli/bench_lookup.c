/* SPDX-License-Identifier: Apache-2.0 */
/* furlong bench projection --kind lookup: a lookup map beside the dense one of its shape. */
#include "bench_lookup.h"

#include <math.h>
#include <string.h>

static int64_t bits_of(const cli_options *options)
{
    return options->lookup_bits > 0 ? options->lookup_bits : 8;
}

static const char *type_of(const cli_options *options)
{
    return options->table_type != NULL ? options->table_type : "f32";
}

static void add_seconds(json_t *object, const char *name, double seconds)
{
    if (isfinite(seconds))
        cli_json_real(object, name, seconds);
}

static void add_result(json_t *object, const fur_bench_lookup_result *r, bool cold)
{
    add_seconds(object, "hash_seconds", r->hash_seconds);
    add_seconds(object, "forward_seconds", r->forward_seconds);
    add_seconds(object, "tables_seconds", r->tables_seconds);
    add_seconds(object, "input_seconds", r->input_seconds);
    add_seconds(object, "backward_seconds", r->tables_seconds + r->input_seconds);
    add_seconds(object, "dense_forward_seconds", r->dense_forward_seconds);
    add_seconds(object, "dense_backward_seconds", r->dense_backward_seconds);
    add_seconds(object, "dense_bf16_forward_seconds", r->dense_bf16_forward_seconds);
    cli_json_real(object, "code_entropy", r->code_entropy);
    cli_json_int(object, "table_bytes", r->table_bytes);
    cli_json_int(object, "row_bytes", r->row_bytes);
    cli_json_int(object, "dense_bytes", r->dense_bytes);
    if (cold) {
        cli_json_real(object, "stream_bytes_per_second", r->stream_bytes_per_second);
        cli_json_real(object, "random_bytes_per_second", r->random_bytes_per_second);
    }
}

static void line(const char *name, double seconds, double dense)
{
    char text[CLI_UNIT], other[CLI_UNIT];
    if (isfinite(seconds) && isfinite(dense))
        printf("  %-9s %10s, dense in f32 %10s: %.2f times as fast\n", name, cli_seconds(text, seconds),
               cli_seconds(other, dense), dense / seconds);
}

static void print_result(const cli_session *session, const fur_bench_lookup_result *r, bool cold)
{
    const cli_options *o = session->options;
    char a[CLI_UNIT], c[CLI_UNIT];
    printf("lookup projection, %s tokens, %lld to %lld, %lld bits, tables of %s (%s), %s, %d threads, best of %d\n",
           cli_count(a, o->tokens), (long long)o->in, (long long)o->out, (long long)bits_of(o), type_of(o),
           cli_bytes(c, r->table_bytes), fur_context_isa(session->context), fur_context_threads(session->context),
           r->repetitions);
    line("forward", r->hash_seconds + r->forward_seconds, r->dense_forward_seconds);
    line("backward", r->tables_seconds + r->input_seconds, r->dense_backward_seconds);
    printf("  of it: hash %s, rows %s; codes of %.1f bits\n", cli_seconds(a, r->hash_seconds),
           cli_seconds(c, r->forward_seconds), r->code_entropy);
    if (isfinite(r->tables_seconds))
        printf("  of it: tables %s, input %s\n", cli_seconds(a, r->tables_seconds), cli_seconds(c, r->input_seconds));
    if (cold)
        printf(
            "  cold: rows at %.1f GB/s, plain reads of the same rows %.1f GB/s, of a dense map in one piece %.1f GB/s\n",
            (double)r->row_bytes / r->forward_seconds * 1e-9, r->random_bytes_per_second * 1e-9,
            r->stream_bytes_per_second * 1e-9);
}

int bench_lookup(cli_session *session)
{
    const cli_options *o = session->options;
    const fur_bench_lookup_settings settings = {.tokens = o->tokens,
                                                .in = o->in,
                                                .out = o->out,
                                                .bits = bits_of(o),
                                                .table_type = type_of(o),
                                                .skewed = strcmp(o->codes, "skewed") == 0,
                                                .cold = o->cold || o->tokens == 1};
    fur_bench_lookup_result r;
    fur_status status = fur_bench_lookup(session->context, &settings, &r);
    if (status != FUR_OK)
        return cli_fail(session, status);
    if (!o->json) {
        print_result(session, &r, settings.cold);
        return CLI_OK;
    }
    json_t *object = json_object();
    cli_json_text(object, "mode", o->mode);
    cli_json_text(object, "kind", "lookup");
    cli_json_text(object, "isa", fur_context_isa(session->context));
    cli_json_int(object, "threads", fur_context_threads(session->context));
    cli_json_int(object, "repetitions", r.repetitions);
    cli_json_int(object, "tokens", o->tokens);
    cli_json_int(object, "in", o->in);
    cli_json_int(object, "out", o->out);
    cli_json_int(object, "bits", bits_of(o));
    cli_json_text(object, "table_type", type_of(o));
    cli_json_text(object, "codes", o->codes);
    cli_json_bool(object, "cold", settings.cold);
    add_result(object, &r, settings.cold);
    cli_json_print(stdout, object);
    return CLI_OK;
}
