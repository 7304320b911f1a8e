"""Adaptive rANS of what a trellis-coded quantizer chose."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from generator.codecs.base import UNKNOWN_SIZE, Codec, Encoded, manifest_bytes
from generator.codecs.cells import blocks
from generator.codecs.priors import fit_prior
from generator.codecs.rans_check import MAX_TABLES, check_rans, rans_excess
from generator.codecs.rans_coder import RansWriter, choose_lanes
from generator.codecs.scale_classes import MAX_CLASSES, Kind, fit_classes, ideal_bits
from generator.errors import InputError
from generator.fields import Field, specs_of
from generator.limits import Specs, is_integer
from generator.trellises import TRANSITIONS, path
from runtime_stub.rans import rans_model
from runtime_stub.split import Array
from runtime_stub.trellis import decode_trellis, trellis_rows

LARGEST = 2**15 - 2  # symbol
AXES = (-1, -2)  # that rows may run along
MAX_STATES = 64
MAX_COLUMNS = 1 << 16  # of all kinds together: what the decoder takes some seconds for
MAX_CUTS = 1 << 20  # columns of all arrays together, likewise


@dataclass(frozen=True)
class Path:
    """An array's rows as paths of a trellis.

    Attributes:
        field: the array.
        axis: dimension that its rows run along.
        states: of the trellis.
        k, grids: of its elements, (rows, columns).
    """

    field: Field
    axis: int
    states: int
    k: Array
    grids: Array

    @property
    def key(self) -> Hashable:
        """Arrays with the same one share tables: in a model the layers of one role."""
        field = self.field
        return field.array.dtype.str, field.role, field.along, self.axis, self.states, self.k.shape


class Trellis(Codec):
    """The context of an element is the class of its row and its column, and which grid the elements before it lead to.

    It takes integers whose rows, along the last dimension or the one before, are paths of a trellis that golfpack knows: those
    of `waterfill` with the option `trellis`.
    """

    id: ClassVar[str] = "trellis"
    decoder = staticmethod(decode_trellis)
    mixes_dtypes: ClassVar[bool] = True

    def takes(self, field: Field) -> bool:
        return _path(field) is not None

    def stream_bytes(self, specs: Specs) -> int:
        return 4 * _lanes(specs)

    def refuses(self, specs: Specs, size: int = UNKNOWN_SIZE) -> str:
        # Rows that run the other way than these take other numbers of symbols, hardly so, for their classes.
        matrices = _matrices(specs, [-1] * len(specs))
        return _too_wide(matrices, [shape for _, shape in matrices]) or rans_excess(size, _lanes(specs), matrices)

    def rate(self, fields: Sequence[Field]) -> float:
        kinds = _kinds(_paths(fields)).values()
        return sum(ideal_bits(kind.cells()) + kind.base.row_bits() for kind in kinds) / 8

    def estimate(self, fields: Sequence[Field]) -> float:
        writer, options = self._written(fields)
        return writer.bits() / 8 + manifest_bytes(options)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        writer, options = self._written(fields)
        return Encoded(writer.finish(), options)

    def _written(self, fields: Sequence[Field]) -> tuple[RansWriter, list[Any]]:
        """All symbols in decoding order, and the decoder's options."""
        paths = _paths(fields)
        kinds = _kinds(paths)
        if sum(2 + 2 * kind.base.classes for kind in kinds.values()) > MAX_TABLES:
            raise InputError(f"codec trellis can't code tensor {fields[0].tensor!r} and others in one stream: too many shapes")
        writer = RansWriter(_lanes(specs_of(fields)))
        options: list[list[Any]] = []
        for kind in kinds.values():
            following, arguments = TRANSITIONS[kind.members[0].states], kind.arguments()
            options.append([kind.members[0].axis, kind.base.shift, list(following), *arguments])
            views = [np.empty(one.k.shape, "i2") for one in kind.members]
            rows, columns, elements = (rans_model(*one) for one in arguments)
            trellis_rows(writer.reader(kind.symbols()), views, kind.base.shift, following, rows, columns, elements)
        numbers = {key: number for number, key in enumerate(kinds)}
        return writer, [writer.lanes, options, [numbers[one.key] for one in paths]]

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        if len(options) != 3 or not isinstance(options[1], list) or not isinstance(options[2], list):
            raise ValueError("a trellis stream has not its three options")
        lanes, kinds, members = options
        if not all(isinstance(kind, list) and len(kind) == 6 for kind in kinds):
            raise ValueError("a trellis stream has a malformed kind of array")
        if len(members) != len(specs) or not all(is_integer(member, 0, len(kinds) - 1) for member in members):
            raise ValueError("a trellis stream does not give each array a kind")
        for axis, _, following, *_ in kinds:
            if not is_integer(axis, min(AXES), max(AXES)) or not isinstance(following, list):
                raise ValueError("a trellis stream has a malformed trellis")
            states, odd = divmod(len(following), 2)
            if odd or not 1 <= states <= MAX_STATES or not all(is_integer(one, 0, states - 1) for one in following):
                raise ValueError("a trellis stream has a malformed trellis")
        if any(dtype not in ("|i1", "<i2") or len(shape) < 2 or 0 in shape for dtype, shape in specs):
            raise ValueError("a trellis stream holds what is no matrix of signed integers of one or two bytes")
        matrices = _matrices(specs, [kinds[member][0] for member in members])
        widths: dict[int, int] = {}
        for member, (_, shape) in zip(members, matrices, strict=True):
            if widths.setdefault(member, shape[1]) != shape[1]:
                raise ValueError("a trellis stream has rows of several lengths in one kind of array")
        if excess := _too_wide(matrices, members):
            raise ValueError(f"a trellis stream {excess}")
        if len(widths) < len(kinds):
            raise ValueError("a trellis stream has a kind without arrays")
        plain = [(dtype.replace("i1", "u1").replace("i2", "u2"), shape) for dtype, shape in matrices]
        check_rans(size, plain, [lanes, [[kind[1], *kind[3:]] for kind in kinds], members], 2 * MAX_CLASSES)


@dataclass(frozen=True)
class _Kind:
    """Arrays that share tables, and the classes of their rows and columns in `base`."""

    members: list[Path]
    base: Kind

    def cells(self) -> Array:
        """How often each class has each symbol, (2 · classes, symbols + 1)."""
        width = self.base.symbols + 1
        counts = np.zeros(2 * self.base.classes * width, "i8")
        for one, matrix, rows, columns in zip(self.members, self.base.matrices, self.base.rows, self.base.columns, strict=True):
            last = min(width - 1, np.iinfo(matrix.dtype).max)  # a narrow dtype holds nothing beyond a large alphabet
            for block in blocks(matrix.shape):
                classes = 2 * (rows[block[0], None] + columns[block[1]]) + one.grids[block]
                counts += np.bincount((classes * width + np.minimum(matrix[block], last)).ravel(), minlength=counts.size)
        return counts.reshape(-1, width)

    def arguments(self) -> list[list[int]]:
        """Of `rans_model`, for row classes, column classes and elements."""
        rows, columns, (symbols, center, *_) = self.base.arguments()
        counts = self.cells()
        return [rows, columns, [symbols, center, *fit_prior(counts, center), len(counts)]]

    def symbols(self) -> Array:
        """All of them in the order in which the decoder asks for them, uint16."""
        columns = (matrix.T for matrix in self.base.matrices)
        elements = np.concatenate([column.astype("u2") for column in columns], 1)
        classes = [*self.base.rows, *self.base.columns]
        return np.concatenate([*(one.astype("u2") for one in classes), elements.ravel()])


def _paths(fields: Sequence[Field]) -> list[Path]:
    found = [_path(field) for field in fields]
    for field, one in zip(fields, found, strict=True):
        if one is None:
            raise InputError(f"codec trellis can't code tensor {field.tensor!r}: its rows are no paths of a trellis")
    return [one for one in found if one is not None]


def _path(field: Field) -> Path | None:
    """The array as paths of a trellis, if it is one of the known ones."""
    array = field.array
    if field.role not in ("symbols", "raw") or array.dtype.str not in ("|i1", "<i2") or array.ndim < 2 or not array.size:
        return None
    if max(int(array.max()), -int(array.min())) > LARGEST:
        return None
    for axis in AXES:
        view = array.swapaxes(axis, -1)
        for states in TRANSITIONS:
            found = path(view, states)
            if found is not None:
                k, grids = (part.reshape(-1, view.shape[-1]) for part in found)
                return Path(field, axis, states, k, grids)
    return None


def _kinds(paths: Sequence[Path]) -> dict[Hashable, _Kind]:
    """By key, in the order in which the keys first occur."""
    members: dict[Hashable, list[Path]] = {}
    for one in paths:
        members.setdefault(one.key, []).append(one)
    return {key: _Kind(group, fit_classes([one.k for one in group])) for key, group in members.items()}


def _matrices(specs: Specs, axes: Sequence[int]) -> list[tuple[str, tuple[int, int]]]:
    """Shapes as rows and columns, rows running along these axes."""
    pairs = zip(specs, axes, strict=True)
    return [(dtype, (math.prod(shape) // max(shape[axis], 1), shape[axis])) for (dtype, shape), axis in pairs]


def _too_wide(matrices: Specs, groups: Sequence[Hashable]) -> str:
    """What takes the decoder too long: each column is a step for the arrays of a group; "" where there are not too many."""
    widths = dict(zip(groups, (shape[1] for _, shape in matrices), strict=True))
    if sum(widths.values()) > MAX_COLUMNS or sum(shape[1] for _, shape in matrices) > MAX_CUTS:
        return f"of {sum(widths.values()):,} columns takes too long to decode (at most {MAX_COLUMNS:,})"
    return ""


def _lanes(specs: Specs) -> int:
    """As many as for other streams, and not many more than there are rows in a column, of which each takes one."""
    lanes = choose_lanes(sum(math.prod(shape) for _, shape in specs))
    heights: dict[Any, int] = {}
    for _, shape in specs:
        heights[tuple(shape)] = heights.get(tuple(shape), 0) + math.prod(shape) // max([1, *shape[-1:]])
    while lanes > 16 and lanes >= 2 * max(heights.values(), default=0):
        lanes //= 2
    return lanes
