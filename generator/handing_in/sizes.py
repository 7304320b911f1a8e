"""Whether the sizes add up: code and coded model, against each other, the cap, and what lies in the folder.

The challenge counts the bytes of train_gpt.py and of the compressed model, 16,000,000 together, decimal.
"""

from __future__ import annotations

from collections.abc import Iterator

from generator.handing_in.claims import Claims
from generator.handing_in.contents import Contents
from generator.handing_in.findings import Finding, finding
from generator.handing_in.logs import Size, TrainingLog
from generator.handing_in.script import SubmittedScript


def check_sizes(contents: Contents, budget: int) -> Iterator[Finding]:
    """Findings about sizes: of an artifact that golfpack packed they are known, of others JSON and logs tell them."""
    script, claims = contents.script, contents.claims
    if script is not None and script.packed:
        yield from _packed(script, claims, contents.metadata, budget)
        return
    if claims is not None:
        yield from _claimed(claims, contents, budget)
    for log in contents.logs:
        yield from _logged(log, budget)
    if script is not None:
        yield from _code(script, contents)
        if script.beside:
            listed = ", ".join(f"{name} ({size:,} bytes)" for name, size in script.beside.items())
            yield finding("code-beside", f"{script.name} uses {listed}; all counted code should live in train_gpt.py")
        yield from _as_counted(script, contents, budget)


def _packed(script: SubmittedScript, claims: Claims | None, metadata: str, budget: int) -> Iterator[Finding]:
    """An artifact of golfpack's: its files are all there is to count."""
    assert script.artifact is not None
    total = script.artifact.size
    if total > budget:
        yield finding("over-cap", f"{script.name} has {total:,} bytes with what lies beside, {_over(total, budget)}")
    if claims is None:
        return
    if claims.bytes_total not in (None, total):
        yield finding("total", f"{metadata} tells {claims.bytes_total:,} bytes in all; {script.name} has {total:,}")
    if claims.bytes_code not in (None, script.size):
        yield finding("code", f"{metadata} tells {claims.bytes_code:,} bytes of code; {script.name} has {script.size:,}")
    yield from _sum(claims, metadata)


def _claimed(claims: Claims, contents: Contents, budget: int) -> Iterator[Finding]:
    """What JSON tells."""
    total = claims.bytes_total
    yield from _sum(claims, contents.metadata)
    if total is None:
        return
    if total > budget:
        yield finding("over-cap", f"{contents.metadata} tells {total:,} bytes in all, {_over(total, budget)}")
    logged = [size.bytes for log in contents.logs for size in log.totals]
    least = [log.total.bytes for log in contents.logs if log.total is not None]
    code = contents.script.size if contents.script is not None else 0  # which may be a later version than the log's
    with_script = [size.bytes + code for log in contents.logs for size in log.models]
    if logged and total not in {*logged, *with_script} and abs(total - sum(least) / len(least)) > 1:
        nearest = min(logged, key=lambda size: abs(size - total))
        yield finding("total", f"{contents.metadata} tells {total:,} bytes in all; the logs do not (nearest: {nearest:,})")


def _sum(claims: Claims, metadata: str) -> Iterator[Finding]:
    if claims.bytes_total is not None and claims.bytes_code is not None and claims.bytes_model is not None:
        together = claims.bytes_code + claims.bytes_model
        if together != claims.bytes_total:
            yield finding(
                "sum",
                f"{metadata} tells {claims.bytes_code:,} bytes of code and {claims.bytes_model:,} of the model, which make "
                f"{together:,}, and {claims.bytes_total:,} in all",
            )


def _logged(log: TrainingLog, budget: int) -> Iterator[Finding]:
    """What one log tells."""
    total = log.total
    if total is None:
        return
    if total.bytes > budget:
        yield finding("over-cap", f"{log.name} tells {total.bytes:,} bytes in all, {_over(total.bytes, budget)}")
    if log.codes and log.models and _model_of(log, total) is None:
        yield finding(
            "sum",
            f"{log.name} tells {total.bytes:,} bytes in all, which is not the sum of a size of the model and one of the code",
        )


def _model_of(log: TrainingLog, total: Size) -> tuple[Size, Size] | None:
    """The sizes of model and code that make up a total."""
    pairs = ((model, code) for model in log.models for code in log.codes if model.bytes + code.bytes == total.bytes)
    return next(pairs, None)


def _code(script: SubmittedScript, contents: Contents) -> Iterator[Finding]:
    """Whether JSON and the logs are of this script."""
    others: dict[int, list[str]] = {}
    for log in contents.logs:
        sizes = [size.bytes for size in log.codes]
        if sizes and script.size not in sizes:
            others.setdefault(max(sizes), []).append(log.name)  # where the log tells it packed and unpacked, the unpacked one
    for size, names in others.items():
        tell = "tells" if len(names) == 1 else "tell"
        yield finding("log-code", f"{', '.join(names)} {tell} {size:,} bytes of code; {script.name} has {script.size:,}")
    claimed = contents.claims.bytes_code if contents.claims is not None else None
    if claimed not in (None, script.size):
        packed = any(claimed == size.bytes for log in contents.logs for size in log.codes if size.coding == "compressed")
        how = ", as the log counts it compressed" if packed else ""
        yield finding("code", f"{contents.metadata} tells {claimed:,} bytes of code{how}; {script.name} has {script.size:,}")


def _as_counted(script: SubmittedScript, contents: Contents, budget: int) -> Iterator[Finding]:
    """Whether the model, with the script and what it uses as they lie in the folder, is below the cap where the log says so."""
    code = script.size + sum(script.beside.values())
    worst: tuple[int, TrainingLog, Size, Size] | None = None
    for log in contents.logs:
        pair = _model_of(log, log.total) if log.total is not None and log.total.bytes <= budget else None
        if pair is not None and pair[0].bytes + code > max(budget, worst[0] if worst else 0):
            worst = (pair[0].bytes + code, log, *pair)
    if worst is not None:
        total, log, model, counted = worst
        beside = " and what it uses have" if script.beside else " has"
        yield finding(
            "over-cap-as-counted",
            f"{log.name} counts {counted.bytes:,} bytes of code; {script.name}{beside} {code:,}, which with the model's "
            f"{model.bytes:,} make {total:,}, {_over(total, budget)}",
        )


def _over(size: int, budget: int) -> str:
    return f"{size - budget:,} over the cap of {budget:,}"
