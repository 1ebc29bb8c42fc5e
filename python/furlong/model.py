# SPDX-License-Identifier: Apache-2.0
"""A model: weights as NumPy arrays, logits, losses, gradients, steps and generation."""
from __future__ import annotations

import os
from typing import Callable, Iterator

import numpy
from numpy.typing import ArrayLike, NDArray

from . import context as contexts
from . import plan as plans
from ._errors import ArgumentError, DoesNotFit, ShapeError
from ._native import ffi, lib


class _Array:
    """Memory that the model owns, as numpy sees it; keeps the model alive."""

    def __init__(self, owner, pointer, shape):
        self._owner = owner
        self.__array_interface__ = {"shape": shape, "typestr": "<f4", "version": 3,
                                    "data": (int(ffi.cast("uintptr_t", pointer)), False)}


def _float_pointer(array):
    return ffi.cast("float *", array.ctypes.data)


class _Row:
    """A fur_row over arrays that it holds on to."""

    def __init__(self, config, ids, targets, offsets):
        if config.features:
            self.inputs = numpy.ascontiguousarray(ids, numpy.float32)
            if self.inputs.ndim != 2 or self.inputs.shape[1] != config.features:
                raise ShapeError(f"input of shape {self.inputs.shape}, expected [T, {config.features}]", "shape")
        else:
            given = numpy.asarray(ids)
            if given.ndim != 1 or not (numpy.issubdtype(given.dtype, numpy.integer)):
                raise ShapeError(f"ids of shape {given.shape} and type {given.dtype}, expected integers [T]", "shape")
            self._check_range("token", given, 0, config.vocabulary)
            self.inputs = numpy.ascontiguousarray(given, numpy.int32)
        self.tokens = len(self.inputs)
        self.offsets = numpy.ascontiguousarray([0, self.tokens] if offsets is None else offsets, numpy.int64)
        if self.tokens == 0 or len(self.offsets) < 2 or self.offsets[0] != 0 or self.offsets[-1] != self.tokens:
            raise ShapeError(f"documents at {self.offsets.tolist()}, expected 0 to {self.tokens}, rising", "shape")
        self.row = ffi.new("fur_row *")
        self.row.documents = len(self.offsets) - 1
        self.row.offsets = ffi.cast("const int64_t *", self.offsets.ctypes.data)
        if config.features:
            self.row.x_TI = _float_pointer(self.inputs)
        else:
            self.row.ids_T = ffi.cast("const int32_t *", self.inputs.ctypes.data)
        if targets is not None:
            self._set_targets(config, targets)

    @staticmethod
    def _check_range(what, values, low, end):
        if values.size and not (low <= values.min() and values.max() < end):
            at = int(numpy.flatnonzero((values < low) | (values >= end))[0])
            raise ArgumentError(f"{what} {values[at]} at {at}, expected {low} to {end - 1}", "argument")

    def _set_targets(self, config, targets):
        if config.outputs:
            self.targets = numpy.ascontiguousarray(targets, numpy.float32)
            shape = (self.tokens, config.outputs)
        else:
            given = numpy.asarray(targets)
            shape = (self.tokens,)
            if given.shape == shape:
                self._check_range("target", given, -1, config.vocabulary)
            self.targets = numpy.ascontiguousarray(given, numpy.int32)
        if self.targets.shape != shape:
            raise ShapeError(f"targets of shape {self.targets.shape}, expected {shape}", "shape")
        if config.outputs:
            self.row.target_TO = _float_pointer(self.targets)
        else:
            self.row.target_T = ffi.cast("const int32_t *", self.targets.ctypes.data)


def _next_tokens(ids, offsets):
    """Each token's target is the one after it in its document; a document's last has none."""
    targets = numpy.full(len(ids), -1, numpy.int64)
    bounds = [0, len(ids)] if offsets is None else offsets
    for start, end in zip(bounds[:-1], bounds[1:]):
        targets[start:end - 1] = ids[start + 1:end]
    return targets


class Model:
    """Made by `load` or `create`. Not for two threads at a time.

    memory: limit on the peak resident memory of the process for its runs, such as "8G"; None: none. disk likewise, of
    what they may store in a file.
    """

    def __init__(self, context, pointer, memory=None, disk=None):
        self.context, self._model = context, ffi.gc(pointer, lib.fur_model_destroy)
        self.memory, self.disk = memory, disk
        self._run, self._run_of, self._steps = None, None, 0

    # ---- what it is

    @property
    def _config(self):
        return lib.fur_model_config_of(self._model)

    @property
    def config(self) -> dict:
        """Its shape, by the names of fur_model_config: numbers, truth values and texts."""
        out = {}
        for name, field in ffi.typeof("fur_model_config").fields:
            value = getattr(self._config, name)
            if field.type.kind == "primitive":
                out[name] = int.from_bytes(value, "little") if isinstance(value, bytes) else value
            elif field.type.kind == "enum":
                out[name] = int(value)
            elif name in ("name", "family"):
                out[name] = ffi.string(value).decode()
        return out

    def _infos(self) -> Iterator:
        info = ffi.new("fur_parameter_info *")
        for i in range(lib.fur_model_parameters(self._model)):
            lib.fur_model_parameter(self._model, i, info)
            yield i, ffi.string(info.name).decode(), info

    def _views(self, pointer_of):
        out = {}
        for _, name, info in self._infos():
            if not info.table and pointer_of(info) != ffi.NULL:
                shape = tuple(info.shape[d] for d in range(info.rank))
                out[name] = numpy.asarray(_Array(self._model, pointer_of(info), shape))
        return out

    def parameters(self) -> dict[str, NDArray[numpy.float32]]:
        """The weights themselves by their Hugging Face names, without a copy: what is written there is the model's.
        Matrices are [out, in] in every family. Look-up tables are not among them, nor are weights beside adapters that
        stay as their file has them (`state_dict` has both)."""
        return self._views(lambda info: info.data)

    def _copies(self, gradient):
        out = {}
        for i, name, info in self._infos():
            if gradient and info.constant and info.gradient == ffi.NULL:
                continue  # frozen beside adapters
            array = numpy.empty(tuple(info.file_shape[d] for d in range(info.rank)), numpy.float32)
            self.context.check(lib.fur_model_parameter_copy(self.context.pointer, self._model, i, gradient,
                                                            _float_pointer(array)))
            out[name] = array
        return out

    def state_dict(self) -> dict[str, NDArray[numpy.float32]]:
        """Copies of all weights, in names and shapes those of the family's files (GPT-2's matrices are [in, out])."""
        return self._copies(False)

    # ---- runs

    def _run_for(self, purpose, row):
        """Memory for such a row: that of the last call, or anew where it does not do."""
        document = int(numpy.diff(row.offsets).max())
        have = self._run_of
        if have and have[0] == purpose and have[1] >= row.tokens and have[2] >= document:
            return self._run
        self._run, self._run_of, self._steps = None, None, 0  # before the next one is planned
        request = plans.request_of(purpose, row.tokens, document, self.memory, self.disk)
        request.weight_bytes = lib.fur_model_weight_bytes(self._model)
        plan = plans.made(self.context, self._config, request)
        if not plan.fits:
            raise DoesNotFit(f"{row.tokens} tokens need {plan.peak_bytes} bytes, the limit is {request.memory_bytes}",
                             "does not fit")
        out = ffi.new("fur_run **")
        self.context.check(lib.fur_run_create(self.context.pointer, self._model, plan, request, out))
        self._run, self._run_of = ffi.gc(out[0], lib.fur_run_destroy), (purpose, row.tokens, document)
        return self._run

    def logits(self, ids: ArrayLike, offsets: ArrayLike | None = None) -> NDArray[numpy.float32]:
        """Outputs of every position, [T, V], or [T, O] of a model over real vectors.

        ids: integers [T], or real vectors [T, I]. offsets: where documents begin and the last one ends, [0, ..., T];
        None: one document. Documents do not see each other.
        """
        row = _Row(self._config, ids, None, offsets)
        run = self._run_for("eval", row)
        out = numpy.empty((row.tokens, self._config.outputs or self._config.vocabulary), numpy.float32)
        self.context.check(lib.fur_model_outputs(run, row.row, _float_pointer(out)))
        return out

    def _targeted(self, ids, targets, offsets):
        if targets is None:
            if self._config.outputs:
                raise ArgumentError("a model over real vectors needs targets", "argument")
            targets = _next_tokens(numpy.asarray(ids), offsets)
        return _Row(self._config, ids, targets, offsets)

    def losses(self, ids: ArrayLike, targets: ArrayLike | None = None,
               offsets: ArrayLike | None = None) -> NDArray[numpy.float32]:
        """Loss of each position [T] in nats, NaN where none counts. targets as for `loss_and_grad`."""
        row = self._targeted(ids, targets, offsets)
        run = self._run_for("eval", row)
        out, mean = numpy.empty(row.tokens, numpy.float32), ffi.new("double *")
        self.context.check(lib.fur_model_loss(run, row.row, ffi.NULL, mean, _float_pointer(out)))
        return out

    def loss(self, ids: ArrayLike, targets: ArrayLike | None = None, offsets: ArrayLike | None = None) -> float:
        """Mean of `losses` over the positions that count."""
        row = self._targeted(ids, targets, offsets)
        run, mean = self._run_for("eval", row), ffi.new("double *")
        self.context.check(lib.fur_model_loss(run, row.row, ffi.NULL, mean, ffi.NULL))
        return mean[0]

    def _gradient(self, ids, targets, offsets):
        row = self._targeted(ids, targets, offsets)
        run, loss = self._run_for("train", row), ffi.new("double *")
        lib.fur_model_zero_gradients(self._model)
        self.context.check(lib.fur_model_loss_and_gradient(run, row.row, ffi.NULL, 1.0, loss, ffi.NULL))
        return run, loss[0]

    def loss_and_grad(self, ids: ArrayLike, targets: ArrayLike | None = None, offsets: ArrayLike | None = None
                      ) -> tuple[float, dict[str, NDArray[numpy.float32]]]:
        """Loss, and its gradient by every parameter that is trained (beside adapters: theirs), names and shapes as in
        `state_dict`.

        targets: [T], the token that follows each, -1 where none counts; None: the next of the same document, so that a
        document of n tokens has n - 1 losses, of which the loss is the mean. Over real vectors [T, O], rows of NaN not
        counted, mean squared error. Memory and time are those of `furlong.plan(..., purpose="train")`.
        """
        _, loss = self._gradient(ids, targets, offsets)
        return loss, self._copies(True)

    def gradients(self) -> dict[str, NDArray[numpy.float32]]:
        """Gradients of the last `loss_and_grad` without a copy, as `parameters`; until the next call on the model."""
        return self._views(lambda info: info.gradient)

    def train_step(self, ids: ArrayLike, targets: ArrayLike | None = None, offsets: ArrayLike | None = None, *,
                   lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8,
                   weight_decay: float = 0.1, grad_clip: float = 1.0) -> tuple[float, float]:
        """One step of AdamW by the loss of a row; returns the loss before it and the gradient's norm. The moments are
        kept from step to step, and begin again where a longer row, or another kind of call between, made a new run.
        """
        run, loss = self._gradient(ids, targets, offsets)
        settings, norm = ffi.new("fur_update_settings *"), ffi.new("double *")
        lib.fur_update_settings_defaults(settings)
        settings.lr, settings.eps, settings.weight_decay, settings.grad_clip = lr, eps, weight_decay, grad_clip
        settings.beta1, settings.beta2 = betas
        settings.step = self._steps + 1
        self.context.check(lib.fur_run_update(run, settings, norm))
        self._steps += 1
        return loss, norm[0]

    # ---- the rest

    def generate(self, ids: ArrayLike, count: int, *, temperature: float = 0.8, top_k: int = 0, top_p: float = 1.0,
                 seed: int = 0, on_token: Callable[[int], object] | None = None) -> list[int]:
        """Continues ids [T] by up to `count` tokens; temperature 0 is greedy. on_token: called with each new one, stops
        by returning something true."""
        prompt = _Row(self._config, ids, None, None)
        sampling = ffi.new("fur_sampling *")
        lib.fur_sampling_defaults(sampling)
        sampling.temperature, sampling.top_k, sampling.top_p, sampling.seed = temperature, top_k, top_p, seed
        state = _Tokens(on_token)
        handle = ffi.new_handle(state)
        status = lib.fur_generate(self.context.pointer, self._model, prompt.row.ids_T, prompt.tokens, count, sampling,
                                  plans.as_bytes(self.memory), lib.furlong_python_token, handle)
        if state.failure:
            raise state.failure
        self.context.check(status)
        return state.out

    def save(self, folder: str | os.PathLike) -> None:
        """Writes config.json and model.safetensors into a folder, which is made if it is not there."""
        os.makedirs(folder, exist_ok=True)
        self.context.check(lib.fur_model_save(self.context.pointer, self._model, os.fsencode(folder)))

    def __repr__(self):
        c = self._config
        return (f"furlong.Model({lib.fur_config_parameter_count(c):,} parameters, {c.layers} layers x {c.width}, "
                f"vocabulary {c.vocabulary:,})")


class _Tokens:
    def __init__(self, on_token):
        self.on_token, self.out, self.failure = on_token, [], None


@ffi.def_extern()
def furlong_python_token(user, token):
    state = ffi.from_handle(user)
    state.out.append(int(token))
    try:
        return int(bool(state.on_token and state.on_token(int(token))))
    except BaseException as failure:  # cannot pass through C; raised after the call
        state.failure = failure
        return 1


def load(path: str | os.PathLike, *, memory: int | str | None = None, disk: int | str | None = None,
         context: contexts.Context | None = None) -> Model:
    """A model from a folder in Hugging Face form (config.json, *.safetensors) or a GGUF file; tokenizer files are not
    needed."""
    context, out = context or contexts.default(), ffi.new("fur_model **")
    context.check(lib.fur_model_load(context.pointer, os.fsencode(path), out))
    return Model(context, out[0], memory, disk)


def create(model: str | os.PathLike, *, tokens: int = 0, seed: int = 0, memory: int | str | None = None,
           disk: int | str | None = None, context: contexts.Context | None = None) -> Model:
    """A model with fresh weights: a preset's name, or a folder or file with a config.json. tokens: its context, 0 for
    the preset's own. The same seed gives the same weights on any machine."""
    context, out = context or contexts.default(), ffi.new("fur_model **")
    config = plans.config_of(context, model, tokens)
    context.check(lib.fur_model_create(context.pointer, config, seed, out))
    return Model(context, out[0], memory, disk)
