"""The two passes over the calibration batches, and the sums over processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from generator.calibration.aliases import Block, Parameters
from generator.calibration.collect import Use, Watch
from generator.calibration.moments import Moments, combine
from generator.errors import InputError
from generator.progress import Listener, Stage
from generator.statistics import Statistics
from generator.user_code import call

Loss = Callable[[nn.Module, Any], Tensor]


def collect_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    kind: str = "sequence",
    seed: int = 0,
    progress: Listener | None = None,
) -> Statistics:
    """Run a model over batches and collect the moments of every weight that can be attributed.

    Args:
        model: in eval mode; its parameters must be ordinary ones (not a compiled graph's).
        batches: each a tensor, or a tuple, list or dict that holds tensors; the first tensor's first dimension is the
            number of sequences, and so is that of the model's activations.
        loss: `loss(model, batch)`, the loss summed over the batch's tokens, in nats.
        kind: "token" (one pass: H, g) or "sequence" (two passes: also A, B).
        seed: of torch's generators at the start of each pass, for losses that sample labels.
        progress: told of each batch of each pass, as stage "calibrate".

    Under torch.distributed each process brings its own batches, and the sums are all-reduced.

    Raises:
        InputError: no batch, a loss that is not a finite scalar, or no weight that could be followed.
    """
    made: list[Any] = call("the calibration's batches can't be made", list, batches)
    check_weights(model)
    if not made:
        raise InputError("calibration has no batches")
    if kind not in ("token", "sequence"):
        raise InputError(f"unknown kind of statistics {kind!r}; known: token, sequence")
    named = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    parameters = Parameters(named)
    moments = Moments(parameters, kind == "sequence")
    total = len(made) * (2 if kind == "sequence" else 1)
    required = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in required:
        parameter.requires_grad_(False)
    try:
        with Stage("calibrate", progress, total) as stage:
            watch = _first_pass(model, made, loss, moments, seed, stage)
            _reduce(moments)
            if kind == "sequence":
                factors = moments.inverse_factors()
                _second_pass(model, made, loss, moments, factors, seed, stage)
                _reduce_group(moments.sequence_outputs)
    finally:
        for parameter in required:
            parameter.requires_grad_(True)
    statistics = _statistics(moments, watch, kind)
    stage.log.info(
        "%d weights, %d without statistics; %d tokens", len(statistics.shapes), len(statistics.missing), moments.tokens
    )
    return statistics


def _first_pass(model: nn.Module, batches: list[Any], loss: Loss, moments: Moments, seed: int, stage: Stage) -> Watch:
    _seed(seed)
    watch = Watch(moments.parameters, lambda use: None)
    for number, batch in enumerate(batches, 1):
        sequences = _sequences(batch)
        collector = _Collector(watch, moments, sequences, moments.add_sequences if moments.sequences_wanted else None)
        collector.per_token = True
        _run(model, batch, loss, watch, collector, number)
        moments.tokens += watch.largest_rows
        moments.sequences += sequences
        stage.step()
    return watch


def _second_pass(
    model: nn.Module,
    batches: list[Any],
    loss: Loss,
    moments: Moments,
    factors: dict[tuple[str, int], Tensor],
    seed: int,
    stage: Stage,
) -> None:
    _seed(seed)
    watch = Watch(moments.parameters, lambda use: None)
    for number, batch in enumerate(batches, 1):
        sequences = _sequences(batch)
        collector = _Collector(watch, moments, sequences, lambda uses, count: moments.add_output_side(uses, count, factors))
        _run(model, batch, loss, watch, collector, number)
        stage.step()


class _Collector:
    """Gathers the uses of each matrix in one batch, and adds them up once the last has come."""

    def __init__(self, watch: Watch, moments: Moments, sequences: int, finish: Callable[[list[Use], int], None] | None):
        self.watch = watch
        self.moments = moments
        self.sequences = sequences
        self.finish = finish
        self.per_token = False
        self.uses: dict[tuple[str, int], list[Use]] = {}

    def __call__(self, use: Use) -> None:
        name = use.block.name
        if self.moments.transposed.setdefault(name, use.block.transposed) != use.block.transposed:
            self.watch.elsewhere[name] = "it is used both as stored and transposed; only the first way is followed"
            return
        with torch.autocast(use.inputs.device.type, enabled=False):
            if self.per_token:
                self.moments.add_tokens(use)
            if self.finish is None:
                return
            if len(use.inputs) % self.sequences:
                raise InputError(
                    f"weight {name!r} sees {len(use.inputs)} rows in a batch of {self.sequences} sequences: rows can't be "
                    "told apart by sequence; use --statistics token"
                )
            self.uses.setdefault((name, use.block.matrix), []).append(use)
            if not self.watch.pending[name]:
                self.flush(name)

    def flush(self, name: str | None = None) -> None:
        """Add up what has been gathered, of one parameter or of all."""
        for key in [key for key in self.uses if name in (None, key[0])]:
            uses = self.uses.pop(key)
            if self.finish is not None:
                self.finish(uses, self.sequences)


def _run(model: nn.Module, batch: Any, loss: Loss, watch: Watch, collector: _Collector, number: int) -> None:
    watch.on_use = collector
    watch.largest_rows = 0
    watch.pending.clear()
    with torch.enable_grad(), watch:
        value = call(f"the calibration's loss fails on batch {number}", loss, model, batch)
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError("the calibration's loss must return a scalar tensor, the loss summed over the batch's tokens")
    if not torch.isfinite(value):
        raise InputError(f"the calibration's loss is {value.item()} on batch {number}")
    if not value.requires_grad:
        raise InputError(
            "no use of a weight could be followed: the model must run uncompiled, with gradients enabled, and the loss must "
            "not detach its result"
        )
    call(f"the backward pass fails on batch {number}", value.backward)
    with torch.no_grad():
        collector.flush()
    watch.parameters.forget_copies()


def _sequences(batch: Any) -> int:
    """Length of the first dimension of the batch's first tensor."""
    values = list(batch.values()) if isinstance(batch, Mapping) else batch
    while isinstance(values, list | tuple) and values:
        tensors = [value for value in values if isinstance(value, Tensor)]
        values = tensors[0] if tensors else values[0]
    if not isinstance(values, Tensor) or not values.ndim or not len(values):
        raise InputError("a calibration batch must be a tensor, or begin with one, whose first dimension counts sequences")
    return len(values)


def _seed(seed: int) -> None:
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.manual_seed(seed + rank)


def _reduce(moments: Moments) -> None:
    """Sum the first pass over all processes."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    counts = torch.tensor([moments.tokens, moments.sequences], dtype=torch.float64, device=_device())
    dist.all_reduce(counts)
    moments.tokens, moments.sequences = int(counts[0]), int(counts[1])
    rows = {key: torch.tensor([float(sums.rows)], device=_device()) for key, sums in moments.per_token.items()}
    inputs = {key: sums.inputs for key, sums in moments.per_token.items()}
    outputs = {key: sums.outputs for key, sums in moments.per_token.items()}
    for group in (rows, inputs, outputs, moments.sequence_inputs):
        _reduce_group(group)
    moments.per_token = {key: _summed(inputs[key], outputs[key], rows[key]) for key in inputs}
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, moments.transposed)
    for transposed in gathered:
        for name, value in transposed.items():
            moments.transposed.setdefault(name, value)


def _summed(inputs: Tensor, outputs: Tensor, rows: Tensor) -> Any:
    from generator.calibration.moments import _PerToken

    return _PerToken(inputs, outputs, int(rows.item()))


def _reduce_group(group: dict[Any, Tensor]) -> None:
    """All-reduce tensors by key; a process that lacks one (an expert that saw no token, say) contributes zeros."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, {key: tuple(tensor.shape) for key, tensor in group.items()})
    shapes = {key: shape for known in gathered for key, shape in known.items()}
    for key in sorted(shapes, key=repr):
        tensor = group.setdefault(key, torch.zeros(shapes[key], device=_device()))
        dist.all_reduce(tensor)


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _statistics(moments: Moments, watch: Watch, kind: str) -> Statistics:
    """Turn sums into moments, one stack per parameter."""
    parameters = moments.parameters
    by_parameter: dict[str, dict[int, list[tuple[Block, str]]]] = {}
    for block, use_kind in moments.per_token:
        by_parameter.setdefault(block.name, {}).setdefault(block.matrix, []).append((block, use_kind))
    tensors: dict[str, Tensor] = {}
    shapes = {}
    for name in parameters.tensors:
        if name not in by_parameter:
            continue
        shape = list(parameters.tensors[name].shape)
        count = parameters.tensors[name].numel() // (shape[-1] * shape[-2])
        outputs, inputs = shape[-2:][::-1] if moments.transposed[name] else shape[-2:]
        shapes[name] = shape
        stack_h, stack_g = torch.zeros(count, inputs, inputs), torch.zeros(count, outputs)
        for matrix, keys in by_parameter[name].items():
            pairs = []
            for key in sorted(keys, key=repr):
                sums = moments.per_token[key]
                pairs.append((sums.inputs / moments.tokens, sums.outputs / sums.rows))
                if key[1] == "embedding":
                    tensors[f"{name}:frequencies"] = (sums.outputs / sums.rows).cpu()
                    tensors[f"{name}:gradients"] = (sums.inputs / moments.tokens).cpu()
            stack_h[matrix], stack_g[matrix] = combine(pairs)
        tensors[f"{name}:H"], tensors[f"{name}:g"] = stack_h, stack_g
        if kind == "sequence":
            stack_a = torch.zeros(count, inputs, inputs)
            found = {m: b for (n, m), b in moments.sequence_outputs.items() if n == name}
            stack_b = torch.zeros(count, *next(iter(found.values())).shape)
            for matrix, moment in found.items():
                stack_a[matrix] = moments.sequence_inputs[name, matrix] / moments.tokens
                stack_b[matrix] = moment / (inputs * moments.tokens)
            tensors[f"{name}:A"], tensors[f"{name}:B"] = stack_a, stack_b
    missing = {}
    for name in parameters.tensors:
        if name not in by_parameter:
            reason = parameters.skipped.get(name) or watch.elsewhere.get(name)
            unused = "no gradient reached it" if name in watch.begun else "no matrix product with these batches uses it"
            missing[name] = reason or unused
    names = {name: parameters.names[name] for name in shapes}
    if not shapes:
        raise InputError(f"no weight could be followed: {'; '.join(f'{n}: {why}' for n, why in missing.items())}")
    transposed = [name for name in shapes if moments.transposed[name]]
    statistics = Statistics(kind, moments.tokens, moments.sequences, tensors, shapes, names, transposed, missing)
    statistics.check()
    return statistics


def check_weights(model: nn.Module) -> None:
    """That a model's weights are numbers.

    Raises:
        InputError: one holds NaN or Inf, which every loss and moment would then be.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise InputError(f"weight {name!r} of the calibration's model is not initialized")
        if not torch.isfinite(parameter).all():
            raise InputError(f"weight {name!r} of the calibration's model holds NaN or Inf; repair it first")


def init_distributed() -> None:
    """Join torchrun's process group, when there is one to join."""
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal():
        raise InputError(f"the environment's WORLD_SIZE must be a number of processes, not {size!r}")
    if int(size) > 1 and dist.is_available() and not dist.is_initialized():
        call("the process group can't be joined", dist.init_process_group, "nccl" if torch.cuda.is_available() else "gloo")
