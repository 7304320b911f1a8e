"""python-minifier is pinned to a minor version, since its internals are used. On an upgrade, check what these tests name:

1. that each function still has its parameters and does what the docstring of the module that uses it says;
2. `NameAssigner`: `Renamer` replaces `__call__` and `available_name`, and relies on `iter_names` and `is_available`;
3. `Binding`: `reserved` is the name kept whether renamed or not, `old_mention_count` tells parameters that need a copy,
   references are the very nodes of the tree;
4. `arg_rename_in_place`: which parameters it takes for names that no caller uses (naming.py looks closer);
5. which nodes make a namespace, and that a NamedExpr's target gets that of the function around (naming.py reserves the rest);
6. new transforms of `python_minifier.minify` that `generator.source.stripping` does not do, and why not;
7. `python benchmarks/wrappers.py`: no script grows.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from python_minifier import UnstableMinification, unparse
from python_minifier.ast_annotation import add_parent
from python_minifier.rename import (
    add_namespace,
    allow_rename_globals,
    allow_rename_locals,
    bind_names,
    binding,
    rename_literals,
    renamer,
    resolve_names,
    util,
)
from python_minifier.transforms import (
    combine_imports,
    constant_folding,
    remove_annotations,
    remove_annotations_options,
    remove_asserts,
    remove_dead_branches,
    remove_debug,
    remove_exception_brackets,
    remove_explicit_return_none,
    remove_literal_statements,
    remove_object_base,
    remove_pass,
)

VERSION = "3.4"
SIGNATURES: dict[Callable[..., Any], list[str]] = {
    unparse: ["module", "prefer_single_line"],
    UnstableMinification.__init__: ["self", "exception", "source", "minified"],
    add_parent: ["node", "parent"],
    add_namespace: ["module"],
    bind_names: ["module"],
    resolve_names: ["node"],
    allow_rename_locals: ["node", "rename_locals", "preserve_locals"],
    allow_rename_globals: ["module", "rename_globals", "preserve_globals"],
    rename_literals: ["module"],
    renamer.NameAssigner.__init__: ["self", "name_generator"],
    renamer.NameAssigner.iter_names: ["self"],
    renamer.NameAssigner.available_name: ["self", "reservation_scope", "prefix"],
    renamer.NameAssigner.is_available: ["self", "name", "reservation_scope"],
    renamer.add_assigned: ["node"],
    renamer.all_bindings: ["node"],
    renamer.sorted_bindings: ["module"],
    renamer.reservation_scope: ["namespace", "binding"],
    renamer.reserve_name: ["name", "reservation_scope"],
    binding.Binding.disallow_rename: ["self"],
    binding.Binding.should_rename: ["self", "new_name"],
    binding.Binding.rename: ["self", "new_name"],
    binding.Binding.old_mention_count: ["self"],
    util.arg_rename_in_place: ["node"],
    combine_imports.CombineImports.__call__: ["self", "node"],
    constant_folding.FoldConstants.__call__: ["self", "node"],
    remove_annotations.RemoveAnnotations.__init__: ["self", "options"],
    remove_annotations_options.RemoveAnnotationsOptions.__init__: [
        "self",
        "remove_variable_annotations",
        "remove_return_annotations",
        "remove_argument_annotations",
        "remove_class_attribute_annotations",
    ],
    remove_asserts.RemoveAsserts.__call__: ["self", "node"],
    remove_dead_branches.RemoveDeadBranches.__call__: ["self", "node"],
    remove_debug.RemoveDebug.__call__: ["self", "node"],
    remove_exception_brackets.remove_no_arg_exception_call: ["module"],
    remove_explicit_return_none.RemoveExplicitReturnNone.__call__: ["self", "node"],
    remove_literal_statements.RemoveLiteralStatements.__call__: ["self", "node"],
    remove_object_base.RemoveObject.__call__: ["self", "node"],
    remove_pass.RemovePass.__call__: ["self", "node"],
}


def test_the_version_is_the_one_whose_internals_are_known() -> None:
    assert importlib.metadata.version("python-minifier").startswith(f"{VERSION}.")
    needed = next(line for line in importlib.metadata.requires("golfpack") or [] if line.startswith("python-minifier"))
    assert needed == "python-minifier<3.5,>=3.4"


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signatures(function: Callable[..., Any]) -> None:
    assert list(inspect.signature(function).parameters) == SIGNATURES[function]


def annotated(text: str) -> ast.Module:
    module = ast.parse(text)
    add_parent(module)
    add_namespace(module)
    bind_names(module)
    resolve_names(module)
    return module


def test_bindings() -> None:
    """References are nodes of the tree; a parameter that callers may name is reserved; `self` is not."""
    module = annotated("class C:\n    def f(self, value):\n        return self, value, len\n")
    found = {one.name: one for _, one in renamer.all_bindings(module)}
    assert isinstance(found["len"], binding.BuiltinBinding)
    assert (found["self"].reserved, found["self"].old_mention_count()) == (None, 0)
    assert (found["value"].reserved, found["value"].old_mention_count() > 0) == ("value", True)
    nodes = {id(node) for node in ast.walk(module)}
    assert all(id(node) in nodes for one in found.values() for node in one.references)


def test_namespaces_of_assignment_expressions() -> None:
    module = annotated("def f():\n    return [(y := x) for x in (1, 2)]\n")
    named = next(node for node in ast.walk(module) if isinstance(node, ast.NamedExpr))
    assert isinstance(named.target.namespace, ast.FunctionDef)  # type: ignore[attr-defined]
    assert isinstance(named.namespace, ast.ListComp)  # type: ignore[attr-defined]
