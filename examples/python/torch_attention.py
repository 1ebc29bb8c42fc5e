# SPDX-License-Identifier: Apache-2.0
"""Furlong's attention, feedforward and loss inside a PyTorch model of one's own: learns to copy what it has seen before,
with no array of tokens x tokens or tokens x vocabulary.

    python torch_attention.py [TOKENS] [STEPS]
"""
import math
import sys
import time

import torch

import furlong.torch

TOKENS = int(sys.argv[1]) if len(sys.argv) > 1 else 2048
STEPS = int(sys.argv[2]) if len(sys.argv) > 2 else 100
PERIOD, WORDS, WIDTH, HEADS, KEY_HEADS = 50, 64, 64, 4, 2


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
        x = x + self.o(furlong.torch.attention(q, k, v, causal=True).flatten(2))
        return furlong.torch.feedforward(x, self.up.weight, self.down.weight, gate=self.gate.weight, activation="swiglu",
                                         norm="rmsnorm", norm_weight=self.inner_norm, residual=True)


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(WORDS, WIDTH)
        self.places = torch.nn.Embedding(PERIOD, WIDTH)  # of a token within its period
        self.blocks = torch.nn.ModuleList(Block() for _ in range(2))
        self.head = torch.nn.Linear(WIDTH, WORDS, bias=False)

    def loss(self, ids):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]) % PERIOD)
        for block in self.blocks:
            x = block(x)
        return furlong.torch.linear_cross_entropy(x[:, :-1], self.head.weight, ids[:, 1:])


torch.manual_seed(1)
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, rows of {TOKENS:,} tokens that repeat after {PERIOD}; "
      f"the first {PERIOD} cannot be known, {PERIOD / TOKENS * math.log(WORDS):.2f} of the loss")
for step in range(STEPS):
    start = time.perf_counter()
    ids = torch.randint(WORDS, (1, PERIOD)).repeat(1, -(-TOKENS // PERIOD))[:, :TOKENS]
    optimizer.zero_grad()
    loss = model.loss(ids)
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == STEPS - 1:
        print(f"step {step:3}: loss {float(loss.detach()):.3f}, {TOKENS / (time.perf_counter() - start):,.0f} tokens/s", flush=True)
