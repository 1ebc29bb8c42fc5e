# SPDX-License-Identifier: Apache-2.0
"""blocks.py OUT: tests/golden/blocks.safetensors, by the PyPI package gguf (0.19.0): for each type of GGUF that is
read, random blocks (TYPE.bytes) and what gguf.dequantize makes of them (TYPE.values); for Q8_0, F16 and BF16 also
numbers (TYPE.from) and what gguf.quantize makes of those (TYPE.to). Scales are f16 of every size and sign, denormals and
zeros among them; the numbers to be quantised hold a block of zeros, ties and signs of zero, tiny and huge ones."""
import json
import struct
import sys

import gguf
import numpy

ELEMENTS = 512
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2],
          "Q6_K": [208]}  # bytes of a block at which an f16 stands


def finite_halves(random, count):
    """f16 bits: any but infinities and NaN, a quarter of them denormal or zero."""
    bits = random.integers(0, 0x7c00, count).astype(numpy.uint16)
    small = random.random(count) < 0.25
    bits[small] = random.integers(0, 0x400, int(small.sum()))
    bits[random.random(count) < 0.1] = 0
    return bits | (random.integers(0, 2, count).astype(numpy.uint16) << 15)


def blocks(random, name):
    kind = gguf.GGMLQuantizationType[name]
    per_block, size = gguf.GGML_QUANT_SIZES[kind]
    count = ELEMENTS // per_block
    if name in ("F16", "BF16"):
        halves = finite_halves(random, count) if name == "F16" else random.integers(0, 0x7f80, count).astype(numpy.uint16)
        return halves.view(numpy.uint8)
    if name == "F32":
        return random.standard_normal(count).astype(numpy.float32).view(numpy.uint8)
    data = random.integers(0, 256, (count, size)).astype(numpy.uint8)
    for at in SCALES[name]:
        data[:, at:at + 2] = finite_halves(random, count).view(numpy.uint8).reshape(-1, 2)
    return data.reshape(-1)


def numbers(random):
    x = (random.standard_normal((ELEMENTS // 32, 32)) * 10.0 ** random.uniform(-6, 4, (ELEMENTS // 32, 1)))
    x = x.astype(numpy.float32)
    x[0] = 0
    x[1] = -numpy.float32(0)
    x[2] = numpy.arange(32) - 15.5  # ties, once 127 is the largest
    x[2, 31] = 127
    x[3, 5] = 3e6
    x[4] *= numpy.float32(1e-30)
    return x


def main():
    random = numpy.random.default_rng(20)
    tensors = {}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        data = blocks(random, name)
        tensors[f"{name}.bytes"] = ("U8", data)
        tensors[f"{name}.values"] = ("F32", gguf.dequantize(data.reshape(1, -1), kind).reshape(-1))
    for name in ("F16", "BF16", "Q8_0"):
        x = numbers(random)
        if name == "F16":
            x = numpy.clip(x, -70000, 70000)
        tensors[f"{name}.from"] = ("F32", x.reshape(-1))
        with numpy.errstate(over="ignore"):
            to = gguf.quantize(x, gguf.GGMLQuantizationType[name])
        tensors[f"{name}.to"] = ("U8", to.reshape(-1).view(numpy.uint8))
    header, body = {}, b""
    for name, (dtype, data) in sorted(tensors.items(), key=lambda item: item[1][0] != "F32"):
        raw = numpy.ascontiguousarray(data).tobytes()
        header[name] = {"dtype": dtype, "shape": [int(data.size)], "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(sys.argv[1], "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + body)


main()
