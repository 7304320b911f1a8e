"""Quantization-aware training of the example's GPT: matrices of −s, 0 and s from the first step on.

    python train.py --minutes 1 --checkpoint checkpoint.safetensors
    golfpack build ../stdlib_gpt/train_gpt.py --weights checkpoint.safetensors --recipe recipe.toml -o packed/train_gpt.py
    python packed/train_gpt.py                    # the val_bpb that training ended with

Data, model, optimizer and the script that is packed are those of ../stdlib_gpt. Here its weights are parametrized: each forward
pass sees what `fake_quantize` makes of them, with the quantizers of recipe.toml, and gradients go straight through to the
weights behind. Those are what is saved; packed with the same recipe, they become what the model was trained with.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import golfpack
from generator.qat import fake_quantize

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stdlib_gpt"))
from train_gpt import GPT, SIZES, arguments, train

RECIPE = Path(__file__).with_name("recipe.toml")


class FakeQuantized(nn.Module):
    """A weight as it will be packed."""

    def __init__(self, quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, weight: Tensor) -> Tensor:
        return fake_quantize(weight, self.quantizer)


def parametrized(model: GPT) -> GPT:
    """The model with every weight matrix seen through the quantizer that the recipe names for it."""
    weights = model.state_dict()
    choices = golfpack.load_recipe(RECIPE).choose(weights, {name: [name] for name in weights})
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | nn.Embedding):
            parametrize.register_parametrization(module, "weight", FakeQuantized(choices[f"{name}.weight"].quantizer))
    return model


@torch.no_grad()
def latent_weights(model: GPT) -> dict[str, Tensor]:
    """The weights behind, under the names of an ordinary checkpoint; gains are rounded to the float16 that the recipe keeps."""
    for block in model.blocks:
        block.scales.copy_(block.scales.half())
    return {name.replace("parametrizations.weight.original", "weight"): tensor for name, tensor in model.state_dict().items()}


def main() -> None:
    parser = arguments("Train a byte-level GPT with ternary weights on the standard library's text.")
    parser.set_defaults(minutes=1.0, size="1.5M")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    train(parametrized(GPT(*SIZES[options.size])), options, export=latent_weights)


if __name__ == "__main__":
    main()
