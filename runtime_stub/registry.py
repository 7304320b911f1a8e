"""Every decoder by the id that stands in the payload's manifest. The emitter inlines only what a payload uses.

A function `decode_ID` of a module here decodes a codec's streams, a function `undo_ID` is the inverse of a filter, and every
function of `runtime_stub.dequantize` is the dequantizer of its name: nothing has to be registered.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module

import runtime_stub
from runtime_stub import dequantize
from runtime_stub.split import Array

UNRELATED = frozenset({"mixing", "registry", "tensors"})  # of the program's compression, this one, and the only one with torch


def _functions(module: str) -> dict[str, Callable[..., list[Array]]]:
    found = vars(import_module(f"runtime_stub.{module}")).items()
    return {
        name.partition("_")[2]: value
        for name, value in found
        if name.startswith(("decode_", "undo_")) and value.__module__ == f"runtime_stub.{module}"
    }


DECODERS: dict[str, Callable[..., list[Array]]] = {
    name: function
    for module in pkgutil.iter_modules(runtime_stub.__path__)
    if module.name not in UNRELATED
    for name, function in sorted(_functions(module.name).items())
}

DEQUANTIZERS: dict[str, Callable[..., Array]] = {
    name: value for name, value in vars(dequantize).items() if getattr(value, "__module__", "") == dequantize.__name__
}
