"""The user's script: parsed, checked, and the place found where the loader goes."""

from __future__ import annotations

import ast
import copy
import io
import itertools
import platform
import tokenize
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from generator.errors import InputError
from generator.inputs import read_input
from generator.source.tokens import check_tokens

STUB = "runtime_stub"
ENTRY = "load_state_dict"
READ_FILE = "read_file"
IMPORT_LINE = f"from {STUB} import {ENTRY}"
SCRIPT_LIMIT = 2**24  # bytes
# Where these occur, names may come to be that do not stand in the tree.
_MAKES_NAMES = frozenset({"exec", "eval", "globals", "vars", "setattr", "__dict__", "__globals__"})


@dataclass(frozen=True)
class Script:
    """A parsed script and whether it asks for weights."""

    path: Path
    tree: ast.Module
    size: int  # bytes of the file
    loads_weights: bool


def read_script(path: str | Path) -> Script:
    """Read and parse a script; nothing is executed.

    Raises:
        InputError: the file is missing, is not Python that this interpreter can parse, or uses `runtime_stub` in a way that
            can't be replaced.
    """
    path = Path(path)
    data = read_input(path, "script", SCRIPT_LIMIT)
    try:
        check_tokens(data.decode("latin-1"))
    except InputError as error:
        raise InputError(f"script {path} is too large to pack, since nobody could read it back: {error}") from error
    tree = parse(data, str(path))
    return Script(path, tree, len(data), _find_imports(tree, path) > 0)


def parse(data: bytes, where: str) -> ast.Module:
    """Parse Python source, honouring its encoding declaration.

    Raises:
        InputError: it has a syntax error, or a grammar newer than this interpreter's.
    """
    version = platform.python_version()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the user's strings are the user's affair
            return ast.parse(text, where)
    except SyntaxError as error:
        raise InputError(
            f"script {where}, line {error.lineno}: {error.msg} (Python {version}); if it is written for a newer Python, "
            "run golfpack with that one"
        ) from error
    except (UnicodeDecodeError, ValueError, LookupError) as error:
        raise InputError(f"script {where} is not Python source text: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise InputError(f"script {where} is nested too deeply for Python {version} to parse") from error


class _ImportReplacer(ast.NodeTransformer):
    """Turns each `from runtime_stub import load_state_dict` into the loader's definition."""

    def __init__(self, loader: ast.FunctionDef):
        self.loader = loader

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module != STUB or node.level or node.names[0].name != ENTRY:
            return node
        definition = copy.deepcopy(self.loader)
        definition.name = node.names[0].asname or ENTRY
        return ast.copy_location(definition, node)


def replace_imports(tree: ast.Module, loader: ast.FunctionDef) -> ast.Module:
    """Put the loader, in place, where the script imports it."""
    replaced: ast.Module = _ImportReplacer(loader).visit(tree)
    return ast.fix_missing_locations(replaced)


def restore_import(tree: ast.Module, payload_name: str) -> tuple[ast.Module, ast.FunctionDef | None]:
    """Undo `replace_imports`: put the import back for the function that reads `payload_name`.

    Returns:
        The script as its author would run it, and the loader that was taken out (None when there is none).
    """
    found: list[ast.FunctionDef] = []

    class Restorer(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            # Innermost first: the loader is the smallest function that mentions the payload and takes no argument.
            inner = len(found)
            self.generic_visit(node)
            if len(found) > inner or ast.dump(node.args) != ast.dump(_NO_ARGUMENTS) or payload_name not in identifiers(node):
                return node
            found.append(node)
            alias = ast.alias(ENTRY, node.name if node.name != ENTRY else None)
            return ast.ImportFrom(STUB, [alias], 0)

    restored = ast.fix_missing_locations(Restorer().visit(tree))
    return restored, found[0] if found else None


_NO_ARGUMENTS = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the modules that are imported, by statement or by a call with the name; relative imports left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            name = node.args[0].value
            if named in {"import_module", "__import__"} and isinstance(name, str) and not name.startswith("."):
                yield name


def identifiers(tree: ast.AST, read: str = "") -> set[str]:
    """Every name that occurs in the tree: variables, attributes, arguments, definitions, imports.

    Args:
        tree: any.
        read: a variable that does not count where its value is read.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == read and isinstance(node.ctx, ast.Load):
            continue
        for field in ("id", "attr", "arg", "name", "asname", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.update(value.split("."))
        if isinstance(node, ast.Global | ast.Nonlocal):
            found.update(node.names)
    return found


def free_names(tree: ast.Module, payload_name: str = "") -> tuple[str, str, str]:
    """Three global names that occur nowhere in a program: for the payload, the program itself, and whatever comes between.

    They are short, upper case first since locals are shortened to those last. Where a program may make names that do not
    stand in it, the payload's, which is read after the program has begun, is one that nobody makes.

    Args:
        tree: the program.
        payload_name: the first of them, where the program is one that already refers to it; nothing in it may bind that.
    """
    taken = identifiers(tree, read=payload_name)
    stars = any(isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree))
    single = [chr(code) for code in range(ord("Z"), ord("A") - 1, -1)]
    candidates = ("".join(letters) for length in itertools.count(1) for letters in itertools.product(single, repeat=length))
    first, second, third = itertools.islice((name for name in candidates if name not in taken), 3)
    return unused_name("golfpack_file", taken) if stars or taken & _MAKES_NAMES else first, second, third


def unused_name(stem: str, taken: Collection[str]) -> str:
    """A name that begins with `stem` and is not among those taken."""
    return next(name for name in itertools.chain([stem], (f"{stem}_{n}" for n in itertools.count())) if name not in taken)


class _Substituter(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, ast.expr]):
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        value = self.values.get(node.id)
        return ast.copy_location(copy.deepcopy(value), node) if value is not None else node


def substitute(tree: ast.Module, values: Mapping[str, ast.expr]) -> ast.Module:
    """Put expressions, in place, where names stand; strings that happen to look like those names stay as they are."""
    substituted: ast.Module = _Substituter(values).visit(tree)
    return ast.fix_missing_locations(substituted)


def _find_imports(tree: ast.Module, path: Path) -> int:
    """The number of loader imports; any other use of runtime_stub is an error."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wrong = any(alias.name.split(".")[0] == STUB for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == STUB:
            names = [alias.name for alias in node.names]
            wrong = node.module != STUB or not set(names) <= {ENTRY, READ_FILE} or len(set(names)) < len(names)
            count += ENTRY in names
        else:
            continue
        if wrong:
            raise InputError(
                f"script {path}, line {node.lineno}: only `{IMPORT_LINE}` can be packed (and {READ_FILE}); write it like that"
            )
    return count
