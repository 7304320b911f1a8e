"""Where a checkpoint's bytes go, and which hypotheses about them would save some."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generator.codecs.chain import Chain
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.rans import Rans
from generator.codecs.rans_coder import choose_lanes
from generator.fields import Field
from generator.filters.center import Center
from generator.measure.bench import integers_of, order0_bytes
from generator.measure.bound import RoleRate, role_rates
from generator.progress import Listener, track
from generator.recipes.forms import as_recipe
from generator.recipes.recipe import Recipe
from generator.statistics import Statistics
from generator.weights.checkpoint import load_checkpoint
from generator.weights.quantize import as_statistics, quantize_checkpoint
from runtime_stub.rans import rans_matrix
from runtime_stub.split import Array

MOST_SINGULAR = 8192  # rows or columns of a matrix whose singular values are computed
ENERGY = 0.9


@dataclass(frozen=True)
class TensorAnalysis:
    """One tensor that is coded as integers. Sizes in bytes, each for this tensor coded alone.

    Attributes:
        order0: entropy of its histogram.
        classes: adaptive rANS with row and column classes, without the lanes' overhead.
        rows: the same after similar rows had their mean subtracted.
        zlib, lzma: general compressors.
        layer_delta: order-0 entropy of the difference to the tensor of the same role one layer before; None for the first.
        row_correlation, column_correlation: of each element with the one below, and to the right.
        magnitude_correlation: the same below, of absolute values over row and column means: structure that classes miss.
        rank90: singular values that hold 90 % of the energy, and how many there are; None for other than matrices.
        duplicate_of: an earlier tensor with the same integers.
    """

    name: str
    shape: list[int]
    elements: int
    order0: int
    classes: int
    rows: int
    zlib: int
    lzma: int
    layer_delta: int | None
    row_correlation: float
    column_correlation: float
    magnitude_correlation: float
    rank90: tuple[int, int] | None
    duplicate_of: str | None


@dataclass(frozen=True)
class Analysis:
    """All tensors of a checkpoint."""

    checkpoint: str
    tensors: list[TensorAnalysis]
    tied: list[list[str]]  # names of equal tensors, which are stored once
    kept: int  # elements of tensors that are not coded as integers
    roles: list[RoleRate] | None = None  # with statistics: how far from the bound each role is

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def analyze(
    weights: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
    statistics: Statistics | str | Path | None = None,
    progress: Listener | None = None,
) -> Analysis:
    """Measure every tensor, each a step of stage "analyze".

    Args:
        weights, recipe, key, progress: as for `generator.measure.bench.bench`; without a recipe, that of the statistics.
        statistics: calibration statistics, or their file: for quantizers that use them, and to tell the distance to the bound.

    Raises:
        InputError: as for `bench`, or the statistics are unusable.
    """
    known = as_statistics(statistics)
    checkpoint = load_checkpoint(weights, key)
    quantized = quantize_checkpoint(checkpoint, as_recipe(recipe, known), known, progress=progress).tensors
    arrays = integers_of(checkpoint, quantized, str(weights))
    last_of_role: dict[str, Array] = {}
    seen: dict[tuple[tuple[int, ...], bytes], str] = {}
    tensors = []
    for name in track(arrays, "analyze", progress):
        array = arrays[name]
        role = re.sub(r"\d+", "*", name)
        first = seen.setdefault((array.shape, array.tobytes()), name)
        weights_of = checkpoint.tensors[name]
        tensors.append(_tensor(name, array, last_of_role.get(role), first if first != name else None, weights_of))
        last_of_role[role] = array
    tied = [names for names in checkpoint.names.values() if len(names) > 1]
    roles = None if known is None else role_rates(checkpoint.tensors, quantized, known)
    return Analysis(str(weights), tensors, tied, checkpoint.elements - sum(array.size for array in arrays.values()), roles)


def _tensor(name: str, array: Array, before: Array | None, duplicate_of: str | None, weights: torch.Tensor) -> TensorAnalysis:
    matrix = rans_matrix(array).astype("f4")
    delta = None
    if before is not None and before.shape == array.shape:
        delta = round(order0_bytes(array.astype("i8") - before.astype("i8")))
    scale = np.abs(matrix)
    scale = scale * scale.mean() / np.maximum(np.outer(scale.mean(1), scale.mean(0)), 1e-9)
    lanes = 4 * choose_lanes(array.size)
    field = Field(array, "symbols", name)
    return TensorAnalysis(
        name,
        list(array.shape),
        array.size,
        round(order0_bytes(array)),
        len(Rans().encode([field]).data) - lanes,
        len(_centered(field).encode([field]).data) - lanes,
        len(Zlib().encode([field]).data),
        len(Lzma(lc=0, lp=0, pb=0).encode([field]).data),
        delta,
        _correlation(matrix[1:], matrix[:-1]),
        _correlation(matrix[:, 1:], matrix[:, :-1]),
        _correlation(scale[1:], scale[:-1]),
        _rank(weights),
        duplicate_of,
    )


def _centered(field: Field) -> Chain:
    chain = Chain(Rans(), (Center(),))
    return chain.fitting(field) or chain


def _correlation(left: Array, right: Array) -> float:
    """Pearson's; 0 where it is undefined."""
    if left.size < 2 or not left.std() or not right.std():
        return 0.0
    return float(np.corrcoef(left.ravel(), right.ravel())[0, 1])


def _rank(weights: torch.Tensor) -> tuple[int, int] | None:
    """How many singular values hold ENERGY of the sum of squares, and how many there are."""
    if weights.ndim != 2 or not weights.numel() or max(weights.shape) > MOST_SINGULAR:
        return None
    energy = torch.linalg.svdvals(weights.float()).double().square()
    if not energy.sum() > 0:
        return 0, len(energy)
    share = energy.cumsum(0) / energy.sum()
    return int((share < ENERGY).sum()) + 1, len(energy)
