"""Packed files as scripts: packed again, with other weights, in other carriers, with what they carry."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
import torch
from helpers import run_python

import generator
from generator.audit.packed_script import open_script
from generator.carriers import REGISTRY
from generator.errors import CheckError, InputError

SCRIPT = '''
"""Prints what it loads."""
import sys
import helper
from runtime_stub import load_state_dict, read_file as contents
import argparse

def report(state_dict, scale_of_all=1):
    for name, tensor in sorted(state_dict.items()):
        print(name, tuple(tensor.shape), helper.total(tensor) * scale_of_all)

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=int, default=1)
    report(load_state_dict(), scale_of_all=parser.parse_args().scale)
    print(contents("words.txt").decode(), contents("noise.bin")[:3], helper.__name__)
'''
RECIPE = {"rule": [{"pattern": "*", "quantizer": "keep"}]}
OLD = {"weight": torch.arange(12.0).reshape(3, 4)}
NEW = {"weight": torch.arange(12.0).reshape(3, 4) * 2, "bias": torch.ones(5, dtype=torch.bfloat16)}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("import other\ndef total(tensor):\n    return other.ONE * tensor.sum().item()\n")
    (folder / "other.py").write_text("ONE = 1\n")
    (folder / "words.txt").write_text("carried words")
    (folder / "noise.bin").write_bytes(bytes(range(256)))
    return folder


def pack(project: Path, carrier: str = "base85", **options) -> Path:
    packed = project.parent / carrier / "packed.py"
    files = [project / "words.txt", project / "noise.bin"]
    generator.build(project / "train.py", OLD, packed, recipe=RECIPE, include=files, carrier=carrier, **options)
    return packed


@pytest.mark.parametrize("carrier", REGISTRY)
@pytest.mark.parametrize("header", [True, False])
def test_new_weights_take_the_place_of_the_old(project: Path, carrier: str, header: bool) -> None:
    packed = pack(project, carrier, header=header)
    old = packed.read_bytes()
    again = packed.parent / "again" / "train.py"
    inspection = generator.build(packed, NEW, again, recipe=RECIPE, carrier=carrier, header=header)
    assert packed.read_bytes() == old
    direct = project / "direct.py"
    files = [project / "words.txt", project / "noise.bin"]
    generator.build(project / "train.py", NEW, direct, recipe=RECIPE, include=files, carrier=carrier, header=header)
    assert generator.unpack(again).state_dict.keys() == NEW.keys()
    assert generator.unpack(again).carried == generator.unpack(packed).carried == generator.unpack(direct).carried
    assert abs(inspection.size - generator.inspect(direct).size) < 60  # names fall otherwise
    expected = run_python(sys.executable, direct, "--scale", "3", cwd=project)
    assert "weight (3, 4) 396.0" in expected
    assert run_python(sys.executable, again, "--scale", "3", cwd=Path("/")) == expected


def test_packing_again_and_again_changes_nothing_but_names(project: Path) -> None:
    packed = pack(project)
    sources = []
    for number in range(3):
        again = packed.with_name(f"again{number}.py")
        generator.build(packed, OLD, again, recipe=RECIPE)
        sources.append(generator.unpack(again).source)
        packed = again
    trees = [ast.parse(source) for source in sources]
    assert len({sum(1 for _ in ast.walk(tree)) for tree in trees}) == 1
    assert len({generator.inspect(packed.with_name(f"again{number}.py")).program_bytes for number in range(3)}) == 1


def test_what_is_beside_a_packed_file_is_not_taken_along(project: Path) -> None:
    packed = pack(project)
    (packed.parent / "argparse.py").write_text("raise SystemExit('not this one')\n")
    (packed.parent / "other.py").write_text("ONE = 100\n")
    again = packed.parent / "again" / "train.py"
    generator.build(packed, OLD, again, recipe=RECIPE)
    assert "weight (3, 4) 66.0" in run_python(sys.executable, again, cwd=project)
    replacing = packed.parent / "replacing" / "train.py"
    generator.build(packed, OLD, replacing, recipe=RECIPE, include=[packed.parent / "other.py"])
    assert "weight (3, 4) 6600.0" in run_python(sys.executable, replacing, cwd=project)


def test_a_packed_script_is_checked_like_any_other(project: Path) -> None:
    packed = pack(project)
    again = packed.with_name("again.py")
    inspection = generator.build(packed, NEW, again, recipe=RECIPE, check=generator.RunCheck(("--scale", "2")))
    assert any("does the same as the script" in note for note in inspection.notes)


def test_a_wrapped_script_is_wrapped_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("def double_it(value):\n    return value * 2\nprint(double_it(21))\n")
    generator.wrap(script, tmp_path / "once.py")
    generator.wrap(tmp_path / "once.py", tmp_path / "twice.py", check=generator.RunCheck())
    assert run_python(sys.executable, tmp_path / "twice.py", cwd=tmp_path) == "42\n"
    assert (tmp_path / "twice.py").stat().st_size == (tmp_path / "once.py").stat().st_size
    with pytest.raises(InputError, match=r"once\.py never loads its weights; add"):
        generator.build(tmp_path / "once.py", OLD, tmp_path / "no.py")


def test_what_can_not_be_packed_again_is_refused(project: Path) -> None:
    packed = pack(project)
    with pytest.raises(InputError, match=r"loads weights; pack it with golfpack build"):
        generator.wrap(packed, project / "no.py")
    with pytest.raises(InputError, match="is an input, too"):
        generator.build(packed, NEW, packed, recipe=RECIPE)
    damaged = project / "damaged.py"
    damaged.write_bytes(packed.read_bytes().replace(b"golfpack", b"golfpacc", 1))
    with pytest.raises(InputError, match=r"damaged\.py"):
        generator.build(damaged, NEW, project / "no.py", recipe=RECIPE)
    assert not (project / "no.py").exists()


def test_a_payload_is_no_script(tmp_path: Path) -> None:
    generator.encode(OLD, tmp_path / "model.gpk", recipe=RECIPE)
    with pytest.raises(InputError, match=r"model\.gpk"):
        open_script(tmp_path / "model.gpk")


def test_check_notices_what_differs(project: Path) -> None:
    """The unpacked script is what runs on the one side, and the packed one on the other."""
    packed = pack(project)
    again = packed.with_name("again.py")
    generator.build(packed, NEW, again, recipe=RECIPE)
    with pytest.raises(CheckError, match="does something else"):
        generator.check(packed, again, payload=generator.encode_state_dict(OLD, RECIPE))
