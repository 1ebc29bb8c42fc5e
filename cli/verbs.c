/* SPDX-License-Identifier: Apache-2.0 */
/* What each verb is, in words: the help and the man pages are made from this and from the option table. */
#include "options.h"

const cli_verb_info cli_verbs[CLI_VERBS] = {
    [CLI_DEMO] =
        {"demo", "file", "TEXT [options]", "the whole story in a few minutes, on a text of yours",
         "Shows the machine and what fits into it, trains the preset bytes-1m on the text for about two minutes, "
         "prints two samples, then takes one full optimizer step with exact attention over the longest document, up to "
         "65,536 bytes, that is planned to end in 150 seconds, inside 512 MiB.\n\n"
         "Writes report.html, metrics.jsonl, TensorBoard events, a checkpoint in Hugging Face form and next.sh into "
         "furlong-demo (or furlong-demo-2, ...: nothing is overwritten).\n\n"
         "The demo is a test too: it fails if the measured peak is above the plan, or the plan more than 15 % above "
         "the measurement.",
         "furlong demo book.txt\tthe demo on a text\n"
         "furlong demo book.txt --quick\t30 seconds of training and a shorter step",
         false},
    [CLI_TRAIN] =
        {"train", NULL, "-f FILE [options]", "trains a model inside a memory limit",
         "furlong train -f book.txt alone works: preset, context, a held-out tenth and the output folder are chosen "
         "and printed. The plan is made first; what does not fit --memory is refused before any work.\n\n"
         "The output folder holds metrics.jsonl, run.json (all settings; --config run.json repeats the run), "
         "step-NNNNNN folders in Hugging Face form, latest, report.html and TensorBoard events. Ctrl-C saves a "
         "checkpoint and ends; --resume goes on to the same bits. A second Ctrl-C ends at once.",
         "furlong train -f book.txt\ttrains on a text; everything else is chosen\n"
         "furlong train -f book.txt --preset bytes-4m -c 8K --memory 2G --max-steps 2000\ta larger model, longer "
         "documents, at most 2 GiB\n"
         "furlong train -f corpus/ --preset gpt2-124m -c 16K --dry-run\twhat it would take\n"
         "furlong train --resume\tgoes on with the newest run",
         false},
    [CLI_FINETUNE] =
        {"finetune", NULL, "-m FOLDER -f FILE [options]", "trains a model further, as a whole or by adapters",
         "As train, but from a model that is there, with other defaults: adapters of rank 16 beside every map of the layers "
         "(LoRA) are trained and nothing else, once through the text. --lora-rank 0 trains the whole model.\n\n"
         "Lines of a .jsonl file are documents: {\"text\": ...}, or {\"prompt\": ..., \"completion\": ...}, of which the prompt "
         "is read and the completion learnt. Short documents are packed into one row and do not see each other. The last tenth "
         "is held out, or --eval-file is evaluated on.\n\n"
         "Adapters are saved in PEFT's form (adapter_config.json, adapter_model.safetensors), with the folder of the model that "
         "they belong to; every verb reads such a folder. convert writes the model with its adapters merged in.",
         "furlong finetune -m model -f book.txt -c 16K --memory 8G\tadapters, on a long text\n"
         "furlong finetune -m model -f pairs.jsonl --lora-rank 8 --lora-targets q_proj,v_proj\tas PEFT would\n"
         "furlong finetune -m model -f book.txt --lora-rank 0 --lr 1e-5\tthe whole model\n"
         "furlong convert -m runs/book-1 -o book\tthe result as one model",
         false},
    [CLI_EVAL] =
        {"eval", NULL, "-m FOLDER (-f FILE | --task ITEMS) [options]",
         "loss of a model on a text, in all and by position; accuracy on multiple-choice items",
         "Loss in nats per token, perplexity, bits per byte, and the loss by position in the document, which shows "
         "whether a longer context helps.\n\n"
         "With --task: how often the right choice of an item is the one that the model finds likeliest after the prompt, "
         "by the sum of its tokens' log-likelihoods and by that sum per byte, each with its standard error, beside what "
         "guessing would get. Nothing is put between prompt and choice. An item longer than the model's context is "
         "refused, not cut.",
         "furlong eval -m runs/book-1 -f other.txt\tthe latest checkpoint of a run on another text\n"
         "furlong eval -m model -f other.txt -c 64K --json\tover documents of 65,536 tokens, for a program\n"
         "furlong eval -m model --task items.jsonl\taccuracy on multiple-choice items",
         false},
    [CLI_AUDIT] =
        {"audit", NULL, "-m FOLDER -f FILE [options]", "what almost-linear attention would cost a model, head by head",
         "Of an exact model: fits each head's polynomial to its own logits on one row of --ctx-size tokens, measures on "
         "the next what its output would be off by, on 64 sampled tokens with an interval that holds the error of all "
         "with 95 % confidence, and says which heads must stay exact for --max-error. Then the loss both ways. With "
         "--output-dir the model is saved with the other heads almost-linear. Few heads of a model that was trained "
         "without a bound on its logits can be.\n\n"
         "Of a model with almost-linear layers: measures these as they are, output and gradients.",
         "furlong audit -m model -f book.txt -c 4K\twhich heads could be almost-linear\n"
         "furlong audit -m model -f book.txt --max-error 0.01 -o mixed\tand the model with them so",
         false},
    [CLI_GENERATE] =
        {"generate", NULL, "-m FOLDER -p TEXT [options]", "continues a text",
         "Prints the prompt and its continuation as it comes. With --json, one object with the text at the end.",
         "furlong generate -m runs/book-1 -p 'In the beginning' -n 400\tcontinues a prompt\n"
         "furlong generate -m runs/book-1 --temp 0 -f prompt.txt\tthe likeliest continuation of a file",
         false},
    [CLI_CHAT] =
        {"chat", NULL, "-m FOLDER [options]", "a conversation with a model that was taught one",
         "Reads a line, answers, and so on until the input ends; /clear begins anew. Messages are written by the chat "
         "template that came with the model's tokenizer; a model without one is refused, never guessed at. The conversation "
         "goes on in its key/value cache: only what is new goes through the model. It ends where the context is full.\n\n"
         "With -p or -f, one message and its answer; with --json as one object.",
         "furlong chat -m model\ttalks\n"
         "furlong chat -m model.gguf --system 'Answer in one sentence.' --temp 0.3\tand of a GGUF file\n"
         "furlong chat -m model -p 'What is a furlong?' --json\tone answer",
         false},
    [CLI_CONVERT] =
        {"convert", NULL, "-m MODEL -o FOLDER | FILE.gguf [options]",
         "a model's files as they are, to and from GGUF, or with look-up tables stored as another type",
         "Writes the model into a new folder in Hugging Face form, its look-up tables as --table-type says: bf16, or int8 "
         "with a scale a row. Every other tensor stays as it is; of a GGUF file's those in blocks become f32, and its "
         "vocabulary a tokenizer.json. Prints the bytes before and after and, for each table, the largest "
         "difference of a number to what it stands for, as a share of the largest number in its row, and the norm of all "
         "differences as a share of that of all numbers.\n\n"
         "Every verb reads such folders. generate maps the tables and uses them as they are stored; training goes on "
         "from the rounded values, in f32.\n\n"
         "Into a file whose name ends in .gguf: the model as llama.cpp reads it, matrices as --type says, with the "
         "vocabulary and the chat template of the folder where GGUF has a name for its tokenizer, else without, which "
         "is said.",
         "furlong convert -m runs/book-1 -o book-int8 --table-type int8\ttables of a quarter of the bytes\n"
         "furlong convert -m runs/book-1 -o book\tthe latest checkpoint as a model, without what training needs\n"
         "furlong convert -m runs/book-1 -o book.gguf --type q8_0\tthe same for llama.cpp\n"
         "furlong convert -m model.gguf -o model\tback to a folder, for transformers",
         false},
    [CLI_PLAN] =
        {"plan", NULL, "(--preset NAME | -m FOLDER) [-c TOKENS] [options]",
         "bytes and seconds of a run before it starts",
         "With -c: every item of the memory of one step, its floating-point operations and seconds, and whether it "
         "fits --memory. Without -c: one line for each context from 4K to 1M. The training run lays its memory out "
         "with the code that counted the plan. Ends with code 4 where the plan does not fit.",
         "furlong plan --preset gpt2-124m -c 64K --memory 8G\tdoes this fit?\n"
         "furlong plan --preset gpt2-124m --longest --memory 8G\tthe longest document that fits",
         false},
    [CLI_BENCH] =
        {"bench", "mode", "MODE [options]", "speed of the library's own operators",
         "Modes: peak (what the machine can do), attention, projection (one operator, forward and backward), step "
         "(whole optimizer steps), decode (one token of generation after another, and the share of the output head in "
         "it), longest (the longest document that fits --memory, and its seconds). Best of several repetitions, their "
         "number stated.",
         "furlong bench attention --heads 12 --head-dim 64 --tokens 4096 --json\tattention of a GPT-2 layer\n"
         "furlong bench step --preset gpt2-124m --tokens 1024\ttokens per second of training\n"
         "furlong bench decode --preset gpt2-124m-lookup --table-type int8 --cold\ttokens per second of generation",
         false},
    [CLI_INSPECT] =
        {"inspect", "model", "MODEL [options]", "shape and weights of a model",
         "Configuration, number of parameters, and each tensor with its shape, type, norm, least and greatest value; of a "
         "GGUF file its values, and its tensors as they are stored. With --file, of a model with look-up tables: how that "
         "text uses their rows.",
         "furlong inspect runs/book-1\tthe latest checkpoint of a run\n"
         "furlong inspect model.gguf\twhat a GGUF file says\n"
         "furlong inspect runs/book-1 -f book.txt -c 2K\trows of tables that the text uses",
         false},
    [CLI_DOCTOR] =
        {"doctor", NULL, "[options]", "what this machine can do, and what stands in the way",
         "Processor, instruction sets, memory and its limits (control group, resource limits), disk space, and a check "
         "of a small gradient against finite differences. Ends with code 1 if that check fails.",
         "furlong doctor\tchecks the machine", false},
    [CLI_VERSION] = {"version", NULL, "", "version and features",
                     "Version, build features and the instruction set in use.", "furlong version\tprints the version",
                     false},
    [CLI_FIT_ATTENTION] =
        {"fit-attention", NULL, "-i FILE [-o FILE] [options]", "the queries, keys and values that give an output",
         "Finds X (queries times keys) and Y (values) that bring softmax(A1 X A2^T) A3 Y closest to recorded outputs B, by "
         "Newton-type steps with Y eliminated: some five to ten steps from a random start to the last digit, where many "
         "sequences, or a causal mask, determine the answer. Says how far to trust it: held-out loss, equations per "
         "unknown, and the losses of several starts. With --rank the head becomes narrower; with --max-logit its logits "
         "stay bounded.\n\n"
         "--capture records a head of a model of ours as such a file: with learned positions the layer's normed inputs, with "
         "RoPE the head's queries and keys after rotation; --install puts the fitted head back.\n\n"
         "The output file is written for every end but a refusal. Ends with code 0 at the tolerance or at a minimum, 6 "
         "where it stalled or reached a limit, 130 or 143 where it was stopped.",
         "furlong fit-attention -i head.safetensors -o fitted.safetensors --causal --json\tfits a recorded head\n"
         "furlong fit-attention -i head.npz -o half.safetensors --causal --rank 16\tand halves its width\n"
         "furlong fit-attention --capture -m model -f book.txt --layer 2 --head 1 -o head.safetensors\trecords one\n"
         "furlong fit-attention --planted 16x256x64 --causal --picture loss.svg\ta head drawn at random, found again",
         false},
    [CLI_TOKENIZER] =
        {"tokenizer", "action", "train|encode|decode|inspect [options]", "learns a tokenizer, and runs one",
         "train learns a byte-level BPE from texts and writes it as tokenizer.json, which Hugging Face tokenizers loads: the "
         "most frequent pair of neighbours becomes a token, until there are --vocab-size of them. The same texts give the "
         "same file.\n\n"
         "encode writes a text's ids to standard output, or as .npy with --output, which train and eval read. decode turns "
         "ids, of a .npy or as numbers in a file or on standard input, into text. Any tokenizer.json of the kinds byte-level BPE, BPE with byte "
         "fallback and Unigram will do; what is not known in it is refused by name.",
         "furlong tokenizer train -f corpus/ --vocab-size 16K -o words\ta tokenizer of 16,384 tokens\n"
         "furlong tokenizer encode --tokenizer words -p 'a long row'\tids of a text\n"
         "furlong tokenizer encode --tokenizer words -f book.txt -o book.npy\tof a file\n"
         "furlong tokenizer inspect --tokenizer words\twhat it is",
         false},
    [CLI_LONG_STEP] = {"long-step", NULL, "-m FOLDER -f FILE -c TOKENS --memory SIZE -o FOLDER", "one step of the demo",
                       "One optimizer step over one document, in a process that limits its own memory. Used by demo.",
                       NULL, true},
};
