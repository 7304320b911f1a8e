"""golfpack's build side: from a checkpoint and a script to one self-extracting file, and back.

>>> import torch, generator
>>> payload = generator.encode_state_dict({"weight": torch.eye(4)}, {"rule": [{"pattern": "*", "quantizer": "int4"}]})
>>> bool((generator.decode_payload(payload)["weight"].argmax(0) == torch.arange(4)).all())
True
"""

from generator.analysis import Analysis, analyze
from generator.bench import Bench, bench
from generator.building import BUDGET, BudgetError, build, encode, fit, wrap
from generator.calibration import calibrate, language_model_loss
from generator.checking import Comparison, RunCheck, check
from generator.encode import encode_state_dict
from generator.errors import CheckError, GolfpackError, InputError
from generator.inspection import Inspection, inspect
from generator.payload import decode_payload
from generator.recipe import Recipe, load_recipe
from generator.statistics import Statistics, load_statistics
from generator.unpacking import Unpacked, unpack
from generator.verification import Verification, verify
from generator.version import __version__

__all__ = [
    "BUDGET",
    "Analysis",
    "Bench",
    "BudgetError",
    "CheckError",
    "Comparison",
    "GolfpackError",
    "InputError",
    "Inspection",
    "Recipe",
    "RunCheck",
    "Statistics",
    "Unpacked",
    "Verification",
    "__version__",
    "analyze",
    "bench",
    "build",
    "calibrate",
    "check",
    "decode_payload",
    "encode",
    "encode_state_dict",
    "fit",
    "inspect",
    "language_model_loss",
    "load_recipe",
    "load_statistics",
    "unpack",
    "verify",
    "wrap",
]
