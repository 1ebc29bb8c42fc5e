# SPDX-License-Identifier: Apache-2.0
"""step_rows.py FOLDER ROWS: single rows of the step that observed_step wrote to FOLDER, again in double precision.

For ROWS random rows of each layer, from that layer's stored input x and incoming gradient dy alone: the attention output,
its row statistics and dq, and (with the run's own statistics and outputs of all later rows) dk and dv. Every value is
computed with a bound of what f32 arithmetic may do to it: first-order running error analysis, u = 2^-24, each operation's
own rounding added to what it inherits (docs/NUMERICS.md, "Rows of a long step"). Prints the relative error of each
quantity over all rows and the largest ratio of error to bound; exits 1 where a ratio is above 1.

The model is a Llama-like one: RMSNorm, SwiGLU, RoPE, no biases."""
import json
import os
import struct
import sys

import numpy as np

U = 2.0**-24
CHUNK = 1 << 14
BLOCK = 192  # keys between two looks at the running maximum


class Err:
    """Values in double and a bound of the error of their f32 counterparts."""

    def __init__(self, value, error=0.0):
        self.v = np.asarray(value, np.float64)
        self.e = np.broadcast_to(np.asarray(error, np.float64), self.v.shape)

    def __add__(self, other):
        value = self.v + other.v
        return Err(value, self.e + other.e + U * np.abs(value))

    def __mul__(self, other):
        value = self.v * other.v
        return Err(value, np.abs(self.v) * other.e + np.abs(other.v) * self.e + self.e * other.e + U * np.abs(value))

    def __neg__(self):
        return Err(-self.v, self.e)

    def sum(self):
        """over the last axis, any order"""
        terms = self.v.shape[-1]
        return Err(self.v.sum(-1, keepdims=True),
                   self.e.sum(-1, keepdims=True) + (terms + 8) * U * np.abs(self.v).sum(-1, keepdims=True))

    def map(self, weight):
        """rows times weight[out, in], transposed"""
        size = np.abs(weight).T
        return Err(self.v @ weight.T, self.e @ size + (weight.shape[1] + 8) * U * (np.abs(self.v) @ size))

    def scaled(self, factor):
        return Err(self.v * factor, abs(factor) * self.e + U * np.abs(self.v * factor))


def constant(value):
    return Err(np.asarray(value, np.float64))


def rsqrt_mean_square(x, eps):
    mean = (x * x).sum().scaled(1.0 / x.v.shape[-1])
    value = 1.0 / np.sqrt(mean.v + eps)
    return Err(value, 0.5 * value**3 * (mean.e + U * (mean.v + eps)) + 4 * U * value)


def rms_norm(x, weight, eps):
    return x * rsqrt_mean_square(x, eps) * constant(weight)


def rms_norm_backward(x, weight, eps, dh):
    """r (w dh - x r^2 mean(x w dh))"""
    r, g = rsqrt_mean_square(x, eps), dh * constant(weight)
    mean = (x * g).sum().scaled(1.0 / x.v.shape[-1])
    return r * (g + -(x * (r * (r * mean))))


def sigmoid(x):
    value = 1.0 / (1.0 + np.exp(-x.v))
    return Err(value, value * (1 - value) * x.e * 1.01 + 8 * U * value)


def feedforward_backward(mid, w, eps, dy):
    """gradient by mid of the feedforward and its residual"""
    h = rms_norm(mid, w["norm2"], eps)
    gate, up = h.map(w["gate"]), h.map(w["up"])
    s, dg = sigmoid(gate), dy.map(w["down"].T)
    one_less = Err(1.0 - s.v, s.e + U)
    slope = s * (Err(np.ones_like(s.v)) + gate * one_less)
    dh = (dg * up * slope).map(w["gate"].T) + (dg * gate * s).map(w["up"].T)
    return dy + rms_norm_backward(mid, w["norm2"], eps, dh)


def rotate(x, first, theta, heads, sign=1.0):
    """x [T, heads * D] turned by position, halves of a head paired; cosines and sines rounded to f32"""
    half = x.v.shape[-1] // heads // 2
    angle = np.arange(first, first + len(x.v))[:, None] * theta ** (-np.arange(half) / half)
    turn = [np.tile(np.concatenate((t, t), -1), heads).reshape(len(x.v), heads, 2, half)
            for t in (np.cos(angle), sign * np.sin(angle))]
    v, e = x.v.reshape(-1, heads, 2, half), x.e.reshape(-1, heads, 2, half)
    other = np.stack((-v[:, :, 1], v[:, :, 0]), 2)
    size = np.abs(v) * np.abs(turn[0]) + np.abs(other) * np.abs(turn[1])
    inherited = e * np.abs(turn[0]) + e[:, :, ::-1] * np.abs(turn[1])
    return Err((v * turn[0] + other * turn[1]).reshape(x.v.shape), (inherited + 4 * U * size).reshape(x.v.shape))


def read_safetensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    return {name: np.frombuffer(data[slice(*entry["data_offsets"])], np.float32).reshape(entry["shape"]).astype(np.float64)
            for name, entry in header.items() if name != "__metadata__"}


class Layer:
    def __init__(self, folder, index, config, tensors):
        def of(name):
            return np.memmap(f"{folder}/{index}-{name}.f32", np.float32, "r").reshape(self.tokens, -1)

        prefix = f"model.layers.{index}."
        self.tokens = os.path.getsize(f"{folder}/{index}-x.f32") // 4 // config["hidden_size"]
        self.run = {name: of(name) for name in ("x", "dy", "o", "lse", "dq", "dk", "dv")}
        self.w = {ours: tensors[prefix + theirs + ".weight"] for ours, theirs in (
            ("norm1", "input_layernorm"), ("norm2", "post_attention_layernorm"), ("gate", "mlp.gate_proj"),
            ("up", "mlp.up_proj"), ("down", "mlp.down_proj"), ("q", "self_attn.q_proj"), ("k", "self_attn.k_proj"),
            ("v", "self_attn.v_proj"), ("o", "self_attn.o_proj"))}
        self.eps = config["rms_norm_eps"]
        self.theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.depth = self.w["q"].shape[0] // self.heads
        self.scale = 1.0 / np.sqrt(self.depth)

    def maps(self, first, count):
        """q, k (turned) and v of rows first.. from the stored input"""
        h = rms_norm(constant(self.run["x"][first : first + count]), self.w["norm1"], self.eps)
        return (rotate(h.map(self.w["q"]), first, self.theta, self.heads),
                rotate(h.map(self.w["k"]), first, self.theta, self.kv_heads), h.map(self.w["v"]))

    def d_output(self, first, o):
        """gradient by the attention output of rows first.. from the incoming gradient"""
        rows = slice(first, first + len(o.v))
        mid = constant(self.run["x"][rows]) + o.map(self.w["o"])
        return feedforward_backward(mid, self.w, self.eps, constant(self.run["dy"][rows])).map(self.w["o"].T)

    def prepare(self):
        """all rows' q, k, v, do; bounds kept in f32, rounded up"""
        def store(name, first, x):
            if name not in self.all:
                self.all[name] = (np.empty((self.tokens, x.v.shape[1])), np.empty((self.tokens, x.v.shape[1]), np.float32))
            self.all[name][0][first : first + len(x.v)] = x.v
            self.all[name][1][first : first + len(x.v)] = x.e * (1 + 2 * U)

        self.all = {}
        for first in range(0, self.tokens, CHUNK):
            count = min(CHUNK, self.tokens - first)
            for name, x in zip("qkv", self.maps(first, count)):
                store(name, first, x)
            store("do", first, self.d_output(first, constant(self.run["o"][first : first + count])))

    def rows(self, name, head, rows):
        at = slice(head * self.depth, (head + 1) * self.depth)
        return Err(self.all[name][0][rows, at], self.all[name][1][rows, at])


def against(one, many):
    """one . many of every row, and a bound of its error in f32; the sum of its absolute terms"""
    size = np.abs(many.v) @ np.abs(one.v)
    error = np.abs(many.v) @ one.e + many.e @ np.abs(one.v) + many.e @ one.e
    return many.v @ one.v, error + (len(one.v) + 8) * U * size, size


def query_row(layer, head, i):
    """o, lse, dq (turned) of query i under a head: every one an Err"""
    key = head * layer.kv_heads // layer.heads
    q = Err(*(a[0] for a in (lambda x: (x.v, x.e))(layer.rows("q", head, slice(i, i + 1)))))
    k, v = layer.rows("k", key, slice(0, i + 1)), layer.rows("v", key, slice(0, i + 1))
    s, s_error, size = against(q, k)
    s, s_error, size = s * layer.scale, s_error * layer.scale, size * layer.scale
    most, blocks, terms = np.abs(s).max(), -(-(i + 1) // BLOCK), i + 1
    exponent = s_error + U * (5 * size + 3 * most + 5 * (blocks + 1))
    relative, gather = np.expm1(exponent), (terms + blocks + 4) * U
    lse = s.max() + np.log(np.exp(s - s.max()).sum())
    p = np.exp(s - lse)
    total = p @ relative + gather
    o = p @ v.v
    o_error = (p * (relative + gather)) @ np.abs(v.v) + p @ v.e + np.abs(o) * total
    lse_error = exponent.max() + gather + 3 * U * (abs(lse) + most + np.log(terms))
    return q, k, v, Err(o, o_error / max(1 - total, 0.1)), Err(lse, lse_error), Err(s, s_error), size


def score_gradient(p, p_error, do, v_or_do_rows, delta):
    g, g_error, _ = against(do, v_or_do_rows)
    g, g_error = g - delta.v, g_error + delta.e
    return p * g, p_error * (np.abs(g) + g_error) + p * g_error + 2 * U * p * np.abs(g)


def weights(s, size, lse, depth):
    """P from scores and given statistics"""
    p = np.exp(np.minimum(0, s.v - lse.v))
    return p, np.minimum(1, p * np.expm1(s.e + lse.e + U * (7 * size + 4 * np.abs(lse.v) + 4)))


def gather(factor, error, rows):
    """sum of factor_i rows_i with its bound"""
    size = np.abs(factor) @ np.abs(rows.v)
    return Err(factor @ rows.v, error @ (np.abs(rows.v) + rows.e) + np.abs(factor) @ rows.e +
               (len(factor) + 8) * U * size)


def check_queries(layer, chosen, report):
    for i in chosen:
        heads = [query_row(layer, h, i) for h in range(layer.heads)]
        o = Err(np.concatenate([h[3].v for h in heads]), np.concatenate([h[3].e for h in heads]))
        d_o = layer.d_output(i, Err(o.v[None], o.e[None]))
        dq = np.empty_like(o.v), np.empty_like(o.v)
        for h, (q, k, v, o_h, lse, s, size) in enumerate(heads):
            at = slice(h * layer.depth, (h + 1) * layer.depth)
            d = Err(d_o.v[0, at], d_o.e[0, at])
            delta = (Err(d.v, d.e) * o_h).sum()
            p, p_error = weights(s, size, lse, layer.depth)
            ds, ds_error = score_gradient(p, p_error, d, v, Err(delta.v[0], delta.e[0]))
            x = gather(ds, ds_error, k).scaled(layer.scale)
            dq[0][at], dq[1][at] = x.v, x.e
            report("lse", layer.run["lse"][i, h : h + 1], Err(lse.v[None] if lse.v.ndim else np.array([lse.v]), lse.e))
        report("o", layer.run["o"][i], o)
        report("dq", layer.run["dq"][i], back(Err(dq[0][None], dq[1][None]), i, layer, layer.heads))


def back(x, i, layer, heads):
    turned = rotate(x, i, layer.theta, heads, -1.0)
    return Err(turned.v[0], turned.e[0])


def check_keys(layer, chosen, report):
    group = layer.heads // layer.kv_heads
    for j in chosen:
        sums = {name: (np.zeros(layer.kv_heads * layer.depth), np.zeros(layer.kv_heads * layer.depth)) for name in ("dk", "dv")}
        for head in range(layer.heads):
            key = head // group
            at, later = slice(key * layer.depth, (key + 1) * layer.depth), slice(j, layer.tokens)
            k, v = (Err(x.v[0], x.e[0]) for x in (layer.rows("k", key, slice(j, j + 1)), layer.rows("v", key, slice(j, j + 1))))
            q, d_o = layer.rows("q", head, later), layer.rows("do", head, later)
            o = constant(layer.run["o"][later, head * layer.depth : (head + 1) * layer.depth])
            lse = constant(layer.run["lse"][later, head])
            s, s_error, size = against(k, q)
            s, size = Err(s * layer.scale, s_error * layer.scale), size * layer.scale
            p, p_error = weights(s, size, lse, layer.depth)
            delta = (d_o * o).sum()
            ds, ds_error = score_gradient(p, p_error, v, d_o, Err(delta.v[:, 0], delta.e[:, 0]))
            for name, x in (("dk", gather(ds, ds_error, q).scaled(layer.scale)), ("dv", gather(p, p_error, d_o))):
                sums[name][0][at] += x.v
                sums[name][1][at] += x.e
        dk = back(Err(sums["dk"][0][None], sums["dk"][1][None]), j, layer, layer.kv_heads)
        report("dk", layer.run["dk"][j], dk)
        report("dv", layer.run["dv"][j], Err(*sums["dv"]))


def main():
    folder, rows = sys.argv[1], int(sys.argv[2])
    with open(f"{folder}/model/config.json") as file:
        config = json.load(file)
    tensors, failed = read_safetensors(f"{folder}/model/model.safetensors"), False
    for index in range(config["num_hidden_layers"]):
        layer, sums = Layer(folder, index, config, tensors), {}

        def report(name, got, want):
            difference = np.abs(np.asarray(got, np.float64) - want.v)
            error, size, ratio = sums.get(name, (0.0, 0.0, 0.0))
            sums[name] = (error + (difference**2).sum(), size + (want.v**2).sum(),
                          max(ratio, float((difference / np.maximum(want.e, 1e-300)).max())))

        layer.prepare()
        chosen = np.sort(np.random.default_rng(index).choice(layer.tokens, min(rows, layer.tokens), replace=False))
        check_queries(layer, chosen, report)
        check_keys(layer, chosen, report)
        for name, (error, size, ratio) in sums.items():
            print(f"layer {index}, {len(chosen)} of {layer.tokens} rows, {name:3s}: relative error {np.sqrt(error / size):.2e}, "
                  f"largest error / bound {ratio:.1e}, target at most 1", flush=True)
            failed = failed or not ratio <= 1
    sys.exit(1 if failed else 0)


if len(sys.argv) != 3:
    sys.exit(__doc__.splitlines()[0])
main()
