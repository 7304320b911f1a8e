"""What lets a program get hold of a function or class without naming it: where it occurs, not all callers are known."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator

from generator.source.effects import READS_ONE_OBJECT
from generator.source.known import DYNAMIC_BUILTINS, DYNAMIC_MODULES, HARMLESS, LEADING_ATTRIBUTES, LEADING_MODULES, PACKAGES
from generator.source.scopes import Scopes


def reaches_variables(tree: ast.Module, scopes: Scopes, parents: dict[int, ast.AST]) -> bool:
    """Whether a program may find functions and classes that it does not name: by string, in frames, among all objects.

    Args:
        tree: the whole program.
        scopes: its scopes.
        parents: the node that each node belongs to, by id.
    """
    if scopes.has_star_import:
        return True
    for binding in scopes.bindings:
        imported = scopes.imported(binding)
        if any(name.split(".")[0] in LEADING_MODULES for name in imported) and (len(imported) > 1 or not binding.certain):
            return True  # it can't be followed
        if any(not _is_harmless(name, imports=True) for name in imported):
            return True
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and DYNAMIC_MODULES & set(_modules(node)):
            return True
        if isinstance(node, ast.Attribute) and node.attr in LEADING_ATTRIBUTES:
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in LEADING_ATTRIBUTES:
            return True
        if isinstance(node, ast.Name):
            if any(scopes.is_builtin(node, name) for name in DYNAMIC_BUILTINS) and not _reads_one_object(
                node, parents[id(node)]
            ):
                return True
            used: ast.AST = node
            while isinstance(parent := parents[id(used)], ast.Attribute):
                used = parent
            if not _is_harmless(scopes.qualified_name(used)):
                return True
    return False


def _reads_one_object(name: ast.Name, parent: ast.AST) -> bool:
    """Whether a node is `vars(x)` or `dir(x)`, which read the attributes of x and nothing else."""
    named = name.id in READS_ONE_OBJECT and isinstance(parent, ast.Call) and parent.func is name
    return named and isinstance(parent, ast.Call) and len(parent.args) == 1 and not isinstance(parent.args[0], ast.Starred)


def _is_harmless(name: str, imports: bool = False) -> bool:
    """Whether a dotted name leads to no variables; where it is imported, more of its attributes may follow."""
    if name.split(".")[0] not in LEADING_MODULES:
        return True
    if imports and any(f"{known}.".startswith(f"{name}.") for known in HARMLESS):
        return True
    return any(f"{name}.".startswith(f"{known}.") for known in HARMLESS)


def _modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """The first part of each module that is imported; "" for a relative import."""
    if isinstance(node, ast.ImportFrom):
        yield "" if node.level else str(node.module).split(".")[0]
    else:
        yield from (alias.name.split(".")[0] for alias in node.names)


def reached_names(tree: ast.Module, scopes: Scopes, parents: dict[int, ast.AST]) -> frozenset[str]:
    """Names under which global variables may be found as attributes of the module, or by string."""
    strings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _asks_for_main(parents[id(node)], scopes)
    }
    # What is carried along, and code for other processes, may import from here.
    code = [text for text in strings if "import" in text or "__main__" in text]
    found = strings | {word for text in code for word in re.findall(r"\w+", text)}
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    if {module for node in imports for module in _modules(node)} - PACKAGES - sys.stdlib_module_names:
        found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return frozenset(found)


def _asks_for_main(node: ast.AST, scopes: Scopes) -> bool:
    """Whether a node is `__name__ == "__main__"`."""
    return isinstance(node, ast.Compare) and scopes.is_builtin(node.left, "__name__")
