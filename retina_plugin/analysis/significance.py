"""Whether rows of a sweep differ by more than their seeds do."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

ALPHA = 0.05
"""A difference is called one if its p value, corrected for the number of rows, is at most this."""


class Spread(NamedTuple):
    """How much one run differs from seed to seed.

    Args:
        sd: standard deviation, pooled over rows.
        freedom: its degrees of freedom.
    """

    sd: float
    freedom: int


class Difference(NamedTuple):
    """Of a row's mean to that of the row that it is compared to.

    Args:
        value: of the means.
        p: two-sided, of Student's t test; None where no spread is known.
        p_holm: the same, corrected for the number of rows.
    """

    value: float
    p: float | None
    p_holm: float | None

    @property
    def is_one(self) -> bool | None:
        """Whether seeds alone would hardly give it; None where no spread is known."""
        return None if self.p_holm is None else self.p_holm <= ALPHA


def pooled_spread(rows: Sequence[Sequence[float]]) -> Spread | None:
    """The spread of a run over seeds, taken as the same in all rows; None without a row that shows one.

    Rows of one seed say nothing of it. Nor do rows whose seeds agree to the last digit, such as AP 0 where nothing was learnt: they are
    at the end of the scale, and would make the spread of the others look smaller.

    Args:
        rows: values over seeds.

    Example:
        >>> pooled_spread([[40.0, 42.0], [44.0, 48.0], [0.0, 0.0], [50.0]])
        Spread(sd=2.23606797749979, freedom=2)
    """
    telling = [values for values in rows if len(values) > 1 and statistics.variance(values) > 0]
    freedom = sum(len(values) - 1 for values in telling)
    if not freedom:
        return None
    return Spread(
        math.sqrt(sum(statistics.variance(values) * (len(values) - 1) for values in telling) / freedom), freedom
    )


def p_value(difference: float, spread: Spread, n: int, m: int) -> float:
    """Two-sided p of a difference of the means of n and m runs, by Student's t with the degrees of freedom of the spread.

    Source: Student 1908; the test of a contrast in one-way analysis of variance, such as Montgomery, *Design and Analysis of
    Experiments*, section 3.5.
    """
    t = abs(difference) / (spread.sd * math.sqrt(1 / n + 1 / m))
    return float(2 * stats.t.sf(t, spread.freedom))


def holm(ps: Sequence[float]) -> list[float]:
    """p values corrected for their number, so that the chance of a single false difference among all stays below the bound.

    Source: Holm 1979, *A simple sequentially rejective multiple test procedure*.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order, corrected, largest = sorted(range(len(ps)), key=ps.__getitem__), [0.0] * len(ps), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[i]))
        corrected[i] = largest
    return corrected


def differences(
    rows: Mapping[tuple[str, ...], Sequence[float]], base: tuple[str, ...]
) -> dict[tuple[str, ...], Difference]:
    """The difference of every row that has been run to the row ``base``; empty if that one has not.

    Args:
        rows: labels to values over seeds.
        base: labels of the row that the others are compared to.
    """
    others = {labels: values for labels, values in rows.items() if labels != base and values}
    if not rows.get(base):
        return {}
    mean, count = statistics.fmean(rows[base]), len(rows[base])
    values = {labels: statistics.fmean(values) - mean for labels, values in others.items()}
    spread = pooled_spread(list(rows.values()))
    if spread is None:
        return {labels: Difference(value, None, None) for labels, value in values.items()}
    ps = [p_value(value, spread, len(others[labels]), count) for labels, value in values.items()]
    return {
        labels: Difference(value, p, corrected)
        for (labels, value), p, corrected in zip(values.items(), ps, holm(ps), strict=True)
    }
