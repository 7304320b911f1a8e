"""Decoder of the `mix` code compression: a context-mixing model and a binary arithmetic decoder, all integers.

Nine contexts (the last zero to six bytes, the current word, the byte before the last) each keep a probability per partial
byte; two gated linear mixers in the logistic domain combine them (M. Mahoney, "Adaptive weighing of context models for
lossless data compression", 2005; the arithmetic coder is that paper's carryless one). The two tables are made with
floating-point logarithms, but no entry is nearer than 1e-9 to where it would round otherwise, so that any C library gives
the same integers; tests/test_mixing.py checks that.
"""

from __future__ import annotations

import array
import math
import operator
import zlib
from collections.abc import Generator


def predict_bits(length: int) -> Generator[int, int, bytes]:
    """Model of `length` bytes of text, most significant bit first.

    Yields:
        The probability that the next bit is 1, in units of 2**-16, from 1 to 65535.

    Receives:
        That bit.

    Returns:
        The text.
    """
    stretch = [int(256 * math.log((i + 0.5) / (4095.5 - i))) for i in range(4096)]
    squash = [1 + int(65534 / (1 + math.exp(12 - i / 256))) for i in range(6144)]
    # 22 bits of probability, 10 bits of how often the context was seen.
    cells = array.array("I", [1 << 31]) * (1 << 24)
    weights = [[20000] * 9 for _ in range(512)]
    text = bytearray(8)
    word = 0
    while len(text) < length + 8:
        contexts = [word, zlib.crc32(text[-2:-1], 9)]
        contexts += [zlib.crc32(text[len(text) - order :], order) for order in range(7)]
        partial = 1
        while partial < 256:
            places = [context + partial * 0x9E3779B1 & 0xFFFFFF for context in contexts]
            states = [cells[place] for place in places]
            inputs = [stretch[state >> 20] for state in states]
            mixers = [(row, sum(map(operator.mul, weights[row], inputs)) >> 16) for row in (partial, 256 + text[-1])]
            bit = yield squash[min(max(mixers[0][1] + mixers[1][1] >> 1, -3072), 3071) + 3072]
            for row, output in mixers:
                error = bit * 65536 - squash[min(max(output, -3072), 3071) + 3072]
                weights[row] = [weight + (error * value >> 14) for weight, value in zip(weights[row], inputs)]
            for place, state in zip(places, states):
                seen = state & 1023
                cells[place] = state + (((bit << 22) - (state >> 10)) * 4 // (4 * seen + 5) << 10) + (seen < 14)
            partial = partial * 2 + bit
        text.append(partial - 256)
        word = (word * 83 + partial) * 0x2F0B4C47 % 0xFFFFFFFB if text[-1:].isalnum() else 0
    return bytes(text[8:])


def decode_mix(data: bytes) -> bytes:
    """Undo `generator.compressors.mixing.encode_mix`: three bytes of length, most significant first, then the coded bits."""
    model = predict_bits(int.from_bytes(data[:3], "big"))
    low = bit = 0
    high = 0xFFFFFFFF
    code = int.from_bytes(data[3:7], "big")
    position = 7
    try:
        probability = next(model)
        while 1:
            middle = low + (high - low >> 16) * probability
            bit = code <= middle
            if bit:
                high = middle
            else:
                low = middle + 1
            while low >> 24 == high >> 24:
                low = low << 8 & 0xFFFFFFFF
                high = high << 8 & 0xFFFFFFFF | 255
                code = (code << 8 & 0xFFFFFFFF) + (data[position] if position < len(data) else 0)
                position += 1
            probability = model.send(bit)
    except StopIteration as stop:
        text: bytes = stop.value
    return text
