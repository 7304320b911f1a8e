"""Values of a state dict as plain tensors on the CPU, or the reason why they are none."""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import UninitializedTensorMixin  # type: ignore[attr-defined]
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from generator.errors import InputError
from generator.limits import DECODED_LIMIT, MAX_DIMENSIONS
from generator.visible import first_line, shown, visible

REPEATED_LIMIT = 2**30  # bytes that views (expanded, overlapping) may take beyond the memory that they lie in
LENGTH_LIMIT = 2**48  # of one dimension, in the format
NUMPY_DTYPES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"})


class DenseTensors:
    """Turns the values of one state dict into contiguous tensors, and counts the memory that they take together."""

    def __init__(self, where: str):
        self.where = where
        self._elements = 0
        self._repeated = 0
        self._storages: set[int] = set()

    def convert(self, name: Any, value: Any) -> Tensor:
        """A value as a contiguous tensor on the CPU, without gradient.

        Raises:
            InputError: the name is unusable; the value is no array of numbers with data of its own; it has a dtype, more
                dimensions or more elements than the format can hold, or repeats a small memory to a large tensor.
        """
        self._check_name(name)
        what = f"tensor {name!r} of {self.where}"
        if isinstance(value, np.ndarray | np.generic):
            array = _plain_array(f"array {name!r} of {self.where}", value)
            self._check_size(what, array.shape, array.itemsize)
            self._count(what, array.nbytes, _array_memory(array))
            return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
        if not isinstance(value, Tensor):
            raise InputError(f"entry {name!r} of {self.where} is a {type(value).__name__}, not a tensor; remove it")
        try:
            kind = _unusual(value)
            if kind is None:
                check_dtype(what, value.dtype)
                value = value.detach().as_subclass(Tensor)
                self._check_size(what, tuple(value.shape), value.dtype.itemsize)
                self._count(what, value.numel() * value.dtype.itemsize, _tensor_memory(value))
                result: Tensor = value.cpu().resolve_conj().resolve_neg()
                # Not contiguous(), which leaves a single element the stride that it had among others.
                return result.clone(memory_format=torch.contiguous_format) if not _in_order(result) else result
        except InputError:
            raise
        except Exception as error:  # whatever a subclass or a foreign device raises where it has no data to give
            raise InputError(f"{what} can't be read as a dense tensor: {first_line(error)}") from error
        raise InputError(f"{what} is {kind}, not a dense tensor with data; convert it before saving")

    def _check_name(self, name: Any) -> None:
        if not isinstance(name, str):
            raise InputError(f"{self.where} has a key {shown(name)} that is not a string")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{self.where} has a tensor {name!r}, whose name is not valid Unicode") from error
        if name == "__metadata__":
            raise InputError(f"{self.where} has a tensor {name!r}, a name that safetensors keeps for itself; rename it")

    def _check_size(self, what: str, shape: tuple[int, ...], itemsize: int) -> None:
        if len(shape) > MAX_DIMENSIONS:
            raise InputError(f"{what} has {len(shape)} dimensions; the format holds at most {MAX_DIMENSIONS}")
        if max(shape, default=0) >= LENGTH_LIMIT or math.prod(filter(None, shape)) * itemsize >= 2**63:
            raise InputError(f"{what} has the shape {'×'.join(map(str, shape))}, beyond what the format holds")
        self._elements += math.prod(shape)
        if self._elements > DECODED_LIMIT:  # of at least a byte each
            raise InputError(
                f"{what} has {math.prod(shape):,} elements, with those before it more than the {DECODED_LIMIT:,} bytes that "
                "the format holds"
            )

    def _count(self, what: str, logical: int, memory: tuple[int, int]) -> None:
        """Bound what is materialised, before it is."""
        address, size = memory
        self._repeated += logical - (0 if address in self._storages else size)
        self._storages.add(address)
        if self._repeated > REPEATED_LIMIT:
            raise InputError(
                f"{what} takes {logical:,} bytes, but is a view of {size:,}; views that repeat memory may take "
                f"{REPEATED_LIMIT:,} bytes together, so save a copy (tensor.clone()) if it is meant to be that large"
            )


def _in_order(tensor: Tensor) -> bool:
    """Whether the elements lie in C order, with the strides that say so."""
    return tensor.stride() == torch.empty(tensor.shape, device="meta").stride()


def _plain_array(what: str, value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, np.ma.MaskedArray):
        raise InputError(f"{what} is masked, and golfpack keeps no masks; fill it before saving")
    array = np.asarray(value)
    if array.dtype.str[1:] not in NUMPY_DTYPES or array.dtype.fields is not None:
        raise InputError(f"{what} has dtype {visible(str(array.dtype))}, which torch has no equal of")
    check_dtype(what, torch.from_numpy(np.zeros(0, array.dtype.newbyteorder("="))).dtype)
    return array


def _array_memory(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Where the memory lies that an array is a view of, and its bytes."""
    owner: Any = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    repeats = any(not stride for size, stride in zip(owner.shape, owner.strides, strict=True) if size > 1)
    return owner.ctypes.data, owner.itemsize if repeats else owner.nbytes


def _tensor_memory(tensor: Tensor) -> tuple[int, int]:
    """The same of a tensor; its elements must lie in it."""
    storage = tensor.untyped_storage()
    if tensor.numel():
        last = tensor.storage_offset() + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        if (last + 1) * tensor.dtype.itemsize > storage.nbytes():
            raise ValueError(f"its memory was freed or cut to {storage.nbytes():,} bytes")
    return storage.data_ptr(), storage.nbytes()


def _unusual(tensor: Tensor) -> str | None:
    """What kind of tensor this is, if it has no dense data of its own."""
    if isinstance(tensor, UninitializedTensorMixin):
        return "not initialized"
    if tensor.is_nested:
        return "nested"
    if tensor.is_quantized:
        return "quantized by torch"
    if tensor.layout != torch.strided:
        return f"of layout {str(tensor.layout).removeprefix('torch.')}"
    if tensor.device.type == "meta" or tensor.untyped_storage().device.type == "meta":
        return "on the meta device"
    if is_traceable_wrapper_subclass(tensor):
        return f"a {type(tensor).__name__}"
    return None


def check_dtype(what: str, dtype: torch.dtype) -> None:
    """That golfpack can store tensors of a dtype.

    Raises:
        InputError: it can't.
    """
    if dtype == torch.complex128:
        raise InputError(f"{what} is complex128; convert it to complex64")
    if not _copies(dtype):
        raise InputError(f"{what} is {str(dtype).removeprefix('torch.')}, which torch itself can't copy; convert it")


@cache
def _copies(dtype: torch.dtype) -> bool:
    """Whether torch implements a dtype so far that a tensor of it can be loaded."""
    try:
        with warnings.catch_warnings():  # that a dtype is experimental
            warnings.simplefilter("ignore")
            torch.zeros(dtype.itemsize, dtype=torch.uint8).view(dtype).clone()
    except (RuntimeError, NotImplementedError):
        return False
    return True
