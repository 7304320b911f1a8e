"""Where a node stands in a program: the scopes around it, and what is done with it there."""

from __future__ import annotations

import ast
from collections.abc import Iterator

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)
# Where `type(x)` or `x.__class__` is an argument of these, its name does not matter.
_IGNORES_NAMES = frozenset({"getattr", "hasattr", "id", "isinstance", "issubclass", "setattr", "super", "vars"})


def evaluated_outside(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a scope that are evaluated in the scope around it."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from node.decorator_list
    if isinstance(node, ast.ClassDef):
        yield from [*node.bases, *node.keywords]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        yield from [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
    elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
        yield node.generators[0].iter


def is_bound(name: str, scopes: tuple[ast.AST, ...]) -> bool:
    """Whether a scope around binds the name, so that it is not the builtin."""
    visible = [scope for scope in scopes[:-1] if not isinstance(scope, ast.ClassDef)] + [scopes[-1]]
    return any(name in bound_names(scope) for scope in visible)


def bound_names(scope: ast.AST) -> set[str]:
    """The names that a scope binds itself."""
    bound: set[str] = set()
    stack = list(ast.iter_child_nodes(scope))
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
            continue
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        if not isinstance(node, SCOPES):
            stack.extend(ast.iter_child_nodes(node))
    return bound


def is_about_main(parent: ast.AST) -> bool:
    """Whether the parent is `__name__ == "__main__"`."""
    if not isinstance(parent, ast.Compare):
        return False
    operands = [parent.left, *parent.comparators]
    return len(operands) == 2 and {
        operand.id if isinstance(operand, ast.Name) else operand.value if isinstance(operand, ast.Constant) else None
        for operand in operands
    } == {"__name__", "__main__"}


def names_an_environment_variable(node: ast.AST, parent: ast.AST) -> bool:
    """`os.environ[node]`, `os.environ.get(node, …)` and `os.getenv(node)`: such a name is none of the program's."""
    if isinstance(parent, ast.Subscript):
        return parent.slice is node and isinstance(parent.value, ast.Attribute) and parent.value.attr == "environ"
    if not (isinstance(parent, ast.Call) and parent.args and parent.args[0] is node and isinstance(parent.func, ast.Attribute)):
        return False
    holder = parent.func.value
    return parent.func.attr == "getenv" or (isinstance(holder, ast.Attribute) and holder.attr == "environ")


def names_a_logger(parent: ast.AST) -> bool:
    function = parent.func if isinstance(parent, ast.Call) else None
    return isinstance(function, ast.Attribute) and function.attr == "getLogger"


def takes_another_module(node: ast.Attribute, parent: ast.AST) -> bool:
    """`sys.modules["torch"]`, `sys.modules.get("torch")` … and `"torch" in sys.modules`."""
    if isinstance(parent, ast.Subscript):
        key: ast.AST = parent.slice
    elif isinstance(parent, ast.Compare):
        key = parent.left
    else:
        return False
    return isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value != "__main__"


def only_compared(node: ast.expr, parent: ast.AST) -> bool:
    """Whether a class is only compared, called, or looked into."""
    if isinstance(parent, ast.Call):
        name = parent.func.id if isinstance(parent.func, ast.Name) else ""
        return parent.func is node or name in _IGNORES_NAMES
    if isinstance(parent, ast.Subscript):
        return parent.slice is node
    return isinstance(parent, ast.Compare | ast.Attribute)
