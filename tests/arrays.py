"""Arrays as codecs and filters take them."""

from __future__ import annotations

import json

import numpy as np

from generator.codecs.base import Codec
from generator.codecs.chain import DECODERS, Chain, check_stages
from generator.fields import Field, specs_of
from generator.trellises import TRANSITIONS
from runtime_stub.payload import run_stages


def fields(*arrays: np.ndarray) -> list[Field]:
    """Arrays as fields of symbols, each of a tensor of its own."""
    return [Field(array, "symbols", f"t{number}") for number, array in enumerate(arrays)]


def path_symbols(k: np.ndarray, states: int) -> np.ndarray:
    """The symbols of k (int64) along the last dimension in a trellis, as the definition has it; int64."""
    result = np.empty(k.shape, "i8")
    for row in np.ndindex(k.shape[:-1]):
        state = 0
        for column, value in enumerate(k[row].tolist()):
            result[(*row, column)] = 2 * value - (state & 1) * ((value > 0) - (value < 0))
            state = TRANSITIONS[states][2 * state + (value & 1)]
    return result


def coded_size(chain: Chain | Codec, *arrays: np.ndarray | Field) -> int:
    """Bytes of a stream, which gives back the arrays, dtype, shape and every bit, and passes a reader's checks."""
    chain = chain if isinstance(chain, Chain) else Chain(chain)
    given = [one if isinstance(one, Field) else fields(one)[0] for one in arrays]
    coded = chain.encode(given)
    stages = json.loads(json.dumps(coded.stages))  # as they travel in the manifest
    check_stages(len(coded.data), specs_of(given), stages)
    specs = [(dtype, list(shape)) for dtype, shape in specs_of(given)]
    decoded = run_stages(coded.data, specs, stages, DECODERS, [])
    assert len(decoded) == len(given)
    for left, right in zip(decoded, given, strict=True):
        assert left.dtype == right.array.dtype
        assert left.shape == right.array.shape
        assert left.tobytes() == right.array.tobytes()
        assert left.flags.writeable
        assert left.flags.c_contiguous
    return len(coded.data)
