"""Names of functions, classes and globals that stay, because they show or may be asked for."""

from __future__ import annotations

import ast
import builtins
import re
import sys
from dataclasses import dataclass

from generator.source.effects import Effect
from generator.source.foreign_calls import imported_names, root_name
from generator.source.readings import Readings

_MANGLED = re.compile(r"_\w*__\w")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

# Bases whose instances do not show the name of their class, but for an address.
_NAMELESS = frozenset({"object", "bool", "bytes", "dict", "float", "int", "list", "str", "tuple"})
_NAMELESS_LIBRARY = frozenset({"ABC", "Generic", "JSONEncoder", "NodeTransformer", "NodeVisitor", "Protocol"})


@dataclass(frozen=True)
class Kept:
    """Names that stay: in every scope, and as global names only."""

    everywhere: frozenset[str]
    as_globals: frozenset[str]


def kept_names(tree: ast.Module, readings: Readings, asked: frozenset[str] = frozenset()) -> Kept:
    """The names of a file that stay.

    Args:
        tree: the file.
        readings: what the sources that it is part of read.
        asked: global names that its author wants to keep.
    """
    definitions = [node for node in ast.walk(tree) if isinstance(node, Definition)]
    names = frozenset(node.name for node in definitions)
    # What also occurs as a string may be looked up by it: a registry, a functional namedtuple, a pickle.
    spelled = readings.strings | _mangled_names(tree)
    if readings.keeps(Effect.DEFINITIONS):
        return Kept(names | asked, spelled)
    instances = {node.name for node in definitions if isinstance(node, ast.ClassDef) and f"{node.name}()" in readings.shown}
    shown = _shown(definitions, imported_names(tree)) | (names & (spelled | readings.shown)) | instances
    return Kept(shown | asked, spelled)


def _shown(definitions: list[Definition], imports: dict[str, str]) -> frozenset[str]:
    """Classes that show their name, and those derived from them."""
    classes = [node for node in definitions if isinstance(node, ast.ClassDef)]
    own = {node.name for node in classes}
    shown: set[str] = set()
    before = -1
    while before < len(shown):
        before = len(shown)
        for node in classes:
            if node.name not in shown and (
                node.decorator_list
                or node.keywords
                or any(_shows(base, own, shown, imports) for base in node.bases)
                or _has_private_names(node)
            ):
                shown.add(node.name)
    return frozenset(shown)


def _shows(base: ast.expr, own: set[str], shown: set[str], imports: dict[str, str]) -> bool:
    while isinstance(base, ast.Subscript):
        base = base.value
    root = root_name(base)
    name = base.attr if isinstance(base, ast.Attribute) else root
    if isinstance(base, ast.Name) and name in own:
        return name in shown
    if name.endswith(("Error", "Exception", "Warning")):
        return True
    module = imports.get(root, "")
    if not module:
        return name not in _NAMELESS or not hasattr(builtins, name)
    return module in sys.stdlib_module_names and name not in _NAMELESS_LIBRARY


def _has_private_names(node: ast.ClassDef) -> bool:
    """Whether `__x` occurs in a class: Python makes `_Class__x` of it, so the class needs a name of its own."""
    for inner in ast.walk(node):
        for field in ("id", "attr", "name", "arg"):
            name = getattr(inner, field, None)
            if isinstance(name, str) and is_private(name):
                return True
    return False


def _mangled_names(tree: ast.Module) -> frozenset[str]:
    """Variables called `_Class__x`, which `__x` in a class may stand for."""
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and _MANGLED.match(node.id))


def is_private(name: str) -> bool:
    """Whether a name is rewritten where it stands in a class."""
    return name.startswith("__") and not name.endswith("__")
