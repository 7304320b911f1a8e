"""A byte-level n-gram model that learns when it is run: a script without weights, for `golfpack wrap`.

    python train_gpt.py                                             # counts, evaluates, prints val_loss and val_bpb
    golfpack wrap train_gpt.py -o packed/train_gpt.py --check -- --megabytes 0.2
    python packed/train_gpt.py                                      # prints the same

It counts every context of up to ORDER bytes in the running interpreter's own standard library, holds out one file in twenty,
and mixes the orders by Witten and Bell's rule (The zero-frequency problem, IEEE Trans. Inf. Theory 37, 1991): what a context
of k bytes has not seen is left to the context of k − 1.
"""

import argparse
import math
import sysconfig
from pathlib import Path

import numpy as np

ORDER = 7
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio; odd, so that no byte of a context is lost


def read_split(megabytes: float) -> tuple[np.ndarray, np.ndarray]:
    """Bytes to learn from and bytes to evaluate on, each uint8; the first files in a fixed, shuffled order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    names = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(names))
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    for number, index in enumerate(order):
        text = names[index].read_bytes() + b"\0"
        parts[number % 20 == 0].append(text)
        size += len(text)
        if size >= 1e6 * megabytes:
            break
    train, val = (np.frombuffer(b"".join(part), np.uint8) for part in parts)
    return train, val


def context_keys(text: np.ndarray) -> list[np.ndarray]:
    """For each order k, a hash of the k bytes before each byte, uint64 (len(text) − ORDER,); the first ORDER bytes have none.

    The lowest byte is 0, so that the byte which follows can stand there.
    """
    hashes = [np.zeros(len(text) - ORDER, np.uint64)]
    for distance in range(1, ORDER + 1):
        byte = text[ORDER - distance : len(text) - distance].astype(np.uint64)
        hashes.append((hashes[-1] + byte + np.uint64(1)) * MULTIPLIER)
    return [one & ~np.uint64(255) for one in hashes]


def count(keys: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each of the asked keys is among the keys, which are sorted; float64, of the shape of `asked`."""
    return (np.searchsorted(keys, asked, "right") - np.searchsorted(keys, asked, "left")).astype(np.float64)


def probabilities(train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """What the model gives to each byte of `val` after its first ORDER ones."""
    mixed = np.full(len(val) - ORDER, 1 / 256)
    for learned, asked in zip(context_keys(train), context_keys(val), strict=True):
        pairs = np.sort(learned | train[ORDER:])
        contexts = pairs & ~np.uint64(255)
        first = np.ones(len(pairs), bool)
        first[1:] = pairs[1:] != pairs[:-1]
        order = np.argsort(asked)  # sorted questions are answered several times faster
        seen, follower, different = np.zeros((3, len(asked)))
        seen[order] = count(contexts, asked[order])
        different[order] = count(contexts[first], asked[order])
        follower[order] = count(pairs, (asked | val[ORDER:])[order])
        mixed = np.where(seen > 0, (follower + different * mixed) / np.maximum(seen + different, 1), mixed)
    return mixed


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn and evaluate a byte-level n-gram model.")
    parser.add_argument("--megabytes", type=float, default=8.0, help="text to read, of the standard library's some 30")
    options = parser.parse_args()
    train, val = read_split(options.megabytes)
    loss = -np.log(probabilities(train, val)).mean()
    print(f"orders:0-{ORDER} train_bytes:{len(train):,} val_bytes:{len(val):,}")
    print(f"val_loss:{loss:.6f} val_bpb:{loss / math.log(2):.6f}")


if __name__ == "__main__":
    main()
