"""The difference to another array of the payload: averages of weights, target networks, fine-tuned copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field as Option

from generator.errors import InputError
from generator.fields import Field
from generator.filters.base import Filter
from generator.limits import Specs, is_integer
from runtime_stub.delta import undo_delta


class Delta(Filter):
    """Each array has that of another tensor subtracted, the same array of the same role, dtype and shape.

    The other tensor's name is this one's with `replace` in it replaced by `by`: `ema.` by nothing, for instance. It has to come
    before this one in the checkpoint.
    """

    id: ClassVar[str] = "delta"
    inverse = staticmethod(undo_delta)
    reads_earlier: ClassVar[bool] = True
    replace: str = Option(min_length=1)
    by: str = ""

    def takes(self, field: Field) -> bool:
        return self.replace in field.tensor and field.role != "indices"

    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        known = {_key(field, field.tensor): (n, i) for n, stream in enumerate(earlier) for i, field in enumerate(stream)}
        result, references = [], []
        for index, field in enumerate(fields):
            other = field.tensor.replace(self.replace, self.by, 1)
            place = known.get(_key(field, other))
            references.append(list(place) if place else [])
            if place:
                stream, at = place
                reference = (fields if stream == len(earlier) else earlier[stream])[at].array
                field = replace(field, array=_difference(field.array, reference))
            known[_key(fields[index], field.tensor)] = len(earlier), index
            result.append(field)
        if not any(references):
            name = fields[0].tensor
            raise InputError(
                f"filter delta finds nothing to subtract from tensor {name!r}: no tensor before it is named "
                f"{name.replace(self.replace, self.by, 1)!r} and quantized to the same dtypes and shapes"
            )
        return result, [references]

    def foreseen(self, fields: Sequence[Field]) -> list[Any]:
        return [[[] for _ in fields]]

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        number, counts = place
        if len(options) != 1 or not isinstance(options[0], list) or len(options[0]) != len(specs):
            raise ValueError("a delta stream does not say what each array is the difference to")
        for index, reference in enumerate(options[0]):
            if not isinstance(reference, list) or (reference and not _is_place(reference, number, counts, index)):
                raise ValueError("a delta stream refers to an array that does not come before")
        return specs


def _is_place(reference: list[Any], number: int, counts: Sequence[int], index: int) -> bool:
    if len(reference) != 2 or not is_integer(reference[0], 0, number):
        return False
    return is_integer(reference[1], 0, (index if reference[0] == number else counts[reference[0]]) - 1)


def _key(field: Field, tensor: str) -> tuple[Any, ...]:
    return tensor, field.role, field.along, field.array.dtype.str, field.array.shape


def _difference(array: Any, reference: Any) -> Any:
    """Modulo the range of unsigned integers of the elements' size."""
    word = f"<u{array.itemsize}"
    left, right = (np.ascontiguousarray(one).reshape(-1).view(word) for one in (array, reference))
    return (left - right).view(array.dtype).reshape(array.shape)
