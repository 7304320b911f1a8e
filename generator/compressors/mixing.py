"""Encoder of `mix`; runtime_stub.mixing has the model and the decoder."""

from __future__ import annotations

from runtime_stub.mixing import predict_bits

MIX_LIMIT = 2**24 - 1  # bytes of text: the length takes three bytes


def encode_mix(text: bytes) -> bytes:
    """Code at most MIX_LIMIT bytes with the model of `runtime_stub.mixing`.

    Returns:
        Three bytes of length, most significant first, and the coded bits: four bytes, then what does not end in zeros.
    """
    output = bytearray()
    model = predict_bits(len(text))
    low, high = 0, 0xFFFFFFFF
    probability = next(model, 0)
    for byte in text:
        for shift in range(7, -1, -1):
            bit = byte >> shift & 1
            middle = low + (high - low >> 16) * probability
            if bit:
                high = middle
            else:
                low = middle + 1
            while low >> 24 == high >> 24:
                output.append(high >> 24)
                low = low << 8 & 0xFFFFFFFF
                high = high << 8 & 0xFFFFFFFF | 255
            try:
                probability = model.send(bit)
            except StopIteration:
                break
    if low:  # any number between low and high will do; high's first byte followed by zeros is one
        output.append(high >> 24)
    return len(text).to_bytes(3, "big") + bytes(output).rstrip(b"\0").ljust(4, b"\0")
