"""Names of any characters on the terminal: shown, never acted on; and how a command ends that can't finish."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from safetensors.torch import save_file

import generator
from generator import cli
from generator.cli.tables import plain, say
from generator.visible import first_line, shown, visible

EVIL = "[/nope]\x1b[2J\x9b31m\u202eabc\r\n[bold]:smile:\x00\u2028\\["
SHOWN = r"[/nope]\x1b[2J\x9b31m\u202eabc\r\n[bold]:smile:\x00\u2028\["


def test_visible() -> None:
    assert visible("plain.name") == "plain.name"
    assert visible("größe 重み 🙂") == "größe 重み 🙂"
    assert visible(EVIL) == SHOWN
    assert visible("\ud800") == r"\ud800"
    assert shown("x" * 1000) == f"'{'x' * 97}...{'x' * 98}'"
    assert first_line(ValueError("")) == "ValueError"
    assert first_line(ValueError("\n a\nb")) == "a"


@given(st.text() | st.text("[]/\\:abz\x1b\n\t"))
def test_what_is_said_is_one_line_without_control_characters(text: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=20)
    say(console, text)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed == visible(text) + "\n"
    assert printed[:-1].isprintable() or not visible(text).isprintable()
    assert plain(text).plain == visible(text)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A checkpoint whose names would do harm."""
    path = tmp_path / "evil.safetensors"
    layer = torch.randint(-3, 4, (70, 80), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    save_file({EVIL: layer, f"{EVIL}0": layer.clone(), f"{EVIL}1": layer + 1, "[link=x]": torch.randn(80, 80)}, path)
    return path


@pytest.mark.parametrize("wide", [True, False])
def test_every_command_shows_names_as_they_are(
    golfpack, tmp_path: Path, script: Path, evil: Path, monkeypatch: pytest.MonkeyPatch, wide: bool
) -> None:
    monkeypatch.setattr(cli, "console", Console(width=400 if wide else 60))
    payload = tmp_path / "evil.gpk"
    for arguments in (
        ["encode", evil, "-o", payload],
        ["inspect", payload],
        ["bench", evil, "--no-external"],
        ["analyze", evil],
        ["verify", payload, "--against", evil],
        ["build", script, "-w", evil, "-o", tmp_path / "small.py", "--budget", "10"],
    ):
        result = golfpack(*arguments)
        assert result.status == (1 if arguments[0] == "build" else 0), result.err
        for text in (result.out, result.err):
            assert not set(text) & set("\x1b\x9b\u202e\r\x00\u2028")
        if wide and arguments[0] in ("inspect", "analyze"):
            assert SHOWN in result.out


def test_json_is_ascii_and_exact(golfpack, tmp_path: Path, evil: Path) -> None:
    golfpack("encode", evil, "-o", tmp_path / "evil.gpk")
    result = golfpack("inspect", tmp_path / "evil.gpk", "--json")
    assert result.out.isascii()
    assert EVIL in [name for tensor in json.loads(result.out)["tensors"] for name in tensor["names"]]


def test_errors_are_one_line(golfpack, tmp_path: Path) -> None:
    for name in (EVIL.replace("\0", ""), "\udcff", "x" * 300):
        result = golfpack("encode", f"{tmp_path}/{name}.pt", "-o", tmp_path / "out.gpk")
        assert result.status == 2
        assert result.err.startswith("golfpack: checkpoint ")
        assert result.err[:-1].isprintable()


def test_a_terminal_of_narrow_encoding(tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", **{"größe": np.arange(-50, 50, dtype=np.int8)})
    command = [sys.executable, "-c", "from generator.cli import main; main()", "analyze", str(tmp_path / "wide.npz")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parent.parent)}
    completed = subprocess.run(command, capture_output=True, env=environment)
    assert completed.returncode == 0, completed.stderr
    assert rb"gr\xf6\xdfe" in completed.stdout


NO_MEMORY = [
    MemoryError(),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    torch.OutOfMemoryError("CUDA out of memory."),
]


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_no_memory_is_one_sentence(
    golfpack, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def exhausted(*arguments: object, **rest: object) -> None:
        raise error

    for command in ("bench", "analyze", "encode"):
        monkeypatch.setattr(generator, command, exhausted)
        result = golfpack(command, checkpoint, *(["-o", tmp_path / "out.gpk"] if command == "encode" else []))
        assert result.status == 2
        assert result.err.startswith("golfpack: out of memory: ")
        assert result.err.count("\n") == 1


def test_an_interruption_is_one_line_and_leaves_nothing(
    golfpack, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(tmp_path.iterdir())
    for module, function in (
        ("generator.weights.encode", "check_decodes_to"),
        ("generator.finishing", "inspect_artifact"),
        ("os", "fdopen"),
    ):
        with monkeypatch.context() as context:
            context.setattr(sys.modules[module], function, lambda *arguments, **rest: os.kill(os.getpid(), signal.SIGINT))
            result = golfpack("encode", checkpoint, "-o", tmp_path / "out.gpk")
        assert result.status == 130
        assert result.err == "golfpack: interrupted\n"
        assert sorted(tmp_path.iterdir()) == before
