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
    """Collects symbols in decoding order, adapting the tables exactly as the decoder will; `finish` codes them in reverse.

    Of a symbol it keeps its place in the tables of its time, two bytes as a rule.
    """

    def __init__(self, lanes: int):
        self.lanes = lanes
        self._chunks: list[tuple[Array, Array]] = []  # tables, see `_tables`, and places in them
        self._escaped: list[Array] = []

    def write(self, model: Model, classes: Array, symbols: Array) -> None:
        """Append symbols (uint16; beyond the model's alphabet they are escaped) with their classes (int64)."""
        while len(classes):
            if not model[2]:
                model[3:] = _tables(model, self.lanes)
            table, absent = model[3:]
            width = model[0].shape[1]
            chunk, classes = classes[: model[2]], classes[model[2] :]
            values, symbols = symbols[: model[2]], symbols[model[2] :]
            cells = chunk * width
            cells += np.minimum(values, width - 1)
            self._chunks.append((table, cells.astype(np.min_scalar_type(table.size))))
            self._escaped.append(values[absent.take(cells)])
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
        coded = (np.log2(table >> 16).take(cells).sum() for table, cells in self._chunks)
        return PRECISION * sum(len(cells) for _, cells in self._chunks) - float(sum(coded)) + 16 * self.escaped

    @property
    def escaped(self) -> int:
        """Number of symbols that were escaped."""
        return sum(map(len, self._escaped))

    def finish(self) -> bytes:
        """The coded stream: states, words, escaped symbols in reverse."""
        states = np.full(self.lanes, LOW, "u4")
        words: list[Array] = []
        for frequency, start, limit in self._steps():
            state = states[: len(frequency)]
            full = (state >= limit).nonzero()[0]
            spilled = state[full]
            words.append(spilled.astype("<u2"))
            state[full] = spilled >> 16
            # state // frequency · 2^PRECISION + state % frequency + start
            state += state // frequency * (2**PRECISION - frequency)
            state += start
        # The decoder takes escaped symbols chunk by chunk from the end of the stream, each chunk's in their order.
        tail = [chunk.astype("<u2") for chunk in reversed(self._escaped)]
        return b"".join(part.tobytes() for part in (states.astype("<u4"), *reversed(words), *tail))

    def _steps(self) -> Iterator[tuple[Array, Array, Array]]:
        """What the lanes code at once, last step first: frequencies, starts, and the states that have to give up a word."""
        for table, cells in reversed(self._chunks):
            entries = table.take(cells)
            frequencies = entries >> 16
            starts, limits = entries & 0xFFFF, frequencies << (32 - PRECISION)
            for begin in reversed(range(0, len(cells), self.lanes)):
                step = slice(begin, begin + self.lanes)
                yield frequencies[step], starts[step], limits[step]


def _tables(model: Model, lanes: int) -> tuple[Array, Array]:
    """Renewed tables, flat, (classes · (symbols + 1)): frequency above 16 bits and start; and which symbols are escaped, since
    they have no frequency, for which the escape's entry stands."""
    frequencies, starts = rans_renew(model, lanes)
    absent = frequencies == 0
    absent[:, -1] = True
    entries = (frequencies << 16 | starts).astype("u4")
    return np.where(absent, entries[:, -1:], entries).ravel(), absent.ravel()


def choose_lanes(symbols: int) -> int:
    """A power of two: each lane costs about three bytes, and fewer lanes decode more slowly, which matters in long streams."""
    if symbols >= FAST:
        return MOST_LANES
    lanes = 16
    while lanes < MOST_LANES // 2 and lanes * 8192 < symbols:
        lanes *= 2
    return lanes
