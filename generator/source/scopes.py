"""Which binding each name of a module means, by Python's rules of scope.

`symtable` answers that for source text; here the answer is needed for the nodes of a tree that steps have already rewritten.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


@dataclass(eq=False)
class Binding:
    """A variable of one scope.

    Attributes:
        name: as it is spelled.
        scope: where it lives.
        sources: the nodes that bind, delete or declare it.
        loads: the names that read it.
        certain: whether each of `loads` means this variable and nothing else.
    """

    name: str
    scope: Scope
    sources: list[ast.AST] = field(default_factory=list)
    loads: list[ast.Name] = field(default_factory=list)
    certain: bool = True

    def definition(self) -> ast.AST | None:
        """The node that gives it its value, if nothing else touches it and no load may mean something else."""
        return self.sources[0] if self.certain and len(self.sources) == 1 else None


@dataclass(eq=False)
class Scope:
    """A block with variables of its own; `kind` is module, class, function, comprehension or types (of type parameters)."""

    kind: str
    parent: Scope | None = None
    bindings: dict[str, Binding] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)


class Scopes(ast.NodeVisitor):
    """The scopes of a module.

    Attributes:
        module: the outermost scope.
        bindings: the variables of all scopes, in order of appearance.
        definitions: each function and class statement with the variable that it binds, in order.
        class_bodies: the scope of each class statement's body, by the node's id.
        has_star_import: whether `from x import *` binds names that are not known.
    """

    def __init__(self, tree: ast.Module):
        self.module = Scope("module")
        self.bindings: list[Binding] = []
        self.definitions: list[tuple[Function | ast.ClassDef, Binding]] = []
        self.class_bodies: dict[int, Scope] = {}
        self.has_star_import = False
        self._imports: dict[tuple[int, str], str] = {}  # dotted name by alias node and variable
        self._scope = self.module
        self._loads: list[tuple[ast.Name, Scope]] = []
        self._nonlocals: list[tuple[ast.AST, str, Scope]] = []
        self._meanings: dict[int, list[Binding]] = {}
        self._visit_all(tree.body)
        for source, name, scope in self._nonlocals:
            for binding in self._lookup(name, scope):
                binding.sources.append(source)
        for load, scope in self._loads:
            self._resolve(load, scope)

    def meaning(self, name: ast.Name) -> Binding | None:
        """The variable that a name reads; None for builtins, and where it may be one of several."""
        found = self._meanings.get(id(name), [])
        return found[0] if len(found) == 1 else None

    def is_builtin(self, node: ast.AST, name: str) -> bool:
        """Whether a node reads the builtin of that name, which no variable hides."""
        return isinstance(node, ast.Name) and node.id == name and self._meanings.get(id(node)) == []

    def qualified_name(self, node: ast.AST) -> str:
        """The dotted name of something imported, like "torch.nn.Module", whatever it was imported as; "" for all else."""
        if isinstance(node, ast.Attribute):
            owner = self.qualified_name(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        binding = self.meaning(node) if isinstance(node, ast.Name) else None
        names = self.imported(binding) if binding is not None and binding.certain else frozenset()
        return min(names) if len(names) == 1 else ""

    def imported(self, binding: Binding) -> frozenset[str]:
        """The dotted names that a variable is an import of, and "" for everything else that binds it."""
        return frozenset(self._imports.get((id(source), binding.name), "") for source in binding.sources)

    # Visiting

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_defaults(node.args)
        outer = self._enter("function")
        self._bind_parameters(node.args)
        self.visit(node.body)
        self._scope = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._define(node)
        self._visit_all(node.decorator_list)
        outer = self._enter_types(node)
        self._visit_all([*node.bases, *node.keywords])
        self._enter("class")
        self.class_bodies[id(node)] = self._scope
        self._visit_all(node.body)
        self._scope = outer

    def visit_TypeAlias(self, node: ast.AST) -> None:
        self.visit(node.name)  # type: ignore[attr-defined]
        outer = self._enter_types(node)
        self.visit(node.value)  # type: ignore[attr-defined]
        self._scope = outer

    def visit_TypeVar(self, node: ast.AST) -> None:
        self._bind(node.name, node)  # type: ignore[attr-defined]
        self.generic_visit(node)

    def visit_TypeVarTuple(self, node: ast.AST) -> None:
        self.visit_TypeVar(node)

    def visit_ParamSpec(self, node: ast.AST) -> None:
        self.visit_TypeVar(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._visit_comprehension(node, [node.elt])

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._visit_comprehension(node, [node.elt])

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._visit_comprehension(node, [node.elt])

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._visit_comprehension(node, [node.key, node.value])

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        inner = self._scope
        while self._scope.kind == "comprehension" and self._scope.parent is not None:
            self._scope = self._scope.parent
        self._bind(node.target.id, node.target)
        self._scope = inner

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._loads.append((node, self._scope))
        else:
            self._bind(node.id, node)

    def visit_alias(self, node: ast.alias) -> None:
        self._bind(node.asname or node.name.split(".")[0], node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            top = alias.name.split(".")[0]
            self._imports[id(alias), alias.asname or top] = alias.name if alias.asname else top
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self.has_star_import |= alias.name == "*"
            self._imports[id(alias), alias.asname or alias.name] = f"{'.' * node.level}{node.module or ''}.{alias.name}"
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bind(node.name, node)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._bind(node.name, node)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind(node.name, node)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._bind(node.rest, node)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self._scope.globals.update(node.names)
        for name in node.names:
            self._bind(name, node)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self._scope.nonlocals.update(node.names)
        for name in node.names:
            self._bind(name, node)

    def _visit_all(self, nodes: Iterable[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _visit_function(self, node: Function) -> None:
        self._define(node)
        self._visit_all(node.decorator_list)
        self._visit_defaults(node.args)
        outer = self._enter_types(node)
        annotations = [parameter.annotation for parameter in _parameters(node.args)] + [node.returns]
        self._visit_all(annotation for annotation in annotations if annotation is not None)
        self._enter("function")
        self._bind_parameters(node.args)
        self._visit_all(node.body)
        self._scope = outer

    def _visit_defaults(self, arguments: ast.arguments) -> None:
        self._visit_all(default for default in [*arguments.defaults, *arguments.kw_defaults] if default is not None)

    def _visit_comprehension(self, node: Comprehension, elements: Sequence[ast.expr]) -> None:
        self.visit(node.generators[0].iter)  # the only part that belongs to the scope outside
        outer = self._enter("comprehension")
        for index, generator in enumerate(node.generators):
            self._visit_all([generator.target, *generator.ifs, *([generator.iter] if index else [])])
        self._visit_all(elements)
        self._scope = outer

    # Scopes and bindings

    def _enter(self, kind: str) -> Scope:
        """Begin a scope; gives the one outside, to return to."""
        outer = self._scope
        self._scope = Scope(kind, outer)
        return outer

    def _enter_types(self, node: ast.AST) -> Scope:
        """Begin the scope of a statement's type parameters, if it has any (Python 3.12)."""
        outer = self._scope
        if getattr(node, "type_params", None):
            self._enter("types")
            self._visit_all(node.type_params)  # type: ignore[attr-defined]
        return outer

    def _define(self, node: Function | ast.ClassDef) -> None:
        binding = self._bind(node.name, node)
        if binding is not None:
            self.definitions.append((node, binding))

    def _bind_parameters(self, arguments: ast.arguments) -> None:
        for parameter in _parameters(arguments):
            self._bind(parameter.arg, parameter)

    def _bind(self, name: str | None, source: ast.AST) -> Binding | None:
        """Note what binds a name in the present scope; None where that is another function's variable."""
        if name is None:
            return None
        if name in self._scope.nonlocals:
            self._nonlocals.append((source, name, self._scope))
            return None
        scope = self.module if name in self._scope.globals else self._scope
        if name not in scope.bindings:
            scope.bindings[name] = Binding(name, scope)
            self.bindings.append(scope.bindings[name])
        scope.bindings[name].sources.append(source)
        return scope.bindings[name]

    def _resolve(self, load: ast.Name, scope: Scope) -> None:
        found = self._lookup(load.id, scope)
        self._meanings[id(load)] = found
        for binding in found:
            binding.loads.append(load)
            binding.certain &= len(found) == 1

    def _lookup(self, name: str, scope: Scope) -> list[Binding]:
        """The variables that a name in a scope may mean: more than one only where a class body may not have set its own."""
        found = []
        inside = True  # whether the names of a class body that comes next are visible
        current: Scope | None = scope
        while current is not None:
            if name in current.globals:
                current = self.module
            visible = current.kind != "class" or inside
            if visible and name not in current.nonlocals and name in current.bindings:
                found.append(current.bindings[name])
                if current.kind != "class":
                    break
            inside = inside and current.kind == "types"
            current = current.parent
        return found


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    several = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return several + [parameter for parameter in (arguments.vararg, arguments.kwarg) if parameter is not None]
