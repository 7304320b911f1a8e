"""Short names in the order that compresses best, on python-minifier's analysis of scopes.

python-minifier names the most used variable first, whatever scope it is in. For what comes after, a compressor that looks for
repetitions, two other rules do better: names are handed out in order of first appearance, and variables that had the same
name in different functions get the same short name, so that repeated idioms stay repetitions. Renaming a parameter that
callers may name costs a statement (`A=name`), and an alias for a builtin a line (`AB=int`): these shrink the text and not what
it compresses to. docs/COMPRESSION.md has the figures.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from python_minifier.rename.binding import BuiltinBinding
from python_minifier.rename.renamer import (
    NameAssigner,
    add_assigned,
    all_bindings,
    reservation_scope,
    reserve_name,
    sorted_bindings,
)
from python_minifier.rename.util import arg_rename_in_place

from generator.source.keeping import is_private


@dataclass(frozen=True)
class Naming:
    """How names are handed out.

    Attributes:
        by_appearance: in order of first appearance, else of number of uses.
        copy_parameters: rename parameters that callers may name, by a statement at the function's beginning.
        alias_builtins: give builtins that are used often a global alias.
    """

    by_appearance: bool = True
    copy_parameters: bool = False
    alias_builtins: bool = False


class Renamer(NameAssigner):  # type: ignore[misc]
    """Assigns names to the bindings that `allow_rename_locals` and `allow_rename_globals` left renamable.

    Args:
        naming: how names are handed out.
        keywords: names that calls pass by keyword, anywhere in the program.
        strings: words in strings of the program, which may be keys of `**` arguments.
        signatures_read: whether names of parameters are read at run time.
        kept_scopes: functions in which all names stay.
    """

    def __init__(
        self,
        naming: Naming,
        keywords: frozenset[str] = frozenset(),
        strings: frozenset[str] = frozenset(),
        signatures_read: bool = False,
        kept_scopes: Iterable[ast.AST] = (),
    ):
        super().__init__()
        self.naming = naming
        self.keywords = keywords
        self.strings = strings
        self.signatures_read = signatures_read
        self.kept_scopes = list(kept_scopes)
        self.chosen: dict[str, list[str]] = {}
        self._candidates = self.iter_names()
        self._known: list[str] = []  # names in the order of preference
        self._first_free: dict[Any, int] = {}  # by namespace: every name before this place is taken

    def rename(self, module: ast.Module, preserved: Iterable[str]) -> None:
        """Rename in place; `preserved` names are not given to globals."""
        for scope in self.kept_scopes:
            for node in ast.walk(scope):
                for binding in getattr(node, "bindings", ()):
                    binding.disallow_rename()
        add_assigned(module)
        every = list(all_bindings(module))
        scopes = {id(binding): _reservation_scope(namespace, binding) for namespace, binding in every}
        for _, binding in every:
            self._restrict(binding)
            if binding.reserved is not None:
                reserve_name(binding.reserved, scopes[id(binding)])
        module.assigned_names.update(preserved)  # type: ignore[attr-defined]
        for _, binding in every if self.naming.by_appearance else sorted_bindings(module):
            scope = scopes[id(binding)]
            if binding.allow_rename:
                self._rename_binding(binding, scope)
            if binding.name is not None:
                reserve_name(binding.name, scope)

    def available_name(self, reservation_scope: Any, prefix: str = "") -> Any:
        """The first name that no namespace of a scope has; as the base class gives, but for the time it takes."""
        place = max(self._places(namespace) for namespace in reservation_scope)
        while not self.is_available(self._name(place), reservation_scope):
            place += 1
        return self._name(place)

    def _places(self, namespace: Any) -> int:
        place = self._first_free.get(namespace, 0)
        while self._name(place) in namespace.assigned_names:
            place += 1
        self._first_free[namespace] = place
        return place

    def _name(self, place: int) -> str:
        while place >= len(self._known):
            self._known.append(next(self._candidates))
        return self._known[place]

    def _restrict(self, binding: Any) -> None:
        if isinstance(binding, BuiltinBinding):
            if not self.naming.alias_builtins:
                binding.disallow_rename()
        elif binding.name and is_private(binding.name):
            binding.disallow_rename()  # in a class it stands for another name
        elif _is_parameter(binding):
            if binding.old_mention_count():  # the name is part of the signature, so renaming takes a copy
                keeps = not self.naming.copy_parameters or _is_rebound(binding)
            else:
                keeps = self.signatures_read or self._may_be_passed(binding)
            if keeps:
                binding.disallow_rename()

    def _may_be_passed(self, binding: Any) -> bool:
        """Whether `self` or `cls`, which python-minifier takes for a name that no caller uses, may be passed by keyword."""
        if not any(_is_reachable(node) for node in binding.references):
            return False
        takes_any = any(isinstance(node, ast.arg) and node.namespace.args.kwarg for node in binding.references)  # type: ignore[attr-defined]
        return takes_any or binding.name in self.keywords or binding.name in self.strings

    def _rename_binding(self, binding: Any, scope: Any) -> None:
        original = binding.name
        names = [name for name in self.chosen.get(original, []) if self.is_available(name, scope)] if original else []
        name = names[0] if names else self.available_name(scope)
        if name in self.keywords and any(_is_reachable(node) for node in binding.references):
            name = next(other for other in self._all_names() if other not in self.keywords and self.is_available(other, scope))
        wanted = binding.should_rename(name)
        if not wanted and original is not None and binding.reserved != original:
            wanted = not self.is_available(original, scope)
        if wanted:
            binding.rename(name)
            if original and name not in self.chosen.setdefault(original, []):
                self.chosen[original].append(name)
        else:
            binding.disallow_rename()

    def _all_names(self) -> Iterator[str]:
        place = 0
        while True:
            yield self._name(place)
            place += 1


def _reservation_scope(namespace: Any, binding: Any) -> Any:
    """The namespaces in which a binding's name must mean it: those that python-minifier knows of, and the comprehensions around
    an assignment expression, whose own variables it can't rebind."""
    scope = reservation_scope(namespace, binding)
    for node in binding.references:
        parent = getattr(node, "_parent", None)
        if isinstance(parent, ast.NamedExpr) and parent.target is node:
            inner = parent.namespace  # type: ignore[attr-defined]
            while inner is not node.namespace:  # type: ignore[attr-defined]
                scope.add(inner)
                inner = inner.namespace
    return scope


def _is_parameter(binding: Any) -> bool:
    return any(isinstance(node, ast.arg) for node in binding.references)


def _is_reachable(node: Any) -> bool:
    """Whether a parameter that is renamed where it stands can be passed by keyword."""
    if not isinstance(node, ast.arg):
        return False
    arguments = node.namespace.args  # type: ignore[attr-defined]
    return node in arguments.args and arg_rename_in_place(node)


def _is_rebound(binding: Any) -> bool:
    """Whether a variable is bound again, or deleted: then its first value must not live on in a copy."""
    return any(not isinstance(node, ast.arg) and not _is_loaded(node) for node in binding.references)


def _is_loaded(node: Any) -> bool:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
