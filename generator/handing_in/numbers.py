"""Numbers as they were written, with all their digits: a score that was rounded for a table still agrees with the log."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

_MOST_PLACES = 12  # of a figure that is shown; scores have eight


def agree(left: Decimal, right: Decimal) -> bool:
    """Whether two numbers may be one, rounded or cut off: they are less than a unit of the shorter one's last digit apart.

    >>> agree(Decimal("1.2244"), Decimal("1.22436570")), agree(Decimal("1.2245"), Decimal("1.22436570"))
    (True, False)
    """
    return abs(left - right) < Decimal(1).scaleb(-min(_places(left), _places(right)))


def mean(values: Sequence[Decimal]) -> Decimal:
    """The mean, with more digits than anybody writes; see `shortened`."""
    return sum(values, Decimal(0)) / len(values)


def standard_deviation(values: Sequence[Decimal]) -> Decimal:
    """Of a sample: the root of the squared deviations' sum by n − 1; of two values at least."""
    middle = mean(values)
    return (sum(((value - middle) ** 2 for value in values), Decimal(0)) / (len(values) - 1)).sqrt()


def shortened(value: Decimal, like: Sequence[Decimal]) -> Decimal:
    """A figure made of others, with as many digits after the point as the longest of them.

    >>> shortened(mean([Decimal("1.5"), Decimal("2.25")]), [Decimal("1.5"), Decimal("2.25")])
    Decimal('1.88')
    """
    return value.quantize(Decimal(1).scaleb(-min(_MOST_PLACES, max(map(_places, like)))))


def _places(value: Decimal) -> int:
    """Digits after the point."""
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
