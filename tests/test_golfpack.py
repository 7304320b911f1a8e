"""The public package: what it exports, and that asking for help does not import torch."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path

import pytest
from helpers import run_python

import generator
import golfpack
from generator.version import __version__

ROOT = Path(golfpack.__file__).parent.parent


def test_it_is_the_api_of_generator() -> None:
    assert golfpack.__all__ == generator.__all__
    for name in golfpack.__all__:
        assert getattr(golfpack, name) is getattr(generator, name)
    assert {*golfpack.__all__} <= {*dir(golfpack)} & {*dir(generator)}
    assert (ROOT / "golfpack" / "py.typed").exists()
    for module in (golfpack, generator):
        with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'nothing'"):
            module.nothing  # noqa: B018


def test_every_name_in_the_homes_is_exported() -> None:
    assert {*generator._HOMES, "__version__"} == {*generator.__all__}


def test_doctest() -> None:
    assert doctest.testmod(golfpack) == (0, 3)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["build", "--help"], ["fit", "--help"]])
def test_help_takes_no_torch(tmp_path: Path, arguments: list[str]) -> None:
    program = (
        f"import runpy, sys\nsys.argv = ['golfpack', *{arguments}]\n"
        "try:\n    runpy.run_module('golfpack', run_name='__main__')\nexcept SystemExit as error:\n    status = error.code\n"
        "print(status, 'torch' in sys.modules)\n"
    )
    environment = {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    output = run_python(sys.executable, "-c", program, cwd=tmp_path, environment=environment)
    assert output.splitlines()[-1] == "0 False"
    assert "--help" in output or __version__ in output
