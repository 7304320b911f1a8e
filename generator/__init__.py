"""golfpack's build side: from a checkpoint and a script to one self-extracting file, and back.

>>> import torch, generator
>>> payload = generator.encode_state_dict({"weight": torch.eye(4)}, {"rule": [{"pattern": "*", "quantizer": "int4"}]})
>>> bool((generator.decode_payload(payload)["weight"].argmax(0) == torch.arange(4)).all())
True
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from generator.version import __version__

if TYPE_CHECKING:
    from generator.audit.checking import Comparison, RunCheck, check
    from generator.audit.inspection import Inspection, inspect
    from generator.audit.unpacking import Unpacked, unpack
    from generator.audit.verification import Verification, verify
    from generator.building import build, encode, fit, wrap
    from generator.calibration import calibrate, language_model_loss
    from generator.defaults import BUDGET
    from generator.errors import BudgetError, CheckError, GolfpackError, InputError
    from generator.handing_in.checking import check_submission
    from generator.handing_in.findings import Finding, SubmissionCheck
    from generator.handing_in.writing import Submission, submission
    from generator.in_the_run.packer import Packed, Packer, pack
    from generator.measure.analysis import Analysis, analyze
    from generator.measure.bench import Bench, bench
    from generator.packing import PackingOptions
    from generator.payload import Payload, decode_payload
    from generator.progress import Listener, Progress, track
    from generator.recipes.recipe import Recipe, load_recipe
    from generator.search.results import Fit, Point, Trial
    from generator.search.study import StudyOptions
    from generator.statistics import Statistics, load_statistics
    from generator.tuning.options import TuneOptions
    from generator.tuning.tuner import Tuner
    from generator.weights.encode import encode_state_dict

__all__ = [
    "BUDGET",
    "Analysis",
    "Bench",
    "BudgetError",
    "CheckError",
    "Comparison",
    "Finding",
    "Fit",
    "GolfpackError",
    "InputError",
    "Inspection",
    "Listener",
    "Packed",
    "Packer",
    "PackingOptions",
    "Payload",
    "Point",
    "Progress",
    "Recipe",
    "RunCheck",
    "Statistics",
    "StudyOptions",
    "Submission",
    "SubmissionCheck",
    "Trial",
    "TuneOptions",
    "Tuner",
    "Unpacked",
    "Verification",
    "__version__",
    "analyze",
    "bench",
    "build",
    "calibrate",
    "check",
    "check_submission",
    "decode_payload",
    "encode",
    "encode_state_dict",
    "fit",
    "inspect",
    "language_model_loss",
    "load_recipe",
    "load_statistics",
    "pack",
    "submission",
    "track",
    "unpack",
    "verify",
    "wrap",
]

logging.getLogger("golfpack").addHandler(logging.NullHandler())  # see generator.progress

# Where each name is defined: a module is imported, and torch with it, when something in it is asked for.
_HOMES = {
    "Analysis": "generator.measure.analysis",
    "BUDGET": "generator.defaults",
    "Bench": "generator.measure.bench",
    "BudgetError": "generator.errors",
    "CheckError": "generator.errors",
    "Comparison": "generator.audit.checking",
    "GolfpackError": "generator.errors",
    "InputError": "generator.errors",
    "Fit": "generator.search.results",
    "Listener": "generator.progress",
    "Packed": "generator.in_the_run.packer",
    "Packer": "generator.in_the_run.packer",
    "PackingOptions": "generator.packing",
    "Payload": "generator.payload",
    "Progress": "generator.progress",
    "Point": "generator.search.results",
    "StudyOptions": "generator.search.study",
    "Finding": "generator.handing_in.findings",
    "Submission": "generator.handing_in.writing",
    "SubmissionCheck": "generator.handing_in.findings",
    "Trial": "generator.search.results",
    "TuneOptions": "generator.tuning.options",
    "Tuner": "generator.tuning.tuner",
    "Inspection": "generator.audit.inspection",
    "Recipe": "generator.recipes.recipe",
    "RunCheck": "generator.audit.checking",
    "Statistics": "generator.statistics",
    "Unpacked": "generator.audit.unpacking",
    "Verification": "generator.audit.verification",
    "analyze": "generator.measure.analysis",
    "bench": "generator.measure.bench",
    "build": "generator.building",
    "calibrate": "generator.calibration",
    "check": "generator.audit.checking",
    "check_submission": "generator.handing_in.checking",
    "decode_payload": "generator.payload",
    "encode": "generator.building",
    "encode_state_dict": "generator.weights.encode",
    "fit": "generator.building",
    "inspect": "generator.audit.inspection",
    "language_model_loss": "generator.calibration",
    "load_recipe": "generator.recipes.recipe",
    "load_statistics": "generator.statistics",
    "pack": "generator.in_the_run.packer",
    "submission": "generator.handing_in.writing",
    "track": "generator.progress",
    "unpack": "generator.audit.unpacking",
    "verify": "generator.audit.verification",
    "wrap": "generator.building",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'generator' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
