# SPDX-License-Identifier: Apache-2.0
"""Attention regression: the X and Y of softmax(A1 X A2^T) A3 Y that come closest to a target (arXiv 2309.07418)."""
from __future__ import annotations

import dataclasses
from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray

from . import context as contexts
from .plan import as_bytes
from ._errors import ArgumentError, ShapeError
from ._native import ffi, lib
from .operators import _seen

_METHODS = {"gauss-newton": lib.FUR_FIT_GAUSS_NEWTON, "newton": lib.FUR_FIT_NEWTON,
            "sketched-newton": lib.FUR_FIT_SKETCHED_NEWTON, "linear": lib.FUR_FIT_LINEAR}
_NUMBERS = ("loss", "held_out_loss", "loss_before_rank", "lower_bound", "r2", "largest_error", "gradient", "logit_max",
            "logit_rms", "ridge", "tolerance", "rows", "held_out_rows", "pairs", "equations", "unknowns", "steps",
            "evaluations", "seconds", "captured", "spread", "not_identified")


@dataclasses.dataclass(frozen=True)
class AttentionFit:
    """A fitted head. Logits are a1_i x a2_j^T as they stand, without 1 / sqrt(d)."""
    x: NDArray[numpy.float64]  # [heads, d1, d2]
    y: NDArray[numpy.float64]  # [heads, d3, dv]
    q: NDArray[numpy.float64]  # [heads, d1, rank]; x = q k^T, or the best of that rank
    k: NDArray[numpy.float64]  # [heads, d2, rank]
    end: str  # "tolerance", "minimum", "stalled", "limit" or "stopped"
    loss: float  # share of the loss of predicting the mean
    held_out_loss: float  # NaN where nothing is held out
    losses: list[float]  # of each start
    figures: dict[str, Any]  # the other numbers of fur_fit_result, by their names


class _Rows:
    """Arrays [n, d] or [sequences, n, d] as the C struct wants them, alive as long as this is."""

    def __init__(self):
        self.held, self.epsilon = {}, 0.0

    def add(self, name, given):
        array = _seen(given)
        if array.dtype.kind != "f" or array.ndim not in (2, 3) or 0 in array.shape:
            raise ShapeError(f"{name} of shape {array.shape} and type {array.dtype}, expected numbers [n, d] or "
                             "[sequences, n, d]", "shape")
        if array.dtype.itemsize < 8:
            self.epsilon = max(self.epsilon, float(numpy.finfo(array.dtype).eps) / 2)
        array = array if array.ndim == 3 else array[None]
        self.held[name] = numpy.ascontiguousarray(array, numpy.float64)
        return self.held[name]


def fit_attention(b: ArrayLike, x: ArrayLike | None = None, *, a1: ArrayLike | None = None, a2: ArrayLike | None = None,
                  a3: ArrayLike | None = None, weights: ArrayLike | None = None, causal: bool = False, heads: int = 1,
                  rank: int = 0, method: str = "gauss-newton", held_out: float | None = None,
                  tolerance: float | None = None, max_steps: int | None = None, max_seconds: float = 0.0,
                  starts: int | None = None, ridge: float | None = None, max_logit: float = 0.0, seed: int | None = None,
                  memory: int | str | None = None, context: contexts.Context | None = None) -> AttentionFit:
    """Fits heads to b [n, dv] or [sequences, n, dv], whose inputs are x of as many rows, which is all of a1, a2 and a3,
    or these: softmax over a2's rows of a1 X a2^T, times a3 Y.

    Sequences do not see each other; causal: rows do not see later ones. weights [n] or [sequences, n] of rows. Options
    not given have the library's defaults (furlong fit-attention --help says them). In memory never rows x rows. The
    numbers are double inside; where arrays are float32, the tolerance is the floor of that. ShapeError: the data cannot
    determine the unknowns."""
    if (x is None) == (a1 is None or a2 is None or a3 is None) or (x is not None and not a1 is a2 is a3 is None):
        raise ArgumentError("fit_attention: expected x, or a1, a2 and a3", "argument")
    rows, arrays = _Rows(), ffi.new("fur_fit_arrays *")
    lib.fur_fit_arrays_defaults(arrays)
    target = rows.add("b", b)
    inputs = {"x": rows.add("x", x)} if x is not None else {n: rows.add(n, a) for n, a in (("a1", a1), ("a2", a2), ("a3", a3))}
    first, keys = (inputs["x"], inputs["x"]) if x is not None else (inputs["a1"], inputs["a2"])
    values = inputs["x"] if x is not None else inputs["a3"]
    if first.shape[:2] != target.shape[:2] or keys.shape[0] != first.shape[0] or values.shape[:2] != keys.shape[:2]:
        raise ShapeError("rows of b {} and {}: a1 has b's, a3 has a2's".format(
            target.shape, ", ".join(f"{n} {a.shape}" for n, a in inputs.items())), "shape")
    arrays.sequences = len(target)
    query_lengths = numpy.full(len(target), target.shape[1], numpy.int64)
    key_lengths = numpy.full(len(target), keys.shape[1], numpy.int64)
    arrays.query_lengths = ffi.cast("const int64_t *", query_lengths.ctypes.data)
    arrays.key_lengths = ffi.cast("const int64_t *", key_lengths.ctypes.data)
    for name, array in (("a1", first), ("a2", keys), ("a3", values), ("b", target)):
        setattr(arrays, name, ffi.cast("const double *", array.ctypes.data))
        setattr(arrays, f"{name}_width", array.shape[2])
    arrays.epsilon = rows.epsilon
    if weights is not None:
        weight = numpy.ascontiguousarray(weights, numpy.float64).reshape(-1)
        if weight.size != target.shape[0] * target.shape[1]:
            raise ShapeError(f"{weight.size} weights for {target.shape[0] * target.shape[1]} rows", "shape")
        arrays.weights = ffi.cast("const double *", weight.ctypes.data)

    settings = ffi.new("fur_fit_settings *")
    lib.fur_fit_settings_defaults(settings)
    if method not in _METHODS:
        raise ArgumentError(f"method {method!r}, expected one of {', '.join(_METHODS)}", "argument")
    settings.causal, settings.heads, settings.rank, settings.method = causal, heads, rank, _METHODS[method]
    settings.max_seconds, settings.max_logit = max_seconds, max_logit
    settings.memory_bytes = as_bytes(memory)
    for name, value in (("held_out", held_out), ("tolerance", tolerance), ("max_steps", max_steps), ("starts", starts),
                        ("ridge", ridge), ("seed", seed)):
        if value is not None:
            setattr(settings, name, value)

    context, data = context or contexts.default(), ffi.new("fur_fit_data **")
    context.check(lib.fur_fit_data_create(context.pointer, arrays, data))
    owned = ffi.gc(data[0], lib.fur_fit_data_close)
    result = ffi.gc(ffi.new("fur_fit_result *"), lib.fur_fit_result_clear)
    context.check(lib.fur_fit_run(context.pointer, owned, settings, result))

    def copied(pointer, *shape):
        count = int(numpy.prod(shape))
        return numpy.frombuffer(ffi.buffer(pointer, 8 * count), numpy.float64).reshape(shape).copy()

    r = result
    return AttentionFit(copied(r.x, r.heads, r.d1, r.d2), copied(r.y, r.heads, r.d3, r.dv),
                        copied(r.q, r.heads, r.d1, r.rank), copied(r.k, r.heads, r.d2, r.rank),
                        ffi.string(lib.fur_fit_end_name(r.end)).decode(), r.loss, r.held_out_loss,
                        [r.starts[i].loss for i in range(r.start_count)], {n: getattr(r, n) for n in _NUMBERS})
