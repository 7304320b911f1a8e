"""Syntax trees as short Python."""

from __future__ import annotations

import ast

from python_minifier import unparse


def print_short(tree: ast.Module) -> str:
    """The shortest text of a tree; where the minifier can't express an f-string, Python's own, which is longer.

    Raises:
        ValueError: neither can express it.
        UnstableMinification: the text would mean something else.
    """
    try:
        text: str = unparse(tree, prefer_single_line=True)
    except ValueError:
        return ast.unparse(ast.fix_missing_locations(tree))
    return text
