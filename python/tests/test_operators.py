# SPDX-License-Identifier: Apache-2.0
"""The operators over NumPy: against the formulas in double, here as one writes them down."""
import math

import numpy
import pytest

import furlong
from furlong import operators

U = 2.0**-24


def normal(*shape, seed=0, dtype=numpy.float32):
    return numpy.random.default_rng(seed).standard_normal(shape).astype(dtype)


def plain_attention(q, k, v, causal=True, window=0, offsets=None):
    """o of float64 arrays, query by query."""
    T, H, D = q.shape
    S, K, _ = k.shape
    offsets = [0, S] if offsets is None else offsets
    o = numpy.empty_like(q)
    for t in range(T):
        i = S - T + t
        start, end = next((a, b) for a, b in zip(offsets[:-1], offsets[1:]) if a <= i < b)
        j = numpy.arange(start, i + 1 if causal else end)
        j = j[numpy.abs(i - j) < window] if window else j
        for h in range(H):
            s = k[j, h * K // H] @ q[t, h] / math.sqrt(D)
            p = numpy.exp(s - s.max())
            o[t, h] = p @ v[j, h * K // H] / p.sum()
    return o


@pytest.mark.parametrize("options", [{}, {"causal": False}, {"window": 7}, {"causal": False, "window": 5},
                                     {"offsets": [0, 9, 10, 40]}])
@pytest.mark.parametrize("T", [40, 11])
def test_attention_is_the_formula(options, T):
    if T < 40 and "offsets" in options:
        pytest.skip("which queries are whose is said otherwise")
    q, k, v = normal(T, 6, 8, seed=1), normal(40, 2, 8, seed=2), normal(40, 2, 8, seed=3)
    wide = [x.astype(float) for x in (q, k, v)]
    wanted = plain_attention(*wide, **options)
    o64, lse64 = operators.attention(*wide, **options)
    assert numpy.abs(o64 - wanted).max() < 1e-14
    o, lse = operators.attention(q, k, v, **options)
    assert o.dtype == numpy.float32 and lse.shape == (T, 6)
    # a logit of size 10 errs by (D + 19) 10 u, a weight by as much of itself, the mean by twice that of the largest |v|
    assert numpy.abs(o - wanted).max() < 2 * 280 * U * numpy.abs(v).max()
    assert numpy.abs(lse - lse64).max() < 280 * U


@pytest.mark.parametrize("options", [{}, {"window": 7, "sink_tokens": 2}, {"softcap": 1.5, "alibi": True},
                                     {"dropout": 0.25, "dropout_key": 5},
                                     {"kind": "almost-linear", "chunk": 16, "degree": 3},
                                     {"kind": "almost-linear", "chunk": 16, "causal": False, "window": 3}])
def test_attention_gradients(options):
    more = {"bias": normal(4, seed=7)} if "kind" in options else {"sinks": normal(4, seed=8)}
    q, k, v, do = normal(50, 4, 6, seed=1), normal(50, 2, 6, seed=2), normal(50, 2, 6, seed=3), normal(50, 4, 6, seed=4)
    wide = [x.astype(float) for x in (q, k, v)]
    o64, lse64 = operators.attention(*wide, **options, **more)
    g64 = operators.attention_backward(*wide, o64, lse64, do.astype(float), **options, **more)
    direction = [normal(*x.shape, seed=9 + i, dtype=float) for i, x in enumerate(wide)]
    f = [float((do * operators.attention(*(x + s * d for x, d in zip(wide, direction)), **options, **more)[0]).sum())
         for s in (1e-3, -1e-3, 2e-3, -2e-3)]
    slope = (8 * (f[0] - f[1]) - (f[2] - f[3])) / 12e-3
    along = [g * d for g, d in zip(g64, direction)]
    assert abs(slope - sum(x.sum() for x in along)) < 1e-8 * sum(numpy.abs(x).sum() for x in along)
    o, lse = operators.attention(q, k, v, **options, **more)
    g = operators.attention_backward(q, k, v, o, lse, do, **options, **more)
    for name, got, wanted in zip(g._fields, g, g64):
        if wanted is None:
            assert got is None and name in ("sinks", "bias")
            continue
        assert got.dtype == numpy.float32 and numpy.linalg.norm(got - wanted) < 1e-5 * numpy.linalg.norm(wanted), name


def test_documents_of_queries_and_keys():
    q, k, v = normal(5, 2, 4, seed=1), normal(20, 1, 4, seed=2), normal(20, 1, 4, seed=3)
    o, _ = operators.attention(q, k, v, offsets=[0, 12, 20], query_offsets=[0, 2, 5])
    first, _ = operators.attention(q[:2], k[:12], v[:12])
    second, _ = operators.attention(q[2:], k[12:], v[12:])
    assert (o == numpy.concatenate([first, second])).all()


def plain_lookup(x, table, bias, temperature):
    K, R, O = table.shape
    bits = R.bit_length() - 1
    y = numpy.tile(bias, (len(x), 1))
    for t, row in enumerate(x):
        for c, z in enumerate(row.reshape(K, bits)):
            code = sum((1 << (bits - 1 - i)) * (z[i] >= 0) for i in range(bits))
            P = numpy.prod(1 / (1 + numpy.exp(-2 * numpy.abs(z) / (temperature or 1))))
            y[t] += (P if temperature else P * numpy.abs(z).sum()) * table[c, code]
    return y


@pytest.mark.parametrize("tokens", [3, 40])
@pytest.mark.parametrize("temperature", [0, 0.7])
def test_lookup(tokens, temperature):
    x, table, bias = normal(tokens, 12, seed=1), normal(3, 16, 10, seed=2), normal(10, seed=3)
    wide = [a.astype(float) for a in (x, table, bias)]
    wanted = plain_lookup(*wide, temperature)
    assert numpy.abs(operators.lookup(*wide, temperature=temperature) - wanted).max() < 1e-13
    size = plain_lookup(wide[0], numpy.abs(wide[1]), numpy.abs(wide[2]), temperature)
    assert (numpy.abs(operators.lookup(x, table, bias, temperature=temperature) - wanted) < 45 * U * size).all()
    dy = normal(tokens, 10, seed=4)
    wide64 = operators.lookup_backward(wide[0], wide[1], dy.astype(float), temperature=temperature)
    for got, exact in zip(operators.lookup_backward(x, table, dy, temperature=temperature), wide64):
        assert numpy.linalg.norm(got - exact) < 1e-5 * numpy.linalg.norm(exact)
    assert numpy.abs(wide64[2] - dy.sum(0, dtype=float)).max() < 1e-12


def plain_swiglu(x, w):
    h = x / numpy.sqrt((x * x).mean(1, keepdims=True) + 1e-6) * w["norm"]
    gate = h @ w["gate"].T
    return x + (gate / (1 + numpy.exp(-gate)) * (h @ w["up"].T)) @ w["down"].T


def plain_gelu(x, w):
    u = x @ w["up"].T + w["up_bias"]
    return (0.5 * u * (1 + numpy.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u**3)))) @ w["down"].T + w["down_bias"]


def test_feedforward():
    x, dy = normal(30, 12, seed=1), normal(30, 12, seed=2)
    cases = [(plain_swiglu, {"norm": (12,), "gate": (20, 12), "up": (20, 12), "down": (12, 20)},
              {"activation": "swiglu", "norm": "rmsnorm", "eps": 1e-6, "residual": True}),
             (plain_gelu, {"up": (20, 12), "up_bias": (20,), "down": (12, 20), "down_bias": (12,)}, {})]
    for plain, shapes, options in cases:
        weights = {name: 0.3 * normal(*shape, seed=10 + i) for i, (name, shape) in enumerate(shapes.items())}
        wide = {name: w.astype(float) for name, w in weights.items()}
        wanted = plain(x.astype(float), wide)
        assert numpy.abs(operators.feedforward(x.astype(float), wide, **options) - wanted).max() < 1e-13
        y = operators.feedforward(x, weights, **options)
        assert numpy.linalg.norm(y - wanted) < 16 * math.sqrt(32) * U * numpy.linalg.norm(wanted)
        g = operators.feedforward_backward(x, weights, dy, **options)
        assert g.weights.keys() == weights.keys()
        for name, w in wide.items():  # along one direction each
            d = normal(*w.shape, seed=20, dtype=float)
            up, down = (plain(x.astype(float), {**wide, name: w + s * d}) for s in (1e-4, -1e-4))
            slope = float((dy * (up - down)).sum() / 2e-4)
            assert abs(slope - (g.weights[name] * d).sum()) < 1e-4 * numpy.abs(g.weights[name] * d).sum(), name


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_cross_entropy(reduction):
    h, w, targets = normal(25, 8, seed=1), normal(40, 8, seed=2), numpy.arange(25) * 7 % 40
    targets[3] = -100
    logits = h.astype(float) @ w.astype(float).T
    p = numpy.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    counted = targets >= 0
    weight = 1 / counted.sum() if reduction == "mean" else 1
    wanted = -weight * numpy.log(p[counted, targets[counted]]).sum()
    p[counted, targets[counted]] -= 1
    p[~counted] = 0
    loss, dh, dw = operators.cross_entropy(h, w, targets, reduction=reduction, gradients=True)
    assert abs(loss - wanted) < 1e-6 * wanted and loss == operators.cross_entropy(h, w, targets, reduction=reduction)
    assert numpy.linalg.norm(dh - weight * p @ w) < 1e-6 * numpy.linalg.norm(dh)
    assert numpy.linalg.norm(dw - weight * p.T @ h) < 1e-6 * numpy.linalg.norm(dw)
    exact = operators.cross_entropy(h.astype(float), w.astype(float), targets, reduction=reduction)
    assert abs(exact - wanted) < 1e-13 * wanted


class Lent:
    """An array that is to be had by DLPack alone."""

    def __init__(self, array):
        self.array, self.asked = array, 0

    def __dlpack__(self, **options):
        self.asked += 1
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_are_taken_as_they_are():
    q, k, v = normal(10, 2, 4, seed=1), normal(10, 2, 4, seed=2), normal(10, 2, 4, seed=3)
    o, _ = operators.attention(q, k, v)
    lent = Lent(q)
    assert numpy.shares_memory(operators._Arrays(q=lent)["q"], q) and lent.asked == 1
    assert numpy.shares_memory(operators._Arrays(q=q)["q"], q)
    assert numpy.shares_memory(operators._Arrays(q=memoryview(q))["q"], q)
    assert (operators.attention(lent, memoryview(k), v)[0] == o).all()
    turned = numpy.ascontiguousarray(q.transpose(1, 0, 2)).transpose(1, 0, 2)
    assert (operators.attention(turned, k, v)[0] == o).all()
    q.flags.writeable = False
    assert (operators.attention(q, k, v)[0] == o).all()


def test_same_bits_at_any_number_of_threads():
    q, k, v = normal(300, 4, 16, seed=1), normal(300, 2, 16, seed=2), normal(300, 2, 16, seed=3)
    one, three = (operators.attention(q, k, v, context=furlong.Context(threads=n)) for n in (1, 3))
    assert (one[0] == three[0]).all() and (one[1] == three[1]).all()


def test_memory_is_stated():
    q, k = (64, 4, 16), (64, 2, 16)
    needs = operators.attention_bytes(q, k)
    operators.attention(normal(*q), normal(*k), normal(*k), memory=needs)
    with pytest.raises(MemoryError, match=rf"q\[64,4,16\] over k\[64,2,16\]: needs {needs} bytes"):
        operators.attention(normal(*q), normal(*k), normal(*k), memory=needs - 1)


@pytest.mark.parametrize("call, words", [
    (lambda: operators.attention(normal(4, 2, 3), normal(4, 2, 4), normal(4, 2, 4)), "k of shape"),
    (lambda: operators.attention(normal(4, 2, 4), normal(4, 2, 4), normal(4, 1, 4)), "v of shape"),
    (lambda: operators.attention(normal(4, 3, 4), normal(4, 2, 4), normal(4, 2, 4)), "do not divide"),
    (lambda: operators.attention(normal(5, 2, 4), normal(4, 2, 4), normal(4, 2, 4)), "more queries than keys"),
    (lambda: operators.attention(normal(0, 2, 4), normal(0, 2, 4), normal(0, 2, 4)), "without elements"),
    (lambda: operators.attention(normal(4, 2, 4), normal(4, 2, 4, dtype=float), normal(4, 2, 4)), "beside others"),
    (lambda: operators.attention(normal(4, 2, 4).astype(">f4"), normal(4, 2, 4), normal(4, 2, 4)), "type >f4"),
    (lambda: operators.attention(numpy.ones((4, 2, 4), int), normal(4, 2, 4), normal(4, 2, 4)), "type int64"),
    (lambda: operators.attention(normal(4, 2, 4), normal(4, 2, 4), normal(4, 2, 4), kind="linear"), "no kind 'linear'"),
    (lambda: operators.attention(normal(4, 2, 4), normal(4, 2, 4), normal(4, 2, 4), offsets=[0, 5]), "expected 0 to 4"),
    (lambda: operators.attention(normal(4, 2, 4), normal(4, 2, 4), normal(4, 2, 4), sinks=normal(3)), "sink of shape"),
    (lambda: operators.attention(normal(4, 2, 4), normal(4, 2, 4), normal(4, 2, 4), scale=0), "scale 0"),
    (lambda: operators.lookup(normal(4, 6), normal(2, 7, 5)), "R = 2\\^bits"),
    (lambda: operators.lookup(normal(4, 6) * math.inf, normal(2, 8, 5)), "row 0|first row|not finite|infin"),
    (lambda: operators.feedforward(normal(4, 6), {"up": normal(3, 6)}), "down is missing"),
    (lambda: operators.feedforward(normal(4, 6), {"up": normal(3, 6), "down": normal(3, 6)}), "down of shape"),
    (lambda: operators.feedforward(normal(4, 6), {"up": normal(3, 6), "down": normal(6, 3), "x": 1}), "no weight 'x'"),
    (lambda: operators.feedforward(normal(4, 6), {"up": normal(3, 6), "down": normal(6, 3)}, activation="relu"),
     "activation 'relu', expected one of gelu_tanh"),
    (lambda: operators.cross_entropy(normal(4, 6), normal(9, 6), [0, 1, 9, 2]), "target 9 at row 2"),
    (lambda: operators.cross_entropy(normal(4, 6), normal(9, 6), [0, 1, 2**40, 2]), "target 1099511627776 at row 2"),
    (lambda: operators.cross_entropy(normal(4, 6), normal(9, 6), [0.5] * 4), "expected integers"),
])
def test_refusals(call, words):
    with pytest.raises((ValueError, ArithmeticError), match=words):
        call()
