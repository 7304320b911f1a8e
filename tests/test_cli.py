"""The command line: what it prints, its exit status, and that mistakes write nothing."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from runtime_stub import load_state_dict


def test_build_inspect_unpack_verify(golfpack, tmp_path: Path, script: Path, checkpoint: Path) -> None:
    output = tmp_path / "dist" / "train_gpt.py"
    built = golfpack("build", script, "--weights", checkpoint, "-o", output)
    assert built.status == 0, built.err
    for word in ("script", "loader", "total", "budget", "headroom", f"{output.stat().st_size:,}"):
        assert word in built.out
    assert stat.S_IMODE(output.stat().st_mode) & 0o444 == 0o444

    inspected = golfpack("inspect", output)
    assert inspected.status == 0
    assert "needs at run time: numpy, torch" in inspected.out
    as_json = json.loads(golfpack("inspect", output, "--json").out)
    assert as_json["size"] == output.stat().st_size

    unpacked = golfpack("unpack", output, "-o", tmp_path / "unpacked")
    assert unpacked.status == 0
    assert (tmp_path / "unpacked" / "weights.safetensors").exists()

    verified = golfpack("verify", output, "--budget", 16_000_000, "--run", "--against", checkpoint)
    assert verified.status == 0, verified.out
    assert verified.out.count("ok ") == 5
    as_json = json.loads(golfpack("verify", output, "--json").out)
    assert as_json["passed"] is True


def test_encode_makes_what_the_unpacked_script_reads(golfpack, tmp_path: Path, checkpoint: Path, monkeypatch) -> None:

    result = golfpack("encode", checkpoint, "-o", tmp_path / "model.gpk", "--json")
    assert json.loads(result.out)["carrier"] == "payload"
    monkeypatch.setenv("GOLFPACK_PAYLOAD", str(tmp_path / "model.gpk"))
    assert load_state_dict()["steps"].item() == 12345678901


def test_unpacked_scripts_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.delenv("GOLFPACK_PAYLOAD", raising=False)
    with pytest.raises(RuntimeError, match="golfpack encode"):
        load_state_dict()
    for content, message in (
        (None, "cannot be read"),
        (b"hello", "not a golfpack payload"),
        (b"GPK\x02" + bytes(20), "damaged"),
    ):
        path = tmp_path / "model.gpk"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        monkeypatch.setenv("GOLFPACK_PAYLOAD", str(path))
        with pytest.raises(RuntimeError, match=message):
            load_state_dict()


def test_verify_fails_with_status_one(golfpack, tmp_path: Path, script: Path, checkpoint: Path) -> None:
    output = tmp_path / "out.py"
    golfpack("build", script, "-w", checkpoint, "-o", output)
    result = golfpack("verify", output, "--budget", 1000)
    assert result.status == 1
    assert "FAIL budget" in result.out


def test_over_budget_shows_what_costs_most(golfpack, tmp_path: Path, script: Path, checkpoint: Path) -> None:
    output = tmp_path / "out.py"
    result = golfpack("build", script, "-w", checkpoint, "-o", output, "--budget", 5000)
    assert result.status == 1
    assert "over the budget of 5,000" in result.err.splitlines()[-1]
    assert "embed.weight" in result.err
    assert "fewer bits" in result.err
    assert not output.exists()


def test_version_and_help(golfpack) -> None:
    assert golfpack("--version").out.startswith("golfpack 0.")
    help_text = golfpack("--help").out
    for command in ("build", "wrap", "encode", "inspect", "unpack", "verify"):
        assert command in help_text


def unwritable(tmp_path: Path) -> Path:
    """A place below a file, which not even root can write to."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "out.py"


def make_nan(path: Path) -> None:
    save_file({"blocks.weight": torch.full((80, 80), float("nan"))}, path)


def make_inf(path: Path) -> None:
    weights = torch.randn(80, 80)
    weights[3, 4] = float("inf")
    save_file({"blocks.weight": weights}, path)


MISTAKES = {
    "missing script": (["build", "nowhere.py", "-w", "CKPT", "-o", "OUT"], "nowhere.py does not exist"),
    "missing checkpoint": (["build", "SCRIPT", "-w", "nowhere.pt", "-o", "OUT"], "nowhere.pt does not exist"),
    "missing recipe": (["build", "SCRIPT", "-w", "CKPT", "-r", "nowhere.toml", "-o", "OUT"], "nowhere.toml does not exist"),
    "script for a checkpoint": (["build", "SCRIPT", "-w", "SCRIPT", "-o", "OUT"], "unknown suffix '.py'"),
    "syntax error": (["build", "BROKEN", "-w", "CKPT", "-o", "OUT"], "broken.py, line 2: "),
    "unknown key": (["build", "SCRIPT", "-w", "CKPT", "-r", "RECIPE", "-o", "OUT"], "rule 1: unknown key 'bits'"),
    "NaN": (["build", "SCRIPT", "-w", "NAN", "-o", "OUT"], "tensor 'blocks.weight' holds NaN"),
    "Inf": (["build", "SCRIPT", "-w", "INF", "-o", "OUT"], "tensor 'blocks.weight' holds Inf"),
    "output below a file": (["build", "SCRIPT", "-w", "CKPT", "-o", "UNWRITABLE"], "cannot be written"),
    "output is a folder": (["build", "SCRIPT", "-w", "CKPT", "-o", "FOLDER"], "is a folder"),
    "inspect a script": (["inspect", "SCRIPT"], "not a file that golfpack made"),
    "unpack nothing": (["unpack", "nowhere.py", "-o", "OUT"], "nowhere.py does not exist"),
    "verify a folder": (["verify", "FOLDER"], "is a folder, not a file"),
    "encode text": (["encode", "SCRIPT", "-o", "OUT"], "unknown suffix"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_get_one_sentence_and_write_nothing(
    golfpack, tmp_path: Path, script: Path, checkpoint: Path, name: str
) -> None:
    arguments, message = MISTAKES[name]
    (tmp_path / "broken.py").write_text("import os\nx = = 1\n")
    (tmp_path / "recipe.toml").write_text('[[rule]]\npattern = "*"\nquantizer = "int6"\nbits = 3\n')
    (tmp_path / "folder").mkdir()
    make_nan(tmp_path / "nan.safetensors")
    make_inf(tmp_path / "inf.safetensors")
    places = {
        "SCRIPT": script, "CKPT": checkpoint, "OUT": tmp_path / "out.py", "BROKEN": tmp_path / "broken.py",
        "RECIPE": tmp_path / "recipe.toml", "NAN": tmp_path / "nan.safetensors", "INF": tmp_path / "inf.safetensors",
        "UNWRITABLE": unwritable(tmp_path), "FOLDER": tmp_path / "folder",
    }  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    result = golfpack(*[places.get(argument, argument) for argument in arguments])
    assert result.status == 2
    assert message in result.err
    assert result.err.startswith("golfpack: ")
    assert result.err.count("\n") == 1
    assert "Traceback" not in result.err
    assert sorted(tmp_path.rglob("*")) == before


def test_read_only_folder(golfpack, tmp_path: Path, script: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "read_only"
    folder.mkdir(mode=0o555)
    access = os.access  # which lets root write anywhere
    monkeypatch.setattr("os.access", lambda path, mode, **rest: Path(path) != folder and access(path, mode, **rest))
    result = golfpack("build", script, "-w", checkpoint, "-o", folder / "out.py")
    assert result.status == 2
    assert "not a writable folder" in result.err


def test_usage_errors_have_status_two(golfpack) -> None:
    assert golfpack("build").status == 2
    assert golfpack("frobnicate").status == 2
    assert golfpack("inspect", "x.py", "--budget", "0").status == 2
