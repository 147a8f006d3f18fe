"""Student's t and Holm's correction, worked by hand and compared with scipy's tests."""

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from retina_plugin.analysis.significance import Spread, differences, holm, p_value, pooled_spread


def t_tail(t, freedom):
    """Return P(T > t) for 1, 2 and 3 degrees of freedom in closed form (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    inside = [2 * angle / math.pi, math.sin(angle), 2 / math.pi * (angle + math.sin(angle) * math.cos(angle))]
    return (1 - inside[freedom - 1]) / 2


@pytest.mark.parametrize("freedom", [1, 2, 3])
@pytest.mark.parametrize("difference", [0.0, 0.5, 4.0, -12.0])
def test_p_value_worked_by_hand(difference, freedom):
    # sd 2, two and three seeds: standard error 2 * sqrt(1/2 + 1/3) = 1.8257
    error = 2 * math.sqrt(1 / 2 + 1 / 3)
    want = 2 * t_tail(abs(difference) / error, freedom)
    assert p_value(difference, Spread(2.0, freedom), 2, 3) == pytest.approx(want, abs=1e-12)


def test_two_seeds_need_more_than_a_factor_of_two():
    """Two rows of two seeds have 2 degrees of freedom, p = 1 - t / sqrt(2 + t²): 3 standard errors are not enough."""
    spread = pooled_spread([[40.0, 42.0], [44.2, 46.2]])
    t = 4.2 / spread.sd
    assert spread.freedom == 2 and t == pytest.approx(2.97, abs=0.01)
    assert p_value(4.2, spread, 2, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t)) == pytest.approx(0.097, abs=1e-3)


@pytest.mark.parametrize(
    "a, b", [([40.0, 42.0], [44.0, 47.0]), ([1.0, 2.0, 4.0], [2.5, 2.0]), ([10.0, 10.1, 9.8, 10.3], [10.0, 12.0, 11.0])]
)
def test_two_rows_agree_with_scipys_t_test(a, b):
    found = differences({("a",): a, ("b",): b}, ("a",))[("b",)]
    assert found.p == found.p_holm == pytest.approx(stats.ttest_ind(b, a).pvalue, abs=1e-12)
    assert found.value == pytest.approx(statistics.fmean(b) - statistics.fmean(a))


def test_pooled_variance_is_that_of_an_analysis_of_variance():
    """A contrast of two of four rows uses the mean square within rows and all degrees of freedom."""
    rows = {("a",): [40.0, 42.0, 41.5], ("b",): [44.0, 47.0], ("c",): [41.0, 41.5, 43.0], ("d",): [39.0, 38.0]}
    within = sum((x - statistics.fmean(values)) ** 2 for values in rows.values() for x in values)
    freedom = sum(len(values) - 1 for values in rows.values())
    assert pooled_spread(list(rows.values())) == (pytest.approx(math.sqrt(within / freedom)), freedom)
    t = (45.5 - statistics.fmean(rows[("a",)])) / math.sqrt(within / freedom * (1 / 2 + 1 / 3))
    found = differences(rows, ("a",))
    assert found[("b",)].p == pytest.approx(2 * stats.t.sf(t, freedom))
    ps = [found[(name,)].p for name in "bcd"]
    assert [found[(name,)].p_holm for name in "bcd"] == pytest.approx(holm(ps))


def test_holm_worked_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04; times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; none may be below the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.7, 0.9]) == [1.0, 1.0]


@pytest.mark.parametrize("ps", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.001], [0.2, 0.2, 0.2], [0.9, 0.8, 0.0]])
def test_holm_rejects_what_the_stepwise_procedure_rejects(ps):
    """Compare the smallest p with alpha / m, the next with alpha / (m - 1), ... up to the first larger one.

    Source: Holm 1979, section 2.
    """
    for alpha in (0.01, 0.05, 0.2):
        rejected, order = set(), sorted(range(len(ps)), key=ps.__getitem__)
        for place, i in enumerate(order):
            if ps[i] > alpha / (len(ps) - place):
                break
            rejected.add(i)
        assert {i for i, p in enumerate(holm(ps)) if p <= alpha} == rejected


def test_rows_without_variance_do_not_shrink_the_spread():
    telling = [[40.0, 42.0], [44.0, 47.0]]
    assert pooled_spread([*telling, [0.0, 0.0], [0.0, 0.0, 0.0], [50.0]]) == pooled_spread(telling)
    assert pooled_spread([[0.0, 0.0], [1.0]]) is None and pooled_spread([]) is None


def test_without_a_spread_no_difference_is_significant():
    found = differences({("a",): [40.0], ("b",): [60.0], ("c",): []}, ("a",))
    assert found == {("b",): (20.0, None, None)} and found[("b",)].is_one is None
    assert differences({("a",): [], ("b",): [60.0]}, ("a",)) == {}


def test_false_differences_are_as_rare_as_promised():
    """Ten equal rows of two seeds: at most 5 of 100 sweeps report a difference; without Holm 4 of 10 do."""
    draw, holms, alone, sweeps = np.random.default_rng(0), 0, 0, 400
    for _ in range(sweeps):
        rows = {(str(i),): list(draw.normal(40, 1.5, 2)) for i in range(11)}
        found = differences(rows, ("0",)).values()
        holms += any(one.is_one for one in found)
        alone += any(one.p <= 0.05 for one in found)
    assert holms / sweeps < 0.07 and alone / sweeps > 0.2
