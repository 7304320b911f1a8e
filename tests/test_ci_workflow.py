"""The workflow of docs/ci.md is YAML, and its commands do what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import ROOT

import generator


def workflow() -> dict[str, Any]:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "ci.md").read_text(), re.DOTALL)
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def commands() -> list[list[str]]:
    """What the steps run of golfpack's, up to a pipe, with the workflow's variables filled in."""
    steps = [step for job in workflow()["jobs"].values() for step in job["steps"]]
    found = []
    for line in "\n".join(step.get("run", "") for step in steps).splitlines():
        if line.startswith("golfpack "):
            for name, value in workflow()["env"].items():
                line = line.replace(f"${name}", value)
            words = shlex.split(line)
            found.append(words[1 : words.index("|") if "|" in words else None])
    return found


def test_the_workflow_has_the_shape_of_one() -> None:
    loaded = workflow()
    assert set(loaded) >= {"name", True, "jobs"}  # YAML 1.1 reads `on` as True
    for job in loaded["jobs"].values():
        assert job["runs-on"]
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_its_commands_pass_on_an_artifact_and_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golfpack: Callable[..., Any]
) -> None:
    env = workflow()["env"]
    (tmp_path / "s.py").write_text("from runtime_stub import load_state_dict\nload_state_dict()\nprint('val_bpb:1.25')\n")
    (tmp_path / "train.log").write_text("val_loss:2.5 val_bpb:1.25\n")
    artifact = tmp_path / env["ARTIFACT"]
    generator.build(tmp_path / "s.py", {"w": torch.randn(20, 30)}, artifact)
    texts = {"author": "A", "github_id": "a", "name": "n", "blurb": "b"}
    generator.submission(tmp_path / env["SUBMISSION"], artifact=artifact, logs=[tmp_path / "train.log"], **texts)
    monkeypatch.chdir(tmp_path)
    assert [words[0] for words in commands()] == ["verify", "inspect", "submission"]
    for words in commands():
        result = golfpack(*words)
        assert result.status == 0, (words, result.err)
    artifact.write_bytes(artifact.read_bytes().replace(b"import", b"impart", 1))
    assert golfpack(*commands()[0]).status == 2
    (tmp_path / env["SUBMISSION"] / "train.log").write_text("val_loss:2.5 val_bpb:1.35\n")
    assert golfpack(*commands()[2]).status == 1
