"""Outputs: none replaces an input, an interrupted one leaves the old file whole, and links, devices and modes are minded."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import run_python
from safetensors.torch import save_file
from test_artifact_runs import TORCH_DOUBLE

import generator
from generator import InputError
from generator.carriers.sidecar import digest_of
from generator.files import check_output, write_atomically
from generator.inputs import read_input

SCRIPT = """
from runtime_stub import load_state_dict, read_file
import helper
print(sorted(load_state_dict()), len(read_file("notes.txt")))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with everything that a build can be given."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "helper.py").write_text("VALUE = 1\n")
    (folder / "notes.txt").write_text("notes")
    (folder / "recipe.toml").write_text('[[rule]]\npattern = "*"\nquantizer = "fp16"\n')
    save_file({"w": torch.ones(3, 4)}, folder / "weights.safetensors")
    return folder


def same(path: Path) -> Path:
    return path


def soft(path: Path) -> Path:
    link = path.with_name("soft.py")
    link.symlink_to(path)
    return link


def hard(path: Path) -> Path:
    link = path.with_name("hard.py")
    link.hardlink_to(path)
    return link


def by_folder(path: Path) -> Path:
    (path.parent.parent / "linked").symlink_to(path.parent)
    return path.parent.parent / "linked" / path.name


def dotted(path: Path) -> Path:
    return path.parent / "." / ".." / path.parent.name / path.name


@pytest.mark.parametrize("lead", [same, soft, hard, by_folder, dotted], ids=lambda lead: lead.__name__)
@pytest.mark.parametrize("name", ["train.py", "helper.py", "notes.txt", "recipe.toml", "weights.safetensors"])
def test_no_output_replaces_an_input(golfpack, project: Path, name: str, lead: Callable[[Path], Path]) -> None:
    before = {path.name: path.read_bytes() for path in project.iterdir()}
    output = lead(project / name)
    result = golfpack(
        "build", project / "train.py", "-w", project / "weights.safetensors", "-r", project / "recipe.toml",
        "--include", project / "notes.txt", "-o", output,
    )  # fmt: skip
    assert (result.status, "is an input, too" in result.err) == (2, True), result.err
    assert {name: (project / name).read_bytes() for name in before} == before


def test_no_other_command_replaces_an_input(golfpack, project: Path) -> None:
    weights, script, recipe = project / "weights.safetensors", project / "train.py", project / "recipe.toml"
    (project / "plain.py").write_text("print(1)\n")
    (project / "calibration.py").write_text("def calibration(): pass\n")
    (project / "metric.py").write_text("def metric(state_dict): return 0\n")
    (project / "out.study.db").symlink_to(weights)
    before = {path.name: path.read_bytes() for path in project.iterdir()}
    fit = ["fit", script, "-w", weights, "-r", recipe, "--include", project / "notes.txt", "-o"]
    for arguments in (
        ["wrap", project / "plain.py", "-o", project / "plain.py"],
        ["encode", weights, "-o", weights],
        ["encode", weights, "-r", recipe, "-o", recipe],
        [*fit, weights],
        [*fit, project / "out.py"],  # whose study is the checkpoint
        [*fit, project / "new.py", "--points", recipe],
        [*fit, project / "metric.py", "--evaluate", f"{project / 'metric.py'}:metric"],
        [*fit, project / "new.py", "--points", project / "new.py"],
        ["calibrate", f"{project / 'calibration.py'}:calibration", "-o", project / "calibration.py"],
    ):
        result = golfpack(*arguments)
        assert (result.status, "is an input, too" in result.err) == (2, True), (arguments, result.err)
    assert {path.name: path.read_bytes() for path in project.iterdir()} == before


@pytest.mark.parametrize("name", ["source.py", "loader.py", "payload.gpk", "weights.safetensors", "bundle/helper.py"])
def test_unpack_does_not_replace_its_artifact(golfpack, project: Path, name: str) -> None:
    path = project / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    generator.build(project / "train.py", {"w": torch.ones(3)}, path, include=[project / "notes.txt"])
    before = path.read_bytes()
    result = golfpack("unpack", path, "-o", project)
    assert (result.status, "is an input, too" in result.err) == (2, True), result.err
    assert path.read_bytes() == before


def test_links_as_outputs_are_followed(project: Path) -> None:
    (project / "real.py").write_text("old")
    (project / "link.py").symlink_to("real.py")
    (project / "dangling.py").symlink_to("new.py")
    for link, target in (("link.py", "real.py"), ("dangling.py", "new.py")):
        generator.build(
            project / "train.py", {"w": torch.ones(3)}, project / link, carrier="sidecar", include=[project / "notes.txt"]
        )
        assert (project / link).is_symlink()
        assert not (project / target).is_symlink()
        assert generator.inspect(project / link).tensors
        assert generator.inspect(project / target).tensors


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match="cannot be written"):
        write_atomically(tmp_path / "a", b"x")


def test_outputs_that_are_no_files_are_refused(golfpack, project: Path) -> None:
    os.mkfifo(project / "pipe")
    (project / "plain.py").write_text("print(1)\n")
    for output in (project / "pipe", Path("/dev/null"), Path("/dev/full")):
        result = golfpack("wrap", project / "plain.py", "-o", output)
        assert (result.status, "not a regular file" in result.err) == (2, True), result.err
        assert not stat.S_ISREG(output.stat().st_mode)
    result = golfpack("wrap", project / "plain.py", "-o", project)
    assert (result.status, "is a folder" in result.err) == (2, True)


def test_inputs_that_never_end_are_refused(golfpack, project: Path) -> None:
    os.mkfifo(project / "pipe")
    for path in (project / "pipe", Path("/dev/zero")):
        for arguments in (["wrap", path, "-o", project / "o.py"], ["inspect", path], ["unpack", path, "-o", project / "d"]):
            result = golfpack(*arguments)
            assert (result.status, ", not a file" in result.err) == (2, True), result.err


def test_bad_paths_are_one_sentence(golfpack, project: Path) -> None:
    (project / "plain.py").write_text("print(1)\n")
    for output in (project / ("x" * 300), Path(f"{project}/a\0b")):
        with pytest.raises(InputError, match="cannot be written"):
            generator.wrap(project / "plain.py", output)
        with pytest.raises(InputError, match="cannot be read|not a possible file name"):
            generator.inspect(output)
    longest = project / ("y" * 252 + ".py")
    assert golfpack("wrap", project / "plain.py", "-o", longest).status == 0
    assert longest.exists()


def test_modes_are_kept(project: Path) -> None:
    (project / "plain.py").write_text("print(1)\n")
    output = project / "out.py"
    generator.wrap(project / "plain.py", output)
    assert stat.S_IMODE(output.stat().st_mode) & 0o077 == 0o077 & 0o666 & ~current_umask()
    output.chmod(0o755)
    generator.wrap(project / "plain.py", output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o755
    output.chmod(0o444)
    before = output.read_bytes()
    with pytest.raises(InputError, match="write-protected"):
        generator.wrap(project / "plain.py", output)
    assert output.read_bytes() == before


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_read_input_names_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="script .*nowhere does not exist"):
        read_input(tmp_path / "nowhere", "script")
    with pytest.raises(InputError, match="is a folder"):
        read_input(tmp_path)
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(InputError, match="has 11 bytes, more than the 10"):
        read_input(tmp_path / "large", limit=10)
    with pytest.raises(InputError, match="not a writable folder"):
        check_output(tmp_path / "large" / "x")


def test_what_a_check_raises_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")

    def refuse(path: Path) -> None:
        assert path.read_bytes() == b"new"
        assert path.parent == tmp_path
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        write_atomically(tmp_path / "file", b"new", refuse)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


# --- sidecars: two files that belong together


def build_sidecar(folder: Path, value: float, name: str = "train_gpt.py") -> Path:
    script = folder / "sidecar_script.py"
    script.write_text("from runtime_stub import load_state_dict\nprint(load_state_dict()['w'].tolist())\n")
    generator.build(script, {"w": torch.full((3,), float(value))}, folder / name, carrier="sidecar")
    return folder / name


def beside(path: Path) -> list[Path]:
    return sorted(path.parent.glob("*.bin"))


def test_a_sidecar_is_replaced_as_a_pair(tmp_path: Path) -> None:
    path = build_sidecar(tmp_path, 1)
    [first] = beside(path)
    assert digest_of(first.read_bytes()) in first.name
    build_sidecar(tmp_path, 2)
    [second] = beside(path)
    assert first != second
    assert generator.unpack(path).state_dict["w"].tolist() == [2, 2, 2]
    generator.build(tmp_path / "sidecar_script.py", {"w": torch.ones(3)}, path)  # and by another carrier
    assert beside(path) == []


def test_a_copy_of_a_sidecar_keeps_its_payload(tmp_path: Path) -> None:
    path = build_sidecar(tmp_path, 1)
    copy = tmp_path / "best.py"
    copy.write_bytes(path.read_bytes())
    build_sidecar(tmp_path, 2)
    assert len(beside(path)) == 2
    assert generator.unpack(copy).state_dict["w"].tolist() == [1, 1, 1]
    assert run_python(sys.executable, copy, cwd=Path("/")) == "[1.0, 1.0, 1.0]\n"


def test_two_artifacts_of_one_stem_do_not_mix(tmp_path: Path) -> None:
    first, second = build_sidecar(tmp_path, 1, "model.py"), build_sidecar(tmp_path, 2, "model.txt")
    assert generator.unpack(first).state_dict["w"].tolist() == [1, 1, 1]
    assert generator.unpack(second).state_dict["w"].tolist() == [2, 2, 2]


def test_a_foreign_file_of_the_payloads_name_stays(tmp_path: Path) -> None:
    path = build_sidecar(tmp_path, 1)
    [payload] = beside(path)
    path.unlink()
    payload.write_bytes(b"somebody's")
    with pytest.raises(InputError, match="is there already and is another file"):
        build_sidecar(tmp_path, 1)
    assert payload.read_bytes() == b"somebody's"
    assert not path.exists()


def test_the_payload_of_another_model_is_refused(tmp_path: Path) -> None:
    path = build_sidecar(tmp_path, 1)
    [payload] = beside(path)
    (tmp_path / "other").mkdir()
    [other] = beside(build_sidecar(tmp_path / "other", 2))
    for wrong in (other.read_bytes(), b"", payload.read_bytes()[:-1], payload.read_bytes() + b"\0"):
        payload.write_bytes(wrong)
        with pytest.raises(InputError, match="not the payload that the artifact was made with"):
            generator.verify(path)
        completed = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
        assert (completed.returncode, completed.stderr) == (1, "damaged file: checksum mismatch\n")


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
import generator
from generator import files

moments = int(sys.argv[3])
def counted(function):
    def call(*arguments, **options):
        global moments
        moments -= 1
        if not moments:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call
for method in ("replace", "unlink", "chmod"):
    setattr(Path, method, counted(getattr(Path, method)))
generator.build(sys.argv[1], {"w": torch.full((3,), 2.0)}, sys.argv[2], carrier="sidecar")
print("done")
"""


def test_a_kill_at_any_moment_leaves_a_whole_pair(tmp_path: Path) -> None:
    path = build_sidecar(tmp_path, 1)
    seen = set()
    for moment in range(1, 20):
        build_sidecar(tmp_path, 1)
        completed = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path / "sidecar_script.py"), str(path), str(moment)],
            capture_output=True,
            text=True,
        )
        seen.add(generator.unpack(path).state_dict["w"].tolist()[0])
        if completed.returncode == 0:
            break
        assert completed.returncode == -signal.SIGKILL, completed.stderr
    assert completed.stdout == "done\n"
    assert seen == {1.0, 2.0}
    assert moment > 4
    [_] = beside(path)


NAMES = ['we"ird.py', "it's.py", "a\\b.py", "new\nline.py", "\U0001f600.py", "naïve.py", "{{x}}.py", "%s.py"]


ASKS = "from runtime_stub import load_state_dict, read_file\nprint(load_state_dict()['w'].numpy().tolist(){more})\n"


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(tmp_path: Path, name: str) -> None:
    script, notes = tmp_path / "s.py", tmp_path / f"{name}.txt"
    notes.write_text("notes")
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    # As names of carried files, those that would lead elsewhere on some system are refused.
    carried = [notes] if "\\" not in name and "\n" not in name else []
    script.write_text(ASKS.format(more=f", read_file({notes.name!r}).decode()" if carried else ""))
    for carrier in ("sidecar", "base85"):
        generator.build(script, {"w": torch.ones(2)}, tmp_path / name, carrier=carrier, include=carried)
        assert generator.verify(tmp_path / name).passed
        output = run_python(sys.executable, tmp_path / name, cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)})
        assert output == ("[1.0, 1.0] notes\n" if carried else "[1.0, 1.0]\n")
