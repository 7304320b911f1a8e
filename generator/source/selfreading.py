"""Scripts that look at their own text: what a packed file has to keep for them, and what it can't."""

from __future__ import annotations

import ast
from collections.abc import Set

from generator.source.script import identifiers

_READERS = frozenset({"open", "read_text", "getsource", "getsourcelines", "readlines"})
_BINARY = frozenset({"read_bytes", "stat", "getsize", "parent", "dirname"})
# Where these occur, the source text of functions is read at run time.
_SOURCE_READERS = frozenset({"triton", "getsource", "getsourcelines", "getsourcefile", "findsource"})


def reads_own_text(tree: ast.Module) -> int:
    """The first line where the script opens its own file as text (to log its size, for instance); 0 where it does not."""
    own = _OwnFile()
    own.visit(tree)
    return min(own.lines, default=0)


def wants_source(tree: ast.Module) -> bool:
    """Whether the script, or a compiler that it uses, asks for the source text of functions."""
    return want_source(identifiers(tree))


def want_source(words: Set[str]) -> bool:
    """The same by the identifiers of a program."""
    return bool(words & _SOURCE_READERS) or ("jit" in words and "torch" in words)


class _OwnFile(ast.NodeVisitor):
    """Finds calls of readers in a statement that mentions `__file__`, or a variable made from it."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.made_from = {"__file__"}

    def visit_Assign(self, node: ast.Assign) -> None:
        if self._mentions(node.value) and not identifiers(node.value) & _BINARY:
            self.made_from.update(target.id for target in node.targets if isinstance(target, ast.Name))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = (
            node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
        )
        binary = any(
            isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value in {"rb", "br"} for n in ast.walk(node)
        )
        if name in _READERS and not binary and self._mentions(node) and not identifiers(node) & _BINARY:
            self.lines.append(node.lineno)
        self.generic_visit(node)

    def _mentions(self, node: ast.AST) -> bool:
        return bool(identifiers(node) & self.made_from)
