"""Bundling: local modules and data files that the artifact carries inside its code.

Modules are found by a finder in front of `sys.meta_path`; nothing is written to disk. Data files are what
`runtime_stub.read_file(name)` returns. Both are compressed with the rest of the code.
"""

from __future__ import annotations

import ast
import base64
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from generator.errors import InputError
from generator.source.compress import compress_lzma
from generator.source.readings import Program, read_program
from generator.source.script import READ_FILE, STUB, imports_of, parse
from generator.source.shrink import Shrinking, minify
from generator.templating import render

FILE_LIMIT = 2**24  # bytes of one bundled file


@dataclass(frozen=True)
class Module:
    """A module that is carried: its source, and whether it is a package."""

    source: bytes
    is_package: bool
    path: Path


@dataclass(frozen=True)
class Bundle:
    """What is carried: modules by dotted name, files by the name that `read_file` takes."""

    modules: dict[str, Module] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def collect_bundle(script: Path, tree: ast.Module, include: Iterable[str | Path] = (), local_modules: bool = True) -> Bundle:
    """Find what a script needs from its folder.

    Args:
        script: the script's path.
        tree: its syntax tree.
        include: more to carry: Python files and package folders as modules, other files as data. Relative paths are relative to
            the current folder; a data file's name is its path relative to the script's folder, or its bare name.
        local_modules: whether to look for modules that the script imports beside it.

    Raises:
        InputError: a file is missing, too large or not Python; the script reads a file that is not included.
    """
    bundle = Bundle()
    folder = script.resolve().parent
    for item in map(Path, include):
        if item.is_dir():
            _add_package(bundle, item, item.name)
        elif item.suffix == ".py":
            _add_module(bundle, item, item.stem)
        else:
            resolved = item.resolve()
            name = resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else item.name
            bundle.files[name] = _read(item)
    if local_modules:
        queue = [tree, *(parse(module.source, str(module.path)) for module in bundle.modules.values())]
        while queue:
            for name in sorted(set(imports_of(queue.pop()))):
                queue.extend(_add_local(bundle, folder, name, script))
    _check_files(tree, script, bundle)
    return bundle


def add_bundle(tree: ast.Module, bundle: Bundle, shrinking: Shrinking, program: Program | None = None) -> ast.Module:
    """Put the finder and the files into a script's tree, in place; `program` is what `read_whole` finds unless given."""
    program = program or read_whole(tree, bundle)
    tree = _FileReaderReplacer(bundle).visit(tree)
    if bundle.modules:
        # Other modules use these names, so they stay.
        kept = Shrinking(shrinking.skip | {"globals", "positional"}, shrinking.extra, shrinking.keep_names)
        modules = {
            name: (module.is_package, minify(parse(module.source, str(module.path)), kept, program))
            for name, module in sorted(bundle.modules.items())
        }
        finder = ast.parse(render("bundle.py.j2", modules=repr(modules))).body
        at = 0  # after the docstring and what must come first
        for index, node in enumerate(tree.body):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                at = index + 1
        if not at and ast.get_docstring(tree) is not None:
            at = 1
        tree.body[at:at] = finder
    return ast.fix_missing_locations(tree)


def read_whole(tree: ast.Module, bundle: Bundle) -> Program:
    """What a script and the modules that it carries read of themselves at run time."""
    return read_program(tree, {name: parse(module.source, str(module.path)) for name, module in sorted(bundle.modules.items())})


class _FileReaderReplacer(ast.NodeTransformer):
    """Turns the import of `read_file` into a function that holds the files."""

    def __init__(self, bundle: Bundle):
        self.bundle = bundle

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.AST]:
        if node.module != STUB or node.level or READ_FILE not in {alias.name for alias in node.names}:
            return node
        rest = [alias for alias in node.names if alias.name != READ_FILE]
        nodes: list[ast.AST] = [ast.ImportFrom(STUB, [alias], 0) for alias in rest]
        for alias in node.names:
            if alias.name == READ_FILE:
                files = {name: _file_expression(data) for name, data in sorted(self.bundle.files.items())}
                text = render("read_file.py.j2", name=alias.asname or READ_FILE, files=files)
                nodes.extend(ast.parse(text).body)
        return [ast.copy_location(new, node) for new in nodes]


def _file_expression(data: bytes) -> str:
    """Python that gives the bytes: text as it is, since it compresses with the code; other data compressed by itself."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if (text and text.isprintable()) or (text and all(c.isprintable() or c in "\n\t\r" for c in text)):
        return f"{text!r}.encode()"
    return f'lzma.decompress(base64.b85decode("{base64.b85encode(compress_lzma(data, quick=True)).decode()}"))'


def _add_local(bundle: Bundle, folder: Path, name: str, script: Path) -> Iterator[ast.Module]:
    """Add the module `name` when it lies in the script's folder; its tree, to look further from."""
    top = name.split(".")[0]
    if top in bundle.modules or top in sys.stdlib_module_names or top == STUB:
        return
    before = set(bundle.modules)
    if (folder / top / "__init__.py").is_file():
        _add_package(bundle, folder / top, top)
    elif (folder / f"{top}.py").is_file() and (folder / f"{top}.py") != script.resolve():
        _add_module(bundle, folder / f"{top}.py", top)
    for added in sorted(set(bundle.modules) - before):
        yield parse(bundle.modules[added].source, str(bundle.modules[added].path))


def _add_package(bundle: Bundle, folder: Path, name: str) -> None:
    if not (folder / "__init__.py").is_file():
        raise InputError(f"included folder {folder} is not a package: it has no __init__.py")
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        dotted = ".".join([name, *(parts[:-1] if is_package else parts)])
        _add_module(bundle, path, dotted, is_package)


def _add_module(bundle: Bundle, path: Path, name: str, is_package: bool = False) -> None:
    source = _read(path)
    for imported in imports_of(parse(source, str(path))):
        if imported.split(".")[0] == STUB:
            raise InputError(f"module {path} imports {STUB}; only the script itself can: let it pass on what it loads")
    bundle.modules[name] = Module(source, is_package, path)


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"included file {path} cannot be read: {error.strerror}") from error
    if len(data) > FILE_LIMIT:
        raise InputError(f"included file {path} has {len(data):,} bytes, more than the {FILE_LIMIT:,} that can be carried")
    return data


def _check_files(tree: ast.Module, script: Path, bundle: Bundle) -> None:
    """That each file which the script reads by a constant name is there."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == STUB
        for alias in node.names
        if alias.name == READ_FILE
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and argument.value not in bundle.files:
                raise InputError(
                    f"script {script}, line {node.lineno}: reads {argument.value!r}, which is not carried; add --include FILE"
                )
