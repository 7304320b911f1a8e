"""Packing from within a training run: by one process, by several, from the packed file, and what stands in the way."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ROOT, run_python
from torch import nn

import golfpack
from generator.calibration import language_model_loss

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
BUDGET = 24_150  # some bytes more than what fits takes, since the code of a packed file is not always as long as the script's

# Trains nothing, but does all that a training script does around it.
SCRIPT = """
import json, os, sys, hashlib
import torch
import torch.distributed as dist
from torch import nn
from runtime_stub import load_state_dict


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(64, 96)
        self.up = nn.Linear(96, 160, bias=False)
        self.down = nn.Linear(160, 64)

    def forward(self, tokens):
        return self.down(torch.relu(self.up(self.embedding(tokens))))


def make():
    torch.manual_seed(7)
    return Model(), torch.randint(64, (7, 4, 33))


def digest(weights):
    return hashlib.sha256(b"".join(weights[name].numpy().tobytes() for name in sorted(weights))).hexdigest()


def main():
    rank = int(os.environ.get("RANK", 0))
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    if "--train" not in sys.argv:
        print(digest(load_state_dict()))
        return
    import golfpack

    model, tokens = make()
    if os.environ.get("UNLIKE") == str(rank):
        with torch.no_grad():
            model.up.weight[0, 0] += 1
    found = {}
    updates = int(os.environ.get("UPDATES", 0))
    tune = golfpack.TuneOptions(updates=updates) if updates else None
    budget = int(os.environ["BUDGET"])
    try:
        packed = golfpack.pack(model, list(tokens), output=os.environ["OUTPUT"], budget=budget, tune=tune, carrier="zip")
        fit = packed.fit
        found = {"size": packed.inspection.size, "digest": digest(packed.state_dict), "knob": fit.knob, "tuned": fit.tuned}
    except golfpack.GolfpackError as error:
        found = {"error": str(error), "kind": type(error).__name__}
    with open(os.path.join(os.environ["SEEN"], f"{rank}.json"), "w") as file:
        json.dump(found, file)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "train_gpt.py"
    path.write_text(SCRIPT)
    return path


def train(script: Path, folder: Path, processes: int, budget: int = BUDGET, **environment: str) -> list[dict[str, Any]]:
    """Run a script with --train; what each rank saw."""
    folder.mkdir()
    output = folder / "packed" / "train_gpt.py"
    launcher = [sys.executable] if processes == 1 else [*TORCHRUN, f"--nproc_per_node={processes}"]
    variables = {"OUTPUT": str(output), "BUDGET": str(budget), "SEEN": str(folder), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        [*launcher, str(script), "--train"], env={**os.environ, **variables}, cwd=folder, capture_output=True, timeout=280
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


@pytest.fixture(scope="module")
def alone(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run by one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    train(script, folder, 1)
    return folder


@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_write_what_one_does(script: Path, alone: Path, tmp_path: Path, processes: int) -> None:
    seen = train(script, tmp_path / "run", processes)
    assert seen == [json.loads((alone / "0.json").read_text())] * processes
    assert (tmp_path / "run" / "packed" / "train_gpt.py").read_bytes() == (alone / "packed" / "train_gpt.py").read_bytes()


def test_one_process_tunes_for_all(script: Path, alone: Path, tmp_path: Path) -> None:
    seen = [one for count in (1, 2) for one in train(script, tmp_path / f"of {count}", count, UPDATES="12")]
    assert seen == [seen[0]] * 3
    assert seen[0]["tuned"]
    output = tmp_path / "of 2" / "packed" / "train_gpt.py"
    assert output.read_bytes() == (tmp_path / "of 1" / "packed" / "train_gpt.py").read_bytes()
    assert 0.97 * BUDGET < seen[0]["size"] == output.stat().st_size <= BUDGET
    assert run_python(sys.executable, output, cwd=Path("/")).strip() == seen[0]["digest"]
    assert seen[0]["digest"] != json.loads((alone / "0.json").read_text())["digest"]


def test_all_get_what_the_file_loads(alone: Path) -> None:
    output = alone / "packed" / "train_gpt.py"
    seen = json.loads((alone / "0.json").read_text())
    assert seen["knob"] == "alpha"
    assert seen["size"] == output.stat().st_size
    assert 0.98 * BUDGET < seen["size"] <= BUDGET  # a model of such size has no finer steps
    assert run_python(sys.executable, output, cwd=Path("/")).strip() == seen["digest"]


def test_the_packed_file_trains_and_packs_itself_again(alone: Path, tmp_path: Path) -> None:
    packed = alone / "packed" / "train_gpt.py"
    seen = train(packed, tmp_path / "run", 1)
    again = tmp_path / "run" / "packed" / "train_gpt.py"
    assert seen[0]["digest"] == json.loads((alone / "0.json").read_text())["digest"]
    sources = [golfpack.unpack(path).source for path in (packed, again)]
    assert len({sum(1 for _ in ast.walk(ast.parse(source))) for source in sources}) == 1  # the same but for names
    assert run_python(sys.executable, again, cwd=Path("/")).strip() == seen[0]["digest"]


def test_what_one_rank_finds_wrong_all_say(script: Path, tmp_path: Path) -> None:
    seen = train(script, tmp_path / "unlike", 2, UNLIKE="1")
    assert {one["kind"] for one in seen} == {"InputError"}
    assert all("tensor 'up.weight' of rank 1 differs from that of rank 0" in one["error"] for one in seen)
    seen = train(script, tmp_path / "small", 2, budget=2000)
    assert all("fits the budget of 2,000 bytes" in one["error"] for one in seen)
    assert [one["kind"] for one in seen] == ["NothingFitsError"] * 2
    assert not (tmp_path / "small" / "packed").exists()


@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_kill_leaves_the_last_good_file_whole(script: Path, alone: Path, tmp_path: Path, moment: str) -> None:
    """Late: as soon as the new file appears beside the old one."""
    old = (alone / "packed" / "train_gpt.py").read_bytes()
    output = tmp_path / "train_gpt.py"
    output.write_bytes(old)
    variables = {"OUTPUT": str(output), "BUDGET": "20000", "SEEN": str(tmp_path), "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen([sys.executable, str(script), "--train"], env={**os.environ, **variables}, cwd=tmp_path)
    started = time.monotonic()
    while running.poll() is None and not (
        time.monotonic() - started > 4 if moment == "early" else any(tmp_path.glob(".golfpack-*"))
    ):
        time.sleep(0.001)
    running.kill()
    running.wait()
    assert golfpack.verify(output).passed
    assert output.read_bytes() == old or (moment == "late" and output.stat().st_size <= 20_000)


class Model(nn.Module):
    """For packing in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 24)
        self.inner = nn.Sequential(nn.Linear(24, 48, bias=False), nn.Dropout(0.5), nn.Linear(48, 32))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.inner(self.embedding(tokens))


@pytest.fixture
def loading(tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text("from runtime_stub import load_state_dict\nprint(sorted(load_state_dict()))\n")
    return path


@pytest.fixture
def model() -> Model:
    torch.manual_seed(3)
    return Model()


BATCHES = [torch.arange(66).reshape(2, 33) % 32 + n * 0 for n in range(2)]


def test_the_model_is_left_as_it_was(loading: Path, model: Model, tmp_path: Path) -> None:
    model.inner[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    torch.manual_seed(11)
    state = torch.get_rng_state()
    packed = golfpack.pack(model, BATCHES, output=tmp_path / "packed.py", script=loading, budget=9000)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == ["frozen"]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert packed.state_dict.keys() == before.keys()
    assert packed.fit is not None
    assert packed.fit.payload is None
    assert packed.inspection.size <= 9000


def test_what_trains_or_compiles_a_model_is_taken_off(loading: Path, model: Model, tmp_path: Path) -> None:
    plain = golfpack.pack(model, BATCHES, output=tmp_path / "a.py", script=loading, budget=9000)
    wrapped = torch.compile(nn.DataParallel(model).cpu())  # it takes a model to a GPU, if there is one
    other = golfpack.pack(wrapped, BATCHES, output=tmp_path / "b.py", script=loading, budget=9000)
    assert (tmp_path / "a.py").read_bytes() == (tmp_path / "b.py").read_bytes()
    assert plain.state_dict.keys() == other.state_dict.keys()


def test_tuning_in_the_run(loading: Path, model: Model, tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    common: dict[str, Any] = {"script": loading, "tune": golfpack.TuneOptions(updates=8)}
    packed = golfpack.pack(model, iter(BATCHES), output=tmp_path / "fitted.py", budget=9000, **common)
    assert packed.fit is not None
    assert packed.fit.tuned
    recipe = {"rule": [{"pattern": "*", "min_ndim": 2, "quantizer": "int4"}, {"pattern": "*", "quantizer": "fp16"}]}
    packed = golfpack.pack(model, BATCHES, output=tmp_path / "given.py", recipe=recipe, **common)
    golfpack.build(loading, before, tmp_path / "plain.py", recipe=recipe)
    loaded = golfpack.unpack(tmp_path / "given.py").state_dict
    assert all(torch.equal(loaded[name], tensor) for name, tensor in packed.state_dict.items())
    plain = golfpack.unpack(tmp_path / "plain.py").state_dict
    assert [name for name in plain if not torch.equal(plain[name], loaded[name])]
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    packed = golfpack.pack(model, BATCHES, output=tmp_path / "late.py", script=loading, budget=9000, tune=60, time_limit=0)
    assert packed.fit is not None
    assert not packed.fit.tuned
    lost = golfpack.pack(model, BATCHES, output=tmp_path / "lost.py", budget=9000, logits=lambda *_: None, **common)
    assert lost.fit is not None
    assert not lost.fit.tuned
    named = [{"tokens": batch} for batch in BATCHES]
    lost = golfpack.pack(
        model,
        named,
        output=tmp_path / "lost.py",
        budget=9000,
        loss=lambda one, batch: one(batch["tokens"]).square().sum(),
        **common,
    )
    assert lost.fit is not None
    assert not lost.fit.tuned
    size = golfpack.build(loading, before, tmp_path / "plain.py", recipe=recipe).size
    tight = golfpack.pack(model, BATCHES, output=tmp_path / "tight.py", recipe=recipe, budget=size, **common)
    assert tight.inspection.size <= size
    module = Model().eval()
    module.load_state_dict(before)
    tuner = golfpack.Tuner.of((module, BATCHES, language_model_loss()), golfpack.TuneOptions(updates=8))
    assert golfpack.build(loading, before, tmp_path / "tight.py", recipe=recipe, budget=size, tune=tuner).size <= size
    with pytest.raises(golfpack.InputError, match="tuning needs batches"):
        golfpack.pack(model, output=tmp_path / "none.py", **common)
    with pytest.raises(golfpack.InputError, match="self-generated sequences are for fit and build"):
        golfpack.Packer(tmp_path / "none.py", script=loading, tune=golfpack.TuneOptions(self_generate=8))
    for tune in (0, "long", True):
        with pytest.raises(golfpack.InputError, match="a number of seconds above 0"):
            golfpack.Packer(tmp_path / "none.py", script=loading, tune=tune)
    assert not (tmp_path / "none.py").exists()


def test_tuning_calls_no_hooks_of_the_training(loading: Path, model: Model, tmp_path: Path) -> None:
    """They may step an optimizer, or wait for the other processes."""
    called = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda _, name=name: called.append(name))
    options = golfpack.TuneOptions(updates=8)
    packed = golfpack.pack(model, BATCHES, output=tmp_path / "packed.py", script=loading, budget=9000, tune=options)
    assert packed.fit is not None
    assert packed.fit.tuned
    assert not called


def test_a_recipe_without_a_mark_is_packed_as_it_is(loading: Path, model: Model, tmp_path: Path) -> None:
    recipe = {"rule": [{"pattern": "*", "min_ndim": 2, "quantizer": "int4"}, {"pattern": "*", "quantizer": "fp16"}]}
    packed = golfpack.pack(model, output=tmp_path / "packed.py", script=loading, recipe=recipe)
    assert packed.fit is None
    golfpack.build(loading, model.state_dict(), tmp_path / "built.py", recipe=recipe)
    assert (tmp_path / "packed.py").read_bytes() == (tmp_path / "built.py").read_bytes()


def test_however_little_time_there_is_there_is_a_file(loading: Path, model: Model, tmp_path: Path) -> None:
    packed = golfpack.pack(model, BATCHES, output=tmp_path / "packed.py", script=loading, budget=9000, time_limit=0)
    assert packed.inspection.size == (tmp_path / "packed.py").stat().st_size <= 9000
    assert packed.fit is not None
    assert packed.fit.points[-1] == packed.fit.best


def test_what_stands_in_the_way_is_told_before_the_training(loading: Path, tmp_path: Path) -> None:
    def packer(output: Path = tmp_path / "packed.py", **options: Any) -> golfpack.Packer:
        return golfpack.Packer(output, **{"script": loading, **options})

    packer()
    with pytest.raises(golfpack.InputError, match="is an input, too"):
        packer(loading)
    other = tmp_path / "other.py"
    other.write_text("print(1)\n")
    with pytest.raises(golfpack.InputError, match="never loads its weights"):
        packer(script=other)
    with pytest.raises(golfpack.InputError, match="does not exist"):
        packer(script=tmp_path / "missing.py")
    with pytest.raises(golfpack.InputError, match="unknown carrier"):
        packer(carrier="paper")
    with pytest.raises(golfpack.InputError, match="unknown quantizer 'int99'"):
        packer(recipe={"rule": [{"pattern": "*", "quantizer": "int99"}]})
    search = {"id": "waterfill", "alpha": "fit", "damping": {"search": [0.01, 0.1]}}
    with pytest.raises(golfpack.InputError, match="marks options for a study"):
        packer(recipe={"rule": [{"pattern": "*", "quantizer": search}]})
    with pytest.raises(golfpack.InputError, match="time limit must be a number of seconds"):
        packer(time_limit=-1)
    with pytest.raises(golfpack.InputError, match="budget must be a whole number"):
        packer(budget=0)
    with pytest.raises(golfpack.InputError, match="loss must be a function"):
        packer(loss=3.0)
    with pytest.raises(golfpack.InputError, match=r"statistics must be 'token' or 'sequence', not 'both'"):
        packer(statistics="both")
    with pytest.raises(TypeError, match="unexpected keyword argument 'carrrier'"):
        packer(carrrier="zip")


def test_what_is_no_model_is_refused(loading: Path, tmp_path: Path) -> None:
    with pytest.raises(golfpack.InputError, match=r"must be an nn\.Module, not dict"):
        golfpack.pack({}, BATCHES, output=tmp_path / "packed.py", script=loading)


def test_an_interactive_session_has_no_script(tmp_path: Path) -> None:
    code = "import golfpack\ntry:\n golfpack.Packer('x.py')\nexcept golfpack.InputError as e: print(e)"
    said = run_python(sys.executable, "-c", code, cwd=tmp_path, environment={"PYTHONPATH": str(ROOT)})
    assert "golfpack can't tell which file is running" in said
