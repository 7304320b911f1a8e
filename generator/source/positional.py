"""Arguments by position: keyword arguments of calls whose target is certain become positional, for shorter parameter names.

A name that a caller might pass as a keyword can't be shortened. But a script is a whole program: where every use of a function
is a direct call, and nothing in the script could reach it otherwise, all its callers are at hand. Only such functions are
touched, only if each of their calls is right, and calls are rewritten only where the order of evaluation stays the same.
"""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from generator.source.calls import binds, pass_arguments, restore_parameters
from generator.source.constructors import Constructors
from generator.source.known import CACHES, TRANSPARENT
from generator.source.reflection import reached_names, reaches_variables
from generator.source.scopes import Binding, Function, Scopes

__all__ = ["SPECIAL_BASES", "binding_counts", "pass_by_position", "restore_parameters"]

# Bases whose subclasses show their names.
SPECIAL_BASES = frozenset(
    {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "NamedTuple", "TypedDict", "BaseModel", "Protocol", "ABC", "ABCMeta"}
)


@dataclass(frozen=True)
class _Target:
    """A function, or a class by its constructor, with all its calls."""

    function: Function
    skipped: int  # parameters that a call does not pass: `self`
    calls: list[ast.Call]


def pass_by_position(tree: ast.Module) -> int:
    """Rewrite, in place, what can be; parameters that no caller names any more become positional-only.

    Returns:
        The number of such parameters. The minifier shortens them, and `restore_parameters` makes them ordinary again.
    """
    targets = _Program(tree).targets()
    return sum(pass_arguments(target.calls, target.function, target.skipped) for target in targets)


class _Program:
    """A script as a whole program: what may be called by whom."""

    def __init__(self, tree: ast.Module):
        self._scopes = Scopes(tree)
        self._parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._opaque = reaches_variables(tree, self._scopes, self._parents)
        self._reached_names = reached_names(tree, self._scopes, self._parents)
        self._constructors = Constructors(tree, self._scopes, self._parents)
        self._changed = {
            self._scopes.qualified_name(node)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load)
        }

    def targets(self) -> list[_Target]:
        """The functions and classes all of whose calls are known, and right."""
        found = []
        for node, binding in self._scopes.definitions:
            calls = None if self._opaque or self._is_public(node, binding) else self._calls(binding)
            function = self._function(node)
            if not calls or function is None or function.args.kwarg or _has_private_names(function):
                continue
            skipped = int(isinstance(node, ast.ClassDef))
            if all(binds(call, function, skipped) for call in calls) and self._passes_on(function, calls):
                found.append(_Target(function, skipped, calls))
        return found

    def _is_public(self, node: ast.AST, binding: Binding) -> bool:
        """Whether a function or class may be found under its name otherwise than by the name itself."""
        if binding.definition() is not node or binding in self._constructors.exposed:
            return True
        if binding.scope.kind == "class" or "__" in binding.name or binding.name in dir(builtins):
            return True
        return binding.scope.parent is None and binding.name in self._reached_names

    def _function(self, node: Function | ast.ClassDef) -> Function | None:
        return self._constructors.constructor(node) if isinstance(node, ast.ClassDef) else node

    def _calls(self, binding: Binding) -> list[ast.Call] | None:
        """The calls of a function or class; None if it is used in any other way."""
        calls = []
        for name in binding.loads:
            parent = self._parents[id(name)]
            if isinstance(parent, ast.Call) and parent.func is name:
                calls.append(parent)
            elif not (isinstance(binding.definition(), ast.ClassDef) and self._is_harmless(name, parent)):
                return None
        return calls

    def _is_harmless(self, name: ast.Name, parent: ast.AST) -> bool:
        """Whether a use of a class does not hand it on."""
        if isinstance(parent, ast.Tuple):
            call = self._parents[id(parent)]
            return isinstance(call, ast.Call) and self._constructors.is_tested(parent, call)
        if isinstance(parent, ast.Compare):
            return all(isinstance(operator, ast.Is | ast.IsNot) for operator in parent.ops)
        if not isinstance(parent, ast.Call):
            return False
        superior = self._scopes.is_builtin(parent.func, "super") and parent.args[:1] == [name]
        return superior or self._constructors.is_tested(name, parent)

    def _passes_on(self, function: Function, calls: list[ast.Call]) -> bool:
        """Whether the function's decorators hand the arguments on as they come, and don't tell its calls apart."""
        shapes = {(len(call.args), *(keyword.arg for keyword in call.keywords)) for call in calls}
        allowed = TRANSPARENT | CACHES if len(shapes) == 1 else TRANSPARENT
        for decorator in function.decorator_list:
            name = self._scopes.qualified_name(decorator.func if isinstance(decorator, ast.Call) else decorator)
            if name not in allowed or name in self._changed:
                return False
        return True


def _has_private_names(function: Function) -> bool:
    """Whether parameters are spelled differently inside and outside of a class."""
    arguments = function.args
    return any("__" in argument.arg for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])


def binding_counts(tree: ast.Module) -> dict[str, int]:
    """How often each identifier is bound, anywhere: one binding means that every use of the name means the same thing."""
    counts: dict[str, int] = defaultdict(int)
    for node in ast.walk(tree):
        names: Iterator[str | None]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = iter([node.name])
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names = iter([node.id])
        elif isinstance(node, ast.arg):
            names = iter([node.arg])
        elif isinstance(node, ast.alias):
            names = iter([(node.asname or node.name).split(".")[0]])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names = iter([node.name])
        elif isinstance(node, ast.MatchMapping):
            names = iter([node.rest])
        elif isinstance(node, ast.Global | ast.Nonlocal):
            names = iter(node.names)
        else:
            continue
        for name in names:
            if name:
                counts[name] += 1
    return counts
