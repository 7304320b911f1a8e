"""Fields: the arrays that a payload holds, with what is known of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from generator.limits import Specs
from runtime_stub.split import Array

# symbols: the integers that a quantizer chose; scales, exponents: what they are multiplied with; indices: places of something,
# masks of it among them; raw: the bits of elements as they are.
ROLES = ("symbols", "scales", "exponents", "indices", "raw")


@dataclass(frozen=True, eq=False)
class Field:
    """An array that is to be coded.

    Attributes:
        array: little endian, any dtype but object, any shape.
        role: one of ROLES.
        tensor: first name of the tensor that it belongs to.
        along: what of the tensor's matrix has an element: "all" of it, each of its "rows" or "columns", "groups" of a row, or
            the tensor as a whole ("").
        elements: torch dtype, without "torch.", of the elements whose bits a raw array holds; "" for numbers.
    """

    array: Array
    role: str = "symbols"
    tensor: str = ""
    along: str = "all"
    elements: str = ""


def specs_of(fields: Sequence[Field]) -> Specs:
    """The arrays' dtypes and shapes, as the manifest has them."""
    return [(field.array.dtype.newbyteorder("<").str, field.array.shape) for field in fields]
