"""Samples of a tensor's rows, by which a search tells what the whole will take."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from generator.statistics import MatrixStatistics, TensorStatistics

LEAST_ROWS = 16  # of each matrix


def sampled_rows(outputs: int, share: float) -> Tensor:
    """Numbers of about that share of rows, evenly spaced.

    >>> sampled_rows(100, 0.2)[:4].tolist()
    [2, 7, 12, 17]
    """
    count = min(outputs, max(LEAST_ROWS, round(share * outputs)))
    return (torch.arange(count) * outputs + outputs // 2) // max(count, 1)


def cut_rows(tensor: Tensor, statistics: TensorStatistics | None, share: float) -> tuple[Tensor, TensorStatistics | None]:
    """The sampled rows of each matrix of a tensor, and the statistics of these; all of it where it is no matrix."""
    if tensor.ndim < 2:
        return tensor, statistics
    transposed = statistics is not None and statistics.transposed
    side = -1 if transposed else -2
    rows = sampled_rows(tensor.shape[side], share)
    cut = tensor.index_select(side, rows).contiguous()
    if statistics is None:
        return cut, None

    def of(matrices: list[MatrixStatistics]) -> list[MatrixStatistics]:
        moments = [None if one.output_moment is None else one.output_moment[rows][:, rows] for one in matrices]
        return [MatrixStatistics(one.inputs, one.outputs[rows], m) for one, m in zip(matrices, moments, strict=True)]

    sequence = None if statistics.sequence is None else of(list(statistics.sequence))
    apart = statistics.memory.apart(("sample", share))
    return cut, replace(statistics, token=of(list(statistics.token)), sequence=sequence, memory=apart)
