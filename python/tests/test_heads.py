# SPDX-License-Identifier: Apache-2.0
"""Fitting a head, and auditing a model's heads."""
import json
import math

import numpy
import pytest

import furlong


def planted(sequences=6, n=40, d=6, seed=1):
    g = numpy.random.default_rng(seed)
    x = g.standard_normal((sequences, n, d))
    X, Y = 0.6 * g.standard_normal((d, d)), g.standard_normal((d, d))
    s = numpy.where(numpy.tri(n, dtype=bool), x @ X @ x.transpose(0, 2, 1), -math.inf)
    p = numpy.exp(s - s.max(2, keepdims=True))
    return x, X, p / p.sum(2, keepdims=True) @ x @ Y


def test_a_planted_head_is_found():
    x, X, b = planted()
    fit = furlong.fit_attention(b, x, causal=True)
    assert fit.end == "tolerance" and fit.loss < 1e-20 and fit.held_out_loss < 1e-18
    assert numpy.abs(fit.x[0] - X).max() < 1e-6  # causal rows determine it
    assert numpy.abs(fit.q[0] @ fit.k[0].T - fit.x[0]).max() < 1e-9
    same = furlong.fit_attention(b, a1=x, a2=x.copy(), a3=x.copy(), causal=True)
    assert same.loss < 1e-20
    single = furlong.fit_attention(b.astype(numpy.float32), x.astype(numpy.float32), causal=True)
    assert single.end == "tolerance" and single.figures["tolerance"] > fit.figures["tolerance"]


def test_fits_that_are_refused():
    x, _, b = planted(2, 10, 3)
    for call, words in [(lambda: furlong.fit_attention(b), "expected x, or a1, a2 and a3"),
                        (lambda: furlong.fit_attention(b[:1], x), "rows of b"),
                        (lambda: furlong.fit_attention(b.astype(int), x), "type int64"),
                        (lambda: furlong.fit_attention(b, x, method="magic"), "method 'magic'"),
                        (lambda: furlong.fit_attention(b, x, weights=[1.0]), "1 weights for 20 rows"),
                        (lambda: furlong.fit_attention(b, x * math.nan), "row 0, column 0 is nan")]:
        with pytest.raises((ValueError, ArithmeticError), match=words):
            call()


def test_audit(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({
        "model_type": "gpt2", "vocab_size": 61, "n_embd": 24, "n_layer": 2, "n_head": 3, "n_positions": 512, "n_inner": 96,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}))
    model = furlong.create(path, seed=3)
    ids = numpy.random.default_rng(1).integers(0, 61, 1100)
    audit = furlong.audit(model, ids, max_error=0.05)
    assert [(h.layer, h.head) for h in audit.heads] == [(layer, head) for layer in range(2) for head in range(3)]
    assert all(h.o.low <= h.o.value <= h.o.high for h in audit.heads)
    assert abs(audit.exact_loss - math.log(61)) < 1
    assert audit.mixed is not None and not all(h.exact for h in audit.heads)  # fresh heads are nearly even
    assert abs(audit.mixed_loss - audit.exact_loss) < 0.01
    audit.mixed.save(tmp_path / "mixed")
    assert furlong.load(tmp_path / "mixed").logits(ids[:300]).shape == (300, 61)
    with pytest.raises(furlong.ShapeError):
        furlong.audit(model, ids.reshape(2, -1))
    with pytest.raises(furlong.ArgumentError, match="none is far"):
        furlong.audit(model, ids, tokens=64)
