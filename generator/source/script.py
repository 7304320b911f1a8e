"""The user's script: parsed, checked, and the place found where the loader goes."""

from __future__ import annotations

import ast
import io
import platform
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path

from generator.errors import InputError

STUB = "runtime_stub"
ENTRY = "load_state_dict"
IMPORT_LINE = f"from {STUB} import {ENTRY}"


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
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"script {path} does not exist") from error
    except OSError as error:
        raise InputError(f"script {path} cannot be read: {error.strerror}") from error
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
    """Turns each `from runtime_stub import load_state_dict` into a function that returns the marker name."""

    def __init__(self, marker: str):
        self.marker = marker

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        if node.module != STUB or node.level:
            return node
        name = node.names[0].asname or ENTRY
        placeholder = ast.parse(f"def {name}(): return {self.marker}").body[0]
        return ast.copy_location(placeholder, node)


def replace_imports(tree: ast.Module, marker: str) -> ast.Module:
    """Replace, in place, the imports of the loader by placeholders that `fill_placeholders` recognizes."""
    replaced: ast.Module = _ImportReplacer(marker).visit(tree)
    return ast.fix_missing_locations(replaced)


class _PlaceholderFiller(ast.NodeTransformer):
    def __init__(self, marker: str, body: list[ast.stmt]):
        self.marker = marker
        self.body = body

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        statement = node.body[0]
        if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Name) and statement.value.id == self.marker:
            node.body = self.body
        return node


def fill_placeholders(tree: ast.Module, marker: str, loader: ast.FunctionDef) -> ast.Module:
    """Give the placeholders the loader's body."""
    filled: ast.Module = _PlaceholderFiller(marker, loader.body).visit(tree)
    return ast.fix_missing_locations(filled)


def restore_import(tree: ast.Module, payload_name: str) -> tuple[ast.Module, ast.FunctionDef | None]:
    """Undo `fill_placeholders`: put the import back for the function that reads `payload_name`.

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


def identifiers(tree: ast.AST) -> set[str]:
    """Every name that occurs in the tree: variables, attributes, arguments, definitions, imports."""
    found = set()
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name", "asname", "rest"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                found.update(value.split("."))
        if isinstance(node, ast.Global | ast.Nonlocal):
            found.update(node.names)
    return found


def _find_imports(tree: ast.Module, path: Path) -> int:
    """The number of loader imports; any other use of runtime_stub is an error."""
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wrong = any(alias.name.split(".")[0] == STUB for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == STUB:
            wrong = node.module != STUB or [alias.name for alias in node.names] != [ENTRY]
            count += not wrong
        else:
            continue
        if wrong:
            raise InputError(f"script {path}, line {node.lineno}: only `{IMPORT_LINE}` can be packed; write it like that")
    return count
