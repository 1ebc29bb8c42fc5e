# SPDX-License-Identifier: Apache-2.0
"""Furlong: transformers over very long sequences, inside a memory limit that you give.

    import furlong
    model = furlong.load("runs/book-1/step-000600")
    loss, gradients = model.loss_and_grad(ids)

Shapes are named as in the C headers: T tokens, V vocabulary, I input features, O outputs. Errors of the library are
exceptions with the library's own line of text.
"""
from ._errors import (ArgumentError, Busy, DoesNotFit, FormatError, FurlongError, Interrupted, NonFinite, ShapeError,
                      Unsupported)
from ._native import ffi as _ffi, lib as _lib
from .context import Context
from .model import Model, create, load
from .plan import Plan, longest, plan, presets

__version__ = _ffi.string(_lib.fur_version()).decode().split()[0]
__all__ = ["ArgumentError", "Busy", "Context", "DoesNotFit", "FormatError", "FurlongError", "Interrupted", "Model",
           "NonFinite", "Plan", "ShapeError", "Unsupported", "create", "load", "longest", "plan", "presets"]
