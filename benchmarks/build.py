"""Time and peak memory of each stage of the work, from calibration to loading, and how they grow with the model.

    make bench-build [BASELINE=REVISION]
    python benchmarks/build.py --sizes 1M,10M --stages build,load --baseline REVISION [-o benchmarks/results/build.md]

Random GPTs (benchmarks/random_gpt.py), each stage a process of its own; another revision, checked out beside, takes its turn
after each. Of a short stage, whose time others on the machine disturb, the quickest of several runs counts. A stage that a
chosen one needs is run, too. Times hold the start of Python and torch; a stage is stopped at the limit.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from generator.version import __version__

ROOT = Path(__file__).parent.parent
SIZES = ("1M", "10M", "30M", "100M")  # of benchmarks/random_gpt.py; it is not imported, see `measure`
BYTES_PER_WEIGHT = 0.5  # that `fit` is given
RUNS = 3  # of a stage, as long as they take
SHORT = 60  # seconds together
SCRIPT = "from runtime_stub import load_state_dict\nprint(sum(tensor.numel() for tensor in load_state_dict().values()))\n"


@dataclass(frozen=True)
class Stage:
    """A command, what it makes, and the stage before it that it needs.

    Attributes:
        arguments: of Python; {folder} is the revision's folder for this size, {inputs} that of the inputs.
        file: whose size is told.
    """

    arguments: str
    file: str
    needs: str = ""


WARM = "import torch, generator.building, generator.calibration"  # compiled, and in the system's cache, before the first run

STAGES = {
    "calibrate": Stage(
        "-m golfpack calibrate {benchmarks}/random_gpt.py:calibration -o {folder}/s.safetensors", "s.safetensors"
    ),
    "fit": Stage(
        "-m golfpack fit {inputs}/script.py -w {inputs}/weights.safetensors -s {folder}/s.safetensors --budget {budget} "
        "-o {folder}/fitted.py",
        "fitted.py",
        "calibrate",
    ),
    "build": Stage(
        "-m golfpack build {inputs}/script.py -w {inputs}/weights.safetensors --budget 1000000000 -o {folder}/built.py",
        "built.py",
    ),
    "verify": Stage("-m golfpack verify {folder}/built.py --budget 1000000000", "built.py", "build"),
    "load": Stage("{folder}/built.py", "built.py", "build"),
}


@dataclass(frozen=True)
class Measured:
    """One run of a stage: elapsed and processor seconds, and peak resident memory and the file's size in MB (10⁶ bytes)."""

    seconds: float
    processor: float
    memory: float
    file: float


@dataclass(frozen=True)
class Row:
    """A stage at one size, by both revisions: figures, or why there are none."""

    stage: str
    weights: int
    runs: tuple[Measured | str, ...]


def measure(arguments: list[str], environment: dict[str, str], folder: Path, limit: float) -> Measured | str:
    """Run Python, stopped after `limit` seconds; the file is not filled in.

    The system tells the peak memory of a finished process. That of the process that started it counts, too, which is why
    nothing large is imported here.
    """
    log = folder / "log.txt"
    start = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, cwd=folder, stdout=output, stderr=output, start_new_session=True
        )
        stop = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
        stop.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        late = not stop.is_alive()
        stop.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and late:
        return f"more than {limit:g} s"
    if process.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        return f"failed: {lines[-1] if lines else process.returncode}"
    unit = 1 if sys.platform == "darwin" else 1024
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6, 0)


def quickest(arguments: list[str], environment: dict[str, str], folder: Path, limit: float) -> Measured | str:
    """Of up to RUNS runs, that which took least processor time; as `measure`."""
    runs: list[Measured] = []
    while len(runs) < RUNS and sum(one.seconds for one in runs) < SHORT:
        measured = measure(arguments, environment, folder, limit)
        if isinstance(measured, str):
            return measured
        runs.append(measured)
    return min(runs, key=lambda one: one.processor)


def run(name: str, root: Path, inputs: Path, weights: int, results: dict[str, Measured | str], limit: float) -> Measured | str:
    """A stage by the revision that lies at `root`, in a folder of its own.

    Args:
        name: of the stage.
        root: of the revision.
        inputs: where script and weights are.
        weights: their number.
        results: of this revision's stages before; one that it needs must have worked.
        limit: seconds.
    """
    stage = STAGES[name]
    if isinstance(results.get(stage.needs), str):
        return f"not run, for want of {stage.needs}"
    folder = inputs / ("baseline" if root != ROOT else "here")
    folder.mkdir(exist_ok=True)
    places = {
        "benchmarks": shlex.quote(str(ROOT / "benchmarks")),
        "inputs": shlex.quote(str(inputs)),
        "folder": shlex.quote(str(folder)),
        "budget": int(BYTES_PER_WEIGHT * weights) + 20000,
    }
    environment = {**os.environ, "PYTHONPATH": str(root), "CHECKPOINT": str(inputs / "weights.safetensors")}
    measured = quickest(shlex.split(stage.arguments.format(**places)), environment, folder, limit)
    if isinstance(measured, str):
        return measured
    return Measured(measured.seconds, measured.processor, measured.memory, (folder / stage.file).stat().st_size / 1e6)


@contextmanager
def checked_out(revision: str | None, folder: Path) -> Iterator[list[Path]]:
    """Where the revisions lie: this one, and the baseline if there is one."""
    if not revision:
        yield [ROOT]
        return
    clone = folder / "revision"
    subprocess.run(["git", "clone", "--quiet", "--shared", str(ROOT), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "--quiet", "--detach", revision], check=True)
    yield [ROOT, clone]


def measure_all(sizes: list[str], stages: list[str], revision: str | None, limit: float) -> Iterator[Row]:
    """Every stage at every size, by both revisions in turn."""
    with tempfile.TemporaryDirectory() as temporary, checked_out(revision, Path(temporary)) as roots:
        for root in roots:
            subprocess.run([sys.executable, "-c", WARM], env={**os.environ, "PYTHONPATH": str(root)}, check=True)
        for size in sizes:
            inputs = Path(temporary, size)
            inputs.mkdir()
            (inputs / "script.py").write_text(SCRIPT)
            weights_file = inputs / "weights.safetensors"
            command = [sys.executable, str(ROOT / "benchmarks" / "random_gpt.py"), size, str(weights_file)]
            subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
            weights = weights_file.stat().st_size // 4
            results: list[dict[str, Measured | str]] = [{} for _ in roots]
            for name in stages:
                for root, known in zip(roots, results, strict=True):
                    known[name] = run(name, root, inputs, weights, known, limit)
                yield Row(name, weights, tuple(known[name] for known in results))


def order(row: Row, before: Row | None, figure: str) -> str:
    """The power of the number of weights with which a figure of this revision grew from the size before: 1 is linear."""
    if before is None or isinstance(row.runs[0], str) or isinstance(before.runs[0], str):
        return ""
    growth = math.log(getattr(row.runs[0], figure) / getattr(before.runs[0], figure))
    return f"{growth / math.log(row.weights / before.weights):.2f}"


def figures(one: Measured | str) -> list[str]:
    """The cells of a run."""
    if isinstance(one, str):
        return [one, "", ""]
    return [f"{one.seconds:.1f}", f"{one.processor:.1f}", f"{one.memory:,.0f}"]


def ratios(runs: tuple[Measured | str, ...]) -> list[str]:
    """The baseline's figures over this revision's."""
    here, baseline = runs
    if isinstance(here, str) or isinstance(baseline, str):
        return ["", ""]
    return [f"{baseline.processor / here.processor:.2f}", f"{baseline.memory / here.memory:.2f}"]


def table(rows: list[Row], revision: str | None) -> list[str]:
    """All rows, stage by stage, in Markdown."""
    header = ["stage", "weights, M", "file, MB", "s", "CPU s", "MB", "order of CPU s", "order of MB"]
    if revision:
        header += [f"{revision}: s", "CPU s", "MB", "ratio of CPU s", "ratio of MB"]
    lines = ["| " + " | ".join(header) + " |", "| --- " + "| ---: " * (len(header) - 1) + "|"]
    for name in STAGES:
        before = None
        for row in (row for row in rows if row.stage == name):
            here = row.runs[0]
            file = "" if isinstance(here, str) else f"{here.file:.1f}"
            cells = [name, f"{row.weights / 1e6:.1f}", file, *figures(here)]
            cells += [order(row, before, "processor"), order(row, before, "memory")]
            if revision:
                cells += [*figures(row.runs[1]), *ratios(row.runs)]
            lines.append("| " + " | ".join(cells) + " |")
            before = row
    return lines


def chosen(text: str, known: tuple[str, ...]) -> list[str]:
    """Names from a list with commas, in the order in which they are known."""
    names = text.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return [name for name in known if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--sizes", type=lambda text: chosen(text, SIZES), default=list(SIZES), help="default: " + ",".join(SIZES)
    )
    parser.add_argument("--stages", type=lambda text: chosen(text, tuple(STAGES)), default=list(STAGES), help="default: all")
    parser.add_argument("--baseline", help="a revision to compare with")
    parser.add_argument("--limit", type=float, default=1200, help="seconds for each stage (1200)")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "build.md")
    options = parser.parse_args()
    needed = {STAGES[name].needs for name in options.stages}
    stages = [name for name in STAGES if name in options.stages or name in needed]
    lines = [
        "# Time and memory",
        "",
        f"`python benchmarks/build.py {shlex.join(sys.argv[1:])}`, golfpack {__version__}, Python {platform.python_version()},",
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores.",
        "",
        "s: elapsed; CPU s: processor time, start of Python and torch included; MB: peak resident memory (10⁶ bytes), of which",
        f"Python and torch take some 250. The quickest of {RUNS} runs, or of those that",
        f"began within {SHORT} s. Order: the power of the number of weights with which a figure grew. Ratios: the baseline's",
        "figures over this revision's.",
        "",
    ]
    rows: list[Row] = []
    for row in measure_all(options.sizes, stages, options.baseline, options.limit):
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
        options.output.write_text("\n".join([*lines, *table(rows, options.baseline)]) + "\n")


if __name__ == "__main__":
    main()
