# SPDX-License-Identifier: Apache-2.0
"""adapters.py FURLONG WORK-FOLDER: adapters between Furlong and PEFT. For small models of several families, f32 and bf16:
adapters that PEFT made are read, and loss and the gradients of all of them equal autograd's; adapters that `furlong
finetune` trained load in PEFT with equal logits; merged by `furlong convert`, transformers gives them again. Prints a
line per model; exits 1 when one misses.

Targets: logits and merged logits within 2e-4 of their spread, gradients within 2e-4 of the norm of each tensor's, as for
whole models (families.py)."""
import os
import subprocess
import sys

import numpy

from peer import torch
import peft
import transformers

import furlong

TARGET = 2e-4
TOKENS = 96
GPT2 = dict(vocab_size=256, n_positions=256, n_embd=64, n_layer=2, n_head=4, n_inner=160, activation_function="gelu_new",
            initializer_range=0.2)
LLAMA = dict(vocab_size=256, max_position_embeddings=512, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=16, intermediate_size=150, rope_theta=10000.0, initializer_range=0.2)
CASES = [
    ("gpt2", "GPT2", GPT2, torch.float32, ["c_attn", "c_proj", "c_fc"]),
    ("llama", "Llama", LLAMA, torch.float32, "all-linear"),
    ("llama, bf16", "Llama", LLAMA, torch.bfloat16, "all-linear"),
    ("llama, q and v alone", "Llama", LLAMA, torch.float32, ["q_proj", "v_proj"]),
    ("qwen2", "Qwen2", {k: v for k, v in LLAMA.items() if k != "head_dim"}, torch.float32, ["q_proj", "gate_proj", "down_proj"]),
]


def make(kind, config, dtype, folder):
    torch.manual_seed(7)
    model = getattr(transformers, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(
        getattr(transformers, f"{kind}Config")(**config))
    model.to(dtype).save_pretrained(folder)


def base_of(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def adapt(folder, targets, out):
    """Adapters of PEFT's with numbers in B too."""
    model = peft.get_peft_model(base_of(folder), peft.LoraConfig(r=3, lora_alpha=7, target_modules=targets,
                                                                 task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    model.save_pretrained(out)
    return model


def spread_error(got, want):
    return float(numpy.abs(got - want).max() / want.std())


def gradients(model, ids, ours):
    """Worst error of a tensor's gradient, of its norm."""
    x = torch.tensor(ids[None])
    loss = torch.nn.functional.cross_entropy(model(x).logits[0, :-1], x[0, 1:])
    loss.backward()
    worst = abs(ours[0] - loss.item()) / loss.item()
    found = 0
    for name, value in model.named_parameters():
        if "lora_" not in name:
            continue
        want = value.grad.numpy()
        got = ours[1][name.replace(".default.", ".")]
        worst = max(worst, float(numpy.linalg.norm(got - want) / numpy.linalg.norm(want)))
        found += 1
    if found != len(ours[1]):
        raise SystemExit(f"{found} adapters there, {len(ours[1])} gradients here")
    return worst


def run(program, *words):
    subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def check(program, work, number, case):
    name, kind, config, dtype, targets = case
    base, theirs, ours, merged = (f"{work}/{what}-{number}" for what in ("base", "peft", "tuned", "merged"))
    ids = numpy.random.default_rng(number).integers(0, 256, TOKENS)
    make(kind, config, dtype, base)
    model = adapt(base, targets, theirs)
    gradient = gradients(model, ids, furlong.load(theirs).loss_and_grad(ids))
    words = targets if isinstance(targets, str) else ",".join(targets)
    run(program, "finetune", "-m", base, "-f", f"{work}/text", "-c", "64", "-b", "512", "--max-steps", "4", "--lr", "0.01",
        "--lora-rank", "4", "--lora-targets", words, "--eval-steps", "0", "-o", ours, "--tokenizer", "bytes")
    step = os.path.join(ours, open(f"{ours}/latest").read().strip())
    mine = furlong.load(step).logits(ids)
    with torch.no_grad():
        loaded = peft.PeftModel.from_pretrained(base_of(base), step)(torch.tensor(ids[None])).logits[0].numpy()
        plain = base_of(base)(torch.tensor(ids[None])).logits[0].numpy()
    run(program, "convert", "-m", ours, "-o", merged)
    with torch.no_grad():
        whole = base_of(merged)(torch.tensor(ids[None])).logits[0].numpy()
    moved = spread_error(mine, plain)
    there, back = spread_error(mine, loaded), spread_error(whole, loaded)
    missed = gradient > TARGET or there > TARGET or back > TARGET or moved < 1e-2
    print(f"{name}: gradients off by {gradient:.1e}, logits in PEFT by {there:.1e}, merged in transformers by {back:.1e} "
          f"(target {TARGET:.0e}); training moved them by {moved:.2f}{'  MISSED' if missed else ''}")
    return missed


def main(program, work):
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with open(f"{work}/text", "w") as file:
        file.write("the sea and the wind and a ship that sails far from home under cold stars. " * 200)
    missed = sum(check(program, work, number, case) for number, case in enumerate(CASES))
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
