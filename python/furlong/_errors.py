# SPDX-License-Identifier: Apache-2.0
"""What a fur_status other than FUR_OK becomes."""
from ._native import ffi, lib


class FurlongError(Exception):
    """A call failed; str() is the library's line, `status` its code's name."""

    def __init__(self, text, status="internal"):
        super().__init__(text)
        self.status = status


class ArgumentError(FurlongError, ValueError):
    """A setting or argument is outside its documented range."""


class ShapeError(FurlongError, ValueError):
    """Arrays do not fit each other, the model or the plan."""


class DoesNotFit(FurlongError, MemoryError):
    """Refused before work: the memory or disk limit is too small. The text says what would fit."""


class FormatError(FurlongError, ValueError):
    """A file's content breaks its format; the text has key or offset."""


class Unsupported(FurlongError, NotImplementedError):
    """Understood, but refused; the text names the combination."""


class NonFinite(FurlongError, ArithmeticError):
    """NaN or infinity in loss, gradient or weights; the text names where."""


class Interrupted(FurlongError):
    """Stopped at a safe point by Context.stop."""


class Busy(FurlongError):
    """Another run holds the output folder."""


class _Memory(FurlongError, MemoryError):
    pass


class _System(FurlongError, OSError):
    pass


_CLASSES = {
    lib.FUR_E_ARGUMENT: ArgumentError,
    lib.FUR_E_SHAPE: ShapeError,
    lib.FUR_E_MEMORY: _Memory,
    lib.FUR_E_DOES_NOT_FIT: DoesNotFit,
    lib.FUR_E_IO: _System,
    lib.FUR_E_FORMAT: FormatError,
    lib.FUR_E_UNSUPPORTED: Unsupported,
    lib.FUR_E_NONFINITE: NonFinite,
    lib.FUR_E_INTERRUPTED: Interrupted,
    lib.FUR_E_BUSY: Busy,
}


def error(status, text):
    """The exception for a status and the line that belongs to it."""
    name = ffi.string(lib.fur_status_name(status)).decode()
    return _CLASSES.get(status, FurlongError)(text or name, name)
