"""A GPT as many records are: subword tokens, a tied embedding, and blocks that are passed more than once.

    python benchmarks/looped_gpt.py --minutes 60 --checkpoint runs/looped/checkpoint.safetensors
    cd benchmarks && CHECKPOINT=… golfpack calibrate looped_gpt.py:calibration -o statistics.safetensors

Data, blocks, optimizer and training are those of records_examples/stdlib_gpt. The tokenizer (byte-pair encoding, trained on the
same text by the package `tokenizers`) lies beside the checkpoint.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "records_examples" / "stdlib_gpt"))
import train_gpt  # noqa: E402

VOCAB_SIZE = 8192
WIDTH = 384
ORDER = (0, 1, 2, 3, 1, 2, 3, 4)  # in which the blocks are passed
SEQUENCE_LENGTH = train_gpt.SEQUENCE_LENGTH
windows = train_gpt.windows


class LoopedGPT(train_gpt.GPT):
    """The example's model with another vocabulary, its blocks passed in ORDER."""

    def __init__(self) -> None:
        super().__init__(1 + max(ORDER), WIDTH)
        self.embedding = torch.nn.Embedding(VOCAB_SIZE, WIDTH)
        torch.nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        blocks = list(self.blocks)
        x = train_gpt.rms_norm(self.embedding(tokens))
        for number in ORDER:
            x = blocks[number](x)
        logits = torch.nn.functional.linear(train_gpt.rms_norm(x), self.embedding.weight).float()
        return train_gpt.LOGIT_SOFTCAP * torch.tanh(logits / train_gpt.LOGIT_SOFTCAP)


def model_for(weights: dict[str, Tensor]) -> LoopedGPT:
    """The model whose state dict this is."""
    model = LoopedGPT()
    model.load_state_dict(weights)
    return model


class Text:
    """The example's text as subword tokens.

    Attributes:
        bytes_per_token: of the validation text.
    """

    def __init__(self, tokenizer: Path):
        from tokenizers import ByteLevelBPETokenizer, Tokenizer

        texts = {split: [text.decode(errors="replace") for text in train_gpt.load_texts(split)] for split in ("train", "val")}
        if not tokenizer.exists():
            trained = ByteLevelBPETokenizer()
            trained.train_from_iterator(texts["train"], vocab_size=VOCAB_SIZE, show_progress=False)
            tokenizer.parent.mkdir(parents=True, exist_ok=True)
            trained.save(str(tokenizer))
        encoder = Tokenizer.from_file(str(tokenizer))
        self._tokens = {
            split: torch.tensor([token for one in encoder.encode_batch_fast(known) for token in one.ids], dtype=torch.int16)
            for split, known in texts.items()
        }
        self.bytes_per_token = sum(len(text.encode()) for text in texts["val"]) / len(self._tokens["val"])

    def load(self, split: str) -> Tensor:
        """All tokens of a split."""
        return self._tokens[split]


def calibration() -> tuple[Any, list[Any], Any]:
    """For `golfpack calibrate`; CHECKPOINT names the weights, SEQUENCES how many to calibrate on."""
    from safetensors.torch import load_file

    from generator.calibration import language_model_loss

    path = Path(os.environ["CHECKPOINT"])
    tokens = Text(path.with_name("tokenizer.json")).load("train")
    number = int(os.environ.get("SEQUENCES", "128"))
    starts = torch.linspace(0, len(tokens) - SEQUENCE_LENGTH - 1, number, dtype=torch.float64).long()
    return model_for(load_file(path)).eval(), [windows(tokens, part) for part in starts.split(8)], language_model_loss()


def main() -> None:
    options = train_gpt.arguments(__doc__.split("\n")[0]).parse_args()
    torch.manual_seed(options.seed)
    text = Text(options.checkpoint.with_name("tokenizer.json"))
    train_gpt.train(LoopedGPT(), options, load=text.load, bytes_per_token=text.bytes_per_token)


if __name__ == "__main__":
    main()
