"""The program that an artifact executes, made in three stages.

`render` puts script, bundle and loader into one syntax tree, `minify` finds its smallest text, and `fill_in` says where the
payload is. Until then names stand for that, so that programs for payloads which differ in size alone, as a search makes them,
are minified once.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from generator.compressors import compress_lzma
from generator.source.loader import render_loader
from generator.source.positional import binding_counts
from generator.source.printing import print_short
from generator.source.readings import Readings
from generator.source.script import free_names, identifiers, parse, replace_imports, substitute, unused_name
from generator.source.shrink import Shrinking, shrink
from generator.source.shrink import minify as minify_quickly


@dataclass(frozen=True)
class LoaderKind:
    """Which loader a payload needs in a carrier. Those of one kind differ in numbers alone.

    Attributes:
        decoders, dequantizers: as in `generator.payload.Payload`.
        reader: the function of runtime_stub.carriage that finds the payload.
        numbers: how many arguments it takes after the file's bytes.
        broadcast: whether one process of each node decodes for all.
    """

    decoders: frozenset[str]
    dequantizers: frozenset[str]
    reader: str
    numbers: int
    broadcast: bool


@dataclass(frozen=True)
class Placeholders:
    """Names for what is known later: the payload's variable until it is known which names are free, and the numbers."""

    payload: str
    numbers: tuple[str, ...]


@dataclass(frozen=True)
class Rendered:
    """One tree of script, bundle and loader; without placeholders where there is no loader."""

    tree: ast.Module
    placeholders: Placeholders | None


@dataclass(frozen=True)
class Minified:
    """The way of naming that compresses best, what it gives, and what shrinking has to say."""

    text: str
    variant: str
    notes: tuple[str, ...]
    placeholders: Placeholders | None


@dataclass(frozen=True)
class Program:
    """What the artifact executes.

    Attributes:
        text: Python.
        names: three global names that it leaves free: for the payload, by which it refers to that, the program and scratch.
        variant: the way of naming that compressed best.
        notes: sentences on what shrinking left out.
    """

    text: str
    names: tuple[str, str, str]
    variant: str
    notes: tuple[str, ...]


def render(tree: ast.Module, kind: LoaderKind | None, alone: bool) -> Rendered:
    """Put the loader where the script imports it.

    Args:
        tree: script and bundle; changed in place.
        kind: the loader; None for a script without weights.
        alone: whether the loader's names are shortened by themselves, since nothing else can be renamed.
    """
    if kind is None:
        return Rendered(tree, None)
    taken = identifiers(tree)
    numbers = tuple(unused_name(f"golfpack_number_{index}", taken) for index in range(kind.numbers))
    placeholders = Placeholders(unused_name("golfpack_payload", taken), numbers)
    loader = render_loader(
        kind.decoders,
        kind.dequantizers,
        placeholders.payload,
        (kind.reader, placeholders.numbers),
        kind.broadcast,
        binding_counts(tree).keys(),
    )
    if alone:
        loader = _shrink_alone(loader, placeholders.payload)
    return Rendered(replace_imports(tree, loader), placeholders)


def _shrink_alone(loader: ast.FunctionDef, payload_name: str) -> ast.FunctionDef:
    """The loader with short names."""
    text = minify_quickly(ast.Module([loader], []), Shrinking(keep_names=frozenset({loader.name, payload_name})))
    definition = ast.parse(text).body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition


def minify(rendered: Rendered, shrinking: Shrinking, readings: Readings) -> Minified:
    """The smallest text of the same behaviour, after compression.

    Args:
        rendered: the tree.
        shrinking: the steps to do.
        readings: what script and carried modules read at run time.

    Raises:
        InputError: the script does not compile.
    """
    shrunk = shrink(rendered.tree, shrinking, readings=readings)
    best = min(shrunk.variants, key=lambda variant: len(compress_lzma(variant.text.encode(), quick=True)))
    return Minified(best.text, best.name, tuple(shrunk.notes), rendered.placeholders)


def fill_in(minified: Minified, numbers: Sequence[int] = ()) -> Program:
    """The program for one payload, whose reader takes these numbers."""
    tree = parse(minified.text.encode(), "the minified program")
    names = free_names(tree)
    text = minified.text
    if minified.placeholders is not None:
        values: dict[str, ast.expr] = {minified.placeholders.payload: ast.Name(names[0], ast.Load())}
        values |= {name: ast.Constant(number) for name, number in zip(minified.placeholders.numbers, numbers, strict=True)}
        text = print_short(substitute(tree, values))
    return Program(text, names, minified.variant, minified.notes)
