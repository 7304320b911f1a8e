"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from generator import carriers, compressors
from generator.errors import InputError
from generator.source.options import NOTICEABLE, OPTIONAL, STEPS
from generator.user_code import call, load_function

if TYPE_CHECKING:
    from generator.audit.checking import RunCheck
    from generator.packing import PackingOptions
    from generator.progress import Listener
    from generator.tuning.tuner import Tuner

CarrierName = Enum("CarrierName", {name: name for name in [*carriers.REGISTRY, carriers.AUTO]})  # type: ignore[misc]
CompressorName = Enum("CompressorName", {name: name for name in [compressors.AUTO, *compressors.REGISTRY]})  # type: ignore[misc]
DEFAULT_CARRIER = CarrierName[carriers.DEFAULT_CARRIER]
DEFAULT_COMPRESSOR = CompressorName[compressors.AUTO]
DEFAULT_ALLOW = ",".join(carriers.DEFAULT_ALLOW)

ScriptArgument = Annotated[Path, typer.Argument(metavar="SCRIPT", help="Python source to pack.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="An artifact or a payload file.")]
CheckpointArgument = Annotated[Path, typer.Argument(metavar="CKPT", help="Checkpoint: .safetensors, .pt, .pth or .npz.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="File to write.")]
WeightsOption = Annotated[Path, typer.Option("--weights", "-w", help="Checkpoint: .safetensors, .pt, .pth or .npz.")]
KeyOption = Annotated[str | None, typer.Option(help="Where in a nested checkpoint the state dict is, for instance model.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", "-r", help="TOML recipe; without it, the default one.")]
StatisticsOption = Annotated[Path | None, typer.Option("--statistics", "-s", help="Statistics of golfpack calibrate.")]
CarrierOption = Annotated[CarrierName, typer.Option(help="How payload and program become one file.")]
AllowOption = Annotated[str, typer.Option(help="Carriers that auto may choose, separated by commas.")]
CompressorOption = Annotated[CompressorName, typer.Option(help="What compresses the program; mix is smallest, slow to start.")]
IncludeOption = Annotated[
    list[Path] | None, typer.Option("--include", help="Module, package or data file to carry; may be repeated.")
]
BundleOption = Annotated[
    bool, typer.Option("--bundle/--no-bundle", help="Carry modules that the script imports from its own folder.")
]
SkipOption = Annotated[
    list[str] | None, typer.Option("--skip-step", help=f"Shrinking step to leave out: {', '.join(STEPS)}; may be repeated.")
]
SafeOption = Annotated[
    bool, typer.Option("--safe", help=f"Shorten local names only; leaves out {', '.join(sorted(NOTICEABLE))}.")
]
ExtraOption = Annotated[
    list[str] | None, typer.Option("--step", help=f"Optional step: {', '.join(OPTIONAL)}; may be repeated.")
]
KeepOption = Annotated[list[str] | None, typer.Option("--keep-name", help="Global name not to shorten; may be repeated.")]
BroadcastOption = Annotated[
    bool | None,
    typer.Option(
        "--broadcast/--no-broadcast",
        help="One process of each node decodes and sends, once a process group exists; by default where the script makes one.",
    ),
]
BudgetOption = Annotated[int, typer.Option(min=1, help="Bytes that the file may have.")]
HeaderOption = Annotated[bool, typer.Option("--header/--no-header", help="Begin with a comment that says what the file is.")]
CheckOption = Annotated[
    bool, typer.Option("--check", help="Run script and packed file first, with ARGS; write only if both do the same.")
]
CheckArguments = Annotated[list[str] | None, typer.Argument(metavar="[-- ARGS]", help="Command line for --check.")]
TimeoutOption = Annotated[float, typer.Option(min=1, help="Seconds that each run of --check may take.")]
TuneOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODULE:FUNCTION",
        help="Tune what was quantized towards the float model, with the function that calibrate takes.",
    ),
]
TuneSecondsOption = Annotated[float | None, typer.Option(help="Seconds that tuning may take.")]
TuneUpdatesOption = Annotated[
    int | None, typer.Option(min=1, help="Updates in all; 200 where neither they nor seconds are given.")
]
TuneGenerateOption = Annotated[
    int, typer.Option("--tune-self-generate", min=0, help="Tune on so many sequences that the model writes itself.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def packing(
    carrier: CarrierName,
    allow: str,
    header: bool,
    compressor: CompressorName,
    include: list[Path] | None,
    bundle: bool,
    safe: bool,
    skip_step: list[str] | None,
    step: list[str] | None,
    keep_name: list[str] | None,
    broadcast: bool | None = None,
) -> PackingOptions:
    """The arguments of `generator.build`, `wrap` and `fit` that these options stand for."""
    return {
        "carrier": carrier.value,
        "header": header,
        "allow": [name.strip() for name in allow.split(",") if name.strip()],
        "compressor": compressor.value,
        "include": include or [],
        "local_modules": bundle,
        "safe": safe,
        "skip_steps": skip_step or [],
        "extra_steps": step or [],
        "keep_names": keep_name or [],
        "broadcast": broadcast,
    }


def tuner(
    where: str | None, seconds: float | None, updates: int | None, self_generate: int, progress: Listener
) -> Tuner | None:
    """What `--tune` and the options beside it stand for.

    Raises:
        InputError: the others are given without it, or one of them is unusable.
    """
    if where is None:
        if seconds is not None or updates is not None or self_generate:
            raise InputError("--tune-seconds, --tune-updates and --tune-self-generate are for --tune, which is not given")
        return None
    from generator.tuning.options import TuneOptions
    from generator.tuning.tuner import Tuner

    options = TuneOptions(seconds, updates, self_generate)
    return Tuner.of(call(f"{where} fails", load_function(where)), options, progress)


def run_check(check: bool, arguments: list[str] | None, timeout: float) -> RunCheck | None:
    """What `--check -- ARGS` stands for.

    Raises:
        InputError: there are arguments, and nothing that would get them.
    """
    if arguments and not check:
        raise InputError(f"arguments {' '.join(arguments)!r} are for --check, which is not given")
    if not check:
        return None
    from generator.audit.checking import RunCheck

    return RunCheck(tuple(arguments or ()), timeout)
