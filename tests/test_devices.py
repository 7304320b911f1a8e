"""On a GPU: what is computed there is what a CPU computes. Where there is none, nothing of this is said to hold."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import golfpack
from generator.calibration import collect_statistics, language_model_loss
from generator.calibration.language_model import draw
from generator.qat import fake_quantize
from generator.quantizers import Quantizer
from generator.quantizers.rtn import Rtn
from generator.quantizers.ternary import Binary, Ternary

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("quantizer", [Rtn(bits=4), Rtn(bits=8, scale="sdclip"), Ternary(), Binary()], ids=lambda one: one.id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_are_fake_quantized_to_what_is_packed(quantizer: Quantizer, dtype: torch.dtype) -> None:
    weight = torch.randn(40, 200, generator=torch.Generator().manual_seed(0)).to(dtype)
    packed = quantizer.quantize("w", weight).tensor()
    assert torch.equal(fake_quantize(weight.cuda(), quantizer).cpu(), packed.to(dtype))


def test_the_same_tokens_are_drawn() -> None:
    likely = torch.randn(5000, 300, generator=torch.Generator().manual_seed(0)).softmax(-1)
    here, there = (draw(one, torch.Generator().manual_seed(1)) for one in (likely, likely.cuda()))
    assert (here == there.cpu()).float().mean() > 0.999


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 96)
        self.up = nn.Linear(96, 160, bias=False)
        self.down = nn.Linear(160, 64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(self.embedding(tokens))))  # type: ignore[no-any-return]


def test_calibration_comes_close_and_packing_in_the_run_works(tmp_path: Path) -> None:
    torch.manual_seed(7)
    model, tokens = Model(), torch.randint(64, (7, 4, 33))
    here = collect_statistics(model, list(tokens), language_model_loss())
    there = collect_statistics(model.cuda(), list(tokens), language_model_loss())
    again = collect_statistics(model, list(tokens), language_model_loss())
    for name, moment in here.tensors.items():
        assert there.tensors[name].device.type == "cpu"
        torch.testing.assert_close(there.tensors[name], moment, rtol=1e-3, atol=1e-3 * float(moment.abs().max()))
        assert torch.equal(there.tensors[name], again.tensors[name])
    script = tmp_path / "script.py"
    script.write_text(
        "import hashlib\nfrom runtime_stub import load_state_dict\nweights = load_state_dict()\n"
        "print(hashlib.sha256(b''.join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest())\n"
    )
    output = tmp_path / "packed.py"
    packed = golfpack.pack(model, list(tokens), output=output, script=script, budget=20_000)
    digest = hashlib.sha256(b"".join(packed.state_dict[name].numpy().tobytes() for name in sorted(packed.state_dict)))
    ran = subprocess.run([sys.executable, str(output)], capture_output=True, text=True, timeout=100)
    assert ran.stdout.strip() == digest.hexdigest(), ran.stderr
    assert all(parameter.is_cuda for parameter in model.parameters())
