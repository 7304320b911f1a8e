"""Time limits."""

import math
import time

import pytest

from generator.deadline import Deadline
from generator.errors import InputError


def test_without_a_limit_there_is_always_time():
    for deadline in (Deadline(), Deadline.after(None), Deadline.after(math.inf), Deadline().within(0.5)):
        assert not deadline
        assert deadline.left == math.inf
        assert not deadline.passed


def test_a_limit_passes():
    deadline = Deadline.after(0.05)
    assert deadline
    assert 0 < deadline.within(0.5).left <= deadline.left <= 0.05
    time.sleep(0.06)
    assert deadline.passed
    assert deadline.left == 0


@pytest.mark.parametrize("seconds", [-1, math.nan, True, "30"])
def test_what_is_no_number_of_seconds_is_refused(seconds):
    with pytest.raises(InputError, match="time limit must be a number of seconds"):
        Deadline.after(seconds)
