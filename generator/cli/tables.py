"""Tables and lines for people, printed with rich.

Names come from files of others: they are shown by `plain` and `say`, never as markup.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from generator.visible import visible

if TYPE_CHECKING:
    from generator.audit.inspection import Inspection
    from generator.audit.verification import Verification

SHOWN_TENSORS = 10


def plain(text: str, style: str = "") -> Text:
    """A name for a cell, a title or a status line: no markup in it, and nothing that a terminal would act on."""
    return Text(visible(text), style)


def say(console: Console, text: str, style: str = "") -> None:
    """Print one line as it is, however long, without markup, colours or control characters."""
    console.print(plain(text, style), soft_wrap=True)


def print_json(value: object) -> None:
    """JSON for machines, ASCII alone, so that no output's encoding is too narrow for it."""
    print(json.dumps(value, indent=2))


def print_parts(console: Console, inspection: Inspection, budget: int | None) -> None:
    """What each part of the file costs, the total, and the headroom below the budget."""
    table = Table(
        title=plain(f"{inspection.file} ({inspection.carrier})", "table.title"), box=box.SIMPLE_HEAD, title_justify="left"
    )
    table.add_column("part")
    table.add_column("bytes", justify="right")
    table.add_column("share", justify="right")
    for part in inspection.parts:
        table.add_row(plain(part.name), f"{part.bytes:,}", f"{part.bytes / inspection.size:.2%}")
    table.add_section()
    table.add_row("total", f"{inspection.size:,}", "", style="bold")
    if budget is not None:
        table.add_row("budget", f"{budget:,}", "")
        table.add_row("headroom", f"{budget - inspection.size:,}", "", style="green" if inspection.size <= budget else "red")
    console.print(table)
    code, model = inspection.code_bytes, inspection.model_bytes
    within = ", the weights in it," if inspection.payload_bytes and not model else ""
    say(console, f"counted by the challenge: code {code:,}{within} + model {model:,} = {inspection.size:,} bytes")
    if inspection.carrier != "payload":
        say(
            console, f"wrapper (all but the payload): {inspection.wrapper_bytes:,} bytes; payload: {inspection.payload_bytes:,}"
        )


def print_tensors(console: Console, inspection: Inspection, limit: int | None = None) -> None:
    """The tensors by what they cost, the most expensive first."""
    tensors = sorted(inspection.tensors, key=lambda tensor: -tensor.bytes)
    if not tensors:
        return
    table = Table(title="tensors", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("name", overflow="fold", min_width=16)
    for column in ("shape", "dtype", "stored as", "codec"):
        table.add_column(column, overflow="fold")
    table.add_column("bytes", justify="right")
    table.add_column("bits/element", justify="right")
    for tensor in tensors[:limit]:
        table.add_row(
            plain(" = ".join(tensor.names)),
            "×".join(map(str, tensor.shape)) or "scalar",
            plain(tensor.dtype),
            plain(tensor.quantizer) + (f", {tensor.zero_rows:,} rows of zeros" if tensor.zero_rows else ""),
            plain("+".join(dict.fromkeys(tensor.codecs))),
            f"{tensor.bytes:,}",
            f"{tensor.bits_per_element:.3f}",
        )
    if limit is not None and len(tensors) > limit:
        rest = sum(tensor.bytes for tensor in tensors[limit:])
        table.add_row(f"… and {len(tensors) - limit} more", "", "", "", "", f"{rest:,}", "")
    console.print(table)


def print_verification(console: Console, verification: Verification) -> None:
    """One line per check."""
    for check in verification.checks:
        mark = "[green]ok  [/green]" if check.passed else "[red]FAIL[/red]"
        console.print(mark, end=" ")
        say(console, f"{check.name}: {check.detail}")
