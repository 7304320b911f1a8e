"""Training helpers: the fake quantization is the export, bit for bit; the rate proxy; the moving average."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import generator
from generator.errors import InputError
from generator.payload import same_bits
from generator.qat import Ema, fake_quantize, laplace_bits
from generator.quantizers import REGISTRY, Quantizer
from generator.statistics import MatrixStatistics, TensorStatistics

QUANTIZERS: dict[str, dict] = {
    "int6": {"id": "rtn", "bits": 6},
    "int4 sdclip": {"id": "rtn", "bits": 4, "scale": "sdclip", "k": 4.0},
    "int3 mse groups": {"id": "rtn", "bits": 3, "scale": "mse", "per": "group", "group": 5},
    "ternary": {"id": "ternary", "group": 8},
    "ternary tensor": {"id": "ternary", "per": "tensor"},
    "binary": {"id": "binary", "per": "row"},
}


def quantizer_of(spec: dict) -> Quantizer:
    return REGISTRY[spec["id"]](**{key: value for key, value in spec.items() if key != "id"})


class Tiny(nn.Module):
    """Two layers, fake quantized."""

    def __init__(self, quantizer: Quantizer | None):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Parameter(torch.randn(16, 12) / 4)
        self.second = nn.Parameter(torch.randn(5, 16) / 4)
        self.quantizer = quantizer

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.first, self.second
        if self.quantizer is not None:
            first, second = fake_quantize(first, self.quantizer), fake_quantize(second, self.quantizer)
        return functional.relu(x @ first.T) @ second.T


@pytest.mark.parametrize("name", QUANTIZERS)
def test_export_of_a_trained_model_has_the_same_logits(name: str) -> None:
    model = Tiny(quantizer_of(QUANTIZERS[name]))
    torch.manual_seed(1)
    x, labels = torch.randn(64, 12), torch.randint(5, (64,))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(25):
        loss = functional.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    payload = generator.encode_state_dict(model.state_dict(), {"rule": [{"pattern": "*", "quantizer": QUANTIZERS[name]}]})
    exported = Tiny(None)
    exported.load_state_dict(generator.decode_payload(payload))
    assert torch.equal(exported(x), model(x))


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_fake_quantization_is_the_export(name: str, dtype: torch.dtype) -> None:
    weight = torch.randn(9, 21, generator=torch.Generator().manual_seed(2)).to(dtype).requires_grad_()
    quantizer = quantizer_of(QUANTIZERS[name])
    fake = fake_quantize(weight, quantizer)
    assert same_bits(fake.detach(), quantizer.quantize("w", weight.detach()).tensor())
    fake.sum().backward()
    assert weight.grad is not None
    assert (weight.grad == 1).all()
    if name in ("ternary", "ternary tensor", "binary"):  # weights that are exported already stay what they are
        assert torch.equal(fake_quantize(fake.detach(), quantizer), fake.detach())


def test_quantizers_that_need_statistics_say_so() -> None:
    with pytest.raises(InputError, match="no statistics, which waterfill needs"):
        fake_quantize(torch.randn(3, 3), REGISTRY["waterfill"]())


@pytest.mark.parametrize(
    "spec",
    [
        {"id": "waterfill", "alpha": 1e-2, "trellis": 8},
        {"id": "gptq", "bits": 4},
        {"id": "ternary"},
        {"id": "prune", "fraction": 0.5},
        {"id": "fp16"},
    ],
    ids=str,
)
def test_what_statistics_make_of_a_weight_is_the_export_too(spec: dict) -> None:
    h = torch.randn(40, 20, generator=torch.Generator().manual_seed(3))
    known = TensorStatistics([MatrixStatistics(h.T @ h, torch.rand(12) + 0.1, None)], None, False)
    weight = torch.randn(12, 20, generator=torch.Generator().manual_seed(2)).requires_grad_()
    quantizer = quantizer_of(spec)
    fake = fake_quantize(weight, quantizer, known)
    assert same_bits(fake.detach(), quantizer.quantize("w", weight.detach(), known).tensor())
    (2 * fake).sum().backward()
    assert weight.grad is not None
    assert (weight.grad == 2).all()


@pytest.mark.parametrize("step", [0.05, 0.5, 2.0, 8.0])
def test_laplace_bits_are_the_entropy_of_quantized_laplace_weights(step: float) -> None:
    source = np.random.default_rng(0)
    weight = torch.from_numpy(source.laplace(size=(4, 50_000))).float().requires_grad_()
    symbols = (weight.detach() / step).round().numpy()
    entropy = 0.0
    for row in symbols:
        _, counts = np.unique(row, return_counts=True)
        entropy -= float((counts * np.log2(counts / counts.sum())).sum())
    bits = laplace_bits(weight, step)
    assert bits.item() == pytest.approx(entropy, rel=0.02)
    bits.backward()
    assert weight.grad is not None
    # A step against the gradient makes the weights smaller.
    assert (weight.grad * weight.detach() >= 0).all()
    assert laplace_bits(weight.detach() * 0.5, step) < bits


def test_laplace_bits_of_nothing_and_much() -> None:
    zeros = torch.zeros(3, 4, requires_grad=True)
    bits = laplace_bits(zeros, 1.0)
    assert 0 <= bits.item() < 1e-3
    bits.backward()
    assert zeros.grad is not None
    assert torch.isfinite(zeros.grad).all()
    assert torch.isfinite(laplace_bits(torch.full((2, 2), 1e12), 1e-3))


def test_moving_average() -> None:
    model = Tiny(None)
    ema = Ema(model, 0.5)
    start = model.first.detach().clone()
    with torch.no_grad():
        model.first += 1
    ema.update()
    share = 1 - 2 / 11  # the first update takes in most of the change
    torch.testing.assert_close(ema.average["first"], start + share)
    with ema.applied():
        torch.testing.assert_close(model.first.detach(), start + share)
    torch.testing.assert_close(model.first.detach(), start + 1)
    with pytest.raises(InputError, match="decay"):
        Ema(model, 1.0)


def test_moving_average_over_many_updates() -> None:
    """The first updates weigh more; parameters are averaged and put back, and buffers stay the model's own."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model[0].bias.requires_grad_(False)
    ema = Ema(model, 0.9)
    expected = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    source = torch.Generator().manual_seed(0)
    for number in range(1, 101):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn(parameter.shape, generator=source)
        ema.update()
        decay = min(0.9, (1 + number) / (10 + number))
        for name, parameter in model.named_parameters():
            expected[name].lerp_(parameter.detach(), 1 - decay)
    assert ema.updates == 100
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with ema.applied():
        model(torch.randn(5, 3, generator=source))
        for name, parameter in model.named_parameters():
            assert torch.equal(parameter, expected[name])
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in expected)
    assert after["1.num_batches_tracked"] == before["1.num_batches_tracked"] + 1
