"""The folder that is handed in: written from an artifact and logs, and passing its own check."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import generator
from generator.handing_in.requirements import requirements_text, third_party
from generator.source.script import parse

SCRIPT = """
import sys
from runtime_stub import load_state_dict
load_state_dict()
print("final_exact val_loss:2.0727 val_bpb:1.2249")
sys.exit(len(sys.argv) - 1)
"""
CARRIERS = ["base85", "latin1", "sidecar", "zip"]
TEXTS = {"author": "A. Author", "github_id": "aauthor", "name": "A name", "blurb": "What it is | in a sentence."}
OPTIONS = [value for key, text in TEXTS.items() for value in (f"--{key.replace('_', '-')}", text)]


def log_text(seed: int | None, val_bpb: str) -> str:
    """A log in the shape of the challenge's, whose evaluation of the coded model comes last."""
    first = f"seed:{seed}\n" if seed is not None else ""
    return (
        f"{first}step:10/10 val_loss:2.0000 val_bpb:1.2000 train_time:1ms\nfinal_exact val_loss:2.07269931 val_bpb:{val_bpb}\n"
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an artifact of each carrier, by its name, and the script."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "script.py").write_text(SCRIPT)
    weights = {"w": torch.randn(40, 30, generator=torch.Generator().manual_seed(0))}
    for carrier in CARRIERS:
        generator.build(folder / "script.py", weights, folder / f"{carrier}.py", carrier=carrier)
    return folder


@pytest.fixture
def packed(tmp_path: Path, built: Path) -> Callable[..., Path]:
    """A copy of an artifact, with what belongs beside it."""

    def copy(carrier: str = "base85") -> Path:
        for path in [built / "script.py", *built.glob(f"{carrier}.*")]:
            shutil.copy(path, tmp_path)
        return tmp_path / f"{carrier}.py"

    return copy


@pytest.fixture
def logs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "train_seed42.log", tmp_path / "train_seed7.log"]
    paths[0].write_text(log_text(42, "1.22436570"))
    paths[1].write_text(log_text(7, "1.22536571"))
    return paths


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carriers_artifact_is_handed_in_and_passes(
    tmp_path: Path, packed: Callable[..., Path], logs: list[Path], carrier: str
) -> None:
    artifact = packed(carrier)
    written = generator.submission(tmp_path / "out", artifact=artifact, logs=logs, date="2026-04-30", **TEXTS)
    assert written.check.findings == []
    assert (tmp_path / "out" / "train_gpt.py").read_bytes() == artifact.read_bytes()
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir() if path.suffix in {".py", ".bin"})
    said = json.loads((tmp_path / "out" / "submission.json").read_text())
    assert said["bytes_total"] == size == written.inspection.size
    assert said["bytes_code"] == artifact.stat().st_size
    assert said.get("bytes_model", 0) == size - artifact.stat().st_size
    assert (carrier == "sidecar") == ("bytes_model" in said)
    assert said["seeds"] == [42, 7]
    assert said["seed_results"]["7"] == {"val_loss": 2.07269931, "val_bpb": 1.22536571}
    assert said["val_bpb"] == pytest.approx(1.2248657)
    assert said["date"] == "2026-04-30"
    assert (tmp_path / "out" / "requirements.txt").read_text() == "numpy\ntorch\n"
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "1.22486570" in readme
    assert f"**{size:,}**" in readme
    checked = generator.check_submission(tmp_path / "out", run=True)
    assert checked.passed
    assert "val_bpb:1.2249" in checked.output


@pytest.mark.parametrize("carrier", CARRIERS)
def test_inspect_tells_what_the_challenge_counts_and_what_is_payload(
    packed: Callable[..., Path], golfpack: Callable[..., Any], carrier: str
) -> None:
    artifact = packed(carrier)
    inspection = generator.inspect(artifact)
    beside = [path for path in artifact.parent.glob(f"{carrier}.*") if path != artifact]
    assert inspection.code_bytes == artifact.stat().st_size
    assert inspection.model_bytes == sum(path.stat().st_size for path in beside)
    assert inspection.code_bytes + inspection.model_bytes == inspection.size
    assert inspection.wrapper_bytes + inspection.payload_bytes == inspection.size
    assert inspection.payload_bytes >= len(generator.encode_state_dict({"w": torch.zeros(1)}))
    said = json.loads(golfpack("inspect", artifact, "--json").out)
    assert [said[name] for name in ("code_bytes", "model_bytes", "payload_bytes")] == [
        inspection.code_bytes,
        inspection.model_bytes,
        inspection.payload_bytes,
    ]
    shown = golfpack("inspect", artifact).out
    assert f"+ model {inspection.model_bytes:,} = {inspection.size:,} bytes" in shown
    assert f"payload: {inspection.payload_bytes:,}" in shown


def test_inspect_of_a_bare_payload(tmp_path: Path) -> None:
    generator.encode({"w": torch.ones(3, 3)}, tmp_path / "p.gpk")
    inspection = generator.inspect(tmp_path / "p.gpk")
    assert (inspection.code_bytes, inspection.model_bytes) == (0, inspection.size)
    assert inspection.payload_bytes == inspection.size


def test_one_run_without_a_seed(tmp_path: Path, packed: Callable[..., Path]) -> None:
    (tmp_path / "train.log").write_text(log_text(None, "1.2250"))
    written = generator.submission(tmp_path / "out", artifact=packed(), logs=[tmp_path / "train.log"], **TEXTS)
    said = json.loads((written.folder / "submission.json").read_text())
    assert said["val_bpb"] == 1.225
    assert not {"seeds", "seed_results", "val_bpb_std"} & said.keys()


def test_the_evaluation_that_counts(tmp_path: Path, packed: Callable[..., Path]) -> None:
    (tmp_path / "train.log").write_text(
        "final_ttt val_bpb:1.3\n" + log_text(None, "1.2250") + "worse val_loss:3.0 val_bpb:2.0\n"
    )
    arguments = {"artifact": packed(), "logs": [tmp_path / "train.log"], **TEXTS}
    assert str(generator.submission(tmp_path / "out", evaluation="final_exact", **arguments).result.val_bpb) == "1.2250"
    with pytest.raises(generator.InputError, match=r"no evaluation 'other'; it has 'final_exact', 'final_ttt', 'worse'"):
        generator.submission(tmp_path / "other", evaluation="other", **arguments)


def test_a_folder_is_not_replaced_unasked(
    tmp_path: Path, packed: Callable[..., Path], logs: list[Path], golfpack: Callable[..., Any]
) -> None:
    command = ["submission", tmp_path / "out", "--artifact", packed(), *OPTIONS, "--date", "2026-04-30"]
    assert golfpack(*command, "--log", logs[0]).status == 0
    assert golfpack(*command, "--log", logs[0]).status == 0  # the same again
    (tmp_path / "out" / "README.md").write_text("my words")
    result = golfpack(*command, "--log", logs[0])
    assert result.status == 2
    assert "holds other files of the names README.md; --force" in result.err
    kept = golfpack(*command, "--log", logs[0], "--readme", tmp_path / "out" / "README.md")
    assert kept.status == 0
    assert (tmp_path / "out" / "README.md").read_text() == "my words"
    assert golfpack(*command, "--log", logs[0], "--force").status == 0
    assert (tmp_path / "out" / "README.md").read_text() != "my words"


def test_no_input_is_replaced(tmp_path: Path, packed: Callable[..., Path], logs: list[Path]) -> None:
    (tmp_path / "out").mkdir()
    inside = tmp_path / "out" / "train_gpt.py"
    inside.write_text("# the script that this folder's artifact was made of")
    with pytest.raises(generator.InputError, match="is an input, too"):
        generator.submission(tmp_path / "out", artifact=packed(), logs=logs, replace=True, readme=inside, **TEXTS)
    assert inside.read_text().startswith("# the script")


def test_over_budget_or_contradicting_nothing_is_written(
    tmp_path: Path, packed: Callable[..., Path], logs: list[Path], golfpack: Callable[..., Any]
) -> None:
    command = ["submission", tmp_path / "out", "--artifact", packed(), *OPTIONS, "--log", logs[0]]
    result = golfpack(*command, "--budget", 1000)
    assert result.status == 1
    assert "over the budget of 1,000" in result.err
    result = golfpack(*command, "--val-bpb", "1.1000")
    assert result.status == 1
    assert "submission.json tells val_bpb 1.1; the logs do not" in result.err
    assert not (tmp_path / "out").exists()


WRONG = {
    "no artifact": (["--log", "train_seed42.log"], "give --artifact FILE"),
    "a plain script": (["--artifact", "script.py"], "as another self-extracting file"),
    "no author": (["--artifact", "base85.py", "--author", " "], "author must be one line of text"),
    "two lines": (["--artifact", "base85.py", "--name", "a\nb"], "name must be one line of text"),
    "no score": (["--artifact", "base85.py"], "nothing tells val_bpb"),
    "no number": (["--artifact", "base85.py", "--val-bpb", "low"], "val_bpb must be a number"),
    "not above 0": (["--artifact", "base85.py", "--val-loss", "nan", "--val-bpb", "1"], "val_loss must be a number above 0"),
    "date": (["--artifact", "base85.py", "--date", "30.4.2026"], "date must be like 2026-04-30"),
    "no log": (["--artifact", "base85.py", "--log", "gone.log"], "log gone.log does not exist"),
    "empty log": (["--artifact", "base85.py", "--log", "empty.log"], "log empty.log tells no val_bpb"),
    "one log twice": (["--artifact", "base85.py", *["--log", "train_seed42.log"] * 2], "another file is, too; rename it"),
    "one seed twice": (
        ["--artifact", "base85.py", "--log", "train_seed42.log", "--log", "again.log"], "is of seed 42, as another one is",
    ),
    "unknown seed": (
        ["--artifact", "base85.py", "--log", "train_seed42.log", "--log", "unknown.log"], "unknown.log does not tell its seed",
    ),
    "seed and name": (["--artifact", "base85.py", "--log", "train_seed1.log"], "is by its name of seed 1, and tells 42"),
    "taken name": (["--artifact", "base85.py", "--log", "README.md"], "would be README.md in the folder"),
    "run": (["--artifact", "base85.py", "--run"], "are for --check, which is not given"),
    "check": (["--artifact", "base85.py", "--check"], "takes neither --artifact nor --log"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_in_a_sentence(
    tmp_path: Path,
    packed: Callable[..., Path],
    logs: list[Path],
    golfpack: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    packed()
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "empty.log": "",
        "again.log": log_text(42, "1.3"),
        "unknown.log": log_text(None, "1.3"),
        "train_seed1.log": log_text(42, "1.3"),
        "README.md": log_text(3, "1.3"),
    }.items():
        (tmp_path / name).write_text(text)
    arguments, message = WRONG[case]
    result = golfpack("submission", "out", *OPTIONS, *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_json_of_what_was_written(
    tmp_path: Path, packed: Callable[..., Path], logs: list[Path], golfpack: Callable[..., Any]
) -> None:
    result = golfpack("submission", tmp_path / "out", "--artifact", packed(), *OPTIONS, "--log", logs[0], "--json")
    said = json.loads(result.out)
    assert said["result"]["val_bpb"] == "1.22436570"
    assert said["check"]["passed"]
    assert "requirements.txt" in said["files"]


IMPORTS = """
import os, numpy.linalg, local_module
from torch.nn import functional as F
try:
    import zstandard
except ImportError:
    zstandard = None
try:
    import brotli
finally:
    pass
def f():
    import PIL.Image, __main__
    from . import sibling
    return __import__("einops"), getattr(os, "x")("name")
"""


def test_imports_that_others_bring() -> None:
    found = third_party([parse(IMPORTS.encode(), "test")], {"local_module"})
    assert found == {"brotli": True, "einops": True, "numpy": True, "PIL": True, "torch": True, "zstandard": False}
    lines = requirements_text(found).splitlines()
    assert "zstandard  # optional: imported in a try" in lines
    assert "torch" in lines


def test_requirements_hold_carried_modules_imports_and_the_decoders(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import einops\n")
    (tmp_path / "script.py").write_text("import helper\n" + SCRIPT)
    weights = {"w": torch.randn(40, 30)}
    recipe = {"rule": [{"pattern": "*", "quantizer": "int6", "codec": "zstd"}]}
    generator.build(tmp_path / "script.py", weights, tmp_path / "out.py", recipe=recipe)
    (tmp_path / "train.log").write_text(log_text(1, "1.2249"))
    written = generator.submission(tmp_path / "out", artifact=tmp_path / "out.py", logs=[tmp_path / "train.log"], **TEXTS)
    assert (written.folder / "requirements.txt").read_text().split() == ["einops", "numpy", "torch", "zstandard"]
