"""Functions compiled to machine code by numba when they are first called: inner loops that are sequential.

What is compiled is kept in numba's cache (beside the source, or in the user's cache folder where that is write-protected; see
NUMBA_CACHE_DIR), so that only the first call ever takes the seconds. Where nothing can be written it is compiled in each
process. Compiled functions let other threads run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_lock = threading.Lock()


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The function, compiled for the types of its arguments; called by position. IEEE arithmetic, each operation rounded once.

    It takes numbers and numpy arrays, and calls nothing but numpy and functions made by `inlined`.
    """
    machine_code: Callable[Parameters, Result] | None = None

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        nonlocal machine_code
        if machine_code is None:
            with _lock:
                machine_code = machine_code or _compile(function)
        try:
            return machine_code(*args, **kwargs)
        except OSError:  # the disk is full, or the cache can't be written any more
            machine_code = _compile(function, cache=False)
            return machine_code(*args, **kwargs)

    return call


def _compile(function: Callable[Parameters, Result], cache: bool = True) -> Callable[Parameters, Result]:
    import numba  # takes half a second

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return cast("Callable[Parameters, Result]", numba.njit(cache=cache, **options)(function))
    except RuntimeError:  # there is no place for a cache
        return cast("Callable[Parameters, Result]", numba.njit(**options)(function))
