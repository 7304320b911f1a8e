"""The statistics file: packed, lazy, atomic; files of version 1."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from generator.errors import InputError
from generator.statistics import FORMAT, OLD_FORMAT, MatrixStatistics, Statistics, load_statistics
from generator.tensor_file import TensorFile, write_tensors


def symmetric(count: int, width: int) -> Tensor:
    x = torch.randn(count, 2 * width, width, generator=torch.Generator().manual_seed(width))
    return x.mT @ x


def whole(count: int = 1, outputs: int = 3, inputs: int = 2, diagonal: bool = False) -> Statistics:
    """Statistics of one weight, in whole matrices."""
    b = symmetric(count, outputs)
    b = b.diagonal(dim1=1, dim2=2).contiguous() if diagonal else b
    tensors = {
        "w:H": symmetric(count, inputs),
        "w:g": torch.rand(count, outputs),
        "w:A": 2 * symmetric(count, inputs),
        "w:B": b,
    }
    shape = [count, outputs, inputs] if count > 1 else [outputs, inputs]
    return Statistics("sequence", 4, 1, tensors, {"w": shape}, {"w": ["w"]})


def matrices(statistics: Statistics) -> list[MatrixStatistics]:
    found = statistics.find(["w"])
    assert found is not None
    assert found.sequence is not None
    assert len(found.token) == len(found.sequence) == len(list(found.token))
    return [*found.token, *found.sequence]


def assert_same(left: Statistics, right: Statistics) -> None:
    for one, other in zip(matrices(left), matrices(right), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.outputs, other.outputs)
        assert (one.output_moment is None) == (other.output_moment is None)
        if one.output_moment is not None and other.output_moment is not None:
            assert torch.equal(one.output_moment, other.output_moment)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_matrices_survive_the_file(count: int, outputs: int, inputs: int, diagonal: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        made = whole(count, outputs, inputs, diagonal and outputs > 1)
        made.save(first)
        loaded = load_statistics(first)
        assert_same(made, loaded)
        loaded.save(second)
        assert first.read_bytes() == second.read_bytes()
        assert load_file(first)["w:H"].shape == (count, inputs * (inputs + 1) // 2)  # as the format's own library reads it


def test_a_file_of_version_1_gives_the_same(tmp_path: Path) -> None:
    made = whole(2, 4, 3)
    header = {
        "kind": "sequence",
        "tokens": 4,
        "sequences": 1,
        "shapes": made.shapes,
        "names": made.names,
        "transposed": [],
        "missing": {},
    }
    save_file({**made.tensors, "w:frequencies": torch.ones(4)}, tmp_path / "old", {OLD_FORMAT: json.dumps(header)})
    old = load_statistics(tmp_path / "old")
    assert_same(made, old)
    old.save(tmp_path / "new")
    assert_same(made, load_statistics(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_size < (tmp_path / "old").stat().st_size


def test_moments_are_read_when_they_are_asked_for_and_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(2).save(tmp_path / "s")
    read: list[str] = []
    real = TensorFile.__getitem__
    monkeypatch.setattr(TensorFile, "__getitem__", lambda self, name: (read.append(name), real(self, name))[1])
    statistics = load_statistics(tmp_path / "s")
    statistics.check_against({"w": torch.zeros(2, 3, 2)}, {"w": ["w"]})
    found = statistics.find(["w"])
    assert found is not None
    assert not read
    list(found.token)
    assert read == ["w:H", "w:g"]
    assert found.token[1].inputs.shape == (2, 2)
    assert read == 2 * ["w:H", "w:g"]


def test_a_file_that_is_replaced_meanwhile_is_read_as_it_was(tmp_path: Path) -> None:
    made = whole()
    made.save(tmp_path / "s")
    loaded = load_statistics(tmp_path / "s")
    whole(3, 5, 4).save(tmp_path / "s")
    assert_same(made, loaded)


def test_a_file_that_becomes_shorter_is_one_sentence(tmp_path: Path) -> None:
    whole().save(tmp_path / "s")
    loaded = load_statistics(tmp_path / "s")
    with (tmp_path / "s").open("r+b") as file:
        file.truncate(file.seek(0, 2) - 4)
    with pytest.raises(InputError, match="s has become shorter while it was read"):
        loaded.check()


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    made = whole()
    made.save(tmp_path / "s")
    before = (tmp_path / "s").read_bytes()

    def read(name: str) -> Tensor:
        if name == "w:g":
            raise InputError("no more")
        return made.tensors[name]

    with pytest.raises(InputError, match="no more"):
        write_tensors(tmp_path / "s", {name: tensor.shape for name, tensor in made.tensors.items()}, read, {})
    assert (tmp_path / "s").read_bytes() == before
    assert list(tmp_path.iterdir()) == [tmp_path / "s"]


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3,), (2, 3)])
def test_tensors_of_any_shape_are_written_as_the_library_reads_them(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensors = {"é": torch.rand(shape), "a": torch.rand(2)}
    write_tensors(tmp_path / "t", {name: tensor.shape for name, tensor in tensors.items()}, tensors.__getitem__, {"k": "v"})
    with safe_open(tmp_path / "t", framework="pt") as file:
        assert file.metadata() == {"k": "v"}
        for name, tensor in tensors.items():
            assert torch.equal(file.get_tensor(name), tensor)
    mine = TensorFile(tmp_path / "t")
    assert len(mine) == 2
    assert sorted(mine) == ["a", "é"]
    assert all(torch.equal(mine[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("H", math.nan, "holds NaN or Inf in 'w:H'"),
        ("B", math.inf, "holds NaN or Inf in 'w:B'"),
        ("g", -1.0, "negative second moments in 'w:g'"),
        ("A", -1.0, "negative second moments in 'w:A'"),
    ],
)
def test_numbers_that_are_no_moments_are_found_when_they_are_read(key: str, value: float, message: str, tmp_path: Path) -> None:
    made = whole()
    made.tensors[f"w:{key}"].view(-1)[-1] = value  # the last element of a matrix is on its diagonal
    made.save(tmp_path / "s")
    loaded = load_statistics(tmp_path / "s")
    with pytest.raises(InputError, match=message):
        matrices(loaded)
    with pytest.raises(InputError, match=message):
        made.check()


def test_elements_beside_the_diagonal_may_be_negative(tmp_path: Path) -> None:
    made = whole()
    made.tensors["w:H"][0, 0, 1] = made.tensors["w:H"][0, 1, 0] = -0.1
    made.save(tmp_path / "s")
    load_statistics(tmp_path / "s").check()


def test_the_header_says_what_was_left_out(tmp_path: Path) -> None:
    made = whole()
    Statistics("sequence", 4, 1, made.tensors, made.shapes, made.names, left_out=3).save(tmp_path / "s")
    assert load_statistics(tmp_path / "s").left_out == 3
    with safe_open(tmp_path / "s", framework="pt") as file:
        assert json.loads(file.metadata()[FORMAT])["left_out"] == 3
