# SPDX-License-Identifier: Apache-2.0
"""Writes src/op/rope/rope_golden.h: RoPE frequencies as transformers computes them, in float64.

Run in the environment of tools/golden/requirements.txt: python3 tools/golden/rope.py
"""
import pathlib

import torch
import transformers
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

# The functions ask for torch.float by name; here that is float64.
torch.float = torch.float64
torch.float32 = torch.float64

DIM = 16
NAMES = {"linear": "LINEAR", "dynamic": "NTK", "yarn": "YARN", "llama3": "LLAMA3"}
CASES = [
    dict(rope_type="linear", rope_theta=1e4, factor=4.0),
    dict(rope_type="dynamic", rope_theta=1e4, factor=3.0),
    dict(rope_type="yarn", rope_theta=1e4, factor=8.0, original_max_position_embeddings=2048),
    dict(rope_type="yarn", rope_theta=5e5, factor=40.0, original_max_position_embeddings=4096, beta_fast=16.0,
         beta_slow=2.0, attention_factor=1.25),
    dict(rope_type="yarn", rope_theta=500.0, factor=2.0, original_max_position_embeddings=64),
    dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, original_max_position_embeddings=4096, truncate=False),
    dict(rope_type="llama3", rope_theta=5e5, factor=8.0, original_max_position_embeddings=8192, low_freq_factor=1.0,
         high_freq_factor=4.0),
    dict(rope_type="llama3", rope_theta=1e4, factor=32.0, original_max_position_embeddings=512, low_freq_factor=2.0,
         high_freq_factor=16.0),
]

lines = [
    "/* SPDX-License-Identifier: Apache-2.0 */",
    f"/* Written by tools/golden/rope.py with transformers {transformers.__version__}, float64. */",
    "/* clang-format off */",
]
for case in CASES:
    config = LlamaConfig(hidden_size=DIM, num_attention_heads=1, head_dim=DIM, max_position_embeddings=100,
                         rope_parameters=dict(case))
    frequency, magnitude = ROPE_INIT_FUNCTIONS[case["rope_type"]](config, "cpu", seq_len=250)
    factor = case["factor"]
    if case["rope_type"] == "dynamic":  # what the context of 250 makes of it
        factor = factor * 250 / 100 - (factor - 1)
    numbers = [factor, case.get("original_max_position_embeddings", 0), case.get("attention_factor", 0),
               case.get("beta_fast", 0), case.get("beta_slow", 0), case.get("low_freq_factor", 0),
               case.get("high_freq_factor", 0)]
    fields = ", ".join(repr(n) for n in numbers) + (", false" if case.get("truncate", True) else ", true")
    lines.append("{{%r, {FUR_ROPE_%s, %s}}, %d, %r," % (case["rope_theta"], NAMES[case["rope_type"]], fields, DIM,
                                                        float(magnitude)))
    lines.append("    {" + ", ".join("%.17g" % f for f in frequency.double().tolist()) + "}},")
lines.append("/* clang-format on */")
path = pathlib.Path(__file__).resolve().parents[2] / "src/op/rope/rope_golden.h"
path.write_text("\n".join(lines) + "\n")
