"""Loading under torchrun: one process of each node decodes, the others receive the same bits."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import generator

SCRIPT = """
import hashlib, json, os, torch, lzma
import torch.distributed as dist
from runtime_stub import load_state_dict
decoded = []
original = lzma.LZMADecompressor
def counting(*args, **kwargs):
    decoded.append(1)
    return original(*args, **kwargs)
lzma.LZMADecompressor = counting
rank = int(os.environ.get("RANK", 0))
if os.environ["GROUP"] == "1":
    dist.init_process_group("gloo")
def peak_memory(): return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before = peak_memory()
state_dict = load_state_dict()
peak = peak_memory() - before
digest = {
    name: [str(t.dtype), list(t.shape), hashlib.sha256(t.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()]
    for name, t in state_dict.items()
}
with open(os.path.join(os.environ["OUT"], f"{os.environ['GROUP']}.{rank}.json"), "w") as file:
    json.dump({"digest": digest, "decoded": len(decoded), "peak": peak}, file)
if dist.is_initialized():
    dist.destroy_process_group()
"""


WEIGHTS = {
    "matrix": torch.randn(1500, 2000, generator=torch.Generator().manual_seed(0)),
    "steps": torch.tensor(7),
    "flags": torch.tensor([True, False]),
    "half": torch.randn(64, generator=torch.Generator().manual_seed(1)).bfloat16(),
    "empty": torch.zeros(0, 3),
}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    (folder / "script.py").write_text(SCRIPT)
    recipe = {"codec": "zlib", "rule": [{"pattern": "*", "quantizer": "int6"}]}
    generator.build(folder / "script.py", WEIGHTS, folder / "train_gpt.py", carrier="latin1", recipe=recipe)
    return folder / "train_gpt.py"


def run_together(commands: list[list[str]], folder: Path, group: bool, *more: dict[str, str]) -> list[dict[str, Any]]:
    """Run the commands at the same time, each with `more` of an environment; what the ranks found, in order."""
    environment = {**os.environ, "OUT": str(folder), "GROUP": str(int(group)), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command, env={**environment, **extra}, cwd="/")
        for command, extra in zip(commands, more or [{}] * len(commands), strict=True)
    ]
    try:
        assert [process.wait(timeout=200) for process in running] == [0] * len(commands)
    finally:
        for process in running:
            process.kill()
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{int(group)}.*.json"))]


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def test_one_decode_for_all(packed: Path, tmp_path: Path) -> None:
    command = [*TORCHRUN, "--standalone", "--nproc_per_node=2", str(packed)]
    apart = run_together([command], tmp_path, False)
    together = run_together([command], tmp_path, True)
    assert apart[0]["digest"] == apart[1]["digest"] == together[0]["digest"] == together[1]["digest"]
    assert len(apart[0]["digest"]) == len(WEIGHTS)
    assert apart[0]["decoded"] == apart[1]["decoded"] == together[0]["decoded"]
    assert together[1]["decoded"] == 0
    assert sum(run["peak"] for run in together) < sum(run["peak"] for run in apart)


def test_one_decode_on_each_node(packed: Path, tmp_path: Path) -> None:
    """Two nodes of two processes and one, as two launchers on this machine."""
    common = ["--nnodes=2", "--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    commands = [
        [*TORCHRUN, *common, f"--node_rank={node}", f"--nproc_per_node={processes}", str(packed)]
        for node, processes in enumerate((2, 1))
    ]
    runs = run_together(commands, tmp_path, True)
    assert [run["decoded"] > 0 for run in runs] == [True, False, True]
    assert runs[0]["digest"] == runs[1]["digest"] == runs[2]["digest"]


def test_without_torchrun_rank_0_decodes(packed: Path, tmp_path: Path) -> None:
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    runs = run_together([[sys.executable, str(packed)]] * 2, tmp_path, True, *({**common, "RANK": rank} for rank in "01"))
    assert [run["decoded"] > 0 for run in runs] == [True, False]
    assert runs[0]["digest"] == runs[1]["digest"]


def test_broadcast_can_be_switched(golfpack, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    plain = tmp_path / "plain.py"
    plain.write_text("from runtime_stub import load_state_dict\nprint(load_state_dict())\n")
    weights = {"w": torch.ones(40)}
    for path, broadcast, expected in ((script, None, True), (script, False, False), (plain, None, False), (plain, True, True)):
        generator.build(path, weights, tmp_path / "out.py", broadcast=broadcast)
        loader = generator.unpack(tmp_path / "out.py", tmp_path / "unpacked").files[-1].read_text()
        assert ("broadcast_object_list" in loader) is expected
