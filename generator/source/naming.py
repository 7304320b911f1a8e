"""Short names in the order that compresses best, on python-minifier's analysis of scopes.

python-minifier names the most used variable first, whatever scope it is in. For what comes after, a compressor that looks for
repetitions, two other rules do better: names are handed out in order of first appearance, and variables that had the same
name in different functions get the same short name, so that repeated idioms stay repetitions. Renaming a parameter that
callers may name costs a statement (`A=name`), and an alias for a builtin a line (`AB=int`): these shrink the text and not what
it compresses to. docs/COMPRESSION.md has the figures.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
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
    """Assigns names to the bindings that `allow_rename_locals` and `allow_rename_globals` left renamable."""

    def __init__(self, naming: Naming):
        super().__init__()
        self.naming = naming
        self.chosen: dict[str, list[str]] = {}

    def rename(self, module: ast.Module, preserved: Iterable[str]) -> None:
        """Rename in place; `preserved` names are not given to globals."""
        add_assigned(module)
        every = list(all_bindings(module))
        for namespace, binding in every:
            self._restrict(binding)
            if binding.reserved is not None:
                reserve_name(binding.reserved, reservation_scope(namespace, binding))
        module.assigned_names.update(preserved)  # type: ignore[attr-defined]
        for namespace, binding in every if self.naming.by_appearance else sorted_bindings(module):
            scope = reservation_scope(namespace, binding)
            if binding.allow_rename:
                self._rename_binding(binding, scope)
            if binding.name is not None:
                reserve_name(binding.name, scope)

    def _restrict(self, binding: Any) -> None:
        if isinstance(binding, BuiltinBinding):
            if not self.naming.alias_builtins:
                binding.disallow_rename()
        elif not self.naming.copy_parameters and binding.old_mention_count() and _is_parameter(binding):
            binding.disallow_rename()

    def _rename_binding(self, binding: Any, scope: Any) -> None:
        original = binding.name
        names = [name for name in self.chosen.get(original, []) if self.is_available(name, scope)] if original else []
        name = names[0] if names else self.available_name(scope)
        wanted = binding.should_rename(name)
        if not wanted and original is not None and binding.reserved != original:
            wanted = not self.is_available(original, scope)
        if wanted:
            binding.rename(name)
            if original:
                self.chosen.setdefault(original, []).append(name)
        else:
            binding.disallow_rename()


def _is_parameter(binding: Any) -> bool:
    return any(isinstance(node, ast.arg) for node in binding.references)
