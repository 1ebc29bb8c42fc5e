# SPDX-License-Identifier: Apache-2.0
"""make_golden.py [FOLDER [FAMILY...]]: tests/golden, from PyTorch and transformers (tools/golden/requirements.txt).

For each family a small random model in Hugging Face form, one packed row of documents (block-diagonal mask, positions
that restart), and from transformers in float64: loss, logits of every fourth position, and the gradient of every
parameter by autograd. golden.json says how far PyTorch in float32 is from that, on the same weights and tokens: the
smallest of its attention kernels (sdpa, eager), and of rotary angles as transformers computes them (in float32, off by
1e-5 at these positions) and in double; the test in C must be within 1.5 times.

transformers casts some steps to float32 whatever the model's type (RMSNorm, rotary angles, softmax): in the float64 runs
those are replaced by the same formulas without the cast. Gradients are stored as Furlong holds weights: [out, in], and q,
k, v one after the other.

The same versions on the same machine write the same bytes; elsewhere the last bits of float32 figures may differ.
"""
import json
import pathlib
import sys

import numpy
import safetensors.numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "peers"))
from peer import torch  # noqa: E402
import transformers  # noqa: E402

SEED = 20260101
DOCUMENTS = [350, 5, 320, 325]
TOKENS = sum(DOCUMENTS)
VOCABULARY = 64
LOGITS_EVERY = 4  # of positions 3, 7, 11, ...

COMMON = dict(vocab_size=VOCABULARY, use_cache=False)
ROTARY = dict(**COMMON, max_position_embeddings=512, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
              num_key_value_heads=2, intermediate_size=72, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=0,
              pad_token_id=None)  # of a padding token Gemma's embedding gets no gradient
CASES = {
    "gpt2": transformers.GPT2Config(
        **COMMON, n_positions=360, n_embd=32, n_layer=3, n_head=4, n_inner=128, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, layer_norm_epsilon=1e-5, bos_token_id=0, eos_token_id=0),
    "llama": transformers.LlamaConfig(
        **COMMON, max_position_embeddings=512, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, intermediate_size=88, rms_norm_eps=1e-5, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0), bos_token_id=0, eos_token_id=0),
    "gpt_neox": transformers.GPTNeoXConfig(
        **COMMON, max_position_embeddings=512, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=128, hidden_act="gelu_new", layer_norm_eps=1e-5, use_parallel_residual=False,
        tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=10000.0,
                                                        partial_rotary_factor=1.0),
        attention_dropout=0.0, hidden_dropout=0.0, bos_token_id=0, eos_token_id=0),
    "qwen2": transformers.Qwen2Config(
        **ROTARY, tie_word_embeddings=True, use_sliding_window=True, sliding_window=50, max_window_layers=1,
        rope_parameters=dict(rope_type="default", rope_theta=20000.0)),
    "qwen3": transformers.Qwen3Config(
        **ROTARY, head_dim=10, tie_word_embeddings=False, rope_parameters=dict(rope_type="default", rope_theta=20000.0)),
    "gemma2": transformers.Gemma2Config(
        **ROTARY, head_dim=12, sliding_window=60, query_pre_attn_scalar=9, attn_logit_softcapping=4.0,
        final_logit_softcapping=3.0, rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
    "gemma3_text": transformers.Gemma3TextConfig(
        **ROTARY, head_dim=12, sliding_window=60, query_pre_attn_scalar=9,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=20000.0, factor=4.0),
                             sliding_attention=dict(rope_type="default", rope_theta=500.0))),
}


def make_row(generator):
    """ids, targets (-1: not counted), offsets, positions, and which key each query sees"""
    offsets = numpy.concatenate([[0], numpy.cumsum(DOCUMENTS)]).astype(numpy.int64)
    ids = generator.integers(0, VOCABULARY, TOKENS).astype(numpy.int32)
    targets = numpy.full(TOKENS, -1, numpy.int32)
    positions = numpy.empty(TOKENS, numpy.int64)
    document = numpy.empty(TOKENS, numpy.int64)
    for d, (first, end) in enumerate(zip(offsets, offsets[1:])):
        targets[first:end - 1] = ids[first + 1:end]
        positions[first:end] = numpy.arange(end - first)
        document[first:end] = d
    targets[generator.random(TOKENS) < 0.1] = -1
    order = numpy.arange(TOKENS)
    sees = (document[:, None] == document[None, :]) & (order[:, None] >= order[None, :])
    return ids, targets, offsets, torch.from_numpy(positions), torch.from_numpy(sees)


def randomize(model, generator):
    """Weights large enough that attention is far from uniform; norms and biases off their initial values."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(numpy.float32))
            if parameter.dim() > 1:
                parameter.copy_(0.15 * noise)
            elif name.endswith("weight"):
                parameter.copy_(float(not model.config.model_type.startswith("gemma")) + 0.2 * noise)
            else:
                parameter.copy_(0.2 * noise)


class Exact:
    """The formulas without transformers' casts, in the type of their input."""

    @staticmethod
    def attention(module, query, key, value, attention_mask, scaling=None, softcap=None, **_):
        repeat = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
        scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
        if softcap:
            scores = softcap * torch.tanh(scores / softcap)
        weights = scores.masked_fill(attention_mask < 0, -torch.inf).softmax(-1)
        return (weights @ value).transpose(1, 2).contiguous(), weights

    @staticmethod
    def rms_norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    @staticmethod
    def gemma_norm(self, x):
        return (1 + self.weight) * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))

    @staticmethod
    def rotary(self, x, position_ids, layer_type=None):
        parameters = self.config.rope_parameters
        parameters = parameters[layer_type] if layer_type else parameters
        width = getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads
        frequency = parameters["rope_theta"] ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        frequency /= parameters.get("factor", 1)  # linear
        angle = position_ids[..., None].double() * frequency
        angle = torch.cat([angle, angle], -1)
        return angle.cos().to(x.dtype), angle.sin().to(x.dtype)


transformers.AttentionInterface.register("exact", Exact.attention)
transformers.masking_utils.AttentionMaskInterface.register("exact", transformers.masking_utils.eager_mask)


def run(config, state, row, dtype, attention, exact_angles):
    """loss, logits, gradients by name"""
    ids, targets, _, positions, sees = row
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    model.load_state_dict(state)
    model = model.to(dtype)
    for module in model.modules():
        if exact_angles and type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = Exact.rotary.__get__(module)
        if dtype is torch.float64 and type(module).__name__.endswith("RMSNorm"):
            norm = Exact.gemma_norm if config.model_type.startswith("gemma") else Exact.rms_norm
            module.forward = norm.__get__(module)
    order, window = numpy.arange(TOKENS), getattr(config, "sliding_window", None)
    full = torch.zeros(TOKENS, TOKENS, dtype=dtype).masked_fill(~sees, torch.finfo(dtype).min)[None, None]
    mask = full
    if window:
        near = torch.from_numpy(order[:, None] - order[None, :] < window)
        mask = {"full_attention": full, "sliding_attention": full.masked_fill(~near, torch.finfo(dtype).min)}
    logits = model(input_ids=torch.from_numpy(ids).long()[None], position_ids=positions[None], attention_mask=mask,
                   use_cache=False).logits[0]
    if logits.dtype != dtype:
        sys.exit(f"logits are {logits.dtype}, not {dtype}")
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(targets).long(), ignore_index=-1)
    loss.backward()
    gradients = {name: p.grad.double().numpy() for name, p in model.named_parameters()}
    return float(loss.detach().double()), logits.detach().double().numpy(), gradients


def held(name, gradient, config):
    """As Furlong holds it: [out, in], q then k then v."""
    if config.model_type == "gpt2" and gradient.ndim == 2 and (".attn." in name or ".mlp." in name):
        return gradient.T
    if config.model_type == "gpt_neox" and "query_key_value" in name:
        heads = config.num_attention_heads
        parts = gradient.reshape(heads, 3, -1, *gradient.shape[1:])
        return numpy.moveaxis(parts, 1, 0).reshape(gradient.shape)
    return gradient


def relative(got, want):
    """|| got - want || / || want || over everything"""
    error = sum(float(((a - b) ** 2).sum()) for a, b in zip(got, want))
    return (error / sum(float((b ** 2).sum()) for b in want)) ** 0.5


def make(name, config, folder):
    generator = numpy.random.default_rng([SEED, len(name)])
    row = make_row(generator)
    model = transformers.AutoModelForCausalLM.from_config(config)
    randomize(model, generator)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    loss, logits, gradients = run(config, state, row, torch.float64, "exact", True)
    figures = {"loss": loss, "counted": int((row[1] >= 0).sum()), "float32": {}}
    for attention in ("eager",) if config.model_type == "gemma2" else ("sdpa", "eager"):  # sdpa has no softcap
        for angles in ("float32", "double"):
            loss_32, logits_32, gradients_32 = run(config, state, row, torch.float32, attention, angles == "double")
            figures["float32"][f"{attention}, angles in {angles}"] = {
                "gradient": relative([gradients_32[key] for key in gradients], gradients.values()),
                "logits": relative([logits_32], [logits]), "loss": abs(loss_32 - loss) / loss}
    for figure in ("gradient", "logits", "loss"):
        figures[f"float32_{figure}_error"] = min(f[figure] for f in figures["float32"].values())
    figures["made_by"] = {"python": sys.version.split()[0], "torch": torch.__version__.split("+")[0],
                          "transformers": transformers.__version__, "numpy": numpy.__version__, "seed": SEED}
    arrays = {"ids": row[0], "targets": row[1], "offsets": row[2],
              "logits": logits[LOGITS_EVERY - 1::LOGITS_EVERY]}
    for key, gradient in gradients.items():
        if config.model_type == "gpt_neox" and key == "lm_head.weight":
            key = "embed_out.weight"  # its name in files
        arrays[f"gradient.{key}"] = held(key, gradient, config)
    arrays = {key: numpy.ascontiguousarray(value) for key, value in arrays.items()}
    safetensors.numpy.save_file(arrays, folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(name, {key: figures[key] for key in figures if key.endswith("error")})


def main():
    root = pathlib.Path(__file__).resolve().parents[2]
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else root / "tests" / "golden"
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    for name in sys.argv[2:] or CASES:
        config, folder = CASES[name], target / name
        folder.mkdir(parents=True, exist_ok=True)
        make(name, config, folder)


if __name__ == "__main__":
    main()
