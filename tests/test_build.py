"""The main job through the Python API: build, inspect, unpack, verify."""

from __future__ import annotations

import ast
import doctest
import io
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import run_python
from rich.console import Console
from safetensors.torch import load_file, save_file

import generator
from generator import BudgetError, InputError
from generator.carriers import REGISTRY, Cargo
from generator.cli.tables import print_tensors
from generator.defaults import BUDGET
from generator.payload import same_bits


@pytest.fixture
def artifact(tmp_path: Path, script: Path, checkpoint: Path) -> Path:
    path = tmp_path / "dist" / "train_gpt.py"
    generator.build(script, checkpoint, path)
    return path


def test_parts_add_up_to_the_file(artifact: Path) -> None:
    inspection = generator.inspect(artifact)
    assert sum(part.bytes for part in inspection.parts) == inspection.size == artifact.stat().st_size
    payload = sum(part.bytes for part in inspection.parts if part.name.startswith("payload"))
    assert inspection.wrapper_bytes == inspection.size - payload
    assert all(part.bytes > 0 for part in inspection.parts)
    assert inspection.requires == ["numpy", "torch"]


def test_tensors_are_listed_with_their_cost(artifact: Path, state_dict: dict[str, torch.Tensor]) -> None:
    inspection = generator.inspect(artifact)
    listed = {name for tensor in inspection.tensors for name in tensor.names}
    assert listed == set(state_dict)
    by_name = {tensor.names[0]: tensor for tensor in inspection.tensors}
    assert by_name["blocks.1.weight"].quantizer == "int6"
    assert by_name["embed.weight"].quantizer == "int8"
    assert set(by_name["embed.weight"].names) == {"embed.weight", "lm_head.weight"}
    streams = sum(part.bytes for part in inspection.parts if part.name.endswith("streams"))
    assert abs(sum(tensor.bytes for tensor in inspection.tensors) - streams) <= len(inspection.tensors)


def test_artifact_is_ascii_python_that_parses(artifact: Path) -> None:
    text = artifact.read_bytes().decode("ascii")
    ast.parse(text)
    assert text.startswith("# golfpack ")
    assert len(text.split("\n", 1)[0]) <= 200


def test_header_can_be_switched_off(tmp_path: Path, script: Path, checkpoint: Path) -> None:
    inspection = generator.build(script, checkpoint, tmp_path / "out.py", header=False)
    assert inspection.header == ""
    assert (tmp_path / "out.py").read_text().startswith("import ")


def test_two_builds_are_byte_identical(
    tmp_path: Path, script: Path, checkpoint: Path, state_dict: dict[str, torch.Tensor]
) -> None:
    generator.build(script, checkpoint, tmp_path / "a.py")
    generator.build(script, checkpoint, tmp_path / "b.py")
    assert (tmp_path / "a.py").read_bytes() == (tmp_path / "b.py").read_bytes()


def test_state_dicts_in_memory_and_non_contiguous_tensors(tmp_path: Path, script: Path) -> None:
    weights = {
        "turned": torch.randn(80, 70).T,
        "strided": torch.randn(10, 200)[::2, ::3],
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 4),
    }
    generator.build(script, weights, tmp_path / "out.py")
    loaded = generator.unpack(tmp_path / "out.py").state_dict
    assert {name: tensor.shape for name, tensor in loaded.items()} == {name: tensor.shape for name, tensor in weights.items()}
    assert loaded["scalar"].item() == 2.5


def test_nested_state_dicts_in_memory(tmp_path: Path, script: Path) -> None:
    nested = {"model": {"ema": {"w": torch.ones(3)}}, "step": 5}
    generator.build(script, nested, tmp_path / "out.py", key="model.ema")
    assert generator.unpack(tmp_path / "out.py").state_dict.keys() == {"w"}
    with pytest.raises(InputError, match="the state dict has no key 'optimizer'"):
        generator.build(script, nested, tmp_path / "out.py", key="optimizer")


def test_same_bits_of_odd_strides() -> None:
    one = torch.arange(4.0)[::2][1:]
    assert same_bits(one, torch.tensor([2.0]))
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))


def test_unpack_gives_weights_and_runnable_source(tmp_path: Path, artifact: Path, bare_python: Path) -> None:
    unpacked = generator.unpack(artifact, tmp_path / "unpacked")
    assert sorted(path.name for path in unpacked.files) == ["loader.py", "payload.gpk", "source.py", "weights.safetensors"]
    saved = load_file(tmp_path / "unpacked" / "weights.safetensors")
    assert saved.keys() == unpacked.state_dict.keys()
    assert all(same_bits(saved[name], tensor) for name, tensor in unpacked.state_dict.items())
    source = (tmp_path / "unpacked" / "source.py").read_text()
    assert "from runtime_stub import load_state_dict" in source
    assert "hashlib" in source


def test_verify_passes_on_a_good_artifact(artifact: Path, checkpoint: Path) -> None:
    verification = generator.verify(artifact, budget=BUDGET, run=True, against=checkpoint)
    assert verification.passed, verification
    assert [check.name for check in verification.checks] == ["intact", "budget", "against", "loader", "run"]
    assert "embed.weight" in verification.output


def test_verify_notices_another_checkpoint(tmp_path: Path, artifact: Path, state_dict: dict[str, torch.Tensor]) -> None:
    def against(changed: dict[str, torch.Tensor]) -> str:
        path = tmp_path / "other.safetensors"
        save_file({name: tensor.clone() for name, tensor in changed.items()}, path)
        verification = generator.verify(artifact, against=path)
        assert not verification.passed
        return verification.checks[-1].detail

    assert "0.500" in against({**state_dict, "blocks.1.weight": torch.randn(96, 64)}).replace("tolerance of 0.5", "0.500")
    assert "'steps'" in against({**state_dict, "steps": torch.tensor(1)})
    assert "1 missing" in against({**state_dict, "extra": torch.ones(1)})
    assert "'blocks.0.gain'" in against({**state_dict, "blocks.0.gain": torch.ones(65)})


def test_verify_reports_a_script_that_fails_or_hangs(tmp_path: Path) -> None:
    failing, hanging = tmp_path / "failing.py", tmp_path / "hanging.py"
    failing.write_text("import sys\nprint('before')\nsys.exit('out of luck')\n")
    hanging.write_text("import time\ntime.sleep(60)\n")
    generator.wrap(failing, tmp_path / "a.py")
    generator.wrap(hanging, tmp_path / "b.py")
    failed = generator.verify(tmp_path / "a.py", run=True)
    assert not failed.passed
    assert "out of luck" in failed.checks[-1].detail
    assert failed.output == "before\n"
    hung = generator.verify(tmp_path / "b.py", run=True, timeout=2)
    assert "not finished after 2 seconds" in hung.checks[-1].detail


def test_verify_reports_over_budget(artifact: Path) -> None:
    check = generator.verify(artifact, budget=1000).checks[-1]
    assert not check.passed
    assert "over the budget of 1,000" in check.detail


def test_over_budget_builds_write_nothing(tmp_path: Path, script: Path, checkpoint: Path) -> None:
    output = tmp_path / "out.py"
    output.write_text("the old artifact")
    with pytest.raises(BudgetError, match=r"out\.py would have [\d,]+ bytes, [\d,]+ over the budget of 5,000") as error:
        generator.build(script, checkpoint, output, budget=5000)
    assert error.value.exit_status == 1
    assert error.value.inspection.size > 5000
    assert output.read_text() == "the old artifact"
    assert not list(tmp_path.glob(".out.py*"))


def test_wrap_packs_scripts_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "plain.py"
    path.write_text("import sys\nprint('argv', sys.argv[1:], __name__)\n")
    inspection = generator.wrap(path, tmp_path / "packed.py")
    assert inspection.wrapper_bytes == inspection.size
    assert not inspection.tensors
    assert run_python("python3", tmp_path / "packed.py", "a", "b", cwd=Path("/")) == "argv ['a', 'b'] __main__\n"


def test_bare_payload_files(tmp_path: Path, checkpoint: Path) -> None:
    inspection = generator.encode(checkpoint, tmp_path / "model.gpk")
    assert inspection.carrier == "payload"
    assert sum(part.bytes for part in inspection.parts) == inspection.size
    unpacked = generator.unpack(tmp_path / "model.gpk", tmp_path / "unpacked")
    assert sorted(path.name for path in unpacked.files) == ["payload.gpk", "weights.safetensors"]


@pytest.mark.parametrize("damage", ["payload", "code", "frame", "truncated"])
def test_damaged_artifacts_are_noticed(tmp_path: Path, artifact: Path, damage: str) -> None:
    text = artifact.read_text()
    lines = text.split("\n")
    row = {"payload": -2, "code": 2, "frame": 5}.get(damage)
    if row is None:
        text = text[:-200]
    else:
        middle = len(lines[row]) // 2
        lines[row] = lines[row][:middle] + ("0" if lines[row][middle] != "0" else "1") + lines[row][middle + 1 :]
        text = "\n".join(lines)
    broken = tmp_path / "broken.py"
    broken.write_text(text)
    with pytest.raises(InputError, match=r"broken\.py"):
        generator.inspect(broken)
    if damage in {"payload", "code"}:  # the file itself stops with one sentence, before it executes anything
        completed = subprocess.run([sys.executable, str(broken)], capture_output=True, text=True)
        assert completed.returncode == 1
        assert completed.stderr == "damaged file: checksum mismatch\n"


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.py"
    path.write_text("print('hello')\n")
    with pytest.raises(InputError, match="not a file that golfpack made"):
        generator.inspect(path)
    with pytest.raises(InputError, match="does not exist"):
        generator.inspect(tmp_path / "missing.py")
    huge = tmp_path / "huge.py"
    with huge.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(InputError, match="more than"):
        generator.inspect(huge)


def test_code_bomb_is_bounded(tmp_path: Path, script: Path) -> None:
    code = lzma.compress(b"#" * 2**25, lzma.FORMAT_ALONE, preset=0)
    path = tmp_path / "bomb.py"
    path.write_bytes(REGISTRY["base85"].write(Cargo(code, None, "", "Z", "Y", ""), "bomb").main)
    with pytest.raises(InputError, match="decompresses to more than"):
        generator.unpack(path)


def test_inspection_as_json(artifact: Path) -> None:
    loaded = json.loads(json.dumps(generator.inspect(artifact).to_json()))
    assert loaded["size"] == artifact.stat().st_size
    assert loaded["wrapper_bytes"] < 3000


def test_loader_for_int6_and_lzma_is_small(tmp_path: Path, script: Path, checkpoint: Path) -> None:
    recipe = {"codec": "lzma", "rule": [{"pattern": "*", "quantizer": "int6"}]}
    inspection = generator.build(script, checkpoint, tmp_path / "out.py", recipe=recipe)
    sizes = {part.name: part.bytes for part in inspection.parts}
    plain = tmp_path / "plain.py"
    plain.write_text(script.read_text().replace("from runtime_stub import load_state_dict", "load_state_dict = dict"))
    code_only = generator.wrap(plain, tmp_path / "plain_packed.py")
    added = inspection.wrapper_bytes - code_only.wrapper_bytes
    assert sizes["loader"] * 1.25 <= 1200
    assert added <= 1200


def test_doctest_of_the_api() -> None:
    assert doctest.testmod(generator).failed == 0


def test_rows_of_zeros_are_told(golfpack, tmp_path: Path) -> None:
    weights = {"w": torch.eye(8).repeat(1, 3), "norm": torch.zeros(8), "kept": torch.zeros(4, 4)}
    weights["w"][2:5] = 0
    recipe = {"rule": [{"pattern": "kept", "quantizer": "keep"}, {"pattern": "*", "quantizer": "int4"}]}
    script, output = tmp_path / "script.py", tmp_path / "out.py"
    script.write_text("from runtime_stub import load_state_dict\nprint(load_state_dict().keys())\n")
    generator.build(script, weights, output, recipe=recipe)
    found = {share.names[0]: share.zero_rows for share in generator.inspect(output).tensors}
    assert found == {"w": 3, "norm": 0, "kept": 0}
    assert [share["zero_rows"] for share in json.loads(golfpack("inspect", output, "--json").out)["tensors"]] == list(
        found.values()
    )
    shown = io.StringIO()
    print_tensors(Console(file=shown, width=200), generator.inspect(output))
    assert "int4, 3 rows of zeros" in shown.getvalue()
