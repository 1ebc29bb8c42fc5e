/* SPDX-License-Identifier: Apache-2.0 */
/* The options of every verb in one table (options.c). Parsing, help, man pages, completion and the environment all
 * read that table, so that none of them can say something else than the program does. */
#ifndef FUR_CLI_OPTIONS_H
#define FUR_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "furlong/furlong.h"

typedef enum cli_verb {
    CLI_DEMO,
    CLI_TRAIN,
    CLI_FINETUNE,
    CLI_EVAL,
    CLI_AUDIT,
    CLI_GENERATE,
    CLI_CHAT,
    CLI_CONVERT,
    CLI_PLAN,
    CLI_BENCH,
    CLI_INSPECT,
    CLI_DOCTOR,
    CLI_VERSION,
    CLI_FIT_ATTENTION,
    CLI_TOKENIZER,
    CLI_LONG_STEP, /* hidden: one step of the demo in a process of its own */
    CLI_VERBS
} cli_verb;

typedef struct cli_verb_info {
    const char *name;
    const char *positional; /* long name of the option that a bare word sets, or NULL */
    const char *usage;      /* after "furlong VERB" */
    const char *summary;    /* one line */
    const char *text;       /* paragraphs, separated by blank lines */
    const char *examples;   /* one a line: command, tab, what it does */
    bool hidden;
} cli_verb_info;
extern const cli_verb_info cli_verbs[CLI_VERBS];

typedef enum cli_type {
    CLI_FLAG,   /* bool */
    CLI_TEXT,   /* const char * */
    CLI_LIST,   /* cli_list: the option repeats */
    CLI_INT,    /* int64_t, plain digits */
    CLI_COUNT,  /* int64_t; K and M are 2^10 and 2^20 */
    CLI_SIZE,   /* int64_t bytes; K, M, G, T are powers of 2^10 */
    CLI_REAL,   /* double */
    CLI_CHOICE, /* const char *: one of `choices` */
    CLI_RAMP    /* cli_ramp */
} cli_type;

typedef struct cli_list {
    const char **items;
    int64_t count;
} cli_list;

/* "512,2048@800,8192@900": context, then context@step; context/row says how many tokens the rows of that stretch have.
 */
typedef struct cli_ramp {
    int count;
    fur_context_phase phases[FUR_MAX_PHASES];
} cli_ramp;

typedef struct cli_option {
    const char *name;  /* long name, without dashes */
    char letter;       /* short name or 0 */
    const char *alias; /* second long name or NULL */
    cli_type type;
    const char *argument; /* word for the help, NULL for flags */
    const char *fallback; /* default, parsed like an argument; in parentheses: only said, chosen elsewhere */
    const char *choices;  /* CLI_CHOICE: "a|b|c" */
    double low, high;     /* allowed values of numbers */
    const char *group;    /* heading in the help */
    const char *help;
    unsigned verbs;          /* bit 1 << cli_verb */
    const char *environment; /* variable that sets it, or NULL */
    size_t offset;           /* into cli_options */
} cli_option;

/* Weakest first. A file named by --config was asked for in this very command, so it wins over the environment. */
typedef enum cli_source { CLI_FROM_DEFAULT = 0, CLI_FROM_ENVIRONMENT, CLI_FROM_CONFIG, CLI_FROM_COMMAND } cli_source;

#define CLI_MAX_OPTIONS 176

typedef struct cli_options {
    cli_verb verb;
    unsigned char source[CLI_MAX_OPTIONS]; /* cli_source of each row of the table */
    char **owned;                          /* texts of the --config file that the fields point into */
    int64_t owned_count;

    /* model and data */
    const char *model, *preset, *tokenizer, *attention, *projection, *prompt;
    cli_list files, eval_files;
    const char *task;
    const char *window, *position, *rope_scaling;
    int64_t sink_tokens;
    bool sink_logits, qk_norm;
    double softcap, dropout, attention_dropout;
    int64_t degree, chunk, max_features;
    double bound, max_error;
    int64_t lookup_bits, lookup_rows;
    double lookup_temperature, table_lr;
    const char *table_optimizer, *table_type, *type;
    bool far_bias, fine_gradient;
    int64_t context, row_tokens;
    cli_ramp ramp;
    bool skip_bad;
    double held_out;
    /* memory and machine */
    int64_t memory, threads, superblock, seed;
    int64_t layers, disk;
    const char *isa, *dtype, *keep, *disk_dir, *store, *store_dtype;
    /* training */
    double lr, min_lr, weight_decay, grad_clip, epochs, lora_alpha;
    int64_t lora_rank;
    const char *lora_targets;
    int64_t warmup_steps, max_steps, grad_accum, save_steps, eval_steps, log_steps, error_steps, keep_checkpoints,
        eval_tokens;
    const char *output_dir, *resume, *config;
    bool skip_nonfinite, dry_run;
    /* generation and evaluation */
    int64_t predict, top_k, max_tokens, stride;
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int64_t repeat_last_n;
    cli_list stops;
    bool ignore_eos;
    const char *system;
    /* plan, bench, demo */
    const char *purpose, *mode, *kind, *codes;
    bool longest, bidirectional, quick, cold;
    int64_t tokens, heads, kv_heads, head_dim, in, out;
    double train_seconds;
    /* fit-attention */
    const char *input, *output, *method, *route, *sketch, *curvature, *picture, *planted;
    int64_t rank, starts, curvature_rows, joint_heads, fit_steps;
    double tolerance, ridge, max_logit, max_seconds, cut, noise, spectrum;
    bool causal, continuation, factored, capture;
    int64_t layer, head;
    const char *install;
    /* tokenizer */
    const char *action;
    int64_t vocabulary;
    bool add_special_tokens;
    /* output */
    bool json, help;
} cli_options;

#define CLI_ERROR 512

/* NULL-terminated by a row without a name. */
const cli_option *cli_option_table(void);
/* Exact name or alias, for a verb; NULL if there is none. */
const cli_option *cli_option_find(cli_verb verb, const char *name, size_t length);

/* Index of the verb, or CLI_VERBS. */
cli_verb cli_verb_find(const char *name);
/* The known verb or option name nearest to `name`; NULL where none is near. */
const char *cli_verb_nearest(const char *name);
const char *cli_option_nearest(cli_verb verb, const char *name);

/* Fills *options from defaults, environment, the file of --config and the arguments after the verb; the later ones
 * win. Returns 0, or the exit code with one line in `error`: 2 for a wrong command line, 3 for a bad --config file. */
int cli_options_parse(cli_options *options, cli_verb verb, int argc, char *const *argv, char error[CLI_ERROR]);
void cli_options_clear(cli_options *options);
/* Sets one option from text; what `where` names (such as "--lr" or "FURLONG_LR") begins the error line. */
bool cli_option_set(cli_options *options, const cli_option *option, const char *text, cli_source source,
                    const char *where, char error[CLI_ERROR]);
/* Options read from a JSON object: the file itself, its member "options", or "program.options" as in a run.json.
 * Only those not set by a stronger source are taken. */
int cli_options_read(cli_options *options, const char *path, char error[CLI_ERROR]);

/* Where the value came from; `name` must be in the table. */
cli_source cli_source_of(const cli_options *options, const char *name);
/* True unless the value is the table's default. */
bool cli_given(const cli_options *options, const char *name);

/* Numbers as the command line takes them. False where the text is not one or does not fit int64_t. */
bool cli_parse_size(const char *text, int64_t *out);  /* 8G, 512M, 1.5G, 4096 */
bool cli_parse_count(const char *text, int64_t *out); /* 64K, 1M, 4096 */
bool cli_parse_real(const char *text, double *out);
bool cli_parse_ramp(const char *text, cli_ramp *out);

#endif
