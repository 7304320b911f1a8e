"""The modules and data files that an artifact carries, taken out of its program without executing it.

`generator.source.bundle` put them there: modules as a dictionary that is given to the finder, files as the values that
`read_file` returns. Names come from the artifact, so they are checked before anyone makes paths of them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from generator.audit.bounded_decoders import RefusedError
from generator.audit.literals import Evaluator
from generator.errors import InputError
from generator.source.collecting import Bundle, Module
from generator.source.script import READ_FILE, STUB, identifiers

_FINDER = frozenset({"meta_path", "ExecutionLoader", "spec_from_loader", "get_source"})
_NAME_LIMIT = 200  # bytes of one part of a path; what file systems take, less what a temporary file's name adds
_PATH_LIMIT = 1000  # characters


def carried_files(tree: ast.Module) -> dict[str, bytes]:
    """What is carried, by path relative to the script's folder: `package/module.py`, `kernels/add.cu`.

    Raises:
        InputError: a name is no relative path below that folder, or occurs twice; the values can't be had without running code.
    """
    found: dict[str, bytes] = {}
    try:
        modules = [(_place(name, is_package), source.encode()) for name, is_package, source in _modules(tree)]
        for name, data in [*modules, *_data_files(tree)]:
            _add(found, name, data)
    except RefusedError as error:
        raise InputError(f"what the artifact carries can't be read: {error}") from error
    folders = {folder.as_posix().casefold() for name in found for folder in PurePosixPath(name).parents}
    for name in found:
        if name.casefold() in folders:
            raise InputError(f"the artifact carries {name!r} as a file and as a folder")
    return found


def restore_bundle(tree: ast.Module, path: Path) -> tuple[ast.Module, Bundle]:
    """Undo `generator.source.bundle.add_bundle`: the script without what it carries, and that.

    Args:
        tree: of an artifact whose `carried_files` could be read; changed in place.
        path: the artifact.
    """
    modules = {
        name: Module(source.encode(), is_package, path / _place(name, is_package))
        for name, is_package, source in _modules(tree)
    }
    files = dict(_data_files(tree))
    finders = _finders(tree)
    tree.body = [node for node in tree.body if node.__dict__.get("name") not in finders and _given_to(node, finders) is None]
    return ast.fix_missing_locations(_ReaderRestorer().visit(tree)), Bundle(modules, files)


class _ReaderRestorer(ast.NodeTransformer):
    """Puts back the import of `read_file` for the functions that hold the files."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if _returns(node) is None:
            return self.generic_visit(node)
        return ast.ImportFrom(STUB, [ast.alias(READ_FILE, node.name if node.name != READ_FILE else None)], 0)


def _add(found: dict[str, bytes], name: str, data: bytes) -> None:
    path = PureWindowsPath(name)  # knows both separators, and drives
    folders = name.split("/")
    if (
        path.drive
        or "\\" in name
        or not name.isprintable()
        or len(name) > _PATH_LIMIT
        or any(part in {"", ".", ".."} or len(part.encode(errors="replace")) > _NAME_LIMIT for part in folders)
    ):
        raise InputError(f"the artifact carries a file named {name[:_PATH_LIMIT]!r}, which is no path below its folder")
    if name.casefold() in {known.casefold() for known in found}:
        raise InputError(f"the artifact carries {name!r} twice")
    found[name] = data


def _place(module: str, is_package: bool) -> str:
    """Where a module lies, relative to the script's folder."""
    return module.replace(".", "/") + ("/__init__.py" if is_package else ".py")


def _finders(tree: ast.Module) -> set[str]:
    """Names of the functions that make modules importable: one, where there are any."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and identifiers(node) >= _FINDER}


def _given_to(node: ast.stmt, finders: set[str]) -> ast.expr | None:
    """The argument of a call of a finder; None for another statement."""
    call = node.value if isinstance(node, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in finders:
        return None
    return call.args[0] if call.args else call


def _modules(tree: ast.Module) -> Iterator[tuple[str, bool, str]]:
    """Dotted name, whether it is a package, and source of each module that the module-level call of the finder is given."""
    finders = _finders(tree)
    evaluator = _evaluator(tree.body)
    for node in tree.body:
        modules = _given_to(node, finders)
        if modules is None:
            continue
        if not isinstance(modules, ast.Dict):
            raise RefusedError(f"line {node.lineno}: the modules are not given as a dictionary")
        for key, value in zip(modules.keys, modules.values, strict=True):
            name = evaluator.evaluate(key) if key else None
            module = evaluator.evaluate(value)
            if (
                not isinstance(name, str)
                or not isinstance(module, list)
                or [*map(type, module)] not in ([bool, str], [int, str])
            ):
                raise RefusedError(f"line {value.lineno}: not a module's name and source")
            is_package, source = module
            yield name, bool(is_package), source


def _data_files(tree: ast.AST, outer: tuple[ast.stmt, ...] = ()) -> Iterator[tuple[str, bytes]]:
    """What the functions return that have the form of templates/read_file.py.j2."""
    body = getattr(tree, "body", None)
    scope = (*outer, *body) if isinstance(tree, ast.Module | ast.FunctionDef) and isinstance(body, list) else outer
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and (returns := _returns(node)) is not None:
            evaluator = _evaluator([*scope, *node.body])
            for name, value in returns:
                file, data = evaluator.evaluate(name), evaluator.evaluate(value)
                if not isinstance(file, str) or not isinstance(data, bytes):
                    raise RefusedError(f"line {value.lineno}: not a file's name and contents")
                yield file, data
        else:
            yield from _data_files(node, scope)


def _returns(function: ast.FunctionDef) -> list[tuple[ast.expr, ast.expr]] | None:
    """Name and contents as they stand in the function; None where it is another function."""
    body = [node for node in function.body if not isinstance(node, ast.Assign)]  # literals that were hoisted
    if len(function.args.args) != 1 or not body or not isinstance(body[-1], ast.Raise):
        return None
    imported = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
    if imported != {"base64", "lzma"} or "FileNotFoundError" not in identifiers(body[-1]):
        return None
    parameter = function.args.args[0].arg
    found = []
    for node in body[:-1]:
        if isinstance(node, ast.Import):
            continue
        test = node.test if isinstance(node, ast.If) else None
        returned = node.body[0] if isinstance(node, ast.If) and len(node.body) == 1 and not node.orelse else None
        if not isinstance(test, ast.Compare) or not isinstance(returned, ast.Return) or returned.value is None:
            return None
        if not isinstance(test.left, ast.Name) or test.left.id != parameter or not isinstance(test.ops[0], ast.Eq):
            return None
        found.append((test.comparators[0], returned.value))
    return found


def _evaluator(statements: Iterable[ast.stmt]) -> Evaluator:
    """An evaluator that knows the names which statements import and assign; literals may stand there, under a name."""
    evaluator = Evaluator(b"")
    for statement in statements:
        evaluator.note(statement)
    return evaluator
