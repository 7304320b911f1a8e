"""Classes whose constructor is called by the class's name alone, with the arguments as they are written.

A list of the allowed: classes without a base, and those whose bases are known to hand the arguments on unchanged.
"""

from __future__ import annotations

import ast

from generator.source.known import (
    CLASS_ATTRIBUTES,
    CLASS_HOOKS,
    CLASS_METHODS,
    COMPARISONS,
    METHOD_DECORATORS,
    NAMES_OF_CLASSES,
    PLAIN_BASES,
)
from generator.source.scopes import Binding, Function, Scopes


class Constructors:
    """Which classes of a program are made by nothing but direct calls, as far as its text can tell.

    Attributes:
        reached: whether any class may be called by way of an instance.
        exposed: classes that `type(x)` gives where it is known what x is.
    """

    def __init__(self, tree: ast.Module, scopes: Scopes, parents: dict[int, ast.AST]):
        self._scopes = scopes
        self._parents = parents
        hooks = {node.name for node, _ in scopes.definitions}
        self._compares = bool(hooks & COMPARISONS)
        self.exposed: set[Binding] = set()
        self.reached = bool(hooks & CLASS_HOOKS) or any(self._leads_to_class(node) for node in ast.walk(tree))

    def constructor(self, node: ast.ClassDef) -> ast.FunctionDef | None:
        """The `__init__` that a call of the class hands its arguments to, unchanged; None where that is not certain."""
        own = self._scopes.class_bodies[id(node)].bindings.get("__init__")
        definition = own.definition() if own else None
        if self.reached or own is None or own.loads or not isinstance(definition, ast.FunctionDef):
            return None
        if definition.decorator_list or definition not in node.body or not self._passes_on(node):
            return None
        return definition if definition.args.posonlyargs or definition.args.args else None

    def _passes_on(self, node: ast.ClassDef) -> bool:
        """Whether calls hand the arguments on, and neither the class nor a base makes instances by itself."""
        body = self._scopes.class_bodies[id(node)]
        if node.decorator_list or node.keywords or getattr(node, "type_params", None) or CLASS_METHODS & body.bindings.keys():
            return False
        methods = [source for binding in body.bindings.values() for source in binding.sources if isinstance(source, Function)]
        decorators = [decorator for method in methods for decorator in method.decorator_list]
        return all(map(self._is_method_decorator, decorators)) and all(map(self._is_plain_base, node.bases))

    def _is_method_decorator(self, node: ast.expr) -> bool:
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"setter", "getter", "deleter"}
            and isinstance(node.value, ast.Name)
        ):
            return True  # of a property, which is checked itself
        name = self._scopes.qualified_name(node.func if isinstance(node, ast.Call) else node)
        builtin = any(self._scopes.is_builtin(node, name) for name in ("property", "staticmethod"))
        return builtin or name in METHOD_DECORATORS or name.startswith("torch.")

    def _is_plain_base(self, node: ast.expr) -> bool:
        if self._scopes.is_builtin(node, "object") or self._scopes.qualified_name(node) in PLAIN_BASES:
            return True
        binding = self._scopes.meaning(node) if isinstance(node, ast.Name) else None
        definition = binding.definition() if binding else None
        # A class that names itself as its base would be one that does not exist yet.
        inherits = isinstance(definition, ast.ClassDef) and node not in definition.bases
        return inherits and isinstance(definition, ast.ClassDef) and self._passes_on(definition)

    def _leads_to_class(self, node: ast.AST) -> bool:
        """Whether a node gives a class that it does not name, and not only to be looked at."""
        scopes, parent = self._scopes, self._parents.get(id(node))
        if isinstance(node, ast.Attribute):
            return self._is_leading_attribute(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value in CLASS_ATTRIBUTES
        if scopes.is_builtin(node, "type"):
            if isinstance(parent, ast.Call) and parent.func is node:
                return len(parent.args) != 3 and not self._only_looked_at(parent) and not self._exposes_one(parent)
            return not self._only_looked_at(node)
        if scopes.is_builtin(node, "classmethod"):
            return not (isinstance(parent, Function) and node in parent.decorator_list)
        return scopes.is_builtin(node, "__class__")

    def _is_leading_attribute(self, node: ast.Attribute) -> bool:
        if node.attr == "__class__":
            return not self._only_looked_at(node)
        if node.attr == "__init__":
            owner = node.value
            superior = isinstance(owner, ast.Call) and self._scopes.is_builtin(owner.func, "super")
            return not (superior or self._scopes.qualified_name(owner) or self._class(owner))
        return node.attr in CLASS_ATTRIBUTES

    def _only_looked_at(self, node: ast.AST) -> bool:
        """Whether a class that a node gives is only printed, named or compared."""
        parent = self._parents[id(node)]
        if isinstance(parent, ast.Attribute):
            return parent.attr in NAMES_OF_CLASSES
        if isinstance(parent, ast.Compare):
            return not self._compares or all(isinstance(operator, ast.Is | ast.IsNot) for operator in parent.ops)
        return isinstance(parent, ast.FormattedValue) or (isinstance(parent, ast.Call) and self.is_tested(node, parent))

    def is_tested(self, node: ast.AST, call: ast.Call) -> bool:
        """Whether a call is the builtin isinstance or issubclass that tests for the class which a node gives."""
        tests = any(self._scopes.is_builtin(call.func, name) for name in ("isinstance", "issubclass"))
        return tests and len(call.args) == 2 and node is call.args[1]

    def _class(self, node: ast.AST) -> Binding | None:
        """The variable that a node reads, if it is a class of the program."""
        binding = self._scopes.meaning(node) if isinstance(node, ast.Name) else None
        return binding if binding and isinstance(binding.definition(), ast.ClassDef) else None

    def _exposes_one(self, call: ast.Call) -> bool:
        """Whether a call is `type(x)` of a variable that is nothing but `x = C()`; notes that class."""
        variable = self._scopes.meaning(call.args[0]) if len(call.args) == 1 and isinstance(call.args[0], ast.Name) else None
        target = variable.definition() if variable else None
        assignment = self._parents[id(target)] if isinstance(target, ast.Name) else None
        if not isinstance(assignment, ast.Assign) or not isinstance(assignment.value, ast.Call):
            return False
        made = self._class(assignment.value.func) if target in assignment.targets else None
        definition = made.definition() if made else None
        if made is None or not isinstance(definition, ast.ClassDef) or definition.bases or not self._passes_on(definition):
            return False
        self.exposed.add(made)
        return True
