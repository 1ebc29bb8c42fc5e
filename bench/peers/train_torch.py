# SPDX-License-Identifier: Apache-2.0
"""train_torch.py RUN LIBRARY OUT THREADS: what RUN/run.json says, once more, in plain PyTorch: the model from the same
initial weights (made by the library from the same seed), the same rows in the same order, AdamW, schedule and clipping.
Writes the trained weights to OUT in Hugging Face form. The losses of the first steps are compared with those of
RUN/metrics.jsonl: they are equal to rounding only where weights, rows and schedule are the same ones."""
import json
import math
import os
import subprocess
import sys
import time

import numpy

from peer import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from rows import Cutter

SAME_STEPS = 5
SAME = 1e-4  # relative difference of these losses; another row or another weight makes 1e-2


class Model(torch.nn.Module):
    """Llama with tied embedding, parameters under their Hugging Face names (dots as '/')."""

    def __init__(self, config, weights):
        super().__init__()
        self.config = config
        self.p = torch.nn.ParameterDict({name.replace(".", "/"): torch.nn.Parameter(w) for name, w in weights.items()})
        half = config["head_dim"] // 2
        self.frequency = config["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        self.turns = {}

    def get(self, name):
        return self.p[name.replace(".", "/")]

    def turn(self, tokens):
        if tokens not in self.turns:
            angle = torch.arange(tokens, dtype=torch.float64)[:, None] * self.frequency
            self.turns = {tokens: (angle.cos().float(), angle.sin().float())}
        return self.turns[tokens]

    def norm(self, x, name):
        return F.rms_norm(x, (x.shape[-1],), self.get(name + ".weight"), self.config["rms_norm_eps"])

    def forward(self, ids, targets):
        c, (B, T) = self.config, ids.shape
        cos, sin = self.turn(T)

        def heads(x, name):
            return (x @ self.get(name + ".weight").T).view(B, T, -1, c["head_dim"]).transpose(1, 2)

        def rotate(x):
            a, b = x.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)

        x = F.embedding(ids, self.get("model.embed_tokens.weight"))
        for layer in range(c["num_hidden_layers"]):
            at = f"model.layers.{layer}."
            h = self.norm(x, at + "input_layernorm")
            q, k, v = (heads(h, f"{at}self_attn.{n}_proj") for n in "qkv")
            y = F.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True,
                                               enable_gqa=q.shape[1] != k.shape[1])
            x = x + y.transpose(1, 2).reshape(B, T, -1) @ self.get(at + "self_attn.o_proj.weight").T
            h = self.norm(x, at + "post_attention_layernorm")
            gate, up = (h @ self.get(f"{at}mlp.{n}_proj.weight").T for n in ("gate", "up"))
            x = x + (F.silu(gate) * up) @ self.get(at + "mlp.down_proj.weight").T
        head = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
        logits = self.norm(x, "model.norm") @ self.get(head).T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


def learning_rate(s, step):
    if step < s["warmup_steps"]:
        return s["lr"] * (step + 1) / s["warmup_steps"]
    done = min(1.0, (step - s["warmup_steps"]) / max(1, s["max_steps"] - s["warmup_steps"]))
    return s["min_lr"] + 0.5 * (s["lr"] - s["min_lr"]) * (1 + math.cos(math.pi * done))


def training_text(run):
    """Bytes of the part that is trained on."""
    options = run["program"]["options"]
    files, settings = options["file"], run["settings"]
    if len(files) != 1 or settings["grad_accum"] != 1 or run["model"]["model_type"] != "llama":
        sys.exit("train_torch.py: expected one text, one row a step and a llama-like model")
    data = numpy.fromfile(files[0], numpy.uint8)
    if len(data) != run["data"]["tokens"]:
        sys.exit(f"{files[0]} has {len(data)} bytes, the run was made of {run['data']['tokens']}")
    held_out = 0 if options.get("eval-file") else int(len(data) * settings["held_out"])
    return data[: len(data) - held_out]


def batch(text, documents):
    """ids and targets [documents, longest]; what fills a shorter one comes after it and does not count."""
    longest = max(count for _, count in documents)
    ids = numpy.zeros((len(documents), longest), numpy.int64)
    targets = numpy.full_like(ids, -100)
    for i, (first, count) in enumerate(documents):
        ids[i, :count], targets[i, :count] = text[first : first + count], text[first + 1 : first + count + 1]
    return torch.from_numpy(ids), torch.from_numpy(targets)


def initial_weights(library, config, seed, folder):
    """Made in a process of its own: two OpenMP runtimes in one would wait for each other's threads."""
    os.makedirs(folder)
    with open(f"{folder}/config.json", "w") as file:
        json.dump(config, file)
    code = "import sys, furlong; furlong.Furlong(sys.argv[1]).create(sys.argv[2], int(sys.argv[3]), sys.argv[4])"
    subprocess.run([sys.executable, "-c", code, os.path.abspath(library), os.path.abspath(f"{folder}/config.json"),
                    str(seed), os.path.abspath(folder)], check=True, cwd=sys.path[0])
    return load_file(f"{folder}/model.safetensors")


def first_losses(folder):
    with open(f"{folder}/metrics.jsonl") as file:
        lines = [json.loads(line) for line in file]
    return [line["loss"] for line in lines if "lr" in line][:SAME_STEPS]


def main():
    folder, library, out, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    with open(f"{folder}/run.json") as file:
        run = json.load(file)
    s, text, theirs = run["settings"], training_text(run), first_losses(folder)
    model = Model(run["model"], initial_weights(library, run["model"], s["seed"], out))
    groups = [dict(params=[p for p in model.parameters() if p.dim() == rank], weight_decay=decay)
              for rank, decay in ((2, s["weight_decay"]), (1, 0.0))]
    optimizer = torch.optim.AdamW(groups, lr=s["lr"], betas=(s["beta1"], s["beta2"]), eps=s["adam_eps"], fused=True)
    cutter, start = Cutter(len(text) - 1, s["seed"]), time.monotonic()
    for step in range(s["max_steps"]):
        phase = max(i for i, p in enumerate(s["phases"]) if p["from_step"] <= step)
        at = s["phases"][phase]
        documents = cutter.row(phase, at["context"], at.get("row_tokens") or s["row_tokens"])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(s, step)
        optimizer.zero_grad(set_to_none=True)
        loss = model(*batch(text, documents))
        loss.backward()
        if s["grad_clip"] > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), s["grad_clip"])
        optimizer.step()
        if step < len(theirs) and not abs(loss.item() - theirs[step]) <= SAME * theirs[step]:
            sys.exit(f"step {step + 1}: loss {loss.item():.6f}, Furlong's was {theirs[step]:.6f}: not the same run")
        if (step + 1) % 200 == 0 or step + 1 == s["max_steps"]:
            print(f"PyTorch: step {step + 1} of {s['max_steps']}, loss {loss.item() / math.log(2):.3f} bits per byte, "
                  f"{time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    save_file({name.replace("/", "."): w.detach().contiguous() for name, w in model.p.items()},
              f"{out}/model.safetensors", metadata={"format": "pt"})


main()
