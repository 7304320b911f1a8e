"""What code shrinking makes of the scripts that were published for the Parameter Golf challenge.

    python benchmarks/wrappers.py CHECKOUT [-o benchmarks/results/wrappers.md]

CHECKOUT is a clone of github.com/openai/parameter-golf. One row per distinct Python file of its records, and of the two scripts
that everyone starts from: its bytes, the bytes of the self-extracting file that its authors published where they did, and the
bytes of golfpack's, all that `golfpack wrap --no-bundle` writes. Self-extracting files are unpacked (nothing is executed) and
packed again. Only names and sizes are written.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from generator.audit.artifact import read_artifact
from generator.emit import Emitter
from generator.errors import InputError
from generator.packing import Options
from generator.source.script import read_script
from generator.version import __version__

CARRIERS = ("base85", "latin1", "zip")


@dataclass(frozen=True)
class Row:
    """One script; `ours` is empty where this Python can't parse it, and `problem` says why."""

    name: str
    size: int
    unpacked: bool
    theirs: int
    ours: list[int]
    problem: str = ""

    def __str__(self) -> str:
        size = f"{self.size:,}{' (unpacked)' if self.unpacked else ''}"
        ours = [f"{size:,}" for size in self.ours] or [f"not parsed: {self.problem}", "", ""]
        return "| " + " | ".join([self.name, size, f"{self.theirs:,}" if self.theirs else "", *ours]) + " |"


def distinct_scripts(checkout: Path) -> Iterator[Path]:
    """The first of all equal files, empty ones left out."""
    seen = set()
    for path in [*sorted(checkout.glob("train*.py")), *sorted((checkout / "records").glob("**/*.py"))]:
        data = path.read_bytes()
        if data.strip() and hashlib.sha256(data).digest() not in seen:
            seen.add(hashlib.sha256(data).digest())
            yield path


def unpacked(path: Path, folder: Path) -> Path | None:
    """The script inside a self-extracting file; None for other files."""
    if b"exec(" not in path.read_bytes():
        return None
    try:
        artifact = read_artifact(path)
    except InputError:
        return None
    inner = folder / "source.py"
    inner.write_text(artifact.source)
    return inner


def measure(path: Path, checkout: Path, folder: Path) -> Row:
    """Pack one script in each carrier that needs no weights."""
    inner = unpacked(path, folder)
    source = inner or path
    theirs = path.stat().st_size if inner else 0
    if inner is None and "human" in path.name and (path.parent / "train_gpt.py").exists():
        theirs = (path.parent / "train_gpt.py").stat().st_size
    name = path.relative_to(checkout).as_posix().removeprefix("records/")
    ours, problem = [], ""
    try:
        script = read_script(source)
        ours = [Emitter(script, Options(carrier=carrier)).emit(None).written.size for carrier in CARRIERS]
    except InputError as error:
        problem = str(error).removeprefix(f"script {source}, ")
    return Row(name, source.stat().st_size, inner is not None, theirs, ours, problem)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "wrappers.md")
    arguments = parser.parse_args()
    rows, started = [], time.time()
    for path in distinct_scripts(arguments.checkout):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(path, arguments.checkout, Path(folder)))
        print(rows[-1], f"{time.time() - started:.0f} s", flush=True)
    packed = [row for row in rows if row.ours]
    both = [row for row in packed if row.unpacked]
    lines = [
        "# Published scripts, packed",
        "",
        f"`python benchmarks/wrappers.py CHECKOUT`, golfpack {__version__}, Python {platform.python_version()}. Bytes with the",
        "header comment, every shrinking step on, modules beside a script not carried. *Theirs* is the self-extracting file "
        "that",
        "was published; where it is all there is, the script was taken out of it. A script that is not parsed is no Python of "
        "this",
        "version.",
        "",
        f"{len(rows)} distinct scripts, {len(packed)} of them parsed. {sum(row.unpacked for row in rows)} are self-extracting; "
        f"of these {len(both)} were packed again, in base85",
        f"{sum(row.ours[0] < row.theirs for row in both)} times to a smaller file: {sum(row.ours[0] for row in both):,} bytes "
        f"in all where the published ones have {sum(row.theirs for row in both):,}.",
        "",
        "| script | bytes | theirs | " + " | ".join(CARRIERS) + " |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *map(str, rows),
    ]
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
