# SPDX-License-Identifier: Apache-2.0
"""GPT-2 124M in plain PyTorch, one optimizer step of one row, as fast as PyTorch does it on a processor: attention by
scaled_dot_product_attention, fused AdamW, eager and compiled. A worker: each line on standard input, "eager N" or
"compiled N", is answered by one line with the seconds of the best of N steps. Arguments: TOKENS THREADS
DTYPE; bf16 is autocast, the weights f32.

Beyond 1,024 tokens Furlong's preset turns with RoPE instead of learned positions; so does this."""
import sys
import time

from peer import torch
from torch import nn
from torch.nn import functional as F

VOCABULARY, LAYERS, WIDTH, HEADS, LEARNED = 50257, 12, 768, 12, 1024


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, turn):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, HEADS, C // HEADS).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(C, 2))
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def rotate(x, turn):
    cos, sin = turn
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Model(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.tokens, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LEARNED, WIDTH)
        self.layers, self.norm = nn.ModuleList(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH)
        self.turn = None
        if tokens > LEARNED:
            half = WIDTH // HEADS // 2
            angle = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(half) / half)
            self.turn, self.position = (angle.cos(), angle.sin()), None
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)

    def forward(self, ids, targets):
        x = self.tokens(ids)
        if self.position is not None:
            x = x + self.position(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x, self.turn)
        logits = self.norm(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.view(-1, VOCABULARY), targets.view(-1))


def main():
    tokens, threads, bf16 = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "bf16"
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = Model(tokens)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids, targets = torch.randint(VOCABULARY, (2, 1, tokens))
    ways, warm = {"eager": model, "compiled": None}, set()

    def step(way):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = way(ids, targets)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - start

    for line in sys.stdin:
        name, count = line.split()
        try:
            if ways[name] is None:
                ways[name] = torch.compile(model)
            if name not in warm:
                step(ways[name])  # allocations, code generation
            warm.add(name)
            print(min(step(ways[name]) for _ in range(int(count))), flush=True)
        except Exception as error:  # a way that PyTorch cannot go here is no way of its
            print("nan", flush=True)
            print(f"{name}: {str(error).strip().splitlines()[0]}", file=sys.stderr)


main()
