# SPDX-License-Identifier: Apache-2.0
"""longest_torch.py WAY SHAPE TOKENS THREADS: one optimizer step of one row in PyTorch, f32; prints the peak resident bytes.

Ways, each the usual code of its kind:
  plain      scores of all pairs, softmax, everything saved for backward, full logits
  kernel     scaled_dot_product_attention, each layer a checkpoint, full logits
  chunked    the same, and the feedforward and the loss over chunks of 1,024 tokens, checkpointed each
SHAPE: gpt2-124m or bytes-4m, as Furlong's presets (RoPE beyond 1,024 tokens)."""
import math
import resource
import sys

from peer import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

CHUNK = 1024
SHAPES = {  # vocabulary, layers, width, heads, hidden, gated
    "gpt2-124m": (50257, 12, 768, 12, 3072, False),
    "bytes-4m": (256, 5, 256, 8, 704, True),
}


def over_chunks(function, x, *others):
    """function over chunks of tokens, each computed again in backward"""
    parts = [checkpoint(function, *part, use_reentrant=False) for part in zip(*(y.split(CHUNK, 1) for y in (x, *others)))]
    return parts


class Layer(nn.Module):
    def __init__(self, width, heads, hidden, gated, way):
        super().__init__()
        self.heads, self.gated, self.way = heads, gated, way
        norm = nn.RMSNorm if gated else nn.LayerNorm
        self.norm1, self.norm2 = norm(width), norm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=not gated), nn.Linear(width, width, bias=not gated)
        self.up = nn.Linear(width, hidden * (2 if gated else 1), bias=not gated)
        self.down = nn.Linear(hidden, width, bias=not gated)

    def attention(self, q, k, v):
        if self.way != "plain":
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return scores.masked_fill_(hidden, -math.inf).softmax(-1) @ v

    def feedforward(self, x):
        u = self.up(self.norm2(x))
        if self.gated:
            gate, up = u.chunk(2, -1)
            return x + self.down(F.silu(gate) * up)
        return x + self.down(F.gelu(u, approximate="tanh"))

    def forward(self, x, turn):
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm1(x)).split(C, 2))
        if turn is not None:
            q, k = rotate(q, *turn), rotate(k, *turn)
        x = x + self.o(self.attention(q, k, v).transpose(1, 2).reshape(B, T, C))
        return torch.cat(over_chunks(self.feedforward, x), 1) if self.way == "chunked" else self.feedforward(x)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Model(nn.Module):
    def __init__(self, shape, tokens, way):
        super().__init__()
        vocabulary, layers, width, heads, hidden, gated = SHAPES[shape]
        self.way, self.turn, self.position = way, None, None
        self.tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Layer(width, heads, hidden, gated, way) for _ in range(layers))
        self.norm = (nn.RMSNorm if gated else nn.LayerNorm)(width)
        if gated or tokens > 1024:
            half = width // heads // 2
            angle = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(half) / half)
            self.turn = angle.cos(), angle.sin()
        else:
            self.position = nn.Embedding(1024, width)

    def loss(self, x, targets):
        logits = self.norm(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")

    def forward(self, ids, targets):
        x = self.tokens(ids)
        if self.position is not None:
            x = x + self.position(torch.arange(ids.shape[1]))
        for layer in self.layers:
            x = layer(x, self.turn) if self.way == "plain" else checkpoint(layer, x, self.turn, use_reentrant=False)
        parts = over_chunks(self.loss, x, targets) if self.way == "chunked" else [self.loss(x, targets)]
        return sum(parts) / targets.numel()


def main():
    way, shape, tokens, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = Model(shape, tokens, way)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    ids, targets = torch.randint(SHAPES[shape][0], (2, 1, tokens))
    model(ids, targets).backward()
    optimizer.step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


main()
