"""Byte-level GPT trained on the source text of the running interpreter's own standard library.

    python train_gpt.py --train --minutes 1.5 --checkpoint checkpoint.safetensors
    golfpack build train_gpt.py --weights checkpoint.safetensors -o packed/train_gpt.py
    python packed/train_gpt.py                    # decodes its weights, prints val_loss and val_bpb

The data needs no download: every CPython ships about 30 MB of Python text. Without --train the script evaluates the
weights that golfpack packed into it (or, before packing, the payload that GOLFPACK_PAYLOAD names).
"""

import argparse
import hashlib
import math
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime_stub import load_state_dict

# ---------------------------------------------------------------------------------------------------------------------
# Data: one token per byte, files joined by a zero byte, split by a hash of the file name

VOCAB_SIZE = 256
SEQUENCE_LENGTH = 256
VALIDATION_SHARE = 20  # one file in this many is held out


def load_texts(split: str) -> list[bytes]:
    """The split's files, each with a zero byte at its end, in the order of their names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if "site-packages" in name:
            continue
        held_out = int(hashlib.sha256(name.encode()).hexdigest(), 16) % VALIDATION_SHARE == 0
        if held_out == (split == "val"):
            texts.append(path.read_bytes() + b"\0")
    return texts


def load_tokens(split: str) -> Tensor:
    """All bytes of the split's files as one uint8 tensor."""
    return torch.from_numpy(np.frombuffer(bytearray(b"".join(load_texts(split))), np.uint8))


def windows(tokens: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs and next-byte targets of the windows that begin at `starts`, each (len(starts), SEQUENCE_LENGTH)."""
    index = starts[:, None] + torch.arange(SEQUENCE_LENGTH + 1)
    batch = tokens[index].long()
    return batch[:, :-1], batch[:, 1:]


# ---------------------------------------------------------------------------------------------------------------------
# Model: RMSNorm, RoPE, grouped-query attention with QK-norm, relu² MLP, tied embedding, logit softcap

HEAD_DIM = 64
LOGIT_SOFTCAP = 15.0
SIZES = {"1.5M": (8, 128), "4M": (6, 256), "11M": (7, 384), "30M": (10, 512)}  # layers, width


def bfloat16_is_fast(device: torch.device) -> bool:
    """GPUs and CPUs with AVX-512 multiply bfloat16 faster than float32; others emulate it, many times slower."""
    return device.type != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512"


def autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_is_fast(device))


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


def rotary(x: Tensor) -> Tensor:
    """Rotary position embedding of x, (batch, heads, positions, HEAD_DIM)."""
    half = HEAD_DIM // 2
    frequencies = 1e4 ** -(torch.arange(half, device=x.device) / half)
    angles = torch.arange(x.size(-2), device=x.device)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.heads = width // HEAD_DIM
        self.kv_heads = max(1, self.heads // 2)
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, self.kv_heads * HEAD_DIM, bias=False)
        self.v = nn.Linear(width, self.kv_heads * HEAD_DIM, bias=False)
        self.o = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, positions, width = x.shape
        q = self.q(x).view(batch, positions, self.heads, HEAD_DIM).transpose(1, 2)
        k = self.k(x).view(batch, positions, self.kv_heads, HEAD_DIM).transpose(1, 2)
        v = self.v(x).view(batch, positions, self.kv_heads, HEAD_DIM).transpose(1, 2)
        q, k = rotary(rms_norm(q)), rotary(rms_norm(k))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(y.transpose(1, 2).reshape(batch, positions, width))


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)).square())


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attention = Attention(width)
        self.mlp = MLP(width)
        self.scales = nn.Parameter(torch.ones(2, width))  # residual gains of the two branches

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.scales[0] * self.attention(rms_norm(x))
        return x + self.scales[1] * self.mlp(rms_norm(x))


class GPT(nn.Module):
    def __init__(self, layers: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB_SIZE, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            nn.init.zeros_(block.attention.o.weight)
            nn.init.zeros_(block.mlp.down.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, positions, VOCAB_SIZE) in float32."""
        x = rms_norm(self.embedding(tokens))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(rms_norm(x), self.embedding.weight).float()
        return LOGIT_SOFTCAP * torch.tanh(logits / LOGIT_SOFTCAP)


def model_for(weights: dict[str, Tensor]) -> GPT:
    """The model whose state dict this is; layers and width are read off the shapes."""
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    model = GPT(layers, weights["embedding.weight"].size(1))
    model.load_state_dict(weights)
    return model


# ---------------------------------------------------------------------------------------------------------------------
# Optimizer: Muon for the matrices inside the blocks, AdamW for everything else


def orthogonalize(gradient: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (Jordan et al., Muon, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.bfloat16() if bfloat16_is_fast(gradient.device) else gradient
    transposed = x.size(0) > x.size(1)
    if transposed:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if transposed else x).float()


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose update is orthogonalized, with decoupled weight decay."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalize(weight.grad.lerp(momentum, group["momentum"]))
                update *= max(1.0, weight.size(0) / weight.size(1)) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"])


def learning_rate_factor(progress: float) -> float:
    """Short warm-up, constant, then linear to zero over the last 60 % of the time."""
    return min(1.0, progress / 0.02, (1 - progress) / 0.6)


# ---------------------------------------------------------------------------------------------------------------------
# Evaluation and training


@torch.no_grad()
def evaluate(model: GPT, tokens: Tensor, count: int) -> tuple[float, float]:
    """Mean validation loss in nats and in bits per token, over about `count` tokens spread evenly over `tokens`."""
    device = model.embedding.weight.device
    number = max(1, min(count, len(tokens) - 1) // SEQUENCE_LENGTH)
    starts = torch.linspace(0, len(tokens) - SEQUENCE_LENGTH - 1, number, dtype=torch.float64).long()
    total = 0.0
    model.eval()
    for part in starts.split(32):
        inputs, targets = windows(tokens, part)
        with autocast(device):
            logits = model(inputs.to(device))
        total += F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(device), reduction="sum").item()
    loss = total / (number * SEQUENCE_LENGTH)
    return loss, loss / math.log(2)


def train(model: GPT, options: argparse.Namespace, export=GPT.state_dict, load=load_tokens, bytes_per_token=1.0) -> None:
    """Train a model on this machine's device, save what `export` makes of it, and evaluate it after that.

    `load` gives the tokens of "train" and "val"; the latter stand for so many bytes each.
    """
    from safetensors.torch import save_file
    from tqdm import tqdm

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_tokens, val_tokens = load("train"), load("val")
    model.to(device)
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2 and p.size(0) > 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    optimizers = [
        Muon(matrices, lr=0.02, weight_decay=options.weight_decay),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    initial_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]

    options.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    log = options.checkpoint.with_suffix(".log").open("w")

    def report(line: str) -> None:
        tqdm.write(line)
        print(line, file=log, flush=True)

    report(f"parameters:{sum(p.numel() for p in model.parameters()):,} train_tokens:{len(train_tokens):,} device:{device}")
    start, elapsed, step, average = time.monotonic(), 0.0, 0, None
    limit = options.minutes * 60
    with tqdm(total=round(limit), unit="s", bar_format="{l_bar}{bar}| {n:.0f}/{total} s {postfix}") as bar:
        while elapsed < limit:
            factor = learning_rate_factor(elapsed / limit)
            for optimizer, rates in zip(optimizers, initial_rates):
                for group, rate in zip(optimizer.param_groups, rates):
                    group["lr"] = rate * factor
            starts = torch.randint(len(train_tokens) - SEQUENCE_LENGTH, (options.batch_size,))
            inputs, targets = windows(train_tokens, starts)
            model.train()
            with autocast(device):
                logits = model(inputs.to(device))
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten().to(device))
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            step += 1
            average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
            now = time.monotonic() - start
            bar.update(min(now, limit) - min(elapsed, limit))
            elapsed = now
            bar.set_postfix_str(f"step {step} loss {average:.4f}")
            if step % options.log_every == 0:
                report(f"step:{step} seconds:{elapsed:.1f} train_loss:{average:.4f}")
    save_file({name: t.contiguous() for name, t in export(model).items()}, options.checkpoint)
    loss, bits = evaluate(model, val_tokens, options.val_tokens)
    report(f"steps:{step} val_loss:{loss:.6f} val_bpb:{bits / bytes_per_token:.6f} checkpoint:{options.checkpoint}")
    log.close()


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=1.5, help="training time")
    parser.add_argument("--size", choices=SIZES, default="4M", help="number of parameters")
    parser.add_argument("--batch-size", type=int, default=8, help="sequences per step")
    parser.add_argument("--weight-decay", type=float, default=0.05, help="of the matrices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, default=Path("checkpoint.safetensors"), help="what --train writes")
    parser.add_argument("--val-tokens", type=int, default=200_000, help="bytes to evaluate on")
    parser.add_argument("--log-every", type=int, default=50, help="steps between lines of the log")
    return parser


def main() -> None:
    parser = arguments("Train or evaluate a byte-level GPT on the standard library's text.")
    parser.add_argument("--train", action="store_true", help="train and write a checkpoint (default: evaluate)")
    options = parser.parse_args()
    if options.train:
        torch.manual_seed(options.seed)
        train(GPT(*SIZES[options.size]), options)
        return
    model = model_for(load_state_dict())
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    loss, bpb = evaluate(model, load_tokens("val"), options.val_tokens)
    print(f"val_loss:{loss:.6f} val_bpb:{bpb:.6f}")


if __name__ == "__main__":
    main()
