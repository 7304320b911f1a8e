"""The inlined loader: the parts of runtime_stub that a payload needs, gathered into one function.

Everything, imports included, goes inside the function that the user's script calls, so that no name of the loader can
collide with one of the script's, and every name can be shortened together with the script's.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module, resources
from typing import Any

from generator.source.calls import make_positional
from generator.templating import render
from runtime_stub.registry import DECODERS, DEQUANTIZERS

STUB = "runtime_stub"
ENTRY = "load_state_dict"


@dataclass
class _Stub:
    """What the runtime_stub modules define, with docstrings and annotations taken off."""

    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    constants: dict[str, ast.expr] = field(default_factory=dict)
    imports: dict[str, ast.Import | ast.ImportFrom] = field(default_factory=dict)


def render_loader(
    decoders: Iterable[str],
    dequantizers: Iterable[str],
    payload_name: str,
    reader: tuple[str, Sequence[int | str]] = ("read_span", (0, -1)),
    broadcast: bool = False,
    bound: Collection[str] = (),
) -> ast.FunctionDef:
    """The loader as a function definition, without docstrings and annotations.

    Args:
        decoders: ids of the codecs and filters that the payload uses.
        dequantizers: ids of the dequantizers that it uses.
        payload_name: the global variable that will hold the bytes of the file with the payload.
        reader: function of runtime_stub.carriage that reads the payload, and its arguments after the file:
            numbers, or names that stand for them.
        broadcast: whether one process of each node decodes, where there is a process group.
        bound: names that the script binds; builtins among them are imported, lest the loader gets the script's.
    """
    undo = {name: DECODERS[name] for name in sorted(decoders)}
    rebuilders = {dequantizer: DEQUANTIZERS[dequantizer] for dequantizer in sorted(dequantizers)}
    functions: list[Callable[..., Any]] = [*undo.values(), *rebuilders.values()]
    modules = [f"{STUB}.{module}" for module in ("payload", "tensors", "carriage")]
    stub = _collect([*modules, *(function.__module__ for function in functions)])
    roots = {"checked", "read_payload", "make_tensors", reader[0], *(function.__name__ for function in functions)}
    if broadcast:
        roots.add("broadcast_tensors")
    definitions, imports = _reachable(stub, roots)
    text = render(
        "loader.py.j2",
        name=ENTRY,
        reader=reader[0],
        arguments=reader[1],
        broadcast=broadcast,
        imports=[ast.unparse(node) for node in imports],
        definitions=[ast.unparse(node) for node in definitions],
        payload=payload_name,
        decoders={name: function.__name__ for name, function in undo.items()},
        dequantizers={dequantizer: function.__name__ for dequantizer, function in rebuilders.items()},
    )
    loader = _Stripper().visit(ast.parse(text)).body[0]
    assert isinstance(loader, ast.FunctionDef)
    return import_builtins(loader, bound)


def import_builtins(function: ast.FunctionDef, bound: Collection[str]) -> ast.FunctionDef:
    """Have a function import, in place, the builtins that it uses and that its surroundings bind to something else."""
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    if names := sorted(used & set(dir(builtins)) & set(bound)):
        function.body.insert(0, ast.ImportFrom("builtins", [ast.alias(name) for name in names], 0))
    return ast.fix_missing_locations(function)


def gather_function(module: str, function: str, name: str) -> ast.FunctionDef:
    """A function of runtime_stub with everything it needs inside it, under another name."""
    definitions, imports = _reachable(_collect([module]), {function})
    main = next(definition for definition in definitions if definition.name == function)
    main.body = [*imports, *(definition for definition in definitions if definition is not main), *main.body]
    main.name = name
    return ast.fix_missing_locations(main)


def _collect(modules: Iterable[str]) -> _Stub:
    """Parse the modules and, transitively, the runtime_stub modules that they import."""
    stub = _Stub()
    queue, seen = list(modules), set()
    while queue:
        module = queue.pop()
        if module in seen:
            continue
        seen.add(module)
        import_module(module)
        text = resources.files(STUB).joinpath(module.split(".")[1] + ".py").read_text(encoding="utf-8")
        for node in _Stripper().visit(ast.parse(text)).body:
            if isinstance(node, ast.FunctionDef):
                stub.functions[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                stub.constants[node.targets[0].id] = node.value
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{STUB}."):
                queue.append(str(node.module))
            elif isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
                for alias in node.names:
                    single = ast.Import([alias]) if isinstance(node, ast.Import) else ast.ImportFrom(node.module, [alias], 0)
                    stub.imports[alias.asname or alias.name] = single
    return stub


def _reachable(stub: _Stub, roots: set[str]) -> tuple[list[ast.FunctionDef], list[ast.Import | ast.ImportFrom]]:
    """The functions and imports that `roots` need, constants inlined; in a fixed order."""
    needed, queue = set(), sorted(roots)
    while queue:
        name = queue.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in stub.functions:
            function = _ConstantInliner(stub.constants).visit(stub.functions[name])
            queue.extend(node.id for node in ast.walk(function) if isinstance(node, ast.Name))
    functions = [ast.fix_missing_locations(node) for name, node in sorted(stub.functions.items()) if name in needed]
    imports = [ast.fix_missing_locations(node) for name, node in sorted(stub.imports.items()) if name in needed]
    return functions, imports


class _Stripper(ast.NodeTransformer):
    """Removes docstrings and annotations, and makes parameters positional-only."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        # Names that a keyword argument could use are kept; positional-only parameters are shortened, and then made ordinary
        # again. No call inside runtime_stub passes these by keyword.
        self.generic_visit(node)
        make_positional(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        return ast.copy_location(ast.Assign([node.target], node.value), node) if node.value else None


class _ConstantInliner(ast.NodeTransformer):
    """Puts module-level constants where they are used; a name costs more than most of them."""

    def __init__(self, constants: dict[str, ast.expr]):
        self.constants = constants

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.constants.get(node.id, node)
