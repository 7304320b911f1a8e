"""Loading under torchrun: rank 0 decodes, the others receive the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


def launch(packed: Path, folder: Path, group: bool) -> list[dict[str, object]]:
    environment = {**os.environ, "OUT": str(folder), "GROUP": str(int(group)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(packed)]
    subprocess.run(command, check=True, env=environment, cwd="/", timeout=200)
    return [json.loads((folder / f"{int(group)}.{rank}.json").read_text()) for rank in (0, 1)]


def test_one_decode_for_all(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    weights = {
        "matrix": torch.randn(1500, 2000, generator=torch.Generator().manual_seed(0)),
        "steps": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "half": torch.randn(64).bfloat16(),
        "empty": torch.zeros(0, 3),
    }
    packed = tmp_path / "train_gpt.py"
    generator.build(script, weights, packed, carrier="latin1")
    apart = launch(packed, tmp_path, group=False)
    together = launch(packed, tmp_path, group=True)
    assert apart[0]["digest"] == apart[1]["digest"] == together[0]["digest"] == together[1]["digest"]
    assert len(apart[0]["digest"]) == len(weights)  # type: ignore[arg-type]
    assert apart[0]["decoded"] == apart[1]["decoded"] == together[0]["decoded"]
    assert together[1]["decoded"] == 0
    peaks = [float(str(run["peak"])) for run in (*apart, *together)]
    assert sum(peaks[2:]) < sum(peaks[:2]) * 1.02


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
