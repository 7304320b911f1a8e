"""Bundling: local modules and data files that the artifact carries inside its program.

Modules are found by a finder in front of `sys.meta_path`; nothing is written to disk. Data files are what
`runtime_stub.read_file(name)` returns. Both are compressed with the rest of the program.
"""

from __future__ import annotations

import ast
import base64
import sys
from collections.abc import Collection

from generator.compressors import compress_lzma
from generator.source.collecting import Bundle
from generator.source.loader import import_builtins
from generator.source.positional import binding_counts
from generator.source.readings import Readings, find_readings
from generator.source.script import READ_FILE, STUB, parse
from generator.source.shrink import Shrinking, minify
from generator.templating import render


def add_bundle(tree: ast.Module, bundle: Bundle, shrinking: Shrinking, readings: Readings | None = None) -> ast.Module:
    """Put the finder and the files into a script's tree, in place; `readings` are what `readings_of` finds unless given."""
    readings = readings or readings_of(tree, bundle)
    tree = _FileReaderReplacer(bundle, binding_counts(tree).keys()).visit(tree)
    if bundle.modules:
        # Other modules use these names, so they stay.
        kept = Shrinking(shrinking.skip | {"globals", "positional"}, shrinking.extra, shrinking.keep_names)
        modules = {
            name: (module.is_package, minify(parse(module.source, str(module.path)), kept, readings))
            for name, module in sorted(bundle.modules.items())
        }
        finder = ast.parse(
            render("bundle.py.j2", modules=repr(modules), replaced=sorted(modules.keys() & sys.stdlib_module_names))
        ).body
        at = 0  # after the docstring and what must come first
        for index, node in enumerate(tree.body):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                at = index + 1
        if not at and ast.get_docstring(tree) is not None:
            at = 1
        tree.body[at:at] = finder
    return ast.fix_missing_locations(tree)


def readings_of(tree: ast.Module, bundle: Bundle) -> Readings:
    """What a script and the modules that it carries read of themselves at run time."""
    modules = {name: parse(module.source, str(module.path)) for name, module in sorted(bundle.modules.items())}
    return find_readings(tree, modules)


class _FileReaderReplacer(ast.NodeTransformer):
    """Turns the import of `read_file` into a function that holds the files."""

    def __init__(self, bundle: Bundle, bound: Collection[str]):
        self.bundle = bundle
        self.bound = bound

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.AST]:
        if node.module != STUB or node.level or READ_FILE not in {alias.name for alias in node.names}:
            return node
        rest = [alias for alias in node.names if alias.name != READ_FILE]
        nodes: list[ast.AST] = [ast.ImportFrom(STUB, [alias], 0) for alias in rest]
        for alias in node.names:
            if alias.name == READ_FILE:
                files = {name: _file_expression(data) for name, data in sorted(self.bundle.files.items())}
                text = render("read_file.py.j2", name=alias.asname or READ_FILE, files=files)
                nodes.extend(
                    import_builtins(node, self.bound) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)
                )
        return [ast.copy_location(new, node) for new in nodes]


def _file_expression(data: bytes) -> str:
    """Python that gives the bytes: text as it is, since it compresses with the program; other data compressed by itself."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    if (text and text.isprintable()) or (text and all(c.isprintable() or c in "\n\t\r" for c in text)):
        return f"{text!r}.encode()"
    return f'lzma.decompress(base64.b85decode("{base64.b85encode(compress_lzma(data, quick=True)).decode()}"))'
