# SPDX-License-Identifier: Apache-2.0
"""furlong.torch against PyTorch's own functions, and transformers' models with attn_implementation="furlong" against
the same ones with its eager attention. Skipped where these are not installed; ./dev show torch installs them."""
import math
import os
import warnings

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
torch = pytest.importorskip("torch")
if torch.version.cuda and not torch.cuda.is_available():  # a wheel for GPUs whose libraries are not there dies of this
    torch.cuda.is_current_stream_capturing = lambda: False
functional = torch.nn.functional

import furlong
import furlong.torch as ours

DOUBLE = torch.float64


def normal(*shape, seed=0, dtype=torch.float32, scale=1.0, gradient=False):
    x = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)
    return x.to(dtype).requires_grad_(gradient)


def qkv(T=9, S=9, H=4, K=2, D=5, batch=(2,), dtype=DOUBLE):
    return tuple(normal(*batch, rows, heads, D, seed=i, dtype=dtype, gradient=True)
                 for i, (rows, heads) in enumerate([(T, H), (S, K), (S, K)]))


ATTENTIONS = {
    "causal": {},
    "bidirectional": {"causal": False},
    "window": {"window": 3, "sink_tokens": 1},
    "softcap, slopes": {"softcap": 2.0, "alibi": True},
    "dropout": {"dropout": 0.3, "dropout_key": 11},
    "almost-linear": {"kind": "almost-linear", "chunk": 16, "degree": 3, "window": 2},
    "almost-linear, bidirectional": {"kind": "almost-linear", "chunk": 16, "causal": False},
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_gradcheck_of_attention(name):
    options = ATTENTIONS[name]
    T = 40 if "kind" in options else 9
    q, k, v = qkv(T, T, 2, 1, 3, batch=()) if "kind" in options else qkv()
    assert torch.autograd.gradcheck(lambda *x: ours.attention(*x, **options), (q, k, v), nondet_tol=0.0)


def test_gradcheck_of_sinks_and_bias():
    q, k, v = qkv()
    sinks = normal(4, seed=7, gradient=True)
    # these are float32 numbers to the library: steps of 2^-7 are exact, third-order terms 2^-14 / 6
    for name, options in (("sinks", {}), ("bias", {"kind": "almost-linear", "chunk": 16})):
        wide = {"bias": qkv(33, 33, 4, 2, 3, batch=())}.get(name, (q, k, v))
        fixed = [x.detach() for x in wide]
        call = lambda s: ours.attention(*fixed, **{name: s}, **options)  # noqa: E731, B023
        out = call(sinks)
        do = normal(*out.shape, seed=9, dtype=DOUBLE)
        (gradient,) = torch.autograd.grad(out, sinks, do)
        for h in range(4):
            step = torch.zeros(4)
            step[h] = 2.0**-7
            slope = float((do * (call(sinks.detach() + step) - call(sinks.detach() - step))).sum()) * 2**6
            assert abs(slope - float(gradient[h])) < 2e-4, name


def test_gradcheck_in_float32():
    """The float32 operators themselves. Steps of 2^-6: o's rounding, at most 1e-6, makes 1e-6 * 2^6 = 6e-5 of a slope,
    third derivatives of order 1 at these scales 2^-12 / 6 = 4e-5."""
    q, k, v = qkv(dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gradcheck says that it would rather have double
        for options in ATTENTIONS.values():
            if "kind" not in options:
                assert torch.autograd.gradcheck(lambda *x: ours.attention(*x, **options), (q, k, v), eps=2.0**-6, atol=5e-4,
                                                rtol=0, nondet_tol=0.0)


def test_gradcheck_of_lookup():
    for options in ({}, {"temperature": 0.8, "two_rows": True}):
        x, table, bias = (normal(*s, seed=i, dtype=DOUBLE, gradient=True) for i, s in enumerate([(2, 3, 8), (2, 16, 5), (5,)]))
        assert torch.autograd.gradcheck(lambda *a: ours.lookup(*a, **options), (x, table, bias), nondet_tol=0.0)


def test_gradcheck_of_feedforward():
    x = normal(2, 3, 4, seed=1, dtype=DOUBLE, gradient=True)
    shapes = {"up": (6, 4), "down": (4, 6), "gate": (6, 4), "up_bias": (6,), "norm_weight": (4,), "inner_weight": (6,),
              "inner_bias": (6,), "norm_bias": (4,), "down_bias": (4,)}
    w = {n: normal(*s, seed=5 + i, dtype=DOUBLE, gradient=True) for i, (n, s) in enumerate(shapes.items())}
    cases = [(["up", "down", "up_bias", "down_bias"], {}),
             (["up", "down", "gate"], {"activation": "geglu"}),
             (["up", "down", "gate", "norm_weight"], {"activation": "swiglu", "norm": "rmsnorm", "residual": True}),
             (["up", "down", "norm_weight", "norm_bias", "inner_weight", "inner_bias"],
              {"activation": "norm", "norm": "layernorm"})]
    for names, options in cases:
        call = lambda x, *given: ours.feedforward(x, **dict(zip(names, given)), **options)  # noqa: E731, B023
        assert torch.autograd.gradcheck(call, (x, *(w[n] for n in names)), nondet_tol=0.0)


def test_gradcheck_of_cross_entropy():
    h, w = normal(2, 3, 4, seed=1, dtype=DOUBLE, gradient=True), normal(7, 4, seed=2, dtype=DOUBLE, gradient=True)
    targets = torch.tensor([[0, -100, 6], [1, 3, 3]])
    for reduction in ("mean", "sum"):
        assert torch.autograd.gradcheck(lambda h, w: 3 * ours.linear_cross_entropy(h, w, targets, reduction=reduction),
                                        (h, w), nondet_tol=0.0)


def test_second_derivatives_are_refused():
    q, k, v = qkv()
    with pytest.raises(furlong.Unsupported, match="create_graph"):
        torch.autograd.grad(ours.attention(q, k, v).sum(), q, create_graph=True)


# ---- against PyTorch in float32


def close(got, wanted, tolerance=1e-5):
    got, wanted = got.detach().double(), wanted.detach().double()
    error = float((got - wanted).norm() / wanted.norm())
    assert error < tolerance, error


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("T, S", [(200, 200), (17, 200)])
def test_attention_is_pytorchs(causal, T, S):
    if causal and T < S:
        mask = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    else:
        mask = None
    q, k, v = qkv(T, S, 6, 2, 16, dtype=torch.float32)
    first = [x.detach().transpose(1, 2).contiguous().requires_grad_() for x in (q, k, v)]
    do = normal(2, T, 6, 16, seed=8)
    wanted = functional.scaled_dot_product_attention(*first, attn_mask=mask, is_causal=causal and mask is None,
                                                     enable_gqa=True)
    wanted.backward(do.transpose(1, 2))
    o = ours.attention(q, k, v, causal=causal)
    o.backward(do)
    close(o, wanted.transpose(1, 2))
    for x, y in zip((q, k, v), first):
        close(x.grad, y.grad.transpose(1, 2))
    assert (ours.attention(*first, causal=causal, heads_first=True) == o.transpose(1, 2)).all()


def test_cross_entropy_is_pytorchs():
    h, w = normal(100, 32, seed=1, gradient=True), normal(500, 32, seed=2, gradient=True)
    targets = torch.arange(100) * 37 % 500
    targets[::9] = -100
    loss = ours.linear_cross_entropy(h, w, targets)
    got = torch.autograd.grad(loss, (h, w))
    wanted = functional.cross_entropy(h @ w.T, targets)
    for x, y in zip((loss, *got), (wanted, *torch.autograd.grad(wanted, (h, w)))):
        close(x, y)


def test_feedforward_is_pytorchs():
    x, norm = normal(30, 12, seed=1, gradient=True), torch.nn.LayerNorm(12)
    up, down, activation = torch.nn.Linear(12, 40), torch.nn.Linear(40, 12), torch.nn.GELU(approximate="tanh")
    parameters = [x, *norm.parameters(), *up.parameters(), *down.parameters()]
    wanted = x + down(activation(up(norm(x))))
    got = ours.feedforward(x, up.weight, down.weight, up_bias=up.bias, down_bias=down.bias, norm="layernorm",
                           norm_weight=norm.weight, norm_bias=norm.bias, residual=True)
    do = normal(30, 12, seed=3)
    close(got, wanted)
    for a, b in zip(torch.autograd.grad(got, parameters, do), torch.autograd.grad(wanted, parameters, do)):
        close(a, b)


def test_frozen_weights_have_no_gradient():
    x, up, down = normal(5, 4, seed=1), normal(6, 4, seed=2, gradient=True), normal(4, 6, seed=3)
    ours.feedforward(x, up, down).sum().backward()
    assert up.grad is not None and x.grad is None and down.grad is None
    h, w = normal(5, 4, seed=1, gradient=True), normal(6, 4, seed=2)
    ours.linear_cross_entropy(h, w, torch.zeros(5, dtype=torch.int64)).backward()
    assert h.grad is not None and w.grad is None
    with torch.no_grad():
        ours.linear_cross_entropy(h, w, torch.zeros(5, dtype=torch.int64))


def test_contiguous_tensors_are_not_copied(monkeypatch):
    seen = []
    call = ours.calls.call
    monkeypatch.setattr(ours.calls, "call", lambda *a: (seen.append([int(furlong._native.ffi.cast("intptr_t", p))
                                                                     for p in a[4:7]]), call(*a)))
    q, k, v = qkv(dtype=torch.float32)
    ours.attention(q, k, v)
    assert seen[0] == [x.data_ptr() for x in (q, k, v)]
    turned = [x.detach().transpose(1, 2) for x in (q, k, v)]
    ours.attention(*turned, heads_first=True)
    assert seen[1] == [x.data_ptr() for x in (q, k, v)]


def test_refusals():
    q, k, v = qkv(dtype=torch.float32)
    for call, words in [
        (lambda: ours.attention(q.half(), k.half(), v.half()), "q of torch.float16, expected float32 or float64"),
        (lambda: ours.attention(q, k.double(), v), "beside others of float32"),
        (lambda: ours.attention(q.to("meta"), k, v), "q is on meta"),
        (lambda: ours.attention(q, k[0], v[0]), "expected \\[B, T, H, D\\]"),
        (lambda: ours.attention(q, k, v, offsets=[0, 9]), "one document a row"),
        (lambda: ours.attention(q, k, v, sinks=torch.zeros(3)), "sinks of shape"),
        (lambda: ours.attention(q, k, v, kind="almost-linear", softcap=1.0), "no softcap"),
        (lambda: ours.linear_cross_entropy(q[0, 0], normal(9, 5), torch.tensor([0, 9, 0, 0])), "target 9 at row 1"),
        (lambda: ours.linear_cross_entropy(q[0, 0], normal(9, 5), torch.tensor([0, -1, 0, 0])), "target -1 at row 1"),
        (lambda: ours.linear_cross_entropy(q[0, 0], normal(9, 5), torch.zeros(3, dtype=int)), "targets of shape"),
        (lambda: ours.lookup(q, normal(2, 16, 5)), "R = 2\\^bits"),
        (lambda: ours.attention(q, k, v, memory=100), "the limit is 100"),
    ]:
        with pytest.raises((furlong.FurlongError, ValueError), match=words):
            call()


# ---- transformers

transformers = pytest.importorskip("transformers")

SMALL = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=8, max_position_embeddings=128, pad_token_id=0, eos_token_id=None, bos_token_id=None,
             initializer_range=0.3)
MODELS = {
    "Llama": dict(SMALL, num_key_value_heads=1),
    "Qwen3": SMALL,
    "Qwen2": {key: value for key, value in SMALL.items() if key != "head_dim"},
    "Mistral": dict(SMALL, sliding_window=7),
    "Gemma2": dict(SMALL, sliding_window=6, attn_logit_softcapping=5.0, query_pre_attn_scalar=8),
    "Gemma3Text": dict(SMALL, sliding_window=6, query_pre_attn_scalar=8),
    "GptOss": dict(SMALL, sliding_window=6, num_local_experts=2, num_experts_per_tok=1),
    "GPT2": dict(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=128, pad_token_id=0, eos_token_id=None,
                 bos_token_id=None, initializer_range=0.3, attn_pdrop=0.0, resid_pdrop=0.0, embd_pdrop=0.0),
}
TARGET = 2e-4  # of the logits' spread, and of each gradient's size


def model_of(name, dtype=torch.float32):
    config = getattr(transformers, f"{name}Config")(**MODELS[name])
    torch.manual_seed(3)
    kind = getattr(transformers, {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}.get(name, f"{name}ForCausalLM"))
    model = kind._from_config(config, attn_implementation="eager", dtype=dtype)
    with torch.no_grad():
        for parameter in model.parameters():  # norms and biases off their initial values too
            parameter.add_(0.05 * torch.randn(parameter.shape, dtype=DOUBLE).to(dtype))
    return model


def ids_of(rows, tokens):
    return torch.randint(1, 61, (rows, tokens), generator=torch.Generator().manual_seed(5))


def run(model, attention, **inputs):
    """Logits, and the gradient of every parameter."""
    model.set_attn_implementation(attention)
    model.zero_grad()
    out = model(**inputs)
    out.loss.backward()
    return out.logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def compare(model, keep=None, target=TARGET, other="eager", **inputs):
    """The largest differences in logits, as shares of their spread, and in gradients, of their norms. keep: which
    tokens' logits mean something."""
    wanted, wanted_gradients = run(model, other, **inputs)
    got, gradients = run(model, ours.register(), **inputs)
    keep = torch.ones(got.shape[:2], dtype=torch.bool) if keep is None else keep
    logits = float((got - wanted)[keep].abs().max() / wanted[keep].std())
    assert gradients.keys() == wanted_gradients.keys()
    total = math.sqrt(sum(float(g.norm()) ** 2 for g in wanted_gradients.values()))
    by_name = {}
    for n, g in wanted_gradients.items():
        if float(g.norm()) < 1e-5 * total:  # it is 0 but for rounding, as that of a bias of keys
            assert float(gradients[n].norm()) < 1e-5 * total, n
        else:
            by_name[n] = float((gradients[n] - g).norm() / g.norm())
    assert logits < target and max(by_name.values()) < target, (logits, max(by_name, key=by_name.get), max(by_name.values()))
    return logits, max(by_name.values())


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    ids = ids_of(2, 40)
    compare(model_of(name), input_ids=ids, labels=ids)


@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_models_in_double(name):
    ids = ids_of(2, 30)
    # eager's softmax is float32 in any model, and so are the norms of both
    compare(model_of(name, DOUBLE), target=1e-6, other="sdpa", input_ids=ids, labels=ids)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["Qwen3", "Mistral", "GPT2"])
def test_padded_batches(name, side):
    ids, mask = ids_of(3, 24), torch.ones(3, 24, dtype=torch.int64)
    for row, padding in enumerate([0, 9, 20]):
        where = slice(0, padding) if side == "left" else slice(24 - padding, 24)
        mask[row, where] = 0
    labels = torch.where(mask.bool(), ids, -100)
    labels[:, 1:][~mask[:, :-1].bool()] = -100  # and none of a token whose predecessor is padding
    compare(model_of(name), keep=mask.bool(), input_ids=ids, attention_mask=mask, labels=labels)


@pytest.mark.parametrize("name", ["Llama", "Mistral"])
def test_packed_sequences(name):
    ids = ids_of(1, 30)
    positions = torch.cat([torch.arange(n) for n in (11, 1, 18)])[None]
    compare(model_of(name), input_ids=ids, position_ids=positions, labels=ids, use_cache=False)


@pytest.mark.parametrize("name", ["Llama", "Mistral", "Gemma2", "GPT2"])
def test_generation(name):
    model, ids = model_of(name).eval(), ids_of(2, 12)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    texts = []
    for attention in ("eager", ours.register()):
        model.set_attn_implementation(attention)
        texts.append(model.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False))
    assert (texts[0] == texts[1]).all()


def test_bidirectional_models():
    config = transformers.BertConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=48, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                                     initializer_range=0.3)
    torch.manual_seed(3)
    model = transformers.BertForMaskedLM._from_config(config, attn_implementation="eager")
    ids, mask = ids_of(2, 20), torch.ones(2, 20, dtype=torch.int64)
    mask[1, 13:] = 0
    compare(model, keep=mask.bool(), input_ids=ids, attention_mask=mask, labels=torch.where(mask.bool(), ids, -100))


def test_bfloat16_models():
    """No further from the same weights in float32 than eager attention in bfloat16 is, by more than chance makes it."""
    model, ids = model_of("Llama").to(torch.bfloat16), ids_of(1, 20)
    logits = []
    for attention in ("eager", ours.register()):
        model.set_attn_implementation(attention)
        logits.append(model(ids).logits.detach().float())
    model.set_attn_implementation("eager")
    exact = model.float()(ids).logits.detach()
    assert float((logits[1] - exact).norm()) < 1.5 * float((logits[0] - exact).norm())


def test_almost_linear_models():
    """Within a chunk it is exact attention; beyond, a layer of its own, which learns."""
    name = ours.register("furlong-almost-linear", kind="almost-linear", chunk=64)
    model, ids = model_of("Llama"), ids_of(1, 64)
    model.set_attn_implementation(name)
    near = model(ids).logits
    model.set_attn_implementation("eager")
    close(near, model(ids).logits)
    model.set_attn_implementation(name)
    ids = ids_of(1, 128)
    loss = model(ids, labels=ids).loss
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= 1e-3 * p.grad / p.grad.norm()
    assert model(ids, labels=ids).loss < loss


def test_dropout_follows_the_seed():
    model, ids = model_of("Llama").train(), ids_of(1, 30)
    model.set_attn_implementation(ours.register())
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    logits = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        logits.append(model(ids).logits)
    assert (logits[0] == logits[1]).all() and not (logits[0] == logits[2]).all()


def test_masks_that_are_refused():
    model, ids = model_of("Llama"), ids_of(2, 8)
    model.set_attn_implementation(ours.register())
    holes = torch.ones_like(ids)
    holes[0, 3] = 0
    for inputs, words in [({"attention_mask": torch.zeros(2, 1, 8, 8)}, "a mask of shape \\(2, 1, 8, 8\\)"),
                          ({"attention_mask": holes}, "padding between the tokens"),
                          ({"output_attentions": True}, "output_attentions")]:
        with pytest.raises(furlong.Unsupported, match=words):
            model(ids, **inputs)
    with pytest.raises(furlong.Unsupported, match="static cache"):
        model.generate(ids, max_new_tokens=4, cache_implementation="static")
    odd = lambda batch, head, q, kv: kv <= q  # noqa: E731
    with pytest.raises(furlong.Unsupported, match="the mask '.*lambda.*' of transformers"):
        ours._mask(1, 4, 4, mask_function=odd)
