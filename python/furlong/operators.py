# SPDX-License-Identifier: Apache-2.0
"""The library's operators by themselves, on NumPy arrays and whatever has `__dlpack__` or the buffer protocol.

Arrays that are contiguous and float32 are not copied. float64 ones are taken as they are too, by the library's plain
loops in double, which are what it is measured against, and slow; all of a call must be of one type. Results are new
NumPy arrays of that type. Shapes: T queries, S keys, H query heads, K key heads, D head width, C model width, F hidden
width, V vocabulary. PyTorch tensors with gradients: furlong.torch.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy
from numpy.typing import ArrayLike, NDArray

from . import _operators as calls
from . import context as contexts
from ._errors import ArgumentError, ShapeError
from ._native import ffi, lib

__all__ = ["AttentionGradients", "FeedforwardGradients", "attention", "attention_backward", "attention_bytes",
           "cross_entropy", "feedforward", "feedforward_backward", "lookup", "lookup_backward"]


def _seen(x) -> numpy.ndarray:
    """x as NumPy sees it, without a copy where x allows that."""
    if isinstance(x, numpy.ndarray) or not hasattr(x, "__dlpack__"):
        return numpy.asarray(x)
    return numpy.from_dlpack(x)


class _Arrays:
    """The arrays of one call: contiguous, of one type, alive until it is over."""

    def __init__(self, **given):
        self.arrays = {name: _seen(x) for name, x in given.items() if x is not None}
        self.dtype = None
        for name, array in self.arrays.items():
            if array.dtype.name not in (calls.FLOAT, calls.DOUBLE) or not array.dtype.isnative:
                raise ArgumentError(f"{name} of type {array.dtype}, expected float32 or float64", "argument")
            if self.dtype not in (None, array.dtype.name):
                raise ArgumentError(f"{name} of type {array.dtype} beside others of {self.dtype}", "argument")
            self.dtype = array.dtype.name
            self.arrays[name] = numpy.ascontiguousarray(array)

    def __getitem__(self, name):
        return self.arrays[name]

    def shape(self, name):
        return self.arrays[name].shape

    def address(self, name):
        return self.arrays[name].ctypes.data if name in self.arrays else None

    def pointer(self, name):
        return calls.pointer(self.address(name), "const " + calls.real(self.dtype))

    def new(self, *shape):
        return numpy.empty(shape, self.dtype)

    def out(self, array):
        return calls.pointer(None if array is None else array.ctypes.data, calls.real(self.dtype))


class _Offsets:
    def __init__(self, values):
        self.array = numpy.ascontiguousarray(values, numpy.int64)
        if self.array.ndim != 1 or len(self.array) < 2:
            raise ShapeError(f"offsets of shape {self.array.shape}, expected [documents + 1]", "shape")
        self.address = self.array.ctypes.data

    def __len__(self):
        return len(self.array)


def _constants(**given):
    """float32 copies where needed, of arrays that are small."""
    return {name: numpy.ascontiguousarray(x, numpy.float32) for name, x in given.items() if x is not None}


class _Attention:
    """What forward and backward of attention share."""

    def __init__(self, arrays, offsets, query_offsets, sinks, coefficients, query_mean, key_mean, bias, options):
        q, k = arrays.shape("q"), arrays.shape("k")
        calls.check_shape("q", q, (None, None, None), "T, H, D")
        calls.check_shape("k", k, (None, None, q[2]), "S, K, D")
        calls.check_shape("v", arrays.shape("v"), k, "S, K, D")
        settings = calls.Attention(**options)
        heads, widths = (q[1],), (k[1], q[2])
        self.constants = _constants(sink_H=sinks, bias_H=bias, coefficient_KP=coefficients, query_mean_KD=query_mean,
                                    key_mean_KD=key_mean)
        wanted = {"sink_H": (heads, "H"), "bias_H": (heads, "H"), "query_mean_KD": (widths, "K, D"),
                  "key_mean_KD": (widths, "K, D"), "coefficient_KP": ((k[1], (settings.degree or 2) + 1), "K, degree + 1")}
        for name, array in self.constants.items():
            calls.check_shape(name.rsplit("_", 1)[0], array.shape, *wanted[name])
        self.struct, self._alive = settings.settings(
            q, k, None if offsets is None else _Offsets(offsets),
            None if query_offsets is None else _Offsets(query_offsets),
            {name: array.ctypes.data for name, array in self.constants.items()})


def attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, *, offsets: ArrayLike | None = None,
              query_offsets: ArrayLike | None = None, sinks: ArrayLike | None = None,
              coefficients: ArrayLike | None = None, query_mean: ArrayLike | None = None,
              key_mean: ArrayLike | None = None, bias: ArrayLike | None = None,
              context: contexts.Context | None = None, **options) -> tuple[NDArray, NDArray]:
    """softmax(scale q k^T) v of q [T, H, D] over k, v [S, K, D], K dividing H: (o [T, H, D], lse [T, H]).

    T at most S: the queries stand at the last positions of the keys. lse, the natural logarithm of each row's sum, is
    what attention_backward wants back. In time 4 D T S H operations (causal: half), in memory no T x S.

    Options: causal=True; window=0 (a query sees itself and window - 1 before it; 0: all), sink_tokens=0 (first keys
    seen in spite of it); scale=None (1 / sqrt(D)); softcap=0; alibi=False; dropout=0 and dropout_key=0 (which weights
    are left out is a function of the key); memory=None (limit of the workspace, such as "1G").
    offsets [documents + 1]: document i is keys offsets[i] .. offsets[i+1]-1, and the queries beside them see no others;
    query_offsets: where T is not S, which queries are whose. sinks [H]: logits in the softmax without a value.

    kind="almost-linear": a query sees its own chunk of chunk=128 tokens, `window` tokens before that and the sink tokens
    one by one, and all others through a polynomial of degree=2 in bound=1 times the cosine of query and key: time
    linear in T = S. coefficients [K, degree + 1] of it, query_mean, key_mean [K, D], bias [H]: those of a new model
    where not given.
    """
    a = _Arrays(q=q, k=k, v=v)
    call = _Attention(a, offsets, query_offsets, sinks, coefficients, query_mean, key_mean, bias, options)
    o, lse = a.new(*a.shape("q")), a.new(*a.shape("q")[:2])
    calls.call(context or contexts.default(), "attention_forward", a.dtype, call.struct, a.pointer("q"), a.pointer("k"),
               a.pointer("v"), a.out(o), a.out(lse))
    return o, lse


class AttentionGradients(NamedTuple):
    """By q, k, v; by the sinks and the bias, where these were given."""
    q: NDArray
    k: NDArray
    v: NDArray
    sinks: NDArray | None
    bias: NDArray | None


def attention_backward(q: ArrayLike, k: ArrayLike, v: ArrayLike, o: ArrayLike, lse: ArrayLike, do: ArrayLike, *,
                       offsets: ArrayLike | None = None, query_offsets: ArrayLike | None = None,
                       sinks: ArrayLike | None = None, coefficients: ArrayLike | None = None,
                       query_mean: ArrayLike | None = None, key_mean: ArrayLike | None = None,
                       bias: ArrayLike | None = None, context: contexts.Context | None = None,
                       **options) -> AttentionGradients:
    """Gradients from do [T, H, D], that by o; o, lse: of `attention` with the same options."""
    a = _Arrays(q=q, k=k, v=v, o=o, lse=lse, do=do)
    call = _Attention(a, offsets, query_offsets, sinks, coefficients, query_mean, key_mean, bias, options)
    shape = a.shape("q")
    for name in ("o", "do"):
        calls.check_shape(name, a.shape(name), shape, "T, H, D")
    calls.check_shape("lse", a.shape("lse"), shape[:2], "T, H")
    gradients = AttentionGradients(a.new(*shape), a.new(*a.shape("k")), a.new(*a.shape("k")),
                                   None if sinks is None else a.new(shape[1]), None if bias is None else a.new(shape[1]))
    calls.call(context or contexts.default(), "attention_backward", a.dtype, call.struct, a.pointer("q"),
               a.pointer("k"), a.pointer("v"), a.pointer("o"), a.pointer("lse"), a.pointer("do"),
               attention_gradients(a.dtype, *(None if g is None else g.ctypes.data for g in gradients)))
    return gradients


def attention_gradients(dtype: str, q, k, v, sinks, bias):
    """The C struct, of addresses."""
    out = ffi.new(f"fur_operator_attention_gradients{'_f64' if dtype == calls.DOUBLE else ''} *")
    for name, address in zip(("dq_THD", "dk_SKD", "dv_SKD", "dsink_H", "dbias_H"), (q, k, v, sinks, bias)):
        setattr(out, name, calls.pointer(address, calls.real(dtype)))
    return out


def attention_bytes(q_shape, k_shape, *, backward: bool = False, context: contexts.Context | None = None,
                    **options) -> int:
    """Bytes of workspace that attention (or its backward) of float32 arrays of these shapes takes."""
    calls.check_shape("q", q_shape, (None, None, None), "T, H, D")
    calls.check_shape("k", k_shape, (None, None, q_shape[2]), "S, K, D")
    context, out = context or contexts.default(), ffi.new("int64_t *")
    settings, alive = calls.Attention(**options).settings(q_shape, k_shape)
    context.check(lib.fur_operator_attention_bytes(context.pointer, settings, backward, out))
    return out[0]


def lookup(x: ArrayLike, table: ArrayLike, bias: ArrayLike | None = None, *, temperature: float = 0.0,
           two_rows: bool = False, memory: int | str | None = None,
           context: contexts.Context | None = None) -> NDArray:
    """MemoryFormer's look-up projection of x [T, I] by table [K, R, O], R = 2^bits, K = I / bits: y [T, O].

    The signs of each chunk of `bits` numbers pick a row of the chunk's table, and y is bias [O] plus their sum, each
    weighted by sum(|z|) prod(sigmoid(2 |z|)) (temperature 0, as released) or prod(sigmoid(2 |z| / temperature)).
    two_rows: also the row across the nearest change of sign. NonFinite: x has a NaN or an infinity.
    """
    a = _Arrays(x=x, table=table, bias=bias)
    settings = calls.lookup_settings(a.shape("x"), a.shape("table"), temperature, two_rows, memory)
    y = a.new(a.shape("x")[0], settings.out)
    if bias is not None:
        calls.check_shape("bias", a.shape("bias"), (settings.out,), "O")
    calls.call(context or contexts.default(), "lookup_forward", a.dtype, settings, a.pointer("x"), a.pointer("table"),
               a.pointer("bias"), a.out(y))
    return y


def lookup_backward(x: ArrayLike, table: ArrayLike, dy: ArrayLike, *, temperature: float = 0.0, two_rows: bool = False,
                    memory: int | str | None = None,
                    context: contexts.Context | None = None) -> tuple[NDArray, NDArray, NDArray]:
    """(dx [T, I], dtable [K, R, O], dbias [O]) from dy [T, O]. No gradient goes through the choice of a row."""
    a = _Arrays(x=x, table=table, dy=dy)
    settings = calls.lookup_settings(a.shape("x"), a.shape("table"), temperature, two_rows, memory)
    calls.check_shape("dy", a.shape("dy"), (settings.tokens, settings.out), "T, O")
    dx, dtable, dbias = a.new(*a.shape("x")), a.new(*a.shape("table")), a.new(settings.out)
    calls.call(context or contexts.default(), "lookup_backward", a.dtype, settings, a.pointer("x"), a.pointer("table"),
               a.pointer("dy"), a.out(dx), a.out(dtable), a.out(dbias))
    return dx, dtable, dbias


def _feedforward(x, weights, activation, norm, eps, residual, memory, **more):
    unknown = weights.keys() - calls.PARTS.keys()
    if unknown:
        raise ArgumentError(f"feedforward: no weight {sorted(unknown)[0]!r}, there are {', '.join(calls.PARTS)}", "argument")
    a = _Arrays(x=x, **weights, **more)
    names = [name for name in weights if name in a.arrays]
    settings = calls.feedforward_settings(a.shape("x"), {name: a.shape(name) for name in names}, activation, norm, eps,
                                          residual, memory)
    return a, settings, {name: a.address(name) for name in names}


def feedforward(x: ArrayLike, weights: dict[str, ArrayLike | None], *, activation: str = "gelu_tanh",
                norm: str | None = None, eps: float = 1e-5, residual: bool = False, memory: int | str | None = None,
                context: contexts.Context | None = None) -> NDArray:
    """y = (x +) down(activation(up(norm(x)))) of x [T, C]: [T, C]. No T x F exists.

    weights, by name: up [F, C] and down [C, F]; with activation "swiglu" (gate * sigmoid(gate) * up) or "geglu"
    (gelu_tanh(gate) * up) gate [F, C]; with "norm" (a LayerNorm) inner and inner_bias [F]; with norm "layernorm" or
    "rmsnorm" norm and, of the first, norm_bias [C]; and as you like up_bias, gate_bias [F], down_bias [C].
    """
    a, settings, addresses = _feedforward(x, weights, activation, norm, eps, residual, memory)
    y = a.new(*a.shape("x"))
    calls.call(context or contexts.default(), "feedforward_forward", a.dtype, settings,
               calls.parts_struct("weights", a.dtype, addresses), a.pointer("x"), a.out(y))
    return y


class FeedforwardGradients(NamedTuple):
    """By x, and by each weight that was given."""
    x: NDArray
    weights: dict[str, NDArray]


def feedforward_backward(x: ArrayLike, weights: dict[str, ArrayLike | None], dy: ArrayLike, *,
                         activation: str = "gelu_tanh", norm: str | None = None, eps: float = 1e-5,
                         residual: bool = False, memory: int | str | None = None,
                         context: contexts.Context | None = None) -> FeedforwardGradients:
    """Gradients from dy [T, C]; what forward had inside is computed again, tile by tile."""
    a, settings, addresses = _feedforward(x, weights, activation, norm, eps, residual, memory, dy=dy)
    calls.check_shape("dy", a.shape("dy"), a.shape("x"), "T, C")
    dx, gradients = a.new(*a.shape("x")), {name: a.new(*a.shape(name)) for name in addresses}
    places = calls.parts_struct("gradients", a.dtype, {name: g.ctypes.data for name, g in gradients.items()},
                                dx_TC=dx.ctypes.data)
    calls.call(context or contexts.default(), "feedforward_backward", a.dtype, settings,
               calls.parts_struct("weights", a.dtype, addresses), a.pointer("x"), a.pointer("dy"), places)
    return FeedforwardGradients(dx, gradients)


def cross_entropy(h: ArrayLike, w: ArrayLike, targets: ArrayLike, *, reduction: str = "mean", gradients: bool = False,
                  memory: int | str | None = None, context: contexts.Context | None = None):
    """Cross-entropy of softmax(h w^T), h [T, C], w [V, C], against targets [T] (negative: not counted).

    Returns the loss, "mean" or "sum" over the counted; with gradients, (loss, dh [T, C], dw [V, C]), made in the same
    pass. Never T x V.
    """
    a, given = _Arrays(h=h, w=w), numpy.asarray(targets)
    if not numpy.issubdtype(given.dtype, numpy.integer):
        raise ArgumentError(f"targets of type {given.dtype}, expected integers", "argument")
    settings = calls.cross_entropy_settings(a.shape("h"), a.shape("w"), given.shape, reduction, memory)
    if (given >= settings.vocabulary).any():
        at = int(numpy.argmax(given >= settings.vocabulary))
        raise ArgumentError(f"target {given[at]} at row {at}, expected below {settings.vocabulary}", "argument")
    target = numpy.maximum(given, -1).astype(numpy.int32)
    loss = ffi.new("double *")
    dh, dw = (a.new(*a.shape("h")), a.new(*a.shape("w"))) if gradients else (None, None)
    calls.call(context or contexts.default(), "cross_entropy_run", a.dtype, settings, a.pointer("h"), a.pointer("w"),
               ffi.cast("const int32_t *", target.ctypes.data), loss, ffi.NULL, a.out(dh), a.out(dw))
    return (loss[0], dh, dw) if gradients else loss[0]
