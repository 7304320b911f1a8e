"""What users get where they name nothing else."""

from __future__ import annotations

BUDGET = 16_000_000  # bytes; the cap of the Parameter Golf challenge, code and weights together
TIMEOUT = 1800.0  # seconds that a program under test may run
TOLERANCE = 0.5  # relative error; another checkpoint of the same shape has about 1.4, ternary of a Gaussian 0.44
TRACK = "10min_16mb"  # of the challenge's records that trained for ten minutes on eight H100
TRIALS = 20  # that one process adds to a study
