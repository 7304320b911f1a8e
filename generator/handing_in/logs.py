"""Training logs: scores, sizes and the seed, read from the lines that the challenge's scripts print.

    seed:1337
    step:13780/20000 val_loss:2.0606 val_bpb:1.2172 …
    Serialized model int8+zlib: 15815847 bytes …
    Code size: 47642 bytes
    Total submission size int8+zlib: 15863489 bytes
    final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:1.22436570

What stands before the loss is the evaluation's label; what stands between "size" and the colon says how the model was coded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePath

_NUMBER = r"(\d{1,9}\.\d{1,20})"  # a score; whole numbers are steps and counts
_LOSS = re.compile(rf"\bval_loss\s{{0,4}}[:=]\s{{0,4}}{_NUMBER}")
_BPB = re.compile(rf"\bval_(?:var_)?bpb\s{{0,4}}[:=]\s{{0,4}}{_NUMBER}")
_SIZE = re.compile(r"\b(Total submission size|Serialized model|Code size)([^:]{0,60}):\s{0,4}([\d,]{1,20}) bytes")
_BUDGET = re.compile(r"\bbudget:(\d{1,20})/\d")  # of the ternary and binary records
_SEED = re.compile(r"\s*seed(?:: ?|=)(\d{1,18})", re.IGNORECASE)
_SEED_IN_NAME = re.compile(r"seed[_-]?(\d{1,18})(?!\d)", re.IGNORECASE)
_TIME = re.compile(r"^\d{10}\.\d+ ")  # before each line, in some logs
_LONGEST = 2000  # characters of a line that is looked at; logs hold their script's source, packed ones in one line


@dataclass(frozen=True)
class Evaluation:
    """One line of scores.

    Attributes:
        label: what stands before them: "final_int8_zlib_roundtrip_exact", "step:1000/20000"; may be "".
        val_loss: in nats per token; None where the line has none.
        val_bpb: in bits per byte.
        line: its number, from 1.
    """

    label: str
    val_loss: Decimal | None
    val_bpb: Decimal
    line: int


@dataclass(frozen=True)
class Size:
    """One line of a size: how it was coded ("int8+zlib", "compressed" for code; may be ""), bytes, and the line's number."""

    coding: str
    bytes: int
    line: int


@dataclass
class TrainingLog:
    """What a log tells.

    Attributes:
        name: of the file, relative to the folder.
        seed: what the log tells; None where it does not.
        named_seed: what its name tells, as train_seed42.log does.
        evaluations: in order.
        totals: of code and model together, in order.
        models: of the model.
        codes: of the script.
    """

    name: str
    seed: int | None = None
    named_seed: int | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    totals: list[Size] = field(default_factory=list)
    models: list[Size] = field(default_factory=list)
    codes: list[Size] = field(default_factory=list)

    @property
    def seeds(self) -> set[int]:
        """Seeds that the log or its name tells; two, where they contradict each other."""
        return {seed for seed in (self.seed, self.named_seed) if seed is not None}

    @property
    def tells(self) -> bool:
        """Whether it is a log of a training at all."""
        return bool(self.evaluations or self.totals)

    @property
    def total(self) -> Size | None:
        """The artifact's size: the smallest of those that the log tells, since the uncoded model's is told, too."""
        return min(self.totals, key=lambda size: size.bytes, default=None)

    def evaluation(self, label: str | None = None) -> Evaluation | None:
        """The last evaluation, or the last one of a label; None where there is none."""
        found = [one for one in self.evaluations if label is None or one.label == label]
        return found[-1] if found else None


def read_log(name: str, data: bytes) -> TrainingLog:
    """Read a log; lines that tell nothing are passed over, whatever they hold."""
    log = TrainingLog(name)
    sizes = {"Total submission size": log.totals, "Serialized model": log.models, "Code size": log.codes}
    for number, line in _lines(data):
        seed = _SEED.fullmatch(line)
        if seed is not None:
            log.seed = int(seed[1])
        for kind, coding, size in _SIZE.findall(line):
            digits = size.replace(",", "")
            if digits:
                sizes[kind].append(Size(coding.strip(" ()"), int(digits), number))
        log.totals += [Size("", int(size), number) for size in _BUDGET.findall(line)]
        bpb = _BPB.search(line)
        if bpb is not None:
            loss = _LOSS.search(line)
            label = " ".join(line[: min(match.start() for match in (loss, bpb) if match is not None)].split())
            log.evaluations.append(Evaluation(label, Decimal(loss[1]) if loss else None, Decimal(bpb[1]), number))
    named = _SEED_IN_NAME.search(PurePath(name).name)
    log.named_seed = int(named[1]) if named else None
    return log


def _lines(data: bytes) -> Iterator[tuple[int, str]]:
    """Numbered lines, without the time that some logs begin them with."""
    for number, line in enumerate(data.split(b"\n"), 1):
        yield number, _TIME.sub("", line[:_LONGEST].decode(errors="replace").rstrip())
