"""What code shrinking makes of the scripts that were published for the Parameter Golf challenge.

    python benchmarks/wrappers.py CHECKOUT [-o benchmarks/results/wrappers.md]

CHECKOUT is a clone of github.com/openai/parameter-golf. One row per distinct script: its bytes, the bytes of the
self-extracting file that its authors published where they did, and the bytes of golfpack's. Self-extracting files are
unpacked (nothing is executed) and packed again. Only names and sizes are written.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import tempfile
import time
from pathlib import Path

from generator import carriers
from generator.artifact import read_artifact
from generator.carriers import Parts
from generator.emit import Options, render_code
from generator.errors import InputError
from generator.source.compress import compress_code
from generator.source.script import read_script
from generator.source.selfreading import wants_source
from generator.version import __version__

HEADER = f"golfpack {__version__}: {10000:>6,} B of code; to read, not run: golfpack unpack FILE -o DIR"


def pack(script: Path) -> dict[str, int]:
    """Bytes of the packed script in each carrier that needs no weights."""
    parsed = read_script(script)
    rendered = render_code(parsed, None, Options())
    code = compress_code(rendered.text.encode())
    parts = Parts(code, None, "", rendered.names[1], rendered.names[2], HEADER, "lzma", wants_source(parsed.tree))
    return {name: carriers.REGISTRY[name].write(parts, "x").size for name in ("base85", "latin1", "zip")}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "wrappers.md")
    arguments = parser.parse_args()
    rows, seen, started = [], set(), time.time()
    records = arguments.checkout / "records"
    for path in sorted(records.glob("**/train*.py")):
        data = path.read_bytes()
        digest = hashlib.sha256(data).digest()
        if digest in seen or not data.strip():
            continue
        seen.add(digest)
        name = path.relative_to(records)
        with tempfile.TemporaryDirectory() as folder:
            inner = unpacked(path, Path(folder))
            theirs = len(data) if inner else 0
            if inner is None and "human" in path.name and (path.parent / "train_gpt.py").exists():
                theirs = (path.parent / "train_gpt.py").stat().st_size
            source = inner or path
            try:
                sizes = pack(source)
            except InputError as error:
                rows.append(f"| {name} | {source.stat().st_size:,} | {theirs or ''} | not parsed: {str(error)[-60:]} | | |")
                continue
        row = [
            str(name),
            f"{len(data) if not inner else 0:,}",
            f"{theirs:,}" if theirs else "",
            *(f"{s:,}" for s in sizes.values()),
        ]
        if inner:
            row[1] = "(unpacked)"
        rows.append("| " + " | ".join(row) + " |")
        print(rows[-1], f"{time.time() - started:.0f} s", flush=True)
    lines = [
        "# Published scripts, packed",
        "",
        f"`python benchmarks/wrappers.py CHECKOUT`, golfpack {__version__}, Python {platform.python_version()}. Bytes with the",
        "header comment; code compressed with LZMA, every shrinking step on. *Theirs* is the self-extracting file that was",
        "published. A script that is not parsed is no Python of this version.",
        "",
        "| script | bytes | theirs | base85 | latin1 | zip |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
