"""Arguments by position: keyword arguments of calls whose target is certain become positional, for shorter parameter names.

A name that a caller might pass as a keyword can't be shortened. But a script is a whole program: where every use of a
function is a direct call, all its callers are at hand. Calls are rewritten only where the order of evaluation stays the same.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

# Decorators that pass arguments on as they come.
TRANSPARENT = frozenset({"compile", "no_grad", "inference_mode", "enable_grad", "cache", "lru_cache", "disable"})
# Bases that change what a constructor takes, or how.
SPECIAL_BASES = frozenset(
    {"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "NamedTuple", "TypedDict", "BaseModel", "Protocol", "ABC", "ABCMeta"}
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class _Target:
    """A function, or a class by its constructor, with its direct calls."""

    function: Function
    skipped: int  # parameters that a call does not pass: `self`
    calls: list[ast.Call] = field(default_factory=list)


def pass_by_position(tree: ast.Module) -> int:
    """Rewrite, in place, what can be; parameters that no caller names any more become positional-only.

    Returns:
        The number of such parameters. The minifier shortens them, and `restore_parameters` makes them ordinary again.
    """
    return sum(_rewrite(target) for target in _targets(tree))


def restore_parameters(tree: ast.Module) -> None:
    """Make positional-only parameters ordinary, in place; the slash is not worth its bytes.

    Functions that take arbitrary keyword arguments keep it: those may bear the same names.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments) and not node.kwarg:
            node.args = [*node.posonlyargs, *node.args]
            node.posonlyargs = []


def _targets(tree: ast.Module) -> list[_Target]:
    bound = binding_counts(tree)
    targets: dict[str, _Target] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or bound[node.name] != 1:
            continue
        if isinstance(node, ast.ClassDef):
            constructor = _constructor(node)
            if constructor is not None:
                targets[node.name] = _Target(constructor, 1)
        elif all(_is_transparent(decorator) for decorator in node.decorator_list):
            targets[node.name] = _Target(node, 0)
    in_classes = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    for name, target in list(targets.items()):
        if target.skipped == 0 and id(target.function) in in_classes:
            del targets[name]  # a method: its callers are not known by name
    if _makes_instances_anonymously(tree):
        targets = {name: target for name, target in targets.items() if not target.skipped}
    _collect_uses(tree, targets)
    return list(targets.values())


def binding_counts(tree: ast.Module) -> dict[str, int]:
    """How often each identifier is bound, anywhere: one binding means that every use of the name means the same thing."""
    counts: dict[str, int] = defaultdict(int)
    for node in ast.walk(tree):
        names: Iterator[str | None]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = iter([node.name])
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names = iter([node.id])
        elif isinstance(node, ast.arg):
            names = iter([node.arg])
        elif isinstance(node, ast.alias):
            names = iter([(node.asname or node.name).split(".")[0]])
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names = iter([node.name])
        elif isinstance(node, ast.MatchMapping):
            names = iter([node.rest])
        elif isinstance(node, ast.Global | ast.Nonlocal):
            names = iter(node.names)
        else:
            continue
        for name in names:
            if name:
                counts[name] += 1
    return counts


def _constructor(node: ast.ClassDef) -> Function | None:
    plain = all(_last_name(base) not in SPECIAL_BASES for base in node.bases)
    if node.decorator_list or node.keywords or not plain:
        return None
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name in {"__init__", "__new__"}]
    if len(methods) != 1 or methods[0].name != "__init__" or methods[0].decorator_list:
        return None
    parameters = methods[0].args
    return methods[0] if parameters.posonlyargs or parameters.args else None


def _is_transparent(decorator: ast.expr) -> bool:
    return _last_name(decorator.func if isinstance(decorator, ast.Call) else decorator) in TRANSPARENT


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _makes_instances_anonymously(tree: ast.Module) -> bool:
    """Whether `type(x)(…)`, `x.__class__(…)` or `cls(…)` may call a constructor that is not named."""
    looked_at = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) or (isinstance(node, ast.Attribute) and node.attr in {"__name__", "__dict__"})
        for child in ast.iter_child_nodes(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"__class__", "__subclasses__", "mro", "__mro__", "__init__"}:
            if id(node) in looked_at:
                continue
            if node.attr == "__init__" and isinstance(node.value, ast.Call):
                continue  # super().__init__(…): a class that serves as a base is not a target anyway
            return True
        if isinstance(node, ast.Name) and node.id in {"cls", "__class__"}:
            return True
        is_type = isinstance(node, ast.Call) and _last_name(node.func) == "type" and len(node.args) == 1
        if is_type and id(node) not in looked_at:
            return True
    return False


def _collect_uses(tree: ast.Module, targets: dict[str, _Target]) -> None:
    """Note each direct call, and drop the targets that are used in any other way."""
    direct: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            target = targets.get(node.func.id)
            if target is not None:
                target.calls.append(node)
                direct.add(id(node.func))
            if node.func.id in {"isinstance", "issubclass"} and len(node.args) == 2:
                kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
                direct.update(id(kind) for kind in kinds)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in direct:
            targets.pop(node.id, None)
    for name, target in list(targets.items()):
        if target.function.args.kwarg or any(keyword.arg is None for call in target.calls for keyword in call.keywords):
            del targets[name]


def _rewrite(target: _Target) -> int:
    arguments = target.function.args
    ordinary = [*arguments.posonlyargs, *arguments.args]
    parameters = [argument.arg for argument in ordinary[target.skipped :]]
    named: set[str] = set()
    for call in target.calls:
        if not any(isinstance(argument, ast.Starred) for argument in call.args):
            _order_keywords(call, parameters)
            while call.keywords and len(call.args) < len(parameters) and call.keywords[0].arg == parameters[len(call.args)]:
                call.args.append(call.keywords.pop(0).value)
        named.update(str(keyword.arg) for keyword in call.keywords)
    free = 0
    while free < len(parameters) and parameters[free] not in named:
        free += 1
    count = free + target.skipped if free else len(arguments.posonlyargs)
    if count > len(arguments.posonlyargs):
        arguments.posonlyargs, arguments.args = ordinary[:count], ordinary[count:]
    return free


def _order_keywords(call: ast.Call, parameters: list[str]) -> None:
    """Sort keyword arguments by parameter where no one can tell: all values are names and constants."""
    if all(isinstance(keyword.value, ast.Name | ast.Constant) for keyword in call.keywords):
        rank = {name: index for index, name in enumerate(parameters)}
        call.keywords.sort(key=lambda keyword: rank.get(str(keyword.arg), len(rank)))
