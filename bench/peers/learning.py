# SPDX-License-Identifier: Apache-2.0
"""learning.py FURLONG LIBRARY TEXT WORK-FOLDER THREADS [DEMO-FOLDER]: what the demo's training learns, for three seeds:
loss on the held-out end, loss by position, and the loss of the same training in PyTorch.

All settings are those of the demo's run.json; the other seeds repeat it with `furlong train --config`. Every loss is
taken by `furlong eval`, PyTorch's weights too. Exits 1 when a target is missed.

One training by the two programs parts ways after some tens of steps, as two seeds do, by rounding alone: held-out losses
then lie 0.03 apart either way. So the means over the seeds are compared.

By position: no stretch may be worse than the first 4,096 positions. Later bytes are other text than those, harder or easier
by about 0.01, so the same bytes in documents of 4,096 are printed beside. Positions beyond the longest
context of the training are printed and not judged: nothing taught the model that far."""
import json
import math
import os
import subprocess
import sys

import numpy

import furlong

MOST_BITS, GOAL_BITS, MOST_BEHIND_PYTORCH, SEEDS = 2.7, 2.5, 0.02, 3
NEAR = 4096
FAR_DOCUMENTS = 4  # at most; the positions that count are measured on the whole text


def say(text):
    print(text, flush=True)


def program(*command):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}: exit code {done.returncode}")
    return done.stdout


def read_json(path):
    with open(path) as file:
        return json.load(file)


def checkpoint(run):
    with open(f"{run}/latest") as file:
        return f"{run}/{file.read().strip()}"


def held_out_file(run, work):
    """The text that the run was evaluated on: a file of its own, or the end of the one trained on."""
    options = run["program"]["options"]
    if options.get("eval-file"):
        return options["eval-file"][0]
    data = numpy.fromfile(options["file"][0], numpy.uint8)
    data[len(data) - int(len(data) * run["settings"]["held_out"]) :].tofile(f"{work}/held-out.txt")
    return f"{work}/held-out.txt"


def by_position(context, folder, text, tokens, most_documents):
    """[(from, to, bits there, bits of the same bytes in documents of NEAR)] over documents of `tokens`"""
    model, far, near = furlong.load(folder, context=context), [], []
    for start in range(0, min(most_documents * tokens, len(text) - tokens), tokens):
        far.append(model.losses(text[start : start + tokens], text[start + 1 : start + tokens + 1]))
        near.append([model.losses(text[at : at + NEAR], text[at + 1 : at + NEAR + 1])
                     for at in range(start, start + tokens, NEAR)])
    far, near = numpy.stack(far).astype(float), numpy.asarray(near, float).reshape(len(far), tokens)
    edges = [0] + [NEAR << i for i in range(int(math.log2(tokens // NEAR)) + 1)]
    return [(a, b, far[:, a:b].mean() / math.log(2), near[:, a:b].mean() / math.log(2))
            for a, b in zip(edges, edges[1:])]


def main():
    command, library, text, work, threads = sys.argv[1:6]
    demo = sys.argv[6] if len(sys.argv) > 6 else f"{work}/demo"
    if len(sys.argv) <= 6:
        program(command, "demo", text, "--output-dir", demo, "--threads", threads)
    run = read_json(f"{demo}/run.json")
    settings, first_seed, missed = run["settings"], run["settings"]["seed"], []
    held_out, context = held_out_file(run, work), settings["phases"][-1]["context"]
    longest = max([context] + [int(name.rsplit("-", 1)[1]) for name in os.listdir(demo) if name[:10] == "step-over-"])
    say(f"demo: {settings['max_steps']} steps, contexts of {', '.join(str(p['context']) for p in settings['phases'])}; "
        f"losses on {os.path.getsize(held_out)} held-out bytes in documents of {context}, {run['isa']}, {threads} threads")

    def target(name, good, line):
        say(line + ("" if good else "  MISSED"))
        if not good:
            missed.append(name)

    def bits(folder):
        return json.loads(program(command, "eval", "-m", folder, "-f", held_out, "-c", context, "--threads", threads,
                                  "--json"))["bits_per_byte"]

    text_bytes = numpy.fromfile(held_out, numpy.uint8).astype(numpy.int32)
    while longest + 1 > len(text_bytes):
        longest //= 2
    runs = {first_seed: demo}
    for seed in range(first_seed + 1, first_seed + SEEDS):
        runs[seed] = f"{work}/seed-{seed}"
        program(command, "train", "--config", f"{demo}/run.json", "--seed", seed, "--output-dir", runs[seed],
                "--threads", threads)
    ours = {}
    for seed, folder in runs.items():
        ours[seed] = bits(checkpoint(folder))
        target(f"seed {seed}", ours[seed] <= MOST_BITS,
               f"seed {seed}: {ours[seed]:.3f} bits per byte, target at most {MOST_BITS}, goal {GOAL_BITS}")
        own = furlong.Context(threads=int(threads))
        for a, b, far, near in by_position(own, checkpoint(folder), text_bytes, context, len(text_bytes)):
            line = f"  positions {a} to {b - 1}: {far:.3f}"
            if a == 0:
                first = far
                say(line)
            else:
                target(f"seed {seed} from {a}", far <= first,
                       f"{line}, target at most {first:.3f}; the same bytes within the first {NEAR}: {near:.3f}")
        if longest > context and seed == first_seed:
            for a, b, far, near in by_position(own, checkpoint(folder), text_bytes, longest, FAR_DOCUMENTS):
                if a >= context:
                    say(f"  positions {a} to {b - 1}, beyond what was trained: {far:.3f}, the same bytes {near:.3f}")
    theirs = {}
    for seed, folder in runs.items():
        out = f"{work}/torch-{seed}"
        subprocess.run([sys.executable, f"{sys.path[0]}/train_torch.py", folder, library, out, threads], check=True)
        theirs[seed] = bits(out)
        say(f"the same training in PyTorch, seed {seed}: {theirs[seed]:.3f} bits per byte, Furlong {ours[seed]:.3f}")
    ours_mean, theirs_mean = numpy.mean(list(ours.values())), numpy.mean(list(theirs.values()))
    target("PyTorch", ours_mean <= theirs_mean + MOST_BEHIND_PYTORCH,
           f"means: Furlong {ours_mean:.3f}, PyTorch {theirs_mean:.3f}, target at most "
           f"{theirs_mean + MOST_BEHIND_PYTORCH:.3f}")
    if missed:
        say("missed: " + ", ".join(missed))
    return len(missed) > 0


sys.exit(main())
