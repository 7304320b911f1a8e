"""Trains a byte-level GPT, packs it and evaluates what it packed, in one run, in the shape of the challenge's records.

    torchrun --standalone --nproc_per_node=2 train_gpt.py --train    # writes OUTPUT, or packed/train_gpt.py
    python packed/train_gpt.py                                       # evaluates the weights that are in it
    OUTPUT=again/train_gpt.py torchrun --standalone --nproc_per_node=2 packed/train_gpt.py --train

The data needs no download: it is the source text of the running interpreter's own standard library. Everything is set by
environment variables, see Hyperparameters. Only --train needs golfpack.
"""

import hashlib
import importlib
import math
import os
import sys
import sysconfig
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from runtime_stub import load_state_dict


class Hyperparameters:
    # What is written
    output = os.environ.get("OUTPUT", "packed/train_gpt.py")
    bytes_cap = int(os.environ.get("BYTES_CAP", 16_000_000))
    pack_seconds = float(os.environ.get("PACK_SECONDS", 300))
    # Training length
    max_wallclock_seconds = float(os.environ.get("MAX_WALLCLOCK_SECONDS", 600))
    batch_sequences = int(os.environ.get("BATCH_SEQUENCES", 16))  # of all ranks together
    sequence_length = int(os.environ.get("SEQUENCE_LENGTH", 256))
    seed = int(os.environ.get("SEED", 1337))
    # Model
    num_layers = int(os.environ.get("NUM_LAYERS", 6))
    model_dim = int(os.environ.get("MODEL_DIM", 256))
    head_dim = 64
    mlp_mult = 4
    vocab_size = 256
    logit_softcap = 15.0
    # Optimizers
    matrix_lr = float(os.environ.get("MATRIX_LR", 0.02))
    other_lr = float(os.environ.get("OTHER_LR", 0.004))
    muon_momentum = 0.95
    weight_decay = 0.05
    warmup_share, cooldown_share = 0.02, 0.6  # of the time
    # Calibration and evaluation
    calibration_sequences = int(os.environ.get("CALIBRATION_SEQUENCES", 64))
    val_tokens = int(os.environ.get("VAL_TOKENS", 200_000))


args = Hyperparameters
distributed = "RANK" in os.environ
rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
fast_bfloat16 = device.type == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
compute_dtype = torch.bfloat16 if fast_bfloat16 else torch.float32


def log(line: str) -> None:
    if rank == 0:
        print(line, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Data: one token per byte; one file in twenty, by a hash of its name, is held out


def load_tokens(split: str) -> Tensor:
    root = Path(sysconfig.get_paths()["stdlib"])
    texts = []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        held_out = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 20 == 0
        if "site-packages" not in name and held_out == (split == "val"):
            texts.append(path.read_bytes() + b"\0")
    return torch.from_numpy(np.frombuffer(bytearray(b"".join(texts)), np.uint8))


def spread_windows(tokens: Tensor, number: int) -> Tensor:
    """So many windows of sequence_length + 1 tokens, spread evenly."""
    starts = torch.linspace(0, len(tokens) - args.sequence_length - 1, number, dtype=torch.float64).long()
    return tokens[starts[:, None] + torch.arange(args.sequence_length + 1)].long()


# ---------------------------------------------------------------------------------------------------------------------
# Model: RMSNorm, RoPE, grouped-query attention with QK-norm, relu² MLP, tied embedding, logit softcap


def rms_norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.size(-1),))


class CastedLinear(nn.Linear):
    """Weights in float32, products in the dtype of the inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


def rotary(x: Tensor) -> Tensor:
    half = x.size(-1) // 2
    angles = torch.arange(x.size(-2), device=x.device)[:, None] * 1e4 ** -(torch.arange(half, device=x.device) / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos + right * sin, right * cos - left * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = args.model_dim // args.head_dim
        self.kv_heads = max(1, self.heads // 2)
        self.q = CastedLinear(args.model_dim, args.model_dim, bias=False)
        self.kv = CastedLinear(args.model_dim, 2 * self.kv_heads * args.head_dim, bias=False)
        self.proj = CastedLinear(args.model_dim, args.model_dim, bias=False)
        nn.init.zeros_(self.proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q = self.q(x).view(batch, length, self.heads, args.head_dim).transpose(1, 2)
        k, v = self.kv(x).view(batch, length, 2, self.kv_heads, args.head_dim).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(rotary(rms_norm(q)), rotary(rms_norm(k)), v, is_causal=True, enable_gqa=True)
        return self.proj(y.transpose(1, 2).reshape(batch, length, width))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = Attention()
        self.up = CastedLinear(args.model_dim, args.mlp_mult * args.model_dim, bias=False)
        self.down = CastedLinear(args.mlp_mult * args.model_dim, args.model_dim, bias=False)
        self.scales = nn.Parameter(torch.ones(2, args.model_dim))
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        scales = self.scales.to(x.dtype)
        x = x + scales[0] * self.attention(rms_norm(x))
        return x + scales[1] * self.down(F.relu(self.up(rms_norm(x))).square())


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(args.vocab_size, args.model_dim)
        self.blocks = nn.ModuleList(Block() for _ in range(args.num_layers))
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = rms_norm(self.embedding(tokens).to(compute_dtype))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(rms_norm(x), self.embedding.weight.to(x.dtype)).float()
        return args.logit_softcap * torch.tanh(logits / args.logit_softcap)


# ---------------------------------------------------------------------------------------------------------------------
# Muon, its work shared out over the ranks


def orthogonalize(gradient: Tensor) -> Tensor:
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (Jordan et al., Muon, 2024)."""
    x = gradient.to(compute_dtype)
    transposed = x.size(0) > x.size(1)
    x = x.T if transposed else x
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.T if transposed else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params: list[nn.Parameter], lr: float, momentum: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = group["params"]
            updates = torch.zeros(sum(w.numel() for w in weights), device=device)
            parts = updates.split([w.numel() for w in weights])
            for number, (weight, part) in enumerate(zip(weights, parts)):
                if number % world_size == rank:
                    momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                    momentum.lerp_(weight.grad, 1 - group["momentum"])
                    update = orthogonalize(weight.grad.lerp(momentum, group["momentum"]))
                    part.copy_((update * max(1.0, weight.size(0) / weight.size(1)) ** 0.5).flatten())
            if distributed:
                dist.all_reduce(updates)
            for weight, part in zip(weights, parts):
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(part.view_as(weight), alpha=-group["lr"])


def average_gradients(parameters: list[nn.Parameter]) -> None:
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for parameter, part in zip(parameters, (flat / world_size).split([p.numel() for p in parameters])):
        parameter.grad.copy_(part.view_as(parameter))


# ---------------------------------------------------------------------------------------------------------------------
# Training and evaluation


def train(model: GPT) -> None:
    tokens = load_tokens("train")
    generator = torch.Generator().manual_seed(args.seed + 1 + rank)
    parameters = list(model.parameters())
    matrices = [p for name, p in model.blocks.named_parameters() if not name.endswith("scales")]
    others = [p for name, p in model.named_parameters() if name.endswith("scales") or name.startswith("embedding")]
    optimizers = [
        Muon(matrices, args.matrix_lr, args.muon_momentum, args.weight_decay),
        torch.optim.AdamW(others, args.other_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    rates = [args.matrix_lr, args.other_lr]
    started, step, share, average = time.monotonic(), 0, 0.0, math.log(args.vocab_size)
    while share < 1:
        factor = min(1.0, share / args.warmup_share, (1 - share) / args.cooldown_share)
        for optimizer, rate in zip(optimizers, rates):
            optimizer.param_groups[0]["lr"] = rate * factor
        number = args.batch_sequences // world_size
        starts = torch.randint(len(tokens) - args.sequence_length, (number,), generator=generator)
        batch = tokens[starts[:, None] + torch.arange(args.sequence_length + 1)].long().to(device)
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        if distributed:
            average_gradients(parameters)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        average = 0.98 * average + 0.02 * loss.item()
        elapsed = torch.tensor((time.monotonic() - started) / args.max_wallclock_seconds, device=device)
        if distributed:
            dist.all_reduce(elapsed, dist.ReduceOp.MAX)  # all ranks stop at the same step
        share = elapsed.item()
        if step % 100 == 0:
            log(f"step:{step} train_loss:{average:.4f} train_time:{share * args.max_wallclock_seconds:.1f}s")
    log(f"steps:{step} train_time:{time.monotonic() - started:.1f}s")


@torch.no_grad()
def evaluate(model: GPT) -> str:
    """Loss in nats and in bits per byte, of all ranks together."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so that sums do not depend on how many there are
    model.eval()
    tokens = load_tokens("val")
    total = torch.zeros((), dtype=torch.float64, device=device)
    windows = spread_windows(tokens, max(1, min(args.val_tokens, len(tokens) - 1) // args.sequence_length))
    for number, batch in enumerate(windows.to(device).split(16)):
        if number % world_size == rank:
            logits = model(batch[:, :-1]).flatten(0, 1)
            total += F.cross_entropy(logits, batch[:, 1:].flatten(), reduction="none").double().sum()
    if distributed:
        dist.all_reduce(total)
    torch.set_num_threads(threads)
    loss = total.item() / (len(windows) * args.sequence_length)
    return f"val_loss:{loss:.8f} val_bpb:{loss / math.log(2):.8f}"


def main() -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if distributed:
        importlib.import_module("torch.distributed.nn")  # Later, by an optimizer, it would hold the group beyond its end.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if "--train" in sys.argv[1:]:
        import golfpack

        torch.manual_seed(args.seed)
        model = GPT().to(device)

        # Before the training, so that whatever would stand in the way of packing is told now.
        packer = golfpack.Packer(args.output, budget=args.bytes_cap, time_limit=args.pack_seconds)
        log(f"seed:{args.seed}")
        log(f"parameters:{sum(p.numel() for p in model.parameters())} world_size:{world_size} device:{device.type}")
        train(model)
        log(f"trained {evaluate(model)}")
        started = time.monotonic()
        windows = spread_windows(load_tokens("train"), args.calibration_sequences)
        packed = packer.pack(model, list(windows.split(8)))
        log(f"packed:{args.output} pack_time:{time.monotonic() - started:.1f}s")
        log(f"Total submission size: {packed.inspection.size} bytes")
        weights = packed.state_dict
    else:
        weights = load_state_dict()
        args.num_layers, args.model_dim = sum(n.endswith("scales") for n in weights), weights["embedding.weight"].size(1)
        model = GPT().to(device)
    model.load_state_dict(weights)
    log(f"packed {evaluate(model)}")
    if distributed:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
