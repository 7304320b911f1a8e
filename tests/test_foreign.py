"""Self-extracting files of other makers: the common forms are read, hostile ones end with a clean error in bounded memory."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

import generator
from generator.audit.bounded_decoders import ASCII85_LIMIT, DECODERS
from generator.audit.foreign import LAYER_LIMIT, read_foreign
from generator.carriers import REGISTRY, Cargo
from generator.compressors import compress
from generator.errors import InputError
from generator.source.tokens import TOKEN_LIMIT

SOURCE = b"import os\nprint('hello', 'w\xc3\xb6rld', os.getpid() > 0)\n" * 20
RAW = [{"id": lzma.FILTER_LZMA2}]
RAW1 = [{"id": lzma.FILTER_LZMA1, "lc": 4, "lp": 0, "pb": 0, "dict_size": 1 << 16}]


def b85(data: bytes) -> str:
    return base64.b85encode(data).decode()


FORMS = {
    "xz": f'import lzma, base64\nexec(lzma.decompress(base64.b85decode("{b85(lzma.compress(SOURCE))}")))',
    "aliases and raw filters": (
        "import lzma as L,base64 as B\n__wrapper_size__=21392\n"
        f'exec(L.decompress(B.b85decode("{b85(lzma.compress(SOURCE, lzma.FORMAT_RAW, filters=RAW))}"),'
        'format=L.FORMAT_RAW,filters=[{"id":L.FILTER_LZMA2}]))'
    ),
    "raw LZMA1 with properties": (
        "import lzma\nfrom base64 import b85decode as d\n"
        f'exec(lzma.decompress(d("{b85(lzma.compress(SOURCE, 3, filters=RAW1))}"),'
        'lzma.FORMAT_RAW,None,[{"id":lzma.FILTER_LZMA1,"lc":4,"lp":0,"pb":0,"dict_size":65536}]))'
    ),
    "alone, bytes literal": (
        "import lzma, base64\n"
        f"exec(lzma.decompress(base64.b85decode({b85(lzma.compress(SOURCE, lzma.FORMAT_ALONE)).encode()!r})))"
    ),
    "zlib and base64": (
        "from zlib import decompress\nimport base64\n"
        f"data = '{base64.b64encode(zlib.compress(SOURCE)).decode()}'\nexec(decompress(base64.b64decode(data)).decode('utf-8'))"
    ),
    "raw deflate": (
        "import zlib,base64\n"
        f"exec(zlib.decompress(base64.b85decode('{b85(zlib.compressobj(9, wbits=-15).compress(b'') or b'')}"
        f"{b85(zlib.compress(SOURCE, 9)[2:-4])}'), -15))"
    ),
    "gzip": f"import gzip, base64\nexec(gzip.decompress(base64.b64decode({base64.b64encode(gzip.compress(SOURCE))!r})))",
    "bz2 and Ascii85": (
        f"import bz2, base64\nexec(bz2.decompress(base64.a85decode({base64.a85encode(bz2.compress(SOURCE))!r})))"
    ),
    "brotli": f"import brotli as b, base64\nexec(b.decompress(base64.b85decode('{b85(brotli.compress(SOURCE))}')))",
    "bytes literal": f"import zlib\nexec(zlib.decompress({zlib.compress(SOURCE)!r}))",
    "compile": (
        "import lzma, base64\n"
        f"exec(compile(lzma.decompress(base64.b85decode('{b85(lzma.compress(SOURCE))}')), 'train.py', 'exec'))"
    ),
    "hexadecimal": f"import zlib\nexec(zlib.decompress(bytes.fromhex('{zlib.compress(SOURCE).hex()}')))",
    "adjacent literals": (
        "import lzma, base64\nexec(lzma.decompress(base64.b85decode(\n"
        + "\n".join(f'    "{b85(lzma.compress(SOURCE))[at : at + 40]}"' for at in range(0, len(b85(lzma.compress(SOURCE))), 40))
        + "\n)))"
    ),
    "own text": (
        "import zlib\n"
        f"exec(zlib.decompress(bytes.fromhex(open(__file__).read()[-{2 * len(zlib.compress(SOURCE))}:])))\n#"
        + zlib.compress(SOURCE).hex()
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_common_forms(tmp_path: Path, form: str) -> None:
    path = tmp_path / "train_gpt.py"
    path.write_text(FORMS[form])
    inspection = generator.inspect(path)
    assert inspection.carrier == "foreign"
    assert sum(part.bytes for part in inspection.parts) == inspection.size == path.stat().st_size
    assert inspection.program_bytes == len(SOURCE)
    unpacked = generator.unpack(path, tmp_path / "out")
    assert unpacked.source.encode() == (tmp_path / "out" / "source.py").read_bytes() == SOURCE


def test_nested_ones_are_opened_to_the_bottom() -> None:
    data = SOURCE
    for _ in range(LAYER_LIMIT):
        data = f"import zlib\nexec(zlib.decompress({zlib.compress(data)!r}))".encode()
    found = read_foreign(data, "x.py")
    assert (found.source, found.nesting) == (SOURCE, LAYER_LIMIT)
    data = f"import zlib\nexec(zlib.decompress({zlib.compress(data)!r}))".encode()
    with pytest.raises(InputError, match="more than 8 deep"):
        read_foreign(data, "x.py")


def bomb(levels: int) -> bytes:
    """Deflate of `levels` times 16 MiB of zeros, made piecewise."""
    compressor = zlib.compressobj(9)
    block = bytes(2**24)
    return b"".join(compressor.compress(block) for _ in range(levels)) + compressor.flush()


def lzma_bomb() -> bytes:
    """An .lzma file that says it holds 100 GB, and goes on long enough to be believed."""
    data = bytearray(lzma.compress(bytes(2**27), lzma.FORMAT_ALONE, preset=0))
    data[5:13] = (100 * 10**9).to_bytes(8, "little")
    return bytes(data)


HOSTILE: dict[str, tuple[Callable[[], str], str]] = {
    "100 GB": (lambda: f"import lzma\nexec(lzma.decompress({lzma_bomb()!r}))", "decompresses to more than"),
    "deflate bomb": (lambda: f"import zlib\nexec(zlib.decompress({bomb(8)!r}))", "decompresses to more than"),
    "huge dictionary": (
        lambda: "import lzma\nexec(lzma.decompress(b'x',3,None,[{'id':lzma.FILTER_LZMA1,'dict_size':2**31}]))",
        "line 2",
    ),
    "huge dictionary as a number": (
        lambda: "import lzma\nexec(lzma.decompress(b'x',3,None,[{'id':lzma.FILTER_LZMA1,'dict_size':2147483648}]))",
        "dictionary is too large",
    ),
    "doubling": (
        lambda: (
            "import zlib\na0 = b'"
            + "x" * 1000
            + "'\n"
            + "".join(f"a{i + 1} = a{i} + a{i}\n" for i in range(40))
            + "exec(zlib.decompress(a40))"
        ),
        "values take more than",
    ),
    "names for themselves": (lambda: "import zlib\na = a + a\nexec(zlib.decompress(a))", "line"),
    "syntax error": (lambda: "import zlib\nexec(zlib.decompress(b'x'", "not Python that this version can parse"),
    "deep nesting": (lambda: "exec(" + "(" * 50000 + ")" * 50000 + ")", "not Python|nested too deeply"),
    "many tokens": (lambda: "x = " + "1+" * 2_000_000 + "1\n", "tokens"),
    "a long sum": (lambda: "x = " + "1+" * 120_000 + "1\n", "nested too deeply|operators"),
    "tokens behind a carriage return": (lambda: "# \rx = [" + "1," * 200_000 + "]\n", "tokens"),
    "tokens in a formatted string": (lambda: "x = f'{" + "1," * 200_000 + "}'\n", "tokens"),
    "many escapes": (lambda: "import zlib\nexec(zlib.decompress(b'" + r"\x00" * 4_000_000 + "'))", "fails"),
    "much base85": (
        lambda: "import zlib, base64\nexec(zlib.decompress(base64.b85decode('" + "0" * 16_000_000 + "')))",
        "fails",
    ),
    "much Ascii85": (
        lambda: "import zlib, base64\nexec(zlib.decompress(base64.a85decode('" + "!" * 16_000_000 + "')))",
        "fails",
    ),
    "Ascii85 in short": (
        lambda: "import zlib, base64\nexec(zlib.decompress(base64.a85decode('" + "z" * 9_000_000 + "')))",
        "fails",
    ),
    "bytes of a number": (lambda: "exec(str(9000000000, 'utf-8'))", "bytes are needed, not int"),
    "a number that is too large": (lambda: "import zlib\nexec(zlib.decompress(b'', 10000000000000000000000))", "too large"),
    "a list as a key": (lambda: "import zlib\nexec(zlib.decompress({[1]: 2}))", "unhashable"),
    "encoding of quadratic time": (lambda: "# coding: punycode\n" + "x" * 100_000 + "-" + "a" * 1_000_000, "encoding"),
    "a call": (lambda: "exec(__import__('os').popen('touch /tmp/golfpack-was-here').read())", "could run code"),
    "a call in an argument": (lambda: "import zlib\nexec(zlib.decompress(print(1)))", "could run code"),
    "an unpacked dictionary": (lambda: "import zlib\nexec(zlib.decompress(**{'data': b''}))", "could run code"),
    "damage": (lambda: "import zlib, base64\nexec(zlib.decompress(base64.b85decode('00000')))", "fails"),
    "truncation": (lambda: f"import zlib\nexec(zlib.decompress({zlib.compress(SOURCE)[:-9]!r}))", "truncated"),
    "plain exec": (lambda: "exec('print(1)')", "not packed"),
    "no exec": (lambda: "print('a script')", "no exec"),
    "other encoding": (lambda: "import zlib\nexec(b'x'.decode('rot13'))", "encoding"),
    "binary": (lambda: f"import zlib\nexec(zlib.decompress({zlib.compress(bytes(range(128, 256)))!r}))", "not UTF-8"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(tmp_path: Path, name: str) -> None:
    text, message = HOSTILE[name]
    path = tmp_path / "train_gpt.py"
    path.write_text(text())
    with pytest.raises(InputError, match=message) as error:
        generator.unpack(path)
    assert "\n" not in str(error.value)
    assert not Path("/tmp/golfpack-was-here").exists()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_bombs_stay_within_bounds(tmp_path: Path) -> None:
    """Peak memory, in a fresh process for all of them together, with a file that has nearly as many tokens as are accepted."""
    contents = [make for make, _ in HOSTILE.values()]
    contents.append(lambda: "x = [" + "1," * (TOKEN_LIMIT // 2 - 10) + "]\n")
    paths = []
    for number, make in enumerate(contents):
        paths.append(tmp_path / f"{number}.py")
        paths[-1].write_text(make())
    with (tmp_path / "huge.py").open("wb") as file:
        file.truncate(2**30)
    program = (
        "import sys, generator\n"
        "generator.inspect, generator.unpack  # imported before anything is measured, and torch with them\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "base = peak()\n"
        "for path in sys.argv[1:]:\n"
        "    try: generator.inspect(path)\n"
        "    except generator.InputError: pass\n"
        "    else: sys.exit('read ' + path)\n"
        "print(peak() - base)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *map(str, paths), str(tmp_path / "huge.py")]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120, env=environment)
    assert int(completed.stdout) * 1024 < 320e6


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"x = [" + b"1," * 4_000_000 + b"]\n", "tokens"),
        (b"x = " + b"1+" * 120_000 + b"1\n", "nested too deeply|operators"),
        (b"x = " + b"1+" * 2_000 + b"1\n", "nested too deeply"),
    ],
    ids=["many tokens", "a long sum", "a sum that can be parsed"],
)
def test_code_in_a_file_that_looks_like_golfpacks(tmp_path: Path, code: bytes, message: str) -> None:
    path = tmp_path / "x.py"
    path.write_bytes(REGISTRY["base85"].write(Cargo(compress(code, "zlib")[1], None, "", "Y", "", "", "zlib"), "x").main)
    with pytest.raises(InputError, match=message):
        generator.inspect(path)


@given(st.binary(max_size=100))
def test_base85_decoders_agree_with_the_standard_library(data: bytes) -> None:
    text = base64.b85encode(data)
    assert DECODERS["base64.b85decode"](text) == DECODERS["base64.b85decode"](text.decode()) == data
    assert DECODERS["base64.a85decode"](base64.a85encode(data)) == data
    for wrong in (b"~~~~~", b"0000 ", b"00\x80"):
        with pytest.raises(ValueError, match="base85"):
            DECODERS["base64.b85decode"](wrong + text)


def test_long_ascii85() -> None:
    data = bytes(range(256)) * (ASCII85_LIMIT // 256)
    assert DECODERS["base64.a85decode"](base64.a85encode(data)) == data


PUBLISHED = os.environ.get("PARAMETER_GOLF_REPO")


@pytest.mark.skipif(not PUBLISHED, reason="PARAMETER_GOLF_REPO names no checkout of openai/parameter-golf")
def test_published_self_extracting_scripts(tmp_path: Path) -> None:
    """All of them are read, and packed again they are smaller. Some need the grammar of Python 3.12."""
    found = packed = 0
    for path in sorted(Path(str(PUBLISHED)).glob("records/**/train_gpt.py")):
        data = path.read_bytes()
        if len(data) > 30_000 or b"exec(" not in data or b"decompress" not in data:
            continue
        unpacked = generator.unpack(path, tmp_path / str(found))
        assert unpacked.source
        found += 1
        try:
            inspection = generator.wrap(tmp_path / str(found - 1) / "source.py", tmp_path / "again.py")
        except InputError as error:
            if "newer Python" not in str(error):
                raise
            continue
        assert inspection.size < path.stat().st_size, path
        packed += 1
    assert (found >= 6, packed >= (found if sys.version_info >= (3, 12) else 2)) == (True, True)
