# SPDX-License-Identifier: Apache-2.0
"""The package on small models. Against PyTorch and transformers: bench/show/python.sh."""
import json
import math

import numpy
import pytest

import furlong

CONFIG = {"model_type": "llama", "vocab_size": 61, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
          "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64,
          "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "hidden_act": "silu",
          "attention_bias": False, "mlp_bias": False}
GPT2 = {"model_type": "gpt2", "vocab_size": 61, "n_embd": 24, "n_layer": 1, "n_head": 3, "n_positions": 64, "n_inner": 96,
        "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    return furlong.create(path, seed=3)


def ids_of(count, seed=1):
    return numpy.random.default_rng(seed).integers(0, 61, count)


def test_loss_is_that_of_the_logits(model):
    ids = ids_of(33)
    logits = model.logits(ids).astype(float)
    logits -= logits.max(axis=1, keepdims=True)
    log_p = logits - numpy.log(numpy.exp(logits).sum(axis=1, keepdims=True))
    wanted = -log_p[numpy.arange(32), ids[1:]]
    losses = model.losses(ids)
    assert numpy.isnan(losses[32]) and numpy.abs(losses[:32] - wanted).max() < 1e-5
    assert abs(model.loss(ids) - wanted.mean()) < 1e-5
    assert abs(model.loss_and_grad(ids)[0] - wanted.mean()) < 1e-5


@pytest.mark.parametrize("config", [CONFIG, GPT2], ids=["llama", "gpt2"])
def test_gradients_are_those_of_differences(config, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    model = furlong.create(path, seed=5)
    ids, generator = ids_of(24), numpy.random.default_rng(2)
    _, gradients = model.loss_and_grad(ids)
    assert gradients.keys() == model.state_dict().keys()
    for name, weight in model.parameters().items():
        gradient = gradients[name]
        if gradient.shape != weight.shape:  # GPT-2's files hold [in, out]
            assert gradient.shape == weight.shape[::-1]
            gradient = gradient.T
        elif config is GPT2 and weight.ndim == 2 and ".h." in name:  # square, and turned all the same
            gradient = gradient.T
        direction = generator.standard_normal(weight.shape).astype(numpy.float32)
        direction *= 0.01 / numpy.linalg.norm(direction)
        before, losses = weight.copy(), []
        for sign in (1, -1):
            weight[...] = before + sign * direction
            losses.append(model.loss(ids))
        weight[...] = before
        slope = float((gradient.astype(float) * direction).sum())
        # third-order terms of a step of 0.01, and f32's rounding of two losses near 4
        assert abs((losses[0] - losses[1]) / 2 - slope) < 0.02 * abs(slope) + 1e-6, name


def test_views_and_copies(model, tmp_path):
    view = model.parameters()["model.norm.weight"]
    view[:] = 2
    assert (model.state_dict()["model.norm.weight"] == 2).all()
    model.save(tmp_path / "out")
    again = furlong.load(tmp_path / "out")
    for name, weight in again.state_dict().items():
        assert (weight == model.state_dict()[name]).all()
    ids = ids_of(20)
    assert (again.logits(ids) == model.logits(ids)).all()
    del model, again
    assert (view == 2).all()  # memory lives as long as a view of it


def test_documents_do_not_see_each_other(model):
    ids, changed = ids_of(30), ids_of(30)
    changed[:10] = (changed[:10] + 1) % 61
    offsets = [0, 10, 30]
    assert (model.logits(ids, offsets)[10:] == model.logits(changed, offsets)[10:]).all()
    assert numpy.isnan(model.losses(ids, offsets=offsets)[[9, 29]]).all()


def test_steps_learn(model):
    ids = numpy.tile(ids_of(8), 4)
    losses = [model.train_step(ids, lr=1e-2)[0] for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


def test_generation(model):
    prompt, seen = ids_of(5), []
    greedy = model.generate(prompt, 6, temperature=0, on_token=seen.append)
    assert greedy == seen and len(greedy) == 6
    row = list(prompt)
    for token in greedy:
        assert int(model.logits(row)[-1].argmax()) == token
        row.append(token)
    assert len(model.generate(prompt, 6, on_token=lambda token: True)) == 1
    assert model.generate(prompt, 6, seed=4) == model.generate(prompt, 6, seed=4)
    with pytest.raises(KeyError):
        model.generate(prompt, 6, on_token=lambda token: {}[token])


def test_plans():
    small = furlong.plan("bytes-1m", 4096)
    assert small.fits and sum(small.items.values()) == small.peak_bytes and small.flops > 0
    assert not furlong.plan("gpt2-124m", 4096, memory="64M").fits
    with open("/proc/self/status") as status:  # the limit is the process's, which may hold PyTorch for other tests
        held = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) << 10
    assert furlong.longest("bytes-1m", memory=held + (256 << 20)) > 4096


def test_refusals(model, tmp_path):
    for wrong, kind in [([1, 61], ValueError), ([1.5, 2], ValueError), ([], ValueError), ([[1, 2]], ValueError),
                        (ids_of(65), ValueError)]:
        with pytest.raises(kind):
            model.logits(numpy.asarray(wrong))
    with pytest.raises(furlong.ShapeError):
        model.logits(ids_of(8), offsets=[0, 9])
    with pytest.raises(furlong.FurlongError, match="nowhere"):
        furlong.load(tmp_path / "nowhere")
    model.memory = "1M"
    with pytest.raises(MemoryError, match="bytes"):
        model.logits(ids_of(8))
    model.memory = None
    model.parameters()["model.norm.weight"][0] = math.nan
    with pytest.raises(furlong.NonFinite):
        model.loss_and_grad(ids_of(8))
    with pytest.raises(furlong.ArgumentError, match="isa"):
        furlong.Context(isa="sse")
