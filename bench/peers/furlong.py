# SPDX-License-Identifier: Apache-2.0
"""Furlong's public C interface (include/furlong/*.h) through ctypes, as far as the comparisons call it: a model from a
config or from a checkpoint, its logits, and the loss of each position. The library says its own struct sizes where it
can, and what cannot be checked that way is only handed through."""
import ctypes
import os

import numpy

_OPAQUE_BYTES = 1 << 14  # room for fur_model_config and fur_plan, which are only handed on


class _ContextSettings(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("threads", ctypes.c_int), ("isa", ctypes.c_char_p),
                ("dtype", ctypes.c_char_p), ("log", ctypes.c_void_p), ("log_user", ctypes.c_void_p)]


class _PlanRequest(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("purpose", ctypes.c_int), ("row_tokens", ctypes.c_int64),
                ("document_tokens", ctypes.c_int64), ("memory_bytes", ctypes.c_int64), ("data_bytes", ctypes.c_int64),
                ("keep", ctypes.c_int), ("superblock", ctypes.c_int64), ("disk_bytes", ctypes.c_int64),
                ("disk_dir", ctypes.c_char_p), ("inputs", ctypes.c_int), ("attention", ctypes.c_int),
                ("optimizer", ctypes.c_int), ("stored", ctypes.c_int), ("measured_gflops", ctypes.c_double)]


class _Row(ctypes.Structure):
    _fields_ = [("documents", ctypes.c_int64), ("offsets", ctypes.c_void_p), ("ids_T", ctypes.c_void_p),
                ("x_TI", ctypes.c_void_p), ("target_T", ctypes.c_void_p), ("target_TO", ctypes.c_void_p)]


_FOR_EVAL = 1


class Furlong:
    """One context. `threads` 0: what the library chooses."""

    def __init__(self, library=None, threads=0):
        self.lib = ctypes.CDLL(library or os.environ.get("FURLONG_LIBRARY", "build/release/libfurlong.so"))
        for name in ("fur_context_error", "fur_context_isa"):
            getattr(self.lib, name).restype = ctypes.c_char_p
        settings = _ContextSettings()
        self.lib.fur_context_settings_defaults(ctypes.byref(settings))
        self._check_size(settings, "fur_context_settings")
        settings.threads = threads
        self.context = ctypes.c_void_p()
        text = ctypes.create_string_buffer(512)
        if self.lib.fur_context_create(ctypes.byref(settings), ctypes.byref(self.context), text, ctypes.c_size_t(512)):
            raise RuntimeError(text.value.decode())

    @staticmethod
    def _check_size(struct, name):
        if struct.struct_size != ctypes.sizeof(struct):
            raise RuntimeError(f"{name} has {struct.struct_size} bytes in the library and {ctypes.sizeof(struct)} here")

    def check(self, status):
        if status:
            raise RuntimeError(self.lib.fur_context_error(self.context).decode())

    def isa(self):
        return self.lib.fur_context_isa(self.context).decode()

    def create(self, config_path, seed, folder):
        """Fresh weights for a config.json, written to an existing folder in Hugging Face form."""
        config = ctypes.create_string_buffer(_OPAQUE_BYTES)
        model = ctypes.c_void_p()
        self.check(self.lib.fur_config_read(self.context, os.fsencode(config_path), config))
        self.check(self.lib.fur_model_create(self.context, config, ctypes.c_uint64(seed), ctypes.byref(model)))
        try:
            self.check(self.lib.fur_model_save(self.context, model, os.fsencode(folder)))
        finally:
            self.lib.fur_model_destroy(model)

    def load(self, folder, tokens):
        return Model(self, folder, tokens)


class Model:
    """A checkpoint and the memory for rows of up to `tokens` positions."""

    def __init__(self, furlong, folder, tokens):
        self.furlong, lib = furlong, furlong.lib
        lib.fur_model_config_of.restype = ctypes.POINTER(ctypes.c_int64)  # its first member is the vocabulary
        self.model, self.run = ctypes.c_void_p(), ctypes.c_void_p()
        furlong.check(lib.fur_model_load(furlong.context, os.fsencode(folder), ctypes.byref(self.model)))
        config = lib.fur_model_config_of(self.model)
        self.vocabulary = config[0]
        request = _PlanRequest()
        lib.fur_plan_request_defaults(ctypes.byref(request))
        furlong._check_size(request, "fur_plan_request")
        request.purpose, request.row_tokens = _FOR_EVAL, tokens
        plan = ctypes.create_string_buffer(_OPAQUE_BYTES)
        furlong.check(lib.fur_plan_make(furlong.context, config, ctypes.byref(request), plan))
        furlong.check(lib.fur_run_create(furlong.context, self.model, plan, ctypes.byref(request),
                                         ctypes.byref(self.run)))

    def _row(self, ids, offsets, targets=None):
        self._held = [numpy.ascontiguousarray(ids, numpy.int32), numpy.asarray(offsets, numpy.int64)]
        if targets is not None:
            self._held.append(numpy.ascontiguousarray(targets, numpy.int32))
        data = [a.ctypes.data for a in self._held]
        return _Row(len(offsets) - 1, data[1], data[0], None, data[2] if targets is not None else None, None)

    def logits(self, ids):
        """[n, vocabulary] for one document."""
        row = self._row(ids, [0, len(ids)])
        out = numpy.empty((len(ids), self.vocabulary), numpy.float32)
        self.furlong.check(self.furlong.lib.fur_model_outputs(self.run, ctypes.byref(row),
                                                              ctypes.c_void_p(out.ctypes.data)))
        return out

    def losses(self, ids, targets):
        """Negative log likelihood of each position of one document, in nats."""
        row = self._row(ids, [0, len(ids)], targets)
        out, mean = numpy.empty(len(ids), numpy.float32), ctypes.c_double()
        self.furlong.check(self.furlong.lib.fur_model_loss(self.run, ctypes.byref(row), None, ctypes.byref(mean),
                                                           ctypes.c_void_p(out.ctypes.data)))
        return out

    def close(self):
        self.furlong.lib.fur_run_destroy(self.run)
        self.furlong.lib.fur_model_destroy(self.model)
