"""Code shrinking: strip → rename → combine, as a list of steps that can each be switched off.

The steps run in the order of STEPS on one syntax tree. Where it can't be proved from the tree that a step changes nothing, it
does not act there (`generator.source.readings` finds out). Which of several ways of naming compresses best is not known
beforehand, so `shrink` gives every variant, and the caller keeps the one that is smallest after compression.
"""

from __future__ import annotations

import ast
import builtins
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from generator.errors import InputError
from generator.source.copies import copier
from generator.source.effects import Effect
from generator.source.keeping import Kept, kept_names
from generator.source.options import OPTIONAL, STEPS, Shrinking
from generator.source.readings import Readings, find_readings
from generator.source.stripping import strip
from generator.source.variants import WAYS, Permission, permitted, print_named

__all__ = ["OPTIONAL", "STEPS", "Shrinking", "Shrunk", "Variant", "minify", "shrink", "shrinking_notes"]

ASSUMED = "assumed: functions and classes may show short names where they are printed, in tracebacks and error messages too"
NODES_FOR_ALL = 100_000  # nodes of a tree that every way of naming is tried for: three times the largest published script
NODES_FOR_NAMES = 400_000  # nodes of a tree in which names are shortened; python-minifier's time grows with their square


@dataclass(frozen=True)
class Variant:
    """One way to name things: how, and the minified text."""

    name: str
    text: str


@dataclass
class Shrunk:
    """What shrinking gave: the variants, and sentences on what it left out besides what the readings keep."""

    variants: list[Variant]
    notes: list[str] = field(default_factory=list)


def shrink(
    tree: ast.Module, options: Shrinking | None = None, variants: int = len(WAYS), readings: Readings | None = None
) -> Shrunk:
    """Minify a module of the same behaviour in several ways.

    Args:
        tree: the module; left as it is.
        options: the steps to do.
        variants: how many ways of naming to try, the most promising first.
        readings: what the sources that the module is part of read at run time; None if the module is all of them.

    Returns:
        The variants, at least one, each of which compiles.

    Raises:
        InputError: the module does not compile.
    """
    options = options or Shrinking()
    readings = readings or find_readings(tree)
    with _builtins_of_a_script(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the user's invalid escapes
        return _shrink(tree, options, variants, readings)


def _shrink(tree: ast.Module, options: Shrinking, variants: int, readings: Readings) -> Shrunk:
    stripped = strip(copier(tree)(), options, readings)
    kept = kept_names(stripped, readings, options.keep_names)
    permission = permitted(options, readings)
    found = Shrunk([])
    size = sum(1 for _ in ast.walk(stripped))
    if size > NODES_FOR_ALL:
        variants = 1
        found.notes.append(f"the code has {size:,} syntax nodes, so one way of naming is tried")
    if size > NODES_FOR_NAMES:
        permission = Permission(False, False, False, False, False)
        options = replace(options, skip=options.skip | {"fold"})  # the part of it that has to know names
        found.notes.append(f"the code has {size:,} syntax nodes, so no name is shortened")
    copy = copier(stripped)
    problem = ""
    for name, way in list(WAYS.items())[:variants]:
        if not permission.allows(way):
            continue
        try:
            text = print_named(copy(), options, readings, permission, way, kept)
        except SyntaxError as error:
            problem = error.msg
            continue
        found.variants.append(Variant(name, text))
        if not (permission.local_names or permission.global_names):
            break  # nothing is renamed, so every variant would be the same
    if not found.variants:
        found.variants.append(_less_renamed(tree, copy, options, readings, permission, kept))
        found.notes.append(f"shortening every name gave code that does not compile ({problem}), so fewer names are shortened")
    return found


def _less_renamed(
    tree: ast.Module,
    copy: Callable[[], ast.Module],
    options: Shrinking,
    readings: Readings,
    permission: Permission,
    kept: Kept,
) -> Variant:
    """The most that compiles: global names stay, then all names, then everything."""
    locals_only = replace(permission, global_names=False, aliases=False, hoists=False)
    for fewer in (locals_only, replace(locals_only, local_names=False, copies=False)):
        try:
            text = print_named(copy(), options, readings, fewer, WAYS["by appearance"], kept)
        except SyntaxError:
            continue
        return Variant("fewer names", text)
    try:
        text = ast.unparse(tree)
        compile(text, "script", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise InputError(f"the script does not compile: {error.msg}") from error
    except ValueError as error:
        raise InputError(f"the script has an f-string that can't be printed: {error}") from error
    return Variant("not minified", text)


def shrinking_notes(tree: ast.Module, options: Shrinking, readings: Readings) -> list[str]:
    """What the author should know of: the lines that keep things from being shrunk, and what was taken for granted."""
    does = {
        Effect.EVERYTHING: ("locals", "globals"),
        Effect.GLOBALS: ("globals",),
        Effect.SCOPE: ("locals",),
        Effect.DEFINITIONS: ("globals", "locals"),
        Effect.SIGNATURES: ("locals",),
        Effect.ANNOTATIONS: ("annotations",),
        Effect.DOCSTRINGS: ("docstrings",),
        Effect.BUILTINS: ("globals",),
    }
    steps = {effect for effect, names in does.items() if any(options.does(name) for name in names)}
    notes = readings.notes(steps)
    permission = permitted(options, readings)
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    kept = kept_names(tree, readings, options.keep_names)
    if permission.global_names and names - kept.everywhere:
        notes.append(ASSUMED)
    return notes


@contextmanager
def _builtins_of_a_script() -> Iterator[None]:
    """An interactive session keeps its last result in `builtins._`, and a `_` of the script would then pass for a builtin:
    the same input must give the same bytes there too."""
    absent = object()
    last_result = builtins.__dict__.pop("_", absent)
    try:
        yield
    finally:
        if last_result is not absent:
            builtins.__dict__["_"] = last_result


def minify(tree: ast.Module, options: Shrinking | None = None, readings: Readings | None = None) -> str:
    """The most promising variant alone; arguments and errors as for `shrink`."""
    return shrink(tree, options, 1, readings).variants[0].text
