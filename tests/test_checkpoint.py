"""Checkpoints of every kind, and the sentences for broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from generator.errors import InputError
from generator.payload import same_bits
from generator.weights.checkpoint import from_state_dict, load_checkpoint


class Evil:
    """Unpickles to a call."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code was executed",)


def test_safetensors(checkpoint: Path, state_dict: dict[str, torch.Tensor]) -> None:
    loaded = load_checkpoint(checkpoint)
    for name, tensor in state_dict.items():
        first = next(first for first, names in loaded.names.items() if name in names)
        assert same_bits(loaded.tensors[first], tensor)
    tied = {"embed.weight", "lm_head.weight"}
    assert tied in [set(names) for names in loaded.names.values()]
    assert len(loaded.tensors) == len(state_dict) - 1


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_torch_files(tmp_path: Path, suffix: str, state_dict: dict[str, torch.Tensor]) -> None:
    path = tmp_path / f"checkpoint{suffix}"
    torch.save(state_dict, path)
    assert set(load_checkpoint(path).tensors) == set(state_dict) - {"lm_head.weight"}


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    np.savez(path, a=np.arange(6, dtype=">f4").reshape(2, 3), b=np.array(3), c=np.asfortranarray(np.eye(3, 2)))
    tensors = load_checkpoint(path).tensors
    assert tensors["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["a"].dtype == torch.float32
    assert tensors["b"].item() == 3
    assert tensors["c"].is_contiguous()


def test_nested_by_key(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    torch.save({"step": 5, "nested": {"model": {"w": torch.ones(2)}}, "optimizer": {"m": torch.ones(2)}}, path)
    assert list(load_checkpoint(path, "nested.model").tensors) == ["w"]
    with pytest.raises(InputError, match="nested; choose a state dict with --key optimizer"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="no key 'ema' under 'nested.ema'|no key 'ema'.*model"):
        load_checkpoint(path, "nested.ema")
    with pytest.raises(InputError, match="int under 'step', not a state dict"):
        load_checkpoint(path, "step")


def test_views_of_one_storage(state_dict: dict[str, torch.Tensor]) -> None:
    bank = torch.randn(2, 4, 4)
    loaded = from_state_dict({"bank": bank, "first": bank[0], "same": bank.view(2, 4, 4), "turned": bank[0].T})
    assert loaded.names == {"bank": ["bank", "same"], "first": ["first"], "turned": ["turned"]}
    assert loaded.tensors["turned"].is_contiguous()
    assert torch.equal(loaded.tensors["turned"], bank[0].T)


def test_equal_values_of_other_dtype_or_shape_are_not_tied() -> None:
    zeros = {
        "a": torch.zeros(4),
        "b": torch.zeros(2, 2),
        "c": torch.zeros(4, dtype=torch.int32),
        "d": torch.zeros(0),
        "e": torch.zeros(0),
    }
    assert from_state_dict(zeros).names == {"a": ["a"], "b": ["b"], "c": ["c"], "d": ["d", "e"]}


def test_lazily_conjugated_tensors() -> None:
    tensor = torch.tensor([1 + 2j]).conj()
    assert from_state_dict({"w": tensor}).tensors["w"].tolist() == [1 - 2j]


def write_truncated(path: Path) -> None:
    save_file({"w": torch.randn(100, 100)}, path)
    path.write_bytes(path.read_bytes()[:20_000])


BROKEN = {
    "missing.safetensors": (lambda path: None, "does not exist"),
    "text.safetensors": (lambda path: path.write_text("hello"), "not a complete safetensors file"),
    "truncated.safetensors": (write_truncated, "not a complete safetensors file"),
    "evil.pt": (lambda path: torch.save({"w": Evil()}, path), "refuses to load"),
    "text.pt": (lambda path: path.write_text("hello there"), "not a (plain state dict|readable torch file)"),
    "empty.pt": (lambda path: path.write_bytes(b""), "not a readable torch file"),
    "list.pt": (lambda path: torch.save([1, 2], path), "holds a list"),
    "tensor.pt": (lambda path: torch.save(torch.ones(2), path), "holds a single tensor"),
    "mixed.pt": (lambda path: torch.save({"w": torch.ones(1), "lr": 0.1}, path), "entry 'lr'.*is a float"),
    "sparse.pt": (lambda path: torch.save({"w": torch.eye(3).to_sparse()}, path), "'w'.*not a dense tensor"),
    "nothing.pt": (lambda path: torch.save({}, path), "holds no tensors"),
    "text.npz": (lambda path: path.write_text("hello"), "not a readable .npz file"),
    "objects.npz": (lambda path: np.savez(path, w=np.array([Evil()], dtype=object)), "not a readable .npz file"),
    "strings.npz": (lambda path: np.savez(path, w=np.array(["a"])), "array 'w'.*dtype <U1"),
    "weights.bin": (lambda path: path.write_bytes(b"1234"), "unknown suffix '.bin'"),
    "folder.pt": (lambda path: path.mkdir(), "is a folder, not a file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_checkpoints(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = BROKEN[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
    assert "executed" not in capsys.readouterr().out
