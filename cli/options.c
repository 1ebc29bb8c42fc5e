/* SPDX-License-Identifier: Apache-2.0 */
/* The option table and the parser that reads it. */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

/* ---- the table ---------------------------------------------------------------------------------------------- */

#define AT(field) offsetof(cli_options, field)
#define DEMO      (1u << CLI_DEMO)
#define TRAIN     (1u << CLI_TRAIN)
#define EVAL      (1u << CLI_EVAL)
#define GENERATE  (1u << CLI_GENERATE)
#define PLAN      (1u << CLI_PLAN)
#define BENCH     (1u << CLI_BENCH)
#define INSPECT   (1u << CLI_INSPECT)
#define DOCTOR    (1u << CLI_DOCTOR)
#define VERSION   (1u << CLI_VERSION)
#define LONG_STEP (1u << CLI_LONG_STEP)
#define ALL_VERBS ((1u << CLI_VERBS) - 1u)
#define RUNS      (DEMO | TRAIN | EVAL | GENERATE | PLAN | BENCH | DOCTOR | LONG_STEP)

#define TEBI 1099511627776.0

/* clang-format off */
static const cli_option table[] = {
    {"model", 'm', NULL, CLI_TEXT, "FOLDER", NULL, NULL, 0, 0, "Model",
     "model in Hugging Face form (config.json, model.safetensors), or an output folder of train, whose latest "
     "checkpoint is taken; for train: the weights to start from",
     TRAIN | EVAL | GENERATE | PLAN | INSPECT | LONG_STEP, "FURLONG_MODEL", AT(model)},
    {"preset", 0, NULL, CLI_TEXT, "NAME", "(bytes-1m)", NULL, 0, 0, "Model",
     "shape of a new model: bytes-1m, bytes-4m, gpt2-124m, llama-135m, llama-1b",
     TRAIN | PLAN | BENCH, "FURLONG_PRESET", AT(preset)},
    {"ctx-size", 'c', "context", CLI_COUNT, "TOKENS", "(chosen)", NULL, 1, TEBI, "Model",
     "longest document: tokens that see each other. Longer ones are cut into pieces of this length, and counted",
     TRAIN | EVAL | PLAN | LONG_STEP, "FURLONG_CTX_SIZE", AT(context)},
    {"layers", 0, NULL, CLI_INT, "COUNT", "(the preset's)", NULL, 1, 512, "Model",
     "layers of a preset instead of its own number", TRAIN | PLAN | BENCH, NULL, AT(layers)},
    {"attention", 0, NULL, CLI_TEXT, "KINDS", "exact", NULL, 0, 0, "Model",
     "attention of the layers: one kind for all, or kind@first-last,...", TRAIN | PLAN, NULL, AT(attention)},
    {"projection", 0, NULL, CLI_TEXT, "KINDS", "dense", NULL, 0, 0, "Model",
     "kind of the linear maps: one for all, or ffn=kind,qkvo=kind", TRAIN | PLAN, NULL, AT(projection)},
    {"window", 0, NULL, CLI_TEXT, "TOKENS", "(none)", NULL, 0, 0, "Model",
     "tokens that a token sees, itself among them: one number for all layers, or 4096@0-9,none@10-11; for bench one "
     "number. Of almost-linear layers: tokens before the own chunk that are seen one by one", TRAIN | PLAN | BENCH, NULL, AT(window)},
    {"degree", 0, NULL, CLI_INT, "P", "(2)", NULL, 1, 6, "Model",
     "almost-linear: degree of the polynomial in place of the exponential of far keys", TRAIN | PLAN | BENCH, NULL,
     AT(degree)},
    {"bound", 0, NULL, CLI_REAL, "B", "(1)", NULL, 1e-6, 16, "Model",
     "almost-linear: far logits are at most this in size; near ones are not bounded", TRAIN | PLAN | BENCH, NULL,
     AT(bound)},
    {"chunk", 0, NULL, CLI_COUNT, "TOKENS", "(128)", NULL, 16, 4096, "Model",
     "almost-linear: tokens of a chunk, which see each other one by one, and --window tokens before it",
     TRAIN | PLAN | BENCH, NULL, AT(chunk)},
    {"far-bias", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Model",
     "almost-linear: each head learns a number that is added to its far logits", TRAIN | PLAN, NULL, AT(far_bias)},
    {"max-features", 0, NULL, CLI_COUNT, "COUNT", "(64K)", NULL, 1, 1048576, "Model",
     "almost-linear: most features, C(head width + degree, degree)", TRAIN | PLAN | BENCH, NULL, AT(max_features)},
    {"sink-tokens", 0, NULL, CLI_COUNT, "TOKENS", "(0)", NULL, 0, TEBI, "Model",
     "first tokens of a document that are seen in spite of --window", TRAIN | PLAN, NULL, AT(sink_tokens)},
    {"sink-logits", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Model",
     "each head learns a logit that takes part of the attention, as in gpt-oss", TRAIN | PLAN, NULL, AT(sink_logits)},
    {"position", 0, NULL, CLI_CHOICE, "NAME", "(the preset's)", "learned|rope|alibi", 0, 0, "Model",
     "how a new model knows positions", TRAIN | PLAN, NULL, AT(position)},
    {"rope-scaling", 0, NULL, CLI_TEXT, "SCALING", "(none)", NULL, 0, 0, "Model",
     "angles for a context longer than the one first trained on: linear:FACTOR, ntk:FACTOR, dynamic:FACTOR:ORIGINAL, "
     "yarn:FACTOR:ORIGINAL, llama3:FACTOR:ORIGINAL", TRAIN | PLAN, NULL, AT(rope_scaling)},
    {"softcap", 0, NULL, CLI_REAL, "VALUE", "(none)", NULL, 0, 999999, "Model",
     "attention scores stay below it in size, by a tanh; 0: none", TRAIN | PLAN, NULL, AT(softcap)},
    {"qk-norm", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Model",
     "RMSNorm of each head's queries and keys, as in Qwen 3", TRAIN | PLAN, NULL, AT(qk_norm)},
    {"dropout", 0, NULL, CLI_REAL, "RATE", "(0)", NULL, 0, 0.999, "Training",
     "share of embeddings, and of what each layer adds, that is left out in training", TRAIN | PLAN, NULL,
     AT(dropout)},
    {"attention-dropout", 0, NULL, CLI_REAL, "RATE", "(0)", NULL, 0, 0.999, "Training",
     "share of attention's weights that is left out in training", TRAIN | PLAN, NULL, AT(attention_dropout)},
    {"tokenizer", 0, NULL, CLI_CHOICE, "NAME", "(bytes)", "bytes", 0, 0, "Data",
     "how text becomes tokens. Every preset accepts bytes", TRAIN | EVAL | GENERATE | PLAN, NULL, AT(tokenizer)},

    {"file", 'f', NULL, CLI_LIST, "PATH", NULL, NULL, 0, 0, "Data",
     "text, .jsonl with a field \"text\", .npy, any of these as .zst, a folder, or - for standard input; repeats",
     DEMO | TRAIN | EVAL | GENERATE | LONG_STEP, NULL, AT(files)},
    {"eval-file", 0, NULL, CLI_LIST, "PATH", NULL, NULL, 0, 0, "Data",
     "text to evaluate on instead of the held-out end of --file; repeats", TRAIN, NULL, AT(eval_files)},
    {"held-out", 0, NULL, CLI_REAL, "SHARE", "0.1", NULL, 0, 0.9, "Data",
     "share of the end of the text that is kept for evaluation", TRAIN, NULL, AT(held_out)},
    {"skip-bad", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Data",
     "skip lines of a .jsonl that do not parse, and count them, instead of stopping at the first",
     TRAIN | EVAL, NULL, AT(skip_bad)},
    {"max-tokens", 0, NULL, CLI_COUNT, "TOKENS", "(all)", NULL, 0, TEBI, "Data",
     "evaluate at most this many tokens", EVAL, NULL, AT(max_tokens)},

    {"prompt", 'p', NULL, CLI_TEXT, "TEXT", NULL, NULL, 0, 0, "Generation",
     "text to continue (or --file, or standard input)", GENERATE, NULL, AT(prompt)},
    {"n-predict", 'n', NULL, CLI_COUNT, "TOKENS", "(256, or what the context leaves)", NULL, 1, TEBI, "Generation",
     "tokens to generate", GENERATE, NULL, AT(predict)},
    {"temp", 0, "temperature", CLI_REAL, "VALUE", "0.8", NULL, 0, 100, "Generation",
     "0 always takes the likeliest token, higher is more varied", GENERATE, NULL, AT(temperature)},
    {"top-k", 0, NULL, CLI_INT, "COUNT", "0", NULL, 0, 1e9, "Generation",
     "sample among the likeliest COUNT tokens only; 0: all", GENERATE, NULL, AT(top_k)},
    {"top-p", 0, NULL, CLI_REAL, "SHARE", "1", NULL, 1e-6, 1, "Generation",
     "sample among the likeliest tokens that make up this probability", GENERATE, NULL, AT(top_p)},

    {"batch-tokens", 'b', "batch-size", CLI_COUNT, "TOKENS", "(the context, at least 8K)", NULL, 1, TEBI, "Training",
     "tokens of one packed row: documents laid end to end that do not see each other",
     TRAIN | PLAN, "FURLONG_BATCH_TOKENS", AT(row_tokens)},
    {"context-ramp", 0, NULL, CLI_RAMP, "RAMP", NULL, NULL, 0, 0, "Training",
     "contexts that grow: 512,2048@800,8192@900 is 512 from the start, 2,048 from step 800, 8,192 from step 900; "
     "512/4K is 512 in rows of 4,096 tokens instead of --batch-tokens",
     TRAIN, NULL, AT(ramp)},
    {"max-steps", 0, NULL, CLI_INT, "STEPS", "1000", NULL, 1, 1e12, "Training", "optimizer steps",
     DEMO | TRAIN, NULL, AT(max_steps)},
    {"lr", 0, "learning-rate", CLI_REAL, "RATE", "(0.003 x 128 / width)", NULL, 0, 10, "Training",
     "highest learning rate, after the warm-up", TRAIN, NULL, AT(lr)},
    {"min-lr", 0, NULL, CLI_REAL, "RATE", "(a tenth of --lr)", NULL, 0, 10, "Training",
     "learning rate at the end of the cosine", TRAIN, NULL, AT(min_lr)},
    {"weight-decay", 0, NULL, CLI_REAL, "VALUE", "0.1", NULL, 0, 10, "Training",
     "decay of matrices, decoupled (AdamW)", TRAIN, NULL, AT(weight_decay)},
    {"warmup-steps", 0, NULL, CLI_INT, "STEPS", "(a twentieth of --max-steps)", NULL, 0, 1e12, "Training",
     "steps over which the learning rate rises from 0", TRAIN, NULL, AT(warmup_steps)},
    {"grad-accum", 0, NULL, CLI_INT, "ROWS", "1", NULL, 1, 1e6, "Training",
     "rows per step; the loss is weighted by counted tokens", TRAIN, NULL, AT(grad_accum)},
    {"grad-clip", 0, NULL, CLI_REAL, "NORM", "1", NULL, 0, 1e9, "Training",
     "largest norm of the gradient; 0: not clipped", TRAIN, NULL, AT(grad_clip)},
    {"skip-nonfinite", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Training",
     "skip a step whose gradient is not finite instead of stopping with code 5", TRAIN, NULL, AT(skip_nonfinite)},
    {"save-steps", 0, NULL, CLI_INT, "STEPS", "250", NULL, 0, 1e12, "Training",
     "steps between checkpoints; 0: only at the end", TRAIN, NULL, AT(save_steps)},
    {"keep-checkpoints", 0, NULL, CLI_INT, "COUNT", "3", NULL, 0, 1e6, "Training",
     "older checkpoints are removed; 0: keep all", TRAIN, NULL, AT(keep_checkpoints)},
    {"eval-steps", 0, NULL, CLI_INT, "STEPS", "100", NULL, 0, 1e12, "Training",
     "steps between evaluations; 0: only at the end", TRAIN, NULL, AT(eval_steps)},
    {"eval-tokens", 0, NULL, CLI_COUNT, "TOKENS", "64K", NULL, 1, TEBI, "Training",
     "held-out tokens per evaluation at most", TRAIN, NULL, AT(eval_tokens)},
    {"error-steps", 0, NULL, CLI_INT, "STEPS", "100", NULL, 0, 1e12, "Training",
     "almost-linear: steps between measurements of each head's error against exact attention; 0: the first and the last",
     TRAIN, NULL, AT(error_steps)},
    {"log-steps", 0, NULL, CLI_INT, "STEPS", "1", NULL, 1, 1e12, "Training",
     "steps between lines of metrics.jsonl", TRAIN, NULL, AT(log_steps)},
    {"output-dir", 'o', NULL, CLI_TEXT, "FOLDER", "(runs/NAME-N)", NULL, 0, 0, "Training",
     "folder of the run; never overwrites another", DEMO | TRAIN | LONG_STEP, "FURLONG_OUTPUT_DIR", AT(output_dir)},
    {"resume", 0, NULL, CLI_TEXT, "[latest|PATH]", NULL, NULL, 0, 0, "Training",
     "go on from a checkpoint: the latest of --output-dir (without one: of the newest run), or the step folder PATH; "
     "settings not given again are those of the run", TRAIN, NULL, AT(resume)},
    {"config", 0, NULL, CLI_TEXT, "FILE", NULL, NULL, 0, 0, "Training",
     "options from a JSON file, such as the run.json of an earlier run, which it repeats; the command line wins",
     TRAIN, NULL, AT(config)},
    {"dry-run", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Training",
     "print what would be done and its plan, and stop", TRAIN, NULL, AT(dry_run)},

    {"for", 0, NULL, CLI_CHOICE, "PURPOSE", "train", "train|eval|generate", 0, 0, "Plan",
     "train, eval or generate", PLAN, NULL, AT(purpose)},
    {"longest", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Plan",
     "the longest document that fits --memory", PLAN, NULL, AT(longest)},

    {"mode", 0, NULL, CLI_CHOICE, "MODE", "peak", "peak|attention|projection|step|longest", 0, 0, "Bench",
     "what to measure; the word after bench", BENCH, NULL, AT(mode)},
    {"kind", 0, NULL, CLI_CHOICE, "KIND", "(exact, dense)", "exact|almost-linear|dense", 0, 0, "Bench",
     "kind of attention or projection", BENCH, NULL, AT(kind)},
    {"tokens", 0, NULL, CLI_COUNT, "TOKENS", "4096", NULL, 1, TEBI, "Bench", "length of the sequence",
     BENCH, NULL, AT(tokens)},
    {"heads", 0, NULL, CLI_INT, "COUNT", "12", NULL, 1, 65536, "Bench", "query heads", BENCH, NULL, AT(heads)},
    {"kv-heads", 0, NULL, CLI_INT, "COUNT", "(as --heads)", NULL, 1, 65536, "Bench", "key heads",
     BENCH, NULL, AT(kv_heads)},
    {"head-dim", 0, NULL, CLI_INT, "WIDTH", "64", NULL, 1, 1024, "Bench", "width of a head", BENCH, NULL, AT(head_dim)},
    {"bidirectional", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Bench", "every token sees every other",
     BENCH, NULL, AT(bidirectional)},
    {"in", 0, NULL, CLI_INT, "WIDTH", "768", NULL, 1, 1e6, "Bench", "input width of the projection",
     BENCH, NULL, AT(in)},
    {"out", 0, NULL, CLI_INT, "WIDTH", "3072", NULL, 1, 1e6, "Bench", "output width of the projection",
     BENCH, NULL, AT(out)},

    {"quick", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Demo", "30 seconds of training and a step over 8,192 bytes",
     DEMO, NULL, AT(quick)},
    {"seconds", 0, NULL, CLI_REAL, "SECONDS", "(120, or 30 with --quick)", NULL, 1, 86400, "Demo",
     "seconds of training, from which the number of steps is chosen", DEMO, NULL, AT(train_seconds)},

    {"memory", 0, NULL, CLI_SIZE, "SIZE", "(80 % of what is available)", NULL, 1048576, 1e18, "Machine",
     "limit on the peak resident memory of the whole process: 8G, 512M; G is 2^30",
     TRAIN | EVAL | GENERATE | PLAN | BENCH | LONG_STEP, "FURLONG_MEMORY", AT(memory)},
    {"disk", 0, NULL, CLI_SIZE, "SIZE", "(80 % of what is free there)", NULL, 0, 1e18, "Machine",
     "limit on what a step may put on disk where --memory does not hold it: layer inputs, attention outputs, optimizer "
     "state; 0: nothing", TRAIN | PLAN | BENCH, "FURLONG_DISK", AT(disk)},
    {"disk-dir", 0, NULL, CLI_TEXT, "FOLDER", "(the output folder)", NULL, 0, 0, "Machine",
     "folder of that file, which has no name and is gone with the process",
     TRAIN | PLAN | BENCH, "FURLONG_DISK_DIR", AT(disk_dir)},
    {"store", 0, NULL, CLI_CHOICE, "WHERE", "auto", "auto|disk", 0, 0, "Machine",
     "auto: on disk only what --memory does not hold; disk: all that can be there. Never changes the result",
     TRAIN | PLAN | BENCH, NULL, AT(store)},
    {"store-dtype", 0, NULL, CLI_CHOICE, "TYPE", "f32", "f32|bf16|q8", 0, 0, "Machine",
     "what layer inputs are stored as. bf16 and q8 take a half and about a quarter of the bytes and are NOT EXACT: "
     "gradients differ by about 0.2 % and 1 %", TRAIN | PLAN | BENCH, NULL, AT(store_dtype)},
    {"keep", 0, NULL, CLI_CHOICE, "WHAT", "auto", "auto|nothing|all", 0, 0, "Machine",
     "what backward finds ready instead of computing again; changes seconds and bytes, never the result",
     TRAIN | PLAN | BENCH, NULL, AT(keep)},
    {"superblock", 0, NULL, CLI_COUNT, "TOKENS", "(chosen)", NULL, 1, 16777216, "Machine",
     "tokens that go through a layer at once", TRAIN | PLAN, NULL, AT(superblock)},
    {"threads", 't', NULL, CLI_INT, "COUNT", "(the physical cores)", NULL, 1, 4096, "Machine", "threads",
     RUNS, "FURLONG_THREADS", AT(threads)},
    {"isa", 0, NULL, CLI_CHOICE, "NAME", "(the best there is)", "ref|avx2|avx512|avx512bf16|amx", 0, 0, "Machine",
     "highest instruction set to use", RUNS | INSPECT | VERSION, "FURLONG_ISA", AT(isa)},
    {"dtype", 0, NULL, CLI_CHOICE, "TYPE", "(f32)", "f32|bf16", 0, 0, "Machine",
     "operands of matrix products and attention; weights, gradients, sums and statistics are f32 in both",
     TRAIN | EVAL | GENERATE | PLAN | BENCH, "FURLONG_DTYPE", AT(dtype)},
    {"seed", 's', NULL, CLI_INT, "NUMBER", "1", NULL, 0, 9007199254740992.0, "Machine",
     "seed of everything random; the same seed gives the same result", DEMO | TRAIN | GENERATE, "FURLONG_SEED",
     AT(seed)},

    {"json", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Output", "one JSON object as the last line of stdout",
     ALL_VERBS, NULL, AT(json)},
    {"help", 'h', NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Output", "this text", ALL_VERBS, NULL, AT(help)},
    {NULL, 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, NULL, NULL, 0, NULL, 0},
};
/* clang-format on */

_Static_assert(sizeof table / sizeof table[0] <= CLI_MAX_OPTIONS, "cli_options.source is too short");

const cli_option *cli_option_table(void)
{
    return table;
}

static bool name_is(const char *name, const char *text, size_t length)
{
    return name != NULL && strlen(name) == length && memcmp(name, text, length) == 0;
}

const cli_option *cli_option_find(cli_verb verb, const char *name, size_t length)
{
    for (const cli_option *option = table; option->name != NULL; option++) {
        if ((option->verbs & 1u << verb) != 0 &&
            (name_is(option->name, name, length) || name_is(option->alias, name, length)))
            return option;
    }
    return NULL;
}

/* ---- near names --------------------------------------------------------------------------------------------- */

#define NEAR_LENGTH 40

/* Edits (one letter put in, left out, changed) from one word to another; long words count as far. */
static int distance(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > NEAR_LENGTH || b_length > NEAR_LENGTH)
        return NEAR_LENGTH;
    int row[NEAR_LENGTH + 1];
    for (size_t j = 0; j <= b_length; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= b_length; j++) {
            int change = corner + (a[i - 1] != b[j - 1]);
            int leave = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            corner = row[j];
            row[j] = change < leave ? change : leave;
        }
    }
    return row[b_length];
}

static void nearest_of(const char *wanted, const char *name, const char **best, int *best_distance)
{
    if (name == NULL)
        return;
    size_t length = strlen(wanted);
    int d = length >= 3 && strncmp(name, wanted, length) == 0 ? 1 : distance(wanted, name);
    if (d < *best_distance) {
        *best_distance = d;
        *best = name;
    }
}

static int near_limit(const char *wanted)
{
    return strlen(wanted) < 4 ? 2 : (int)strlen(wanted) / 3 + 2;
}

const char *cli_option_nearest(cli_verb verb, const char *name)
{
    const char *best = NULL;
    int best_distance = near_limit(name);
    for (const cli_option *option = table; option->name != NULL; option++) {
        if ((option->verbs & 1u << verb) != 0) {
            nearest_of(name, option->name, &best, &best_distance);
            nearest_of(name, option->alias, &best, &best_distance);
        }
    }
    return best;
}

const char *cli_verb_nearest(const char *name)
{
    const char *best = NULL;
    int best_distance = near_limit(name);
    for (int verb = 0; verb < CLI_VERBS; verb++)
        if (!cli_verbs[verb].hidden)
            nearest_of(name, cli_verbs[verb].name, &best, &best_distance);
    return best;
}

cli_verb cli_verb_find(const char *name)
{
    int verb = 0;
    while (verb < CLI_VERBS && strcmp(cli_verbs[verb].name, name) != 0)
        verb++;
    return (cli_verb)verb;
}

/* ---- numbers ------------------------------------------------------------------------------------------------ */

bool cli_parse_real(const char *text, double *out)
{
    char *end = NULL;
    /* strtod also takes "inf", "nan" and hexadecimal, which nobody means here */
    if (text[0] == '\0' || strspn(text, "0123456789+-.eE") != strlen(text))
        return false;
    errno = 0;
    double value = strtod(text, &end);
    if (*end != '\0' || !isfinite(value))
        return false;
    *out = value;
    return true;
}

static bool parse_whole(const char *text, int64_t *out)
{
    char *end = NULL;
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return false;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *out = value;
    return true;
}

/* A number, whole or with a fraction, times 2^(10 k) for the k-th of `letters`. */
static bool parse_scaled(const char *text, const char *letters, bool bytes, int64_t *out)
{
    char number[CLI_UNIT];
    size_t length = strspn(text, "0123456789.");
    if (length == 0 || length >= sizeof number)
        return false;
    memcpy(number, text, length);
    number[length] = '\0';
    const char *unit = text + length;
    double scale = 1.0;
    if (*unit != '\0') {
        const char *found = strchr(letters, *unit >= 'a' && *unit <= 'z' ? *unit - 'a' + 'A' : *unit);
        if (found != NULL && *found != '\0') {
            scale = ldexp(1.0, 10 * (int)(found - letters + 1));
            unit++;
            if (bytes && *unit == 'i')
                unit++;
        }
        if (bytes && *unit == 'B')
            unit++;
        if (*unit != '\0')
            return false;
    }
    double value;
    int64_t whole;
    if (scale == 1.0) {
        if (!parse_whole(number, &whole))
            return false;
        *out = whole;
        return true;
    }
    if (!cli_parse_real(number, &value) || value * scale >= 9.2e18)
        return false;
    if (!bytes && value * scale != floor(value * scale)) /* of bytes, 2.6G is the whole ones below it */
        return false;
    *out = (int64_t)(value * scale);
    return true;
}

bool cli_parse_size(const char *text, int64_t *out)
{
    return parse_scaled(text, "KMGT", true, out);
}

bool cli_parse_count(const char *text, int64_t *out)
{
    return parse_scaled(text, "KM", false, out);
}

bool cli_parse_ramp(const char *text, cli_ramp *out)
{
    cli_ramp ramp = {0};
    while (*text != '\0') {
        char part[64];
        size_t length = strcspn(text, ",");
        if (length == 0 || length >= sizeof part || ramp.count == FUR_MAX_PHASES)
            return false;
        memcpy(part, text, length);
        part[length] = '\0';
        text += length;
        if (*text == ',' && *++text == '\0')
            return false;
        char *at = strchr(part, '@');
        fur_context_phase *phase = &ramp.phases[ramp.count];
        if (at != NULL)
            *at = '\0';
        char *row = strchr(part, '/');
        if (row != NULL)
            *row = '\0';
        if (row != NULL && (!cli_parse_count(row + 1, &phase->row_tokens) || phase->row_tokens < 1))
            return false;
        if (!cli_parse_count(part, &phase->context) || phase->context < 1)
            return false;
        if ((at != NULL && !cli_parse_count(at + 1, &phase->from_step)) || (at == NULL && ramp.count > 0))
            return false;
        if (ramp.count == 0 ? phase->from_step != 0 : phase->from_step <= phase[-1].from_step)
            return false;
        ramp.count++;
    }
    *out = ramp;
    return ramp.count > 0;
}

/* ---- setting ------------------------------------------------------------------------------------------------ */

static const char *expected(const cli_option *option)
{
    switch (option->type) {
    case CLI_INT: return "a whole number";
    case CLI_COUNT: return "a count such as 4096, 64K or 1M";
    case CLI_SIZE: return "a size such as 8G or 512M";
    case CLI_REAL: return "a number";
    case CLI_RAMP: return "contexts with rising steps such as 512,2048@800,8192@900";
    case CLI_FLAG:
    case CLI_TEXT:
    case CLI_LIST:
    case CLI_CHOICE: break;
    }
    return option->argument != NULL ? option->argument : "true or false";
}

static bool choice_has(const char *choices, const char *text)
{
    size_t length = strlen(text);
    for (const char *at = choices; length > 0; at++) {
        size_t part = strcspn(at, "|");
        if (part == length && memcmp(at, text, length) == 0)
            return true;
        at += part;
        if (*at == '\0')
            break;
    }
    return false;
}

static bool in_range(const cli_option *option, double value, const char *text, const char *where, char error[CLI_ERROR])
{
    if (value >= option->low && value <= option->high)
        return true;
    (void)snprintf(error, CLI_ERROR, "%s: expected %s from %.16g to %.16g, got '%s'", where, expected(option),
                   option->low, option->high, text);
    return false;
}

static void list_add(cli_list *list, const char *item)
{
    list->items = cli_resize(list->items, (size_t)list->count + 1, sizeof *list->items);
    list->items[list->count++] = item;
}

static bool set_number(const cli_option *option, char *field, const char *text, const char *where,
                       char error[CLI_ERROR])
{
    int64_t whole = 0;
    double real = 0.0;
    cli_ramp ramp;
    bool good = false;
    switch (option->type) {
    case CLI_INT: good = parse_whole(text, &whole); break;
    case CLI_COUNT: good = cli_parse_count(text, &whole); break;
    case CLI_SIZE: good = cli_parse_size(text, &whole); break;
    case CLI_REAL: good = cli_parse_real(text, &real); break;
    case CLI_RAMP: good = cli_parse_ramp(text, &ramp); break;
    case CLI_FLAG:
    case CLI_TEXT:
    case CLI_LIST:
    case CLI_CHOICE: break;
    }
    if (!good) {
        (void)snprintf(error, CLI_ERROR, "%s: expected %s, got '%s'", where, expected(option), text);
        return false;
    }
    if (option->type == CLI_RAMP) {
        memcpy(field, &ramp, sizeof ramp);
        return true;
    }
    if (!in_range(option, option->type == CLI_REAL ? real : (double)whole, text, where, error))
        return false;
    if (option->type == CLI_REAL)
        memcpy(field, &real, sizeof real);
    else
        memcpy(field, &whole, sizeof whole);
    return true;
}

bool cli_option_set(cli_options *options, const cli_option *option, const char *text, cli_source source,
                    const char *where, char error[CLI_ERROR])
{
    unsigned char *current = &options->source[option - table];
    if (*current > (unsigned char)source)
        return true;
    char *field = (char *)options + option->offset;
    bool yes = strcmp(text, "true") == 0;
    cli_list *list;
    switch (option->type) {
    case CLI_FLAG:
        if (!yes && strcmp(text, "false") != 0) {
            (void)snprintf(error, CLI_ERROR, "%s: expected true or false, got '%s'", where, text);
            return false;
        }
        memcpy(field, &yes, sizeof yes);
        break;
    case CLI_LIST:
        list = option->offset == AT(files) ? &options->files : &options->eval_files;
        if (*current != (unsigned char)source)
            list->count = 0; /* a stronger source replaces the list of a weaker one */
        list_add(list, text);
        break;
    case CLI_CHOICE:
        if (!choice_has(option->choices, text)) {
            (void)snprintf(error, CLI_ERROR, "%s: expected one of %s, got '%s'", where, option->choices, text);
            return false;
        }
        memcpy(field, &text, sizeof text);
        break;
    case CLI_TEXT:
        if (text[0] == '\0' && option->offset != AT(prompt)) {
            (void)snprintf(error, CLI_ERROR, "%s: expected %s, got an empty word", where, option->argument);
            return false;
        }
        memcpy(field, &text, sizeof text);
        break;
    case CLI_INT:
    case CLI_COUNT:
    case CLI_SIZE:
    case CLI_REAL:
    case CLI_RAMP:
        if (!set_number(option, field, text, where, error))
            return false;
        break;
    }
    *current = (unsigned char)source;
    return true;
}

cli_source cli_source_of(const cli_options *options, const char *name)
{
    for (const cli_option *option = table; option->name != NULL; option++)
        if (strcmp(option->name, name) == 0)
            return (cli_source)options->source[option - table];
    return CLI_FROM_DEFAULT;
}

bool cli_given(const cli_options *options, const char *name)
{
    return cli_source_of(options, name) != CLI_FROM_DEFAULT;
}

/* ---- the command line --------------------------------------------------------------------------------------- */

static const cli_option *find_letter(cli_verb verb, char letter)
{
    for (const cli_option *option = table; option->name != NULL; option++)
        if (option->letter == letter && letter != 0 && (option->verbs & 1u << verb) != 0)
            return option;
    return NULL;
}

static void unknown_option(cli_verb verb, const char *word, const char *name, char error[CLI_ERROR])
{
    const char *near = cli_option_nearest(verb, name);
    for (int other = 0; other < CLI_VERBS; other++) {
        if (!cli_verbs[other].hidden && cli_option_find((cli_verb)other, name, strlen(name)) != NULL) {
            (void)snprintf(error, CLI_ERROR, "%s is no option of %s, only of others such as %s", word,
                           cli_verbs[verb].name, cli_verbs[other].name);
            return;
        }
    }
    if (near != NULL)
        (void)snprintf(error, CLI_ERROR, "unknown option %s; did you mean --%s?", word, near);
    else
        (void)snprintf(error, CLI_ERROR, "unknown option %s; 'furlong help %s' lists them", word, cli_verbs[verb].name);
}

/* Sets the option of argv[i], with its value from the same word or the next. Returns the words used, 0 on error. */
static int take_option(cli_options *options, int argc, char *const *argv, int i, char error[CLI_ERROR])
{
    const char *word = argv[i], *value = NULL;
    const cli_option *option;
    char where[NEAR_LENGTH + 8];
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        (void)snprintf(where, sizeof where, "--%.*s", length > NEAR_LENGTH ? NEAR_LENGTH : (int)length, word + 2);
        option = cli_option_find(options->verb, word + 2, length);
        value = word[2 + length] == '=' ? word + 3 + length : NULL;
    } else {
        (void)snprintf(where, sizeof where, "-%c", word[1]);
        option = find_letter(options->verb, word[1]);
        value = word[2] != '\0' ? word + 2 : NULL;
    }
    if (option == NULL) {
        unknown_option(options->verb, where, where + (word[1] == '-' ? 2 : 1), error);
        return 0;
    }
    int used = 1;
    if (option->type == CLI_FLAG) {
        value = value != NULL ? value : "true";
    } else if (value == NULL) {
        bool there = i + 1 < argc && (argv[i + 1][0] != '-' || argv[i + 1][1] != '-' || argv[i + 1][2] == '\0');
        bool optional = option->argument[0] == '[';
        if (optional && (!there || argv[i + 1][0] == '-'))
            value = "latest";
        else if (!there) {
            (void)snprintf(error, CLI_ERROR, "%s: expected %s after it", where, expected(option));
            return 0;
        } else {
            value = argv[i + 1];
            used = 2;
        }
    }
    return cli_option_set(options, option, value, CLI_FROM_COMMAND, where, error) ? used : 0;
}

static bool take_words(cli_options *options, int argc, char *const *argv, char error[CLI_ERROR])
{
    const char *bare = cli_verbs[options->verb].positional;
    bool only_words = false, seen = false;
    for (int i = 0; i < argc;) {
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
            i++;
        } else if (!only_words && argv[i][0] == '-' && argv[i][1] != '\0') {
            int used = take_option(options, argc, argv, i, error);
            if (used == 0)
                return false;
            i += used;
        } else {
            const cli_option *option = bare != NULL ? cli_option_find(options->verb, bare, strlen(bare)) : NULL;
            if (option == NULL || (seen && option->type != CLI_LIST)) {
                (void)snprintf(error, CLI_ERROR, "unexpected word '%s'; 'furlong help %s' shows what %s takes", argv[i],
                               cli_verbs[options->verb].name, cli_verbs[options->verb].name);
                return false;
            }
            if (!cli_option_set(options, option, argv[i], CLI_FROM_COMMAND, option->argument, error))
                return false;
            seen = true;
            i++;
        }
    }
    return true;
}

/* ---- environment and file ----------------------------------------------------------------------------------- */

static bool take_environment(cli_options *options, char error[CLI_ERROR])
{
    for (const cli_option *option = table; option->name != NULL; option++) {
        const char *text = option->environment != NULL && (option->verbs & 1u << options->verb) != 0
                               ? getenv(option->environment)
                               : NULL;
        if (text != NULL && text[0] != '\0' &&
            !cli_option_set(options, option, text, CLI_FROM_ENVIRONMENT, option->environment, error))
            return false;
    }
    return true;
}

static const char *own_text(cli_options *options, const char *text)
{
    options->owned = cli_resize(options->owned, (size_t)options->owned_count + 1, sizeof *options->owned);
    return options->owned[options->owned_count++] = cli_copy(text);
}

/* One member of the file; lists are arrays. */
static bool take_json(cli_options *options, const char *path, const char *key, const json_t *value,
                      char error[CLI_ERROR])
{
    char name[NEAR_LENGTH + 1], number[64];
    size_t length = strlen(key);
    const cli_option *option = NULL;
    if (length <= NEAR_LENGTH) {
        memcpy(name, key, length + 1);
        for (char *line; (line = strchr(name, '_')) != NULL;)
            *line = '-';
        option = cli_option_find(options->verb, name, length);
    }
    if (option == NULL) {
        const char *near = length <= NEAR_LENGTH ? cli_option_nearest(options->verb, name) : NULL;
        (void)snprintf(error, CLI_ERROR, "%.200s: \"%.60s\" is no option of %s%s%s", path, key,
                       cli_verbs[options->verb].name, near != NULL ? "; did you mean " : "", near != NULL ? near : "");
        return false;
    }
    char where[256];
    (void)snprintf(where, sizeof where, "%.180s: \"%s\"", path, name);
    if (json_is_array(value) && option->type == CLI_LIST) {
        for (size_t i = 0; i < json_array_size(value); i++)
            if (!take_json(options, path, key, json_array_get(value, i), error))
                return false;
        return true;
    }
    const char *text = NULL;
    if (json_is_string(value))
        text = json_string_value(value);
    else if (json_is_boolean(value))
        text = json_is_true(value) ? "true" : "false";
    else if (json_is_integer(value))
        (void)snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_real(value))
        (void)snprintf(number, sizeof number, "%.17g", json_real_value(value));
    else {
        (void)snprintf(error, CLI_ERROR, "%s: expected %s", where, expected(option));
        return false;
    }
    text = own_text(options, text != NULL ? text : number);
    return cli_option_set(options, option, text, CLI_FROM_CONFIG, where, error);
}

int cli_options_read(cli_options *options, const char *path, char error[CLI_ERROR])
{
    json_error_t reason;
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)snprintf(error, CLI_ERROR, "%.300s: %s", path, strerror(errno));
        return 3;
    }
    json_t *root = json_loadf(file, JSON_REJECT_DUPLICATES, &reason);
    (void)fclose(file);
    if (!json_is_object(root)) {
        if (root == NULL)
            (void)snprintf(error, CLI_ERROR, "%.200s: line %d: expected a JSON object, but %.150s", path, reason.line,
                           reason.text);
        else
            (void)snprintf(error, CLI_ERROR, "%.300s: expected a JSON object of options", path);
        json_decref(root);
        return 3;
    }
    json_t *program = json_object_get(root, "program"), *value;
    json_t *member = json_object_get(json_is_object(program) ? program : root, "options");
    json_t *object = json_is_object(member) ? member : root;
    const char *key;
    int code = 0;
    json_object_foreach(object, key, value)
    {
        if (code == 0 && !take_json(options, path, key, value, error))
            code = 3;
    }
    json_decref(root);
    return code;
}

int cli_options_parse(cli_options *options, cli_verb verb, int argc, char *const *argv, char error[CLI_ERROR])
{
    memset(options, 0, sizeof *options);
    options->verb = verb;
    error[0] = '\0';
    for (const cli_option *option = table; option->name != NULL; option++) {
        if (option->fallback != NULL && option->fallback[0] != '(' &&
            !cli_option_set(options, option, option->fallback, CLI_FROM_DEFAULT, option->name, error))
            return 2;
    }
    if (!take_words(options, argc, argv, error))
        return 2;
    if (options->help)
        return 0;
    if (!take_environment(options, error))
        return 2;
    return options->config != NULL ? cli_options_read(options, options->config, error) : 0;
}

void cli_options_clear(cli_options *options)
{
    for (int64_t i = 0; i < options->owned_count; i++)
        cli_free(options->owned[i]);
    cli_free(options->owned);
    cli_free(options->files.items);
    cli_free(options->eval_files.items);
    memset(options, 0, sizeof *options);
}
