"""The commands that run the user's model: calibrate and fit."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

import generator
from generator.cli.display import QuietOption, VerboseOption, shown
from generator.cli.options import (
    DEFAULT_ALLOW,
    DEFAULT_CARRIER,
    DEFAULT_COMPRESSOR,
    AllowOption,
    BroadcastOption,
    BudgetOption,
    BundleOption,
    CarrierOption,
    CompressorOption,
    ExtraOption,
    HeaderOption,
    IncludeOption,
    JsonOption,
    KeepOption,
    KeyOption,
    OutputOption,
    SafeOption,
    ScriptArgument,
    SkipOption,
    StatisticsOption,
    TuneGenerateOption,
    TuneOption,
    TuneSecondsOption,
    TuneUpdatesOption,
    WeightsOption,
    packing,
    tuner,
)
from generator.cli.tables import plain, print_json, say
from generator.deadline import Deadline
from generator.defaults import BUDGET, TRIALS
from generator.files import check_output
from generator.user_code import call, load_function

if TYPE_CHECKING:
    from generator.search.results import Fit

console = Console()
errors = Console(stderr=True)

Kind = Enum("Kind", {"token": "token", "sequence": "sequence"})


def calibrate(
    where: Annotated[
        str, typer.Argument(metavar="MODULE:FUNCTION", help="Function that returns (model, batches, loss); a .py file will do.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Statistics file to write (.safetensors).")],
    statistics: Annotated[Kind, typer.Option(help="Per token (one pass), or also per sequence (two passes).")] = Kind[
        "sequence"
    ],
    self_generate: Annotated[int, typer.Option(min=0, help="Sample so many sequences from the model; no data needed.")] = 0,
    length: Annotated[int | None, typer.Option(min=1, help="Tokens per sampled sequence; without it, the batches'.")] = None,
    temperature: Annotated[float, typer.Option(min=1e-6, help="Of the sampling.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample among so many likeliest tokens.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Sampled sequences per batch.")] = 16,
    start: Annotated[int | None, typer.Option(min=0, help="First token of sampled sequences; without it, any.")] = None,
    seed: Annotated[int, typer.Option(help="Of all sampling.")] = 0,
    shared: Annotated[
        bool, typer.Option("--shared", help="The batches are the same for all processes of torchrun; each takes its share.")
    ] = False,
    time_limit: Annotated[float | None, typer.Option(min=0, help="Seconds after which no batch is begun.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Collect the statistics that gptq and waterfill use, from your model and batches; also under torchrun."""
    check_output(output, [where.rpartition(":")[0]])
    deadline = Deadline.after(time_limit)
    from generator.calibration import process_group

    with process_group() as rank:
        function = load_function(where)
        with shown(errors, quiet or rank > 0, 0 if rank else verbose) as progress:
            collected = generator.calibrate(
                call(f"{where} fails", function),
                kind=statistics.value,
                self_generate=self_generate,
                length=length,
                temperature=temperature,
                top_k=top_k,
                batch=batch,
                start=start,
                seed=seed,
                shared=shared,
                deadline=deadline,
                progress=progress,
            )
    if rank:
        return
    collected.save(output)
    if as_json:
        summary = {
            "kind": collected.kind,
            "tokens": collected.tokens,
            "sequences": collected.sequences,
            "weights": collected.shapes,
            "missing": collected.missing,
            "left_out": collected.left_out,
        }
        print_json(summary)
        return
    say(
        console,
        f"{output}: {len(collected.shapes)} weights, {collected.tokens:,} tokens in {collected.sequences:,} sequences, "
        f"statistics per {collected.kind}",
    )
    if collected.left_out:
        say(console, f"no time for {collected.left_out} more batch{'' if collected.left_out == 1 else 'es'}")
    for name, reason in collected.missing.items():
        say(console, f"no statistics of {name}: {reason}")


def fit(
    script: ScriptArgument,
    weights: WeightsOption,
    output: OutputOption,
    statistics: StatisticsOption = None,
    recipe: Annotated[
        list[Path] | None,
        typer.Option("--recipe", "-r", help='TOML recipe that marks its knob with "fit"; several are compared.'),
    ] = None,
    key: KeyOption = None,
    carrier: CarrierOption = DEFAULT_CARRIER,
    allow: AllowOption = DEFAULT_ALLOW,
    budget: BudgetOption = BUDGET,
    header: HeaderOption = True,
    compressor: CompressorOption = DEFAULT_COMPRESSOR,
    include: IncludeOption = None,
    bundle: BundleOption = True,
    safe: SafeOption = False,
    skip_step: SkipOption = None,
    step: ExtraOption = None,
    keep_name: KeepOption = None,
    broadcast: BroadcastOption = None,
    tune: TuneOption = None,
    tune_seconds: TuneSecondsOption = None,
    tune_updates: TuneUpdatesOption = None,
    tune_self_generate: TuneGenerateOption = 0,
    evaluate: Annotated[
        str | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Metric of a state dict, less is better; printed at each point."),
    ] = None,
    points: Annotated[Path | None, typer.Option(help="JSON file for all points.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of a study, where a recipe marks more than its knob.")] = TRIALS,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Optuna storage of the study; by default a SQLite file beside the output."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study; by default the same for the same command.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the study's sampling.")] = 0,
    time_limit: Annotated[
        float | None, typer.Option(min=0, help="Seconds for all of it; the best that was found in time is written.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Build the largest artifact that does not exceed the budget, by searching one option of the recipe.

    Options marked with { search = [low, high] } or { choices = [...] } are searched, too, in a study of trials that --evaluate
    judges. With several recipes and --evaluate, the one with the least metric is written; without --evaluate, the first.
    """
    from generator.search.study import StudyOptions

    metric = load_function(evaluate) if evaluate is not None else None

    with shown(errors, quiet, verbose, results=not as_json) as progress:
        inspection, fits = generator.fit(
            script,
            weights,
            output,
            statistics=statistics,
            recipes=recipe or None,
            key=key,
            evaluate=metric,
            points=points,
            study=StudyOptions(storage, trials, study, seed),
            time_limit=time_limit,
            tune=tuner(tune, tune_seconds, tune_updates, tune_self_generate, progress),
            budget=budget,
            progress=progress,
            **packing(carrier, allow, header, compressor, include, bundle, safe, skip_step, step, keep_name, broadcast),
        )
    if as_json:
        print_json({"inspection": inspection.to_json(), "fits": [one.to_json() for one in fits]})
        return
    console.print(_table(fits))
    unused = budget - inspection.size
    say(console, f"{output}: {inspection.size:,} bytes, {unused:,} below the budget of {budget:,}")


def _table(fits: list[Fit]) -> Table:
    table = Table(title="points", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("recipe", "knob", "value", "bytes", "metric", "options", ""):
        table.add_column(column, justify="right" if column in ("value", "bytes", "metric") else "left")
    for one in fits:
        rows = [(trial.point, trial.options()) for trial in one.trials] or [(point, "") for point in one.points]
        for point, options in sorted(rows, key=lambda row: row[0].bytes):
            metric = "" if point.metric is None else f"{point.metric:.6f}"
            mark = "chosen" if point == one.best else ""
            row = (f"{point.value:.6g}", f"{point.bytes:,}", metric)
            table.add_row(plain(one.recipe), plain(one.knob), *row, plain(options), mark)
    return table
