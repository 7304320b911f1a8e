"""From what a recipe says of a quantizer or codec, its spec, to the object; every mistake by its key.

A spec is an id, or a table of an id and options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from generator.errors import InputError
from generator.visible import first_line, shown

Made = TypeVar("Made")
DEPTH = 16  # levels of tables and lists in a recipe
NAMED = "named"  # type of the validation errors whose message says already what it is about


def check_table(table: Any, title: str) -> None:
    """That a recipe is a table whose keys are strings, and not nested endlessly.

    Raises:
        InputError: it isn't.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"{title} must be a table, not {shown(table)}")
    level: list[Any] = [table]
    for _ in range(DEPTH):
        inner: list[Any] = []
        for node in level:
            if isinstance(node, Mapping):
                wrong = next((key for key in node if not isinstance(key, str)), None)
                if wrong is not None:
                    raise InputError(f"{title} has a key {shown(wrong)} that is not a string")
                inner += node.values()
            elif isinstance(node, list | tuple):
                inner += node
        level = [node for node in inner if isinstance(node, Mapping | list | tuple)]
        if not level:
            return
    raise InputError(f"{title} is nested more than {DEPTH} levels deep")


def construct(kind: str, registry: Mapping[str, Callable[..., Made]], spec: Any) -> Made:
    """The quantizer or codec that a spec calls for.

    Args:
        kind: "quantizer" or "codec", for messages.
        registry: id → constructor.
        spec: an id, or a table of an id and options.

    Raises:
        InputError: neither of these, an unknown id or option, or a value that the option can't have.
    """
    if not isinstance(spec, str | Mapping):
        raise InputError(f"{kind} must be an id, or a table with one, not {shown(spec)}")
    options = {} if isinstance(spec, str) else dict(spec)
    name = spec if isinstance(spec, str) else options.pop("id", None)
    if name is None:
        raise InputError(f"{kind} table without an id; known: {', '.join(sorted(registry))}")
    if not isinstance(name, str) or name not in registry:
        raise InputError(f"unknown {kind} {shown(name)}; known: {', '.join(sorted(registry))}")
    marked = [key for key, value in options.items() if is_fit(value) or is_searched(value)]
    if marked:
        raise InputError(f"{kind} {name!r}: {marked[0]!r} is to be fitted; use golfpack fit, or give it a value")
    factory = registry[name]
    said = [key for key in options if isinstance(factory, partial) and key in factory.keywords]
    if said:
        raise InputError(f"{kind} {name!r}: key {said[0]!r} contradicts the name, which says it already")
    try:
        return factory(**options)
    except ValidationError as error:
        raise InputError(f"{kind} {name!r}: {explain(error)}") from error
    except InputError as error:  # of a quantizer within
        raise InputError(f"{kind} {name!r}: {error}") from error


def made_by(make: Callable[[Any], Any]) -> PlainValidator:
    """How pydantic makes a field's value of a spec.

    Args:
        make: gives the object for a spec, or raises an InputError, which becomes the field's error.
    """

    def validate(spec: Any) -> Any:
        try:
            return make(spec)
        except InputError as error:
            raise PydanticCustomError(NAMED, "{message}", {"message": str(error)}) from error

    return PlainValidator(validate)


def is_fit(item: Any) -> bool:
    """Whether this stands in place of a knob's value."""
    return (isinstance(item, str) and item == "fit") or (isinstance(item, dict) and set(item) == {"fit"})


def is_searched(item: Any) -> bool:
    """Whether this stands in place of a value that trials search."""
    return isinstance(item, dict) and bool({"search", "choices"} & set(item))


def explain(error: ValidationError, *tables: type[BaseModel]) -> str:
    """The first validation error in words: which key, and what is wrong with it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = list(first["loc"])
    if place[:1] == ["rule"] and len(place) > 1 and isinstance(place[1], int):
        where, key = f"rule {place[1] + 1}: ", place[2:]
        table = tables[1] if len(tables) > 1 else None
    else:
        where, key = "", place
        table = tables[0] if tables else None
    if first["type"] == NAMED:
        return f"{where}{first['msg']}"
    message = first_line(ValueError(first["msg"].removeprefix("Value error, ")))
    if not key and not where:
        return message  # of the options together
    name = str(key[0]) if key else "rule"
    if first["type"] == "extra_forbidden":
        known = f" (known: {', '.join(table.model_fields)})" if table else ""
        return f"{where}unknown key {shown(name)}{known}"
    if first["type"] == "missing":
        return f"{where}key {name!r} is missing"
    return f"{where}key {name!r}: {message[0].lower()}{message[1:]}"
