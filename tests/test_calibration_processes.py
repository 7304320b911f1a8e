"""Calibration by several processes: the statistics of one, bit for bit; all end together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_calibration import Plain, Shapes, batches, loss_of
from torch import Tensor, nn
from torch.nn import functional

from generator.calibration import calibrate, collect_statistics, language_model_loss, process_group
from generator.calibration.processes import place
from generator.deadline import Deadline
from generator.errors import InputError
from generator.statistics import Statistics, load_statistics

ROOT = Path(__file__).parent.parent


class Experts(nn.Module):
    """A layer for sequences that begin with an even token, one for the others, and one that is dropped now and then."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6)
        self.experts = nn.ModuleList(nn.Linear(6, 11, bias=False) for _ in range(2))
        self.dropped = nn.Parameter(torch.eye(6))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        even = tokens[0, 0] % 2 == 0
        if even:
            torch.einsum("btd,ed->bte", x, self.dropped)
        else:
            functional.linear(x, self.dropped)
        expert: Tensor = self.experts[0 if even else 1](x)
        return expert


def magnitudes() -> list[Tensor]:
    """Batches whose moments differ by many powers of two."""
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(2, 4, 6, generator=generator) * 10.0**power for power in (-9, 3, 0, 9, -3)]


def squares(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().sum()


def own() -> list[Tensor]:
    rank, world = place()
    return batches(5)[rank::world]


def experts() -> list[Tensor]:
    """The first and the third begin with an even token, and so only the even processes of two or four see that expert."""
    made = batches(3)
    for number, batch in enumerate(made):
        batch[:, 0] = number
    return made


SAME: dict[str, Callable[[], Statistics]] = {
    "shared": lambda: collect_statistics(Shapes().eval(), batches(3), language_model_loss(), shared=True, seed=5),
    "own": lambda: collect_statistics(Shapes().eval(), own(), language_model_loss(), seed=5),
    "token": lambda: collect_statistics(Shapes().eval(), batches(5), loss_of, kind="token", shared=True),
    "sampled": lambda: calibrate((Plain().eval(), [], loss_of), self_generate=5, length=6, batch=2, shared=True),
    "experts": lambda: collect_statistics(Experts().eval(), experts(), loss_of, shared=True),
    "magnitudes": lambda: collect_statistics(nn.Linear(6, 3).eval(), magnitudes(), squares, shared=True),
}


def failing_loss(model: nn.Module, batch: Tensor) -> Tensor:
    return loss_of(model, batch) * (torch.nan if torch.equal(batch, batches(3)[1]) else 1)


FAILING: dict[str, Callable[[], Any]] = {
    "a loss on one batch": lambda: collect_statistics(Plain().eval(), batches(3), failing_loss, shared=True),
    "no batches": lambda: collect_statistics(Plain().eval(), [], loss_of),
    "other numbers": lambda: collect_statistics(Plain().eval(), batches(2 + place()[0]), loss_of, shared=True),
    "unfollowed": lambda: collect_statistics(Plain().eval(), batches(3), lambda m, b: loss_of(m, b).detach(), shared=True),
}


def main(folder: Path) -> None:
    """What each process does; the first writes what it found."""
    with process_group() as rank:
        world = place()[1]
        for name, collect in SAME.items():
            torch.manual_seed(7)
            statistics = collect()
            if not rank:
                statistics.save(folder / f"{name} by {world}")
        messages = {}
        for name, fail in FAILING.items():
            try:
                fail()
                messages[name] = "no error"
            except InputError as error:
                messages[name] = str(error)
        limited = collect_statistics(Plain().eval(), batches(7), loss_of, shared=True, deadline=Deadline.after(0))
        messages["left out"] = str(limited.left_out)
        (folder / f"messages of {rank} of {world}").write_text(json.dumps(messages))


def run(folder: Path, world: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "WORLD_SIZE": str(world),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, folder],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    for process in processes:
        _, messages = process.communicate(timeout=300)
        assert process.returncode == 0, messages


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one, two and four processes found."""
    folder = tmp_path_factory.mktemp("processes")
    for world in (1, 2, 4):
        run(folder, world)
    return folder


@pytest.mark.parametrize("name", SAME)
def test_one_two_and_four_processes_write_the_same_bytes(name: str, results: Path) -> None:
    one, two, four = ((results / f"{name} by {world}").read_bytes() for world in (1, 2, 4))
    assert one == two
    assert one == four


def messages(results: Path, world: int) -> list[dict[str, str]]:
    return [json.loads((results / f"messages of {rank} of {world}").read_text()) for rank in range(world)]


def test_where_one_process_fails_all_do(results: Path) -> None:
    (one,) = messages(results, 1)
    assert one["a loss on one batch"] == "the calibration's loss is nan on batch 2"
    assert one["other numbers"] == "no error"
    for world in (2, 4):
        found = messages(results, world)
        for rank, said in enumerate(found):
            prefix = "" if rank == 1 else "process 1 failed: "
            assert said["a loss on one batch"] == f"{prefix}the calibration's loss is nan on batch 2"
            assert said["no batches"] == "calibration has no batches"
            assert said["other numbers"].startswith("shared batches must be the same for all processes")
            assert "no use of a weight could be followed" in said["unfollowed"]


def test_a_time_limit_leaves_each_process_one_batch(results: Path) -> None:
    for world in (1, 2, 4):
        assert {said["left out"] for said in messages(results, world)} == {str(7 - world)}


CALIBRATION_FILE = """
import sys
sys.path.insert(0, {tests!r})
from test_calibration import Plain, batches, loss_of


def calibration():
    return Plain().eval(), batches(4), loss_of
"""


def test_the_command_takes_shares_and_a_time_limit(golfpack, tmp_path: Path) -> None:
    file = tmp_path / "calibration_file.py"
    file.write_text(CALIBRATION_FILE.format(tests=str(Path(__file__).parent)))
    done = golfpack("calibrate", f"{file}:calibration", "--shared", "-o", tmp_path / "one")
    assert done.status == 0, done.err
    assert "2 weights, 48 tokens in 12 sequences" in done.out
    assert "no time for" not in done.out
    cut = golfpack("calibrate", f"{file}:calibration", "--time-limit", "0", "-o", tmp_path / "two")
    assert cut.status == 0, cut.err
    assert "2 weights, 12 tokens in 3 sequences" in cut.out
    assert "no time for 3 more batches" in cut.out
    assert load_statistics(tmp_path / "two").left_out == 3
    refused = golfpack("calibrate", f"{file}:calibration", "--time-limit", "nan", "-o", tmp_path / "three")
    assert refused.status == 2
    assert not (tmp_path / "three").exists()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
