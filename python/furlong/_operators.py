# SPDX-License-Identifier: Apache-2.0
"""Settings of the C operators and calls on raw addresses: what operators.py does for NumPy and torch.py for PyTorch."""
from __future__ import annotations

import dataclasses
from typing import Any, Sequence

from .plan import as_bytes
from ._errors import ArgumentError, ShapeError
from ._native import ffi, lib

FLOAT, DOUBLE = "float32", "float64"
_NORMS = {"layernorm": lib.FUR_NORM_LAYERNORM, "rmsnorm": lib.FUR_NORM_RMSNORM}


def _activations():
    names = {}
    while (name := lib.fur_activation_name(len(names))) != ffi.NULL:
        names[ffi.string(name).decode()] = len(names)
    return names


ACTIVATIONS = _activations()


def pointer(address: int | None, kind: str):
    """The address of an array as the C type; None is NULL."""
    return ffi.NULL if address is None else ffi.cast(kind, address)


def call(context, name: str, dtype: str, settings, *arguments):
    """fur_operator_NAME, or its _f64."""
    function = getattr(lib, f"fur_operator_{name}{'_f64' if dtype == DOUBLE else ''}")
    context.check(function(context.pointer, settings, *arguments))


def real(dtype: str) -> str:
    return "double *" if dtype == DOUBLE else "float *"


def one_of(what: str, value, known):
    if value not in known:
        raise ArgumentError(f"{what} {value!r}, expected one of {', '.join(known)}", "argument")
    return known[value]


def check_shape(what: str, shape: Sequence[int], wanted: Sequence[Any], names: str):
    """Raises unless the shape is as wanted, where None is any size."""
    if len(shape) != len(wanted) or any(w is not None and s != w for s, w in zip(shape, wanted)):
        sizes = ", ".join("any" if w is None else str(w) for w in wanted)
        raise ShapeError(f"{what} of shape {tuple(shape)}, expected [{names}] = [{sizes}]", "shape")


@dataclasses.dataclass(frozen=True)
class Attention:
    """What operators.attention and torch.attention are told besides arrays; the C struct's names and defaults."""
    causal: bool = True
    window: int = 0
    sink_tokens: int = 0
    scale: float | None = None
    softcap: float = 0.0
    alibi: bool = False
    dropout: float = 0.0
    dropout_key: int = 0
    kind: str = "exact"
    degree: int = 0
    chunk: int = 0
    bound: float = 0.0
    memory: int | str | None = None

    def settings(self, q_shape, k_shape, offsets=None, query_offsets=None, addresses=None):
        """A fur_operator_attention and what must live as long. Offsets: objects of int64 with `address` and a length;
        addresses: of float32 arrays by the struct's names."""
        s = ffi.new("fur_operator_attention *")
        lib.fur_operator_attention_defaults(s)
        s.queries, s.heads, s.head_dim = q_shape
        s.keys, s.kv_heads = k_shape[0], k_shape[1]
        if 0 in (*q_shape, *k_shape):  # 0 has another meaning there
            raise ShapeError(f"attention of q {tuple(q_shape)} over k {tuple(k_shape)}: an array without elements", "shape")
        if self.scale is not None and not self.scale:
            raise ArgumentError("attention: scale 0", "argument")
        kind = ffi.new("char[]", self.kind.encode())
        s.kind, s.scale, s.bidirectional = kind, self.scale or 0.0, not self.causal
        s.window, s.sink_tokens, s.softcap, s.alibi = self.window, self.sink_tokens, self.softcap, self.alibi
        s.dropout, s.dropout_key = self.dropout, self.dropout_key
        s.degree, s.chunk, s.bound = self.degree, self.chunk, self.bound
        s.memory_bytes = as_bytes(self.memory)
        if offsets is not None:
            s.documents = len(offsets) - 1
            s.offsets = ffi.cast("const int64_t *", offsets.address)
        if query_offsets is not None:
            if offsets is None or len(query_offsets) != len(offsets):
                raise ShapeError(f"{len(query_offsets)} offsets of queries, expected those of keys and as many", "shape")
            s.query_offsets = ffi.cast("const int64_t *", query_offsets.address)
        for name, address in (addresses or {}).items():
            if address is not None:
                setattr(s, name, ffi.cast("const float *", address))
        return s, (kind, offsets, query_offsets)


def lookup_settings(x_shape, table_shape, temperature, two_rows, memory):
    """A fur_operator_lookup of x [T, I] and table [K, R, O]."""
    check_shape("x", x_shape, (None, None), "T, I")
    check_shape("table", table_shape, (None, None, None), "K, R, O")
    tables, rows, out = table_shape
    bits = rows.bit_length() - 1
    if rows != 1 << bits or tables * bits != x_shape[1]:
        raise ShapeError(f"table of shape {tuple(table_shape)} for x of shape {tuple(x_shape)}: expected K = I / bits "
                         "tables of R = 2^bits rows", "shape")
    s = ffi.new("fur_operator_lookup *")
    lib.fur_operator_lookup_defaults(s)
    s.tokens, s.out, s.bits = x_shape[0], out, bits
    setattr(s, "in", x_shape[1])
    s.temperature, s.two_rows, s.memory_bytes = temperature, two_rows, as_bytes(memory)
    return s


# names in the C structs, with the widths of their shapes
PARTS = {"norm": ("norm_C", "C"), "norm_bias": ("norm_bias_C", "C"), "gate": ("gate_FC", "FC"),
         "gate_bias": ("gate_bias_F", "F"), "up": ("up_FC", "FC"), "up_bias": ("up_bias_F", "F"),
         "inner": ("inner_F", "F"), "inner_bias": ("inner_bias_F", "F"), "down": ("down_CF", "CF"),
         "down_bias": ("down_bias_C", "C")}


def feedforward_settings(x_shape, shapes, activation, norm, eps, residual, memory):
    """A fur_operator_feedforward of x [T, C]; shapes: of the weights that are there, by the names of PARTS."""
    check_shape("x", x_shape, (None, None), "T, C")
    for name in ("up", "down"):
        if name not in shapes:
            raise ArgumentError(f"feedforward: {name} is missing", "argument")
    check_shape("up", shapes["up"], (None, x_shape[1]), "F, C")
    sizes = {"C": x_shape[1], "F": shapes["up"][0]}
    for name, shape in shapes.items():
        letters = PARTS[name][1]
        check_shape(name, shape, [sizes[letter] for letter in letters], ", ".join(letters))
    s = ffi.new("fur_operator_feedforward *")
    lib.fur_operator_feedforward_defaults(s)
    s.tokens, s.width, s.hidden = x_shape[0], sizes["C"], sizes["F"]
    s.activation = one_of("activation", activation, ACTIVATIONS)
    s.has_norm = norm is not None
    s.norm = one_of("norm", norm, _NORMS) if norm is not None else lib.FUR_NORM_LAYERNORM
    s.norm_eps, s.residual, s.memory_bytes = eps, residual, as_bytes(memory)
    return s


def parts_struct(what: str, dtype: str, addresses, **more):
    """fur_operator_feedforward_WHAT, of addresses by the names of PARTS."""
    out = ffi.new(f"fur_operator_feedforward_{what}{'_f64' if dtype == DOUBLE else ''} *")
    kind = ("const " if what == "weights" else "") + real(dtype)
    for name, address in addresses.items():
        setattr(out, PARTS[name][0], pointer(address, kind))
    for name, address in more.items():
        setattr(out, name, pointer(address, kind))
    return out


def cross_entropy_settings(h_shape, w_shape, target_shape, reduction, memory):
    """A fur_operator_cross_entropy of h [T, C], w [V, C] and T targets."""
    check_shape("h", h_shape, (None, None), "T, C")
    check_shape("w", w_shape, (None, h_shape[1]), "V, C")
    check_shape("targets", target_shape, (h_shape[0],), "T")
    s = ffi.new("fur_operator_cross_entropy *")
    lib.fur_operator_cross_entropy_defaults(s)
    s.tokens, s.width, s.vocabulary = h_shape[0], h_shape[1], w_shape[0]
    s.sum = one_of("reduction", reduction, {"mean": False, "sum": True})
    s.memory_bytes = as_bytes(memory)
    return s
