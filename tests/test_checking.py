"""`--check`: script and packed file are run, and a difference in what they print, write or return stops the build."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

import generator
from generator.audit.likeness import comparable_lines, difference, variation
from generator.errors import CheckError, InputError


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text).lstrip())
    return path


PROGRAM = """
    import os, sys, warnings
    import helper

    class OwnError(Exception):
        pass

    def train(steps):
        warnings.warn("slow")
        print("training", steps, helper.VALUE, repr(sys.stdin.read()), os.listdir("."), __file__, sys.argv[0])
        print(object(), os.getcwd(), "GOLFPACK_PAYLOAD" in os.environ, {"b", "a"})
        os.makedirs("logs")
        with open("logs/run.txt", "w") as file:
            print("steps", steps, "in", os.getcwd(), file=file)
        with open("model.bin", "wb") as file:
            file.write(bytes(range(256)))

    train(int(sys.argv[1]))
    if len(sys.argv) > 2:
        raise OwnError(sys.argv[2])
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A script in a folder of its own, with a module beside it."""
    (tmp_path / "source").mkdir()
    write(tmp_path / "source" / "helper.py", "VALUE = 7")
    return write(tmp_path / "source" / "program.py", PROGRAM)


@pytest.mark.parametrize("carrier", ["base85", "latin1", "zip"])
def test_a_packed_script_that_does_the_same(golfpack, tmp_path: Path, program: Path, carrier: str) -> None:
    output = tmp_path / "dist" / "train_gpt.py"
    result = golfpack("wrap", program, "-o", output, "--carrier", carrier, "--check", "--", 3)
    assert result.status == 0, result.err
    # Two lines of output, the warning, and two files.
    assert "the same as the script: exit status 0, 3 lines printed, 2 files written" in result.err
    assert output.exists()
    assert sorted(path.name for path in program.parent.iterdir()) == ["helper.py", "program.py"]


def test_a_script_that_fails_must_fail_alike(golfpack, tmp_path: Path, program: Path) -> None:
    result = golfpack("wrap", program, "-o", tmp_path / "out.py", "--check", "--", 3, "on purpose")
    assert result.status == 0, result.err
    assert "exit status 1, 5 lines printed" in result.err
    assert "program.py itself ends with exit status 1 here (OwnError: on purpose)" in result.err


def test_a_difference_leaves_the_old_file(golfpack, tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", "print('start')\nprint(len(open(__file__).read()))\n")
    output = tmp_path / "out.py"
    output.write_text("old")
    result = golfpack("wrap", script, "-o", output, "--check")
    assert result.status == 1
    assert f"golfpack: packed, script {script} does something else: line 2 of standard output is '49', packed '" in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.py", "script.py"]


def test_arguments_are_for_the_check_alone(golfpack, tmp_path: Path, program: Path) -> None:
    result = golfpack("wrap", program, "-o", tmp_path / "out.py", "--", 3)
    assert result.status == 2
    assert "arguments '3' are for --check, which is not given" in result.err
    assert not (tmp_path / "out.py").exists()


@pytest.mark.parametrize("carrier", ["base85", "sidecar"])
def test_weights(golfpack, tmp_path: Path, script: Path, checkpoint: Path, carrier: str) -> None:
    output = tmp_path / "dist" / "out.py"
    result = golfpack("build", script, "-w", checkpoint, "-o", output, "--carrier", carrier, "--check")
    assert result.status == 0, result.err
    assert "exit status 0, 7 lines printed, 0 files written" in result.err


def run_both(folder: Path, original: str, packed: str, **options: object) -> generator.Comparison:
    """Compare a program with what another one is packed into."""
    for name, text in (("original", original), ("other", packed)):
        write(folder / f"{name}.py", text)
    generator.wrap(folder / "other.py", folder / "packed.py")
    return generator.check(folder / "original.py", folder / "packed.py", **options)


DIFFERENT = {
    "a line": ("print(1)\nprint('a 2')", "print(1)\nprint('a 3')", "line 2 of standard output is 'a 2', packed 'a 3'"),
    "a line is missing": ("print(1)\nprint(2)", "print(1)", "line 2 of standard output, '2', is missing packed"),
    "a line more": ("print(1)", "print(1)\nprint(2)", "standard output has a line more packed, '2'"),
    "standard error": (
        "import sys\nprint('x', file=sys.stderr)",
        "import sys\nprint('y', file=sys.stderr)",
        "line 1 of standard error is 'x', packed 'y'",
    ),
    "exit status": ("print(1)", "print(1)\nraise SystemExit(3)", "exit status 0, packed 3"),
    "exception": (
        "def f():\n    1 / 0\nf()",
        "raise ZeroDivisionError('other')",
        "'ZeroDivisionError: division by zero', packed",
    ),
    "file's text": ("open('a', 'w').write('x 1')", "open('a', 'w').write('x 2')", "line 1 of file a is 'x 1', packed 'x 2'"),
    "file's bytes": ("open('a', 'wb').write(b'\\0')", "open('a', 'wb').write(b'\\0\\0')", "file a has other bytes packed"),
    "file is missing": ("open('a', 'w')", "pass", "file a is missing packed"),
    "file more": ("pass", "open('a', 'w')", "file a is written packed only"),
    "link": ("import os\nos.symlink('x', 'a')", "import os\nos.symlink('y', 'a')", "file a has other bytes packed"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_named(tmp_path: Path, name: str) -> None:
    original, packed, message = DIFFERENT[name]
    with pytest.raises(CheckError) as error:
        run_both(tmp_path, original, packed)
    assert message in str(error.value)
    assert str(error.value).startswith(f"packed, script {tmp_path / 'original.py'} does something else: ")
    assert "\n" not in str(error.value)


VARYING = """
    import os, time
    print(f"step 1 loss 0.25 time {time.perf_counter_ns() % 10**9:>12}")
    open("log", "wb").write(os.urandom(8) + bytes(1))
"""


def test_numbers_that_vary_by_themselves_are_left_out(tmp_path: Path) -> None:
    comparison = run_both(tmp_path, VARYING, VARYING)
    assert comparison.notes == [
        "some numbers in standard output (line 1) differ each time the script runs, and were not compared",
        "file log differs each time the script runs; what differs was not compared",
    ]
    # The other numbers of such a line still count.
    with pytest.raises(CheckError, match=r"line 1 of standard output is 'step 1 loss 0.25 .*packed 'step 1 loss 0.26"):
        run_both(tmp_path, VARYING, VARYING.replace("0.25", "0.26"))


def test_a_script_that_differs_from_itself(tmp_path: Path) -> None:
    program = "import os\nprint('start')\nprint('id', *(chr(97 + byte % 26) for byte in os.urandom(20)))"
    with pytest.raises(CheckError, match=r"itself does something else each time it runs.*: line 2 .* is 'id .*', in the next"):
        run_both(tmp_path, program, program)


def test_the_time_limit(golfpack, tmp_path: Path) -> None:
    script = write(tmp_path / "script.py", "import time\ntime.sleep(600)\n")
    result = golfpack("wrap", script, "-o", tmp_path / "out.py", "--check", "--timeout", 1)
    assert result.status == 1
    assert f"golfpack: script {script} has not finished after 1 seconds (--timeout)" in result.err
    assert not (tmp_path / "out.py").exists()
    with pytest.raises(CheckError, match=r"packed.py, packed from .*original.py, has not finished after 5 seconds"):
        run_both(tmp_path, "print(1)", "import time\ntime.sleep(600)", timeout=5)


def test_a_missing_script(tmp_path: Path) -> None:
    generator.wrap(write(tmp_path / "script.py", "print(1)"), tmp_path / "out.py")
    with pytest.raises(InputError, match=r"script .*nothing\.py does not exist"):
        generator.check(tmp_path / "nothing.py", tmp_path / "out.py")


def test_the_environment_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_PATH", "/data")
    monkeypatch.setenv("GOLFPACK_PAYLOAD", "/elsewhere")
    program = "import os\nassert os.environ['DATA_PATH'] == '/data'\nassert 'GOLFPACK_PAYLOAD' not in os.environ"
    assert run_both(tmp_path, program, program).status == 0
    assert os.environ["GOLFPACK_PAYLOAD"] == "/elsewhere"


TRACEBACK = """\
first
Traceback (most recent call last):
  File "/x/script.py", line 3, in f
    return g()
           ^^^
  [Previous line repeated 5 more times]
ValueError: bad

The above exception was the direct cause of the following exception:

  + Exception Group Traceback (most recent call last):
  |   File "/x/script.py", line 4, in <module>
  |     raise x
  | ExceptionGroup: several (1 sub-exception)
  +-+---------------- 1 ----------------
    | KeyError: 'k'
    +------------------------------------
/x/script.py:7: UserWarning: careful at 0x12ab
  warnings.warn("careful")
last <object object at 0x7f00aa> in /x/other and /tmp/run/a
"""


def test_what_is_compared_of_an_output() -> None:
    lines = comparable_lines(TRACEBACK, {"/x/script.py": "<script>", "/x": "<folder>", "/tmp/run": "<working folder>"})
    assert [line.text for line in lines] == [
        "first",
        "Traceback (most recent call last):",
        "ValueError: bad",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "  + Exception Group Traceback (most recent call last):",
        "  | ExceptionGroup: several (1 sub-exception)",
        "  +-+---------------- 1 ----------------",
        "    | KeyError: 'k'",
        "    +------------------------------------",
        "UserWarning: careful at 0x…",
        "last <object object at 0x…> in <folder>/other and <working folder>/a",
    ]
    assert lines[2].number == 7
    assert [line.text for line in comparable_lines("my_script.py script.pyc script.py", {"script.py": "S"})] == [
        "my_script.py script.pyc S"
    ]


def test_numbers_vary_by_position_and_shape() -> None:
    first = comparable_lines("step 1 time 9\nstep 2 time 10\nend 5", {})
    second = comparable_lines("step 1 time   11\nstep 2 time 10\nend 5", {})
    known = variation(first, second)
    assert known.lines == {1}
    assert difference("x", first, comparable_lines("step 1 time 7\nstep 2 time 88\nend 5", {}), "then", known) == ""
    for text in (
        "step 1 time 7\nstep 3 time 88\nend 5",
        "step 1 time 7\nstep 2 time 88\nend 6",
        "step 1 time x\nstep 2 time 88",
    ):
        assert difference("x", first, comparable_lines(text, {}), "then", known) != ""
