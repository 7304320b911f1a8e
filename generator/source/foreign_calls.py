"""Functions and classes that a program gives to modules of which it is not known what they read.

A framework that is given a function may take its name for a command, its docstring for a help text and its annotations for a
schema. Calls between the program's own functions, the standard library (whose readers effects.py lists) and KNOWN_MODULES do no
such thing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from generator.source.effects import KNOWN_MODULES


def imported_names(tree: ast.Module) -> dict[str, str]:
    """The variables that imports bind, anywhere, and the top module each comes from; relative imports left out."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[(alias.asname or alias.name).split(".")[0]] = alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                found[alias.asname or alias.name] = node.module.split(".")[0]
    return found


def root_name(node: ast.AST) -> str:
    """The variable that an expression of attributes, calls and subscripts starts from, or ""."""
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def given_to_foreign(tree: ast.Module, own_modules: frozenset[str] = frozenset()) -> Iterator[tuple[int, str, str]]:
    """Each function or class that is decorated by, passed to or derived from something of an unknown module.

    Yields:
        line, name of the function or class, name of the module.
    """
    unknown = {
        name: module
        for name, module in imported_names(tree).items()
        if module not in sys.stdlib_module_names and module not in KNOWN_MODULES | own_modules
    }
    if not unknown:
        return
    nodes = list(ast.walk(tree))
    for _ in range(2):  # app = Framework(); command = app.command()
        for node in nodes:
            if isinstance(node, ast.Assign) and root_name(node.value) in unknown:
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        unknown.setdefault(target.id, unknown[root_name(node.value)])
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            above = [*node.decorator_list, *(node.bases if isinstance(node, ast.ClassDef) else [])]
            yield from ((node.lineno, node.name, unknown[root_name(one)]) for one in above if root_name(one) in unknown)
        elif isinstance(node, ast.Call) and root_name(node.func) in unknown:
            for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                for inner in ast.walk(argument):
                    if isinstance(inner, ast.Name) and inner.id in own:
                        yield node.lineno, inner.id, unknown[root_name(node.func)]
