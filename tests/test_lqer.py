"""Low-rank corrections: the same bits in any arithmetic, less error, the worst tensors only, packed and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from test_artifact_runs import expected_output
from test_calibrated_quantizers import moment, statistics_of, weights, whole

import generator
from generator.dequantizers import CORRECTED
from generator.dequantizers import REGISTRY as DEQUANTIZERS
from generator.errors import InputError
from generator.payload import same_bits
from generator.quantizers import REGISTRY
from generator.quantizers.lqer import uncorrected
from generator.statistics import MatrixStatistics, TensorStatistics
from runtime_stub.low_rank import add_product


@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.data())
@settings(max_examples=60, deadline=None)
def test_the_product_is_summed_element_by_element(rank: int, rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    source = np.random.default_rng(seed)
    groups = data.draw(st.integers(1, columns))
    start = source.normal(size=(rows, columns)).astype("f4")
    left, right = (source.integers(-8, 8, shape).astype("i1") for shape in ((rows, rank), (rank, columns)))
    scales = source.random((1, 1)).astype("f2"), source.random((rank, groups)).astype("f2")
    expected, width = start.copy(), -(-columns // groups)
    for i in range(rows):
        for j in range(columns):
            for k in range(rank):
                one = np.float32(left[i, k]) * np.float32(scales[0][0, 0])
                other = np.float32(right[k, j]) * np.float32(scales[1][k, j // width])
                expected[i, j] = expected[i, j] + one * other
    assert add_product(start, left, scales[0], right, scales[1]).tobytes() == expected.tobytes()


INNER = {
    "scale": "int4",
    "groups": {"id": "rtn", "bits": 3, "per": "group", "group": 8},
    "grid": {"id": "waterfill", "alpha": 1e-2},
}


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("form", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(24, 40), (2, 24, 40), (1, 40), (24, 1), (1, 1)], ids=str)
def test_payload_gives_what_the_quantizer_reported(name: str, form: str, transposed: bool, shape: tuple[int, ...]) -> None:
    tensor = weights(*shape)
    out, in_ = shape[-2:][::-1] if transposed else shape[-2:]
    statistics = statistics_of(out, in_, shape[0] if len(shape) == 3 else 1, transposed)
    spec = {"id": "lqer", "then": INNER[name], "form": form, "group": 7}
    result = REGISTRY["lqer"](**{key: value for key, value in spec.items() if key != "id"}).quantize("w", tensor, statistics)
    specs = [(array.dtype.str, array.shape) for array in result.arrays]
    assert DEQUANTIZERS[result.dequantizer].takes("float32", specs)
    payload = generator.encode_state_dict(
        {"w": tensor}, {"rule": [{"pattern": "*", "quantizer": spec}]}, whole(tensor, statistics)
    )
    assert same_bits(generator.decode_payload(payload)["w"], result.tensor())


@pytest.mark.parametrize("transposed", [False, True])
def test_it_makes_up_for_the_error_that_matters(transposed: bool) -> None:
    h, tensor = moment(64, 1), weights(48, 64)
    statistics = TensorStatistics([MatrixStatistics(h, torch.ones(48))], None, transposed)
    stored = tensor.T.contiguous() if transposed else tensor

    def lost(**options: object) -> float:
        quantizer = REGISTRY["lqer"](then="int3", form="symmetric", **options)
        result = quantizer.quantize("w", stored, statistics)
        found = uncorrected(result) if options.get("rank") is None else result
        error = (found.tensor().T if transposed else found.tensor()) - tensor
        return float(((error @ h) * error).sum())

    assert lost(rank=8) < 0.5 * lost()
    assert lost(rank=8) < lost(rank=8, weighted=False)


def test_only_the_worst_are_corrected() -> None:
    state = {name: weights(32, 48, seed=n) * 10**n for n, name in enumerate("abcd")}
    recipe = {"rule": [{"pattern": "*", "quantizer": {"id": "lqer", "then": "int4", "worst": 2}}]}
    plain = generator.decode_payload(generator.encode_state_dict(state, {"rule": [{"pattern": "*", "quantizer": "int4"}]}))
    loaded = generator.decode_payload(generator.encode_state_dict(state, recipe))
    assert [name for name in state if not same_bits(plain[name], loaded[name])] == ["c", "d"]
    assert all((loaded[name] - state[name]).norm() < (plain[name] - state[name]).norm() for name in "cd")


def test_what_can_not_be_corrected() -> None:
    tensor = weights(8, 8)
    with pytest.raises(InputError, match="'w': lqer corrects quantizers with integer symbols, which fp16 is not"):
        REGISTRY["lqer"](then="fp16").quantize("w", tensor)
    with pytest.raises(InputError, match="'w' is pruned before lqer"):
        REGISTRY["prune"](fraction=0.5, then="lqer").quantize("w", tensor)
    with pytest.raises(InputError, match="key 'then': unknown quantizer"):
        REGISTRY["lqer"](then="lqer")
    kind = DEQUANTIZERS[CORRECTED["scale"]]
    good = [("|i1", (8, 6)), ("<f2", (8, 1)), ("|i1", (8, 2)), ("<f2", (1, 1)), ("|i1", (2, 6)), ("<f2", (2, 3))]
    assert kind.takes("float32", good)
    for place, wrong in enumerate(
        [("|i1", (8, 7)), ("<f2", (8, 2)), ("|i1", (8, 65)), ("<f2", (9, 1)), ("<f4", (2, 6)), ("<f2", (2, 7))]
    ):
        assert not kind.takes("float32", [*good[:place], wrong, *good[place + 1 :]])


def test_a_packed_correction_loads_the_same_bits(tmp_path: Path, script: Path, bare_python: Path) -> None:
    state = {"w": weights(24, 40), "stack": weights(2, 16, 24), "gain": torch.ones(5)}
    rules = [{"pattern": ["w", "stack"], "quantizer": {"id": "lqer", "then": "int4"}}, {"pattern": "*", "quantizer": "fp16"}]
    artifact = tmp_path / "out.py"
    generator.build(script, state, artifact, recipe={"rule": rules})
    assert run_python(bare_python, artifact, cwd=Path("/")) == expected_output(artifact)
    plain = tmp_path / "plain.py"
    generator.build(script, state, plain, recipe={"rule": [{"pattern": "*", "quantizer": "int4"}]})
    assert "low_rank" not in (generator.unpack(plain, tmp_path / "u") and (tmp_path / "u" / "loader.py").read_text())
