# SPDX-License-Identifier: Apache-2.0
"""Furlong's attention, feedforward and loss inside a PyTorch model of one's own: learns bytes of a text, with no array of
tokens x tokens or tokens x vocabulary.

    python torch_attention.py [TOKENS] [STEPS] [TEXT-FILE]

Without a text it takes the reference that comes with Python.
"""
import importlib.util
import pathlib
import sys
import time

import torch

import furlong.torch

TOKENS = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 100
TEXT = sys.argv[3] if len(sys.argv) > 3 else importlib.util.find_spec("pydoc_data.topics").origin
WIDTH, HEADS, KEY_HEADS = 96, 6, 2


class Block(torch.nn.Module):
    """Attention with grouped heads, then a feedforward; both with their norm and residual."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.RMSNorm(WIDTH, eps=1e-5)
        self.q = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = torch.nn.Linear(WIDTH, WIDTH * KEY_HEADS // HEADS, bias=False)
        self.v = torch.nn.Linear(WIDTH, WIDTH * KEY_HEADS // HEADS, bias=False)
        self.o = torch.nn.Linear(WIDTH, WIDTH, bias=False)
        self.inner_norm = torch.nn.Parameter(torch.ones(WIDTH))
        self.gate = torch.nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.up = torch.nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = torch.nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x):
        batch, tokens, _ = x.shape
        h = self.norm(x)
        q = self.q(h).view(batch, tokens, HEADS, -1)
        k, v = (f(h).view(batch, tokens, KEY_HEADS, -1) for f in (self.k, self.v))
        x = x + self.o(furlong.torch.attention(q, k, v, causal=True, alibi=True).flatten(2))
        return furlong.torch.feedforward(x, self.up.weight, self.down.weight, gate=self.gate.weight, activation="swiglu",
                                         norm="rmsnorm", norm_weight=self.inner_norm, residual=True)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bytes = torch.nn.Embedding(256, WIDTH)
        self.blocks = torch.nn.ModuleList(Block() for _ in range(2))
        self.head = torch.nn.Linear(WIDTH, 256, bias=False)

    def loss(self, ids):
        x = self.bytes(ids)
        for block in self.blocks:
            x = block(x)
        return furlong.torch.linear_cross_entropy(x[:, :-1], self.head.weight, ids[:, 1:])


torch.manual_seed(1)
model, text = Model(), torch.tensor(bytearray(pathlib.Path(TEXT).read_bytes()), dtype=torch.int64)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(text):,} bytes in rows of {TOKENS:,}")
for step in range(STEPS):
    start = time.perf_counter()
    at = int(torch.randint(len(text) - TOKENS, ()))
    optimizer.zero_grad()
    loss = model.loss(text[None, at:at + TOKENS])
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        print(f"step {step:3}: loss {float(loss.detach()):.3f}, {TOKENS / (time.perf_counter() - start):,.0f} tokens/s",
              flush=True)
