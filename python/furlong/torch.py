# SPDX-License-Identifier: Apache-2.0
"""The library's operators for PyTorch: functions with gradients, and an attention for transformers' models.

    import furlong.torch
    o = furlong.torch.attention(q, k, v, causal=True)           # [B, T, H, D]
    loss = furlong.torch.linear_cross_entropy(h, head, targets)  # never T x V

    furlong.torch.register()
    model = transformers.AutoModelForCausalLM.from_pretrained(path, attn_implementation="furlong")

Tensors are on the CPU, contiguous ones are not copied. float32 goes through the library's operators. float64 goes
through its plain loops in double: the formulas that the operators are measured against, slow, and what
torch.autograd.gradcheck wants. Other types are refused (an attention that transformers calls converts bfloat16 and
float16 to float32 and back), and so are gradients of gradients. Threads are those of torch.get_num_threads(), unless a
furlong.Context is given; results have the same bits at any number of them.
"""
from __future__ import annotations

import dataclasses
import functools
import threading
from typing import Any

import numpy
import torch
from torch import Tensor

from . import _operators as calls
from ._errors import ArgumentError, ShapeError, Unsupported
from ._native import ffi
from .context import Context
from .operators import _Offsets, attention_gradients

__all__ = ["attention", "feedforward", "linear_cross_entropy", "lookup", "register"]

_TYPES = {torch.float32: calls.FLOAT, torch.float64: calls.DOUBLE}
_own = threading.local()


def _context(context: Context | None) -> Context:
    """The given one; or one of the calling thread, with as many threads as PyTorch has."""
    if context is not None:
        return context
    made = getattr(_own, "made", None)
    if made is None:
        made = _own.made = {}
    threads = torch.get_num_threads()
    if threads not in made:
        made[threads] = Context(threads=threads)
    try:
        made[threads].pointer
    except RuntimeError:  # of the process before a fork
        made[threads] = Context(threads=threads)
    return made[threads]


def _type_of(**tensors: Tensor | None) -> str:
    """The one type of all tensors that are there."""
    found: str | None = None
    for name, x in tensors.items():
        if x is None:
            continue
        if x.device.type != "cpu":
            raise ArgumentError(f"{name} is on {x.device}, expected the CPU", "argument")
        if x.dtype not in _TYPES:
            raise ArgumentError(f"{name} of {x.dtype}, expected float32 or float64", "argument")
        if found not in (None, _TYPES[x.dtype]):
            raise ArgumentError(f"{name} of {x.dtype} beside others of {found}", "argument")
        found = _TYPES[x.dtype]
    assert found is not None
    return found


def _address(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _read(x: Tensor | None):
    return ffi.NULL if x is None else calls.pointer(x.data_ptr(), "const " + calls.real(_TYPES[x.dtype]))


def _write(x: Tensor | None):
    return ffi.NULL if x is None else calls.pointer(x.data_ptr(), calls.real(_TYPES[x.dtype]))


def _plain(x: Tensor | None) -> Tensor | None:
    """Without gradient, contiguous."""
    return None if x is None else x.detach().contiguous()


def _once(backward):
    """Refuses create_graph=True: what backward computes has no gradient, and must not pass for a constant."""
    @functools.wraps(backward)
    def checked(ctx, *gradients):
        if torch.is_grad_enabled():
            raise Unsupported("furlong.torch: gradients of gradients (create_graph=True) are not supported", "unsupported")
        return backward(ctx, *gradients)
    return checked


# ---- attention


@dataclasses.dataclass
class _Call:
    """What is not a tensor in a call of attention."""
    options: calls.Attention
    offsets: Any
    query_offsets: Any
    context: Context
    constants: dict[str, Tensor]

    def settings(self, q, k, sinks, bias):
        floats = dict(self.constants, sink_H=sinks, bias_H=bias)
        held = {name: None if x is None else x.detach().to(torch.float32).contiguous() for name, x in floats.items()}
        made = self.options.settings(q.shape, k.shape, self.offsets, self.query_offsets,
                                     {name: _address(x) for name, x in held.items()})
        return made[0], (made[1], held)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, sinks, bias, call):
        q, k, v = _plain(q), _plain(k), _plain(v)
        o, lse = torch.empty_like(q), q.new_empty(q.shape[:2])
        settings, alive = call.settings(q, k, sinks, bias)
        calls.call(call.context, "attention_forward", _TYPES[q.dtype], settings, _read(q), _read(k), _read(v), _write(o),
                   _write(lse))
        ctx.save_for_backward(q, k, v, o, lse, sinks, bias)
        ctx.call = call
        return o

    @staticmethod
    @_once
    def backward(ctx, do):
        q, k, v, o, lse, sinks, bias = ctx.saved_tensors
        do, dtype = do.contiguous(), _TYPES[q.dtype]
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        dsinks = None if sinks is None else q.new_empty(q.shape[1])
        dbias = None if bias is None else q.new_empty(q.shape[1])
        settings, alive = ctx.call.settings(q, k, sinks, bias)
        places = attention_gradients(dtype, *(_address(x) for x in (dq, dk, dv, dsinks, dbias)))
        calls.call(ctx.call.context, "attention_backward", dtype, settings, _read(q), _read(k), _read(v), _read(o),
                   _read(lse), _read(do), places)
        return dq, dk, dv, dsinks, dbias, None


def _batched(q, k, query_offsets, offsets):
    """Offsets of a batch [B, T, ...] whose rows are laid end to end."""
    if q.dim() == 3:
        return offsets, query_offsets
    if offsets is not None or query_offsets is not None:
        raise ArgumentError("offsets are of tensors [T, H, D]; a batch [B, T, H, D] has one document a row", "argument")
    if q.shape[0] == 1:
        return None, None
    rows = numpy.arange(q.shape[0] + 1)
    return rows * k.shape[1], None if q.shape[1] == k.shape[1] else rows * q.shape[1]


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True, window: int = 0, kind: str = "exact",
              heads_first: bool = False, offsets=None, query_offsets=None, sinks: Tensor | None = None,
              bias: Tensor | None = None, coefficients: Tensor | None = None, query_mean: Tensor | None = None,
              key_mean: Tensor | None = None, context: Context | None = None, **options) -> Tensor:
    """softmax(scale q k^T) v: q [B, T, H, D] or [T, H, D] over k, v [B, S, K, D] or [S, K, D]; o of q's shape.

    K divides H: query head h reads key head h K / H. T at most S: queries stand at the last positions. heads_first: all
    are [B, H, T, D], as in torch.nn.functional.scaled_dot_product_attention, and are copied unless they are transposed
    views of the other order. In time 4 D T S H operations (half of it causal), in memory no T x S, forward or backward.

    window, kind, offsets, query_offsets, sinks [H], bias [H] (these two with gradients), coefficients [K, degree + 1],
    query_mean, key_mean [K, D], and options sink_tokens, scale, softcap, alibi, dropout, dropout_key, degree, chunk,
    bound, memory: as in furlong.operators.attention.
    """
    if heads_first:
        if q.dim() < 3:
            raise ShapeError(f"q of shape {tuple(q.shape)}, expected [B, H, T, D]", "shape")
        o = attention(q.transpose(-3, -2), k.transpose(-3, -2), v.transpose(-3, -2), causal=causal, window=window,
                      kind=kind, offsets=offsets, query_offsets=query_offsets, sinks=sinks, bias=bias,
                      coefficients=coefficients, query_mean=query_mean, key_mean=key_mean, context=context, **options)
        return o.transpose(-3, -2)
    names = "B, T, H, D" if q.dim() == 4 else "T, H, D"
    if q.dim() not in (3, 4) or k.dim() != q.dim() or k.shape[-1] != q.shape[-1] or k.shape[:-3] != q.shape[:-3]:
        raise ShapeError(f"q of shape {tuple(q.shape)}, k {tuple(k.shape)}, expected [{names}] both", "shape")
    calls.check_shape("v", v.shape, k.shape, names)
    _type_of(q=q, k=k, v=v)
    offsets, query_offsets = _batched(q, k, query_offsets, offsets)
    constants = {"coefficient_KP": coefficients, "query_mean_KD": query_mean, "key_mean_KD": key_mean}
    call = _Call(calls.Attention(causal=causal, window=window, kind=kind, **options),
                 None if offsets is None else _Offsets(offsets),
                 None if query_offsets is None else _Offsets(query_offsets), _context(context), constants)
    heads, key_heads, width = q.shape[-2], k.shape[-2], q.shape[-1]
    shapes = {"sinks": (sinks, (heads,)), "bias": (bias, (heads,)), "query_mean": (query_mean, (key_heads, width)),
              "key_mean": (key_mean, (key_heads, width)),
              "coefficients": (coefficients, (key_heads, (call.options.degree or 2) + 1))}
    for name, (x, shape) in shapes.items():
        if x is not None:
            calls.check_shape(name, x.shape, shape, "H" if len(shape) == 1 else "K, ..")
    return _attention_of(q.reshape(-1, heads, width), k.reshape(-1, key_heads, width), v.reshape(-1, key_heads, width),
                         sinks, bias, call).view(q.shape)


@torch.compiler.disable
def _attention_of(q, k, v, sinks, bias, call):
    return _Attention.apply(q, k, v, sinks, bias, call)


# ---- look-up, feedforward, cross-entropy


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, table, bias, temperature, two_rows, memory, context):
        x, table, bias = _plain(x), _plain(table), _plain(bias)
        settings = calls.lookup_settings(x.shape, table.shape, temperature, two_rows, memory)
        if bias is not None:
            calls.check_shape("bias", bias.shape, (settings.out,), "O")
        y = x.new_empty(x.shape[0], settings.out)
        calls.call(context, "lookup_forward", _TYPES[x.dtype], settings, _read(x), _read(table), _read(bias), _write(y))
        ctx.save_for_backward(x, table)
        ctx.settings, ctx.context = settings, context
        return y

    @staticmethod
    @_once
    def backward(ctx, dy):
        x, table = ctx.saved_tensors
        dy = dy.contiguous()
        made = (torch.empty_like(x), torch.empty_like(table), x.new_empty(ctx.settings.out))
        out = [tensor if wanted else None for tensor, wanted in zip(made, ctx.needs_input_grad)]
        calls.call(ctx.context, "lookup_backward", _TYPES[x.dtype], ctx.settings, _read(x), _read(table), _read(dy),
                   *(_write(tensor) for tensor in out))
        return *out, None, None, None, None


@torch.compiler.disable
def lookup(x: Tensor, table: Tensor, bias: Tensor | None = None, *, temperature: float = 0.0, two_rows: bool = False,
           memory: int | str | None = None, context: Context | None = None) -> Tensor:
    """MemoryFormer's look-up projection of x [.., I] by table [K, R, O], K = I / bits, R = 2^bits: [.., O], as
    furlong.operators.lookup. The gradient by x is that within the region where no sign changes."""
    _type_of(x=x, table=table, bias=bias)
    y = _Lookup.apply(x.reshape(-1, x.shape[-1]), table, bias, temperature, two_rows, memory, _context(context))
    return y.view(*x.shape[:-1], y.shape[-1])


class _Feedforward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings, names, context, x, *weights):
        x, weights = _plain(x), [_plain(w) for w in weights]
        y = torch.empty_like(x)
        given = calls.parts_struct("weights", _TYPES[x.dtype], dict(zip(names, map(_address, weights))))
        calls.call(context, "feedforward_forward", _TYPES[x.dtype], settings, given, _read(x), _write(y))
        ctx.save_for_backward(x, *weights)
        ctx.settings, ctx.names, ctx.context = settings, names, context
        return y

    @staticmethod
    @_once
    def backward(ctx, dy):
        x, *weights = ctx.saved_tensors
        dy, dtype = dy.contiguous(), _TYPES[x.dtype]
        out = [torch.empty_like(t) if wanted else None for t, wanted in zip((x, *weights), ctx.needs_input_grad[3:])]
        given = calls.parts_struct("weights", dtype, dict(zip(ctx.names, map(_address, weights))))
        places = calls.parts_struct("gradients", dtype, dict(zip(ctx.names, map(_address, out[1:]))),
                                    dx_TC=_address(out[0]))
        calls.call(ctx.context, "feedforward_backward", dtype, ctx.settings, given, _read(x), _read(dy), places)
        return None, None, None, *out


@torch.compiler.disable
def feedforward(x: Tensor, up: Tensor, down: Tensor, *, activation: str = "gelu_tanh", gate: Tensor | None = None,
                up_bias: Tensor | None = None, gate_bias: Tensor | None = None, down_bias: Tensor | None = None,
                norm: str | None = None, norm_weight: Tensor | None = None, norm_bias: Tensor | None = None,
                inner_weight: Tensor | None = None, inner_bias: Tensor | None = None, eps: float = 1e-5,
                residual: bool = False, memory: int | str | None = None, context: Context | None = None) -> Tensor:
    """y = (x +) down(activation(up(norm(x)))) of x [.., C], with weights as torch.nn.Linear has them: up, gate [F, C],
    down [C, F]. What is F wide exists for a tile of tokens at a time and is computed again in backward; x and the
    weights are all that is kept. Options as in furlong.operators.feedforward."""
    given = {"up": up, "down": down, "gate": gate, "up_bias": up_bias, "gate_bias": gate_bias, "down_bias": down_bias,
             "norm": norm_weight, "norm_bias": norm_bias, "inner": inner_weight, "inner_bias": inner_bias}
    given = {name: w for name, w in given.items() if w is not None}
    _type_of(x=x, **given)
    rows = x.reshape(-1, x.shape[-1])
    settings = calls.feedforward_settings(rows.shape, {name: w.shape for name, w in given.items()}, activation, norm,
                                          eps, residual, memory)
    return _Feedforward.apply(settings, tuple(given), _context(context), rows, *given.values()).view(x.shape)


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, w, targets, reduction, memory, context):
        gradients = ctx.needs_input_grad[:2]
        h, w = _plain(h), _plain(w)
        settings = calls.cross_entropy_settings(h.shape, w.shape, targets.shape, reduction, memory)
        dh = torch.empty_like(h) if any(gradients) else None
        dw = torch.empty_like(w) if gradients[1] else None
        loss = ffi.new("double *")
        calls.call(context, "cross_entropy_run", _TYPES[h.dtype], settings, _read(h), _read(w),
                   ffi.cast("const int32_t *", targets.data_ptr()), loss, ffi.NULL, _write(dh), _write(dw))
        ctx.save_for_backward(dh if gradients[0] else None, dw)
        return h.new_tensor(loss[0])

    @staticmethod
    @_once
    def backward(ctx, dloss):
        dh, dw = ctx.saved_tensors
        return None if dh is None else dh * dloss, None if dw is None else dw * dloss, None, None, None, None


@torch.compiler.disable
def linear_cross_entropy(h: Tensor, w: Tensor, targets: Tensor, *, reduction: str = "mean", ignore_index: int = -100,
                         memory: int | str | None = None, context: Context | None = None) -> Tensor:
    """torch.nn.functional.cross_entropy(h @ w.T, targets) of h [.., C], w [V, C], targets [..], without the logits: they
    exist for some rows at a time. Gradients are made in the same pass, and kept until backward. reduction: "mean" or
    "sum"."""
    _type_of(h=h, w=w)
    if targets.shape != h.shape[:-1] or targets.is_floating_point():
        raise ShapeError(f"targets of shape {tuple(targets.shape)} and {targets.dtype}, expected integers "
                         f"{tuple(h.shape[:-1])}", "shape")
    flat = targets.reshape(-1)
    counted = flat != ignore_index
    if bool(((flat < 0) | (flat >= w.shape[0]))[counted].any()):
        wrong = int(((flat < 0) | (flat >= w.shape[0])).logical_and(counted).nonzero()[0])
        raise ArgumentError(f"target {int(flat[wrong])} at row {wrong}, expected 0 to {w.shape[0] - 1} or {ignore_index}",
                            "argument")
    rows = torch.where(counted, flat, flat.new_tensor(-1)).to(torch.int32).contiguous()
    return _CrossEntropy.apply(h.reshape(-1, h.shape[-1]), w, rows, reduction, memory, _context(context))


# ---- transformers


@dataclasses.dataclass
class _Mask:
    """What a mask of transformers says, as documents."""
    causal: bool
    window: int
    queries: int
    keys: int
    offsets: _Offsets
    query_offsets: _Offsets | None


def _inside(function) -> dict[str, Any]:
    """What a function that another one made holds on to, by name."""
    cells = function.__closure__ or ()
    return dict(zip(function.__code__.co_freevars, (cell.cell_contents for cell in cells)))


def _read_mask(function) -> tuple[bool, int, Tensor | None]:
    """(causal, window, the document of each token) of a mask function of transformers.masking_utils."""
    name, inside = function.__qualname__, _inside(function)
    if name == "causal_mask_function":
        return True, 0, None
    if name == "bidirectional_mask_function":
        return False, 0, None
    if name.startswith("sliding_window_overlay."):
        return False, int(inside["sliding_window"]), None
    if name.startswith("sliding_window_bidirectional_overlay."):
        return False, int(inside["sliding_window"]) + 1, None
    if name.startswith("packed_sequence_mask_function."):
        return False, 0, inside["packed_sequence_mask"]
    if name.startswith("remap_positions_for_packed_sequence."):
        return _read_mask(inside["mask_function"])
    if not name.startswith("and_masks."):
        raise Unsupported(f"attention by furlong: the mask '{name}' of transformers is not one of causal order, "
                          "windows, padding and packed sequences", "unsupported")
    causal, window, documents = False, 0, None
    for part in inside["mask_functions"]:
        part_causal, part_window, part_documents = _read_mask(part)
        causal = causal or part_causal
        window = min(filter(None, (window, part_window)), default=0)
        if documents is not None and part_documents is not None:
            raise Unsupported("attention by furlong: two masks of packed sequences at once", "unsupported")
        documents = part_documents if documents is None else documents
    return causal, window, documents


def _documents(ids: Tensor, queries: int) -> tuple[_Offsets, _Offsets | None]:
    """Offsets of keys and, where these are fewer, of queries, the last of each row: a document for each run of equal ids
    in a row [B, S], of which 0 is padding."""
    rows, keys = ids.shape
    starts = torch.ones_like(ids, dtype=torch.bool)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    first = starts.reshape(-1).nonzero().reshape(-1)
    seen = torch.stack((first // keys, ids.reshape(-1)[first]), 1)[ids.reshape(-1)[first] != 0]
    if len(seen) != len(torch.unique(seen, dim=0)):
        raise Unsupported("attention by furlong: padding between the tokens of a row, expected it before or behind them",
                          "unsupported")
    starts_at = numpy.append(first.numpy(), rows * keys)
    if queries == keys:
        return _Offsets(starts_at), None
    row, at = starts_at // keys, starts_at % keys
    return _Offsets(starts_at), _Offsets(row * queries + numpy.maximum(at - (keys - queries), 0))


def _mask(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=None, attention_mask=None,
          **unused) -> Tensor:
    """The mask that transformers makes for a model whose attention is ours: the document of each key [B, S], 0 for
    padding, with what else there is to say attached."""
    causal, window, ids = (True, 0, None) if mask_function is None else _read_mask(mask_function)
    if int(q_offset) + q_length != int(kv_offset) + kv_length and (causal or window):
        raise Unsupported(f"attention by furlong: queries {int(q_offset)} to {int(q_offset) + q_length - 1} over keys "
                          f"{int(kv_offset)} to {int(kv_offset) + kv_length - 1}, expected queries to be the last "
                          "(a static cache is not supported)", "unsupported")
    ids = torch.ones(batch_size, kv_length, dtype=torch.int64) if ids is None else ids.to(torch.int64) + 1
    if attention_mask is not None:
        attention_mask = attention_mask[:, -kv_length:]
        if attention_mask.shape != ids.shape:
            raise ShapeError(f"attention by furlong: a padding mask of shape {tuple(attention_mask.shape)}, expected "
                             f"{tuple(ids.shape)}", "shape")
        ids = ids * attention_mask.to(torch.int64)
    ids.furlong = _Mask(causal, window, q_length, kv_length, *_documents(ids, q_length))
    return ids


def _mask_of(attention_mask, query, key, causal, window) -> _Mask:
    """The mask attached to what came through the model, or that of a plain tensor of padding, or of none."""
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    found = getattr(attention_mask, "furlong", None)
    if found is not None:
        if (found.queries, found.keys, attention_mask.shape[0]) != (queries, keys, batch):
            raise ShapeError(f"attention by furlong: a mask for {found.queries} queries over {found.keys} keys, in "
                             f"attention of {tuple(query.shape)} over {tuple(key.shape)}", "shape")
        return found
    if attention_mask is None:
        ids = torch.ones(batch, keys, dtype=torch.int64)
    elif attention_mask.dtype == torch.bool and attention_mask.shape == (batch, keys):
        ids = attention_mask.to(torch.int64)
    else:
        raise Unsupported(f"attention by furlong: a mask of shape {tuple(attention_mask.shape)} and "
                          f"{attention_mask.dtype}, expected none, or one of padding, [B, S] of bool", "unsupported")
    return _Mask(causal, window, queries, keys, *_documents(ids, queries))


def _attend(registered: dict[str, Any], module, query, key, value, attention_mask, dropout, scaling, is_causal, sliding_window,
            softcap, s_aux, rest):
    for name in ("position_bias", "head_mask"):
        if rest.get(name) is not None:
            raise Unsupported(f"attention by furlong: {name} is not supported", "unsupported")
    if rest.get("output_attentions"):
        raise Unsupported("attention by furlong: weights are never whole, output_attentions cannot be had", "unsupported")
    if rest.get("cache") is not None:
        raise Unsupported("attention by furlong: a paged cache is not supported", "unsupported")
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    mask = _mask_of(attention_mask, query, key, bool(causal), int(sliding_window or 0))
    dtype = query.dtype
    q, k, v = (x.transpose(1, 2).to(torch.float64 if dtype == torch.float64 else torch.float32)
               for x in (query, key, value))
    if v.shape != k.shape:
        raise Unsupported(f"attention by furlong: keys of {tuple(key.shape)}, values of {tuple(value.shape)}", "unsupported")
    options = dict(registered, scale=scaling, softcap=softcap or 0.0, dropout=dropout)
    if dropout:
        options["dropout_key"] = int(torch.randint(1 << 62, ()))
    if options.get("kind", "exact") == "exact":
        options["window"] = mask.window
    elif mask.window:
        raise Unsupported("attention by furlong: an almost-linear layer in the place of one with a window", "unsupported")
    queries = None if mask.query_offsets is None else mask.query_offsets.array
    o = attention(q.reshape(-1, *q.shape[2:]), k.reshape(-1, *k.shape[2:]), v.reshape(-1, *v.shape[2:]),
                  causal=mask.causal, offsets=mask.offsets.array, query_offsets=queries, sinks=s_aux, **options)
    return o.view(q.shape).to(dtype), None


def register(name: str = "furlong", **options) -> str:
    """Makes `name` an attention of transformers' models: attn_implementation=name, or model.set_attn_implementation(name).

    Causal and bidirectional models, grouped heads, windows, soft-caps, sink logits, dropout; padded batches and packed
    sequences become documents that do not see each other. Rows of padding have numbers that mean nothing. Other masks,
    static caches, biases by position and the weights themselves are refused, with a line that says so.

    options: those of `attention`, for every layer: kind="almost-linear" (for whole sequences: not for decoding with a
    cache) with degree, chunk, bound and window; context, memory.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    def furlong_attention(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None,
                          sliding_window=None, softcap=None, s_aux=None, **rest):
        return _attend(options, module, query, key, value, attention_mask, dropout, scaling, is_causal, sliding_window,
                       softcap, s_aux, rest)

    AttentionInterface.register(name, furlong_attention)
    AttentionMaskInterface.register(name, _mask)
    return name
