# SPDX-License-Identifier: Apache-2.0
"""Threads, instruction set and type of products, for the calls that use them."""
from __future__ import annotations

import os
import threading
import warnings

from ._errors import error
from ._native import ffi, lib

_WARNING = lib.FUR_LOG_WARNING


@ffi.def_extern()
def furlong_python_log(user, level, line):
    if level == _WARNING:
        warnings.warn(ffi.string(line).decode(errors="replace"), stacklevel=2)


class Context:
    """One context serves one thread at a time.

    threads: 0 is the physical cores within affinity and quota. isa: "ref", "avx2", "avx512", "avx512bf16", "amx"; None
    is the environment's FURLONG_ISA, else the best of the machine. dtype: "f32" or "bf16", the operands of matrix
    products and attention; weights, gradients, sums and statistics are f32 in both.
    """

    def __init__(self, *, threads: int = 0, isa: str | None = None, dtype: str = "f32"):
        held = [ffi.new("char[]", text.encode()) if text else ffi.NULL for text in (isa, dtype)]
        settings = ffi.new("fur_context_settings *")
        lib.fur_context_settings_defaults(settings)
        settings.threads, settings.isa, settings.dtype = threads, held[0], held[1]
        settings.log = lib.furlong_python_log
        out, text = ffi.new("fur_context **"), ffi.new("char[512]")
        status = lib.fur_context_create(settings, out, text, 512)
        if status != lib.FUR_OK:
            raise error(status, ffi.string(text).decode(errors="replace"))
        self._context = ffi.gc(out[0], lib.fur_context_destroy)
        self._process = os.getpid()

    def check(self, status: int) -> None:
        """Raises what a status means."""
        if status != lib.FUR_OK:
            raise error(status, ffi.string(lib.fur_context_error(self._context)).decode(errors="replace"))

    @property
    def pointer(self):
        """The fur_context; after a fork the child needs one of its own."""
        if os.getpid() != self._process:
            raise RuntimeError("a furlong.Context does not survive a fork: make one in the child")
        return self._context

    @property
    def threads(self) -> int:
        return lib.fur_context_threads(self._context)

    @property
    def isa(self) -> str:
        return ffi.string(lib.fur_context_isa(self._context)).decode()

    @property
    def dtype(self) -> str:
        return ffi.string(lib.fur_context_dtype(self._context)).decode()

    def stop(self) -> None:
        """Asks a running generation to end at its next token. From any thread."""
        lib.fur_context_stop(self._context)

    def __repr__(self):
        return f"furlong.Context(threads={self.threads}, isa={self.isa!r}, dtype={self.dtype!r})"


_own = threading.local()


def default() -> Context:
    """The calling thread's own context, made when it is first wanted."""
    if getattr(_own, "process", None) != os.getpid():
        _own.context, _own.process = Context(), os.getpid()
    return _own.context
