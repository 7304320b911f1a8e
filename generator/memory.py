"""What was computed and will be asked for again, kept while there is room."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from torch import Tensor

ROOM = 2 << 30  # bytes

Value = TypeVar("Value")


class Memory:
    """Values by keys, up to so many bytes of tensors.

    What does not fit is computed each time. Nothing makes room for something else: who goes through the same keys again and
    again would find least of them in a memory that forgets the oldest.
    """

    def __init__(self, room: int = ROOM):
        self._kept = _Kept(room)
        self._mark: Hashable = None

    def apart(self, mark: Hashable) -> Memory:
        """The same memory for keys that mean something else there."""
        other = Memory(0)
        other._kept, other._mark = self._kept, (self._mark, mark)
        return other

    def recall(self, key: Hashable, make: Callable[[], Value], valid: Callable[[Value], bool] = lambda _: True) -> Value:
        """The value of a key; made, if there is none or the one that is kept is not valid any more.

        Threads that ask for the same key at once may each make it.
        """
        key = self._mark, key
        kept = self._kept
        with kept.lock:
            known = kept.values.get(key)
        if known is not None and valid(known[0]):
            found: Value = known[0]
            return found
        value = make()
        size = size_of(value)
        with kept.lock:
            _, before = kept.values.pop(key, (None, 0))
            kept.room += before
            if size <= kept.room:
                kept.values[key] = value, size
                kept.room -= size
        return value


@dataclass
class _Kept:
    """Values with their sizes, and the bytes that are left."""

    room: int
    values: dict[Hashable, tuple[Any, int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def size_of(value: Any) -> int:
    """Bytes of the tensors in a value: a tensor, or a dataclass of such values."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(size_of(getattr(value, one.name)) for one in fields(value)) if is_dataclass(value) else 0
