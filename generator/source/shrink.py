"""Code shrinking: strip → rename → combine, as a list of steps that can each be switched off.

The steps run in the order of STEPS on one syntax tree. Which of several ways of naming compresses best is not known
beforehand, so `shrink` gives every variant, and the caller keeps the one that is smallest after compression.
"""

from __future__ import annotations

import ast
import builtins
import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from python_minifier import unparse
from python_minifier.ast_annotation import add_parent
from python_minifier.rename import (
    add_namespace,
    allow_rename_globals,
    allow_rename_locals,
    bind_names,
    rename_literals,
    resolve_names,
)
from python_minifier.transforms.combine_imports import CombineImports
from python_minifier.transforms.constant_folding import FoldConstants
from python_minifier.transforms.remove_annotations import RemoveAnnotations
from python_minifier.transforms.remove_annotations_options import RemoveAnnotationsOptions
from python_minifier.transforms.remove_asserts import RemoveAsserts
from python_minifier.transforms.remove_dead_branches import RemoveDeadBranches
from python_minifier.transforms.remove_debug import RemoveDebug
from python_minifier.transforms.remove_exception_brackets import remove_no_arg_exception_call
from python_minifier.transforms.remove_explicit_return_none import RemoveExplicitReturnNone
from python_minifier.transforms.remove_literal_statements import RemoveLiteralStatements
from python_minifier.transforms.remove_object_base import RemoveObject
from python_minifier.transforms.remove_pass import RemovePass

from generator.errors import InputError
from generator.source.naming import Naming, Renamer
from generator.source.positional import SPECIAL_BASES, binding_counts, pass_by_position, restore_parameters
from generator.source.script import identifiers

STEPS = {
    "vars": "vars(x) becomes x.__dict__, since a mention of vars blocks renaming",
    "docstrings": "docstrings and other statements without effect go, unless __doc__ is read",
    "annotations": "annotations go, except in classes and where something reads them",
    "branches": "branches that can't be reached go (if False, if 0)",
    "fold": "arithmetic on constants is done; pass, object, None after return and () after raise X go",
    "imports": "adjacent imports are combined",
    "positional": "keyword arguments of calls whose function is certain become positional",
    "locals": "local names are shortened",
    "globals": "global names are shortened",
}
OPTIONAL = {
    "asserts": "assert statements go; they then no longer check",
    "debug": "`if __debug__:` blocks go, as under python -O",
}

# Where these names occur, annotations of functions are read at run time (custom operators, TorchScript, Triton, pydantic, …).
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
# Where these occur, the names of functions and classes are read at run time, or leave the program.
READS_NAMES = frozenset({"__qualname__", "pickle", "cloudpickle", "dill", "__main__", "__module__", "fire", "weights_only"})
BLOCKERS = frozenset({"vars", "locals", "globals", "eval", "exec"})


@dataclass(frozen=True)
class Shrinking:
    """What to do to the code.

    Attributes:
        skip: steps to leave out, by name.
        extra: steps of OPTIONAL to do.
        keep_names: global names that stay as they are.
    """

    skip: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    keep_names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in sorted(self.skip - STEPS.keys()):
            raise InputError(f"unknown shrinking step {name!r}; steps: {', '.join(STEPS)}")
        for name in sorted(self.extra - OPTIONAL.keys()):
            raise InputError(f"unknown optional shrinking step {name!r}; known: {', '.join(OPTIONAL)}")

    def does(self, step: str) -> bool:
        """Whether a step is done."""
        return step in self.extra if step in OPTIONAL else step not in self.skip


@dataclass(frozen=True)
class Variant:
    """One way to name things: how, and the minified text."""

    name: str
    text: str


@dataclass
class Shrunk:
    """What shrinking gave: the variants, and what kept names from being shortened, each with its line."""

    variants: list[Variant]
    blockers: list[str] = field(default_factory=list)


_VARIANTS = {
    "by appearance": (Naming(), False),
    "by appearance, parameters copied": (Naming(copy_parameters=True), False),
    "by use": (Naming(by_appearance=False), False),
    "by use, all aliased": (Naming(by_appearance=False, copy_parameters=True, alias_builtins=True), False),
    "by appearance, literals hoisted": (Naming(), True),
}


def shrink(tree: ast.Module, options: Shrinking | None = None, variants: int = len(_VARIANTS)) -> Shrunk:
    """Minify a module of the same behaviour in several ways.

    Args:
        tree: the module; left as it is.
        options: the steps to do.
        variants: how many ways of naming to try, the most promising first.

    Returns:
        The variants, at least one, and what blocked renaming.
    """
    with _builtins_of_a_script():
        return _shrink(tree, options or Shrinking(), variants)


def _shrink(tree: ast.Module, options: Shrinking, variants: int) -> Shrunk:
    found = Shrunk([], find_blockers(tree, options))
    stripped = _strip(copy.deepcopy(tree), options, renames=options.does("locals") and not found.blockers)
    # A function or class whose name is needed as a string keeps it.
    kept = set(options.keep_names) | _names_that_must_survive(stripped)
    for name, (naming, hoist) in list(_VARIANTS.items())[:variants]:
        module = copy.deepcopy(stripped)
        found.variants.append(Variant(name, _rename_and_print(module, options, naming, hoist, sorted(kept))))
        if found.blockers or not (options.does("locals") or options.does("globals")):
            break  # nothing is renamed, so every variant would be the same
    return found


@contextmanager
def _builtins_of_a_script() -> Iterator[None]:
    """An interactive session keeps its last result in `builtins._`, and a `_` of the script would then pass for a builtin:
    the same input must give the same bytes there too."""
    absent = object()
    last_result = builtins.__dict__.pop("_", absent)
    try:
        yield
    finally:
        if last_result is not absent:
            builtins.__dict__["_"] = last_result


def minify(tree: ast.Module, options: Shrinking | None = None) -> str:
    """The most promising variant alone."""
    return shrink(tree, options, 1).variants[0].text


def find_blockers(tree: ast.Module, options: Shrinking | None = None) -> list[str]:
    """Uses that keep every name as it is, since names may be looked up by string; what the steps rewrite is not among them."""
    bound = binding_counts(tree).keys()
    if (options or Shrinking()).does("vars") and "vars" not in bound:
        tree = _VarsRewriter().visit(copy.deepcopy(tree))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in BLOCKERS - bound:
            found.append((node.lineno, f"line {node.lineno}: {node.id}() looks names up"))
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            found.append((node.lineno, f"line {node.lineno}: from {node.module} import * brings unknown names"))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if "timeit" in modules:
                found.append((node.lineno, f"line {node.lineno}: timeit runs code from strings"))
    return [text for _, text in sorted(set(found))]


class _VarsRewriter(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        named = isinstance(node.func, ast.Name) and node.func.id == "vars"
        if named and len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred):
            return ast.copy_location(ast.Attribute(node.args[0], "__dict__", ast.Load()), node)
        return node


def _strip(tree: ast.Module, options: Shrinking, renames: bool) -> ast.Module:
    """The steps before renaming, in order."""
    names = identifiers(tree)
    if options.does("vars") and "vars" not in binding_counts(tree):
        tree = ast.fix_missing_locations(_VarsRewriter().visit(tree))
    add_parent(tree)
    add_namespace(tree)
    if options.does("docstrings") and "__doc__" not in names:
        tree = RemoveLiteralStatements()(tree)
    if options.does("annotations") and not names & READS_ANNOTATIONS:
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
    if options.does("positional") and renames:
        pass_by_position(tree)
    return tree


def _rename_and_print(module: ast.Module, options: Shrinking, naming: Naming, hoist: bool, kept: list[str]) -> str:
    add_parent(module)
    add_namespace(module)
    bind_names(module)
    resolve_names(module)
    tainted: bool = module.tainted  # type: ignore[attr-defined]
    if options.does("fold") and not tainted:
        remove_no_arg_exception_call(module)
    preserved = [*kept, *sorted(module.preserved)]  # type: ignore[attr-defined]
    allow_rename_locals(module, options.does("locals") and not tainted, list(preserved))
    allow_rename_globals(module, options.does("globals") and not tainted, list(preserved))
    if hoist and not tainted:
        rename_literals(module)
    Renamer(naming).rename(module, preserved)
    restore_parameters(module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the user's strings are the user's affair
        return unparse(module, prefer_single_line=True)


def _names_that_must_survive(tree: ast.Module) -> set[str]:
    """Functions and classes whose own names may show at run time."""
    definitions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    if identifiers(tree) & READS_NAMES or _reads_dunder_name(tree):
        return {node.name for node in definitions}
    spelled = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    spelled |= identifiers(tree)
    return {
        node.name
        for node in definitions
        if isinstance(node, ast.ClassDef)
        and (
            node.decorator_list
            or any(_shows_its_name(base) for base in node.bases)
            or any(name.startswith(f"_{node.name.lstrip('_')}__") for name in spelled)  # a private name, spelled out
        )
    }


def _shows_its_name(base: ast.expr) -> bool:
    name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
    return name in SPECIAL_BASES or name.endswith(("Error", "Exception", "Warning"))


def _reads_dunder_name(tree: ast.Module) -> bool:
    """Whether `x.__name__` is read. The global `__name__` is the module's."""
    return any(isinstance(node, ast.Attribute) and node.attr == "__name__" for node in ast.walk(tree))
