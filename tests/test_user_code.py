"""Functions named MODULE:FUNCTION: found without harm to other modules; whatever fails in them is one sentence."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from generator.errors import InputError
from generator.user_code import call, load_function, name_of


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports of one test are not seen by the next."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield
    for name in ("m", "of_m", "golfpack_user_m"):
        sys.modules.pop(name, None)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize("stem", ["statistics", "random", "json", "torch", "generator", "numpy"])
def test_a_file_named_like_a_module_replaces_none(tmp_path: Path, stem: str) -> None:
    known = sys.modules.get(stem)
    write(tmp_path, **{stem: "def f(x):\n    return __name__\n"})
    assert load_function(f"{tmp_path / stem}.py:f")(0) == f"golfpack_user_{stem}"
    assert sys.modules.get(stem) is known
    assert statistics.mean([1, 3]) == 2
    assert 0 <= random.random() < 1


def test_neighbours_are_imported_but_not_in_place_of_standard_modules(tmp_path: Path) -> None:
    """In a process of its own, where no module that matters is loaded yet."""
    write(
        tmp_path / "project",
        metric="import helper_of_the_metric as h, wave, this_is_packaged.inner\n\n\ndef f(x):\n    return wave.__file__, h.y\n",
        helper_of_the_metric="import antigravity_of_mine\ny = 5\n",
        antigravity_of_mine="",
        wave="raise SystemError('imported in place of the standard module')\n",
    )
    write(tmp_path / "project" / "this_is_packaged", __init__="", inner="")
    code = (
        "from generator.user_code import load_function\n"
        f"file, y = load_function({str(tmp_path / 'project' / 'metric.py')!r} + ':f')(0)\n"
        "print(file, y)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment).stdout
    assert "project" not in out
    assert out.strip().endswith("wave.py 5")


MISTAKES = {
    "no colon": ("metric", {}, "'metric' does not name a function"),
    "no function": ("metric.py:", {}, "does not name a function"),
    "no module": (":f", {}, "does not name a function"),
    "no file": ("nowhere.py:f", {}, "module nowhere.py does not exist"),
    "relative": ("..a:f", {}, "can't be imported: "),
    "spaces": ("no such module:f", {}, "can't be imported: ModuleNotFoundError: No module named 'no such module'"),
    "missing": ("m.py:g", {"m": "f = 1\n"}, "m.py has no function 'g'"),
    "not a function": ("m.py:f", {"m": "f = 1\n"}, "m.py has no function 'f'"),
    "syntax error": ("m.py:f", {"m": "def f(:\n"}, r"m.py can't be imported: SyntaxError: .*\(m.py, line 1\)"),
    "NUL": ("m.py:f", {"m": "\0"}, "m.py can't be imported: (SyntaxError|ValueError): "),
    "import error": (
        "m.py:f",
        {"m": "\nimport nowhere_at_all\n"},
        r"can't be imported: ModuleNotFoundError: .*\(m.py, line 2\)",
    ),
    "any error": ("m.py:f", {"m": "1 / 0\n"}, r"can't be imported: ZeroDivisionError: division by zero \(m.py, line 1\)"),
    "a neighbour's error": ("m.py:f", {"m": "import of_m\n", "of_m": "\n[][1]\n"}, r"IndexError: .*\(of_m.py, line 2\)"),
    "exit": ("m.py:f", {"m": "raise SystemExit(0)\n"}, r"m.py can't be imported: SystemExit: 0 \(m.py, line 1\)"),
    "arguments": (
        "m.py:f",
        {"m": "import argparse\nargparse.ArgumentParser().parse_args(['-x'])\n"},
        "can't be imported: SystemExit",
    ),
    "long message": (
        "m.py:f",
        {"m": "raise ValueError('a\\nb' * 999)\n"},
        r"can't be imported: ValueError: a \(m.py, line 1\)$",
    ),
    "escape codes": ("m.py:f", {"m": "raise ValueError('\\x1b[2J')\n"}, r"can't be imported: ValueError: \\x1b\[2J \(m.py"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str) -> None:
    where, files, message = MISTAKES[name]
    write(tmp_path, **files)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as error:
        load_function(where)
    assert str(error.value).isprintable()
    assert "m" not in sys.modules or "has no function" in message


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.py")
    with pytest.raises(InputError, match="is a pipe, not a file"):
        load_function(f"{tmp_path / 'm.py'}:f")


def test_calls() -> None:
    assert call("it fails", max, 1, 2) == 2
    with pytest.raises(InputError, match="it fails: KeyError: 'x'"):
        call("it fails", lambda: {}["x"])
    with pytest.raises(InputError, match="mine"):
        call("it fails", fails_with, InputError("mine"))
    for passed_on in (MemoryError, KeyboardInterrupt):
        with pytest.raises(passed_on):
            call("it fails", fails_with, passed_on())


def fails_with(error: BaseException) -> None:
    raise error


def test_names_of_functions() -> None:
    assert name_of(fails_with) == f"{__name__}:fails_with"
    assert name_of(max) == "builtins:max"
    assert name_of(type("Metric", (), {"__call__": lambda self: 0, "__module__": "mine"})()) == "mine:Metric"
