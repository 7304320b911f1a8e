"""Tuning after quantization: what is left float learns to make up for what was rounded, on the model's own predictions."""

from generator.tuning.options import TuneOptions

__all__ = ["TuneOptions"]
