"""The command line. Exit status: 0 done; 1 the artifact is over budget, fails to run or differs; 2 the input is unusable."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

import generator
from generator import carriers, cli_statistics
from generator.building import BUDGET, BudgetError
from generator.errors import GolfpackError
from generator.measurement_tables import print_analysis, print_bench
from generator.source.compress import CODERS
from generator.source.shrink import OPTIONAL, STEPS
from generator.tables import SHOWN_TENSORS, print_parts, print_tensors, print_verification
from generator.verification import TIMEOUT, TOLERANCE

app = typer.Typer(
    name="golfpack",
    help="Pack a trained checkpoint and its script into one self-extracting train_gpt.py under a hard byte cap.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)

CarrierName = Enum("CarrierName", {name: name for name in [*carriers.REGISTRY, carriers.AUTO]})  # type: ignore[misc]
CoderName = Enum("CoderName", {name: name for name in [carriers.AUTO, *CODERS]})  # type: ignore[misc]
DEFAULT_CARRIER = CarrierName["base85"]
DEFAULT_CODER = CoderName["auto"]
DEFAULT_ALLOW = "base85,latin1,zip"

ScriptArgument = Annotated[Path, typer.Argument(metavar="SCRIPT", help="Python source to pack.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="An artifact or a payload file.")]
CheckpointArgument = Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint: .safetensors, .pt, .pth or .npz.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
WeightsOption = Annotated[Path, typer.Option("--weights", "-w", help="Checkpoint: .safetensors, .pt, .pth or .npz.")]
KeyOption = Annotated[str | None, typer.Option(help="Where in a nested checkpoint the state dict is, for instance model.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", "-r", help="TOML recipe; without it, the default one.")]
StatsOption = Annotated[Path | None, typer.Option("--stats", "-s", help="Statistics of golfpack calibrate.")]
CarrierOption = Annotated[CarrierName, typer.Option(help="How payload and code become one file.")]
AllowOption = Annotated[str, typer.Option(help="Carriers that auto may choose, separated by commas.")]
CoderOption = Annotated[CoderName, typer.Option(help="Compression of the code; mix is the smallest, and slow to start.")]
IncludeOption = Annotated[
    list[Path] | None, typer.Option("--include", help="Module, package or data file to carry; may be repeated.")
]
BundleOption = Annotated[
    bool, typer.Option("--bundle/--no-bundle", help="Carry modules that the script imports from its own folder.")
]
SkipOption = Annotated[
    list[str] | None, typer.Option("--skip-step", help=f"Shrinking step to leave out: {', '.join(STEPS)}; may be repeated.")
]
ExtraOption = Annotated[
    list[str] | None, typer.Option("--step", help=f"Optional step: {', '.join(OPTIONAL)}; may be repeated.")
]
KeepOption = Annotated[list[str] | None, typer.Option("--keep-name", help="Global name not to shorten; may be repeated.")]
BroadcastOption = Annotated[
    bool | None,
    typer.Option(
        "--broadcast/--no-broadcast",
        help="Rank 0 decodes and sends, once a process group exists; by default where the script makes one.",
    ),
]
BudgetOption = Annotated[int, typer.Option(min=1, help="Bytes that the file may have.")]
HeaderOption = Annotated[bool, typer.Option("--header/--no-header", help="Begin with a comment that says what the file is.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


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
    stats: StatsOption = None,
    key: KeyOption = None,
    carrier: CarrierOption = DEFAULT_CARRIER,
    allow: AllowOption = DEFAULT_ALLOW,
    budget: BudgetOption = BUDGET,
    header: HeaderOption = True,
    coder: CoderOption = DEFAULT_CODER,
    include: IncludeOption = None,
    bundle: BundleOption = True,
    skip_step: SkipOption = None,
    step: ExtraOption = None,
    keep_name: KeepOption = None,
    broadcast: BroadcastOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack SCRIPT and its weights into one self-extracting file."""
    with errors.status("quantizing and coding …"):
        inspection = generator.build(
            script,
            weights,
            output,
            recipe=recipe,
            stats=stats,
            key=key,
            carrier=carrier.value,
            budget=budget,
            header=header,
            allow=_names(allow),
            coder=coder.value,
            include=include or [],
            local_modules=bundle,
            skip_steps=skip_step or [],
            extra_steps=step or [],
            keep_names=keep_name or [],
            broadcast=broadcast,
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
    coder: CoderOption = DEFAULT_CODER,
    include: IncludeOption = None,
    bundle: BundleOption = True,
    skip_step: SkipOption = None,
    step: ExtraOption = None,
    keep_name: KeepOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pack SCRIPT alone, without weights."""
    with errors.status("shrinking …"):
        inspection = generator.wrap(
            script,
            output,
            carrier=carrier.value,
            budget=budget,
            header=header,
            allow=_names(allow),
            coder=coder.value,
            include=include or [],
            local_modules=bundle,
            skip_steps=skip_step or [],
            extra_steps=step or [],
            keep_names=keep_name or [],
        )
    _show(inspection, budget, as_json)


@app.command()
def encode(
    weights: Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint: .safetensors, .pt, .pth or .npz.")],
    output: OutputOption,
    recipe: RecipeOption = None,
    stats: StatsOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the payload alone, to run the unpacked script with GOLFPACK_PAYLOAD=FILE."""
    with errors.status("quantizing and coding …"):
        inspection = generator.encode(weights, output, recipe=recipe, stats=stats, key=key)
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
        _print_json(inspection.to_json())
        return
    if inspection.header:
        console.print(escape(inspection.header), style="dim", soft_wrap=True)
    print_parts(console, inspection, budget)
    print_tensors(console, inspection)
    if inspection.requires:
        console.print(f"needs at run time: {', '.join(inspection.requires)}", highlight=False)


@app.command()
def unpack(
    file: FileArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
) -> None:
    """Extract weights.safetensors, payload.gpk, source.py and loader.py from FILE; execute nothing."""
    for path in generator.unpack(file, output).files:
        console.print(f"{path} ({path.stat().st_size:,} bytes)", highlight=False, soft_wrap=True, markup=False)


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
) -> None:
    """Check that FILE is intact, within budget, comes from a checkpoint, and runs; the exit status tells."""
    with errors.status("verifying …"):
        verification = generator.verify(
            file,
            budget=budget,
            run=run,
            against=against,
            key=key,
            tolerance=tolerance,
            arguments=arguments or [],
            timeout=timeout,
        )
    if as_json:
        _print_json(verification.to_json())
    else:
        if verification.output:
            console.print(verification.output.rstrip(), markup=False, highlight=False, soft_wrap=True)
        print_verification(console, verification)
    if not verification.passed:
        raise typer.Exit(1)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


@app.command()
def bench(
    checkpoint: CheckpointArgument,
    recipe: RecipeOption = None,
    key: KeyOption = None,
    external: Annotated[bool, typer.Option(help="Also run lrzip and zpaq, where they are on the PATH.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Code CKPT's integers, as the recipe quantizes them, with every codec: size, speed, memory."""
    with errors.status("coding …") as status:
        result = generator.bench(
            checkpoint, recipe=recipe, key=key, external=external, progress=lambda name: status.update(f"{name} …")
        )
    if as_json:
        _print_json(result.to_json())
        return
    print_bench(console, result)


@app.command()
def analyze(
    checkpoint: CheckpointArgument,
    recipe: RecipeOption = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Where CKPT's bytes go, and which hypotheses would save some."""
    with errors.status("analyzing …") as status:
        result = generator.analyze(checkpoint, recipe=recipe, key=key, progress=lambda name: status.update(f"{name} …"))
    if as_json:
        _print_json(result.to_json())
        return
    print_analysis(console, result)


app.command()(cli_statistics.calibrate)
app.command()(cli_statistics.fit)


def _show(inspection: generator.Inspection, budget: int | None, as_json: bool) -> None:
    if as_json:
        _print_json(inspection.to_json())
        return
    print_parts(console, inspection, budget)
    for note in inspection.notes:
        errors.print(f"note: {note}", highlight=False, soft_wrap=True, markup=False)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def main() -> None:
    """Entry point of the console script: errors become one sentence and an exit status."""
    try:
        app()
    except GolfpackError as error:
        if isinstance(error, BudgetError):
            print_parts(errors, error.inspection, None)
            print_tensors(errors, error.inspection, SHOWN_TENSORS)
            errors.print(_ADVICE, highlight=False, soft_wrap=True)
        print(f"golfpack: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


_ADVICE = "To make it smaller: fewer bits for the tensors above (a recipe with int5 or int4), or a smaller model."
