"""Whether the scores are what the logs tell, seed by seed and in the mean.

A score agrees with a figure if it is that, rounded or cut off (`numbers.agree`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import PurePath

from generator.handing_in.claims import Claims, SeedClaim
from generator.handing_in.contents import Contents
from generator.handing_in.findings import Finding, finding
from generator.handing_in.logs import Evaluation, TrainingLog
from generator.handing_in.numbers import agree, mean, shortened

SCORES = {"val_bpb": "val_bpb", "val_loss": "val_loss", "mean_val_bpb": "val_bpb", "mean_val_loss": "val_loss"}


def check_scores(contents: Contents) -> Iterator[Finding]:
    """Findings about the scores that JSON tells."""
    claims, metadata = contents.claims, contents.metadata
    logs = [log for log in contents.logs if log.evaluations]
    if claims is None:
        return
    for name, score in claims.scores.items():
        results = _of_seeds(claims, SCORES[name])
        yield from _mean_of_seeds(name, score, results, metadata)
        if logs and not (len(results) > 1 and agree(score, mean(results))):  # whose parts are looked for in the logs
            yield from _logged(name, score, logs, metadata)
    for claim in claims.seed_results:
        yield from _seed(claim, [log for log in logs if not log.seeds or claim.seed in log.seeds], metadata)
    yield from _seeds(claims, contents.logs, metadata)


def _logged(name: str, score: Decimal, logs: Sequence[TrainingLog], metadata: str) -> Iterator[Finding]:
    """Whether a score is in a log, or a mean over logs; and is that of the coded model."""
    kind = SCORES[name]
    single = [(log, one, value) for log in logs for one in log.evaluations if (value := _value(one, kind)) is not None]
    means = list(_means(logs, kind))
    found = [(log, one) for log, one, value in single if agree(score, value)]
    if any(agree(score, value) for value in means) or any(not _before_coding(log, one) for log, one in found):
        return
    if found:
        log, one = found[-1]
        yield finding(
            "before-coding",
            f"{metadata} tells {name} {score}, which is in {log.name}, line {one.line}, but only before the coded model's size",
        )
    elif single:
        values = [value for *_, value in single]
        nearest = shortened(min([*values, *means], key=lambda value: abs(value - score)), values)
        yield finding(
            "score", f"{metadata} tells {name} {score}; the logs do not, nor is it a mean of theirs (nearest: {nearest})"
        )


def _means(logs: Sequence[TrainingLog], kind: str) -> Iterator[Decimal]:
    """The mean of what each evaluation gave last, by its label, over the logs of a folder, and over all."""
    groups: dict[tuple[str, str], list[Decimal]] = {}
    for log in logs:
        last = {one.label: value for one in log.evaluations if (value := _value(one, kind)) is not None}
        for label, value in last.items():
            for folder in {str(PurePath(log.name).parent), "of all"}:
                groups.setdefault((folder, label), []).append(value)
        if last:
            groups.setdefault(("", "the last"), []).append([*last.values()][-1])
    yield from (mean(values) for values in groups.values() if len(values) > 1)


def _before_coding(log: TrainingLog, one: Evaluation) -> bool:
    return log.total is not None and one.line < log.total.line


def _mean_of_seeds(name: str, score: Decimal, results: Sequence[Decimal], metadata: str) -> Iterator[Finding]:
    """Whether a score is the mean of the seeds' results, or one of them."""
    if len(results) > 1 and not any(agree(score, value) for value in [mean(results), *results]):
        average = shortened(mean(results), results)
        yield finding("mean", f"{metadata} tells {name} {score}; the mean of its {len(results)} seeds is {average}")


def _seed(claim: SeedClaim, logs: Sequence[TrainingLog], metadata: str) -> Iterator[Finding]:
    """Whether a seed's results are in a log that may be its own."""
    for kind in ("val_bpb", "val_loss"):
        score = getattr(claim, kind)
        values = [value for log in logs for one in log.evaluations if (value := _value(one, kind)) is not None]
        if score is not None and values and not any(agree(score, value) for value in values):
            nearest = min(values, key=lambda value: abs(value - score))
            yield finding(
                "seed-score", f"{metadata} tells {kind} {score} for seed {claim.seed}; its log does not (nearest: {nearest})"
            )
    sizes = [size.bytes for log in logs for size in log.totals]
    total = claim.bytes_total
    if total is not None and sizes and total not in sizes:
        nearest_size = min(sizes, key=lambda size: abs(size - total))
        yield finding(
            "total", f"{metadata} tells {total:,} bytes for seed {claim.seed}; its log does not (nearest: {nearest_size:,})"
        )


def _seeds(claims: Claims, logs: Sequence[TrainingLog], metadata: str) -> Iterator[Finding]:
    """Seeds without a log, and logs that contradict their names."""
    for log in logs:
        if len(log.seeds) > 1:
            yield finding("seed", f"{log.name} is by its name of seed {log.named_seed}, and tells {log.seed}")
    missing = [seed for seed in claims.seeds if not any(not log.seeds or seed in log.seeds for log in logs)]
    if missing:
        yield finding("seed", f"{metadata} names seed {', '.join(map(str, missing))}, of which there is no log")


def _of_seeds(claims: Claims, kind: str) -> list[Decimal]:
    return [value for claim in claims.seed_results if (value := getattr(claim, kind)) is not None]


def _value(one: Evaluation, kind: str) -> Decimal | None:
    return one.val_bpb if kind == "val_bpb" else one.val_loss
