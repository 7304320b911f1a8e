"""Tuning after quantization: it gains, never loses, leaves the model as it was, and its file holds what was tuned."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import run_python
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from generator.calibration import collect_statistics, language_model_loss, plain_logits
from generator.errors import InputError
from generator.quantizers import Quantized
from generator.recipes.forms import as_recipe, statistics_recipe
from generator.recipes.recipe import Recipe
from generator.search.tuned import tune_payload
from generator.statistics import Statistics
from generator.tuning import TuneOptions
from generator.tuning.objective import Sequences
from generator.tuning.parameters import ModelWeights
from generator.tuning.rounds import ROUNDS, rounds_of
from generator.tuning.trained import gains_of
from generator.tuning.tuner import Tuner
from generator.weights.checkpoint import Checkpoint, from_state_dict
from generator.weights.encode import code, prove
from generator.weights.quantize import QuantizedCheckpoint, quantize_checkpoint

TOKENS, WIDTH = 32, 24


class Model(nn.Module):
    """A language model with a tied embedding, a block that is passed twice, gains, a mask and a table as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(TOKENS, WIDTH)
        self.up = nn.Linear(WIDTH, 3 * WIDTH)
        self.down = nn.Linear(3 * WIDTH, WIDTH, bias=False)
        self.gain = nn.Parameter(torch.ones(WIDTH))
        self.head = nn.Linear(WIDTH, TOKENS, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("table", torch.linspace(0.5, 1.5, WIDTH))
        self.fixed = nn.Parameter(torch.full((WIDTH,), 0.75), requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * self.table * self.fixed
        for _ in range(2):
            x = x.cumsum(1) / torch.arange(1, tokens.shape[1] + 1)[:, None]
            x = x + self.gain * self.down(torch.relu(self.up(x)))
        return self.head(x)


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(3)
    return Model().eval()


@pytest.fixture(scope="module")
def batches() -> list[Tensor]:
    return list(torch.randint(TOKENS, (10, 4, 17), generator=torch.Generator().manual_seed(0)))


@pytest.fixture(scope="module")
def statistics(model: Model, batches: list[Tensor]) -> Statistics:
    return collect_statistics(model, batches, language_model_loss())


@pytest.fixture(scope="module")
def recipe(statistics: Statistics) -> Recipe:
    return as_recipe(statistics_recipe(statistics, 0.05))


@pytest.fixture(scope="module")
def checkpoint(model: Model) -> Checkpoint:
    return from_state_dict(model.state_dict())


@pytest.fixture(scope="module")
def plain(checkpoint: Checkpoint, recipe: Recipe, statistics: Statistics) -> QuantizedCheckpoint:
    return quantize_checkpoint(checkpoint, recipe, statistics)


def tuner(model: nn.Module, batches: list[Any], **options: Any) -> Tuner:
    return Tuner(model, batches, plain_logits, TuneOptions(**options))


def test_tuning_gains_and_leaves_the_model_as_it_was(model, batches, checkpoint, recipe, plain, statistics) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tuned = tuner(model, batches, updates=24).tune(checkpoint, recipe, plain, statistics)
    assert tuned.after < tuned.before
    assert tuned.updates <= 24
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    required = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert [name for name, value in required.items() if not value] == ["fixed"]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_what_is_packed_is_what_was_tuned(model, batches, checkpoint, recipe, plain, statistics) -> None:
    tuned = tuner(model, batches, updates=24).tune(checkpoint, recipe, plain, statistics)
    payload = code(tuned.quantized)
    prove(payload, tuned.quantized)
    loaded = Model().eval()
    loaded.load_state_dict(tuned.quantized.state_dict())
    again = tuner(model, batches, updates=24).tune(checkpoint, recipe, plain, statistics)
    assert code(again.quantized).data == payload.data
    assert torch.equal(loaded.head.weight, loaded.embedding.weight)
    # Buffers and what requires no gradient are as without tuning; the gain and the bias are not.
    for name in ("table", "fixed"):
        assert torch.equal(tuned.quantized.state_dict()[name], plain.state_dict()[name])
    assert not torch.equal(loaded.gain, plain.state_dict()["gain"])


def stacked(dequantizer: str) -> Quantized:
    """Two matrices of 4 rows and 5 columns."""
    symbols = np.arange(-20, 20).reshape(2, 4, 5).astype("i1")
    exponents = (np.arange(8).reshape(2, 4, 1).astype("i1"), np.arange(-3, 2).reshape(1, 1, 5).astype("i1"))
    scales = (np.linspace(0.1, 0.9, 8).reshape(2, 4, 1).astype("<f2"),)
    return Quantized(dequantizer, "float32", "bfloat16", (symbols, *(exponents if dequantizer == "grid" else scales)))


@pytest.mark.parametrize("dequantizer", ["grid", "scale"])
def test_gains_take_the_gradient_of_the_weight(dequantizer: str) -> None:
    quantized = stacked(dequantizer)
    value = quantized.tensor().float()
    kind = gains_of(quantized)
    assert kind is not None
    gains = kind(quantized, value)
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(value.shape, generator=generator)
    for factors in gains.parameters:
        factors.copy_(1 + 0.1 * torch.randn(factors.shape, generator=generator)).requires_grad_(True)
    expected = torch.autograd.grad((gains.value() * target).sum(), gains.parameters)
    gains.take(target)
    for factors, one in zip(gains.parameters, expected, strict=True):
        assert factors.grad is not None
        torch.testing.assert_close(factors.grad, one)


@pytest.mark.parametrize("dequantizer", ["grid", "scale"])
def test_gains_are_stored(dequantizer: str) -> None:
    quantized = stacked(dequantizer)
    kind = gains_of(quantized)
    assert kind is not None
    gains = kind(quantized, quantized.tensor().float())
    assert torch.equal(gains.quantized().tensor(), quantized.tensor())
    assert gains.quantized().dequantizer == dequantizer
    for factors in gains.parameters:
        factors += torch.linspace(-0.2, 0.2, factors.numel()).reshape(factors.shape)
    stored = replace(gains.quantized(), dtype="float32").tensor()
    torch.testing.assert_close(stored, gains.value(), rtol=0.04, atol=0)  # half a step of each factor
    assert float((stored - gains.value()).abs().max()) > 0
    gains.parameters[0].fill_(1e9)
    assert torch.isfinite(gains.quantized().tensor()).all()


def test_without_a_gain_it_is_the_plain_one(model, batches, checkpoint, statistics) -> None:
    recipe = as_recipe({"rule": [{"pattern": "*", "quantizer": "keep"}]})
    plain = quantize_checkpoint(checkpoint, recipe, statistics)
    tuned = tuner(model, batches, updates=8).tune(checkpoint, recipe, plain, statistics)
    assert tuned.quantized is plain
    assert tuned.after == tuned.before == 0


def test_what_is_too_large_stays_untuned(model, batches, checkpoint, recipe, plain, statistics) -> None:
    payload = code(plain)
    given = (payload, plain, checkpoint, recipe, tuner(model, batches, updates=24))
    for budget, stays in ((None, False), (100, False), (99, True)):
        found = tune_payload(*given, statistics=statistics, budget=budget, size=lambda _: 100)
        assert (found is payload) is stays


def test_a_time_limit_ends_it(model, batches, checkpoint, recipe, plain, statistics) -> None:
    tuned = tuner(model, batches, seconds=0.5).tune(checkpoint, recipe, plain, statistics)
    assert tuned.updates > 0
    assert tuned.after <= tuned.before


def test_sequences_are_cut_until_some_can_be_held_out() -> None:
    for batches in ([torch.zeros(9, 5).long()], [torch.zeros(2, 5).long()], list(torch.zeros(40, 3, 5).long())):
        found = Sequences(batches)
        assert sum(map(len, found.training + found.held_out)) == sum(map(len, batches))
        assert found.training
        assert found.held_out
        assert all(part.shape[1] == 4 for part in found.training)
    assert Sequences([(torch.ones(2, 4).long(), torch.ones(2, 4).long())]).training[0].shape[1] == 4


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([torch.zeros(1, 5).long()], "two sequences"),
        ([], "two sequences"),
        ([{"tokens": 3}], "batch 1 can't be tuned on"),
        ([torch.zeros(5).long()], "batch 1 can't be tuned on"),
    ],
)
def test_unusable_batches_are_refused(batches: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sequences(batches)


@pytest.mark.parametrize("options", [{"seconds": 0}, {"seconds": True}, {"updates": 0}, {"updates": 1.5}, {"seconds": "1"}])
def test_unusable_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="tuning must be given a"):
        TuneOptions(**options)


def test_another_model_is_refused(model: Model, checkpoint: Checkpoint) -> None:
    other = Model()
    with pytest.raises(InputError, match="has other values in the model that tunes"):
        ModelWeights(other, checkpoint)
    with pytest.raises(InputError, match="'gain' is not in the model that tunes"):
        ModelWeights(nn.Linear(2, 2), checkpoint)


def test_rounds_take_roles_together_and_the_largest_first() -> None:
    sizes = {"a": 2, "b": 3, "c": 5, "d": 7, "e": 11, "f": 13, "g": 17}
    tensors = {f"blocks.{layer}.{role}": torch.zeros(size) for layer in range(2) for role, size in sizes.items()}
    groups = rounds_of(Checkpoint(tensors, {}), list(tensors))
    assert len(groups) == ROUNDS
    assert sorted(name for group in groups for name in group) == sorted(tensors)
    assert groups[0] == ["blocks.0.g", "blocks.1.g"]


MODEL = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(48, 64)
        self.up, self.down = nn.Linear(64, 192), nn.Linear(192, 64, bias=False)
        self.gain = nn.Parameter(torch.ones(64))

    def forward(self, tokens):
        x = self.embedding(tokens)
        for _ in range(2):
            x = x.cumsum(1) / torch.arange(1, tokens.shape[1] + 1)[:, None]
            x = x + self.gain * self.down(torch.relu(self.up(x)))
        return x @ self.embedding.weight.T
"""
SCRIPT = """
import hashlib
from runtime_stub import load_state_dict

for name, value in sorted(load_state_dict().items()):
    print(name, hashlib.sha256(value.numpy().tobytes()).hexdigest())
"""
CALIBRATION = """
import torch
from safetensors.torch import load_file
from tuned_model import Model

from generator.calibration import language_model_loss


def calibration():
    model = Model().eval()
    model.load_state_dict(load_file({weights!r}))
    return model, list(torch.randint(48, (12, 4, 17), generator=torch.Generator().manual_seed(0))), language_model_loss()
"""


def test_fit_tunes_within_the_budget(golfpack, tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    exec(MODEL, space)
    torch.manual_seed(5)
    weights = tmp_path / "w.safetensors"
    save_file(space["Model"]().state_dict(), weights)
    (tmp_path / "tuned_model.py").write_text(MODEL)
    (tmp_path / "calibration.py").write_text(CALIBRATION.format(weights=str(weights)))
    (tmp_path / "script.py").write_text(SCRIPT)
    function = f"{tmp_path / 'calibration.py'}:calibration"
    statistics, output = tmp_path / "s.safetensors", tmp_path / "out.py"
    assert golfpack("calibrate", function, "-o", statistics).status == 0
    common = ("fit", tmp_path / "script.py", "-w", weights, "-s", statistics, "--budget", 12000, "-o", output)
    assert golfpack(*common).status == 0
    shutil.copy(output, tmp_path / "plain.py")
    tuned = golfpack(*common, "--tune", function, "--tune-updates", 32, "-v")
    assert tuned.status == 0, tuned.err
    after, before = map(float, re.search(r"([0-9.]+) nats per token on what is held out, from ([0-9.]+)", tuned.err).groups())
    assert after < before
    assert "without tuning" not in tuned.err
    assert 0.97 * 12000 <= output.stat().st_size <= 12000
    digests = [run_python(sys.executable, path, cwd=tmp_path).split() for path in (tmp_path / "plain.py", output)]
    assert digests[0] != digests[1]
    unpacked = tmp_path / "unpacked"
    assert golfpack("unpack", output, "-o", unpacked).status == 0
    loaded = load_file(next(unpacked.glob("*.safetensors")))
    hashes = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in loaded.items()}
    assert digests[1] == [word for name in sorted(hashes) for word in (name, hashes[name])]
