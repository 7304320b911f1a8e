"""Calibration: which uses of a weight are found, what is summed, sampling, several processes, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from generator.calibration import calibrate, collect_statistics, generate, language_model_loss
from generator.calibration.aliases import Block
from generator.calibration.factors import factors
from generator.calibration.language_model import draw
from generator.calibration.sums import combine
from generator.calibration.watch import Use
from generator.errors import InputError
from generator.statistics import Statistics, load_statistics
from generator.triangles import unpack

VOCABULARY, WIDTH = 11, 6


class Plain(nn.Module):
    """Tied embedding, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.layer = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(torch.tanh(self.layer(self.embedding(tokens))), self.embedding.weight)


def loss_of(model: nn.Module, batch: Tensor) -> Tensor:
    logits = model(batch[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum")


def batches(count: int = 2, sequences: int = 3, length: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(VOCABULARY, (sequences, length), generator=generator) for _ in range(count)]


def moment(statistics: Statistics, name: str, key: str) -> Tensor:
    """The first matrix of a moment, whole."""
    return unpack(statistics.tensors[f"{name}:{key}"][0], statistics.width(name, key))


def expected_moments(model: nn.Module, name: str, loss: Any = loss_of) -> tuple[Tensor, Tensor]:
    """A and B of a weight, from float64 gradients of one sequence at a time by autograd."""
    exact = copy.deepcopy(model).double()
    weight = dict(exact.named_parameters())[name]
    gradients, tokens = [], 0
    for sequence in torch.cat(batches()).split(1):
        exact.zero_grad()
        loss(exact, sequence).backward()
        assert weight.grad is not None
        gradients.append(weight.grad.clone())
        tokens += sequence.shape[1] - 1
    a = sum((g.mT @ g for g in gradients), torch.zeros(1)) / tokens
    inverse = torch.linalg.inv(a + 0.01 * a.diagonal().mean() * torch.eye(len(a)))
    b = sum((g @ inverse @ g.mT for g in gradients), torch.zeros(1)) / (len(a) * tokens)
    return a, b


def assert_moments(model: nn.Module, statistics: Statistics, name: str, loss: Any = loss_of) -> None:
    a, b = expected_moments(model, name, loss)
    torch.testing.assert_close(moment(statistics, name, "A").double(), a, rtol=1e-5, atol=1e-6 * float(a.abs().max()))
    found = statistics.tensors[f"{name}:B"][0].double()
    if len(found) == len(b):
        torch.testing.assert_close(found, b.diagonal(), rtol=1e-4, atol=1e-6 * float(b.abs().max()))
    else:
        torch.testing.assert_close(unpack(found, len(b)), b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def test_moments_are_those_of_autograd() -> None:
    """H and g of a layer against gradients computed one token at a time, A and B against those of one sequence at a time."""
    model = Plain().eval()
    statistics = collect_statistics(model, batches(), loss_of)
    assert all(parameter.requires_grad for parameter in model.parameters())
    tokens = 2 * 3 * 4
    assert (statistics.tokens, statistics.sequences) == (tokens, 6)
    inputs, outputs = [], []
    for sequence in torch.cat(batches()).split(1):
        x = model.embedding(sequence[:, :-1]).detach()
        y = model.layer(x).detach().requires_grad_()
        logits = functional.linear(torch.tanh(y), model.embedding.weight)
        functional.cross_entropy(logits.flatten(0, 1), sequence[:, 1:].flatten(), reduction="sum").backward()
        inputs.append(x[0])
        outputs.append(y.grad[0])
    x, d = torch.cat(inputs), torch.cat(outputs)
    torch.testing.assert_close(moment(statistics, "layer.weight", "H"), x.T @ x / tokens)
    torch.testing.assert_close(statistics.tensors["layer.weight:g"][0], d.square().mean(0))
    for name in ("layer.weight", "embedding.weight"):  # the tied weight's gradient has both of its uses
        assert_moments(model, statistics, name)


class Shapes(nn.Module):
    """Layers wide and narrow, a look-up of its own, one tied to a head, a layer used in a loop, and one used in slices."""

    def __init__(self, wide: int = 40, narrow: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.tied = nn.Embedding(VOCABULARY, WIDTH)
        self.own = nn.Embedding(VOCABULARY, WIDTH)
        self.up = nn.Linear(WIDTH, wide, bias=False)
        self.down = nn.Linear(wide, narrow, bias=False)
        self.back = nn.Linear(narrow, WIDTH, bias=False)
        self.looped = nn.Linear(WIDTH, WIDTH, bias=False)
        self.sliced = nn.Parameter(torch.randn(2 * WIDTH, 2 * WIDTH) / WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tied(tokens) + self.own(tokens)
        x = x + self.back(self.down(torch.tanh(self.up(x))))
        for _ in range(3):
            x = x + torch.tanh(self.looped(x))
        x = x + functional.linear(x, self.sliced[:WIDTH, WIDTH:]) + functional.linear(x.tanh(), self.sliced[WIDTH:, :WIDTH])
        return functional.linear(x, self.tied.weight)


@pytest.mark.parametrize("limit", [4096, 5])
@pytest.mark.parametrize("scratch", [1 << 24, 1])
def test_every_way_to_a_moment_is_that_of_autograd(limit: int, scratch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through gradients or without them, of whole and diagonal output sides, all sequences at once or one at a time."""
    monkeypatch.setattr("generator.calibration.sums.FULL_OUTPUT_LIMIT", limit)
    monkeypatch.setattr("generator.calibration.results.FULL_OUTPUT_LIMIT", limit)
    monkeypatch.setattr("generator.calibration.factors.SCRATCH", scratch)
    monkeypatch.setattr("generator.calibration.moments.STRIP", 4)
    model = Shapes().eval()
    statistics = collect_statistics(model, batches(), loss_of)
    assert sorted(statistics.shapes) == sorted(name for name, _ in model.named_parameters())
    for name in statistics.shapes:
        assert_moments(model, statistics, name)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 1000))
def test_products_of_factors_are_those_of_gradients(
    sequences: int, length: int, outputs: int, inputs: int, tied: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    block = Block("w", 0, False, (0, outputs), (0, inputs))

    def use(looked_up: bool) -> Use:
        x = torch.randn(sequences * length, inputs, generator=generator)
        if looked_up:
            return Use(block, "embedding", x, torch.randint(outputs, (len(x),), generator=generator))
        return Use(block, "linear", x, torch.randn(len(x), outputs, generator=generator))

    uses = [use(True), use(not tied), use(True)]
    (part,) = factors(uses, sequences, outputs, inputs)
    dense = [functional.one_hot(u.outputs, outputs).float() if u.kind == "embedding" else u.outputs for u in uses]
    d = torch.cat([one.unflatten(0, (sequences, length)) for one in dense], 1)
    x = part.all_inputs()
    torch.testing.assert_close(part.gradients(), d.mT @ x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(part.output_products(), d @ d.mT, rtol=1e-4, atol=1e-4)
    assert part.all_looked_up == (not tied)
    if not tied:
        rows, numbers = part.gradients_of_rows()
        gathered = torch.zeros(outputs, inputs).index_add_(0, numbers, rows)
        torch.testing.assert_close(gathered, (d.mT @ x).sum(0), rtol=1e-4, atol=1e-4)


def test_inputs_overwritten_in_place_are_not_taken_for_those_before() -> None:
    class Overwriting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embedding = nn.Embedding(VOCABULARY, WIDTH)
            self.first = nn.Linear(WIDTH, WIDTH, bias=False)
            self.second = nn.Linear(WIDTH, VOCABULARY, bias=False)

        def forward(self, tokens: Tensor) -> Tensor:
            x = self.embedding(tokens)
            y = self.first(x)
            x.mul_(3.0)
            return self.second(x) + functional.pad(y, (0, VOCABULARY - WIDTH))

    statistics = collect_statistics(Overwriting().eval(), batches(), loss_of, kind="token")
    first, second = (moment(statistics, f"{name}.weight", "H") for name in ("first", "second"))
    torch.testing.assert_close(second, 9 * first)


def test_one_use_combines_to_itself_and_equal_uses_add_up() -> None:
    h, g = torch.eye(4) * 3, torch.tensor([1.0, 2.0])
    assert combine([(h, g)]) == (h, g)
    total, rows = combine([(h, g), (h, g)])
    torch.testing.assert_close(rows[:, None, None] * total, 2 * g[:, None, None] * h, rtol=0.02, atol=0)


class Uses(nn.Module):
    """The same product y = W x in ways that models write it."""

    def __init__(self, how: str):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        shape = {"bank": (3, WIDTH, WIDTH), "rows": (3 * WIDTH, WIDTH), "bank flattened": (3, WIDTH, WIDTH)}
        self.weight = nn.Parameter(torch.randn(shape.get(how, (WIDTH, WIDTH))))

    def product(self, x: Tensor) -> Tensor:
        weight = self.weight
        return {
            "linear": lambda: functional.linear(x, weight),
            "matmul": lambda: x @ weight.T,
            "torch.matmul": lambda: torch.matmul(x, weight.t()),
            "mm": lambda: torch.mm(x.flatten(0, 1), weight.T).view(x.shape),
            "addmm": lambda: torch.addmm(torch.zeros(WIDTH), x.flatten(0, 1), weight.T).view(x.shape),
            "left": lambda: (weight @ x.flatten(0, 1).T).T.reshape(x.shape),
            "cast": lambda: functional.linear(x.double(), weight.double()).float(),
            "transposed": lambda: x @ weight,
            "bank": lambda: functional.linear(x, weight[1]),
            "rows": lambda: functional.linear(x, weight[WIDTH : 2 * WIDTH]),
            "bank flattened": lambda: functional.linear(x, weight.view(3 * WIDTH, WIDTH))[..., WIDTH : 2 * WIDTH],
            "twice": lambda: functional.linear(functional.linear(x, weight), weight),
            "frozen": lambda: functional.linear(x, weight.detach()),
        }[self.how]()

    def forward(self, tokens: Tensor) -> Tensor:
        y = self.product(self.embedding(tokens))
        return torch.cat((y, y[..., : VOCABULARY - WIDTH]), -1)


@pytest.mark.parametrize(
    "how", ["matmul", "torch.matmul", "mm", "addmm", "left", "cast", "frozen", "transposed", "bank", "rows", "bank flattened"]
)
def test_every_way_to_write_a_product_is_found(how: str) -> None:
    model, reference = Uses(how).eval(), Uses("linear").eval()
    with torch.no_grad():
        stacked = model.weight.numel() > WIDTH * WIDTH
        part = model.weight.view(3, WIDTH, WIDTH)[1] if stacked else model.weight.T if how == "transposed" else model.weight
        reference.weight.copy_(part)
        reference.embedding.weight.copy_(model.embedding.weight)
    found = collect_statistics(model, batches(), loss_of).find(["weight"])
    expected = collect_statistics(reference, batches(), loss_of).find(["weight"])
    assert found is not None
    assert expected is not None
    assert found.transposed == (how == "transposed")
    assert found.sequence is not None
    assert expected.sequence is not None
    matrix_number = 1 if how in ("bank", "bank flattened") else 0
    rows = slice(WIDTH, 2 * WIDTH) if how == "rows" else slice(0, WIDTH)
    for mine, theirs in zip(
        (found.token[matrix_number], found.sequence[matrix_number]), (expected.token[0], expected.sequence[0]), strict=True
    ):
        torch.testing.assert_close(mine.inputs, theirs.inputs, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(mine.outputs[rows], theirs.outputs, rtol=1e-3, atol=1e-6)
    if how == "bank":  # its other matrices were never used
        assert not found.token[0].inputs.any()


def test_a_weight_used_twice_adds_both_uses() -> None:
    model = Uses("twice").eval()
    statistics = collect_statistics(model, batches(), loss_of)
    x = model.embedding(torch.cat(batches())[:, :-1]).flatten(0, 1).detach()
    y = (x @ model.weight.T).detach()
    torch.testing.assert_close(moment(statistics, "weight", "H"), (x.T @ x + y.T @ y) / len(x), rtol=1e-4, atol=1e-5)


class Odd(nn.Module):
    """A linear layer next to weights that can't be attributed."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY)
        self.einsum = nn.Parameter(torch.eye(WIDTH))
        self.unused = nn.Parameter(torch.eye(WIDTH))
        self.dropped = nn.Parameter(torch.eye(WIDTH))
        self.blind = nn.Parameter(torch.eye(WIDTH))
        self.strided = nn.Parameter(torch.randn(2 * WIDTH, WIDTH))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        x = torch.einsum("btd,ed->bte", x, self.einsum)
        with torch.no_grad():
            y = functional.linear(x, self.blind)
        functional.linear(x, self.dropped)
        x = x + y
        x = x + functional.linear(x, self.strided[::2])
        x.relu_()  # in place, on something that was watched
        return self.head(x)


def test_weights_that_cannot_be_attributed_are_listed_with_the_reason() -> None:
    statistics = collect_statistics(Odd().eval(), batches(), loss_of)
    assert sorted(statistics.shapes) == ["embedding.weight", "head.weight"]
    assert "einsum" in statistics.missing["einsum"]
    assert "no matrix product" in statistics.missing["unused"]
    assert "gradients are switched off" in statistics.missing["blind"]
    assert "no gradient" in statistics.missing["dropped"]
    assert "strided" in statistics.missing["strided"]


def test_statistics_survive_the_file_and_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        collect_statistics(Plain().eval(), batches(), language_model_loss(), seed=3).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    collect_statistics(Plain().eval(), batches(), language_model_loss(), seed=4).save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()
    loaded = load_statistics(tmp_path / "a")
    assert loaded.names["embedding.weight"] == ["embedding.weight"]
    assert loaded.kind == "sequence"


def test_sampled_labels_make_g_the_fisher_diagonal() -> None:
    """E over labels of the gradient's square, known in closed form at the logits: p (1 − p)."""
    model = Uses("linear").eval()
    logits = model(torch.cat(batches(800))[:, :-1]).softmax(-1)
    statistics = collect_statistics(model, batches(800), language_model_loss(), kind="token")
    p = logits.flatten(0, 1)
    folded = torch.zeros(WIDTH)
    for output in range(WIDTH):  # outputs are used once or twice as logits
        columns = [c for c in range(VOCABULARY) if c % WIDTH == output]
        share = p[:, columns].sum(1)
        folded[output] = (share * (1 - share)).mean()
    torch.testing.assert_close(statistics.tensors["weight:g"][0], folded, rtol=0.1, atol=0)


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    likely = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    generator = torch.Generator().manual_seed(3)
    drawn = draw(likely.expand(100_000, 6), generator).flatten()
    assert (torch.bincount(drawn, minlength=6) / 100_000 - likely).abs().max() < 0.01
    assert set(drawn.tolist()) == {1, 3, 4}
    assert torch.equal(draw(likely.expand(100_000, 6) * 3, torch.Generator().manual_seed(3)).flatten(), drawn)
    # A loss of NaN is what tells of these.
    assert draw(torch.full((2, 6), torch.nan)).flatten().tolist() == [5, 5]


def test_generated_sequences_follow_the_model() -> None:
    class Next(nn.Module):
        """Token t is followed by t + 1, almost surely, or by t + 2."""

        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, tokens: Tensor) -> Tensor:
            one = functional.one_hot((tokens + 1) % VOCABULARY, VOCABULARY)
            return 12.0 * one + 4.0 * functional.one_hot((tokens + 2) % VOCABULARY, VOCABULARY)

    sampled = generate(Next(), 5, 7, batch=2, start=0, top_k=1)
    assert [len(part) for part in sampled] == [2, 2, 1]
    assert all(torch.equal(row, torch.arange(8)) for part in sampled for row in part)
    hot = torch.cat(generate(Next(), 200, 4, temperature=20.0, batch=200))
    assert len(hot[:, 0].unique()) == VOCABULARY
    assert (hot[:, 1:] != (hot[:, :-1] + 1) % VOCABULARY).any()
    assert torch.equal(hot, torch.cat(generate(Next(), 200, 4, temperature=20.0, batch=200)))


def test_self_generated_calibration_needs_no_batches() -> None:
    statistics = calibrate((Plain().eval(), [], loss_of), self_generate=4, length=6, batch=2)
    assert (statistics.tokens, statistics.sequences) == (24, 4)
    with pytest.raises(InputError, match="--length"):
        calibrate((Plain().eval(), [], loss_of), self_generate=4)


def refusals() -> dict[str, tuple[Callable[[], Any], str]]:
    compiled = Plain().eval()
    return {
        "training mode": (lambda: calibrate((Plain(), batches(), loss_of)), "training mode"),
        "two values": (lambda: calibrate((compiled, batches())), "must return"),
        "no batches": (lambda: calibrate((compiled, [], loss_of)), "no batches"),
        "vector loss": (lambda: calibrate((compiled, batches(), lambda m, b: m(b).sum((0, 1)))), "scalar"),
        "NaN loss": (lambda: calibrate((compiled, batches(), lambda m, b: m(b).sum() * torch.nan)), "loss is nan on batch 1"),
        "nothing seen": (lambda: calibrate((compiled, batches(), lambda m, b: b.float().sum())), "no use of a weight"),
        "no tensor": (lambda: calibrate((compiled, ["text"], loss_of)), "first dimension counts sequences"),
        "odd rows": (
            lambda: calibrate((compiled, batches(), lambda m, b: loss_of(m, b[:2]))),
            "8 rows in a batch of 3 sequences",
        ),
    }


@pytest.mark.parametrize("name", refusals())
def test_refusals(name: str) -> None:
    action, message = refusals()[name]
    with pytest.raises(InputError, match=message):
        action()


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nothing", "does not name a function"),
        ("nowhere.py:f", "nowhere.py does not exist"),
        ("no_such_module:f", "can't be imported"),
        ("generator.errors:missing", "has no function 'missing'"),
    ],
)
def test_functions_that_cannot_be_found(golfpack, tmp_path: Path, where: str, message: str) -> None:
    result = golfpack("calibrate", where, "-o", tmp_path / "out.safetensors")
    assert result.status == 2
    assert message in result.err
    assert not list(tmp_path.iterdir())


class LoopedBlock(nn.Module):
    """A block (attention and MLP, with its residuals) passed three times between a tied embedding and its head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.mixed, self.out = (nn.Linear(WIDTH, width, bias=False) for width in (3 * WIDTH, WIDTH))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH, bias=False), nn.Linear(2 * WIDTH, WIDTH, bias=False)
        self.inputs: dict[str, list[Tensor]] = {}

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for _ in range(3):
            q, k, v = self.product("mixed", x).chunk(3, -1)
            x = x + self.product("out", functional.scaled_dot_product_attention(q, k, v, is_causal=True))
            x = x + self.product("down", torch.relu(self.product("up", x)).square())
        return functional.linear(x, self.embedding.weight)

    def product(self, name: str, x: Tensor) -> Tensor:
        self.inputs.setdefault(name, []).append(x.detach().flatten(0, -2))
        y: Tensor = getattr(self, name)(x)
        return y


def test_a_looped_block_is_calibrated_over_all_its_passes() -> None:
    """H is summed over all passes; A and B are of gradients summed over uses."""
    model = LoopedBlock().eval()
    statistics = collect_statistics(model, batches(), loss_of)
    assert sorted(statistics.shapes) == sorted(name for name, _ in model.named_parameters())
    for name in statistics.shapes:
        assert_moments(model, statistics, name)
    model.inputs.clear()
    for batch in batches():
        model(batch[:, :-1])
    tokens = sum(batch[:, :-1].numel() for batch in batches())
    for name in ("mixed", "out", "up", "down"):
        x = torch.cat(model.inputs[name])
        assert len(x) == 3 * tokens
        torch.testing.assert_close(moment(statistics, f"{name}.weight", "H"), x.T @ x / tokens, rtol=1e-4, atol=1e-5)
