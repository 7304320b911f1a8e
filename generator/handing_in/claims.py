"""What a `submission.json` says: the names of the published records, of which not two agree on all.

Sizes are called `bytes_total` or `artifact_bytes`, `bytes_code` or `code_bytes`; results of single seeds stand in
`seed_results`, in `seeds`, or nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from generator.errors import InputError, brief

_TOTALS = ("bytes_total", "artifact_bytes", "artifact_size_bytes")
_CODES = ("bytes_code", "code_bytes")
_MODELS = "bytes_model"  # and how it was coded: bytes_model_int8_zlib
REQUIRED = ("author", "github_id", "val_bpb")  # the challenge's README: name, GitHub ID, score
_TEXTS = ("author", "github_id", "name", "blurb", "date", "track")
_LONGEST_NUMBER = 40  # characters; a score has ten


@dataclass(frozen=True)
class SeedClaim:
    """What is said of the run with one seed; None for what is not said."""

    seed: int
    val_loss: Decimal | None
    val_bpb: Decimal | None
    bytes_total: int | None


@dataclass
class Claims:
    """A `submission.json`, as far as it can be checked.

    Attributes:
        texts: author, github_id, name, blurb, date, track, as far as they are text and not empty.
        scores: val_bpb and val_loss, and their means under other names, by name.
        bytes_total: code and model together.
        bytes_code: the script.
        bytes_model: the coded model.
        seeds: all that are named.
        seed_results: of single seeds.
        wrong: names whose value is of the wrong type, with what it should be.
        names: all names at the top.
    """

    texts: dict[str, str] = field(default_factory=dict)
    scores: dict[str, Decimal] = field(default_factory=dict)
    bytes_total: int | None = None
    bytes_code: int | None = None
    bytes_model: int | None = None
    seeds: list[int] = field(default_factory=list)
    seed_results: list[SeedClaim] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


def read_claims(data: bytes) -> Claims:
    """Read a `submission.json`.

    Raises:
        InputError: it is no JSON object.
    """
    try:
        values = json.loads(data.decode("utf-8-sig"), parse_float=_number, parse_int=_number, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"it is not JSON: {brief(error)}") from error
    if not isinstance(values, dict):
        raise InputError("it is no JSON object")
    claims = Claims(names=frozenset(values))
    for name in _TEXTS:
        value = values.get(name)
        if isinstance(value, str) and value.strip():
            claims.texts[name] = value
        elif value is not None and not isinstance(value, str):
            claims.wrong[name] = "text"
    for name in ("val_bpb", "val_loss", "mean_val_bpb", "mean_val_loss"):
        value = values.get(name)
        if isinstance(value, Decimal):
            claims.scores[name] = value
        elif value is not None:
            claims.wrong[name] = "a number"
    claims.bytes_total = _size(values, _TOTALS, claims)
    claims.bytes_code = _size(values, _CODES, claims)
    claims.bytes_model = _size(values, [name for name in values if name.startswith(_MODELS)], claims)
    results: dict[str, Any] = next(
        (values[name] for name in ("seed_results", "seeds") if isinstance(values.get(name), dict)), {}
    )
    claims.seed_results = [claim for seed, result in results.items() for claim in _seed_claim(seed, result)]
    listed = values.get("seeds", values.get("seed"))
    named = listed if isinstance(listed, list) else [listed]
    claims.seeds = [int(seed) for seed in named if isinstance(seed, Decimal) and seed == int(seed)]
    claims.seeds += [claim.seed for claim in claims.seed_results if claim.seed not in claims.seeds]
    return claims


def _seed_claim(seed: str, result: Any) -> Iterator[SeedClaim]:
    if not (seed.isdecimal() and seed.isascii() and len(seed) < 20 and isinstance(result, dict)):
        return
    scores = [result.get(name) for name in ("val_loss", "val_bpb")]
    loss, bpb = (score if isinstance(score, Decimal) else None for score in scores)
    sizes = [result[name] for name in _TOTALS if isinstance(result.get(name), Decimal)]
    yield SeedClaim(int(seed), loss, bpb, int(sizes[0]) if sizes else None)


def _size(values: dict[str, Any], names: Any, claims: Claims) -> int | None:
    """The first of the names that has a value; a size is a whole number."""
    for name in names:
        value = values.get(name)
        if isinstance(value, Decimal) and value == int(value) and value > 0:
            return int(value)
        if value is not None:
            claims.wrong[name] = "a whole number of bytes"
    return None


def _number(text: str) -> Decimal:
    value = Decimal(text) if len(text) <= _LONGEST_NUMBER else None
    if value is None or not -_LONGEST_NUMBER <= value.adjusted() < 15:  # whatever is counted or scored
        raise ValueError(f"a number of {len(text)} characters")
    return value


def _refuse(name: str) -> Decimal:
    raise ValueError(f"{name} is no number of JSON")
