"""Progress: events of every long function, what the command line shows of them, log lines, and interruptions."""

from __future__ import annotations

import doctest
import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import generator
import generator.progress
from generator.errors import InputError
from generator.progress import Progress, Stage, track
from generator.search.study import StudyOptions

ROOT = Path(generator.__file__).parent.parent
KNOB = {"id": "rtn", "bits": 6, "scale": "sdclip", "k": "fit"}
RECIPE = {"codec": "zlib", "rule": [{"pattern": "w", "quantizer": KNOB}, {"pattern": "*", "quantizer": "fp16"}]}
TOML = 'codec = "zlib"\n[[rule]]\npattern = "w"\nquantizer = { id = "rtn", scale = "sdclip", k = "fit" }\n'
STATE = {"w": torch.randn(64, 96, generator=torch.Generator().manual_seed(0)), "gain": torch.ones(64)}
BUDGET = 7000


class Events(list[Progress]):
    """A listener that keeps what it is told."""

    def __call__(self, event: Progress) -> None:
        self.append(event)

    def runs(self) -> dict[str, list[list[Progress]]]:
        """Stage → its events, from each beginning to its end; that each is well formed is checked."""
        found: dict[str, list[list[Progress]]] = {}
        for event in self:
            runs = found.setdefault(event.stage, [])
            if event.done == 0:
                assert not runs or runs[-1][-1].done == runs[-1][-1].total, f"{event.stage} begins before it has ended"
                runs.append([])
            runs[-1].append(event)
        for stage, runs in found.items():
            for events in runs:
                done = [event.done for event in events]
                assert done == sorted(done), stage
                assert events[-1].done == events[-1].total, f"{stage} has not ended"
                assert max(done) <= max(event.total for event in events), stage
        return found


def test_a_stage_tells_of_its_beginning_its_steps_and_its_end() -> None:
    events = Events()
    with Stage("one", events):
        pass
    assert events == [Progress("one", 0, 1), Progress("one", 1, 1)]
    events.clear()
    with Stage("early", events, 12, "first") as stage:
        stage.step("second", result=7)
        stage.step("third", count=2)
    assert events == [
        Progress("early", 0, 12, "first"),
        Progress("early", 1, 12, "second", 7),
        Progress("early", 3, 12, "third"),
        Progress("early", 3, 3),
    ]
    events.clear()
    with pytest.raises(ZeroDivisionError), Stage("broken", events):
        1 / 0  # noqa: B018
    assert events == [Progress("broken", 0, 1)]


def test_track_gives_the_items_and_names_the_one_in_hand() -> None:
    events = Events()
    given = []
    for item in track(iter([3, 4]), "count", events, label=lambda number: f"no. {number}"):
        given.append((item, events[-1]))
    assert given == [(3, Progress("count", 0, 2, "no. 3")), (4, Progress("count", 1, 2, "no. 4"))]
    assert events[-1] == Progress("count", 2, 2)
    events.clear()
    assert list(track([], "none", events)) == []
    assert events == [Progress("none", 0, 0)]
    assert list(track("ab", "nobody", None)) == ["a", "b"]


def test_doctest() -> None:
    assert doctest.testmod(generator.progress) == (0, 3)


def test_build_wrap_and_encode_tell_of_their_stages(tmp_path: Path, script: Path, checkpoint: Path) -> None:
    events = Events()
    generator.build(script, checkpoint, tmp_path / "a.py", progress=events, check=generator.RunCheck())
    runs = events.runs()
    stages = list(dict.fromkeys(event.stage for event in events))
    assert stages == ["quantize", "plan", "code", "decode", "minify", "check", "write"]
    [quantized] = runs["quantize"]
    # lm_head.weight is embed.weight, stored once.
    names = ["blocks.0.gain", "blocks.0.weight", "blocks.1.weight", "embed.weight", "mask", "steps"]
    assert sorted(event.detail for event in quantized[:-1]) == names
    events.clear()
    generator.encode(checkpoint, tmp_path / "a.gpk", progress=events)
    assert [*events.runs()] == ["quantize", "plan", "code", "decode", "write"]
    events.clear()
    (tmp_path / "plain.py").write_text("print(1)\n")
    generator.wrap(tmp_path / "plain.py", tmp_path / "b.py", progress=events)
    assert [*events.runs()] == ["minify", "write"]
    events.clear()
    generator.encode_state_dict(STATE, progress=events)
    assert len(events.runs()["quantize"][0]) == 3


def test_fit_tells_of_its_points(tmp_path: Path, script: Path) -> None:
    events = Events()
    _, [fit] = generator.fit(script, STATE, tmp_path / "a.py", recipes=[RECIPE], budget=BUDGET, progress=events)
    runs = events.runs()
    assert [event.result for event in runs["fit"][0] if event.result is not None] == fit.points
    assert f"k = {fit.points[0].value:.6g}  {fit.points[0].bytes:,} bytes" in runs["fit"][0][1].detail
    assert len(runs["code"]) == len(fit.points)
    assert len(runs["minify"]) == len(fit.points) + 1  # the best is emitted once more
    assert [len(events) - 1 for events in runs["quantize"]] == [2] + [1] * (len(fit.points) - 1)
    assert "payload" not in fit.to_json()
    assert fit.payload is not None
    assert set(generator.decode_payload(fit.payload.data)) == {"w", "gain"}


def test_a_study_tells_of_its_trials_and_not_of_their_points(tmp_path: Path, script: Path) -> None:
    events = Events()
    rule = {"pattern": "w", "quantizer": {**KNOB, "bits": {"search": [4, 8]}}}
    recipe = {"codec": "zlib", "rule": [rule, RECIPE["rule"][1]]}
    _, [fit] = generator.fit(
        script,
        STATE,
        tmp_path / "a.py",
        recipes=[recipe],
        budget=BUDGET,
        evaluate=lambda state: state["w"].std(),
        study=StudyOptions(trials=2),
        progress=events,
    )
    assert [event.result for event in events if event.result is not None] == fit.trials
    assert len(events.runs()["study"]) == 1
    assert len(events.runs()["fit"]) == 2


def test_calibrate_tells_of_tokens_and_batches() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11)).eval()
    tokens = torch.randint(11, (4, 6))
    events = Events()
    generator.calibrate((model, [tokens, tokens], generator.language_model_loss()), self_generate=5, batch=2, progress=events)
    runs = events.runs()
    assert [*runs] == ["sample", "calibrate"]
    assert runs["sample"][0][-1].total == 5 * 6
    assert runs["calibrate"][0][-1].total == 3 * 2  # batches of 2, 2 and 1, in two passes


def test_measurements_and_checks_tell_of_their_steps(tmp_path: Path, script: Path, checkpoint: Path) -> None:
    events = Events()
    measured = generator.bench(checkpoint, external=False, progress=events)
    assert {event.detail for event in events.runs()["bench"][0][:-1]} == {one.codec for one in measured.measurements}
    events.clear()
    analysis = generator.analyze(checkpoint, progress=events)
    assert [event.detail for event in events.runs()["analyze"][0][:-1]] == [tensor.name for tensor in analysis.tensors]
    generator.build(script, checkpoint, tmp_path / "a.py")
    events.clear()
    verified = generator.verify(tmp_path / "a.py", budget=10**6, against=checkpoint, progress=events)
    assert [*events.runs()] == ["decode", "verify"]
    assert [event.detail for event in events.runs()["verify"][0][:-1]] == [check.name for check in verified.checks]


@pytest.mark.parametrize("stage", ["quantize", "minify", "write"])
def test_a_listener_may_end_the_work(tmp_path: Path, script: Path, checkpoint: Path, stage: str) -> None:
    before = sorted(tmp_path.iterdir())

    def stop(event: Progress) -> None:
        if event.stage == stage:
            raise InputError("enough")

    with pytest.raises(InputError, match="enough"):
        generator.build(script, checkpoint, tmp_path / "a.py", progress=stop)
    assert sorted(tmp_path.iterdir()) == before


def test_stages_log_what_they_decided(tmp_path: Path, script: Path, checkpoint: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "golfpack"):
        inspection = generator.build(script, checkpoint, tmp_path / "a.py")
    lines = {f"{record.name}: {record.getMessage()}" for record in caplog.records}
    assert "golfpack.quantize: by the default recipe: 1 × fp16, 2 × keep, 3 × rtn" in lines
    assert any(line.startswith("golfpack.quantize: 6 steps in ") for line in lines)
    assert any(line.startswith("golfpack.code: by ") and "payload of " in line for line in lines)
    assert any(line.startswith("golfpack.minify: carrier base85, ") for line in lines)
    assert f"golfpack.write: {tmp_path / 'a.py'}: {inspection.size} bytes" in lines
    assert not any("embed.weight" in line for line in lines)
    caplog.clear()
    with caplog.at_level(logging.DEBUG, "golfpack"):
        generator.encode_state_dict(STATE)
    assert any(record.getMessage().startswith("w [64, 96] by Rtn(") for record in caplog.records)


def test_the_library_says_nothing_by_itself(tmp_path: Path) -> None:
    program = (
        "import logging, torch, generator\n"
        "generator.encode_state_dict({'w': torch.ones(4, 4)})\n"
        "logging.getLogger('golfpack.anything').error('unheard')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.fixture
def fitted(tmp_path: Path, script: Path, checkpoint: Path) -> list[object]:
    """A command line that fits."""
    (tmp_path / "r.toml").write_text(TOML + '[[rule]]\npattern = "*"\nquantizer = "fp16"\n')
    torch.save(STATE, tmp_path / "c.pt")
    weights, recipe = tmp_path / "c.pt", tmp_path / "r.toml"
    return ["fit", script, "-w", weights, "-r", recipe, "-o", tmp_path / "out.py", "--budget", BUDGET]


def test_quiet_and_verbose(golfpack, fitted: list[object], tmp_path: Path, checkpoint: Path) -> None:
    plain = golfpack(*fitted)
    assert plain.err.count(": k = ") >= 2
    quiet = golfpack(*fitted, "--quiet")
    assert quiet.err == ""
    assert quiet.out == plain.out
    assert "chosen" in quiet.out
    encode = ["encode", checkpoint, "-o", tmp_path / "m.gpk", "--json"]
    logged = golfpack(*fitted, "-v")
    assert logged.err.count(": k = ") == plain.err.count(": k = ")  # each once, as a log line
    assert all(re.match(r"\d{4}-\d\d-\d\d .* INFO [a-z]+: ", line) for line in logged.err.splitlines())
    silent, logged, detailed = golfpack(*encode), golfpack(*encode, "-v"), golfpack(*encode, "-vv", "-q")
    assert silent.err == ""
    assert silent.out == logged.out == detailed.out
    assert json.loads(silent.out)["carrier"] == "payload"
    assert "quantize: by the default recipe" in logged.err
    assert "embed.weight" not in logged.err
    assert "embed.weight" in detailed.err
    assert golfpack(*encode).err == ""  # the log is not left switched on
    mistake = golfpack("encode", tmp_path / "nowhere.pt", "-o", tmp_path / "m.gpk", "-q")
    assert (mistake.status, mistake.err.count("\n")) == (2, 1)


def test_names_in_log_lines_are_shown_and_not_acted_on(golfpack, tmp_path: Path) -> None:
    torch.save({"a\x1b[2Jb": torch.ones(3, 3)}, tmp_path / "c.pt")
    result = golfpack("encode", tmp_path / "c.pt", "-o", tmp_path / "m.gpk", "-vv")
    assert r"a\x1b[2Jb" in result.err
    assert "\x1b[2J" not in result.err


@pytest.mark.parametrize("command", ["build", "wrap", "encode", "fit", "calibrate", "bench", "analyze", "verify"])
def test_every_long_command_has_the_options(golfpack, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = golfpack(command, "--help").out
    assert "--quiet" in text
    assert "--verbose" in text


class Terminal:
    """The command line as a process whose standard error is a terminal."""

    def __init__(self, *arguments: object):
        self.leader, follower = pty.openpty()
        command = [sys.executable, "-m", "golfpack", *map(str, arguments)]
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=follower, env=environment)
        os.close(follower)
        self.shown = ""

    def read_until(self, happened: Callable[[], bool], seconds: float = 120) -> None:
        """Read what is shown until something has happened or the process has closed its end."""
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, self.shown[-2000:]
            if select.select([self.leader], [], [], 0.1)[0]:
                try:
                    data = os.read(self.leader, 2**16)
                except OSError:  # Linux's way of saying that the other end is closed
                    return
                if not data:
                    return
                self.shown += data.decode()

    def end(self) -> int:
        """Its exit status; what else it shows is read."""
        self.read_until(lambda: False)
        os.close(self.leader)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(60)


def test_a_terminal_shows_bars_that_vanish(fitted: list[object], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\n\ndef metric(state):\n    time.sleep(0.3)\n    return 1.0\n")
    evaluate = ["--evaluate", f"{tmp_path / 'slow.py'}:metric"]
    terminal = Terminal(*fitted, *evaluate)
    assert terminal.end() == 0
    for word in ("fit", "quantize", "minify", "/12", "━"):
        assert word in terminal.shown
    assert "\x1b[?25l" in terminal.shown
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("\x1b[?25l")  # the cursor is shown again
    assert terminal.shown.rindex("\x1b[2K") > terminal.shown.rindex("━")  # the bars' lines are cleared
    quiet = Terminal(*fitted, *evaluate, "-q")
    assert (quiet.end(), quiet.shown) == (0, "")
    logged = Terminal(*fitted, "-q", "-v")
    assert logged.end() == 0
    assert "quantize: by recipe" in logged.shown
    assert "━" not in logged.shown


def test_an_interruption_while_a_bar_is_shown(fitted: list[object], tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "slow.py").write_text(
        f"import time\nfrom pathlib import Path\n\ndef metric(state):\n    Path({str(ready)!r}).touch()\n    time.sleep(60)\n"
    )
    before = {*tmp_path.iterdir(), ready}
    terminal = Terminal(*fitted, "--evaluate", f"{tmp_path / 'slow.py'}:metric")
    terminal.read_until(lambda: ready.exists() and "minify" in terminal.shown)
    terminal.process.send_signal(signal.SIGINT)
    started = time.monotonic()
    assert terminal.end() == 130
    assert time.monotonic() - started < 30
    assert terminal.shown.endswith("golfpack: interrupted\r\n")
    assert "Traceback" not in terminal.shown
    assert terminal.shown.rindex("\x1b[?25h") > terminal.shown.rindex("━")
    assert {path for path in tmp_path.iterdir() if path.name != "__pycache__"} == before
