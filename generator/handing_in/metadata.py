"""The `submission.json` of a folder that golfpack writes, under the names that most published records use."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from generator.errors import InputError
from generator.handing_in.logs import Evaluation, TrainingLog
from generator.handing_in.numbers import mean, shortened, standard_deviation


@dataclass(frozen=True)
class SeedResult:
    """What the run with one seed gave.

    Attributes:
        log: the name of its log.
        seed: None where nothing tells.
        val_loss: in nats per token; None where the log does not tell.
        val_bpb: in bits per byte.
    """

    log: str
    seed: int | None
    val_loss: Decimal | None
    val_bpb: Decimal


@dataclass(frozen=True)
class Result:
    """What all runs gave: the mean over the seeds, unless it was told; deviations where there are several.

    Attributes:
        val_loss: in nats per token; None where nothing tells.
        val_bpb: in bits per byte.
        val_loss_std: of the sample.
        val_bpb_std: of the sample.
        seeds: each run.
    """

    val_loss: Decimal | None
    val_bpb: Decimal
    val_loss_std: Decimal | None
    val_bpb_std: Decimal | None
    seeds: list[SeedResult]


def read_result(
    logs: Sequence[TrainingLog], evaluation: str | None, val_loss: Decimal | None, val_bpb: Decimal | None
) -> Result:
    """The result that logs tell.

    Args:
        logs: one of each run.
        evaluation: the label of the evaluation that counts; None for the last one of each log.
        val_loss: in place of the logs'.
        val_bpb: in place of the logs'.

    Raises:
        InputError: a log has no such evaluation, two are of one seed, or of several one does not tell its seed.
    """
    seeds = [_seed_result(log, evaluation) for log in logs if val_bpb is None or log.evaluation(evaluation) is not None]
    for number, one in enumerate(seeds):
        if len(seeds) > 1 and one.seed is None:
            raise InputError(f"log {one.log} does not tell its seed; name it like train_seed42.log, or print seed:42 into it")
        if one.seed is not None and one.seed in [earlier.seed for earlier in seeds[:number]]:
            raise InputError(f"log {one.log} is of seed {one.seed}, as another one is")
    bpbs = [one.val_bpb for one in seeds]
    losses = [one.val_loss for one in seeds if one.val_loss is not None]
    if val_bpb is None and not bpbs:
        raise InputError("nothing tells val_bpb; give --log or --val-bpb")
    return Result(
        val_loss if val_loss is not None else _mean(losses) if len(losses) == len(seeds) else None,
        val_bpb if val_bpb is not None else shortened(mean(bpbs), bpbs),
        _deviation(losses) if len(losses) == len(seeds) and val_loss is None else None,
        _deviation(bpbs) if val_bpb is None else None,
        seeds,
    )


def _seed_result(log: TrainingLog, evaluation: str | None) -> SeedResult:
    found: Evaluation | None = log.evaluation(evaluation)
    if found is None:
        labels = sorted({one.label for one in log.evaluations if not one.label.startswith("step:")})
        if evaluation is None or not labels:
            raise InputError(f"log {log.name} tells no val_bpb; it should hold lines such as val_loss:2.0727 val_bpb:1.2244")
        raise InputError(f"log {log.name} has no evaluation {evaluation!r}; it has {', '.join(map(repr, labels))}")
    if len(log.seeds) > 1:
        raise InputError(f"log {log.name} is by its name of seed {log.named_seed}, and tells {log.seed}")
    return SeedResult(log.name, next(iter(log.seeds), None), found.val_loss, found.val_bpb)


def _mean(values: Sequence[Decimal]) -> Decimal | None:
    return shortened(mean(values), values) if values else None


def _deviation(values: Sequence[Decimal]) -> Decimal | None:
    return shortened(standard_deviation(values), values) if len(values) > 1 else None


def metadata_json(texts: dict[str, str], result: Result, bytes_total: int, bytes_code: int, bytes_model: int | None) -> str:
    """The text of submission.json; what nothing tells is left out.

    Args:
        texts: author, github_id, name, blurb, date, track.
        result: of the runs.
        bytes_total: code and model, as the challenge counts.
        bytes_code: train_gpt.py.
        bytes_model: the file beside it; None where train_gpt.py holds all.
    """
    numbered = [one for one in result.seeds if one.seed is not None]
    values: dict[str, Any] = {
        **texts,
        "val_loss": result.val_loss,
        "val_bpb": result.val_bpb,
        "val_loss_std": result.val_loss_std,
        "val_bpb_std": result.val_bpb_std,
        "bytes_total": bytes_total,
        "bytes_code": bytes_code,
        "bytes_model": bytes_model,
        "seeds": [one.seed for one in numbered] or None,
        "seed_results": {str(one.seed): _present({"val_loss": one.val_loss, "val_bpb": one.val_bpb}) for one in numbered}
        or None,
    }
    return json.dumps(_present(values), indent=2, ensure_ascii=False, default=float) + "\n"


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
