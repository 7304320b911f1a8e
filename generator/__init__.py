"""golfpack's build side: from a checkpoint and a script to one self-extracting file, and back.

>>> import torch, generator
>>> payload = generator.encode_state_dict({"weight": torch.eye(4)}, {"rule": [{"pattern": "*", "quantizer": "int4"}]})
>>> bool((generator.decode_payload(payload)["weight"].argmax(0) == torch.arange(4)).all())
True
"""

from generator.audit.checking import Comparison, RunCheck, check
from generator.audit.inspection import Inspection, inspect
from generator.audit.unpacking import Unpacked, unpack
from generator.audit.verification import Verification, verify
from generator.building import BUDGET, BudgetError, build, encode, fit, wrap
from generator.calibration import calibrate, language_model_loss
from generator.errors import CheckError, GolfpackError, InputError
from generator.measure.analysis import Analysis, analyze
from generator.measure.bench import Bench, bench
from generator.payload import decode_payload
from generator.recipes.recipe import Recipe, load_recipe
from generator.statistics import Statistics, load_statistics
from generator.version import __version__
from generator.weights.encode import encode_state_dict

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
