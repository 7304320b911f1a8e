"""An artifact of which anything was changed is never called intact, loads what it was made with or stops with one sentence."""

from __future__ import annotations

import base64
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import run_python
from test_artifact_runs import TORCH_DOUBLE

import generator
from generator import CheckError, InputError
from generator.audit.artifact import read_artifact
from generator.audit.rehearsal import rehearse
from generator.carriers import REGISTRY
from generator.carriers.header import check_header, header_text
from generator.source.script import free_names, parse

CARRIERS = list(REGISTRY)
SENTENCE = "damaged file: checksum mismatch\n"
SCRIPT = "from runtime_stub import load_state_dict\nprint(load_state_dict()['w'].numpy().sum())\n"


@pytest.fixture(params=[*CARRIERS, "base85 bare", "zip bare"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A small artifact, with the header comment or without."""
    carrier, _, bare = request.param.partition(" ")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "dist").mkdir()
    path = tmp_path / "dist" / "train_gpt.py"
    generator.build(tmp_path / "script.py", {"w": torch.arange(40.0)}, path, carrier=carrier, header=not bare)
    return path


def is_called_intact(path: Path) -> bool:
    try:
        return generator.verify(path).passed
    except InputError:
        return False


def test_every_byte_counts(packed: Path) -> None:
    """Of a file of some 3,000 bytes, a fifth in turn; of what the checksums don't cover, all."""
    data = packed.read_bytes()
    dull = max(data.split(b'"'), key=len) if b"b85decode" in data else data[100:-400]
    start = data.find(dull)
    for place in [*range(start), *range(start, start + len(dull), 50), *range(start + len(dull), len(data))]:
        changed = bytearray(data)
        changed[place] ^= 1 << place % 7
        packed.write_bytes(changed)
        assert not is_called_intact(packed), (place, data[place : place + 20])
    packed.write_bytes(data)
    assert is_called_intact(packed)


ADDITIONS = {
    "a final newline": lambda data: data + b"\n",
    "no final newline": lambda data: data.removesuffix(b"\n") if data.endswith(b"\n") else data[:-1],
    "other line ends": lambda data: data.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "a line with code": lambda data: data + b"\nimport os\n",
    "a line before": lambda data: b"print('more')\n" + data,
    "a truncated end": lambda data: data[: len(data) * 2 // 3],
    "another header": lambda data: data.replace(b"to read, not run", b"to run, not read"),
    "another version": lambda data: data.replace(b"golfpack 0.1.0:", b"golfpack 0.1.1:"),
    "another size": lambda data: data.replace(b" B of code", b"0 B of code"),
}


def test_additions_are_noticed(golfpack, packed: Path) -> None:
    data = packed.read_bytes()
    for addition, add in ADDITIONS.items():
        if add(data) == data:
            assert addition in ("another header", "another version", "another size")  # there is none
            continue
        packed.write_bytes(add(data))
        for command in (["verify"], ["unpack", "-o", packed.parent / "out"], ["inspect"]):
            result = golfpack(*command, packed)
            assert (result.status, result.err.count("\n")) == (2, 1), (addition, result.err)


@pytest.mark.parametrize("carrier", [name for name, carrier in REGISTRY.items() if carrier.ascii])
def test_what_editors_and_uploads_do_is_survived(tmp_path: Path, carrier: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    path = tmp_path / "out.py"
    generator.build(tmp_path / "script.py", {"w": torch.arange(40.0)}, path, carrier=carrier)
    data = path.read_bytes()
    for addition in ("a final newline", "no final newline", "other line ends", "a byte order mark"):
        path.write_bytes(ADDITIONS[addition](data))
        assert run_python(sys.executable, path, cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)}) == "780.0\n"


def test_damage_ends_in_one_sentence(packed: Path, tmp_path: Path) -> None:
    """Wherever code and payload stand: other characters, some missing, some too many, the end cut off."""
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    payload_file = next((path for path in packed.parent.iterdir() if path != packed), packed)
    data, payload = packed.read_bytes(), payload_file.read_bytes()
    is_zip = data[-22:-18] == b"PK\5\6"
    start = data.find(b'=b"') + 3 if b'=b"' in data else data.rfind(b"\n#") + 2 if not is_zip else data.find(b"PK\3\4") - 300
    damages = [
        (packed, data[: start + 40] + b"~~~~~" + data[start + 45 :]),
        (packed, data[: start + 40] + b"!" + data[start + 40 :] if not is_zip else None),
        (packed, data[: start + 40] + data[start + 41 :] if not is_zip else None),
        (payload_file, payload[:-30] + b"!!!" + payload[-27:] if not is_zip else None),
        (payload_file, payload[:-9] if not is_zip else None),
        (payload_file, payload[: len(payload) // 2] if payload_file != packed else None),
        (payload_file, b"" if payload_file != packed else None),
    ]
    for file, damaged in damages:
        if damaged is None:  # Python itself refuses an archive whose records are not where they should be
            continue
        file.write_bytes(damaged)
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
        completed = subprocess.run([sys.executable, str(packed)], capture_output=True, text=True, env=environment)
        assert (completed.returncode, completed.stderr) == (1, SENTENCE), (file.name, damaged[:200])
        assert not is_called_intact(packed)
        packed.write_bytes(data)
        payload_file.write_bytes(payload)


def test_headers_belong_to_what_they_describe() -> None:
    check_header(header_text(b"1234", 5), b"1234", 5)
    for payload, size in ((b"1234", 6), (b"123", 5), (None, 5)):
        with pytest.raises(InputError, match="its header was changed"):
            check_header(header_text(b"1234", 5), payload, size)
    with pytest.raises(InputError, match=r"golfpack 9\.1, and only that version can tell"):
        check_header(header_text(b"1234", 5).replace("0.1.0", "9.1"), b"1234", 5)
    assert len({len(header_text(b"1234", size)) for size in (0, 9, 99_999, 100_000, 16_777_216)}) == 1


def test_files_of_other_tools_are_never_intact(golfpack, tmp_path: Path) -> None:
    path = tmp_path / "foreign.py"
    code = base64.b85encode(__import__("zlib").compress(b"print('inner')")).decode()
    path.write_text(f'import base64,zlib\nexec(zlib.decompress(base64.b85decode("{code}")))\n')
    assert golfpack("inspect", path).err == ""
    path.write_text(path.read_text() + "import os\nos.system('true')\n")
    for command in (["inspect", path], ["unpack", path, "-o", tmp_path / "out"]):
        result = golfpack(*command)
        assert (result.status, "note: line 4" in result.err) == (0, True), result.err
    for arguments in ([], ["--run"], ["--budget", "1000"]):
        result = golfpack("verify", path, *arguments)
        assert (result.status, "made by another tool" in result.err) == (2, True), result.err


# --- a build that succeeds must load


def noise(size: int) -> str:
    return base64.b85encode(np.random.default_rng(0).bytes(size)).decode()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_code_of_any_length_loads(tmp_path: Path, carrier: str) -> None:
    """Beyond 100,000 bytes of code the header's number is wider, and the payload would begin elsewhere."""
    script = tmp_path / "script.py"
    script.write_text(f"DATA = {noise(101_000)!r}\n{SCRIPT}")
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    inspection = generator.build(script, {"w": torch.arange(40.0)}, tmp_path / "out.py", carrier=carrier)
    assert inspection.wrapper_bytes > 100_000
    assert generator.verify(tmp_path / "out.py").passed
    environment = {"PYTHONPATH": str(tmp_path)}
    assert run_python(sys.executable, tmp_path / "out.py", cwd=Path("/"), environment=environment) == "780.0\n"


def test_strings_like_placeholders_stay(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from runtime_stub import load_state_dict\ngolfpack_payload = 'golfpack_payload golfpack_number_0'\n"
        "golfpack_number_0 = ['golfpack_number_0_', f'golfpack_number_1{1}', 'golfpack_payload_0']\n"
        "print(golfpack_payload, *golfpack_number_0, sorted(load_state_dict()))\n"
    )
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    for carrier in CARRIERS:
        generator.build(script, {"w": torch.ones(3)}, tmp_path / "out.py", carrier=carrier)
        output = run_python(sys.executable, tmp_path / "out.py", cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)})
        assert output == (
            "golfpack_payload golfpack_number_0 golfpack_number_0_ golfpack_number_11 golfpack_payload_0 ['w']\n"
        ), carrier


def test_names_of_builtins_in_the_script_do_not_reach_the_loader(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from runtime_stub import load_state_dict, read_file\n"
        "iter = next = len = range = zip = map = max = min = int = sum = dict = bytes = bytearray = sorted = None\n"
        "SystemExit = FileNotFoundError = ValueError = type = list = tuple = str = None\n"
        "print([name for name in load_state_dict()], read_file('a.txt'))\n"
        "try:\n    read_file('b' + '.txt')\nexcept OSError as error:\n    print(repr(error))\n"
    )
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    weights = {"w": torch.randn(60, 60, generator=torch.Generator().manual_seed(0)), "e": torch.ones(5, 4)}
    everything = {"id": "rans", "filters": ["center", "planes", "sort", "transpose", "shuffle"]}
    codings = [(everything, "int5"), (everything, "fp16"), ("store", "fp16"), ("base3", "ternary")]
    for codec, quantizer in codings:
        recipe = {"rule": [{"pattern": "*", "quantizer": quantizer, "codec": codec}]}
        generator.build(script, weights, tmp_path / "out.py", recipe=recipe, include=[tmp_path / "a.txt"])
        output = run_python(sys.executable, tmp_path / "out.py", cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)})
        assert output == "['w', 'e'] b'a'\nFileNotFoundError('b.txt')\n", codec


@pytest.mark.parametrize("carrier", CARRIERS)
def test_threads_can_load_at_once(tmp_path: Path, carrier: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom concurrent.futures import ThreadPoolExecutor\nfrom runtime_stub import load_state_dict\n"
        "sys.setswitchinterval(1e-6)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print({str(f.result()['w'].numpy().sum()) for f in [pool.submit(load_state_dict) for _ in range(100)]})\n"
    )
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    generator.build(script, {"w": torch.arange(4000.0)}, tmp_path / "out.py", carrier=carrier)
    output = run_python(sys.executable, tmp_path / "out.py", cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)})
    assert output.count("'") == 2


def test_payload_names_are_not_made_by_the_script(tmp_path: Path) -> None:
    """Names that appear at run time are in no tree: `from m import *`, globals() and the like."""
    assert free_names(parse(b"x = 1", "s")) == ("Z", "Y", "X")
    assert free_names(parse(b"x = Z", "s"), "Z") == ("Z", "Y", "X")
    script = tmp_path / "script.py"
    script.write_text(
        "from runtime_stub import load_state_dict\n"
        "for name in ('Z', 'Y', 'X', 'ZZ'):\n    globals()[name] = None\nprint(sorted(load_state_dict()))\n"
    )
    (tmp_path / "torch.py").write_text(TORCH_DOUBLE)
    generator.build(script, {"w": torch.ones(3)}, tmp_path / "out.py")
    output = run_python(sys.executable, tmp_path / "out.py", cwd=Path("/"), environment={"PYTHONPATH": str(tmp_path)})
    assert output == "['w']\n"


def test_a_build_rehearses_its_bytes(packed: Path) -> None:
    """What would load something else is not put in place, though it can be taken apart."""
    artifact = read_artifact(packed)
    rehearse(artifact, packed, artifact.cargo.payload)
    with pytest.raises(CheckError, match="would load another payload"):
        rehearse(artifact, packed, b"what was meant")
    before = sys.path[:]
    other = packed.with_name("other.py")
    data = packed.read_bytes()
    if artifact.carrier == "zip":
        start = len(artifact.cargo.header) + 3 if artifact.cargo.header else 0
        other.write_bytes(data[:start] + data[start + 1 : start + 2] + data[start + 1 :])
    elif artifact.beside:
        artifact.beside[0].write_bytes(b"another payload")
        other.write_bytes(data)
    else:
        other.write_bytes(data[:-30] + b"!!!" + data[-27:])
    with pytest.raises(CheckError, match="would load another payload|would not load"):
        rehearse(artifact, other, artifact.cargo.payload)
    assert sys.path == before


def test_what_reads_back_as_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain.py").write_text("print(1)\n")
    monkeypatch.setattr(type(REGISTRY["base85"]), "read", lambda *arguments: None)
    with pytest.raises(InputError, match="changed or damaged"):
        generator.wrap(tmp_path / "plain.py", tmp_path / "out.py")
    assert not (tmp_path / "out.py").exists()


def test_no_other_variable_of_the_program_takes_the_payloads_place(tmp_path: Path) -> None:
    """Where it uses all short names but one, another of them is not what the loader reads."""
    script, path = tmp_path / "script.py", tmp_path / "out.py"
    names = string.ascii_uppercase[:-1]
    script.write_text(f"from runtime_stub import load_state_dict\n{' = '.join(names)} = load_state_dict()\nprint(A, H)\n")
    generator.build(script, {"w": torch.ones(3)}, path, skip_steps=["globals"])
    data = path.read_bytes()
    place = data.index(b'\nZ=open(__file__,"rb")') + 1
    for name in names:
        path.write_bytes(data[:place] + name.encode() + data[place + 1 :])
        with pytest.raises(InputError, match=f"its bootstrap uses the names {name}, ZZ, ZX where golfpack uses ZZ, ZY, ZX"):
            generator.verify(path)
