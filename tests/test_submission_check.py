"""The check of a folder, anybody's: each kind of finding, and nothing found where nothing is wrong."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import generator
from generator.handing_in.claims import Claims, read_claims
from generator.handing_in.contents import Contents
from generator.handing_in.findings import KINDS
from generator.handing_in.logs import read_log
from generator.handing_in.numbers import agree, mean, shortened
from generator.handing_in.scores import check_scores
from generator.handing_in.sizes import check_sizes

SCRIPT = "import torch\nprint('val_loss:2.0727 val_bpb:1.2244')\n"
MODEL = 15_000_000
CODE = len(SCRIPT)
LOG = """{source}
seed:{seed}
step:0/20 val_loss:6.9000 val_bpb:4.1000 train_time:0ms
step:20/20 val_loss:2.0600 val_bpb:1.2172 train_time:600000ms
Serialized model: 67224983 bytes
Code size: {code} bytes
Total submission size: {raw} bytes
Serialized model int8+zlib: {model} bytes (payload:17178912 raw_torch:17224025 payload_ratio:3.91x)
Total submission size int8+zlib: {total} bytes
final_int8_zlib_roundtrip val_loss:2.0727 val_bpb:{short} eval_time:1401ms
final_int8_zlib_roundtrip_exact val_loss:2.07269931 val_bpb:{bpb}
"""
METADATA = {
    "author": "A",
    "github_id": "a",
    "name": "n",
    "val_loss": 2.07269931,
    "val_bpb": 1.2243657,
    "bytes_total": MODEL + CODE,
    "bytes_code": CODE,
}


def log_text(seed: int = 42, bpb: str = "1.22436570", code: int = CODE, model: int = MODEL, source: str = "") -> str:
    short = f"{float(bpb):.4f}"
    return LOG.format(
        seed=seed, bpb=bpb, short=short, code=code, model=model, total=model + code, raw=67224983 + code, source=source
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which nothing is wrong."""
    place = tmp_path / "2026-03-17_Name"
    place.mkdir()
    (place / "train_gpt.py").write_text(SCRIPT)
    (place / "README.md").write_text("What it is.")
    (place / "submission.json").write_text(json.dumps(METADATA))
    (place / "train.log").write_text(log_text())
    return place


def kinds(folder: Path, **options: Any) -> list[str]:
    """The findings' kinds, and that the outcome is theirs."""
    checked = generator.check_submission(folder, **options)
    assert checked.passed == (not any(one.wrong for one in checked.findings))
    assert all(one.wrong == KINDS[one.kind] for one in checked.findings)
    return [one.kind for one in checked.findings]


def tell(folder: Path, **values: Any) -> None:
    """Change what submission.json tells; None leaves a name out."""
    said = {**json.loads((folder / "submission.json").read_text()), **values}
    (folder / "submission.json").write_text(json.dumps({name: value for name, value in said.items() if value is not None}))


def test_nothing_is_found_where_nothing_is_wrong(folder: Path) -> None:
    assert kinds(folder, run=True) == []


def rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)


CASES: dict[str, tuple[Callable[[Path], Any], list[str]]] = {
    "no readme": (lambda f: (f / "README.md").unlink(), ["missing"]),
    "empty readme": (lambda f: (f / "README.md").write_text(" \n"), ["missing"]),
    "no json": (lambda f: (f / "submission.json").unlink(), ["missing"]),
    "no log": (lambda f: (f / "train.log").unlink(), ["missing"]),
    "a log that is not one": (lambda f: (f / "train.log").write_text(""), ["missing"]),
    "no script": (lambda f: (f / "train_gpt.py").unlink(), ["missing"]),
    "empty script": (lambda f: (f / "train_gpt.py").write_text(""), ["missing"]),
    "json elsewhere": (lambda f: rename(f, "submission.json", "submission_mine.json"), ["misnamed"]),
    "script elsewhere": (lambda f: rename(f, "train_gpt.py", "train_gpt_v2.py"), ["misnamed"]),
    "log in a folder": (lambda f: [(f / "logs").mkdir(), rename(f, "train.log", "logs/train0.txt")], []),
    "no json in it": (lambda f: (f / "submission.json").write_text("{"), ["json"]),
    "a list": (lambda f: (f / "submission.json").write_text("[]"), ["json"]),
    "not a number": (lambda f: (f / "submission.json").write_text('{"val_bpb": NaN}'), ["json"]),
    "nested": (lambda f: (f / "submission.json").write_text("[" * 100_000), ["json"]),
    "score as text": (lambda f: tell(f, val_bpb="1.2244"), ["json"]),
    "size as text": (lambda f: tell(f, bytes_total="15 MB"), ["json"]),
    "no author": (lambda f: tell(f, author=None), ["field"]),
    "empty author": (lambda f: tell(f, author=""), ["field"]),
    "rounded": (lambda f: tell(f, val_bpb=1.2244, val_loss=2.0727), []),
    "cut off": (lambda f: tell(f, val_bpb=1.2243), []),
    "other score": (lambda f: tell(f, val_bpb=1.2144), ["score"]),
    "other loss": (lambda f: tell(f, val_loss=1.2144), ["score"]),
    "score of the model before it was coded": (lambda f: tell(f, val_bpb=1.2172), ["before-coding"]),
    "other total": (lambda f: tell(f, bytes_total=MODEL), ["total"]),
    "total under another name": (lambda f: tell(f, bytes_total=None, artifact_bytes=MODEL), ["total"]),
    "other code": (lambda f: tell(f, bytes_code=CODE + 1), ["code"]),
    "over the cap": (lambda f: tell(f, bytes_total=16_000_001), ["over-cap", "total"]),
    "sum": (lambda f: tell(f, bytes_model_int8_zlib=MODEL - 1), ["sum"]),
    "log over the cap": (
        lambda f: [(f / "train.log").write_text(log_text(model=16_000_000)), tell(f, bytes_total=None)], ["over-cap"],
    ),
    "log of another script": (
        lambda f: [(f / "train.log").write_text(log_text(code=CODE - 1)), tell(f, bytes_total=None)], ["log-code"],
    ),
    "total with the script as it is now": (lambda f: (f / "train.log").write_text(log_text(code=CODE - 1)), ["log-code"]),
    "log whose sizes do not add up": (
        lambda f: (f / "train.log").write_text(log_text().replace(f"zlib: {MODEL} bytes", f"zlib: {MODEL - 1} bytes")), ["sum"],
    ),
    "seed without a log": (lambda f: tell(f, seeds=[42, 7]), ["seed"]),
    "seed of another name": (lambda f: rename(f, "train.log", "train_seed7.log"), ["seed"]),
    "syntax": (lambda f: (f / "train_gpt.py").write_text(SCRIPT[:-2] + "(\n"), ["syntax"]),
    "an outer return": (lambda f: (f / "train_gpt.py").write_text(("return 1\n" + SCRIPT)[:CODE]), ["syntax"]),
    "null bytes": (lambda f: (f / "train_gpt.py").write_bytes(b"\0" * CODE), ["artifact"]),
    "import of elsewhere": (lambda f: (f / "train_gpt.py").write_text(SCRIPT.replace("torch", "fooxy")), ["requirement"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_finding(folder: Path, case: str) -> None:
    change, expected = CASES[case]
    change(folder)
    assert kinds(folder) == expected


def test_an_import_that_a_text_mentions(folder: Path) -> None:
    source = "import fla\nfrom flash_attn_interface import flash_attn_func\n" + SCRIPT
    (folder / "train_gpt.py").write_text(source)
    (folder / "train.log").write_text(log_text(code=len(source)))
    tell(folder, bytes_total=MODEL + len(source), bytes_code=len(source))
    assert kinds(folder) == ["requirement"]
    (folder / "requirements.txt").write_text("flash_linear_attention>=0.1\n")
    (folder / "README.md").write_text("Needs Flash Attention 3.")
    assert kinds(folder) == []


def test_code_beside_counts(folder: Path) -> None:
    """A script that runs another file, whose bytes the log left out."""
    source = "import helper\nexec(open('decode.py').read())\n"
    (folder / "train_gpt.py").write_text(source)
    (folder / "helper.py").write_text("import other\n")
    (folder / "other.py").write_text("pass\n")
    (folder / "decode.py").write_text("#" * 1_000_000)
    (folder / "prepare.py").write_text("import numpy")  # not used
    (folder / "train.log").write_text(log_text(code=len(source)))
    tell(folder, bytes_total=MODEL + len(source), bytes_code=len(source))
    assert kinds(folder) == ["code-beside", "over-cap-as-counted"]


def test_code_that_was_counted_compressed(folder: Path) -> None:
    text = log_text(code=20, model=15_999_980 - CODE // 2)
    (folder / "train.log").write_text(
        text.replace("Code size: 20", f"Code size (uncompressed): {CODE} bytes\nCode size (compressed): 20")
    )
    tell(folder, bytes_total=None)
    assert kinds(folder) == ["over-cap-as-counted"]


def three_seeds(folder: Path, **metadata: Any) -> None:
    (folder / "train.log").unlink()
    for seed, bpb in ((1, "1.20"), (2, "1.22"), (3, "1.27")):
        (folder / f"train_seed{seed}.log").write_text(log_text(seed, f"{bpb}000000"))
    results = {str(seed): {"val_bpb": bpb} for seed, bpb in ((1, 1.2), (2, 1.22), (3, 1.27))}
    tell(folder, **{"seeds": [1, 2, 3], "seed_results": results, "val_bpb": 1.23, **metadata})


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, []),
        ({"val_bpb": 1.2}, []),  # the best seed
        ({"seed_results": None}, []),  # the mean of the logs
        ({"val_bpb": 1.31}, ["mean", "score"]),
        ({"seed_results": {"1": {"val_bpb": 1.25}}}, ["seed-score"]),
        ({"seeds": {"2": {"val_bpb": 1.22, "bytes_total": 5}}, "seed_results": None}, ["total"]),
    ],
)
def test_several_seeds(folder: Path, metadata: dict[str, Any], expected: list[str]) -> None:
    three_seeds(folder, **metadata)
    assert kinds(folder) == expected


def test_an_artifact_of_golfpack_is_what_counts(folder: Path) -> None:
    source = folder.parent / "script.py"
    source.write_text(SCRIPT)
    inspection = generator.wrap(source, folder / "train_gpt.py")
    (folder / "train.log").write_text("seed:42\nval_loss:2.07269931 val_bpb:1.22436570\n")
    assert kinds(folder) == ["total", "code"]
    tell(folder, bytes_total=inspection.size, bytes_code=inspection.size)
    assert kinds(folder, run=True) == []
    assert kinds(folder, budget=10) == ["over-cap"]
    data = bytearray((folder / "train_gpt.py").read_bytes())
    data[-50] ^= 1
    (folder / "train_gpt.py").write_bytes(data)
    assert kinds(folder) == ["artifact"]


def test_the_script_is_run_in_a_copy(folder: Path, golfpack: Callable[..., Any]) -> None:
    def script(source: str) -> None:
        (folder / "train_gpt.py").write_text(source)
        (folder / "train.log").write_text(log_text(code=len(source)))
        tell(folder, bytes_total=MODEL + len(source), bytes_code=len(source))

    (folder / "data.txt").write_text("1.2244")
    script("import sys\nopen('written', 'w')\nprint(f'val_bpb:{open(\"data.txt\").read()}')\nsys.exit(len(sys.argv) - 1)\n")
    result = golfpack("submission", "--check", folder, "--run")
    assert result.status == 0, result.out
    assert "val_bpb:1.2244" in result.out
    assert not (folder / "written").exists()
    result = golfpack("submission", "--check", folder, "--run", "--", "argument")
    assert result.status == 1
    assert "WRONG run: train_gpt.py exits with 1" in result.out
    script("print('val_bpb:1.2344')\n")
    assert kinds(folder, run=True) == ["run-score"]
    script("import time\ntime.sleep(60)\n")
    assert kinds(folder, run=True, timeout=1) == ["run"]


def test_exit_statuses(folder: Path, golfpack: Callable[..., Any]) -> None:
    assert golfpack("submission", "--check", folder).status == 0
    tell(folder, val_bpb=1.5)
    result = golfpack("submission", "--check", folder, "--json")
    assert result.status == 1
    assert json.loads(result.out)["findings"][0]["kind"] == "score"
    for gone in (folder / "gone", folder / "train.log"):
        result = golfpack("submission", "--check", gone)
        assert result.status == 2
        assert result.err.count("\n") == 1


def test_nothing_is_executed_without_run(folder: Path) -> None:
    (folder / "train_gpt.py").write_text(f"open({str(folder / 'executed')!r}, 'w')\n")
    generator.check_submission(folder)
    assert not (folder / "executed").exists()


LOG_LINES = {
    "seed:1337": "seed",
    "  seed: 1337": "seed",
    "SEED=1337": "seed",
    "1776142360.541   seed: 1337": "seed",
    "    seed = 0": "",  # a line of source
    "torch.manual_seed(42)": "",
    "step:1/2 val_loss:2.5 val_bpb:1.25": "evaluation",
    "1776143229.403 4000/20000 val_loss: 2.5 val_bpb: 1.25": "evaluation",
    "ttt_sliding:done val_loss=2.5 val_bpb=1.25 elapsed=1.0s": "evaluation",
    "roundtrip sliding val_loss:2.5 sliding val_bpb:1.25": "evaluation",
    'log0(f"val_loss:{loss:.4f} val_bpb:{bpb:.4f}")': "",
    "budget:15995705/16000000 (16.00/16.00MB) FITS": "total",
    "Total submission size quantized+brotli: 15,995,705 bytes": "total",
    "Code size (compressed): 26845 bytes": "code",
}


@pytest.mark.parametrize("line", LOG_LINES)
def test_lines_of_logs(line: str) -> None:
    log = read_log("train.log", f"noise\r\n{line}\r\nnoise".encode())
    expected = LOG_LINES[line]
    assert log.seed == (1337 if expected == "seed" else None)
    assert [(one.val_loss, one.val_bpb, one.line) for one in log.evaluations] == (
        [(Decimal("2.5"), Decimal("1.25"), 2)] if expected == "evaluation" else []
    )
    assert [size.bytes for size in log.totals] == ([15_995_705] if expected == "total" else [])
    assert [(size.coding, size.bytes) for size in log.codes] == ([("compressed", 26845)] if expected == "code" else [])


def test_labels_are_what_stands_before_the_scores() -> None:
    text = b"1776143229.403 diagnostic  quantized val_loss:2.5 val_bpb:1.25\nval_bpb:1.0\n"
    assert [one.label for one in read_log("a", text).evaluations] == ["diagnostic quantized", ""]


@given(st.binary(max_size=300) | st.text("sed:= 0123456789.valbpb_loTtsubmin\n", max_size=300).map(str.encode))
def test_any_bytes_are_a_log(data: bytes) -> None:
    read_log("train_seed1.log", data)


@given(
    st.dictionaries(
        st.sampled_from(["val_bpb", "bytes_total", "seeds", "seed", "seed_results", "author", "bytes_model_x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["1", "42", "val_bpb"]), inner, max_size=3)
            ),
            max_leaves=5,
        ),
    )
)
def test_any_json_is_read_or_refused(values: dict[str, Any]) -> None:
    with contextlib.suppress(generator.InputError):
        assert isinstance(read_claims(json.dumps(values).encode()), Claims)


NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)


@given(st.lists(NUMBERS, min_size=7, max_size=7))
def test_any_numbers_are_compared(numbers: list[str]) -> None:
    one, two, *others = numbers
    results = f'{{"1": {{"val_bpb": {one}, "bytes_total": {two}}}, "42": {{"val_bpb": {two}, "val_loss": {one}}}}}'
    names = ["val_bpb", "mean_val_loss", "bytes_total", "code_bytes", "bytes_model_x"]
    text = ", ".join(f'"{name}": {value}' for name, value in zip(names, others, strict=True))
    with contextlib.suppress(generator.InputError):
        claims = read_claims(f'{{"seed_results": {results}, {text}}}'.encode())
        logs = [read_log("train.log", log_text().encode()), read_log("train_seed1.log", log_text(1).encode())]
        contents = Contents(Path(), [], None, claims, "submission.json", logs)
        for found in [*check_scores(contents), *check_sizes(contents, 16_000_000)]:
            assert "submission.json" in found.message


@given(st.decimals(0, 9, places=8), st.integers(0, 7))
def test_numbers_agree_with_their_roundings(value: Decimal, places: int) -> None:
    unit = Decimal(1).scaleb(-places)
    rounded = value.quantize(unit)
    assert agree(rounded, value)
    assert agree(value, rounded)
    assert not agree(rounded + 2 * unit, value)


@given(st.lists(st.decimals(0, 9, places=4), min_size=1, max_size=5))
def test_means_are_as_long_as_their_parts(values: list[Decimal]) -> None:
    average = shortened(mean(values), values)
    assert abs(average - mean(values)) <= Decimal("0.00005")
    assert average.as_tuple().exponent == -4


def test_the_module_runs_as_a_command(folder: Path) -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "golfpack", "submission", "--check", str(folder)], capture_output=True, text=True
    )
    assert completed.returncode == 0, completed.stderr
    assert "nothing to find fault with" in completed.stdout
