"""Calibration of the example for `golfpack calibrate calibration.py:calibration -o statistics.safetensors`, and its metric.

CHECKPOINT names the weights (default checkpoint.safetensors), SEQUENCES how many to calibrate on, VAL_TOKENS how many bytes
`val_bpb` evaluates.
"""

import os

import torch
from safetensors.torch import load_file
from train_gpt import SEQUENCE_LENGTH, evaluate, load_tokens, model_for, windows

from generator.calibration import language_model_loss


def calibration():
    model = model_for(load_file(os.environ.get("CHECKPOINT", "checkpoint.safetensors"))).eval()
    tokens = load_tokens("train")
    number = int(os.environ.get("SEQUENCES", "128"))
    starts = torch.linspace(0, len(tokens) - SEQUENCE_LENGTH - 1, number, dtype=torch.float64).long()
    return model, [windows(tokens, part) for part in starts.split(8)], language_model_loss()


def val_bpb(state_dict):
    """Validation bits per byte of weights: the metric of `golfpack fit --evaluate calibration.py:val_bpb`."""
    return evaluate(model_for(state_dict), load_tokens("val"), int(os.environ.get("VAL_TOKENS", "200000")))[1]
