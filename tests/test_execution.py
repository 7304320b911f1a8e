"""Running programs: status, output kept within bounds, and no process left behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from generator.audit.execution import Execution, execute


def run(folder: Path, code: str, timeout: float = 60, **options: int) -> Execution:
    return execute([sys.executable, "-c", code], folder=folder, environment=dict(os.environ), timeout=timeout, **options)


def is_gone(pid: int) -> bool:
    """Whether a process is no more, or a zombie that waits for init; it may take a moment to die."""
    for _ in range(200):
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_status_output_and_working_folder(tmp_path: Path) -> None:
    result = run(tmp_path, "import os, sys; print(os.getcwd()); print('oh', file=sys.stderr); sys.exit(3)")
    assert (result.status, result.timed_out) == (3, False)
    assert result.stdout.decode().strip() == str(tmp_path.resolve())
    assert result.stderr == b"oh\n"


def test_standard_input_is_empty_and_the_environment_is_what_was_given(tmp_path: Path) -> None:
    code = "import os, sys; print(repr(sys.stdin.read()), sorted(set(os.environ) - {'LC_CTYPE'}))"
    result = execute([sys.executable, "-c", code], folder=tmp_path, environment={"ONLY": "1"}, timeout=60)
    assert result.stdout == b"'' ['ONLY']\n"


def test_a_signal_shows_as_a_negative_status(tmp_path: Path) -> None:
    assert run(tmp_path, "import os; os.kill(os.getpid(), 9)").status == -9


def test_output_beyond_the_limit_keeps_both_ends(tmp_path: Path) -> None:
    code = "import sys\nfor i in range(300000): print(i)\nsys.stderr.write('x' * 10)"
    result = run(tmp_path, code, limit=1000)
    whole = b"".join(b"%d\n" % number for number in range(300000))
    assert result.stdout == whole[:500] + b"\n[%d bytes left out]\n" % (len(whole) - 1000) + whole[-500:]
    assert result.stderr == b"x" * 10
    assert run(tmp_path, "print('a' * 999)", limit=1000).stdout == b"a" * 999 + b"\n"


CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
"""


def test_the_time_limit_ends_the_whole_group(tmp_path: Path) -> None:
    result = run(tmp_path, CHILD + "time.sleep(600)", timeout=5)
    assert result.timed_out
    assert result.status is None
    assert is_gone(int(result.stdout))


def test_a_child_that_outlives_its_parent_is_ended_and_not_waited_for(tmp_path: Path) -> None:
    result = run(tmp_path, CHILD)
    assert result.status == 0
    assert is_gone(int(result.stdout))


def test_a_program_that_closes_its_output_is_waited_for(tmp_path: Path) -> None:
    code = "import os, sys, time; os.close(1); os.close(2); time.sleep(0.3); os._exit(5)"
    assert run(tmp_path, code).status == 5


def test_an_interrupted_caller_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def interrupted(process: object, *_: object) -> None:
        seen.append(process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr("generator.audit.execution._follow", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, "import time; time.sleep(600)")
    assert is_gone(seen[0])
