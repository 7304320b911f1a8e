"""What `torch.save` is given: tensors and containers of them, or objects whose classes it writes by name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from generator.source.foreign_calls import imported_names, root_name

# Methods that give tensors, dicts of them, or numbers, whatever object they are called on.
_PLAIN_METHODS = frozenset({"state_dict", "detach", "clone", "numpy", "item", "tolist", "get_rng_state", "encode", "decode"})
_PLAIN_FUNCTIONS = frozenset({"bool", "bytes", "float", "int", "len", "range", "repr", "round", "str"})
_PLAIN_IF_ARGUMENTS_ARE = frozenset(
    {"dict", "enumerate", "frozenset", "list", "max", "min", "set", "sorted", "sum", "tuple", "zip"}
)
_PLAIN_MODULES = frozenset({"json", "lzma", "math", "numpy", "os", "random", "struct", "time", "torch", "zlib"})
_PLAIN_TYPES = frozenset({"dict", "float", "int", "list", "set", "str"})
_ADDS = frozenset({"add", "append", "extend", "insert", "setdefault", "update"})  # methods that put arguments into containers


def objects_saved(tree: ast.Module) -> Iterator[tuple[int, bool]]:
    """Each `torch.save` whose argument is not certain to be tensors, dicts, lists and numbers.

    Yields:
        its line, and whether an object of a class of the program is certainly in it.
    """
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args and _is_save(node.func)]
    if not calls:
        return
    values = _Values(tree)
    for call in calls:
        if values.holds_object(call.args[0]):
            yield call.lineno, True
        elif not values.is_plain(call.args[0]):
            yield call.lineno, False


def _is_save(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "save" and root_name(function) == "torch"


class _Values:
    """What the variables of each function may hold, wherever they are assigned in it."""

    def __init__(self, tree: ast.Module):
        self.imports = imported_names(tree)
        self.values: dict[tuple[int, str], list[ast.expr | None]] = defaultdict(list)  # None: not known
        self._function_of: dict[int, int] = {}  # by node: the function around it, 0 at module level
        self.returns: dict[str, list[ast.expr]] = defaultdict(list)
        self.classes: set[str] = set()
        self._looking_at: set[tuple[int, str]] = set()
        nodes = self._walk(tree)
        functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
        self.classes = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
        for function in functions:
            if isinstance(function, ast.FunctionDef):
                inner = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
                self.returns[function.name] += inner
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        for function in functions:
            self._parameters(function, calls)
        for node in nodes:
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._assign(target, node.value)
            elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value is not None:
                self._assign(node.target, node.value)
            elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
                self._assign_each(node.target, node.iter)
            elif isinstance(node, ast.withitem) and node.optional_vars is not None:
                self._assign_each(node.optional_vars, None)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _ADDS:
                for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
                    self._add(node.func, argument)

    def _walk(self, tree: ast.Module) -> list[ast.AST]:
        nodes: list[ast.AST] = []
        stack: list[tuple[ast.AST, int]] = [(tree, 0)]
        while stack:
            node, function = stack.pop()
            nodes.append(node)
            self._function_of[id(node)] = function
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                function = id(node)
            stack.extend((child, function) for child in ast.iter_child_nodes(node))
        return nodes

    def _add(self, target: ast.AST, value: ast.expr | None) -> None:
        self.values[self._function_of[id(target)], root_name(target)].append(value)

    def _values_of(self, node: ast.Name) -> tuple[int, str]:
        """The key of a variable: the function's own, or the global one."""
        own = self._function_of.get(id(node), 0), node.id
        return own if own in self.values else (0, node.id)

    def _parameters(self, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, calls: list[ast.Call]) -> None:
        """Parameters hold what calls of the function's name pass; nothing is known of methods and lambdas."""
        arguments = function.args
        ordinary = [*arguments.posonlyargs, *arguments.args]
        name = "" if isinstance(function, ast.Lambda) else function.name
        direct = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == name]
        for index, parameter in enumerate(ordinary):
            for call in direct:
                passed = [keyword.value for keyword in call.keywords if keyword.arg in (parameter.arg, None)]
                self.values[id(function), parameter.arg] += passed or call.args[index : index + 1]
            if not direct:
                self.values[id(function), parameter.arg].append(None)
        for other in (*arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if other is not None:
                self.values[id(function), other.arg].append(None)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name | ast.Subscript):
            self._add(target, value)
        elif isinstance(target, ast.Tuple | ast.List):
            same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
            for index, element in enumerate(target.elts):
                if same and isinstance(value, ast.Tuple | ast.List):
                    self._assign(element, value.elts[index])
                else:
                    self._assign_each(element, value)

    def _assign_each(self, target: ast.expr, value: ast.expr | None) -> None:
        """A variable that is, or has in it, part of a value."""
        for node in ast.walk(target):
            if isinstance(node, ast.Name):
                self._add(node, value)

    def holds_object(self, node: ast.expr | None) -> bool:
        """Whether the value is made from a class of the program: an instance, or something around one."""
        if isinstance(node, ast.Dict):
            return any(self.holds_object(value) for value in node.values)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return any(self.holds_object(value) for value in node.elts)
        if isinstance(node, ast.Name):
            return node.id in self.classes or self._follow(self._values_of(node), any, self.holds_object, False)
        if not isinstance(node, ast.Call):
            return False
        root = root_name(node.func)
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in _PLAIN_METHODS:
                return False
            if root not in self.imports:
                return self.holds_object(node.func.value)  # model.cpu()
            return any(self.holds_object(argument) for argument in node.args)  # torch.compile(model)
        wraps = root in self.imports  # DistributedDataParallel(model)
        return root in self.classes or (wraps and any(self.holds_object(argument) for argument in node.args))

    def is_plain(self, node: ast.expr | None) -> bool:
        """Whether the value is certain to hold no object of a class of the program."""
        if isinstance(node, ast.Constant | ast.JoinedStr | ast.Compare):
            return True
        if isinstance(node, ast.Dict):
            return all(self.is_plain(value) for value in node.values)
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return all(self.is_plain(value) for value in node.elts)
        if isinstance(node, ast.DictComp | ast.Subscript | ast.Starred):
            return self.is_plain(node.value)
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp):
            return self.is_plain(node.elt)
        if isinstance(node, ast.IfExp):
            return self.is_plain(node.body) and self.is_plain(node.orelse)
        if isinstance(node, ast.BinOp):
            return self.is_plain(node.left) or self.is_plain(node.right)  # arithmetic with numbers and tensors
        if isinstance(node, ast.Name):
            key = self._values_of(node)
            return bool(self.values.get(key)) and self._follow(key, all, self.is_plain, True)
        return isinstance(node, ast.Call) and self._is_plain_call(node)

    def _is_plain_call(self, node: ast.Call) -> bool:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        root = root_name(node.func)
        if isinstance(node.func, ast.Attribute):
            if self.imports.get(root, "") in _PLAIN_MODULES:
                return not any(self.holds_object(argument) for argument in arguments)
            if root in {"dict", "collections"}:  # dict.fromkeys(…), collections.defaultdict(list)
                return all(self.is_plain(argument) or root_name(argument) in _PLAIN_TYPES for argument in arguments)
            return node.func.attr in _PLAIN_METHODS or self.is_plain(node.func.value)  # x.detach().cpu(), state.items()
        if root in _PLAIN_FUNCTIONS:
            return True
        if root in _PLAIN_IF_ARGUMENTS_ARE:
            return all(self.is_plain(argument) for argument in arguments)
        return bool(self.returns.get(root)) and self._follow((-1, root), all, self.is_plain, True)

    def _follow(
        self,
        key: tuple[int, str],
        quantifier: Callable[[Iterable[bool]], bool],
        question: Callable[[ast.expr | None], bool],
        meanwhile: bool,
    ) -> bool:
        """Ask about all that a variable, or a call, may be; what is being asked about already has no say."""
        if key in self._looking_at:
            return meanwhile
        self._looking_at.add(key)
        values = self.returns[key[1]] if key[0] < 0 else self.values.get(key, [])
        answer = quantifier(question(value) for value in values)
        self._looking_at.discard(key)
        return answer
