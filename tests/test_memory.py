"""What is kept, and what is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generator.memory import Memory, size_of


@dataclass
class Pair:
    first: Tensor
    second: object
    number: int = 0


def test_values_are_kept_as_long_as_there_is_room() -> None:
    made: list[str] = []

    def make(key: str, size: int) -> Tensor:
        def value() -> Tensor:
            made.append(key)
            return torch.zeros(size, dtype=torch.uint8)

        return memory.recall(key, value)

    memory = Memory(100)
    for _ in range(2):
        make("a", 60)
        make("b", 50)  # one too many
        make("c", 40)
    assert made == ["a", "b", "c", "b"]


def test_what_is_not_valid_any_more_is_replaced() -> None:
    memory = Memory(8)
    for number in (1, 1, 2, 2):
        wanted = torch.tensor([number])
        assert memory.recall("a", wanted.clone, wanted.equal) == number
    assert memory.recall("a", torch.tensor([9]).clone) == 2


def test_sizes_are_of_all_tensors() -> None:
    assert size_of(Pair(torch.zeros(3), Pair(torch.zeros(2, dtype=torch.int8), "text"))) == 14
    assert size_of("text") == 0
