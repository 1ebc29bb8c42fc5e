# SPDX-License-Identifier: Apache-2.0
"""learning.py FURLONG LIBRARY TEXT WORK-FOLDER THREADS [DEMO-FOLDER]: what the demo's training learns, for three seeds:
loss on the held-out end, loss by position, and the loss of the same training in PyTorch for the first seed.

All settings are those of the demo's run.json; the other seeds repeat it with `furlong train --config`. Every loss is
taken by `furlong eval`, PyTorch's weights too. Exits 1 when a target is missed.

By position: later bytes are other text than the first 4,096 of a document, and harder or easier by more than what is
asked about. So each later stretch is compared with the same bytes in documents of 4,096."""
import json
import math
import os
import subprocess
import sys

import numpy

from furlong import Furlong

MOST_BITS, GOAL_BITS, MOST_BEHIND_PYTORCH, SEEDS = 2.7, 2.5, 0.02, 3
NEAR = 4096
DOCUMENTS = 4  # at most, of the longest kind


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


def by_position(furlong, folder, text, tokens):
    """[(from, to, bits there, bits of the same bytes in documents of NEAR)]"""
    model, far, near = furlong.load(folder, tokens), [], []
    for start in range(0, min(DOCUMENTS * tokens, len(text) - tokens), tokens):
        far.append(model.losses(text[start : start + tokens], text[start + 1 : start + tokens + 1]))
        near.append([model.losses(text[at : at + NEAR], text[at + 1 : at + NEAR + 1])
                     for at in range(start, start + tokens, NEAR)])
    model.close()
    far, near = numpy.stack(far).astype(float), numpy.asarray(near, float).reshape(len(far), tokens)
    edges = [0] + [NEAR << i for i in range(int(math.log2(tokens // NEAR)) + 1)]
    return [(a, b, far[:, a:b].mean() / math.log(2), near[:, a:b].mean() / math.log(2))
            for a, b in zip(edges, edges[1:])]


def main():
    furlong, library, text, work, threads = sys.argv[1:6]
    demo = sys.argv[6] if len(sys.argv) > 6 else f"{work}/demo"
    if len(sys.argv) <= 6:
        program(furlong, "demo", text, "--output-dir", demo, "--threads", threads)
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
        return json.loads(program(furlong, "eval", "-m", folder, "-f", held_out, "-c", context, "--threads", threads,
                                  "--json"))["bits_per_byte"]

    bytes_held = numpy.fromfile(held_out, numpy.uint8).astype(numpy.int32)
    while longest + 1 > len(bytes_held):
        longest //= 2
    runs = {first_seed: demo}
    for seed in range(first_seed + 1, first_seed + SEEDS):
        runs[seed] = f"{work}/seed-{seed}"
        program(furlong, "train", "--config", f"{demo}/run.json", "--seed", seed, "--output-dir", runs[seed],
                "--threads", threads)
    ours = {}
    for seed, folder in runs.items():
        ours[seed] = bits(checkpoint(folder))
        target(f"seed {seed}", ours[seed] <= MOST_BITS,
               f"seed {seed}: {ours[seed]:.3f} bits per byte, target at most {MOST_BITS}, goal {GOAL_BITS}")
        for a, b, far, near in by_position(Furlong(library, int(threads)), checkpoint(folder), bytes_held, longest):
            if a > 0:
                target(f"seed {seed} from {a}", far <= near, f"  positions {a} to {b - 1}: {far:.3f}, target at most "
                       f"{near:.3f} (the same bytes within the first {NEAR})")
            else:
                say(f"  positions {a} to {b - 1}: {far:.3f}")
    subprocess.run([sys.executable, f"{sys.path[0]}/train_torch.py", demo, library, f"{work}/torch", threads], check=True)
    theirs = bits(f"{work}/torch")
    target("PyTorch", ours[first_seed] <= theirs + MOST_BEHIND_PYTORCH,
           f"the same training in PyTorch, seed {first_seed}: {theirs:.3f} bits per byte; Furlong {ours[first_seed]:.3f}, "
           f"target at most {theirs + MOST_BEHIND_PYTORCH:.3f}")
    if missed:
        say("missed: " + ", ".join(missed))
    return len(missed) > 0


sys.exit(main())
