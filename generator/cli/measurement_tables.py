"""What `golfpack bench` and `golfpack analyze` print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from generator.cli.tables import plain, say

if TYPE_CHECKING:
    from generator.measure.analysis import Analysis, TensorAnalysis
    from generator.measure.bench import Bench
    from generator.measure.bound import RoleRate


def print_bench(console: Console, result: Bench) -> None:
    """Every codec, the smallest first."""
    bound = f"order-0 bound {result.order0_bytes:,} bytes"
    title = f"{result.checkpoint}: {result.arrays} tensors, {result.elements:,} integers, {bound}"
    say(console, title)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("codec", overflow="fold", min_width=20)
    for column in ("bytes", "bits/weight", "to bound", "encode s", "decode s", "peak MB"):
        table.add_column(column, justify="right")
    for m in result.measurements:
        table.add_row(
            plain(m.codec),
            f"{m.bytes:,}",
            f"{m.bits_per_weight:.4f}",
            f"{m.to_bound:.4f}" if m.to_bound is not None else "–",
            f"{m.encode_seconds:.2f}",
            f"{m.decode_seconds:.2f}",
            f"{m.peak_bytes / 1e6:.1f}" if m.peak_bytes is not None else "–",
        )
    console.print(table)
    say(console, "seconds: one thread of this process; lrzip and zpaq: elapsed, all threads")


def print_analysis(console: Console, result: Analysis) -> None:
    """Sizes, then hypotheses, one row for each tensor."""
    title = plain(f"{result.checkpoint}: bytes, each tensor coded alone", "table.title")
    sizes = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    sizes.add_column("tensor", overflow="fold", min_width=16)
    for column in ("shape", "order 0", "classes", "rows", "lzma", "zlib"):
        sizes.add_column(column, justify="right")
    for t in result.tensors:
        coded = (t.order0, t.classes, t.rows, t.lzma, t.zlib)
        sizes.add_row(plain(t.name), "×".join(map(str, t.shape)), *(f"{size:,}" for size in coded))
    sizes.add_section()
    totals = [sum(getattr(t, name) for t in result.tensors) for name in ("order0", "classes", "rows", "lzma", "zlib")]
    sizes.add_row("total", "", *(f"{total:,}" for total in totals), style="bold")
    console.print(sizes)
    structure = Table(title="structure that could save bytes", box=box.SIMPLE_HEAD, title_justify="left")
    structure.add_column("tensor", overflow="fold", min_width=16)
    for column in ("layer delta", "corr. below", "corr. right", "corr. |·|", "90 % rank", "equals"):
        structure.add_column(column, justify="right", overflow="fold")
    for t in result.tensors:
        structure.add_row(
            plain(t.name),
            _layer_delta(t),
            f"{t.row_correlation:+.3f}",
            f"{t.column_correlation:+.3f}",
            f"{t.magnitude_correlation:+.3f}",
            f"{t.rank90[0]}/{t.rank90[1]}" if t.rank90 else "–",
            plain(t.duplicate_of or ""),
        )
    console.print(structure)
    if result.roles is not None:
        print_roles(console, result.roles)
    for names in result.tied:
        say(console, f"stored once: {' = '.join(names)}")
    say(console, f"{result.kept:,} elements are not coded as integers")


def print_roles(console: Console, roles: list[RoleRate]) -> None:
    """How far each role is from the rate–distortion bound."""
    table = Table(
        title="bits per weight, and the Gaussian bound at the same expected loss", box=box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("role", overflow="fold", min_width=16)
    for column in ("weights", "zero rows", "refined", "expected loss", "bits", "bound", "above it"):
        table.add_column(column, justify="right")
    for one in roles:
        zeros, rows = one.zero_rows
        cells = (f"{one.weights:,}", f"{zeros:,}/{rows:,}", f"{one.refined_rows:,}", f"{one.loss:.3g}")
        table.add_row(plain(one.role), *cells, *(f"{bits:.3f}" for bits in (one.bits, one.bound, one.bits - one.bound)))
    console.print(table)


def _layer_delta(tensor: TensorAnalysis) -> str:
    """The order-0 size of the difference to the layer before, relative to the tensor's own."""
    return f"{tensor.layer_delta / max(tensor.order0, 1) - 1:+.1%}" if tensor.layer_delta is not None else "–"
