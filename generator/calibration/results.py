"""From sums to statistics: means of each weight's matrices, as packed triangles, and why weights have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from generator.calibration.aliases import Block
from generator.calibration.sums import FULL_OUTPUT_LIMIT, PerToken, Sums, combine
from generator.errors import InputError
from generator.triangles import pack_rows, packed_size


def token_moments(sums: Sums, why_missing: Mapping[str, str]) -> dict[str, Tensor]:
    """H and g of each weight that was followed; each sum is let go once it is no longer needed.

    Args:
        sums: of the first pass, of all processes.
        why_missing: why a weight could not be followed.

    Raises:
        InputError: no weight was followed.
    """
    keys: dict[str, dict[int, list[tuple[Block, str]]]] = {}
    for key in sorted(sums.per_token, key=repr):
        keys.setdefault(key[0].name, {}).setdefault(key[0].matrix, []).append(key)
    if not keys:
        raise InputError(f"no weight could be followed: {'; '.join(f'{n}: {why}' for n, why in why_missing.items())}")
    found: dict[str, Tensor] = {}
    for name in sorted(keys):
        outputs, inputs = sums.size(name)
        h, g = torch.zeros(sums.count(name), packed_size(inputs)), torch.zeros(sums.count(name), outputs)
        for matrix, uses in keys[name].items():
            h[matrix], g[matrix] = _per_token([sums.per_token.pop(key) for key in uses], sums.tokens)
        found |= {f"{name}:H": h, f"{name}:g": g}
    return found


def input_moments(sums: Sums) -> dict[str, Tensor]:
    """A of each weight that was followed; likewise."""
    found: dict[str, Tensor] = {}
    for name in sorted({name for name, _ in sums.sequence_inputs}):
        moments = torch.zeros(sums.count(name), packed_size(sums.size(name)[1]))
        for matrix in range(len(moments)):
            moment = sums.sequence_inputs.pop((name, matrix), None)
            if moment is not None:
                moments[matrix] = moment.packed() / sums.tokens
        found[f"{name}:A"] = moments
    return found


def output_moments(sums: Sums) -> dict[str, Tensor]:
    """B, or its diagonal, of each weight that was followed; the sums, of both passes and all processes, are let go."""
    found: dict[str, Tensor] = {}
    for name in sorted(sums.transposed):
        outputs, inputs = sums.size(name)
        full = outputs <= FULL_OUTPUT_LIMIT
        moments = torch.zeros(sums.count(name), packed_size(outputs) if full else outputs)
        for matrix in range(len(moments)):
            moment = sums.sequence_outputs.pop((name, matrix), None)
            if moment is not None:
                moments[matrix] = moment.packed() / (inputs * sums.tokens)
        found[f"{name}:B"] = moments
    return found


def why_missing(sums: Sums, reasons: Sequence[Mapping[str, tuple[int, str]]], begun: Sequence[set[str]]) -> dict[str, str]:
    """Why each weight has no statistics that has none.

    Args:
        sums: of all processes.
        reasons: of each process: weight → why a use of it was not followed, after the batch's number.
        begun: of each process: weights of which there was a use that could be followed.
    """
    followed = {block.name for block, _ in sums.per_token}
    missing: dict[str, str] = {}
    for name in sums.parameters.tensors:
        if name in followed:
            continue
        known = [own[name] for own in reasons if name in own]
        missing[name] = "no matrix product with these batches uses it"
        if name in sums.parameters.skipped:
            missing[name] = sums.parameters.skipped[name]
        elif known:
            missing[name] = min(known)[1]
        elif any(name in own for own in begun):
            missing[name] = "no gradient reached it"
    return missing


def _per_token(uses: Sequence[PerToken], tokens: int) -> tuple[Tensor, Tensor]:
    """H, packed, and g of all uses of a matrix."""
    if len(uses) == 1:
        return uses[0].inputs.packed() / tokens, uses[0].outputs.packed() / uses[0].rows
    h, g = combine([(use.inputs.matrix() / tokens, use.outputs.packed() / use.rows) for use in uses])
    return pack_rows(h), g
