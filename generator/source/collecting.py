"""What a script needs from its folder: modules that it imports, data files that it reads, and what can't be told beforehand."""

from __future__ import annotations

import ast
import importlib.machinery
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from generator.errors import InputError
from generator.inputs import read_input
from generator.source.script import READ_FILE, STUB, imports_of, parse

FILE_LIMIT = 2**24  # bytes of one carried file
# Modules that Python has imported before it runs a script: a file of such a name beside the script is never reached.
_EARLY = frozenset(sys.builtin_module_names) | {
    "__main__", "abc", "codecs", "encodings", "genericpath", "io", "ntpath", "os", "posixpath", "site", "stat", "zipimport",
}  # fmt: skip
_FOLDER_OF = frozenset({"dirname", "parent", "parents", "with_name", "joinpath"})


@dataclass(frozen=True)
class Module:
    """A module that is carried: its source, and whether it is a package."""

    source: bytes
    is_package: bool
    path: Path


@dataclass(frozen=True)
class Bundle:
    """What is carried: modules by dotted name, files by the name that `read_file` takes; and what the author should know."""

    modules: dict[str, Module] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def paths(self) -> list[Path]:
        """Where the modules lie; the data files were named by the user."""
        return [module.path for module in self.modules.values()]


def collect_bundle(
    script: Path,
    tree: ast.Module,
    include: Iterable[str | Path] = (),
    local_modules: bool = True,
    carried: Bundle | None = None,
) -> Bundle:
    """Find what a script needs from its folder.

    Args:
        script: the script's path.
        tree: its syntax tree.
        include: more to carry: Python files and package folders as modules, other files as data. Relative paths are relative to
            the current folder; a data file's name is its path relative to the script's folder, or its bare name.
        local_modules: whether to look for modules that the script imports beside it.
        carried: what a script brings along that was packed before. Then nothing is looked for beside it; what is included
            takes the place of what has the same name.

    Raises:
        InputError: a file is missing, too large or not Python; the script reads a file that is not included.
    """
    bundle = Bundle(dict(carried.modules), dict(carried.files)) if carried is not None else Bundle()
    folder = script.resolve().parent
    for item in map(Path, include):
        if item.is_dir():
            if not (item / "__init__.py").is_file():
                raise InputError(f"included folder {item} is not a package: it has no __init__.py")
            _add_package(bundle, item, item.name)
        elif item.suffix == ".py":
            _add_module(bundle, item, item.stem)
        else:
            resolved = item.resolve()
            name = resolved.relative_to(folder).as_posix() if resolved.is_relative_to(folder) else item.name
            bundle.files[name] = _read(item)
    if local_modules and carried is None:
        queue = [tree, *(parse(module.source, str(module.path)) for module in bundle.modules.values())]
        while queue:
            for name in sorted(set(imports_of(queue.pop()))):
                queue.extend(_add_local(bundle, folder, name, script))
    _check_files(tree, script, bundle)
    bundle.notes.extend(_notes(tree, bundle))
    return bundle


def _add_local(bundle: Bundle, folder: Path, name: str, script: Path) -> Iterator[ast.Module]:
    """Add the module `name` when Python would find it in the script's folder; its tree, to look further from."""
    top = name.split(".")[0]
    if top in bundle.modules or top in _EARLY or top == STUB:
        return
    before = set(bundle.modules)
    if (folder / top / "__init__.py").is_file() or _is_namespace(folder, top):
        _add_package(bundle, folder / top, top)
    elif (folder / f"{top}.py").is_file() and (folder / f"{top}.py") != script.resolve():
        _add_module(bundle, folder / f"{top}.py", top)
    for added in sorted(set(bundle.modules) - before):
        yield parse(bundle.modules[added].source, str(bundle.modules[added].path))


def _is_namespace(folder: Path, name: str) -> bool:
    """Whether a name means a folder without __init__.py beside the script (PEP 420): no such module may lie elsewhere."""
    if not any((folder / name).rglob("*.py")) or (folder / f"{name}.py").is_file():
        return False
    elsewhere = [path for path in sys.path if path and Path(path).resolve() != folder]
    found = importlib.machinery.PathFinder.find_spec(name, elsewhere)
    return name not in sys.stdlib_module_names and (found is None or found.origin is None)


def _add_package(bundle: Bundle, folder: Path, name: str) -> None:
    for path in sorted(folder.rglob("*.py")):
        names = path.relative_to(folder).with_suffix("").parts
        is_package = names[-1] == "__init__"
        dotted = ".".join([name, *(names[:-1] if is_package else names)])
        _add_module(bundle, path, dotted, is_package)
    for dotted in [*bundle.modules]:  # folders without __init__.py are packages without contents
        for end, character in enumerate(dotted):
            if character == "." and dotted.startswith(f"{name}."):
                bundle.modules.setdefault(dotted[:end], Module(b"", True, folder))


def _add_module(bundle: Bundle, path: Path, name: str, is_package: bool = False) -> None:
    source = _read(path)
    for imported in imports_of(parse(source, str(path))):
        if imported.split(".")[0] == STUB:
            raise InputError(f"module {path} imports {STUB}; only the script itself can: let it pass on what it loads")
    bundle.modules[name] = Module(source, is_package, path)


def _read(path: Path) -> bytes:
    return read_input(path, "included file", FILE_LIMIT)


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


def _notes(tree: ast.Module, bundle: Bundle) -> Iterator[str]:
    """What may be looked for beside the script when it runs, and is not carried."""
    for name in sorted(bundle.modules.keys() & sys.stdlib_module_names):
        yield f"{bundle.modules[name].path.name} takes the place of the standard module {name}, as it does for the script"
    seen = set()
    for node in ast.walk(tree):
        text = ""
        if not isinstance(node, ast.Attribute | ast.Call):
            continue
        if isinstance(node, ast.Attribute) and node.attr == "path" and getattr(node.value, "id", "") == "sys":
            text = "sys.path is used; modules that are found through it are not carried"
        elif isinstance(node, ast.Call) and _called(node) in {"import_module", "__import__"}:
            if not node.args or not isinstance(node.args[0], ast.Constant) or str(node.args[0].value).startswith("."):
                text = f"{_called(node)}() of a name that is not known beforehand; give such modules with --include"
        elif _looks_beside(node):
            text = "files are looked for beside the script; only what runtime_stub.read_file reads is carried"
        if text and text not in seen:
            seen.add(text)
            yield f"line {node.lineno}: {text}"


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""


def _looks_beside(node: ast.Attribute | ast.Call) -> bool:
    """Whether a node makes the folder of `__file__`."""
    named = node.attr if isinstance(node, ast.Attribute) else _called(node)
    return named in _FOLDER_OF and any(isinstance(inner, ast.Name) and inner.id == "__file__" for inner in ast.walk(node))
