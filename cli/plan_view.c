/* SPDX-License-Identifier: Apache-2.0 */
/* Plans on screen and as JSON. */
#include "plan_view.h"

#include <inttypes.h>
#include <string.h>

int cli_plan_rows_make(const cli_session *session, const fur_model_config *config, const fur_plan_request *request,
                       cli_plan_row rows[CLI_PLAN_ROWS])
{
    for (int i = 0; i < CLI_PLAN_ROWS; i++) {
        cli_plan_row *row = &rows[i];
        fur_model_config longer = *config;
        fur_plan_request one = *request;
        row->tokens = (int64_t)4096 << i;
        one.row_tokens = row->tokens;
        one.document_tokens = row->tokens;
        if (longer.context < row->tokens || longer.position == FUR_POSITION_LEARNED)
            longer.context = row->tokens;
        fur_status status = fur_plan_make(session->context, &longer, &one, &row->plan);
        /* what cannot fit is answered with the smallest plan */
        fur_plan least = row->plan;
        one.memory_bytes = 1;
        if (status == FUR_OK)
            status = fur_plan_make(session->context, &longer, &one, &least);
        if (status != FUR_OK)
            return cli_fail(session, status);
        row->least_bytes = least.peak_bytes;
        row->plain_bytes = fur_plan_plain_attention_bytes(&longer, row->tokens);
        row->checkpointed_bytes = fur_plan_checkpointed_bytes(&longer, row->tokens);
    }
    return CLI_OK;
}

void cli_plan_rows_print(const cli_plan_row *rows, int count, int64_t memory_bytes, FILE *file, const cli_style *style)
{
    char memory[CLI_UNIT], limit[CLI_UNIT + 8] = "fits";
    cli_table table;
    if (memory_bytes > 0)
        (void)snprintf(limit, sizeof limit, "in %s", cli_bytes(memory, memory_bytes));
    cli_table_init(&table, "rrrlrrr", "tokens", "memory", "one step", limit, "at least", "checkpointed",
                   "plain attention");
    for (int i = 0; i < count; i++) {
        char tokens[CLI_UNIT], peak[CLI_UNIT], seconds[CLI_UNIT], plain[CLI_UNIT], checkpointed[CLI_UNIT],
            least[CLI_UNIT];
        cli_table_row(&table, cli_count(tokens, rows[i].tokens), cli_bytes(peak, rows[i].plan.peak_bytes),
                      cli_seconds(seconds, rows[i].plan.seconds),
                      memory_bytes <= 0   ? ""
                      : rows[i].plan.fits ? "fits"
                                          : "does not fit",
                      cli_bytes(least, rows[i].least_bytes), cli_bytes(checkpointed, rows[i].checkpointed_bytes),
                      cli_bytes(plain, rows[i].plain_bytes));
    }
    cli_table_print(&table, file, style);
    cli_table_clear(&table);
}

json_t *cli_plan_rows_json(const cli_plan_row *rows, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        json_t *object = json_object();
        cli_json_int(object, "tokens", rows[i].tokens);
        cli_json_bool(object, "fits", rows[i].plan.fits);
        cli_json_int(object, "peak_bytes", rows[i].plan.peak_bytes);
        cli_json_int(object, "least_bytes", rows[i].least_bytes);
        cli_json_real(object, "seconds", rows[i].plan.seconds);
        cli_json_real(object, "flops", rows[i].plan.flops);
        cli_json_int(object, "plain_attention_bytes", rows[i].plain_bytes);
        cli_json_int(object, "checkpointed_bytes", rows[i].checkpointed_bytes);
        (void)json_array_append_new(list, object);
    }
    return list;
}

static bool same_kinds(const fur_model_config *config)
{
    for (int64_t i = 1; i < config->layers; i++)
        if (config->attention[i] != config->attention[0])
            return false;
    return true;
}

/* ", window 4,096 in 10 of 12 layers", or the least and the greatest. */
static void add_windows(cli_string *out, const fur_model_config *config)
{
    char low[CLI_UNIT], high[CLI_UNIT];
    int64_t count = 0, least = 0, greatest = 0;
    for (int64_t i = 0; i < config->layers; i++) {
        int64_t window = config->window[i];
        least = window > 0 && (count == 0 || window < least) ? window : least;
        greatest = window > greatest ? window : greatest;
        count += window > 0;
    }
    if (count == 0)
        return;
    if (least == greatest)
        cli_appendf(out, ", window %s", cli_thousands(low, least));
    else
        cli_appendf(out, ", windows %s to %s", cli_thousands(low, least), cli_thousands(high, greatest));
    if (count < config->layers)
        cli_appendf(out, " in %" PRId64 " of %" PRId64 " layers", count, config->layers);
    if (config->sink_tokens > 0)
        cli_appendf(out, ", %" PRId64 " sink tokens", config->sink_tokens);
}

/* ", almost-linear in 3 of 4 layers (...)": what the shortcut is, and what it may err by. */
static void add_far(cli_string *out, const fur_model_config *config)
{
    int64_t layers = cli_almost_linear_layers(config);
    if (layers == 0)
        return;
    cli_appendf(out, ", almost-linear in %" PRId64 " of %" PRId64 " layers (degree %" PRId64, layers, config->layers,
                config->far_degree);
    if (config->far_unbounded)
        cli_appendf(out, ", no bound, %" PRId64 " features", fur_config_far_features(config));
    else
        cli_appendf(out, ", bound %g, %" PRId64 " features; each far weight within %.2g %% of exact", config->far_bound,
                    fur_config_far_features(config), 100 * fur_config_far_error(config));
    if (config->far_max_error > 0)
        cli_appendf(out, "; heads off by more than %g exact", config->far_max_error);
    cli_append(out, config->far_fine_gradient ? "; finer gradients)" : ")");
}

/* What is on besides the plain model. */
static void add_features(cli_string *out, const fur_model_config *config)
{
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"softcap", config->softcap},
        {"softcap of logits", config->logit_softcap},
        {"dropout", config->dropout},
        {"attention dropout", config->attention_dropout},
    };
    add_far(out, config);
    add_windows(out, config);
    if (config->sink_logits)
        cli_append(out, ", sink logits");
    if (config->qk_norm)
        cli_append(out, ", norms of q and k");
    if (config->post_norms)
        cli_append(out, ", norms of what attention and feedforward add");
    if (config->position == FUR_POSITION_ALIBI)
        cli_append(out, ", ALiBi");
    if (config->rope_scaling.type != FUR_ROPE_PLAIN)
        cli_appendf(out, ", RoPE %s x %g", fur_rope_scaling_name((int)config->rope_scaling.type),
                    config->rope_scaling.factor);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].value > 0)
            cli_appendf(out, ", %s %g", numbers[i].name, numbers[i].value);
    if (config->embedding_dropout < config->dropout || config->embedding_dropout > config->dropout)
        cli_appendf(out, ", of embeddings %g", config->embedding_dropout);
}

void cli_config_line(cli_string *out, const fur_model_config *config)
{
    char count[CLI_UNIT];
    const char *attention = fur_attention_kind_name(config->attention[0]);
    if (config->name[0] != '\0')
        cli_appendf(out, "%s: ", config->name);
    cli_appendf(out, "%" PRId64 " layers x %" PRId64 ", %" PRId64 " heads", config->layers, config->width,
                config->heads);
    if (config->kv_heads != config->heads)
        cli_appendf(out, " (%" PRId64 " for keys)", config->kv_heads);
    cli_appendf(out, " x %" PRId64 ", ", config->head_dim);
    if (config->features > 0)
        cli_appendf(out, "%" PRId64 " features, ", config->features);
    else
        cli_appendf(out, "vocabulary %s, ", cli_thousands(count, config->vocabulary));
    cli_appendf(out, "%s attention", same_kinds(config) && attention != NULL ? attention : "mixed");
    add_features(out, config);
    cli_appendf(out, ", %s parameters", cli_thousands(count, fur_config_parameter_count(config)));
}

void cli_tables_line(cli_string *out, const fur_model_config *config)
{
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT], d[CLI_UNIT];
    fur_map_costs costs;
    fur_config_map_costs(config, &costs);
    if (costs.table_parameters == 0)
        return;
    cli_appendf(
        out,
        "\nlook-up tables: %s numbers in place of %s; %s multiplications a token in place of %s (all maps of the layers)",
        cli_rate(a, (double)costs.table_parameters), cli_rate(b, (double)costs.dense_parameters),
        cli_rate(c, costs.multiplications), cli_rate(d, costs.dense_multiplications));
}

void cli_tables_json(json_t *object, const fur_model_config *config)
{
    fur_map_costs costs;
    fur_config_map_costs(config, &costs);
    cli_json_real(object, "map_multiplications", costs.multiplications);
    if (costs.table_parameters == 0)
        return;
    cli_json_real(object, "dense_map_multiplications", costs.dense_multiplications);
    cli_json_int(object, "table_parameters", costs.table_parameters);
    cli_json_int(object, "dense_parameters_in_their_place", costs.dense_parameters);
}

void cli_plan_places(cli_string *out, const fur_plan *plan, const char *between)
{
    static const struct {
        fur_store_place place;
        const char *text;
    } heads[] = {
        {FUR_STORE_MEMORY, "kept in memory"}, {FUR_STORE_DISK, "kept on disk"}, {FUR_STORE_AGAIN, "computed again"}};
    char size[CLI_UNIT], inputs[64] = "layer inputs", keys[64];
    size_t start = out->length;
    if (plan->stored != FUR_STORED_F32)
        (void)snprintf(inputs, sizeof inputs, "layer inputs as %s (NOT EXACT)", fur_stored_type_name(plan->stored));
    if (plan->inputs == FUR_STORE_AGAIN)
        (void)snprintf(inputs, sizeof inputs, "layer inputs (1 in %" PRId64 " is kept)", plan->segment_layers);
    (void)snprintf(keys, sizeof keys, "keys (1 of %" PRId64 " groups of heads is in memory)", plan->key_groups);
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        fur_store_place place = heads[i].place, hidden = plan->keep_hidden ? FUR_STORE_MEMORY : FUR_STORE_AGAIN;
        const char *const parts[] = {
            plan->inputs == place ? inputs : NULL, plan->attention == place ? "attention outputs" : NULL,
            hidden == place ? "feedforward" : NULL, plan->optimizer == place ? "optimizer state" : NULL,
            place == FUR_STORE_DISK && plan->key_groups > 0 ? keys : NULL};
        bool begun = false;
        for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
            if (parts[k] == NULL)
                continue;
            if (begun)
                cli_appendf(out, ", %s", parts[k]);
            else
                cli_appendf(out, "%s%s: %s", out->length > start ? between : "", heads[i].text, parts[k]);
            begun = true;
        }
        if (begun && place == FUR_STORE_DISK)
            cli_appendf(out, " (up to %s)", cli_bytes(size, plan->disk_bytes));
    }
}

void cli_plan_print(const fur_plan *plan, fur_purpose purpose, int64_t tokens, int64_t memory_bytes, FILE *file,
                    const cli_style *style)
{
    static const char *const unit[] = {"one training step", "one forward pass", "one generated token"};
    char a[CLI_UNIT], b[CLI_UNIT], c[CLI_UNIT];
    cli_table table;
    cli_table_init(&table, "lr", "memory", "");
    for (int i = 0; i < plan->item_count; i++)
        cli_table_row(&table, plan->items[i].name, cli_bytes(a, plan->items[i].bytes));
    cli_table_row(&table, "peak of the process", cli_bytes(a, plan->peak_bytes));
    cli_table_print(&table, file, style);
    cli_table_clear(&table);
    fprintf(file, "  %s over %s tokens: %s, %s floating-point operations\n", unit[purpose], cli_thousands(a, tokens),
            plan->seconds > 0 ? cli_seconds(b, plan->seconds) : "?", cli_rate(c, plan->flops));
    if (purpose == FUR_FOR_TRAIN) {
        cli_string places = {NULL, 0, 0};
        cli_plan_places(&places, plan, "\n  ");
        fprintf(file, "  %s\n", places.text);
        cli_string_clear(&places);
    }
    if (memory_bytes > 0)
        fprintf(file, "  %s%s%s %s\n", plan->fits ? style->good : style->bad,
                plan->fits ? "fits in" : "does not fit in", style->off, cli_bytes(a, memory_bytes));
}

json_t *cli_plan_json(const fur_plan *plan)
{
    json_t *object = json_object(), *items = json_array();
    cli_json_bool(object, "fits", plan->fits);
    cli_json_int(object, "peak_bytes", plan->peak_bytes);
    cli_json_int(object, "disk_bytes", plan->disk_bytes);
    cli_json_real(object, "flops", plan->flops);
    cli_json_real(object, "seconds", plan->seconds);
    for (int i = 0; i < plan->item_count; i++) {
        json_t *item = json_object();
        cli_json_text(item, "name", plan->items[i].name);
        cli_json_int(item, "bytes", plan->items[i].bytes);
        (void)json_array_append_new(items, item);
    }
    (void)json_object_set_new(object, "items", items);
    cli_json_int(object, "arena_bytes", plan->arena_bytes);
    cli_json_int(object, "superblock", plan->superblock);
    cli_json_int(object, "token_tile", plan->token_tile);
    cli_json_int(object, "loss_tile", plan->loss_tile);
    cli_json_int(object, "vocabulary_tile", plan->vocabulary_tile);
    cli_json_bool(object, "keep_attention", plan->keep_attention);
    cli_json_bool(object, "keep_hidden", plan->keep_hidden);
    cli_json_text(object, "inputs", fur_store_place_name(plan->inputs));
    cli_json_text(object, "store_dtype", fur_stored_type_name(plan->stored));
    cli_json_int(object, "segment_layers", plan->segment_layers);
    cli_json_text(object, "attention", fur_store_place_name(plan->attention));
    cli_json_text(object, "optimizer", fur_store_place_name(plan->optimizer));
    cli_json_int(object, "key_groups", plan->key_groups);
    return object;
}
