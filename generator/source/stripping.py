"""The steps of shrinking before names: what is taken off the tree or rewritten in it."""

from __future__ import annotations

import ast

from python_minifier.ast_annotation import add_parent
from python_minifier.rename import add_namespace
from python_minifier.transforms.combine_imports import CombineImports
from python_minifier.transforms.constant_folding import FoldConstants
from python_minifier.transforms.remove_annotations import RemoveAnnotations
from python_minifier.transforms.remove_annotations_options import RemoveAnnotationsOptions
from python_minifier.transforms.remove_asserts import RemoveAsserts
from python_minifier.transforms.remove_dead_branches import RemoveDeadBranches
from python_minifier.transforms.remove_debug import RemoveDebug
from python_minifier.transforms.remove_explicit_return_none import RemoveExplicitReturnNone
from python_minifier.transforms.remove_literal_statements import RemoveLiteralStatements
from python_minifier.transforms.remove_object_base import RemoveObject
from python_minifier.transforms.remove_pass import RemovePass

from generator.source.effects import Effect
from generator.source.options import Shrinking
from generator.source.positional import pass_by_position
from generator.source.readings import Readings

# What python-minifier notes on nodes while it works; the references up the tree make copies expensive.
_NOTED = ("_parent", "namespace", "bindings", "global_names", "nonlocal_names")


def strip(tree: ast.Module, options: Shrinking, readings: Readings) -> ast.Module:
    """Do the steps, in their order, in place."""
    add_parent(tree)
    add_namespace(tree)
    if options.does("docstrings") and not readings.keeps(Effect.DOCSTRINGS):
        tree = RemoveLiteralStatements()(tree)
    if options.does("annotations") and not readings.keeps(Effect.ANNOTATIONS):
        annotations = RemoveAnnotationsOptions(
            remove_variable_annotations=True,
            remove_return_annotations=True,
            remove_argument_annotations=True,
            remove_class_attribute_annotations=False,  # dataclasses need them
        )
        tree = RemoveAnnotations(annotations)(tree)
    if options.does("asserts"):
        tree = RemoveAsserts()(tree)
    if options.does("debug"):
        tree = RemoveDebug()(tree)
    if options.does("branches") or options.does("debug"):
        tree = RemoveDeadBranches()(tree)
    if options.does("fold"):
        tree = RemovePass()(tree)
        tree = RemoveObject()(tree)
        tree = FoldConstants()(tree)
        tree = RemoveExplicitReturnNone()(tree)
    if options.does("imports"):
        tree = CombineImports()(tree)
    read = readings.keeps(Effect.SIGNATURES) or readings.looks_up()
    if options.does("positional") and options.does("locals") and not read:
        pass_by_position(tree)
    for node in ast.walk(tree):
        for name in _NOTED:
            node.__dict__.pop(name, None)
    return tree
