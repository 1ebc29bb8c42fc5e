# SPDX-License-Identifier: Apache-2.0
"""hf_load.py FURLONG WORK-FOLDER: for each family that Furlong writes, trains a small model a few steps by the
program, loads the checkpoint with transformers, and compares logits. Prints a line per family; exits 1 when one misses.

The target is relative to the logits' spread (standard deviation over all of them): 2e-4, a hundred times what two f32
programs that add in different orders differ by here, and a hundredth of what one wrong tensor would do."""
import json
import logging
import os
import subprocess
import sys
import warnings

import numpy

from peer import torch
import transformers

import furlong

TARGET = 2e-4
TOKENS = 384
TEXT = "naïve — “Ægypt” \U0001f40e\tfurrow\n"

# small shapes; a preset is trained by its name, the others from weights that the library makes of these
GPT2 = dict(model_type="gpt2", vocab_size=256, n_positions=512, n_embd=96, n_layer=3, n_head=3, n_inner=384,
            activation_function="gelu_new", layer_norm_epsilon=1e-5, tie_word_embeddings=True, initializer_range=0.08)
NEOX = dict(model_type="gpt_neox", vocab_size=256, max_position_embeddings=2048, hidden_size=96, num_hidden_layers=3,
            num_attention_heads=3, intermediate_size=384, hidden_act="gelu_new", layer_norm_eps=1e-5, rotary_pct=1.0,
            rotary_emb_base=10000, use_parallel_residual=False, tie_word_embeddings=True, initializer_range=0.08)
LLAMA = dict(model_type="llama", vocab_size=256, max_position_embeddings=2048, hidden_size=96, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, head_dim=16, intermediate_size=200, hidden_act="silu",
             rms_norm_eps=1e-5, rope_theta=100000.0, tie_word_embeddings=False, initializer_range=0.08)
CASES = [("llama, bytes-1m", "bytes-1m"), ("llama, grouped key heads, untied", LLAMA), ("gpt2", GPT2),
         ("gpt_neox, as gpt2-124m beyond 1,024", NEOX)]


class Heard(logging.Handler):
    """What transformers warns of while a checkpoint loads."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def train(program, work, number, model):
    """Folder of a checkpoint after 5 steps."""
    out = f"{work}/run-{number}"
    command = [program, "train", "-f", f"{work}/text.txt", "-c", "128", "-b", "1024", "--max-steps", "5", "--lr", "3e-3",
               "--output-dir", out, "--memory", "2G"]
    if isinstance(model, str):
        command += ["--preset", model]
    else:
        start = f"{work}/start-{number}"
        os.makedirs(start)
        with open(f"{start}/config.json", "w") as file:
            json.dump(model, file)
        furlong.create(f"{start}/config.json", seed=7).save(start)
        command += ["-m", start]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    with open(f"{out}/latest") as file:
        return f"{out}/{file.read().strip()}"


def compare(folder):
    """(largest difference of a logit over the logits' spread, what is wrong)"""
    heard, wrong = Heard(), []
    logging.getLogger("transformers").addHandler(heard)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                                        output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    logging.getLogger("transformers").removeHandler(heard)
    wrong += [f"{key}: {sorted(map(str, info[key]))}" for key in info if info[key]]
    wrong += heard.lines + [str(w.message) for w in caught if issubclass(w.category, (UserWarning, FutureWarning))]
    ids = numpy.random.default_rng(1).integers(0, 256, TOKENS).astype(numpy.int32)
    with torch.no_grad():
        theirs = model.eval()(torch.from_numpy(ids).long()[None]).logits[0].double().numpy()
    ours = furlong.load(folder).logits(ids).astype(numpy.float64)
    encoded = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    if encoded != list(TEXT.encode()):
        wrong.append(f"AutoTokenizer's ids are not the bytes: {encoded}")
    if tokenizer.decode(encoded, clean_up_tokenization_spaces=False) != TEXT:
        wrong.append("AutoTokenizer does not give the text back")
    return float(numpy.abs(ours - theirs).max() / theirs.std()), type(model).__name__, wrong


def main():
    program, work = sys.argv[1:]
    transformers.logging.disable_progress_bar()
    with open(f"{work}/text.txt", "w") as file:  # what is learnt does not matter here
        file.write("".join(f"{i} furlongs are {220 * i} yards.\n" for i in range(2000)))
    failed = 0
    for number, (name, model) in enumerate(CASES):
        difference, kind, wrong = compare(train(program, work, number, model))
        missed = bool(wrong) or not difference <= TARGET
        failed += missed
        print(f"{name}: {kind}, largest logit difference {difference:.1e} of their spread, target {TARGET:.0e}; "
              f"{len(wrong)} complaints, target 0{'  MISSED' if missed else ''}")
        for line in wrong:
            print(f"  {line}")
    return failed > 0


sys.exit(main())
