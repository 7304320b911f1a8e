"""Tables and curves of `training.py`."""

from __future__ import annotations

import math
import statistics as numbers
from pathlib import Path
from typing import Any

import numpy as np

PLAIN = "plain"
WATERFILL = "waterfill"
RATES = (2.0, 2.5, 3.0)  # bits per weight at which trainings are compared


def plain_label(share: float, order: int) -> str:
    """Of plain training whose last `share` has batches of this order."""
    return PLAIN if order == 0 else f"plain, last {100 * share:.0f} %"


def run_name(label: str, order: int) -> str:
    """Of one run of a branch."""
    return f"{label} ({order})" if order else label


def plain_of(run: dict[str, Any]) -> str:
    """The run of plain training that had the same batches."""
    return run_name(plain_label(run["share"], run["order"]), run["order"])


def curves(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each run's points by `waterfill`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for point in document["points"]:
        if point["recipe"].startswith(WATERFILL):
            found.setdefault(point["run"], []).append(point)
    return found


def markdown(document: dict[str, Any]) -> str:
    """The tables."""
    settings = document["settings"]
    lines = [
        f"# Training for the budget: {settings['layers']} layers, width {settings['width']}, {settings['steps']} steps",
        "",
        f"`{document['command']}`",
        "",
        f"{document['hardware']}; batches of {settings['batch_size']}, weight decay {settings['weight_decay']}, learning rate"
        f" × {settings['learning_rate']}, seed {settings['seed']}. Bits per byte before quantization are those of"
        f" {settings['float_tokens']:,} tokens of validation text, what quantization adds of {settings['val_tokens']:,}."
        " Sizes are those of whole artifacts, in carrier latin1.",
    ]
    known = curves(document)
    if PLAIN in known:
        lines += [*compared(document, known), *own_grids(document, known)]
    lines += [
        "",
        "| run | packed | bytes | bits per weight | bpb | KL from float |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {p['run']} | {p['recipe']} | {p['bytes']:,} | {p['bits_per_weight']:.3f} | {p['bpb']:.5f} | {p['divergence']:.5f} |"
        for p in document["points"]
    ]
    return "\n".join(lines) + "\n"


def compared(document: dict[str, Any], known: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Each branch's curve against that of plain training with the same batches, as lines of Markdown."""
    lines = [
        "",
        "Packed by `waterfill` at so many bits per weight: bits per byte, more than those of plain training at the same"
        " bytes; and bytes, over those of plain training at the same bits per byte. Means over runs, with the standard"
        " error where there are several; each is held against the plain run that had the same batches.",
        "",
        f"| training | runs | steps | s per step | float bpb |{''.join(f' bpb, {r:g} bits |' for r in RATES)}"
        f"{''.join(f' bytes, {r:g} bits |' for r in RATES)}",
        f"| --- |{' ---: |' * (4 + 2 * len(RATES))}",
    ]
    for label in dict.fromkeys(run["branch"] for run in document["runs"].values()):
        runs = {name: run for name, run in document["runs"].items() if run["branch"] == label and name in known}
        if not runs:
            continue
        first = next(iter(runs.values()))
        cells = [f"{len(runs)}", f"{first['steps']}", f"{first['ratio']:.3f}"]
        if label.startswith(PLAIN):
            cells.append(_mean([run["bpb"] for run in runs.values()], ".4f"))
            for what, form in (("bpb", ".4f"), ("bytes", ",.0f")):
                at = [[interpolated(known[name], "bits_per_weight", what, rate) for name in runs] for rate in RATES]
                cells += [_mean(values, form) for values in at]
        else:
            pairs = [(name, plain_of(run)) for name, run in runs.items() if plain_of(run) in known]
            cells.append(_mean([document["runs"][one]["bpb"] - document["runs"][two]["bpb"] for one, two in pairs], "+.4f"))
            found = [[against(known[one], known[two], rate) for one, two in pairs] for rate in RATES]
            cells += [_mean([one[0] for one in at], "+.4f") for at in found]
            cells += [_mean([one[1] for one in at], ".3f") for at in found]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def against(curve: list[dict[str, Any]], plain: list[dict[str, Any]], rate: float) -> tuple[float | None, float | None]:
    """bpb of a curve at a rate over that of another at the same bytes; its bytes over the other's at the same bpb."""
    size, bpb = (interpolated(curve, "bits_per_weight", what, rate) for what in ("bytes", "bpb"))
    if size is None or bpb is None:
        return None, None
    other_bpb, other_size = interpolated(plain, "bytes", "bpb", size), interpolated(plain, "bpb", "bytes", bpb)
    return other_bpb and bpb - other_bpb, other_size and size / other_size


def interpolated(curve: list[dict[str, Any]], x: str, y: str, at: float) -> float | None:
    """`y` against `x` along straight lines between points, so that both directions agree; None outside them."""
    known = sorted((point[x], point[y]) for point in curve)
    found = float(np.interp(at, *zip(*known, strict=True), np.nan, np.nan)) if known else math.nan
    return None if math.isnan(found) else found


def own_grids(document: dict[str, Any], known: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What was packed by another quantizer than `waterfill`, as lines of Markdown."""
    points = [point for point in document["points"] if not point["recipe"].startswith(WATERFILL)]
    if not points:
        return []
    lines = [
        "",
        "Grids that training knew, and the same without training for them. Last, their bytes over those of plain training and"
        " `waterfill` at that bpb.",
        "",
        "| run | packed | bytes | bits per weight | bpb | over plain |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for point in points:
        run = document["runs"][point["run"]]
        plain = known.get(plain_of(run), [])
        size = interpolated(plain, "bpb", "bytes", point["bpb"])
        lines.append(
            f"| {point['run']} | {point['recipe']} | {point['bytes']:,} | {point['bits_per_weight']:.3f} | {point['bpb']:.4f} |"
            f" {round(point['bytes'] / size, 3) if size else '–'} |"
        )
    return lines


def _mean(values: list[float | None], form: str) -> str:
    """Mean and standard error, or a dash where a value is missing."""
    there = [value for value in values if value is not None]
    if not there or len(there) < len(values):
        return "–"
    text = format(numbers.mean(there), form)
    if len(there) > 1:
        text += f" ± {format(numbers.stdev(there) / len(there) ** 0.5, form.lstrip('+'))}"
    return text


def plot(document: dict[str, Any], path: Path) -> None:
    """Bits per byte against bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 6), layout="constrained")
    known = curves(document)
    labels = list(dict.fromkeys(run["branch"] for run in document["runs"].values()))
    for name, curve in known.items():
        run = document["runs"][name]
        number = labels.index(run["branch"])
        plain = run["branch"] == PLAIN
        axes.plot(
            *zip(*sorted((point["bytes"], point["bpb"]) for point in curve), strict=True),
            marker=".",
            color="black" if plain else f"C{number % 10}",
            linewidth=2.5 if plain else 1.2,
            linestyle=("-", "--", ":")[number // 10 % 3],
            label=run["branch"] if not run["order"] or run["branch"].startswith(PLAIN) else None,
        )
        for point in document["points"]:
            if point["run"] == name and not plain and not point["recipe"].startswith(WATERFILL):
                axes.plot(point["bytes"], point["bpb"], marker="*", markersize=9, color=f"C{number % 10}")
    if known:
        axes.set_ylim(top=min(point["bpb"] for curve in known.values() for point in curve) + 0.25)
        axes.legend(fontsize=7)
    axes.set(
        xscale="log", xlabel="artifact, bytes", ylabel="bits per byte", title="Curves: waterfill; stars: the grid of training"
    )
    axes.grid(which="both", alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
