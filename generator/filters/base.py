"""The interface of filters: reversible rearrangements of arrays, before a codec."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from generator.fields import Field
from generator.limits import Specs
from runtime_stub.split import Array


class Filter(BaseModel, ABC):
    """A filter is its configuration, and all that is to be known of it; subclasses add options as fields.

    Attributes:
        id: its name in recipes and in the manifest.
        inverse: its inverse in runtime_stub, see `runtime_stub.payload.run_stages`.
        automatic: ids of the codecs with which `auto` may try it.
        measured: recipes of codecs with this filter that `golfpack bench` measures.
        reads_earlier: whether it needs to know what other streams hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: ClassVar[str]
    inverse: ClassVar[Callable[..., list[Array]]]
    automatic: ClassVar[tuple[str, ...]] = ()
    measured: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    reads_earlier: ClassVar[bool] = False

    def takes(self, field: Field) -> bool:
        """Whether it does anything to such an array; others pass it by, in a stream of their own."""
        return True

    def bears(self, field: Field) -> bool:
        """Whether it can be applied to such an array at all, which another filter may have added; it then gets it back."""
        return True

    @abstractmethod
    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        """The arrays for the next stage, and the options that the inverse takes (JSON values, kept in the manifest).

        Args:
            fields: the arrays of one stream, each of which it bears.
            earlier: those of the streams before it.

        Raises:
            InputError: it can't be applied; the message names the tensor.
        """

    def foreseen(self, fields: Sequence[Field]) -> list[Any]:
        """The options that `apply` will give, as far as `check` needs them to tell what the next stage gets."""
        return []

    @classmethod
    @abstractmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        """Hold what an untrusted manifest says against what the inverse takes.

        Args:
            size: coded bytes of the stream.
            specs: dtype and shape of the arrays that the inverse is to give.
            options: of the inverse.
            place: number of the stream, and how many arrays each stream before it has.

        Returns:
            dtype and shape of the arrays that the next stage is to give.

        Raises:
            ValueError: the options are malformed, or ask for too much memory or time.
        """

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value}" for name, value in self.model_dump(exclude_defaults=True).items())
        return f"{self.id} ({options})" if options else self.id
