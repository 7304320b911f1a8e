"""Quantizers that use statistics, and those that are made of them: exactness, optimality, hard inputs, refusals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import generator
from generator.calibration.passes import collect_statistics
from generator.errors import InputError
from generator.payload import same_bits
from generator.quantizers import REGISTRY, Quantized
from generator.quantizers.base import integers
from generator.quantizers.feedback import BLOCK, STRIP, ordered_factor, round_columns, round_to
from generator.quantizers.two_sided import TILE, round_both
from generator.statistics import MatrixStatistics, Statistics, TensorStatistics

OUT, IN = 24, 40


def moment(size: int, seed: int, rank: int | None = None) -> Tensor:
    """A random second moment with a wide spectrum."""
    source = torch.Generator().manual_seed(seed)
    samples = torch.randn(rank or 3 * size, size, generator=source) @ torch.randn(size, size, generator=source)
    samples *= torch.logspace(-1, 1, size)
    return samples.T @ samples / len(samples)


def statistics_of(
    out: int = OUT, in_: int = IN, count: int = 1, transposed: bool = False, rank: int | None = None
) -> TensorStatistics:
    """Token and sequence statistics of a stack of matrices."""
    pairs = [(moment(in_, 2 * n, rank), moment(out, 2 * n + 1, rank) / 1e4) for n in range(count)]
    return TensorStatistics(
        [MatrixStatistics(a, b.diagonal()) for a, b in pairs],
        [MatrixStatistics(a, b.diagonal(), b) for a, b in pairs],
        transposed,
    )


def weights(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loss(error: Tensor, statistics: TensorStatistics) -> float:
    """½ tr(B E A Eᵀ), damped as the quantizers do."""
    assert statistics.sequence is not None
    known = statistics.sequence[0]
    assert known.output_moment is not None
    a, b = known.inputs, known.output_moment
    a = a + 0.01 * a.diagonal().mean() * torch.eye(len(a))
    b = b + 0.05 * b.diagonal().mean() * torch.eye(len(b))
    return float((b @ error @ a @ error.T).trace() / 2)


def test_factor_is_of_the_moment_in_its_order() -> None:
    a = moment(IN, 5)
    factor = ordered_factor(a)
    assert (a.diagonal()[factor.order].diff() <= 0).all()
    assert torch.equal(factor.feedback.triu(), factor.feedback)
    assert (factor.feedback.diagonal() == 1).all()
    damped = (a + 0.01 * a.diagonal().mean() * torch.eye(IN))[factor.order][:, factor.order].double()
    upper = factor.feedback / factor.steps
    torch.testing.assert_close(upper @ upper.T, damped, rtol=1e-6, atol=1e-6)
    # What GPTQ has: A⁻¹ = Uᵀ U, U_jj the step of column j.
    torch.testing.assert_close(torch.linalg.cholesky(damped.inverse(), upper=True).diagonal(), factor.steps, rtol=1e-6, atol=0)


@pytest.mark.parametrize("size", [(5, 3), (TILE, TILE), (TILE + 7, 2 * TILE + 1), (1, 9), (9, 1)], ids=str)
@pytest.mark.parametrize("zeros", [False, True])
def test_two_sided_feedback_is_the_plain_recursion(size: tuple[int, int], zeros: bool) -> None:
    """W − Q = Vᵀ e U, where A⁻¹ = Uᵀ U and B⁻¹ = Vᵀ V."""
    out, in_ = size
    rows, columns = ordered_factor(moment(out, 1)), ordered_factor(moment(in_, 2))
    v, u = ((one.feedback / one.steps).inverse() for one in (rows, columns))
    source = torch.Generator().manual_seed(3)
    matrix, steps = weights(out, in_).double(), torch.rand(out, in_, generator=source).double() + 0.5
    mask = torch.rand(out, in_, generator=source) > (0.3 if zeros else -1)
    errors, expected = torch.zeros(out, in_).double(), torch.zeros(out, in_)
    for i in range(out):
        for j in range(in_):
            value = matrix[i, j] - v[: i + 1, i] @ errors[: i + 1, : j + 1] @ u[: j + 1, j]
            expected[i, j] = (value / steps[i, j]).round() * mask[i, j]
            errors[i, j] = (value - expected[i, j] * steps[i, j]) / (v[i, i] * u[j, j])
    symbols = round_both(matrix, steps, rows.feedback, columns.feedback, mask)
    assert torch.equal(symbols, expected)
    torch.testing.assert_close(matrix - symbols * steps, v.T @ errors @ u)
    one_sided = round_columns(matrix, steps, columns.feedback, mask=mask)
    assert torch.equal(round_both(matrix, steps, torch.eye(out).double(), columns.feedback, mask), one_sided)


@pytest.mark.parametrize("options", [{}, {"limit": 1}, {"limit": 1, "binary": True}], ids=str)
def test_what_is_compiled_rounds_as_torch_does(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, steps = weights(STRIP + 3, 2 * BLOCK + 5), torch.tensor([[0.7]])
    matrix[5] *= 1e30
    mask = matrix > -1
    feedback = ordered_factor(moment(matrix.shape[1], 4)).feedback
    symbols = round_columns(matrix, steps, feedback, mask=mask, **options)
    assert not symbols[~mask].any()

    def by_torch(*arrays: np.ndarray) -> None:
        *given, limit, binary, symbols, errors = arrays
        values, grid, kept, factor, found, left = (torch.from_numpy(one) for one in (*given, symbols, errors))
        for column, value in enumerate(values):
            quotient = value / grid[column]
            nearest = round_to(quotient, None if limit == np.inf else int(limit))
            rounded = torch.where(quotient < 0, -1.0, 1.0) if binary else nearest
            symbol = torch.where(kept[column], rounded, 0)
            found[column] = symbol
            left[column] -= symbol * grid[column]
            values[column + 1 :].addr_(factor[column, column + 1 :], left[column])

    monkeypatch.setattr("generator.quantizers.feedback.round_block", by_torch)
    assert torch.equal(round_columns(matrix, steps, feedback, mask=mask, **options), symbols)


def test_symbols_that_are_no_numbers_stay_so() -> None:
    matrix = torch.tensor([[1.0, torch.nan], [9.0, 2.0]])
    assert round_columns(matrix, torch.ones(1, 1), torch.eye(2).double(), 3).isnan().tolist() == [[False, True], [False, False]]


def test_feedback_lowers_the_loss_that_it_is_for() -> None:
    matrix, statistics = weights(OUT, IN), statistics_of()
    losses = []
    for spec in (
        {"id": "rtn", "bits": 4, "scale": "sdclip", "per": "tensor", "k": 3.0},
        {"id": "gptq", "bits": 4, "scale": "sdclip", "per": "tensor", "k": 3.0},
    ):
        losses.append(loss(quantize(spec, matrix, statistics).tensor() - matrix, statistics))
    assert losses[1] < 0.5 * losses[0]
    # Both ways of waterfill at the same loss: feedback along rows needs less.
    entropies = {}
    spec = {"id": "waterfill", "guard": 1e9}
    for output in ("diagonal", "full"):
        sizes = []
        for alpha in np.geomspace(1e-4, 1, 25):
            result = quantize({**spec, "alpha": float(alpha), "output": output}, matrix, statistics)
            sizes.append((loss(result.tensor() - matrix, statistics), entropy(result.arrays[0])))
        entropies[output] = np.interp(np.log(losses[1]), *zip(*[(np.log(lost), bits) for lost, bits in sizes], strict=True))
    assert entropies["full"] < entropies["diagonal"]
    same = quantize({"id": "gptq", "bits": 4, "scale": "sdclip", "per": "tensor", "k": 3.0}, matrix, statistics)
    assert entropies["diagonal"] < 0.8 * entropy(same.arrays[0])


def entropy(symbols: np.ndarray) -> float:
    """Bits of the symbols, each at the probability that a Gaussian of its own size would give it."""
    return float(np.log2(1 + np.abs(symbols.astype(float))).sum() + symbols.size)


def quantize(spec: str | dict, tensor: Tensor, statistics: TensorStatistics | None, mask: Tensor | None = None) -> Quantized:
    options = {"id": spec} if isinstance(spec, str) else dict(spec)
    return REGISTRY[options.pop("id")](**options).quantize("w", tensor, statistics, mask)


CALIBRATED: dict[str, dict] = {
    "gptq": {"id": "gptq", "bits": 4},
    "gptq sdclip tensor": {"id": "gptq", "scale": "sdclip", "per": "tensor"},
    "gptq mse groups": {"id": "gptq", "bits": 3, "scale": "mse", "per": "group", "group": 16},
    "waterfill": {"id": "waterfill", "alpha": 1e-2},
    "waterfill trellis": {"id": "waterfill", "alpha": 1e-2, "trellis": 8},
    "waterfill trellis one-sided": {"id": "waterfill", "alpha": 1e-2, "trellis": 4, "output": "diagonal"},
    "waterfill one-sided": {"id": "waterfill", "alpha": 1e-2, "output": "diagonal"},
    "waterfill token": {"id": "waterfill", "alpha": 1e-2, "statistics": "token"},
    "ternary": {"id": "ternary", "group": 16},
    "binary": {"id": "binary", "per": "row"},
    "prune": {"id": "prune", "fraction": 0.4, "by": "sensitivity", "then": {"id": "waterfill", "alpha": 1e-2}},
    "prune rtn": {"id": "prune", "fraction": 0.4, "then": {"id": "rtn", "bits": 3, "per": "group", "group": 7}},
}


@pytest.mark.parametrize("name", CALIBRATED)
@pytest.mark.parametrize("shape", [(OUT, IN), (2, OUT, IN), (1, IN), (OUT, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("transposed", [False, True])
def test_payload_gives_what_the_quantizer_reported(name: str, shape: tuple[int, ...], transposed: bool) -> None:
    tensor = weights(*shape)
    out, in_ = (shape[-1], shape[-2]) if transposed else (shape[-2], shape[-1])
    statistics = statistics_of(out, in_, shape[0] if len(shape) == 3 else 1, transposed)
    if transposed and name == "gptq mse groups" and shape[-2] > 16:  # groups would lie across the storage
        with pytest.raises(InputError, match="'w' is stored as"):
            quantize(CALIBRATED[name], tensor, statistics)
        return
    result = quantize(CALIBRATED[name], tensor, statistics)
    assert same_bits(result.tensor(), quantize(CALIBRATED[name], tensor, statistics).tensor())  # deterministic
    payload = generator.encode_state_dict(
        {"w": tensor}, {"rule": [{"pattern": "*", "quantizer": CALIBRATED[name]}]}, whole(tensor, statistics)
    )
    assert same_bits(generator.decode_payload(payload)["w"], result.tensor())


def whole(tensor: Tensor, statistics: TensorStatistics) -> Statistics:
    """Statistics of a model with the one weight w."""
    assert statistics.sequence is not None
    tensors = {
        "w:H": torch.stack([m.inputs for m in statistics.token]),
        "w:g": torch.stack([m.outputs for m in statistics.token]),
        "w:A": torch.stack([m.inputs for m in statistics.sequence]),
        "w:B": torch.stack([m.output_moment for m in statistics.sequence if m.output_moment is not None]),
    }
    return Statistics(
        "sequence", 1, 1, tensors, {"w": list(tensor.shape)}, {"w": ["w"]}, ["w"] if statistics.transposed else []
    )


def test_orientation_is_a_matter_of_storage_only() -> None:
    tensor, straight, across = weights(OUT, IN), statistics_of(), statistics_of(transposed=True)
    for name in ("gptq", "waterfill", "waterfill trellis", "ternary", "prune"):
        spec = {**CALIBRATED[name], "per": "row"} if name == "ternary" else CALIBRATED[name]
        assert same_bits(
            quantize(spec, tensor, straight).tensor(), quantize(spec, tensor.T.contiguous(), across).tensor().T.contiguous()
        )


@pytest.mark.parametrize(
    "spec", [CALIBRATED["waterfill"], {"id": "gptq", "scale": "sdclip"}, {"id": "rtn", "scale": "sdclip"}], ids=str
)
def test_outliers_survive(spec: dict) -> None:
    """A weight of 20 (and 2,000) standard deviations comes back within a step."""
    tensor = weights(OUT, IN)
    tensor[3, 4], tensor[5, 6] = 20.0, -2000.0
    statistics = statistics_of()
    result = quantize(spec, tensor, statistics).tensor()
    # GPTQ moves weights to make up for others; so the bound is one of relative size.
    assert abs(result[3, 4] - 20) < 5
    assert abs(result[5, 6] + 2000) < 100  # half a step of SDClip in a row with such a deviation


def test_outliers_go_beyond_int8() -> None:
    tensor = weights(4, 4096)
    tensor[3, 4] = 40.0
    result = quantize({"id": "rtn", "bits": 8, "scale": "sdclip", "k": 6.0}, tensor, None)
    assert result.arrays[0].dtype == np.dtype("<i2")
    assert abs(result.tensor()[3, 4] - 40) < 0.05
    clipped = quantize({"id": "rtn", "bits": 8, "scale": "sdclip", "k": 6.0, "clip": True}, tensor, None)
    assert clipped.tensor()[3, 4] < 8


@pytest.mark.parametrize("output", ["diagonal", "full"])
def test_a_row_within_the_guard_or_zero(output: str) -> None:
    matrix, statistics = weights(OUT, IN), dead_rows(statistics_of())
    h = statistics.token[0].inputs + 0.01 * statistics.token[0].inputs.diagonal().mean() * torch.eye(IN)
    shares, zeros = {}, {}
    for guard in (0.01, 1e9):
        spec = {"id": "waterfill", "alpha": 3.0, "output": output, "guard": guard}
        result = quantize(spec, matrix, statistics).tensor()
        error = result - matrix
        shares[guard] = ((error @ h) * error).sum(1) / ((matrix @ h) * matrix).sum(1)
        zeros[guard] = ~result.any(1)
    assert (shares[1e9] > 0.3).any()
    assert (zeros[0.01] | (shares[0.01] < 0.0101)).all()
    assert zeros[0.01].any()
    assert not zeros[0.01].all()


class DeadUnits(nn.Module):
    """An MLP 60 of whose 64 units are off on all inputs, and one of whose others matters far more than the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(16, 64, bias=False), nn.Linear(64, 8, bias=False)
        self.up.weight.data = weights(64, 16) / 2
        self.up.weight.data[4:, 0] -= 4
        self.down.weight.data = weights(8, 64, seed=1)
        self.down.weight.data[:, 0] *= 30

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)).square())


@pytest.mark.parametrize("output", ["diagonal", "full"])
def test_the_guard_lets_no_dead_unit_wake(output: str) -> None:
    def inputs(number: int, seed: int) -> Tensor:
        x = weights(number, 32, 16, seed=seed) / 2
        x[..., 0] = 1
        return x

    def squared_error(model: nn.Module, x: Tensor) -> Tensor:
        y = model(x)
        return (y - (y + torch.randn_like(y)).detach()).square().sum() / 2

    model, unseen = DeadUnits().eval(), inputs(64, 99)
    statistics = collect_statistics(model, [inputs(8, seed) for seed in range(4)], squared_error).find(["up.weight"])
    expected, original = model(unseen).detach(), model.up.weight.data
    assert (model.up(unseen)[..., 4:] > 0).float().mean() < 0.01
    errors = {}
    for guard in (0.1, 1e9):
        spec = {"id": "waterfill", "alpha": 3.0, "output": output, "guard": guard}
        model.up.weight.data = quantize(spec, original, statistics).tensor()
        errors[guard] = float((model(unseen).detach() - expected).square().mean() / expected.square().mean())
    assert errors[0.1] < 0.1
    assert errors[1e9] > 10


def test_the_guard_leaves_pruned_weights_alone() -> None:
    """Zeros that were asked for don't make a row's steps smaller."""
    matrix, statistics = weights(OUT, IN), statistics_of()
    mask = torch.arange(IN).expand(OUT, IN) % 2 == 0
    spec = {"id": "waterfill", "alpha": 1e-3}
    result = quantize(spec, matrix, statistics, mask)
    assert not result.tensor()[~mask].any()
    assert np.abs(result.arrays[1] - quantize(spec, matrix, statistics).arrays[1]).max() <= 4


def test_symbols_take_the_narrowest_dtype() -> None:
    for value, dtype in ((127, "|i1"), (-128, "<i2"), (32767, "<i2"), (-32768, "<i4"), (2**30, "<i4")):
        array = integers("w", torch.tensor([0.0, value]))
        assert array.dtype.str == dtype
        assert array[1] == value
    with pytest.raises(InputError, match="don't fit 32 bits"):
        integers("w", torch.tensor([1e12]))


def zeroed(statistics: TensorStatistics, inputs: bool, outputs: bool) -> TensorStatistics:
    def change(m: MatrixStatistics) -> MatrixStatistics:
        b = m.output_moment
        return MatrixStatistics(
            m.inputs * (not inputs), m.outputs * (not outputs), b * (not outputs) if b is not None else None
        )

    assert statistics.sequence is not None
    return TensorStatistics([change(m) for m in statistics.token], [change(m) for m in statistics.sequence], False)


def dead_rows(statistics: TensorStatistics) -> TensorStatistics:
    assert statistics.sequence is not None
    matrix = statistics.sequence[0]
    assert matrix.output_moment is not None
    b, a = matrix.output_moment.clone(), matrix.inputs.clone()
    b[:5], b[:, :5], a[7], a[:, 7] = 0, 0, 0, 0
    return TensorStatistics([MatrixStatistics(a, b.diagonal())], [MatrixStatistics(a, b.diagonal(), b)], False)


HARD: dict[str, Callable[[], tuple[Tensor, TensorStatistics]]] = {
    "H all zero": lambda: (weights(OUT, IN), zeroed(statistics_of(), True, False)),
    "g all zero": lambda: (weights(OUT, IN), zeroed(statistics_of(), False, True)),
    "rows with g = 0 and a dead input": lambda: (weights(OUT, IN), dead_rows(statistics_of())),
    "rank-deficient H": lambda: (weights(OUT, IN), statistics_of(rank=3)),
    "constant rows": lambda: (torch.ones(OUT, IN) * torch.arange(OUT)[:, None], statistics_of()),
    "all zero weights": lambda: (torch.zeros(OUT, IN), statistics_of()),
    "tiny weights": lambda: (weights(OUT, IN) * 1e-6, statistics_of()),
    "large weights": lambda: (weights(OUT, IN) * 1e3, statistics_of()),
    "no rows": lambda: (torch.zeros(0, 4), TensorStatistics([MatrixStatistics(torch.eye(4), torch.zeros(0))], None, False)),
}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", CALIBRATED)
def test_hard_inputs(hard: str, name: str) -> None:
    tensor, statistics = HARD[hard]()
    spec = CALIBRATED[name]
    result = quantize(spec, tensor, statistics).tensor()
    assert torch.isfinite(result).all()
    assert result.shape == tensor.shape
    if not tensor.any():
        assert not result.any()
    elif hard == "H all zero" and name.startswith(("waterfill", "gptq")):
        assert (result - tensor).norm() < 0.5 * tensor.norm()  # unseen is not unneeded


def test_nan_statistics_and_other_shapes_are_refused() -> None:
    tensor = weights(OUT, IN)
    statistics = statistics_of()
    statistics.token[0].inputs[0, 0] = torch.nan
    for name in ("gptq", "waterfill", "ternary"):
        with pytest.raises(InputError, match="'w' hold NaN"):
            quantize(CALIBRATED[name], tensor, statistics)
        with pytest.raises(
            InputError, match=f"'w' is {OUT}×{IN}, and its statistics are of 1 matrices with 3 outputs and 4 inputs"
        ):
            quantize(CALIBRATED[name], tensor, statistics_of(3, 4))
    for name in ("gptq", "waterfill", "prune"):
        with pytest.raises(InputError, match="'w' has no statistics"):
            quantize(CALIBRATED[name], tensor, None)
    token_only = TensorStatistics(statistics_of().token, None, False)
    with pytest.raises(InputError, match="per token only"):
        quantize({"id": "waterfill", "statistics": "sequence"}, tensor, token_only)


@pytest.mark.parametrize("name", ["ternary", "binary"])
@pytest.mark.parametrize("per", ["tensor", "row", "group"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_trained_ternary_and_binary_come_back_exactly(name: str, per: str, dtype: torch.dtype) -> None:
    source = torch.Generator().manual_seed(0)
    symbols = torch.randint(0, 2, (6, 20), generator=source) * 2 - 1
    if name == "ternary":
        symbols *= torch.randint(0, 2, (6, 20), generator=source)
    scales = torch.rand({"tensor": (1, 1), "row": (6, 1), "group": (6, 4)}[per], generator=source) + 0.1
    tensor = (symbols * scales.repeat_interleave(5 if per == "group" else 1, 1)).to(dtype)
    for statistics in (None, statistics_of(6, 20)):
        result = quantize({"id": name, "per": per, "group": 5}, tensor, statistics)
        assert torch.equal(result.tensor(), tensor)
        assert int(np.abs(result.arrays[0]).max()) == 1


def test_ternary_makes_up_for_its_zeros() -> None:
    tensor = weights(8, 256)
    result = quantize("ternary", tensor, None).tensor()
    absmean = tensor.abs().mean()
    plain = (tensor / absmean).round().clamp(-1, 1) * absmean
    assert (result - tensor).norm() < (plain - tensor).norm()
    assert (quantize("binary", tensor, None).arrays[0] != 0).all()


def test_pruning() -> None:
    tensor, statistics = weights(OUT, IN), statistics_of()
    for name in ("prune", "prune rtn"):
        zeros = quantize(CALIBRATED[name], tensor, statistics).arrays[0] == 0
        assert zeros.mean() >= 0.4
    pruned = quantize({"id": "prune", "fraction": 0.25, "then": "fp32"}, tensor, None).tensor()
    assert int((pruned == 0).sum()) == OUT * IN // 4
    assert tensor[pruned == 0].abs().max() <= tensor[pruned != 0].abs().min()
    for nested in ("nothing", "prune"):
        with pytest.raises(InputError, match="key 'then': unknown quantizer"):
            REGISTRY["prune"](fraction=0.5, then=nested)


@pytest.mark.parametrize("scale", ["absmax", "sdclip", "mse"])
@pytest.mark.parametrize("per", ["tensor", "row", "group"])
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_rtn_grids(scale: str, per: str, bits: int) -> None:
    tensor = weights(10, 33)
    result = quantize({"id": "rtn", "bits": bits, "scale": scale, "per": per, "group": 8}, tensor, None)
    symbols, scales = result.arrays
    assert scales.size == {"tensor": 1, "row": 10, "group": 50}[per]
    largest = 2 ** (bits - 1) - 1
    if scale != "sdclip":
        assert np.abs(symbols.astype(int)).max() <= largest
    error = (result.tensor() - tensor).norm()
    worst = float(scales.max()) / 2 + 1e-6
    if scale == "absmax":
        assert (result.tensor() - tensor).abs().max() <= worst + float(tensor.abs().max()) * 2**-11
    assert error <= tensor.norm() * (1 if bits == 2 else 0.3)
    if scale == "mse":
        absmax = quantize({"id": "rtn", "bits": bits, "scale": "absmax", "per": per, "group": 8}, tensor, None)
        assert error <= (absmax.tensor() - tensor).norm() * 1.001


def test_recipes_mix_precisions_and_name_what_lacks_statistics() -> None:
    state = {name: weights(8, 512, seed=seed) for seed, name in enumerate(("mlp.weight", "attention.weight", "embedding"))}
    rules = [
        {"pattern": "mlp.*", "quantizer": "int5"},
        {"pattern": "attention.*", "quantizer": {"id": "rtn", "bits": 6, "scale": "sdclip"}},
        {"pattern": "*", "quantizer": "int8"},
    ]
    loaded = generator.decode_payload(generator.encode_state_dict(state, {"rule": rules}))
    levels = {name: len(tensor[0].unique()) for name, tensor in loaded.items()}
    assert levels["mlp.weight"] < levels["embedding"]
    with pytest.raises(InputError, match="'mlp.weight' has no statistics, which waterfill needs: give --statistics"):
        generator.encode_state_dict(state, {"rule": [{"pattern": "*", "quantizer": "waterfill"}]})
    known = whole(state["mlp.weight"], statistics_of())
    with pytest.raises(InputError, match="doesn't match the checkpoint: not in the checkpoint: w"):
        generator.encode_state_dict(state, None, known)
    with pytest.raises(InputError, match="w is 3×4 in the checkpoint, 8×512 here"):
        generator.encode_state_dict({"w": weights(3, 4)}, None, known)
    with pytest.raises(InputError, match="alpha' is to be fitted; use golfpack fit"):
        generator.encode_state_dict(state, {"rule": [{"pattern": "*", "quantizer": {"id": "waterfill", "alpha": "fit"}}]})
