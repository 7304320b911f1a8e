"""Direct calls of a function that is known: whether they are right, and their keyword arguments passed by position."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from generator.source.scopes import Function


def binds(call: ast.Call, function: Function, skipped: int) -> bool:
    """Whether it is plain that a call's arguments fit.

    Args:
        call: the call.
        function: what is called.
        skipped: how many parameters are not the caller's: 1 for `self`.
    """
    arguments = function.args
    ordinary = [*arguments.posonlyargs, *arguments.args]
    keywords = [keyword.arg for keyword in call.keywords]
    if len(set(keywords)) < len(keywords) or None in keywords or any(isinstance(value, ast.Starred) for value in call.args):
        return False
    given = skipped + len(call.args)
    if given > len(ordinary) and not arguments.vararg:
        return False
    optional = (
        {parameter.arg for parameter in ordinary[len(ordinary) - len(arguments.defaults) :]} if arguments.defaults else set()
    )
    optional |= {parameter.arg for parameter, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value}
    by_position = {parameter.arg for parameter in ordinary[:given]}
    required = {parameter.arg for parameter in [*ordinary, *arguments.kwonlyargs]} - by_position - optional
    named = {parameter.arg for parameter in [*ordinary[max(given, len(arguments.posonlyargs)) :], *arguments.kwonlyargs]}
    return required <= set(keywords) <= named


def pass_arguments(calls: Iterable[ast.Call], function: Function, skipped: int) -> int:
    """Pass, in place, what can be passed by position, and free the parameters that no call names any more.

    Args:
        calls: every call of the function; each of them fits.
        function: what they call, without arbitrary keyword arguments.
        skipped: how many parameters are not the caller's.

    Returns:
        The number of parameters that are free: made positional-only, after which they may be renamed.
    """
    arguments = function.args
    ordinary = [*arguments.posonlyargs, *arguments.args]
    parameters = [parameter.arg for parameter in ordinary[skipped:]]
    named: set[str] = set()
    for call in calls:
        _order_keywords(call, parameters)
        while call.keywords and len(call.args) < len(parameters) and call.keywords[0].arg == parameters[len(call.args)]:
            call.args.append(call.keywords.pop(0).value)
        named.update(str(keyword.arg) for keyword in call.keywords)
    free = 0
    while free < len(parameters) and parameters[free] not in named:
        free += 1
    if free:
        make_positional(arguments, free + skipped)
    return free


def make_positional(arguments: ast.arguments, count: int | None = None) -> None:
    """Make the first `count` parameters positional-only (None: all), to be undone by `restore_parameters`."""
    ordinary = [*arguments.posonlyargs, *arguments.args]
    count = len(ordinary) if count is None else count
    if count > len(arguments.posonlyargs):
        # An attribute of the node itself, since the tree is copied and pickled before it is printed.
        arguments.own_positional = getattr(arguments, "own_positional", len(arguments.posonlyargs))  # type: ignore[attr-defined]
        arguments.posonlyargs, arguments.args = ordinary[:count], ordinary[count:]


def restore_parameters(tree: ast.AST) -> None:
    """Undo `make_positional`, in place; what the script itself made positional-only stays so.

    No call passes these parameters by keyword, so that the slash is not worth its bytes. Functions that take arbitrary keyword
    arguments keep it: those may bear the same names.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.arguments) and not node.kwarg:
            own = getattr(node, "own_positional", len(node.posonlyargs))
            node.posonlyargs, node.args = node.posonlyargs[:own], [*node.posonlyargs[own:], *node.args]


def _order_keywords(call: ast.Call, parameters: list[str]) -> None:
    """Sort keyword arguments by parameter where no one can tell: constants may pass, all else is evaluated as it is written."""
    rank = {name: index for index, name in enumerate(parameters)}
    ordered = sorted(call.keywords, key=lambda keyword: rank.get(str(keyword.arg), len(rank)))
    if _evaluated(ordered) == _evaluated(call.keywords):
        call.keywords = ordered


def _evaluated(keywords: list[ast.keyword]) -> list[ast.keyword]:
    return [keyword for keyword in keywords if not isinstance(keyword.value, ast.Constant)]
