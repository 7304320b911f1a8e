"""What each step of code shrinking, each way of naming and each code compression is worth for one script.

python benchmarks/shrinking.py SCRIPT... -o benchmarks/results/shrinking.md
"""

from __future__ import annotations

import argparse
import ast
import platform
from pathlib import Path

import python_minifier

from generator.compressors import REGISTRY, compress_lzma
from generator.source.script import read_script
from generator.source.shrink import STEPS, Shrinking, minify, shrink
from generator.version import __version__


def size(text: str) -> int:
    """Bytes as LZMA, the smallest over its parameters."""
    return len(compress_lzma(text.encode()))


def measure(path: Path) -> list[str]:
    """Table rows for one script."""
    tree = read_script(path).tree
    rows = [f"| {path.name} | {path.stat().st_size:,} | {size(path.read_text()):,} |"]
    plain = python_minifier.minify(ast.unparse(tree), remove_literal_statements=True)
    rows.append(f"| python-minifier alone | {len(plain.encode()):,} | {size(plain):,} |")
    best = ""
    for variant in shrink(tree).variants:
        rows.append(f"| every step, names {variant.name} | {len(variant.text.encode()):,} | {size(variant.text):,} |")
        best = min(best or variant.text, variant.text, key=size)
    for step in STEPS:
        text = minify(tree, Shrinking(skip=frozenset({step})))
        rows.append(f"| names by appearance, without {step} | {len(text.encode()):,} | {size(text):,} |")
    for name, compressor in REGISTRY.items():
        rows.append(f"| smallest, as {name} | {len(best.encode()):,} | {len(compressor.compress(best.encode())):,} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scripts", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "results" / "shrinking.md")
    arguments = parser.parse_args()
    versions = f"golfpack {__version__}, Python {platform.python_version()}"
    lines = ["# Shrinking, step by step", "", f"`python benchmarks/shrinking.py SCRIPT...`, {versions}"]
    for path in arguments.scripts:
        lines += ["", f"## {path.parent.name}/{path.name}", "", "| what | bytes | compressed |", "| --- | ---: | ---: |"]
        lines += measure(path)
        print("\n".join(lines[-30:]), flush=True)
    arguments.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
