/* SPDX-License-Identifier: Apache-2.0 */
/* Every option: its names, limits, words, verbs and place. Help, man pages and completion are made from it. */
#include <stddef.h>

#include "options.h"

#define AT(field) offsetof(cli_options, field)
#define DEMO      (1u << CLI_DEMO)
#define TRAIN     (1u << CLI_TRAIN)
#define EVAL      (1u << CLI_EVAL)
#define AUDIT     (1u << CLI_AUDIT)
#define GENERATE  (1u << CLI_GENERATE)
#define CONVERT   (1u << CLI_CONVERT)
#define PLAN      (1u << CLI_PLAN)
#define BENCH     (1u << CLI_BENCH)
#define INSPECT   (1u << CLI_INSPECT)
#define DOCTOR    (1u << CLI_DOCTOR)
#define VERSION   (1u << CLI_VERSION)
#define FIT       (1u << CLI_FIT_ATTENTION)
#define LONG_STEP (1u << CLI_LONG_STEP)
#define TOKENIZER (1u << CLI_TOKENIZER)
#define ALL_VERBS ((1u << CLI_VERBS) - 1u)
#define RUNS      (DEMO | TRAIN | EVAL | AUDIT | GENERATE | PLAN | BENCH | DOCTOR | FIT | LONG_STEP)

#define TEBI 1099511627776.0

/* clang-format off */
static const cli_option table[] = {
    {"model", 'm', NULL, CLI_TEXT, "FOLDER", NULL, NULL, 0, 0, "Model",
     "model in Hugging Face form (config.json, model.safetensors), a GGUF file, or an output folder of train, whose "
     "latest checkpoint is taken; for train: the weights to start from",
     TRAIN | EVAL | AUDIT | GENERATE | CONVERT | PLAN | BENCH | INSPECT | FIT | LONG_STEP | TOKENIZER, "FURLONG_MODEL", AT(model)},
    {"preset", 0, NULL, CLI_TEXT, "NAME", "(bytes-1m)", NULL, 0, 0, "Model",
     "shape of a new model: bytes-1m, bytes-4m, gpt2-124m, llama-135m, llama-1b; with -almost-linear behind it, heads of 32 "
     "and all but every fourth layer almost-linear; with -lookup, tables for all maps; with -hybrid, for the feedforward; "
     "mf-tiny, mf-small",
     TRAIN | PLAN | BENCH, "FURLONG_PRESET", AT(preset)},
    {"ctx-size", 'c', "context", CLI_COUNT, "TOKENS", "(chosen)", NULL, 1, TEBI, "Model",
     "longest document: tokens that see each other. Longer ones are cut into pieces of this length, and counted",
     TRAIN | EVAL | AUDIT | PLAN | BENCH | INSPECT | FIT | LONG_STEP, "FURLONG_CTX_SIZE", AT(context)},
    {"layers", 0, NULL, CLI_INT, "COUNT", "(the preset's)", NULL, 1, 512, "Model",
     "layers of a preset instead of its own number", TRAIN | PLAN | BENCH, NULL, AT(layers)},
    {"attention", 0, NULL, CLI_TEXT, "KINDS", "(the preset's)", NULL, 0, 0, "Model",
     "attention of the layers: one kind for all, or kind@first-last,...", TRAIN | PLAN | BENCH, NULL, AT(attention)},
    {"projection", 0, NULL, CLI_TEXT, "KINDS", "(the preset's)", NULL, 0, 0, "Model",
     "kind of a layer's maps, dense or lookup: one for all, or ffn=kind,qkvo=kind. lookup: signs of the input pick rows "
     "of learned tables, which take far more memory and far fewer multiplications", TRAIN | PLAN, NULL, AT(projection)},
    {"lookup-bits", 0, NULL, CLI_INT, "BITS", "(8)", NULL, 1, 12, "Model",
     "look-up maps: signs that pick a row of a table, which has 2^BITS rows; the feedforward's second map has two more",
     TRAIN | PLAN | BENCH, NULL, AT(lookup_bits)},
    {"lookup-temperature", 0, NULL, CLI_REAL, "T", "(none)", NULL, 0, 1000, "Model",
     "look-up maps: rows are weighted by their probability at this temperature, not by the released score",
     TRAIN | PLAN, NULL, AT(lookup_temperature)},
    {"lookup-rows", 0, NULL, CLI_INT, "COUNT", "(the preset's)", NULL, 1, 2, "Model",
     "look-up maps: rows read of a table; the second lies across the nearest change of sign, so that outputs do not jump "
     "there. Models with tables for the feedforward alone learn from the start with 2, which is their default",
     TRAIN | PLAN, NULL, AT(lookup_rows)},
    {"table-type", 0, NULL, CLI_CHOICE, "TYPE", "(as they are)", "f32|bf16|int8", 0, 0, "Model",
     "what look-up tables are stored as: bf16 takes half the bytes of f32, int8 with a scale a row about a quarter",
     CONVERT | BENCH, NULL, AT(table_type)},
    {"type", 0, NULL, CLI_CHOICE, "TYPE", "f32", "f32|bf16|q8_0", 0, 0, "Model",
     "what matrices are stored as in a GGUF file: q8_0 has 8 bits and for 32 numbers a scale of 16; vectors stay f32",
     CONVERT, NULL, AT(type)},
    {"window", 0, NULL, CLI_TEXT, "TOKENS", "(none)", NULL, 0, 0, "Model",
     "tokens that a token sees, itself among them: one number for all layers, or 4096@0-9,none@10-11; for bench one "
     "number. Of almost-linear layers: tokens before the own chunk that are seen one by one", TRAIN | PLAN | BENCH, NULL, AT(window)},
    {"degree", 0, NULL, CLI_INT, "P", "(2)", NULL, 1, 6, "Model",
     "almost-linear: degree of the polynomial in place of the exponential of far keys", TRAIN | PLAN | BENCH | AUDIT,
     NULL, AT(degree)},
    {"bound", 0, NULL, CLI_REAL, "B", "(1)", NULL, 1e-6, 16, "Model",
     "almost-linear: far logits are at most this in size; near ones are not bounded", TRAIN | PLAN | BENCH, NULL,
     AT(bound)},
    {"chunk", 0, NULL, CLI_COUNT, "TOKENS", "(128)", NULL, 16, 4096, "Model",
     "almost-linear: tokens of a chunk, which see each other one by one, and --window tokens before it",
     TRAIN | PLAN | BENCH | AUDIT, NULL, AT(chunk)},
    {"far-bias", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Model",
     "almost-linear: each head learns a number that is added to its far logits", TRAIN | PLAN, NULL, AT(far_bias)},
    {"fine-gradient", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Model",
     "almost-linear: gradients by a polynomial of one degree more, as near those of exact attention as the output is",
     TRAIN | PLAN, NULL, AT(fine_gradient)},
    {"max-features", 0, NULL, CLI_COUNT, "COUNT", "(64K)", NULL, 1, 1048576, "Model",
     "almost-linear: most features, C(head width + degree, degree)", TRAIN | PLAN | BENCH | AUDIT, NULL,
     AT(max_features)},
    {"max-error", 0, NULL, CLI_REAL, "SHARE", "(none; 0.001 for audit)", NULL, 1e-9, 999999, "Model",
     "almost-linear: a head whose output is off by more than this share of the exact one sees its far keys one by one "
     "from then on; memory for that is planned", TRAIN | PLAN | AUDIT, NULL, AT(max_error)},
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
    {"tokenizer", 0, NULL, CLI_TEXT, "PATH", "(the model's, else bytes)", NULL, 0, 0, "Data",
     "how text becomes tokens: bytes, a tokenizer.json, or a folder that holds one. A new model's vocabulary becomes that of "
     "the tokenizer", TRAIN | EVAL | AUDIT | GENERATE | PLAN | FIT | TOKENIZER, NULL, AT(tokenizer)},
    {"action", 0, NULL, CLI_CHOICE, "ACTION", "inspect", "train|encode|decode|inspect", 0, 0, "Data",
     "what to do; the word after tokenizer", TOKENIZER, NULL, AT(action)},
    {"vocab-size", 0, NULL, CLI_COUNT, "TOKENS", "8192", NULL, 257, 4000000, "Data",
     "tokens to learn: 256 bytes, merges, and one for the end of a text", TOKENIZER, NULL, AT(vocabulary)},
    {"add-special-tokens", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Data",
     "encode with the tokens that the tokenizer puts around a text, such as its first", TOKENIZER, NULL, AT(add_special_tokens)},

    {"file", 'f', NULL, CLI_LIST, "PATH", NULL, NULL, 0, 0, "Data",
     "text, .jsonl with a field \"text\", .npy, any of these as .zst, a folder, or - for standard input; repeats",
     DEMO | TRAIN | EVAL | AUDIT | GENERATE | INSPECT | FIT | LONG_STEP | TOKENIZER, NULL, AT(files)},
    {"eval-file", 0, NULL, CLI_LIST, "PATH", NULL, NULL, 0, 0, "Data",
     "text to evaluate on instead of the held-out end of --file; repeats", TRAIN, NULL, AT(eval_files)},
    {"held-out", 0, NULL, CLI_REAL, "SHARE", "0.1", NULL, 0, 0.9, "Data",
     "share of the end of the text that is kept for evaluation; of the sequences of a fit, or of its rows where these are "
     "few", TRAIN | FIT, NULL, AT(held_out)},
    {"task", 0, NULL, CLI_TEXT, "PATH", NULL, NULL, 0, 0, "Data",
     ".jsonl of multiple-choice items, also as .zst, or - for standard input: lines of {\"prompt\": TEXT, \"choices\": [TEXT, "
     "TEXT, ...], \"answer\": NUMBER FROM 0}", EVAL, NULL, AT(task)},
    {"skip-bad", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Data",
     "skip lines of a .jsonl that do not parse, and count them, instead of stopping at the first",
     TRAIN | EVAL | AUDIT, NULL, AT(skip_bad)},
    {"max-tokens", 0, NULL, CLI_COUNT, "TOKENS", "(all)", NULL, 0, TEBI, "Data",
     "evaluate, or record for a fit, at most this many tokens", EVAL | AUDIT | INSPECT | FIT, NULL, AT(max_tokens)},

    {"prompt", 'p', NULL, CLI_TEXT, "TEXT", NULL, NULL, 0, 0, "Generation",
     "text to continue, or to encode (or --file, or standard input)", GENERATE | TOKENIZER, NULL, AT(prompt)},
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
    {"table-lr", 0, NULL, CLI_REAL, "FACTOR", "1", NULL, 0, 1000, "Training",
     "look-up maps: learning rate of tables, as a multiple of --lr", TRAIN, NULL, AT(table_lr)},
    {"table-optimizer", 0, NULL, CLI_CHOICE, "NAME", "lazy", "lazy|adam", 0, 0, "Training",
     "look-up maps: lazy moves rows when a step uses them, with bf16 momentum and one second moment a row; adam moves all "
     "in every step, with 6 more bytes a number", TRAIN | PLAN, NULL, AT(table_optimizer)},
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
     "folder of the run, or of the model that audit or convert makes, or convert's X.gguf; never overwrites another",
     DEMO | TRAIN | AUDIT | CONVERT | LONG_STEP, "FURLONG_OUTPUT_DIR", AT(output_dir)},
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

    {"mode", 0, NULL, CLI_CHOICE, "MODE", "peak", "peak|attention|projection|step|decode|longest", 0, 0, "Bench",
     "what to measure; the word after bench", BENCH, NULL, AT(mode)},
    {"kind", 0, NULL, CLI_CHOICE, "KIND", "(exact, dense)", "exact|almost-linear|dense|lookup", 0, 0, "Bench",
     "kind of attention or projection", BENCH, NULL, AT(kind)},
    {"tokens", 0, NULL, CLI_COUNT, "TOKENS", "4096", NULL, 1, TEBI, "Bench", "length of the sequence; of bench decode: of the prompt (16)",
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
    {"codes", 0, NULL, CLI_CHOICE, "HOW", "uniform", "uniform|skewed", 0, 0, "Bench",
     "which rows tokens read: any alike, or as words by Zipf's law", BENCH, NULL, AT(codes)},
    {"cold", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Bench",
     "decode: empty the caches before each token; projection, lookup: before each call (with --tokens 1 always)", BENCH,
     NULL, AT(cold)},

    {"quick", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Demo", "30 seconds of training and a step over 8,192 bytes",
     DEMO, NULL, AT(quick)},
    {"seconds", 0, NULL, CLI_REAL, "SECONDS", "(120, or 30 with --quick)", NULL, 1, 86400, "Demo",
     "seconds of training, from which the number of steps is chosen", DEMO, NULL, AT(train_seconds)},

    {"input", 'i', NULL, CLI_TEXT, "FILE", NULL, NULL, 0, 0, "Fit",
     ".npz or .safetensors with x (or a1, a2, a3) and b, [n, d] or [sequences, n, d]; optional lengths, segments, "
     "weights, and a start q, k; of tokenizer decode: .npy of token ids", FIT | TOKENIZER, NULL, AT(input)},
    {"output", 'o', NULL, CLI_TEXT, "FILE", NULL, NULL, 0, 0, "Fit",
     ".safetensors for q, k, v, and x, y in f64; written for every end of a run, over what was there. Of tokenizer: a folder "
     "(train), .npy of token ids (encode) or the text (decode)", FIT | TOKENIZER, NULL, AT(output)},
    {"causal", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Fit", "a row sees those of its sequence up to its own",
     FIT, NULL, AT(causal)},
    {"rank", 0, NULL, CLI_INT, "RANK", "(full)", NULL, 1, 8192, "Fit",
     "width of q and k: X is cut to it where that changes logits least, Y fitted again, and both polished as long as "
     "held-out rows gain", FIT, NULL, AT(rank)},
    {"factored", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Fit",
     "q and k of --rank are the unknowns from the beginning, for wide inputs", FIT, NULL, AT(factored)},
    {"joint-heads", 0, NULL, CLI_INT, "COUNT", "1", NULL, 1, 256, "Fit",
     "heads whose outputs add up to b, fitted together", FIT, NULL, AT(joint_heads)},
    {"tol", 0, NULL, CLI_REAL, "LOSS", "(the floor of the stored type)", NULL, 0, 1, "Fit",
     "relative loss at which it is done", FIT, NULL, AT(tolerance)},
    {"steps", 0, NULL, CLI_INT, "COUNT", "60", NULL, 0, 100000, "Fit", "steps of a start at most", FIT, NULL,
     AT(fit_steps)},
    {"max-seconds", 0, NULL, CLI_REAL, "SECONDS", "(none)", NULL, 0, 1e9, "Fit",
     "no step is begun after so long", FIT, NULL, AT(max_seconds)},
    {"starts", 0, NULL, CLI_INT, "COUNT", "4", NULL, 1, 32, "Fit",
     "random starts at most; the first that reaches --tol ends the search", FIT, NULL, AT(starts)},
    {"ridge", 0, NULL, CLI_REAL, "SHARE", "0", NULL, 0, 1e6, "Fit",
     "weight of half the mean square of logits, as a share of the loss of predicting the mean", FIT, NULL, AT(ridge)},
    {"continuation", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Fit",
     "begin with a ridge of 0.1 that falls tenfold to --ridge", FIT, NULL, AT(continuation)},
    {"max-logit", 0, NULL, CLI_REAL, "BOUND", "(none)", NULL, 0, 1e9, "Fit",
     "the ridge is raised until no logit is larger in size, so that almost-linear attention applies", FIT, NULL,
     AT(max_logit)},
    {"method", 0, NULL, CLI_CHOICE, "METHOD", "gauss-newton", "gauss-newton|newton|sketched-newton|linear", 0, 0, "Fit",
     "gauss-newton, newton (second-order term), sketched-newton (the paper's: curvature of some rows), linear (no "
     "softmax, closed form)", FIT, NULL, AT(method)},
    {"sketch", 0, NULL, CLI_CHOICE, "KIND", "uniform", "uniform|leverage|count", 0, 0, "Fit",
     "how sketched-newton takes rows: at random, by leverage, or hashed into buckets (CountSketch)", FIT, NULL,
     AT(sketch)},
    {"curvature-rows", 0, NULL, CLI_COUNT, "ROWS", "(all)", NULL, 1, TEBI, "Fit",
     "rows, or buckets, that the curvature of a step is taken from, drawn anew in each", FIT, NULL,
     AT(curvature_rows)},
    {"route", 0, NULL, CLI_CHOICE, "ROUTE", "auto", "auto|dense|stored|matrix-free", 0, 0, "Fit",
     "how curvature is held; auto: the cheapest that fits --memory", FIT, NULL, AT(route)},
    {"curvature", 0, NULL, CLI_CHOICE, "TYPE", "f32", "f32|f64", 0, 0, "Fit",
     "type of the curvature; loss and gradient are f64 always", FIT, NULL, AT(curvature)},
    {"cut", 0, NULL, CLI_REAL, "SHARE", "(16 units of the stored type, at least 1e-9)", NULL, 0, 0.5, "Fit",
     "directions of the inputs with a singular value below this share of the largest are left out", FIT, NULL, AT(cut)},
    {"picture", 0, NULL, CLI_TEXT, "FILE.svg", NULL, NULL, 0, 0, "Fit", "loss of every step, as a picture", FIT, NULL,
     AT(picture)},
    {"capture", 0, NULL, CLI_FLAG, NULL, NULL, NULL, 0, 0, "Fit",
     "instead of fitting: record --head of --layer of --model on --file into --output, in rows of --ctx-size; with "
     "--planted, that problem", FIT, NULL,
     AT(capture)},
    {"install", 0, NULL, CLI_TEXT, "FOLDER", NULL, NULL, 0, 0, "Fit",
     "put the fitted head in place of --head of --layer of --model and save the model here; never overwrites", FIT,
     NULL, AT(install)},
    {"layer", 0, NULL, CLI_INT, "NUMBER", "0", NULL, 0, 511, "Fit", "layer of the head, from 0", FIT, NULL, AT(layer)},
    {"head", 0, NULL, CLI_INT, "NUMBER", "0", NULL, 0, 65535, "Fit", "head within the layer, from 0", FIT, NULL,
     AT(head)},
    {"planted", 0, NULL, CLI_TEXT, "SxNxD", NULL, NULL, 0, 0, "Fit",
     "instead of --input: S sequences of N rows of width D through a head drawn with --seed, as 16x256x64", FIT, NULL,
     AT(planted)},
    {"noise", 0, NULL, CLI_REAL, "SHARE", "0", NULL, 0, 100, "Fit", "of the planted output, of its standard deviation",
     FIT, NULL, AT(noise)},
    {"spectrum", 0, NULL, CLI_REAL, "POWER", "0", NULL, 0, 8, "Fit",
     "direction i of the planted rows has size i^-POWER; 0: all the same", FIT, NULL, AT(spectrum)},

    {"memory", 0, NULL, CLI_SIZE, "SIZE", "(80 % of what is available)", NULL, 1048576, 1e18, "Machine",
     "limit on the peak resident memory of the whole process: 8G, 512M; G is 2^30",
     TRAIN | EVAL | AUDIT | GENERATE | PLAN | BENCH | INSPECT | FIT | LONG_STEP, "FURLONG_MEMORY", AT(memory)},
    {"disk", 0, NULL, CLI_SIZE, "SIZE", "(80 % of what is free there)", NULL, 0, 1e18, "Machine",
     "limit on what a step may put on disk where --memory does not hold it: layer inputs, attention outputs, optimizer "
     "state, keys of heads that wait; 0: nothing", TRAIN | PLAN | BENCH, "FURLONG_DISK", AT(disk)},
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
     RUNS | INSPECT, "FURLONG_THREADS", AT(threads)},
    {"isa", 0, NULL, CLI_CHOICE, "NAME", "(the best there is)", "ref|avx2|avx512|avx512bf16|amx", 0, 0, "Machine",
     "highest instruction set to use", RUNS | CONVERT | INSPECT | VERSION, "FURLONG_ISA", AT(isa)},
    {"dtype", 0, NULL, CLI_CHOICE, "TYPE", "(f32)", "f32|bf16", 0, 0, "Machine",
     "operands of matrix products and attention; weights, gradients, sums and statistics are f32 in both",
     TRAIN | EVAL | AUDIT | GENERATE | PLAN | BENCH, "FURLONG_DTYPE", AT(dtype)},
    {"seed", 's', NULL, CLI_INT, "NUMBER", "1", NULL, 0, 9007199254740992.0, "Machine",
     "seed of everything random; the same seed gives the same result", DEMO | TRAIN | AUDIT | GENERATE | FIT, "FURLONG_SEED",
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
