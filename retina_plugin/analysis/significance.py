"""Whether the rows of a sweep differ by more than the noise between seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from scipy import stats

ALPHA = 0.05
"""Significance level: largest p value, corrected for the number of rows, of a difference that is reported as one."""


class Spread(NamedTuple):
    """How much the result of a run varies between seeds.

    Args:
        sd: standard deviation, pooled over rows.
        freedom: its degrees of freedom.
    """

    sd: float
    freedom: int


class Difference(NamedTuple):
    """Difference of a row's mean from that of the row it is compared to.

    Args:
        value: the row's mean minus the other.
        p: two-sided p value of Student's t test; None if the spread is unknown.
        p_holm: the same, corrected for the number of rows.
    """

    value: float
    p: float | None
    p_holm: float | None

    @property
    def is_one(self) -> bool | None:
        """Whether the difference is significant at ``ALPHA``; None if the spread is unknown."""
        return None if self.p_holm is None else self.p_holm <= ALPHA


def pooled_spread(rows: Sequence[Sequence[float]]) -> Spread | None:
    """Estimate the spread over seeds, assumed equal in all rows; None if no row shows one.

    Left out are rows of one seed, and rows whose seeds agree to the last digit, such as AP 0 if nothing was learned:
    they are at the end of the scale, and would make the spread of the others look smaller.

    Args:
        rows: values over seeds, per row.

    Example:
        >>> pooled_spread([[40.0, 42.0], [44.0, 48.0], [0.0, 0.0], [50.0]])
        Spread(sd=2.23606797749979, freedom=2)
    """
    telling = [values for values in rows if len(values) > 1 and statistics.variance(values) > 0]
    freedom = sum(len(values) - 1 for values in telling)
    if not freedom:
        return None
    squares = sum(statistics.variance(values) * (len(values) - 1) for values in telling)
    return Spread(math.sqrt(squares / freedom), freedom)


def p_value(difference: float, spread: Spread, n: int, m: int) -> float:
    """Return the two-sided p value of a difference between the means of n and m runs.

    It is that of Student's t with the degrees of freedom of the spread.

    Source: Student 1908; the test of a contrast in one-way analysis of variance, see for example Montgomery, *Design
    and Analysis of Experiments*, section 3.5.
    """
    t = abs(difference) / (spread.sd * math.sqrt(1 / n + 1 / m))
    return float(2 * stats.t.sf(t, spread.freedom))


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p values for their number, which bounds the probability of even one false difference among all of them.

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
    """Compare every row that has been run with the row ``base``; the result is empty if ``base`` has not been run.

    Args:
        rows: labels -> values over seeds.
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
