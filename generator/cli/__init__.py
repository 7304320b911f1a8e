"""The command line. Exit status: 0 done; 1 the artifact is over budget, fails to run or differs; 2 the input is unusable."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

import generator
from generator.cli import model_commands, submission_command
from generator.cli.display import QuietOption, VerboseOption, shown
from generator.cli.measurement_tables import print_analysis, print_bench
from generator.cli.options import (
    DEFAULT_ALLOW,
    DEFAULT_CARRIER,
    DEFAULT_COMPRESSOR,
    AllowOption,
    BroadcastOption,
    BudgetOption,
    BundleOption,
    CarrierOption,
    CheckArguments,
    CheckOption,
    CheckpointArgument,
    CompressorOption,
    ExtraOption,
    FileArgument,
    HeaderOption,
    IncludeOption,
    JsonOption,
    KeepOption,
    KeyOption,
    OutputOption,
    RecipeOption,
    SafeOption,
    ScriptArgument,
    SkipOption,
    StatisticsOption,
    TimeoutOption,
    TuneGenerateOption,
    TuneOption,
    TuneSecondsOption,
    TuneUpdatesOption,
    WeightsOption,
    packing,
    run_check,
    tuner,
)
from generator.cli.tables import SHOWN_TENSORS, print_json, print_parts, print_tensors, print_verification, say
from generator.defaults import BUDGET, TIMEOUT, TOLERANCE
from generator.errors import BudgetError, GolfpackError
from generator.visible import visible

TORCH_OUT_OF_MEMORY = "can't allocate memory"  # of its allocator for the CPU, in a plain RuntimeError


class _InterruptedError(GolfpackError):
    """Ctrl-C; the status is what shells report for it."""

    exit_status = 130


class _Commands(TyperGroup):
    """The commands; an interruption is an error with a sentence, as any other."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _InterruptedError("interrupted") from error


app = typer.Typer(
    name="golfpack",
    cls=_Commands,
    help="Pack a trained checkpoint and its script into one self-extracting train_gpt.py under a hard byte cap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)


def _version(value: bool) -> None:
    if value:
        print(f"golfpack {generator.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def build(
    script: ScriptArgument,
    weights: WeightsOption,
    output: OutputOption,
    recipe: RecipeOption = None,
    statistics: StatisticsOption = None,
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
    check: CheckOption = False,
    arguments: CheckArguments = None,
    timeout: TimeoutOption = TIMEOUT,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Pack SCRIPT and its weights into one self-extracting file."""
    with shown(errors, quiet, verbose) as progress:
        inspection = generator.build(
            script,
            weights,
            output,
            recipe=recipe,
            statistics=statistics,
            key=key,
            check=run_check(check, arguments, timeout),
            tune=tuner(tune, tune_seconds, tune_updates, tune_self_generate, progress),
            budget=budget,
            progress=progress,
            **packing(carrier, allow, header, compressor, include, bundle, safe, skip_step, step, keep_name, broadcast),
        )
    _show(inspection, budget, as_json)


@app.command()
def wrap(
    script: ScriptArgument,
    output: OutputOption,
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
    check: CheckOption = False,
    arguments: CheckArguments = None,
    timeout: TimeoutOption = TIMEOUT,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Pack SCRIPT alone, without weights."""
    with shown(errors, quiet, verbose) as progress:
        inspection = generator.wrap(
            script,
            output,
            check=run_check(check, arguments, timeout),
            budget=budget,
            progress=progress,
            **packing(carrier, allow, header, compressor, include, bundle, safe, skip_step, step, keep_name),
        )
    _show(inspection, budget, as_json)


@app.command()
def encode(
    weights: CheckpointArgument,
    output: OutputOption,
    recipe: RecipeOption = None,
    statistics: StatisticsOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write the payload alone, to run the unpacked script with GOLFPACK_PAYLOAD=FILE."""
    with shown(errors, quiet, verbose) as progress:
        inspection = generator.encode(weights, output, recipe=recipe, statistics=statistics, key=key, progress=progress)
    _show(inspection, None, as_json)


@app.command()
def inspect(
    file: FileArgument,
    budget: BudgetOption = BUDGET,
    as_json: JsonOption = False,
) -> None:
    """List what is in FILE, byte by byte; execute nothing."""
    inspection = generator.inspect(file)
    if as_json:
        print_json(inspection.to_json())
        return
    if inspection.header:
        say(console, inspection.header, "dim")
    print_parts(console, inspection, budget)
    print_tensors(console, inspection)
    if inspection.requires:
        say(console, f"needs at run time: {', '.join(inspection.requires)}")
    _note(inspection.notes)


@app.command()
def unpack(
    file: FileArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
) -> None:
    """Extract weights.safetensors, payload.gpk, source.py, loader.py and carried files from FILE; execute nothing."""
    unpacked = generator.unpack(file, output)
    for path in unpacked.files:
        say(console, f"{path} ({path.stat().st_size:,} bytes)")
    _note(unpacked.notes)


@app.command()
def verify(
    file: FileArgument,
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Command line for --run.")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Bytes that the file may have.")] = None,
    run: Annotated[bool, typer.Option("--run", help="Run the loader and the file, each in a fresh process.")] = False,
    against: Annotated[Path | None, typer.Option(help="Checkpoint that the weights should come from.")] = None,
    key: KeyOption = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Greatest relative error of a quantized tensor.")] = TOLERANCE,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds that the run may take.")] = TIMEOUT,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Check that FILE is intact, within budget, comes from a checkpoint, and runs; the exit status tells."""
    with shown(errors, quiet, verbose) as progress:
        verification = generator.verify(
            file,
            budget=budget,
            run=run,
            against=against,
            key=key,
            tolerance=tolerance,
            arguments=arguments or [],
            timeout=timeout,
            progress=progress,
        )
    if as_json:
        print_json(verification.to_json())
    else:
        if verification.output:
            console.print(verification.output.rstrip(), markup=False, highlight=False, soft_wrap=True)
        print_verification(console, verification)
    if not verification.passed:
        raise typer.Exit(1)


@app.command()
def bench(
    checkpoint: CheckpointArgument,
    recipe: RecipeOption = None,
    key: KeyOption = None,
    external: Annotated[bool, typer.Option(help="Also run lrzip and zpaq, where they are on the PATH.")] = True,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Code CKPT's integers, as the recipe quantizes them, with every codec: size, speed, memory."""
    with shown(errors, quiet, verbose) as progress:
        result = generator.bench(checkpoint, recipe=recipe, key=key, external=external, progress=progress)
    if as_json:
        print_json(result.to_json())
        return
    print_bench(console, result)


@app.command()
def analyze(
    checkpoint: CheckpointArgument,
    recipe: RecipeOption = None,
    statistics: StatisticsOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Where CKPT's bytes go, and which hypotheses would save some; with statistics, how far from the bound each role is."""
    with shown(errors, quiet, verbose) as progress:
        result = generator.analyze(checkpoint, recipe=recipe, key=key, statistics=statistics, progress=progress)
    if as_json:
        print_json(result.to_json())
        return
    print_analysis(console, result)


app.command()(model_commands.calibrate)
app.command()(model_commands.fit)
app.command()(submission_command.submission)


def _show(inspection: generator.Inspection, budget: int | None, as_json: bool) -> None:
    if as_json:
        print_json(inspection.to_json())
        return
    print_parts(console, inspection, budget)
    _note(inspection.notes)


def _note(notes: list[str]) -> None:
    for note in notes:
        say(errors, f"note: {note}")


def main() -> None:
    """Entry point of the console script: errors become one sentence and an exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of narrow encoding still gets all the rest
    try:
        app()
    except GolfpackError as error:
        if isinstance(error, BudgetError):
            print_parts(errors, error.inspection, None)
            print_tensors(errors, error.inspection, SHOWN_TENSORS)
            say(errors, _ADVICE)
        _end(str(error), error.exit_status)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _is_out_of_memory(error):
            raise
        _end("out of memory: the input, or what it expands to, is too large for this machine", 2)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or TORCH_OUT_OF_MEMORY in str(error)  # torch's, of a GPU or the CPU


def _end(message: str, status: int) -> NoReturn:
    print(f"golfpack: {visible(message)}", file=sys.stderr)
    sys.exit(status)


_ADVICE = "To make it smaller: fewer bits for the tensors above (a recipe with int5 or int4), or a smaller model."
