"""The command submission: write the folder that is handed in, or check one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

import generator
from generator.cli.display import QuietOption, VerboseOption, shown
from generator.cli.options import BudgetOption, JsonOption
from generator.cli.tables import print_json, say
from generator.defaults import BUDGET, TIMEOUT, TRACK
from generator.errors import InputError

if TYPE_CHECKING:
    from generator.handing_in.findings import SubmissionCheck

console = Console()
errors = Console(stderr=True)


def submission(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, or to check.")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Command line for --run.")] = None,
    artifact: Annotated[Path | None, typer.Option("--artifact", "-a", help="What build, fit or wrap wrote.")] = None,
    log: Annotated[list[Path] | None, typer.Option("--log", help="Log of the training; repeated, one of each seed.")] = None,
    author: Annotated[str, typer.Option(help="Your name.")] = "",
    github_id: Annotated[str, typer.Option(help="Your name at GitHub.")] = "",
    name: Annotated[str, typer.Option(help="The submission's name.")] = "",
    blurb: Annotated[str, typer.Option(help="What it is, in a sentence or two.")] = "",
    date: Annotated[str | None, typer.Option(help="YYYY-MM-DD; without it, today.")] = None,
    track: Annotated[str, typer.Option(help="10min_16mb, or non_record_16mb.")] = TRACK,
    val_loss: Annotated[str | None, typer.Option(help="In place of what the logs tell.")] = None,
    val_bpb: Annotated[str | None, typer.Option(help="In place of what the logs tell.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(help="Label of the evaluation that counts; without it, the last of each log.")
    ] = None,
    command: Annotated[
        list[str] | None, typer.Option("--command", help="Shell line that trained or packed, for README.md; may be repeated.")
    ] = None,
    readme: Annotated[Path | None, typer.Option(help="README.md to take, in place of the one that is made.")] = None,
    include: Annotated[
        list[Path] | None, typer.Option("--include", help="Further file for the folder; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace other files of the same names in DIR.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check DIR, anybody's, and write nothing.")] = False,
    run: Annotated[bool, typer.Option("--run", help="With --check: also run train_gpt.py, in a copy of DIR.")] = False,
    budget: BudgetOption = BUDGET,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the run may take.")] = TIMEOUT,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write the folder that the challenge expects, from FILE and the logs of its training; or --check such a folder."""
    if check:
        if artifact is not None or log:
            raise InputError("--check checks what is in DIR, and takes neither --artifact nor --log")
        with shown(errors, quiet, verbose) as progress:
            checked = generator.check_submission(
                folder, run=run, arguments=arguments or [], budget=budget, timeout=timeout, progress=progress
            )
        _show(checked, as_json)
        if not checked.passed:
            raise typer.Exit(1)
        return
    if run or arguments:
        raise InputError("--run and ARGS are for --check, which is not given")
    if artifact is None:
        raise InputError("give --artifact FILE to write DIR, or --check to check it")
    with shown(errors, quiet, verbose) as progress:
        written = generator.submission(
            folder,
            artifact=artifact,
            logs=log or [],
            author=author,
            github_id=github_id,
            name=name,
            blurb=blurb,
            date=date,
            track=track,
            val_loss=val_loss,
            val_bpb=val_bpb,
            evaluation=evaluation,
            commands=command or [],
            readme=readme,
            include=include or [],
            budget=budget,
            replace=force,
            progress=progress,
        )
    if as_json:
        print_json(written.to_json())
        return
    for file in written.files:
        say(console, f"{written.folder / file} ({(written.folder / file).stat().st_size:,} bytes)")
    result = written.result
    loss = f", val_loss {result.val_loss}" if result.val_loss is not None else ""
    say(console, f"val_bpb {result.val_bpb}{loss}; {written.inspection.size:,} bytes of {budget:,}")
    for one in written.check.findings:
        say(errors, f"note: {one.message}")


def _show(checked: SubmissionCheck, as_json: bool) -> None:
    """What was read, what was printed, and a line for each finding."""
    if as_json:
        print_json(checked.to_json())
        return
    if checked.output:
        console.print(checked.output.rstrip(), markup=False, highlight=False, soft_wrap=True)
    for file, told in checked.read.items():
        say(console, f"{file}: {told}", "dim")
    for one in checked.findings:
        console.print("[red]WRONG[/red]" if one.wrong else "[yellow]note [/yellow]", end=" ")
        say(console, f"{one.kind}: {one.message}")
    wrong = sum(one.wrong for one in checked.findings)
    say(
        console, f"{wrong} wrong, {len(checked.findings) - wrong} to note" if checked.findings else "nothing to find fault with"
    )
