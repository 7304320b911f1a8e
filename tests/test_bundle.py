"""Bundling: local modules are importable and data files readable in the packed script, without writing to disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from helpers import run_python

import generator
from generator.errors import InputError

MAIN = '''
"""Uses everything that can be carried."""
from __future__ import annotations
import sys
import helper
from package.inner import double, shout as loud
from package import NAME
from runtime_stub import read_file
print(helper.add(1, amount=2), double(4), loud("x"), NAME, helper.__name__, double.__module__)
print(len(read_file("model.bin")), sum(read_file("model.bin")), read_file("kernels/add.cu").decode().split()[0])
try:
    read_file("other" + ".bin")
except FileNotFoundError as error:
    print("missing", error)
import inspect
print("return" in inspect.getsource(helper.add))
'''


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "package" / "deep").mkdir(parents=True)
    (folder / "kernels").mkdir()
    (folder / "train.py").write_text(MAIN)
    (folder / "helper.py").write_text("import other\ndef add(value, amount=other.ONE):\n    return value + amount\n")
    (folder / "other.py").write_text("ONE = 1\n")
    (folder / "unused.py").write_text("raise SystemExit('never imported')\n")
    (folder / "package" / "__init__.py").write_text("NAME = 'carried'\n")
    (folder / "package" / "inner.py").write_text(
        "from .deep.most import factor\ndef double(value): return value * factor\ndef shout(text): return text.upper() + '!'\n"
    )
    (folder / "package" / "deep" / "__init__.py").write_text("")
    (folder / "package" / "deep" / "most.py").write_text("factor = 2\n")
    (folder / "model.bin").write_bytes(bytes(range(256)) * 8)
    (folder / "kernels" / "add.cu").write_text("__global__ void add(float *x) { x[0] += 1; }\n")
    return folder


def test_packed_and_unpacked_print_the_same(project: Path, tmp_path: Path) -> None:
    files = [project / "model.bin", project / "kernels" / "add.cu"]
    expected = run_python(sys.executable, project / "train.py", cwd=tmp_path, environment={"PYTHONPATH": str(Path.cwd())})
    for place in ("model.bin", "kernels/add.cu"):
        assert (project / place).exists()
    assert "carried helper package.inner" in expected
    for carrier in ("base85", "zip"):
        packed = tmp_path / carrier / "train.py"
        generator.wrap(project / "train.py", packed, carrier=carrier, include=files)
        before = sorted(packed.parent.iterdir())
        output = run_python(sys.executable, packed, cwd=Path("/"), environment={"PYTHONDONTWRITEBYTECODE": "1"})
        assert output.replace("other.bin", "").splitlines()[:2] == expected.splitlines()[:2]
        assert output.splitlines()[-1] == "True"
        assert sorted(packed.parent.iterdir()) == before
        assert "never imported" not in generator.unpack(packed).source


def test_missing_files_are_noticed_while_packing(project: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.py, line 10: reads 'model\.bin', which is not carried; add --include"):
        generator.wrap(project / "train.py", tmp_path / "x.py")
    with pytest.raises(InputError, match=r"nowhere\.bin cannot be read"):
        generator.wrap(project / "train.py", tmp_path / "x.py", include=[project / "nowhere.bin"])
    with pytest.raises(InputError, match=r"kernels is not a package"):
        generator.wrap(project / "train.py", tmp_path / "x.py", include=[project / "kernels"])


def test_bundling_can_be_left_out(golfpack, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 'SECRET'\n")
    (tmp_path / "main.py").write_text("import beside\nprint(beside.VALUE)\n")
    assert golfpack("wrap", tmp_path / "main.py", "-o", tmp_path / "a.py").status == 0
    assert "SECRET" in generator.unpack(tmp_path / "a.py").source
    assert golfpack("wrap", tmp_path / "main.py", "-o", tmp_path / "b.py", "--no-bundle").status == 0
    assert "SECRET" not in generator.unpack(tmp_path / "b.py").source


def test_modules_that_load_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.py").write_text("from runtime_stub import load_state_dict\n")
    (tmp_path / "main.py").write_text("import weights\n")
    with pytest.raises(InputError, match=r"weights\.py imports runtime_stub; only the script itself can"):
        generator.wrap(tmp_path / "main.py", tmp_path / "out.py")


def test_included_modules_need_not_be_imported_by_name(golfpack, tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text("print('plugin runs')\n")
    (tmp_path / "main.py").write_text("import importlib\nimportlib.import_module('plug' + 'in')\n")
    result = golfpack("wrap", tmp_path / "main.py", "-o", tmp_path / "dist" / "out.py", "--include", tmp_path / "plugin.py")
    assert result.status == 0
    assert run_python(sys.executable, tmp_path / "dist" / "out.py", cwd=Path("/")) == "plugin runs\n"
