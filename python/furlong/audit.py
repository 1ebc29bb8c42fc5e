# SPDX-License-Identifier: Apache-2.0
"""What almost-linear attention would cost a model, head by head."""
from __future__ import annotations

import dataclasses
import tempfile
from typing import NamedTuple

import numpy
from numpy.typing import ArrayLike

from .plan import as_bytes
from ._errors import ShapeError
from ._native import ffi, lib
from .model import Model


class Sampled(NamedTuple):
    """A share of the exact value, and an interval that holds that of all tokens with 95 % confidence."""
    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class HeadError:
    """A query head: what its output and its gradients err by, as an almost-linear one; exact: it stays as it is."""
    layer: int
    head: int
    exact: bool
    o: Sampled
    dq: Sampled
    dk: Sampled
    dv: Sampled
    far_share: float  # of attention, that goes to far keys
    certificate: float  # o's error is at most this share, whatever was sampled; at 1 or more it says nothing


@dataclasses.dataclass(frozen=True)
class Audit:
    heads: list[HeadError]
    exact_loss: float  # nats per token, of the model as it was given
    mixed_loss: float  # of `mixed`; NaN where there is none
    mixed: Model | None  # with every head almost-linear that errs by at most max_error; None where none does
    seconds: float


def audit(model: Model, ids: ArrayLike, *, tokens: int | None = None, max_error: float | None = None,
          degree: int | None = None, chunk: int | None = None, max_tokens: int | None = None,
          seed: int | None = None) -> Audit:
    """Runs two rows of `tokens` ids (as many as the model's context, or half of them) through the model: polynomials are fitted to each head's logits on the first, and
    what they err by is measured on the second, against exact attention. Costs two training steps and two evaluations
    over at most max_tokens. Options not given have the library's defaults."""
    given = numpy.asarray(ids)
    if given.ndim != 1 or not numpy.issubdtype(given.dtype, numpy.integer):
        raise ShapeError(f"ids of shape {given.shape} and type {given.dtype}, expected integers [T]", "shape")
    context, settings = model.context, ffi.new("fur_audit_settings *")
    lib.fur_audit_settings_defaults(settings)
    settings.memory_bytes = as_bytes(model.memory)
    tokens = tokens if tokens is not None else min(model.config["context"], len(given) // 2)
    for name, value in (("context_tokens", tokens), ("max_error", max_error), ("degree", degree), ("chunk", chunk),
                        ("max_tokens", max_tokens), ("seed", seed)):
        if value is not None:
            setattr(settings, name, value)
    corpus_settings, corpus, mixed = ffi.new("fur_corpus_settings *"), ffi.new("fur_corpus **"), ffi.new("fur_model **")
    lib.fur_corpus_settings_defaults(corpus_settings)
    result = ffi.gc(ffi.new("fur_audit_result *"), lib.fur_audit_result_clear)
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        numpy.save(file, given.astype(numpy.int32, casting="same_kind"))
        file.flush()
        path = ffi.new("char[]", file.name.encode())
        paths = ffi.new("const char *[]", [path])
        corpus_settings.paths, corpus_settings.path_count = paths, 1
        corpus_settings.vocabulary = model.config["vocabulary"]
        context.check(lib.fur_corpus_open(context.pointer, corpus_settings, corpus))
    owned = ffi.gc(corpus[0], lib.fur_corpus_close)
    context.check(lib.fur_audit(context.pointer, model._model, owned, settings, result, mixed))
    heads = []
    for i in range(result.error_count):
        e = result.errors[i]
        sampled = {n: Sampled(getattr(e, n).value, getattr(e, n).low, getattr(e, n).high) for n in ("o", "dq", "dk", "dv")}
        heads.append(HeadError(e.layer, e.head, e.exact, far_share=e.far_share, certificate=e.certificate, **sampled))
    kept = Model(context, mixed[0], model.memory, model.disk) if mixed[0] != ffi.NULL else None
    return Audit(heads, result.exact_loss, result.mixed_loss, kept, result.seconds)
