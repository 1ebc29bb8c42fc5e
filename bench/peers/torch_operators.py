# SPDX-License-Identifier: Apache-2.0
"""torch_operators.py THREADS [TOKENS]: figures of furlong.torch beside PyTorch's own, each with its target; exits 1 when
one misses."""
import pathlib
import subprocess
import sys
import time

from peer import torch

import furlong.torch as ours

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "tests"))
import test_torch as checks

THREADS, TOKENS = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 4096
LOSS_TOKENS, LOSS_WIDTH, WORDS = 8192, 64, 16384
missed = 0


def line(text, good):
    global missed
    missed += not good
    print(text + ("" if good else "  MISSED"), flush=True)


def models():
    for name in checks.MODELS:
        ids = checks.ids_of(2, 40)
        logits, gradients = checks.compare(checks.model_of(name), target=float("inf"), input_ids=ids, labels=ids)
        line(f"{name:12} logits off by {logits:.1e} of their spread, gradients by {gradients:.1e} (target {checks.TARGET:.0e})",
             max(logits, gradients) < checks.TARGET)


def seconds(call, q, k, v, do, best):
    for x in (q, k, v):
        x.grad = None
    start = time.perf_counter()
    o = call(q, k, v)
    middle = time.perf_counter()
    o.backward(do)
    return [min(a, b) for a, b in zip(best, (middle - start, time.perf_counter() - middle))]


def speed(heads, key_heads, width):
    """In turn, best of 5 rounds."""
    q, k, v = (torch.randn(1, TOKENS, n, width).requires_grad_() for n in (heads, key_heads, key_heads))
    do = torch.randn(1, TOKENS, heads, width)
    first = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in (q, k, v)]
    sdpa = lambda *x: torch.nn.functional.scaled_dot_product_attention(*x, is_causal=True, enable_gqa=heads != key_heads)
    best = {ours.attention: [float("inf")] * 2, sdpa: [float("inf")] * 2}
    for _ in range(5):
        best[ours.attention] = seconds(ours.attention, q, k, v, do, best[ours.attention])
        best[sdpa] = seconds(sdpa, *first, do.transpose(1, 2).contiguous(), best[sdpa])
    forward, backward = (b / a for a, b in zip(best[ours.attention], best[sdpa]))
    line(f"attention, {TOKENS:,} tokens, {heads} heads on {key_heads} of {width}, {THREADS} threads: forward "
         f"{best[ours.attention][0]:.3f} s, {forward:.2f} times as fast as PyTorch's, backward "
         f"{best[ours.attention][1]:.3f} s, {backward:.2f} times (target 1)", min(forward, backward) >= 1)


LOSS = f"""
import sys, torch, furlong.torch
peak = lambda: next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
torch.set_num_threads({THREADS})
h, w = torch.randn({LOSS_TOKENS}, {LOSS_WIDTH}, requires_grad=True), torch.randn({WORDS}, {LOSS_WIDTH}, requires_grad=True)
targets = torch.randint({WORDS}, ({LOSS_TOKENS},))
furlong.torch.linear_cross_entropy(h[:64], w[:64], targets[:64] % 64).backward()
before = peak()
loss = (furlong.torch.linear_cross_entropy(h, w, targets) if sys.argv[1] == "ours"
        else torch.nn.functional.cross_entropy(h @ w.T, targets))
loss.backward()
print(peak() - before)
"""


def memory():
    grown = [int(subprocess.run([sys.executable, "-c", LOSS, who], check=True, capture_output=True, text=True).stdout) >> 10
             for who in ("ours", "torch")]
    logits = LOSS_TOKENS * WORDS * 4 >> 20
    line(f"cross-entropy, {LOSS_TOKENS:,} tokens, {WORDS:,} words: {grown[0]} MiB more than before, PyTorch {grown[1]} MiB; "
         f"the logits are {logits} MiB (target: a quarter of them)", grown[0] <= logits / 4)


torch.set_num_threads(THREADS)
models()
speed(12, 12, 64)
speed(12, 3, 64)
memory()
sys.exit(missed > 0)
