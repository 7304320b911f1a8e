"""golfpack: from a checkpoint and a script to one self-extracting file, and back.

This is the public API, under the name of the distribution; `generator` is where it is made.

>>> import torch, golfpack
>>> payload = golfpack.encode_state_dict({"weight": torch.eye(4)}, {"rule": [{"pattern": "*", "quantizer": "int4"}]})
>>> sorted(golfpack.decode_payload(payload))
['weight']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import generator

if TYPE_CHECKING:
    from generator import *  # noqa: F403

__all__ = generator.__all__


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'golfpack' has no attribute {name!r}")
    return getattr(generator, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
