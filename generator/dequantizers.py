"""Dequantizers: from a quantizer's arrays back to a tensor's elements.

A new one is a class here, a function of the same name in `runtime_stub.dequantize`, and a line in REGISTRY.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch

from generator.fields import Field
from generator.limits import Specs
from runtime_stub import dequantize
from runtime_stub.split import Array

TORCH_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype) and value.itemsize <= 8 and "quint" not in str(value) and "qint" not in str(value)
}
MOST_RANK = 64  # of a correction: each takes a pass over the elements


class Dequantizer(ABC):
    """All that is to be known of a dequantizer.

    Attributes:
        id: its name in the manifest.
        function: of runtime_stub: (*arrays) → elements.
        roles: of the arrays that it takes, in order.
    """

    id: ClassVar[str]
    function: ClassVar[Callable[..., Array]]
    roles: ClassVar[tuple[str, ...]]

    @classmethod
    def fields(cls, tensor: str, stored: str, arrays: Sequence[Array]) -> list[Field]:
        """What is known of the arrays of a tensor whose elements are of torch dtype `stored`."""
        return [
            Field(array, role, tensor, _along(array.shape, arrays[0].shape), stored if role == "raw" else "")
            for array, role in zip(arrays, cls.roles, strict=True)
        ]

    @classmethod
    @abstractmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        """Whether arrays of these dtypes and shapes, from an untrusted manifest, give elements of torch dtype `stored`; no
        broadcast may blow up what is allocated."""

    @classmethod
    def shown(cls, stored: str, symbols: Array) -> str:
        """What the stored symbols look like; the payload does not name the quantizer that chose them."""
        largest = int(np.abs(symbols.astype(np.int64)).max(initial=1))
        return f"int{largest.bit_length() + 1}"


class Keep(Dequantizer):
    """The elements' bits as they are."""

    id: ClassVar[str] = "keep"
    function = staticmethod(dequantize.keep)
    roles: ClassVar[tuple[str, ...]] = ("raw",)

    @classmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        return len(specs) == 1 and np.dtype(specs[0][0]).itemsize == TORCH_DTYPES[stored].itemsize

    @classmethod
    def shown(cls, stored: str, symbols: Array) -> str:
        return stored


class Scale(Dequantizer):
    """Symbols times scales."""

    id: ClassVar[str] = "scale"
    function = staticmethod(dequantize.scale)
    roles: ClassVar[tuple[str, ...]] = ("symbols", "scales")

    @classmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        return _are_symbols(stored, specs, 2) and _broadcasts(specs[1][1], specs[0][1])


class Groups(Dequantizer):
    """Symbols times scales of groups of a row."""

    id: ClassVar[str] = "groups"
    function = staticmethod(dequantize.groups)
    roles: ClassVar[tuple[str, ...]] = ("symbols", "scales")

    @classmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        return _are_symbols(stored, specs, 2) and _is_grouped(specs[0][1], specs[1][1])


class Grid(Dequantizer):
    """Symbols times steps of a logarithmic grid by row and column."""

    id: ClassVar[str] = "grid"
    function = staticmethod(dequantize.grid)
    roles: ClassVar[tuple[str, ...]] = ("symbols", "exponents", "exponents")

    @classmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        if not _are_symbols(stored, specs, 3):
            return False
        # Exponents are bounded by their dtype: 2^(±127/4) of int8, 2^(±32767/4) of int16 (0 or infinity in float32).
        return all(dtype in ("|i1", "<i2") and _broadcasts(shape, specs[0][1]) for dtype, shape in specs[1:])


class GridGains(Dequantizer):
    """`grid`, and factors near one of rows and columns."""

    id: ClassVar[str] = "grid_gains"
    function = staticmethod(dequantize.grid_gains)
    roles: ClassVar[tuple[str, ...]] = (*Grid.roles, "scales", "scales")

    @classmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        gains = specs[3:]
        return (
            len(specs) == len(cls.roles)
            and Grid.takes(stored, specs[:3])
            and all(dtype == "|i1" and _broadcasts(shape, specs[0][1]) for dtype, shape in gains)
        )


class _Corrected(Dequantizer):
    """Another dequantizer's elements, and a product of two narrow factors of integers.

    Attributes:
        plain: the other one.
    """

    plain: ClassVar[type[Dequantizer]]

    @classmethod
    def fields(cls, tensor: str, stored: str, arrays: Sequence[Array]) -> list[Field]:
        known = cls.plain.fields(tensor, stored, arrays[:-4])
        along = zip(arrays[-4:], cls.roles[-4:], ("rows", "rows", "columns", "columns"), strict=True)
        return [*known, *(Field(array, role, tensor, where) for array, role, where in along)]

    @classmethod
    def takes(cls, stored: str, specs: Specs) -> bool:
        if len(specs) != len(cls.roles) or not cls.plain.takes(stored, specs[:-4]):
            return False
        (_, shape), (left_type, left), (_, scales), (right_type, right), (_, parts) = (specs[0], *specs[-4:])
        if len(shape) < 2 or len(left) != len(shape) or len(right) != len(shape) or not 1 <= left[-1] <= MOST_RANK:
            return False
        lead, rank = tuple(shape[:-2]), left[-1]
        fits = (*left,) == (*lead, shape[-2], rank) and (*right,) == (*lead, rank, shape[-1])
        grouped = len(parts) == len(shape) and (*parts[:-1],) == (*lead, rank) and 1 <= parts[-1] <= max(1, shape[-1])
        return fits and grouped and _broadcasts(scales, left) and left_type[1] in "iu" and right_type[1] in "iu"


_FACTORS = ("symbols", "scales", "symbols", "scales")


class ScaleLowRank(_Corrected):
    """`scale`, corrected."""

    id: ClassVar[str] = "scale_low_rank"
    function = staticmethod(dequantize.scale_low_rank)
    roles: ClassVar[tuple[str, ...]] = (*Scale.roles, *_FACTORS)
    plain = Scale


class GroupsLowRank(_Corrected):
    """`groups`, corrected."""

    id: ClassVar[str] = "groups_low_rank"
    function = staticmethod(dequantize.groups_low_rank)
    roles: ClassVar[tuple[str, ...]] = (*Groups.roles, *_FACTORS)
    plain = Groups


class GridLowRank(_Corrected):
    """`grid`, corrected."""

    id: ClassVar[str] = "grid_low_rank"
    function = staticmethod(dequantize.grid_low_rank)
    roles: ClassVar[tuple[str, ...]] = (*Grid.roles, *_FACTORS)
    plain = Grid


REGISTRY: dict[str, type[Dequantizer]] = {
    "grid": Grid,
    "grid_gains": GridGains,
    "grid_low_rank": GridLowRank,
    "groups": Groups,
    "groups_low_rank": GroupsLowRank,
    "keep": Keep,
    "scale": Scale,
    "scale_low_rank": ScaleLowRank,
}
CORRECTED = {kind.plain.id: kind.id for kind in (ScaleLowRank, GroupsLowRank, GridLowRank)}  # what can be, to what it becomes


def _are_symbols(stored: str, specs: Specs, count: int) -> bool:
    """Whether there are so many arrays, the first of integers, and they give float32."""
    return len(specs) == count and stored == "float32" and specs[0][0][1] in "iu"


def _broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether an array of `shape` can be spread over one of `target` without making it larger."""
    return len(shape) == len(target) and all(size in (1, full) for size, full in zip(shape, target, strict=True))


def _is_grouped(symbols: Sequence[int], scales: Sequence[int]) -> bool:
    """Whether scales (rows, groups) divide the symbols into rows, and each row into so many parts of equal width."""
    if len(scales) != 2 or not all(scales) or math.prod(symbols) % scales[0]:
        return False
    width = math.prod(symbols) // scales[0]
    return scales[1] <= max(1, width)


def _along(shape: Sequence[int], full: Sequence[int]) -> str:
    """What of a matrix of shape `full` an array of `shape` has an element for; see `generator.fields.Field`."""
    if tuple(shape) == tuple(full):
        return "all"
    if math.prod(shape) <= 1:
        return ""
    if len(shape) != len(full):
        return "groups"
    return "rows" if shape[-1] == 1 else "columns" if math.prod(shape[:-1]) == 1 else "groups"
