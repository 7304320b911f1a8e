"""The coder half of `rans`: symbols with classes in, words out. Which classes there are is the model's business."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from runtime_stub.rans import COUNTED, PRECISION, Model, rans_adapt, rans_renew
from runtime_stub.split import Array

FAST = 8_000_000  # symbols from which on decoding has as many lanes as pay
MOST_LANES = 2048
LOW = 1 << 16  # states lie in [LOW, LOW · 2^16)


class RansWriter:
    """Collects symbols in decoding order, adapting the tables exactly as the decoder will; `finish` codes them in reverse."""

    def __init__(self, lanes: int):
        self.lanes = lanes
        self._chunks: list[tuple[Array, Array]] = []  # frequencies and starts, uint32
        self._escaped: list[Array] = []

    def write(self, model: Model, classes: Array, symbols: Array) -> None:
        """Append symbols (uint16; beyond the model's alphabet they are escaped) with their classes (int64)."""
        while len(classes):
            if not model[2]:
                model[3:] = rans_renew(model, self.lanes)
            frequencies, starts = model[3:]
            size = model[2]
            chunk, classes = classes[:size], classes[size:]
            values, symbols = symbols[:size], symbols[size:]
            escape = frequencies.shape[1] - 1
            coded = np.minimum(values, escape).astype("i8")
            unseen = (frequencies[chunk, coded] == 0) | (coded == escape)
            coded[unseen] = escape
            frequency = frequencies[chunk, coded]
            self._chunks.append((frequency.astype("u4"), starts[chunk, coded].astype("u4")))
            self._escaped.append(values[unseen])
            rans_adapt(model, chunk[:COUNTED], values)

    def reader(self, symbols: Array) -> Callable[[Model, Array], Array]:
        """What a context model reads symbols (uint16) with that it is to write: each call writes the next ones."""
        position = 0

        def read(model: Model, slots: Array) -> Array:
            nonlocal position
            values = symbols[position : position + len(slots)]
            position += len(slots)
            self.write(model, (slots >> PRECISION).astype("i8"), values)
            return values.astype("u4")

        return read

    def bits(self) -> float:
        """Ideal length of what was written so far."""
        return sum(float(PRECISION * len(f) - np.log2(f).sum()) for f, _ in self._chunks) + 16 * self.escaped

    @property
    def escaped(self) -> int:
        """Number of symbols that were escaped."""
        return sum(map(len, self._escaped))

    def finish(self) -> bytes:
        """The coded stream: states, words, escaped symbols in reverse."""
        states = np.full(self.lanes, LOW, "u4")
        words: list[Array] = []
        for frequency, start in self._steps():
            state = states[: len(frequency)]
            full = state >= frequency.astype("u8") << (32 - PRECISION)
            words.append(state[full].astype("<u2"))
            state[full] >>= 16
            quotient = state // frequency
            state[:] = (quotient << PRECISION) + (state - quotient * frequency) + start
        # The decoder takes escaped symbols chunk by chunk from the end of the stream, each chunk's in their order.
        tail = [chunk.astype("<u2") for chunk in reversed(self._escaped)]
        return b"".join(part.tobytes() for part in (states.astype("<u4"), *reversed(words), *tail))

    def _steps(self) -> Iterator[tuple[Array, Array]]:
        """What the lanes code at once, last step first."""
        for frequencies, starts in reversed(self._chunks):
            for begin in reversed(range(0, len(frequencies), self.lanes)):
                yield frequencies[begin : begin + self.lanes], starts[begin : begin + self.lanes]


def choose_lanes(symbols: int) -> int:
    """A power of two: each lane costs about three bytes, and fewer lanes decode more slowly, which matters in long streams."""
    if symbols >= FAST:
        return MOST_LANES
    lanes = 16
    while lanes < MOST_LANES // 2 and lanes * 8192 < symbols:
        lanes *= 2
    return lanes
