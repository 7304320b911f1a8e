"""Whether packed scripts behave as their originals: CPython's own tests, run as scripts, as they are and packed.

    python benchmarks/cpython_scripts.py [NAME...] [-o benchmarks/results/cpython_scripts.md]

The scripts are those of the interpreter that runs this (its `test` package), as far as they end with unittest.main() and
finish within the time limit. Each is copied into an empty folder and run there by its own, then packed by
`golfpack wrap --no-bundle` and run the same way; a hook in the interpreter notes the outcome of every test. Compared are these
outcomes, the totals that unittest prints, and the exit status. Where they differ, the original runs once more, to tell scripts
that differ from themselves.

Every difference must have its reason in REASONS; one without is an error, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

import generator
from generator.audit.execution import execute
from generator.version import __version__

TIMEOUT = 15.0  # seconds that an original may take; a packed one gets three times as many
SIZE_LIMIT = 200_000  # bytes of a script

# What is no comparison of two files: needs a display or a network, fills disks, or depends on how busy the machine is.
LEFT_OUT = re.compile(
    r"test_(asyn\w*|concurrent\w*|multiprocessing\w*|thread\w*|sock\w*|ssl|ftplib|poplib|imaplib|smtp\w*|telnetlib|nntplib|http\w*|"
    r"urllib\w*net|urllib2_localnet|xmlrpc|wsgiref|tkinter|ttk\w*|tk|turtle|idle|curses|largefile|bigmem|zipfile64|tools|"
    r"fork\w*|wait\w*|signal|subprocess|os|posix|pty|kqueue|epoll|poll|select\w*|devpoll|gdb|faulthandler|regrtest|venv|ensurepip|"
    r"sched|time|timeout|queue|logging|docxmlrpc|signal|eintr|cmd_line\w*|crashers|lib2to3|distutils|mailbox|gc|weakref|"
    r"ttk_\w+|winreg|winsound|winconsoleio|msilib|ossaudiodev|startfile|ioctl|nis|spwd|smtpd|peg_generator|c_\w+|cppext)"
)

# What a packed script can't keep, as the README says: the code is executed from a string, with other line numbers, without
# source text, with short names for local variables and, where Python itself prints them, for functions and classes.
_LINES = "compares line numbers of its own code; those of packed code are others"
_SOURCE = "compares source lines in tracebacks of its own code; packed code has no source text at hand"
_FILE = "expects its own file name in its frames; packed code is executed from <string>"
_CODE = "compares the bytecode, line tables or variable names of its own functions"
_MESSAGES = "compares Python's error messages about its own functions, with the names of their parameters"

REASONS: dict[str, str] = {
    "test_bdb": f"a debugger's stops: {_LINES}",
    "test_call": _MESSAGES,
    "test_compile": _CODE,
    "test_contextlib": _SOURCE,
    "test_contextlib_async": _SOURCE,
    "test_coroutines": _LINES,
    "test_dis": _CODE,
    "test_exception_group": _LINES,
    "test_exceptions": f"{_LINES}; {_MESSAGES}",
    "test_frame": f"{_LINES}; {_FILE}",
    "test_gettext": f"places of warnings: {_FILE}",
    "test_pyexpat": f"places in tracebacks: {_FILE}",
    "test_re": f"places of warnings: {_FILE}",
    "test_sys": _SOURCE,
    "test_sys_settrace": f"events of a trace function, and jumps to lines, one of which never ends: {_LINES}",
    "test_trace": f"events of a trace function: {_LINES}, and {_FILE}",
    "test_traceback": f"{_SOURCE}; {_FILE}",
    "test_tracemalloc": f"places of allocations: {_FILE}",
}

# Runs in every interpreter that is started, so it only acts where the variable asks for it, and once.
HOOK = """
import os
record = os.environ.pop("GOLFPACK_RECORD", "")
if record:
    os.environ.pop("PYTHONPATH", None)
    import json, unittest.runner
    result = unittest.runner.TextTestResult
    owner = os.getpid()
    def note(outcome, position):
        original = getattr(result, outcome)
        def noting(self, *arguments):
            test = arguments[0]
            if os.getpid() == owner:
                error = arguments[position] if position and len(arguments) > position else None
                text = f"{error[0].__name__}: {error[1]}" if isinstance(error, tuple) else ""
                name = getattr(test, "_testMethodName", None) or str(test).split(" ")[0]
                with open(record, "a", encoding="utf-8", errors="backslashreplace") as file:
                    print(json.dumps([type(test).__name__, name, outcome[3:].lower(), text.strip()[-300:]]), file=file)
            return original(self, *arguments)
        setattr(result, outcome, noting)
    subtest = result.addSubTest
    def noting_subtest(self, test, part, error):
        if error is not None and os.getpid() == owner:
            with open(record, "a", encoding="utf-8", errors="backslashreplace") as file:
                values = [type(test).__name__, test._testMethodName, "subtest failed", str(error[1])[-300:]]
                print(json.dumps(values), file=file)
        return subtest(self, test, part, error)
    result.addSubTest = noting_subtest
    for outcome, position in (("addSuccess", 0), ("addError", 1), ("addFailure", 1), ("addSkip", 0),
                              ("addExpectedFailure", 0), ("addUnexpectedSuccess", 0)):
        note(outcome, position)
"""


@dataclass
class Run:
    """What a script did: tests as (class, method, outcome, error), the totals that were printed, and the end."""

    status: int | None
    tests: list[tuple[str, str, str, str]]
    totals: str
    last_line: str
    seconds: float


@dataclass
class Result:
    """One script: "identical", "different", "unstable", or why it was not compared."""

    name: str
    verdict: str
    tests: int = 0
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


def scripts(folder: Path, names: list[str]) -> Iterator[Path]:
    """The candidates, in alphabetical order."""
    for path in sorted(folder.glob("test_*.py")):
        text = path.read_bytes()
        wanted = path.stem in names if names else not LEFT_OUT.fullmatch(path.stem) and len(text) <= SIZE_LIMIT
        if wanted and b"unittest.main()" in text:
            yield path


def run_script(path: Path, timeout: float) -> Run:
    """Run a copy in an empty folder of the same name."""
    with tempfile.TemporaryDirectory(prefix="golfpack-cpython-") as folder:
        root = Path(folder)
        for name in ("hook", "script", "work", "home"):
            (root / name).mkdir()
        (root / "hook" / "sitecustomize.py").write_text(HOOK)
        copied = root / "script" / path.name
        copied.write_bytes(path.read_bytes())
        record = root / "record"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(root / "home"),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(root / "hook"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "GOLFPACK_RECORD": str(record),
        }
        done = execute([sys.executable, copied], folder=root / "work", environment=environment, timeout=timeout)
        tests = [tuple(json.loads(line)) for line in record.read_text().splitlines()] if record.exists() else []
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    ran = [line.split(" in ")[0] for line in lines if re.match(r"Ran \d+ tests?", line)]
    ended = [line for line in lines if re.match(r"(OK|FAILED|NO TESTS RAN)\b", line)]
    return Run(done.status, tests, ", ".join([*ran[-1:], *ended[-1:]]), lines[-1][:200] if lines else "", done.seconds)


def differences(original: Run, packed: Run) -> list[str]:
    """What differs, test by test. A class that packing renamed is told by its methods' names alone."""
    kept = {test[0] for test in original.tests} & {test[0] for test in packed.tests}

    def outcomes(run: Run) -> Counter[tuple[str, str]]:
        return Counter((f"{test[0] if test[0] in kept else '?'}.{test[1]}", test[2]) for test in run.tests)

    before, after = outcomes(original), outcomes(packed)
    if before == after and (original.totals, original.status) == (packed.totals, packed.status):
        return []
    why = {test[1]: test[3] for test in packed.tests if test[3]}
    found = []
    gone, new = before - after, after - before
    for test, outcome in sorted(gone):
        now = sorted(found_outcome for name, found_outcome in new if name == test)
        error = why.get(test.split(".", 1)[1], "") if now else ""
        found.append(f"{test}: {outcome} → {now[0] if now else 'not run'}{': ' + error if error else ''}")
    found += [f"{test}: not run → {outcome}" for test, outcome in sorted(new) if test not in {name for name, _ in gone}]
    if (original.totals, original.status) != (packed.totals, packed.status):
        found.append(f"{original.totals or original.last_line} → {packed.totals or packed.last_line}")
    return found


def compare(path: Path) -> Result:
    """Run one script both ways."""
    started = time.monotonic()
    result = Result(path.stem, "identical")
    original = run_script(path, TIMEOUT)
    result.tests = len(original.tests)
    if original.status is None or not original.tests:
        result.verdict = f"not finished after {TIMEOUT:g} s" if original.status is None else "runs no test as a script"
        return result
    with tempfile.TemporaryDirectory(prefix="golfpack-cpython-") as folder:
        packed_path = Path(folder, path.name)
        try:
            inspection = generator.wrap(path, packed_path, local_modules=False, compressor="zlib")
        except Exception as error:  # whatever it is, it is this script's result, and the others go on
            result.verdict, result.differences = "different", [f"not packed: {type(error).__name__}: {error}"]
            return result
        result.notes = inspection.notes
        packed = run_script(packed_path, 3 * TIMEOUT)
    result.differences = differences(original, packed)
    if result.differences:
        result.verdict = "different"
        again = differences(original, run_script(path, TIMEOUT))
        if again:
            unstable = {line.split(": ")[0] for line in again}
            result.differences = [line for line in result.differences if line.split(": ")[0] not in unstable]
            result.verdict = "unstable" if len(result.differences) <= 1 else "different"
    result.seconds = time.monotonic() - started
    return result


def table(results: list[Result]) -> list[str]:
    """The report's lines."""
    compared = [result for result in results if result.verdict in {"identical", "different"}]
    different = [result for result in compared if result.verdict == "different"]
    unexplained = [result for result in different if result.name not in REASONS]
    others = [result for result in results if result not in compared]
    lines = [
        "# CPython's tests, as they are and packed",
        "",
        f"`python benchmarks/cpython_scripts.py`, golfpack {__version__}, Python {platform.python_version()}. Each script of",
        "the interpreter's `test` package that runs by itself is run as it is and packed (`golfpack wrap --no-bundle`), and",
        "the outcomes of all its tests are compared. The reasons are those of the table REASONS in the benchmark.",
        "",
        "| scripts | number |",
        "| --- | ---: |",
        f"| compared | {len(compared)} ({sum(result.tests for result in compared):,} tests) |",
        f"| identical | {len(compared) - len(different)} |",
        f"| different, for a documented reason | {len(different) - len(unexplained)} |",
        f"| different, unexplained | {len(unexplained)} |",
        "",
        "| script | tests that differ | first | packing noted | reason |",
        "| --- | ---: | --- | --- | --- |",
    ]
    for result in different:
        cells = [
            result.name,
            f"{max(len(result.differences) - 1, 1)} of {result.tests}",
            re.sub(r"\S*/golfpack-cpython-\w+", "…", result.differences[0])[:160],
            "; ".join(result.notes[:2])[:160],
            REASONS.get(result.name, "**unexplained**"),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    lines += ["", "Not compared:", ""]
    for verdict in sorted({result.verdict for result in others}):
        names = ", ".join(result.name for result in others if result.verdict == verdict)
        text = "gives other results each time it runs" if verdict == "unstable" else verdict
        lines.append(f"- {text}: {names}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="scripts to compare, without .py; default: all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument(
        "--json", type=Path, help="results as JSON lines; scripts that are in there and not named don't run again"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "cpython_scripts.md")
    arguments = parser.parse_args()
    import test

    known = {}
    if arguments.json and arguments.json.exists():
        known = {
            result.name: result for line in arguments.json.read_text().splitlines() for result in [Result(**json.loads(line))]
        }
    paths = [path for path in scripts(Path(test.__file__).parent, arguments.names) if arguments.names or path.stem not in known]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for count, future in enumerate(as_completed([pool.submit(compare, path) for path in paths]), 1):
            result = future.result()
            known[result.name] = result
            print(f"{count}/{len(paths)} {result.name}: {result.verdict}, {result.seconds:.0f} s", flush=True)
            for line in result.differences[:5]:
                print(f"    {line[:300]}", flush=True)
            if arguments.json:
                with arguments.json.open("a") as file:
                    print(json.dumps(asdict(result)), file=file)
    results = [known[name] for name in sorted(known)]
    lines = table(results)
    if arguments.json or not arguments.names:
        arguments.output.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[6:12]))
    return int(any(result.verdict == "different" and result.name not in REASONS for result in results))


if __name__ == "__main__":
    sys.exit(main())
