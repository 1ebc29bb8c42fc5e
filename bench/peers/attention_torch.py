# SPDX-License-Identifier: Apache-2.0
"""attention_torch.py TOKENS HEADS HEAD_DIM THREADS DTYPE: seconds of PyTorch's causal scaled_dot_product_attention in
f32 or bf16, forward and backward, best of several repetitions (at least 3, then until 2 s have gone), on one line."""
import sys
import time

from peer import torch

tokens, heads, head_dim, threads = map(int, sys.argv[1:5])
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[sys.argv[5]]
torch.set_num_threads(threads)
torch.manual_seed(1)
q, k, v, dy = (torch.randn(1, heads, tokens, head_dim).to(dtype) for _ in range(4))
for x in q, k, v:
    x.requires_grad_()
forward = backward = float("inf")
begun, count = time.perf_counter(), 0
while count < 4 or (time.perf_counter() - begun < 2 and count < 50):
    start = time.perf_counter()
    y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    middle = time.perf_counter()
    torch.autograd.grad(y, (q, k, v), dy)
    if count > 0:  # the first one allocates
        forward, backward = min(forward, middle - start), min(backward, time.perf_counter() - middle)
    count += 1
print(forward, backward)
