"""Dequantizers: golden bits, what the payload's reader refuses, and the same bits on other Pythons and numpys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run_python
from interpreters import ENVIRONMENTS, numpy_python
from test_artifact_runs import TORCH_DOUBLE, expected_output
from test_calibrated_quantizers import statistics_of, weights, whole
from test_payload import sealed

import generator
from generator import dequantizers
from generator.errors import InputError
from generator.fields import ROLES
from generator.payload import decode_payload
from runtime_stub.dequantize import grid, groups, scale


def test_grid_has_these_bits() -> None:
    symbols = np.array([[1, -3, 0], [1000, 7, -128]], "<i2")
    rows, columns = np.array([[-31], [5]], "|i1"), np.array([[0, -1, 127]], "|i1")
    assert grid(symbols, rows, columns).tobytes().hex() == "f037983b000040bc00000000a0a6144500006041000080d3"
    exact = symbols * 2.0 ** ((rows.astype(int) + columns) / 4)
    np.testing.assert_allclose(grid(symbols, rows, columns), exact, rtol=3e-7)


def test_grid_is_exact_on_whole_octaves() -> None:
    exponents = np.arange(-120, 124, 4, dtype="|i1")[None]
    ones = np.ones(exponents.shape, "|i1")
    np.testing.assert_array_equal(grid(ones, np.zeros((1, 1), "|i1"), exponents), 2.0 ** (exponents.astype(float) / 4))


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_groups_spread_scales_evenly(parts: int) -> None:
    symbols = np.arange(2 * 3 * 7, dtype="|i1").reshape(2, 3, 7)
    scales = (np.arange(6 * parts).reshape(6, parts) + 1).astype("<f2")
    width = -(-7 // parts)
    expected = np.empty((6, 7), "f4")
    for row in range(6):
        for column in range(7):
            expected[row, column] = symbols.reshape(6, 7)[row, column] * np.float32(scales[row, column // width])
    np.testing.assert_array_equal(groups(symbols, scales), expected.reshape(2, 3, 7))
    if parts == 1:
        np.testing.assert_array_equal(groups(symbols, scales), scale(symbols, scales.reshape(2, 3, 1)))


def manifest(dequantizer: str, *specs: tuple[str, list[int]]) -> Any:
    return [
        [[0, [list(spec) for spec in specs], ["store", [[0, 0]] * len(specs)]]],
        [[["w"], dequantizer, "float32", "float32", *[0] * len(specs)]],
    ]


HOSTILE: dict[str, Any] = {
    "grid without columns": manifest("grid", ("|i1", [2, 3]), ("|i1", [2, 1])),
    "grid that broadcasts up": manifest("grid", ("|i1", [1, 9**6]), ("|i1", [9**6, 1]), ("|i1", [1, 1])),
    "grid of other dimensions": manifest("grid", ("|i1", [2, 3]), ("|i1", [2]), ("|i1", [1, 3])),
    "grid of wide exponents": manifest("grid", ("|i1", [2, 3]), ("<i4", [2, 1]), ("|i1", [1, 3])),
    "grid of float exponents": manifest("grid", ("|i1", [2, 3]), ("<f4", [2, 1]), ("|i1", [1, 3])),
    "grid of float symbols": manifest("grid", ("<f4", [2, 3]), ("|i1", [2, 1]), ("|i1", [1, 3])),
    "groups that don't divide": manifest("groups", ("|i1", [2, 3]), ("<f2", [4, 1])),
    "more groups than weights": manifest("groups", ("|i1", [2, 3]), ("<f2", [2, 10**6])),
    "groups without rows": manifest("groups", ("|i1", [2, 3]), ("<f2", [0, 1])),
    "groups of one dimension": manifest("groups", ("|i1", [6]), ("<f2", [6])),
    "groups with a third array": manifest("groups", ("|i1", [2, 3]), ("<f2", [2, 1]), ("<f2", [2, 1])),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_arrays_that_do_not_fit_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="don't fit its dequantizer"):
        decode_payload(sealed(HOSTILE[name]))


def test_extreme_exponents_stay_finite_or_become_infinite_without_harm() -> None:
    payload = sealed(manifest("grid", ("|i1", [1, 1]), ("<i2", [1, 1]), ("<i2", [1, 1])))
    assert decode_payload(payload)["w"].tolist() == [[0.0]]
    with np.errstate(over="ignore", invalid="ignore"):
        big = np.full((1, 1), 32767, "<i2")
        assert np.isinf(grid(np.ones((1, 1), "|i1"), big, big)).all()
    assert not grid(np.ones((1, 1), "|i1"), -big, -big).any()


@pytest.mark.parametrize(("version", "numpy"), ENVIRONMENTS, ids=lambda value: value)
def test_packed_grids_and_groups_run_on_other_pythons(tmp_path: Path, script: Path, version: str, numpy: str) -> None:
    state = {"w": weights(24, 40), "grouped": weights(10, 30)}
    state["w"][2, 3] = 5000.0
    rules = [
        {"pattern": "w", "quantizer": {"id": "waterfill", "alpha": 1e-2}},
        {"pattern": "*", "quantizer": {"id": "ternary", "group": 8}},
    ]
    artifact = tmp_path / "out.py"
    generator.build(script, state, artifact, recipe={"rule": rules}, statistics=whole(state["w"], statistics_of()))
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    output = run_python(numpy_python(version, numpy), artifact, cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)})
    assert output == expected_output(artifact)
    assert torch.isfinite(generator.unpack(artifact).state_dict["w"]).all()


def test_what_is_known_of_the_arrays() -> None:
    """Role, and what of the tensor's matrix each runs along."""
    symbols = np.zeros((6, 8), "i1")
    known: list[tuple[str, tuple[np.ndarray, ...], list[tuple[str, str, str]]]] = [
        ("keep", (np.zeros((6, 8), "<i2"),), [("raw", "all", "bfloat16")]),
        ("scale", (symbols, np.ones((6, 1), "<f2")), [("symbols", "all", ""), ("scales", "rows", "")]),
        ("scale", (symbols, np.ones((1, 8), "<f2")), [("symbols", "all", ""), ("scales", "columns", "")]),
        ("scale", (symbols, np.ones((1, 1), "<f2")), [("symbols", "all", ""), ("scales", "", "")]),
        ("groups", (symbols, np.ones((6, 2), "<f2")), [("symbols", "all", ""), ("scales", "groups", "")]),
        ("groups", (symbols.reshape(2, 3, 8), np.ones((6, 2), "<f2")), [("symbols", "all", ""), ("scales", "groups", "")]),
        (
            "grid",
            (symbols, np.ones((6, 1), "i1"), np.ones((1, 8), "i1")),
            [("symbols", "all", ""), ("exponents", "rows", ""), ("exponents", "columns", "")],
        ),
        (
            "grid_gains",
            (symbols, *(np.ones(shape, "i1") for shape in ((6, 1), (1, 8), (6, 1), (1, 8)))),
            [("symbols", "all", ""), *((role, along, "") for role in ("exponents", "scales") for along in ("rows", "columns"))],
        ),
    ]
    for name, arrays, expected in known:
        fields = dequantizers.REGISTRY[name].fields("w", "bfloat16", arrays)
        assert [(field.role, field.along, field.elements) for field in fields] == expected
        assert {field.tensor for field in fields} == {"w"}
        assert {field.role for field in fields} <= set(ROLES)
