"""Statistics files and calibration functions of any kind: what can't be used is one sentence."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

import generator
from generator.calibration import calibrate, language_model_loss
from generator.errors import InputError
from generator.linear_algebra import damped_inverse_factor
from generator.qat import fake_quantize, laplace_bits
from generator.quantizers import REGISTRY
from generator.statistics import FORMAT, Statistics, load_statistics

HEADER: dict[str, Any] = {
    "kind": "token",
    "tokens": 4,
    "sequences": 1,
    "shapes": {"w": [3, 2]},
    "names": {"w": ["w"]},
    "transposed": [],
    "missing": {},
}
TENSORS = {"w:H": torch.eye(2)[None], "w:g": torch.ones(1, 3)}


def write(path: Path, header: Any = HEADER, **tensors: torch.Tensor) -> None:
    text = header if isinstance(header, str) else json.dumps(header)
    path.write_bytes(save({**TENSORS, **{name.replace("_", ":"): tensor for name, tensor in tensors.items()}}, {FORMAT: text}))


def test_the_file_that_the_others_are_made_of(tmp_path: Path) -> None:
    write(tmp_path / "s.safetensors")
    assert load_statistics(tmp_path / "s.safetensors").shapes == {"w": [3, 2]}


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda path: None, "does not exist"),
    "folder": (Path.mkdir, "is a folder, not a file"),
    "pipe": (os.mkfifo, "is a pipe, not a file"),
    "text": (lambda path: path.write_text("hello"), "cannot be read: "),
    "weights": (lambda path: path.write_bytes(save({"w": torch.ones(1)})), "is not a statistics file"),
    "no JSON": (lambda path: write(path, "{"), "cannot be read: Invalid JSON"),
    "list": (lambda path: write(path, "[]"), "cannot be read: "),
    "deep": (lambda path: write(path, "[" * 100_000), "cannot be read: "),
    "no kind": (lambda path: write(path, {k: v for k, v in HEADER.items() if k != "kind"}), "key 'kind' is missing"),
    "other kind": (lambda path: write(path, {**HEADER, "kind": "both"}), "key 'kind': input should be 'token' or 'sequence'"),
    "tokens": (lambda path: write(path, {**HEADER, "tokens": "many"}), "key 'tokens'"),
    "shape of a number": (lambda path: write(path, {**HEADER, "shapes": {"w": 5}}), "key 'shapes'"),
    "short shape": (lambda path: write(path, {**HEADER, "shapes": {"w": [5]}}), "key 'shapes'"),
    "negative shape": (lambda path: write(path, {**HEADER, "shapes": {"w": [-3, 2]}}), "key 'shapes'"),
    "other names": (
        lambda path: write(path, {**HEADER, "names": {"v": ["v"]}}),
        "names, shapes and transposed .* not the same",
    ),
    "names of a number": (lambda path: write(path, {**HEADER, "names": {"w": 5}}), "key 'names'"),
    "transposed lists": (lambda path: write(path, {**HEADER, "transposed": [["w"]]}), "key 'transposed'"),
    "integers": (lambda path: write(path, w_H=torch.ones(1, 2, 2, dtype=torch.int64)), "'w:H' in another dtype"),
    "other shape": (lambda path: write(path, w_g=torch.ones(1, 4)), "lacks w:g, or has it in another shape"),
    "A without B": (lambda path: write(path, w_A=torch.eye(2)[None]), "lacks w:B"),
}


@pytest.mark.parametrize("name", FILES)
def test_statistics_files(tmp_path: Path, name: str) -> None:
    make, message = FILES[name]
    make(tmp_path / "s.safetensors")
    with pytest.raises(InputError, match=message) as error:
        load_statistics(tmp_path / "s.safetensors")
    assert "s.safetensors" in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"w_H": torch.full((1, 2, 2), math.nan)}, "statistics .*s.safetensors holds NaN or Inf in 'w:H'; .* \\(the recipe\\)"),
        ({"w_g": -torch.ones(1, 3)}, "statistics .*s.safetensors holds negative second moments in 'w:g'; .* \\(the recipe\\)"),
    ],
)
def test_numbers_that_are_no_moments_are_found_when_a_weight_is_quantized(
    tensor: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "s.safetensors", **tensor)
    recipe = {"rule": [{"pattern": "*", "quantizer": "gptq"}]}
    with pytest.raises(InputError, match=message):
        generator.encode_state_dict({"w": torch.ones(3, 2)}, recipe, load_statistics(tmp_path / "s.safetensors"))


def test_missing_statistics_are_found_before_anything_is_quantized() -> None:
    recipe = {"rule": [{"pattern": "a", "quantizer": "int6"}, {"pattern": "b", "quantizer": "gptq"}]}
    with pytest.raises(InputError, match="tensor 'b' has no statistics, which gptq needs: give --statistics"):
        generator.encode_state_dict({"a": torch.tensor([math.nan]), "b": torch.ones(2, 2)}, recipe)


def model(value: float = 0.5) -> nn.Module:
    layer = nn.Linear(2, 3).eval()
    nn.init.constant_(layer.weight, value)
    return layer


def language_model(value: float) -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(4, 4)
            nn.init.constant_(self.table.weight, value)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.table(tokens)

    return Model().eval()


def broken_batches() -> Any:
    yield torch.ones(1, 2)
    raise OSError("no more data")


def squares(layer: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return layer(batch).square().sum()


BATCHES = [torch.ones(1, 2)]
CALIBRATIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN weights": (
        lambda: calibrate((model(math.nan), BATCHES, squares)),
        "weight 'weight' of .* holds NaN or Inf; repair it",
    ),
    "Inf weights": (lambda: calibrate((model(math.inf), BATCHES, squares)), "weight 'weight' of .* holds NaN or Inf"),
    "NaN weights, sampled": (
        lambda: calibrate((language_model(math.nan), [], language_model_loss()), self_generate=2, length=3),
        "weight 'table.weight' of .* holds NaN or Inf",
    ),
    "overflow": (lambda: calibrate((model(1e15), [torch.ones(1, 2) * 1e15], squares)), "loss is inf on batch 1|hold"),
    "moments overflow": (
        lambda: calibrate((model(), [torch.ones(1, 2) * 1e25], lambda m, b: m(b).sum() * 1e-20)),
        "holds NaN or Inf in 'weight:H'|second moment of the statistics holds NaN",
    ),
    "error in the loss": (
        lambda: calibrate((model(), BATCHES, lambda m, b: m(b) @ "x")),
        r"the calibration's loss fails on batch 1: .*\(test_odd_statistics.py, line",
    ),
    "shapes": (lambda: calibrate((model(), [torch.ones(1, 7)], squares)), "loss fails on batch 1: RuntimeError: mat1 and mat2"),
    "broken batches": (lambda: calibrate((model(), broken_batches(), squares)), "batches can't be made: OSError: no more data"),
    "no batches at all": (lambda: calibrate((model(), 5, squares)), "batches can't be made: TypeError"),
    "lazy": (lambda: calibrate((nn.LazyLinear(3).eval(), BATCHES, squares)), "weight 'weight' of .* is not initialized"),
    "no logits": (
        lambda: calibrate((model(), BATCHES, squares), self_generate=2, length=3),
        "sampling from the calibration's model fails: |doesn't return logits",
    ),
}


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_calibrations(name: str) -> None:
    action, message = CALIBRATIONS[name]
    with pytest.raises(InputError, match=message) as error:
        action()
    assert "\n" not in str(error.value)


def test_functions_that_fail_by_the_command(golfpack, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text("def arguments(x):\n    pass\n\n\ndef fails():\n    return {}['x']\n")
    for function, message in (
        ("arguments", r"failing.py:arguments fails: TypeError: arguments\(\) missing 1 required positional argument: 'x'"),
        ("fails", r"failing.py:fails fails: KeyError: 'x' \(failing.py, line 6\)"),
    ):
        result = golfpack("calibrate", f"{tmp_path / 'failing.py'}:{function}", "-o", tmp_path / "out.safetensors")
        assert result.status == 2
        assert result.err.count("\n") == 1
        assert re.search(message, result.err)
        assert not (tmp_path / "out.safetensors").exists()


def test_the_environment_of_torchrun(golfpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "many")
    result = golfpack("calibrate", "generator:calibrate", "-o", tmp_path / "out.safetensors")
    assert result.status == 2
    assert result.err == "golfpack: the environment's WORLD_SIZE must be a number of processes, not 'many'\n"


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_moments_that_can_not_be_inverted_do_not_loop_forever(value: float) -> None:
    moment = torch.eye(3)
    moment[0, 0] = value
    with pytest.raises(InputError, match="holds NaN, Inf or numbers too large"):
        damped_inverse_factor(moment)


def test_moments_that_are_none_are_damped_until_they_can_be_inverted() -> None:
    moment = torch.tensor([[1.0, 1e30], [1e30, 1.0]])
    assert damped_inverse_factor(moment).isfinite().all()


def test_training_helpers_refuse_what_they_can_not_do() -> None:
    with pytest.raises(InputError, match="a weight of torch.int64 can't be quantized"):
        fake_quantize(torch.ones(2, 2, dtype=torch.int64), REGISTRY["int6"]())
    with pytest.raises(InputError, match="a weight of 1 dimensions is no matrix; ternary needs one"):
        fake_quantize(torch.ones(2), REGISTRY["ternary"]())
    for step in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="the step of a quantizer must be a number above 0"):
            laplace_bits(torch.ones(2, 2), step)


@pytest.mark.parametrize("quantizer", ["int6", "ternary", "binary"])
def test_training_sees_what_is_exported_of_tiny_weights(quantizer: str) -> None:
    weights = torch.randn(6, 8, generator=torch.Generator().manual_seed(0)) * 1e-9
    made = REGISTRY[quantizer]()
    assert torch.equal(fake_quantize(weights, made), made.quantize("w", weights).tensor())


def test_statistics_that_are_made_in_memory_are_checked_on_request() -> None:
    with pytest.raises(InputError, match="the statistics lacks w:H"):
        Statistics("token", 1, 1, {}, {"w": [3, 2]}, {"w": ["w"]}).check()
