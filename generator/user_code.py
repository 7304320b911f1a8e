"""Functions of the user's, named MODULE:FUNCTION: found, imported and called; what goes wrong in them is one sentence.

By `importlib` rather than by what stands on it: `pkgutil.resolve_name` takes no files, and its error for a name that is none
says nothing of modules; `runpy.run_path` leaves no module in `sys.modules`, which dataclasses and pickles of the file's own
classes look up there. And both would import a neighbour `statistics.py` in place of the standard module.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from generator.errors import GolfpackError, InputError
from generator.inputs import regular_file
from generator.visible import first_line


class _StandardFirst:
    """Finds modules of the standard library in their place, whatever the folders of the user's files hold.

    A file `statistics.py` or `random.py` beside the user's own is not what others mean by these names.
    """

    folders: tuple[str, ...] = ()

    @classmethod
    def find_spec(cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is not None or name.partition(".")[0] not in sys.stdlib_module_names:
            return None
        return PathFinder.find_spec(name, [entry for entry in sys.path if entry not in cls.folders], target)

    @classmethod
    def add_folder(cls, folder: str) -> None:
        """Let modules of a folder be imported, after those of the standard library."""
        if cls not in sys.meta_path:
            sys.meta_path.insert(0, cls)
        cls.folders += (folder,)
        sys.path.insert(0, folder)


def load_function(where: str) -> Callable[..., Any]:
    """The function that MODULE:FUNCTION names; MODULE is importable, or the path of a .py file.

    A file may import its neighbours. Neither it nor they take the place of a module of the standard library, or of one that
    is loaded already.

    Raises:
        InputError: there is no such module or function, or importing it fails; the message has the cause and its line.
    """
    module_name, _, function_name = where.rpartition(":")
    if not module_name or not function_name:
        raise InputError(f"{where!r} does not name a function; write MODULE:FUNCTION or path/to/file.py:FUNCTION")
    if module_name.endswith(".py"):
        path = regular_file(module_name, "module").resolve()
        module = call(f"{module_name} can't be imported", _import_file, path)
    else:
        _StandardFirst.add_folder("")
        module = call(f"{module_name} can't be imported", importlib.import_module, module_name)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise InputError(f"{module_name} has no function {function_name!r}")
    result: Callable[..., Any] = function
    return result


def call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call something of the user's.

    Args:
        what: what it means if this fails: "metric.py can't be imported".

    Raises:
        InputError: it failed, or wanted to end the program; the message has the cause and its line.
    """
    try:
        return function(*arguments)
    except (GolfpackError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{what}: {_cause(error)}") from error


def name_of(function: Callable[..., Any]) -> str:
    """MODULE:FUNCTION of a function, for messages."""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', None) or type(function).__module__}:{name}"


def _import_file(path: Path) -> ModuleType:
    known = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    name = f"golfpack_user_{path.stem}" if known else path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} can't be imported")
    module = importlib.util.module_from_spec(spec)
    _StandardFirst.add_folder(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _cause(error: BaseException) -> str:
    """The error, and the last line of the user's own that led to it."""
    kind = type(error).__name__
    message = first_line(error)
    text = kind if message == kind else f"{kind}: {message}"
    ours = Path(__file__).parent
    libraries = {Path(sysconfig.get_path(key)) for key in ("stdlib", "purelib", "platlib")}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    places = [(Path(frame.filename), frame.lineno) for frame in frames if ours not in Path(frame.filename).parents]
    users = [(path, line) for path, line in places if not libraries.intersection(path.parents)]
    if users and not isinstance(error, SyntaxError):
        path, line = users[-1]
        text += f" ({path.name}, line {line})"
    return text
