"""`golfpack.pack`: a model, as it is in memory, to one self-extracting file of the very script that trains it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from generator.audit.inspection import Inspection
from generator.calibration import collect_statistics, language_model_loss, plain_logits
from generator.calibration.collectors import Loss
from generator.calibration.language_model import Logits
from generator.deadline import Deadline
from generator.defaults import BUDGET
from generator.errors import InputError
from generator.in_the_run.ranks import Ranks
from generator.in_the_run.shared import Shared
from generator.in_the_run.training import check_alike, evaluating, plain_model, running_script
from generator.job import Job, open_job
from generator.memory import Memory
from generator.packing import PackingOptions
from generator.payload import Payload, decode_payload
from generator.progress import Listener, logger
from generator.recipes.forms import as_recipe, read_table
from generator.recipes.marks import find_knob, find_searched, has_knob, with_value
from generator.recipes.recipe import make_recipe
from generator.search.fitting import check_budget, search_recipe
from generator.search.results import Fit
from generator.search.tuned import has_time, searching, tune_fit, tune_payload
from generator.specs import check_table
from generator.tuning import TuneOptions
from generator.tuning.tuner import Tuner
from generator.user_code import call
from generator.visible import shown
from generator.weights.checkpoint import from_state_dict
from generator.weights.encode import encode_quantized
from generator.weights.quantize import quantize_checkpoint
from generator.weights.workers import Source, Workers

Result = TypeVar("Result")

CALIBRATION = 0.3  # share of a time limit that calibration may take


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        inspection: what the written file holds.
        state_dict: what it will load, bit for bit, on the CPU.
        fit: the search for the budget; None where the recipe left nothing to search.
    """

    inspection: Inspection
    state_dict: dict[str, Tensor]
    fit: Fit | None


class Packer:
    """Packs the model of a training run. Made before the training, it tells then what would stand in the way.

    >>> packer = Packer("dist/train_gpt.py")  # doctest: +SKIP
    >>> packed = packer.pack(model, batches)  # doctest: +SKIP
    """

    def __init__(
        self,
        output: str | Path,
        *,
        budget: int = BUDGET,
        script: str | Path | None = None,
        recipe: Mapping[str, Any] | str | Path | None = None,
        loss: Loss | None = None,
        logits: Logits = plain_logits,
        statistics: Literal["token", "sequence"] = "sequence",
        seed: int = 0,
        tune: float | TuneOptions | None = None,
        time_limit: float | None = None,
        progress: Listener | None = None,
        **packing: Unpack[PackingOptions],
    ):
        """Read the script and the recipe.

        Args:
            output: the file to write; replaced only when everything has worked.
            budget: bytes that the file may have.
            script: what is packed; None for the file that runs, an artifact or not.
            recipe: a table or a TOML file, in which one knob may be marked to be fitted; None to fit `waterfill` where the
                calibration tells of a tensor.
            loss: `loss(model, batch)`, summed over the batch's tokens; None for `language_model_loss()`.
            logits: `logits(model, tokens)`, for tuning.
            statistics: per "token", or per "sequence", which takes two passes over the batches.
            seed: of the calibration's sampling.
            tune: seconds for which rank 0 tunes what was quantized, on the batches of the calibration; None not to.
            time_limit: seconds that `pack` may take: calibration, search and tuning end in time with the best that there is.
                One batch and one point of the search are always made, however long that takes.
            progress: told of each step on rank 0; see `generator.progress`.
            packing: as for `generator.build`.

        Raises:
            InputError: the script, the recipe or an option is unusable, or the output can't be written.
        """
        check_budget(budget)
        Deadline.after(time_limit)  # that it is a limit
        if loss is not None and not callable(loss):
            raise InputError("the loss must be a function of the model and a batch")
        if statistics not in ("token", "sequence"):
            raise InputError(f"the statistics must be 'token' or 'sequence', not {shown(statistics)}")
        self._tune = tune if isinstance(tune, TuneOptions) else None if tune is None else TuneOptions(seconds=tune)
        if self._tune is not None and self._tune.self_generate:
            raise InputError("tuning in the run takes the batches; self-generated sequences are for fit and build")
        self._table = _read_recipe(recipe) if recipe is not None else None
        self._job: Job | None = None
        if _leads():
            self._job = open_job(script if script is not None else running_script(), packing, [output], recipe)
            self._job.emitter.check_weights(True)
        self._budget = budget
        self._loss = loss or language_model_loss()
        self._logits = logits
        self._kind = statistics
        self._seed = seed
        self._time_limit = time_limit
        self._progress = progress if _leads() else None

    def pack(self, model: Any, batches: Iterable[Any] | None = None) -> Packed:
        """Calibrate, quantize, fit, code and write; called by every rank, which all get the result.

        Args:
            model: the module, or what trains or compiles it; its weights are the same on all ranks. Left as it is.
            batches: for calibration, the same on all ranks, each of which runs its share; None to do without.

        Raises:
            InputError: model, batches or recipe are unusable.
            CheckError: nothing fits the budget; nothing is written.
        """
        deadline = Deadline.after(self._time_limit)
        module = plain_model(model)
        with Ranks() as ranks:
            checkpoint = from_state_dict(module.state_dict(), "the model")
            check_alike(checkpoint, ranks)
            statistics = None
            if self._tune is not None:
                batches = _kept(batches)  # they are asked for once more
            if batches is not None:
                with evaluating(module):
                    statistics = collect_statistics(
                        module,
                        batches,
                        self._loss,
                        kind=self._kind,
                        seed=self._seed,
                        shared=True,
                        deadline=deadline.within(CALIBRATION),
                        progress=self._progress,
                    )
            source = Source(checkpoint, statistics, Memory())
            inspection, fit, data = ranks.lead(
                lambda: self._lead(module, source, batches, Shared(ranks, source), deadline), source
            )
        return Packed(inspection, decode_payload(data), fit)

    def _lead(
        self, module: nn.Module, source: Source, batches: Iterable[Any] | None, workers: Workers, deadline: Deadline
    ) -> tuple[Inspection, Fit | None, bytes]:
        """What rank 0 does: all but the calibration."""
        job = self._job
        assert job is not None
        tune = self._tune
        if tune is None:
            fit, payload = self._payload(job, source, None, workers, deadline)
        else:
            with evaluating(module):
                tuner = _or_else(lambda: Tuner.of((module, batches, self._loss, self._logits), tune, self._progress), None)
                fit, payload = self._payload(job, source, tuner, workers, deadline)
        inspection = job.finish(payload, job.emit(payload, self._progress), self._budget, None, self._progress)
        return inspection, fit, payload.data

    def _payload(
        self, job: Job, source: Source, tuner: Tuner | None, workers: Workers, deadline: Deadline
    ) -> tuple[Fit | None, Payload]:
        """Fitted where the recipe marks a knob, and tuned if there is a tuner, and time for it."""
        started = time.monotonic()
        checkpoint, statistics = source.checkpoint, source.statistics
        common: dict[str, Any] = {
            "statistics": statistics,
            "budget": self._budget,
            "size": lambda payload: job.emit(payload, self._progress).written.size,
            "progress": self._progress,
        }
        table, title = self._table or (None, "")
        if table is None and statistics is not None:
            table, title = read_table(None, statistics)
        if table is None or not has_knob(table):
            recipe = as_recipe(table, statistics)
            quantized = quantize_checkpoint(checkpoint, recipe, statistics, None, self._progress, workers)
            payload = encode_quantized(quantized, self._progress)
            if tuner is not None and has_time(deadline, started):
                work = partial(tune_payload, payload, quantized, checkpoint, recipe, tuner, deadline=deadline, **common)
                payload = _or_else(work, payload)
            return None, payload
        fit = search_recipe(checkpoint, table, title, workers=workers, deadline=searching(deadline, tuner), **common)
        if tuner is not None and has_time(deadline, started):
            fit = _or_else(partial(tune_fit, fit, table, checkpoint, tuner, workers=workers, deadline=deadline, **common), fit)
        assert fit.payload is not None
        return fit.without_payload(), fit.payload


def pack(
    model: Any,
    batches: Iterable[Any] | None = None,
    *,
    output: str | Path,
    **options: Any,
) -> Packed:
    """Pack a model from within its training run: `Packer(output, **options).pack(model, batches)`."""
    return Packer(output, **options).pack(model, batches)


def _or_else(work: Callable[[], Result], other: Result) -> Result:
    """What tuning gives, or, where it fails, what there is without it: after a training a file is worth more than a reason."""
    try:
        return work()
    except (InputError, torch.OutOfMemoryError) as error:
        logger("tune").warning("%s; the artifact is written without tuning", error)
        return other


def _kept(batches: Iterable[Any] | None) -> list[Any]:
    """All of them.

    Raises:
        InputError: there are none.
    """
    if batches is None:
        raise InputError("tuning needs batches")
    kept: list[Any] = call("the batches can't be made", list, batches)
    return kept


def _read_recipe(recipe: Mapping[str, Any] | str | Path) -> tuple[dict[str, Any], str]:
    """Its table and its title; that it is a recipe is known before anything is trained.

    Raises:
        InputError: it isn't, or asks for a study.
    """
    table, title = read_table(recipe, None)
    check_table(table, title)
    if find_searched(table, title):
        raise InputError(f"{title} marks options for a study, which packing in the run has no time for; use golfpack fit")
    make_recipe(with_value(table, find_knob(table, title).usual) if has_knob(table) else table, title)
    return table, title


def _leads() -> bool:
    """Whether this process is, or will be, rank 0 of torchrun's."""
    return os.environ.get("RANK", "0") == "0"
