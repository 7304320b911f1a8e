"""Running somebody's program in a process of its own, with a time limit, bounded output and nothing left behind.

The command runs in a session of its own: at the time limit, and when the caller is interrupted, its whole process group is
killed, the processes that it started included. (One that opens yet another session escapes; nothing waits for it.)
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

OUTPUT_LIMIT = 2**24  # bytes of each stream that are kept, half from its beginning, half from its end
# Variables that a program under test has no business with, or that would lead it to other files.
_WITHHELD = re.compile(
    r"GOLFPACK_|PYTHON(PATH|HOME|STARTUP|INSPECT)|.*(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_?KEY)"
)
_GRACE = 1.0  # seconds that processes left over may keep the pipes open after the command has ended


@dataclass(frozen=True)
class Execution:
    """What a command did.

    Attributes:
        status: its exit status, minus the signal's number where a signal ended it; None where it ran into the time limit.
        stdout: what it printed; of more than the limit, the beginning and the end, with a line between that says how much is
            left out.
        stderr: the same for standard error.
        seconds: how long it took.
    """

    status: int | None
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def timed_out(self) -> bool:
        """Whether the time limit ended it."""
        return self.status is None


class _Kept:
    """The first and the last bytes of a stream, half of the limit each."""

    def __init__(self, limit: int):
        self.half = limit // 2
        self.head = bytearray()
        self.tail = bytearray()
        self.size = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = max(self.half - len(self.head), 0)
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * self.half:  # seldom, so that the whole costs linear time
            del self.tail[: len(self.tail) - self.half]

    def value(self) -> bytes:
        tail = bytes(self.tail[max(len(self.tail) - self.half, 0) :])
        missing = self.size - len(self.head) - len(tail)
        return bytes(self.head) + (b"\n[%d bytes left out]\n" % missing if missing else b"") + tail


def execute(
    command: Sequence[str | Path],
    *,
    folder: str | Path,
    environment: Mapping[str, str],
    timeout: float,
    limit: int = OUTPUT_LIMIT,
) -> Execution:
    """Run a command with empty standard input.

    Args:
        command: program and arguments.
        folder: its working folder.
        environment: its whole environment.
        timeout: seconds after which it is killed, with all processes of its group.
        limit: bytes of standard output, and of standard error, that are kept.

    Raises:
        OSError: the program can't be started.
    """
    started = time.monotonic()
    with subprocess.Popen(
        list(map(str, command)),
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = _Kept(limit), _Kept(limit)
            assert process.stdout is not None
            assert process.stderr is not None
            status = _follow(process, {process.stdout: out, process.stderr: err}, started + timeout)
        finally:
            _kill_group(process)
    return Execution(status, out.value(), err.value(), time.monotonic() - started)


def permitted_environment() -> dict[str, str]:
    """This process's variables without those whose names speak of secrets, or that lead Python and loaders to other files."""
    return {name: value for name, value in os.environ.items() if not _WITHHELD.match(name.upper())}


def _follow(process: subprocess.Popen[bytes], streams: dict[IO[bytes], _Kept], deadline: float) -> int | None:
    """Read until the process has ended and its streams are closed; its status, or None at the deadline."""
    with selectors.DefaultSelector() as selector:
        for stream, kept in streams.items():
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, kept)
        ended = None  # when the process was first seen to have ended
        while selector.get_map() or ended is None:
            now = time.monotonic()
            if ended is None and process.poll() is not None:
                ended = now
            if now >= deadline and ended is None:
                return None
            if ended is not None and now >= ended + _GRACE:
                break
            wait = min(deadline - now, 0.1) if ended is None else 0.05
            if not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(wait, 0.0))
                continue
            for key, _ in selector.select(max(wait, 0.0)):
                data = os.read(key.fd, 2**16)
                if data:
                    key.data.add(data)
                else:
                    selector.unregister(key.fileobj)
    return process.returncode


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the command's process group, and reap the command itself."""
    # A group keeps its number while any process is in it; numbers of ended processes come round again only much later.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
