"""Carriers: what they write reads back byte for byte, runs wherever users run it, and stops with one sentence when damaged."""

from __future__ import annotations

import ast
import base64
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_python
from hypothesis import given
from hypothesis import strategies as st
from interpreters import PYTHONS
from test_artifact_runs import TORCH_DOUBLE, expected_output

import generator
from generator.carriers import REGISTRY, Cargo
from generator.carriers.base85 import decode_ascii85, encode_ascii85
from generator.carriers.latin1 import (
    NUMBER_LIMIT,
    escape,
    from_base253,
    from_comment,
    leading_zeros,
    to_base253,
    to_comment,
    unescape,
)
from generator.compressors import compress
from generator.errors import InputError
from generator.source.script import free_names, parse

CARRIERS = list(REGISTRY)
SCRIPT = """
import os, sys
from runtime_stub import load_state_dict
print(sorted(load_state_dict()), __name__, sys.argv[1:], os.path.basename(__file__), os.path.isabs(__file__))
"""
EXPECTED = "['w'] __main__ ['a', 'b'] {name} True\n"


def no_files(name: str) -> bytes:
    raise InputError(f"{name} does not exist")


@pytest.fixture
def double(tmp_path: Path) -> dict[str, str]:
    """An environment with a stand-in for torch, which takes seconds to import."""
    folder = tmp_path / "double"
    folder.mkdir()
    (folder / "torch.py").write_text(TORCH_DOUBLE)
    return {"PYTHONPATH": str(folder)}


@pytest.fixture(params=CARRIERS)
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = tmp_path / "dist" / "train_gpt.py"
    generator.build(script, {"w": torch.arange(6000, dtype=torch.float32)}, path, carrier=request.param)
    return path


def test_every_byte_is_accounted_for(packed: Path) -> None:
    inspection = generator.inspect(packed)
    total = sum(path.stat().st_size for path in packed.parent.iterdir())
    assert sum(part.bytes for part in inspection.parts) == inspection.size == total
    assert all(part.bytes >= 0 for part in inspection.parts)
    assert inspection.header.startswith("golfpack ")
    assert len(inspection.header) <= 200


def test_unpacked_without_running(packed: Path) -> None:
    unpacked = generator.unpack(packed)
    assert torch.equal(unpacked.state_dict["w"], torch.arange(6000, dtype=torch.float32).half().float())
    assert "from runtime_stub import load_state_dict" in unpacked.source


def test_text_carriers_are_python(packed: Path) -> None:
    data = packed.read_bytes()
    if generator.inspect(packed).carrier == "zip":
        with pytest.raises((SyntaxError, ValueError)):
            ast.parse(data)
        return
    compile(ast.parse(data), "train_gpt.py", "exec")
    compile(data, "train_gpt.py", "exec")
    assert REGISTRY[generator.inspect(packed).carrier].ascii == data.isascii()


def link(path: Path) -> Path:
    folder = path.parent.parent / "links"
    folder.mkdir()
    (folder / "link.py").symlink_to(path)
    return folder / "link.py"


def rename(path: Path) -> Path:
    return path.rename(path.with_name("other name.py"))


def protect(path: Path) -> Path:
    path.parent.chmod(0o555)
    path.chmod(0o444)
    return path


MODES: dict[str, tuple[list[str], Callable[[Path], Path]]] = {
    "plain": ([], lambda path: path),
    "unbuffered": (["-u"], lambda path: path),
    "optimized": (["-O"], lambda path: path),
    "symbolic link": ([], link),
    "renamed": ([], rename),
    "read-only folder": ([], protect),
}


@pytest.mark.parametrize("mode", MODES)
def test_run_modes(packed: Path, double: dict[str, str], mode: str) -> None:
    flags, prepare = MODES[mode]
    path = prepare(packed)
    before = sorted(path.parent.iterdir()), path.parent.stat().st_mtime_ns
    output = run_python(sys.executable, *flags, path, "a", "b", cwd=Path("/"), environment=double)
    assert output == EXPECTED.format(name=path.name)
    # The superuser may write in read-only folders too: nothing came or went.
    assert (sorted(path.parent.iterdir()), path.parent.stat().st_mtime_ns) == before
    packed.parent.chmod(0o755)


def test_runs_by_relative_name(packed: Path, double: dict[str, str]) -> None:
    output = run_python(sys.executable, packed.name, "a", "b", cwd=packed.parent, environment=double)
    assert output == EXPECTED.format(name=packed.name)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_runs_under_torchrun(tmp_path: Path, carrier: str, double: dict[str, str]) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os\nfrom runtime_stub import load_state_dict\n"
        "open(os.environ['OUT'] + os.environ['RANK'], 'w').write(str(sorted(load_state_dict())))\n"
    )
    packed = tmp_path / "train_gpt.py"
    generator.build(script, {"w": torch.ones(20000)}, packed, carrier=carrier)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    # The launcher needs torch itself; what it starts has the stand-in.
    starter = tmp_path / "start.sh"
    starter.write_text(f'#!/bin/sh\nPYTHONPATH={double["PYTHONPATH"]} exec {sys.executable} -u "$@"\n')
    starter.chmod(0o755)
    environment = {**os.environ, "OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--no-python", str(starter), str(packed)], check=True, env=environment, cwd="/", timeout=200)
    assert [(tmp_path / f"out{rank}").read_text() for rank in (0, 1)] == ["['w']"] * 2


@pytest.mark.parametrize("where", ["code", "payload", "frame", "end"])
def test_damage_is_noticed(packed: Path, double: dict[str, str], where: str) -> None:
    carrier = generator.inspect(packed).carrier
    beside = [path for path in packed.parent.iterdir() if path != packed]
    target = beside[0] if where == "payload" and beside else packed
    data = bytearray(target.read_bytes())
    if where == "end":
        del data[-3:]
    else:
        place = {
            "code": data.find(b'=b"') + 100 if carrier in ("base85", "sidecar") else None,
            "payload": len(data) // 2 if target != packed else None,
            "frame": data.find(b"zlib.crc32(") + 14,
        }[where]
        if place is None and carrier == "zip":
            place = 500 if where == "payload" else data.rfind(b"PK\3\4") - 100
        if place is None:  # the closing comment: the code comes first in latin1
            place = data.rfind(b"\n#") + 100 if where == "code" else len(data) - 500
        data[place] = 65 if data[place] != 65 else 66
    target.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"train_gpt\.py"):
        generator.unpack(packed)
    if where in ("code", "payload"):
        environment = {**os.environ, **double}
        completed = subprocess.run([sys.executable, str(packed)], capture_output=True, text=True, env=environment)
        assert (completed.returncode, completed.stderr) == (1, "damaged file: checksum mismatch\n")


def test_a_sidecar_must_be_there(tmp_path: Path, script: Path, state_dict: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "train_gpt.py"
    generator.build(script, state_dict, path, carrier="sidecar")
    [beside] = tmp_path.glob("train_gpt.*.bin")
    beside.unlink()
    with pytest.raises(InputError, match=r"train_gpt\.[0-9a-f]{16}\.bin does not exist"):
        generator.inspect(path)
    completed = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    sentence = f"[Errno 2] No such file or directory: '{beside}'\n"
    assert (completed.returncode, completed.stdout, completed.stderr) == (1, "", sentence)


def test_a_sidecar_elsewhere_is_refused(tmp_path: Path) -> None:
    code = compress(b"print(1)", "lzma")[1]
    written = REGISTRY["sidecar"].write(Cargo(code, b"GPK", "Z", "Y", "X", ""), "x")
    [beside] = written.beside
    digest = beside.removeprefix("x.").removesuffix(".bin")
    for name in (f"../../etc/x.{digest}.bin", f"/etc/x.{digest}.bin", f".x.{digest}.bin", f".{digest}.bin", "x.bin", "x.txt"):
        with pytest.raises(InputError, match="not beside it"):
            REGISTRY["sidecar"].read(written.main.replace(beside.encode(), name.encode()), no_files)


@pytest.mark.parametrize("carrier", [name for name in CARRIERS if not REGISTRY[name].needs_payload])
@pytest.mark.parametrize("compressor", ["lzma", "zlib", "brotli", "mix"])
def test_code_alone(tmp_path: Path, carrier: str, compressor: str) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('naïve', sys.argv[1:], __file__.rpartition('/')[2])\n")
    path = tmp_path / "out.py"
    for header in (True, False):
        inspection = generator.wrap(script, path, carrier=carrier, compressor=compressor, header=header)
        assert inspection.compressor == compressor
        assert sum(part.bytes for part in inspection.parts) == path.stat().st_size
        assert run_python(sys.executable, path, "x", cwd=Path("/")) == "naïve ['x'] out.py\n"


@pytest.mark.parametrize("version", PYTHONS)
def test_code_runs_on_other_pythons(tmp_path: Path, version: str) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint('naïve', sys.argv[1:], __file__.rpartition('/')[2])\n")
    for carrier, compressor in (("base85", "lzma"), ("latin1", "mix"), ("latin1", "zlib"), ("zip", "lzma"), ("zip", "mix")):
        generator.wrap(script, tmp_path / "out.py", carrier=carrier, compressor=compressor)
        assert run_python(PYTHONS[version], tmp_path / "out.py", "x", cwd=Path("/")) == "naïve ['x'] out.py\n"


@pytest.mark.parametrize("carrier", [name for name in CARRIERS if not REGISTRY[name].needs_payload])
def test_source_is_there_for_those_who_ask(tmp_path: Path, carrier: str) -> None:
    script = tmp_path / "script.py"
    script.write_text("import inspect\ndef f(x):\n    return x + 1\nprint(inspect.getsource(f))\n")
    generator.wrap(script, tmp_path / "out.py", carrier=carrier)
    output = run_python(sys.executable, tmp_path / "out.py", cwd=Path("/"))
    assert "return" in output
    assert generator.inspect(tmp_path / "out.py").carrier == carrier


def test_auto_takes_the_smallest_that_is_allowed(tmp_path: Path, script: Path) -> None:
    weights = {"w": torch.randn(30000, generator=torch.Generator().manual_seed(0))}
    sizes, files = {}, {}
    for carrier in CARRIERS:
        sizes[carrier] = generator.build(script, weights, tmp_path / "x.py", carrier=carrier).size
        files[carrier] = (tmp_path / "x.py").read_bytes()
    for allow in (["base85", "latin1", "zip"], ["base85", "latin1"], ["base85"], ["sidecar", "base85"]):
        chosen = generator.build(script, weights, tmp_path / "x.py", carrier="auto", allow=allow)
        assert chosen.carrier == min(allow, key=lambda name: sizes[name])
        assert chosen.size == min(sizes[name] for name in allow)
        # So it runs wherever that carrier's file does.
        assert (tmp_path / "x.py").read_bytes() == files[chosen.carrier]


def test_bad_choices(golfpack, tmp_path: Path) -> None:
    plain = tmp_path / "plain.py"
    plain.write_text("print(1)\n")
    for arguments, message in (
        (["--carrier", "sidecar"], "needs weights"),
        (["--carrier", "auto", "--allow", "base85,paper"], "unknown carrier 'paper'"),
        (["--carrier", "auto", "--allow", ""], "carrier none needs weights"),
        (["--skip-step", "everything"], "unknown shrinking step 'everything'"),
        (["--step", "everything"], "unknown optional shrinking step"),
    ):
        result = golfpack("wrap", plain, "-o", tmp_path / "out.py", *arguments)
        assert (result.status, message in result.err) == (2, True), result.err
        assert not (tmp_path / "out.py").exists()


OWN = "from pathlib import Path\ncode = Path(__file__).read_text(encoding='utf-8')\nprint(len(code) > 100)\n"


def test_scripts_that_read_their_own_text(golfpack, tmp_path: Path) -> None:
    """They work in ASCII carriers; auto takes no other, and who insists is told."""
    script = tmp_path / "own.py"
    script.write_text(OWN)
    assert generator.wrap(script, tmp_path / "out.py", carrier="auto").carrier == "base85"
    assert run_python(sys.executable, tmp_path / "out.py", cwd=tmp_path) == "True\n"
    for carrier in ("latin1", "zip"):
        result = golfpack("wrap", script, "-o", tmp_path / "out.py", "--carrier", carrier)
        assert result.status == 0
        assert "line 2: the script reads its own file" in result.err
        assert "base85 is safe" in result.err
    script.write_text(OWN.replace("read_text(encoding='utf-8')", "read_bytes()"))
    assert generator.wrap(script, tmp_path / "out.py", carrier="latin1").notes == []


def test_latin1_overhead_on_random_bytes() -> None:
    data = np.random.default_rng(0).bytes(2_000_000)
    assert len(to_comment(data)) <= 1.004 * len(data)
    assert len(encode_ascii85(data)) == 1.25 * len(data)
    code = np.random.default_rng(1).bytes(11_000)
    assert len(to_base253(code)) <= 1.0022 * len(code)


@given(st.binary(max_size=300))
def test_text_codings_round_trip(data: bytes) -> None:
    assert from_comment(to_comment(data)) == data
    assert from_base253(to_base253(data), len(leading_zeros(data))) == data
    assert unescape(escape(data)) == data
    assert decode_ascii85(encode_ascii85(data).encode()) == data
    assert base64.a85decode(encode_ascii85(data)) == data
    for text in (to_comment(data), to_base253(data), escape(data)):
        assert not set(text) & {0, 10, 13}


@given(st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 10, 13, 128, 138, 141, 255]), max_size=60))
def test_text_codings_of_the_awkward_bytes(values: list[int]) -> None:
    test_text_codings_round_trip.hypothesis.inner_test(bytes(values))


def test_long_code_is_escaped_instead(tmp_path: Path) -> None:
    noise = base64.b85encode(np.random.default_rng(0).bytes(NUMBER_LIMIT + 5000)).decode()
    script = tmp_path / "long.py"
    script.write_text(f"data = '{noise}'\nprint(len(data))\n")
    inspection = generator.wrap(script, tmp_path / "out.py", carrier="latin1")
    assert inspection.size > NUMBER_LIMIT
    assert run_python(sys.executable, tmp_path / "out.py", cwd=tmp_path) == f"{len(noise)}\n"


def test_loader_is_run_by_verify(packed: Path) -> None:
    verification = generator.verify(packed, run=False)
    assert verification.passed


def test_verify_runs_sidecars(tmp_path: Path, script: Path, state_dict: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "train_gpt.py"
    generator.build(script, state_dict, path, carrier="sidecar")
    verification = generator.verify(path, run=True)
    assert verification.passed, verification.checks
    assert verification.output == expected_output(path)


@pytest.mark.parametrize("code", [b"\x5d\0\1", b"\x0b\xff", b"\0\0\x0a", b"\x10"])
def test_code_may_begin_with_zeros(code: bytes) -> None:
    """The bootstrap makes bytes of a number by its hexadecimal digits, and that has no leading zeros of its own."""
    names = free_names(parse(b"", "s"))
    written = REGISTRY["latin1"].write(Cargo(code, None, "", names[1], names[2], ""), "x").main
    read = REGISTRY["latin1"].read(written, no_files)
    assert read is not None
    assert read.cargo.program == code
    bootstrap = written[: written.rfind(b"\nexec(")].decode("latin-1").replace('open(__file__,"rb").read()', repr(written))
    scope: dict[str, object] = {}
    exec(bootstrap, scope)
    decoded = written[written.rfind(b"\nexec(lzma.decompress(") + 22 : written.rfind(b"))\n#")].decode("latin-1")
    assert eval(decoded, scope) == code


@pytest.mark.parametrize("carrier", [name for name in CARRIERS if not REGISTRY[name].needs_payload])
def test_numbers_in_the_bootstrap_ask_for_no_memory(tmp_path: Path, carrier: str) -> None:
    """A number that was changed to a large one ends in a sentence, not in gigabytes."""
    (tmp_path / "plain.py").write_text("print(1)\n")
    generator.wrap(tmp_path / "plain.py", tmp_path / "out.py", carrier=carrier, header=False)
    data = (tmp_path / "out.py").read_bytes()
    start = data.find(b"import ")
    numbers = list(re.finditer(rb"(?<=[-+*:=(,\[])\d+(?=[-+*:),\]])", data[start : data.find(b"\nexec(") + 80]))
    assert numbers
    for found in numbers:
        place = start + found.start()
        (tmp_path / "out.py").write_bytes(data[:place] + b"9999999999" + data[place + len(found[0]) :])
        limited = ["sh", "-c", f"ulimit -v 2000000; exec {sys.executable} {tmp_path / 'out.py'}"]
        completed = subprocess.run(limited, capture_output=True, text=True, timeout=60)
        assert "MemoryError" not in completed.stderr, data[place - 20 : place + 20]
