# SPDX-License-Identifier: Apache-2.0
"""Bytes, operations and seconds of a run before it starts."""
from __future__ import annotations

import dataclasses
import os
import re

from . import context as contexts
from ._native import ffi, lib

_PURPOSES = {"train": lib.FUR_FOR_TRAIN, "eval": lib.FUR_FOR_EVAL, "generate": lib.FUR_FOR_GENERATE}
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def as_bytes(size: int | str | None) -> int:
    """A number, or a text such as "8G" (2^30 each), as bytes. None: no limit, which is 0."""
    if size is None:
        return 0
    if isinstance(size, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", size)
        if not match:
            raise ValueError(f"size {size!r}, expected a number with K, M, G or T behind it")
        return int(float(match[1]) * (1 << _UNITS[match[2]]))
    return int(size)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run would take. `items`: bytes by name, which add up to peak_bytes."""
    fits: bool
    peak_bytes: int
    arena_bytes: int
    disk_bytes: int
    flops: float
    seconds: float
    items: dict[str, int]


def presets() -> list[str]:
    """Names of the presets."""
    names, out = lib.fur_config_preset_names(), []
    while names[len(out)] != ffi.NULL:
        out.append(ffi.string(names[len(out)]).decode())
    return out


def config_of(context, model, tokens: int):
    """A fur_model_config: of a preset by its name, or of a folder's or file's config.json."""
    config = ffi.new("fur_model_config *")
    if isinstance(model, str) and model in presets():
        context.check(lib.fur_config_preset(context.pointer, model.encode(), tokens, config))
        return config
    path = os.fspath(model)
    if os.path.isdir(path):
        path = os.path.join(path, "config.json")
    context.check(lib.fur_config_read(context.pointer, os.fsencode(path), config))
    return config


def request_of(purpose: str, tokens: int, document: int = 0, memory=None, disk=None):
    if purpose not in _PURPOSES:
        raise ValueError(f"purpose {purpose!r}, expected one of {', '.join(_PURPOSES)}")
    request = ffi.new("fur_plan_request *")
    lib.fur_plan_request_defaults(request)
    request.purpose, request.row_tokens, request.document_tokens = _PURPOSES[purpose], tokens, document
    request.memory_bytes, request.disk_bytes = as_bytes(memory), as_bytes(disk)
    return request


def made(context, config, request):
    out = ffi.new("fur_plan *")
    context.check(lib.fur_plan_make(context.pointer, config, request, out))
    return out


def plan(model, tokens: int, *, purpose: str = "train", document: int = 0, memory: int | str | None = None,
         disk: int | str | None = None, context: contexts.Context | None = None) -> Plan:
    """The fastest plan that fits; where none does, the smallest, with `fits` False.

    model: a preset's name, or a folder with config.json. tokens: of one packed row. document: the longest document in
    it, 0 for the whole row. memory: limit on the peak resident memory of the process, such as "8G"; disk likewise, of
    what the run may store in a file (None: nothing).
    """
    context = context or contexts.default()
    p = made(context, config_of(context, model, document or tokens), request_of(purpose, tokens, document, memory, disk))
    items = {ffi.string(p.items[i].name).decode(): p.items[i].bytes for i in range(p.item_count)}
    return Plan(bool(p.fits), p.peak_bytes, p.arena_bytes, p.disk_bytes, p.flops, p.seconds, items)


def longest(model, *, memory: int | str, disk: int | str | None = None, purpose: str = "train",
            context: contexts.Context | None = None) -> int:
    """Tokens of the longest row of one document that fits; 0 if none does."""
    context = context or contexts.default()
    out = ffi.new("int64_t *")
    config = config_of(context, model, 0)
    context.check(lib.fur_plan_longest(context.pointer, config, request_of(purpose, 1, 0, memory, disk), out))
    return out[0]
