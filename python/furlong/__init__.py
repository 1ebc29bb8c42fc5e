# SPDX-License-Identifier: Apache-2.0
"""Furlong: transformers over very long sequences, inside a memory limit that you give.

    import furlong
    model = furlong.load("runs/book-1/step-000600")
    loss, gradients = model.loss_and_grad(ids)
    o, lse = furlong.operators.attention(q, k, v)

The operators for PyTorch and transformers: furlong.torch, imported by itself.
Shapes are named as in the C headers: T tokens, V vocabulary, I input features, O outputs. Errors of the library are
exceptions with the library's own line of text.
"""
from ._errors import (ArgumentError, Busy, DoesNotFit, FormatError, FurlongError, Interrupted, NonFinite, ShapeError,
                      Unsupported)
from ._native import ffi as _ffi, lib as _lib
from .audit import Audit, HeadError, audit
from .context import Context
from .fit import AttentionFit, fit_attention
from .model import Model, create, load
from .plan import Plan, longest, plan, presets
from . import operators

__version__ = _ffi.string(_lib.fur_version()).decode().split()[0]
__all__ = ["ArgumentError", "AttentionFit", "Audit", "Busy", "Context", "DoesNotFit", "FormatError", "FurlongError",
           "HeadError", "Interrupted", "Model", "NonFinite", "Plan", "ShapeError", "Unsupported", "audit", "create",
           "fit_attention", "load", "longest", "operators", "plan", "presets"]
