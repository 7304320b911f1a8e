"""Minification of the user's script with python-minifier."""

from __future__ import annotations

import ast

import python_minifier
from python_minifier.transforms.remove_annotations_options import RemoveAnnotationsOptions

from generator.source.script import identifiers

# Where these names occur, annotations of functions are read at run time (by torch.library, torch.jit, Triton, pydantic, …).
READS_ANNOTATIONS = frozenset(
    {
        "BaseModel",
        "NamedTuple",
        "TypedDict",
        "__annotations__",
        "constexpr",
        "custom_op",
        "get_annotations",
        "get_type_hints",
        "infer_schema",
        "jit",
        "pydantic",
        "signature",
        "singledispatch",
        "singledispatchmethod",
        "typer",
    }
)


def minify(tree: ast.Module) -> str:
    """Minified source of the same behaviour: docstrings, comments, annotations and long local names go."""
    names = identifiers(tree)
    strip = not names & READS_ANNOTATIONS
    return python_minifier.minify(
        ast.unparse(tree),
        remove_annotations=RemoveAnnotationsOptions(
            remove_variable_annotations=strip,
            remove_return_annotations=strip,
            remove_argument_annotations=strip,
            remove_class_attribute_annotations=False,  # dataclasses need them
        ),
        remove_literal_statements="__doc__" not in names,
        hoist_literals=False,  # repeated literals are what LZMA is good at
        preserve_shebang=False,
    )
