"""A hundred odd checkpoints, as files and in memory: loaded whole, or refused in one sentence without harm."""

from __future__ import annotations

import io
import os
import pickle
import shlex
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch._subclasses import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

import generator
from generator.errors import InputError
from generator.payload import same_bits
from generator.recipes.recipe import load_recipe
from generator.weights.checkpoint import Checkpoint, from_state_dict, load_checkpoint
from generator.weights.encode import encode_checkpoint


class Marked(torch.Tensor):
    """A subclass with no data of another kind."""


class Rude:
    """What can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def fake() -> torch.Tensor:
    with FakeTensorMode():
        return torch.empty(3)


def freed() -> torch.Tensor:
    tensor = torch.ones(1000)
    tensor.untyped_storage().resize_(0)
    return tensor


def nested(layout: torch.layout) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


def sub_byte(dtype: str) -> torch.Tensor:
    if not hasattr(torch, dtype):
        pytest.skip(f"this torch has no {dtype}")
    return torch.zeros(4, dtype=torch.uint8).view(getattr(torch, dtype))


def overlapping() -> torch.Tensor:
    """A window of 10⁵ elements at each of 10⁵ positions."""
    return torch.zeros(2 * 10**5).as_strided((10**5, 10**5), (1, 1))


# Value of the entry "w" → what the one sentence says.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: None, "entry 'w' of the state dict is a NoneType"),
    "number": (lambda: 0.1, "entry 'w'.* is a float, not a tensor; remove it"),
    "list": (lambda: [1.0], "entry 'w'.* is a list"),
    "bytes": (lambda: b"abc", "entry 'w'.* is a bytes"),
    "nested dict": (lambda: {"a": torch.ones(1)}, "entry 'w'.* is a dict"),
    "module": (lambda: torch.nn.Linear(2, 2), "entry 'w'.* is a Linear"),
    "object array": (lambda: np.array([object()]), "array 'w'.* has dtype object, which torch has no equal of"),
    "byte strings": (lambda: np.array([b"a"]), r"array 'w'.* has dtype \|S1"),
    "strings": (lambda: np.array(["a"]), "array 'w'.* has dtype <U1"),
    "structured": (lambda: np.zeros(2, [("a", "f4"), ("\x1b[2J", "f4")]), r"array 'w'.* has dtype .*\\x1b"),
    "longdouble": (lambda: np.zeros(2, np.longdouble), "array 'w'.* has dtype"),
    "complex longdouble": (lambda: np.zeros(2, np.clongdouble), "array 'w'.* has dtype"),
    "datetime": (lambda: np.zeros(2, "M8[s]"), "array 'w'.* has dtype datetime64"),
    "timedelta": (lambda: np.zeros(2, ">m8[ms]"), "array 'w'.* has dtype"),
    "void": (lambda: np.zeros(2, "V2"), r"array 'w'.* has dtype \|V2"),
    "masked": (lambda: np.ma.masked_array([1.0, 2.0], [0, 1]), "array 'w'.* is masked"),
    "complex128 array": (lambda: np.zeros(2, complex), "array 'w'.* is complex128; convert it to complex64"),
    "complex128": (lambda: torch.zeros(2, dtype=torch.complex128), "tensor 'w'.* is complex128; convert it"),
    "repeated array": (
        lambda: np.broadcast_to(np.zeros(1), (10**10,)),
        "'w'.* takes 80,000,000,000 bytes, but is a view of 8;",
    ),
    "absurd array": (lambda: np.broadcast_to(np.zeros(1), (10**12,)), "'w'.* has 1,000,000,000,000 elements"),
    "repeated": (lambda: torch.zeros(1).expand(4 * 10**9), "'w'.* takes 16,000,000,000 bytes, but is a view of 4;"),
    "absurd": (lambda: torch.zeros(1).expand(10**12), "'w'.* has 1,000,000,000,000 elements"),
    "overlapping": (overlapping, "'w'.* takes 40,000,000,000 bytes, but is a view of 800,000;"),
    "33 dimensions": (lambda: torch.ones([1] * 33), "'w'.* has 33 dimensions; the format holds at most 32"),
    "40 dimensions of an array": (lambda: np.ones([1] * 32)[None][None], "'w'.* has 34 dimensions; the format holds"),
    "empty, but too long": (lambda: torch.empty(0, 2**60), "'w'.* has the shape 0×1152921504606846976, beyond"),
    "empty, but too large": (lambda: torch.empty(0, 2**40, 2**22), "'w'.* has the shape 0×1099511627776×4194304, beyond"),
    "meta": (lambda: torch.empty(3, device="meta"), "'w'.* is on the meta device, not a dense tensor with data"),
    "fake": (fake, "'w'.* is on the meta device"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "'w'.* is of layout sparse_coo"),
    "sparse rows": (lambda: torch.eye(3).to_sparse_csr(), "'w'.* is of layout sparse_csr"),
    "nested": (lambda: nested(torch.strided), "'w'.* is nested"),
    "jagged": (lambda: nested(torch.jagged), "'w'.* is nested"),
    "quantized": (quantized, "'w'.* is quantized by torch"),
    "uninitialized": (torch.nn.UninitializedParameter, "'w'.* is not initialized"),
    "two in one": (lambda: TwoTensor(torch.ones(3), torch.ones(3)), "'w'.* is a TwoTensor, not a dense tensor"),
    "freed": (freed, "'w'.* can't be read as a dense tensor: its memory was freed or cut to 0 bytes"),
    "uint4": (lambda: sub_byte("uint4"), "'w'.* is uint4, which torch itself can't copy"),
    "int3": (lambda: sub_byte("int3"), "'w'.* is int3, which torch itself can't copy"),
}
if np.lib.NumpyVersion(np.__version__) < "2.0.0":  # arrays had at most 32 dimensions then
    del REFUSED["40 dimensions of an array"]


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_are_refused(name: str) -> None:
    make, message = REFUSED[name]
    value = make()
    with pytest.raises(InputError, match=message) as error:
        from_state_dict({"fine": torch.ones(2), "w": value})
    assert str(error.value).isprintable()


DTYPES = (
    "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64",
    "complex32", "complex64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
)  # fmt: skip
KEPT: dict[str, Callable[[], Any]] = {
    **{f"torch {name}": lambda name=name: torch.arange(16, dtype=torch.uint8).view(getattr(torch, name)) for name in DTYPES},
    **{
        f"numpy {code}": lambda code=code: np.arange(-2, 4).astype(code)
        for code in ("<f4", ">f4", ">f8", ">f2", ">i8", ">i2", ">c8")
    },
    **{
        f"numpy unsigned {code}": lambda code=code: np.arange(6).astype(code)
        for code in ("u1", ">u2", ">u4", "<u8", ">u8", "?")
    },
    "numpy scalar": lambda: np.float32(3),
    "numpy backwards": lambda: np.arange(12.0).reshape(3, 4)[::-1, ::2],
    "numpy broadcast": lambda: np.broadcast_to(np.float32([1, 2]), (5, 2)),
    "numpy 0-dim": lambda: np.array(7),
    "numpy read-only": lambda: np.frombuffer(bytes(8), "f4"),
    "0-dim": lambda: torch.tensor(2.5),
    "empty": lambda: torch.zeros(0),
    "empty rows": lambda: torch.zeros(3, 0, 2),
    "32 dimensions": lambda: torch.ones([1] * 31 + [2]),
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).T,
    "strided": lambda: torch.arange(12.0)[1::3],
    "one element of many": lambda: torch.arange(12.0)[::2][:1],
    "windows": lambda: torch.arange(9.0).unfold(0, 4, 1),
    "conjugated": lambda: torch.tensor([1 + 2j]).conj(),
    "negated": lambda: torch.tensor([1 + 2j]).conj().imag,
    "parameter": lambda: torch.nn.Parameter(torch.ones(3)),
    "buffer": lambda: torch.ones(3, requires_grad=True) * 2,
    "subclass": lambda: torch.ones(3).as_subclass(Marked),
    "inference": lambda: torch.inference_mode()(lambda: torch.ones(3) * 2)(),
    "NaN": lambda: torch.tensor([torch.nan, -torch.nan, torch.inf, -0.0]),
}


@pytest.mark.parametrize("name", KEPT)
def test_values_that_are_kept(name: str) -> None:
    value = KEPT[name]()
    expected = torch.as_tensor(np.array(value, value.dtype.newbyteorder("="))) if name.startswith("numpy") else value
    expected = expected.detach().as_subclass(torch.Tensor).resolve_conj().resolve_neg()
    payload = generator.encode_state_dict({"w": value}, {"codec": "store", "rule": [{"pattern": "*", "quantizer": "keep"}]})
    assert same_bits(generator.decode_payload(payload)["w"], expected.clone(memory_format=torch.contiguous_format))


NAMES: dict[str, tuple[Any, str | None]] = {
    "empty": ("", None),
    "spaces": (" a b ", None),
    "emoji": ("🙂", None),
    "markup": ("[/nope]", None),
    "escape": ("\x1b[31m", None),
    "NUL": ("\0", None),
    "line end": ("a\nb", None),
    "long": ("x" * 100_000, None),
    "surrogate": ("\ud800", r"'\\ud800', whose name is not valid Unicode"),
    "metadata": ("__metadata__", "'__metadata__', a name that safetensors keeps for itself"),
    "number": (5, "key 5 that is not a string"),
    "bytes": (b"w", "key b'w' that is not a string"),
    "huge number": (10**5000, "key of type int that is not a string"),
    "rude": (Rude(), "key .* that is not a string"),
    "too long": ("x" * (2**24 + 1), "names in the state dict take 16,777,223 bytes; the format holds at most 16,777,216"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    key, message = NAMES[name]
    if message is None:
        assert list(generator.decode_payload(generator.encode_state_dict({key: torch.ones(2)}))) == [key]
        return
    with pytest.raises(InputError, match=message) as error:
        from_state_dict({key: torch.ones(2)})
    assert str(error.value).isprintable()


def test_a_payload_with_the_name_that_safetensors_keeps_is_not_unpacked_to_a_broken_file(tmp_path: Path) -> None:
    checkpoint = Checkpoint({"__metadata__": torch.ones(2)}, {"__metadata__": ["__metadata__"]})
    (tmp_path / "odd.gpk").write_bytes(encode_checkpoint(checkpoint, load_recipe()).data)
    assert list(generator.unpack(tmp_path / "odd.gpk").state_dict) == ["__metadata__"]
    with pytest.raises(InputError, match="safetensors keeps the name '__metadata__' for itself"):
        generator.unpack(tmp_path / "odd.gpk", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_many_views_of_a_small_memory_count_together() -> None:
    small = torch.zeros(2)
    views = {f"w{n}": small[n % 2 :][:1].expand(1, 8000, 1000 + n) for n in range(60)}
    with pytest.raises(InputError, match="'w33'.*views that repeat memory may take 1,073,741,824 bytes together"):
        from_state_dict({"fine": torch.zeros(1000), **views})


def cut(path: Path, share: float, legacy: bool) -> None:
    torch.save({"w": torch.randn(100, 100), "b": torch.randn(5)}, path, _use_new_zipfile_serialization=not legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def rename_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def write_npz(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def twice(path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("w.npy", file.getvalue())
        archive.writestr("w.npy", file.getvalue())


def encrypted(path: Path) -> None:
    np.savez(path, w=np.ones(3))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def damaged_deflate(path: Path) -> None:
    np.savez_compressed(path, w=np.random.default_rng(0).normal(size=1000))
    data = bytearray(path.read_bytes())
    data[100:160] = bytes(60)
    path.write_bytes(data)


def bomb(path: Path) -> None:
    """Two megabytes that declare two gigabytes."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("w.npy", "w", force_zip64=True) as file,
    ):
        block = bytes(2**24)
        file.write(
            b"\x93NUMPY\x01\x00"
            + struct.pack("<H", 118)
            + b"{'descr': '<f4', 'fortran_order': False, 'shape': (536870912,), }".ljust(117)
            + b"\n"
        )
        for _ in range(80):
            file.write(block)


def strided_file(path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**12)}, path)


def long_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


def not_plain(path: Path) -> None:
    path.write_bytes(pickle.dumps({"w": OrderedDict}))


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    **{
        f"legacy {share}.pt": (lambda path, share=share: cut(path, share, True), "not a (readable torch file|plain state dict)")
        for share in (0.001, 0.01, 0.02, 0.3, 0.9, 0.999)
    },
    **{
        f"zip {share}.pt": (lambda path, share=share: cut(path, share, False), "not a (readable torch file|plain state dict)")
        for share in (0.001, 0.01, 0.3, 0.9, 0.999)
    },
    "npy.npz": (rename_npy, r"is a single array without a name \(\.npy\)"),
    "empty.npz": (lambda path: write_npz(path, {}), "holds no tensors"),
    "no array.npz": (lambda path: write_npz(path, {"readme.txt": b"hello"}), "holds 'readme.txt', which is not an array"),
    "bad header.npz": (
        lambda path: write_npz(path, {"w.npy": b"\x93NUMPY\x01\x00\x10\x00{'descr': !!!!!}"}),
        "not a readable .npz",
    ),
    "header of no length.npz": (lambda path: write_npz(path, {"w.npy": b"\x93NUMPY\x01\x00"}), "not a readable .npz"),
    "short data.npz": (
        lambda path: write_npz(
            path,
            {
                "w.npy": b"\x93NUMPY\x01\x00\x76\x00"
                + b"{'descr': '<f4', 'fortran_order': False, 'shape': (5,), }".ljust(117)
                + b"\n"
            },
        ),
        "not a readable .npz",
    ),
    "twice.npz": (twice, "holds two arrays of the name 'w'"),
    "encrypted.npz": (encrypted, "not a readable .npz.*(encrypted|password)"),
    "damaged.npz": (damaged_deflate, "not a readable .npz"),
    "bomb.npz": (bomb, "declares 1,342,177,4.. when expanded"),
    "big-endian strings.npz": (lambda path: np.savez(path, w=np.array(["a"], ">U1")), "array 'w'.* has dtype >U1"),
    "strided.pt": (strided_file, "'w' of checkpoint .* has 1,000,000,000,000 elements"),
    "sparse.safetensors": (sparse_file, "not a complete safetensors file"),
    "sparse.pt": (sparse_file, "not a (readable torch file|plain state dict)"),
    "sparse.npz": (sparse_file, "not a readable .npz file"),
    "long header.safetensors": (long_header, "not a complete safetensors file"),
    "class.pt": (not_plain, "not a plain state dict"),
    "number.pt": (lambda path: torch.save(5, path), "holds a int, not a state dict"),
    "None.pt": (lambda path: torch.save(None, path), "holds a NoneType"),
    "string keys.pt": (lambda path: torch.save({5: torch.ones(1)}, path), "has a key 5 that is not a string"),
    "pipe.pt": (os.mkfifo, "is a pipe, not a file; give a .safetensors"),
    "folder.npz": (Path.mkdir, "is a folder, not a file"),
    "zeros.pt": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "loop.pt": (lambda path: path.symlink_to(path), "cannot be read: "),
    "dangling.pt": (lambda path: path.symlink_to("nowhere"), "does not exist"),
    "x" * 300 + ".pt": (lambda path: None, "cannot be read: File name too long"),
    "\0.pt": (lambda path: None, "is not a possible file name"),
    "\udcff\ud800.pt": (lambda path: None, "is not a possible file name|does not exist"),
    "suffix.PT2": (lambda path: path.touch(), "unknown suffix '.pt2'"),
}


@pytest.mark.parametrize("name", FILES, ids=lambda name: name[:40].encode("unicode_escape").decode())
def test_files_that_are_refused(tmp_path: Path, name: str) -> None:
    make, message = FILES[name]
    path = Path(f"{tmp_path}/{name}")
    make(path)
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_the_key_that_is_advised_works(tmp_path: Path) -> None:
    inner = {"w": torch.ones(2)}
    for nested_dict in (
        {"model": inner},
        {"model.ema": inner, "step": 5},
        {"run.1": {"best": inner}},
        {"a": {"b": 1}, "a.b": {"c": inner}},
        {0: inner},
        {"the 'best' one": inner},
        {"x": {"y": {"z": inner}}},
    ):
        path = tmp_path / "nested.pt"
        torch.save(nested_dict, path)
        with pytest.raises(InputError, match="is nested; choose a state dict with --key ") as error:
            load_checkpoint(path)
        (key,) = shlex.split(str(error.value).partition("--key ")[2])
        assert list(load_checkpoint(path, key).tensors) == ["w"]


def test_keys_that_lead_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "nested.pt"
    torch.save({"a.b": {"c": {"w": torch.ones(1)}}, "\x1b": 1}, path)
    with pytest.raises(InputError, match=r"has no key 'd' under 'a\.b'; keys there: 'c'"):
        load_checkpoint(path, "a.b.d")
    with pytest.raises(InputError, match=r"has no key 'x'; keys there: 'a\.b', '\\x1b'"):
        load_checkpoint(path, "x")
    with pytest.raises(InputError, match="has no key '' under"):
        load_checkpoint(path, "a.b.")
    save_file({"w": torch.ones(1)}, tmp_path / "flat.safetensors")
    with pytest.raises(InputError, match="has no key 'model'; keys there: 'w'"):
        load_checkpoint(tmp_path / "flat.safetensors", "model")


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes changed, cut out, put in, or made large numbers."""
    result = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 8])):
        place = random.randrange(len(result))
        kind = random.choice(["change", "change", "cut", "insert", "number"])
        if kind == "change":
            result[place] = random.randrange(256)
        elif kind == "cut":
            del result[place : place + random.randrange(1, 50)]
        elif kind == "insert":
            result[place:place] = random.randbytes(random.randrange(9))
        else:
            result[place : place + 4] = b"\xff\xff\xff\x7f"
        result = result or bytearray(1)
    return bytes(result)


@pytest.mark.parametrize("name", ["zip.pt", "legacy.pth", "plain.safetensors", "plain.npz", "deflated.npz"])
def test_damaged_files_load_or_are_refused(tmp_path: Path, name: str) -> None:
    tensors = {"a.w": torch.randn(7, 9), "b": torch.arange(5), "c": torch.ones(3, 2, 2)}
    arrays = {key: tensor.numpy() for key, tensor in tensors.items()}
    path = tmp_path / name
    write: dict[str, Callable[[], Any]] = {
        "zip.pt": lambda: torch.save(tensors, path),
        "legacy.pth": lambda: torch.save(tensors, path, _use_new_zipfile_serialization=False),
        "plain.safetensors": lambda: save_file(tensors, path),
        "plain.npz": lambda: np.savez(path, **arrays),
        "deflated.npz": lambda: np.savez_compressed(path, **arrays),
    }
    write[name]()
    data, random = path.read_bytes(), Random(0)
    refused = 0
    for _ in range(200):
        path.write_bytes(damaged(data, random))
        try:
            load_checkpoint(path)
        except InputError as error:
            refused += "\n" not in str(error)
    assert refused > 50
