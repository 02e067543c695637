"""Intervals and paired differences against hand-made numbers, scipy and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from bench.evidence import stats


def test_interval_is_students():
    values = np.array([70.0, 71.0, 73.0])
    expected = reference.t.interval(0.95, 2, loc=values.mean(), scale=reference.sem(values))
    assert stats.interval(values) == pytest.approx(expected)
    assert all(math.isnan(bound) for bound in stats.interval(values[:1]))


def test_interval_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    draws = 4000
    hits = sum(low <= 5 <= high for low, high in (stats.interval(random.normal(5, 2, 4)) for _ in range(draws)))
    assert reference.binomtest(hits, draws, 0.95).pvalue > 1e-6


def test_paired_uses_common_seeds_only():
    first = pd.Series({0: 72.0, 1: 74.0, 2: 77.0, 9: 0.0})
    second = pd.Series({2: 75.0, 1: 73.0, 0: 71.0, 8: 0.0})
    found = stats.paired(first, second)
    assert found["difference_n"] == 3
    assert found["difference"] == pytest.approx(4 / 3)
    test = reference.ttest_rel([72, 74, 77], [71, 73, 75]).confidence_interval(0.95)
    assert (found["difference_low"], found["difference_high"]) == pytest.approx((test.low, test.high))
    assert found["correlation"] == pytest.approx(reference.pearsonr([72, 74, 77], [71, 73, 75]).statistic)


def test_pairing_gain_is_the_ratio_of_variances():
    first, second = pd.Series([1.0, 2.0, 4.0, 3.0]), pd.Series([1.5, 2.0, 3.5, 3.0])
    expected = (first.var() + second.var()) / (first - second).var()
    assert stats.paired(first, second)["pairing_gain"] == pytest.approx(expected)


@pytest.mark.parametrize("n", [0, 1])
def test_paired_without_enough_seeds(n):
    found = stats.paired(pd.Series([1.0] * n), pd.Series([0.0] * n))
    assert found["difference_n"] == n
    assert math.isnan(found["difference_low"])
    assert math.isnan(found["correlation"])


def test_contrast_signs_its_arms_and_tests_against_the_end_of_the_range():
    first, second, third = (
        pd.Series(values, index=[3, 1, 2]) for values in ([5.0, 7.0, 6.5], [4.0, 5.0, 6.0], [1.0, 0.0, 2.0])
    )
    found = stats.contrast([(1, first), (-1, second), (1, third)], 1.0)
    values = np.array([2.0, 2.0, 2.5])
    assert (found["difference_n"], found["difference"]) == (3, pytest.approx(values.mean()))
    assert found["p"] == pytest.approx(reference.ttest_1samp(values, 1.0).pvalue)
    assert math.isnan(stats.contrast([(1, first), (-1, first + 1)])["p"])  # no variance


def test_p_of_a_range_is_the_larger_of_its_two_one_sided_tests():
    """TOST, doubled, since the interval is two-sided (Schuirmann 1987)."""
    values = pd.Series([0.1, -0.2, 0.3, 0.0, 0.2, 0.1])
    found = stats.contrast([(1, values)], -0.5, 0.5)
    one_sided = [
        reference.ttest_1samp(values, end, alternative=side).pvalue for end, side in ((-0.5, "greater"), (0.5, "less"))
    ]
    assert found["p"] == pytest.approx(2 * max(one_sided))


def test_holm_is_holms():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([]) == []


@pytest.mark.parametrize(("n", "sd"), [(5, 1.0), (16, 0.8), (30, 3.0)])
def test_what_is_detectable_is_detected_in_80_percent_of_experiments(n, sd):
    effect = stats.detectable(sd, n)
    random = np.random.default_rng(1)
    draws = 4000
    found = reference.ttest_1samp(random.normal(effect, sd, (draws, n)), 0, axis=1).pvalue < 0.05
    assert reference.binomtest(int(found.sum()), draws, 0.8).pvalue > 1e-4
    assert stats.pairs_needed(sd, effect) == n


def test_power_without_spread():
    assert math.isnan(stats.detectable(0.0, 5))
    assert math.isnan(stats.detectable(1.0, 1))
    assert math.isnan(stats.pairs_needed(math.nan, 1.0))
    assert stats.pairs_needed(0.01, 1.0) == 2


@pytest.mark.parametrize("sd", [0.1, 0.15, 0.18, 0.1838, 0.25])
def test_three_pairs_suffice_where_differences_hardly_vary(sd):
    """Where scipy has no number for what lies beyond the test's lower end."""
    draws = np.random.default_rng(0).normal(1.0, sd, (2000, 3))
    seen = [(reference.ttest_1samp(draws[:, :n], 0, axis=1).pvalue < 0.05).mean() for n in (2, 3)]
    assert seen[0] < 0.8 < seen[1]
    assert stats.pairs_needed(sd, 1.0) == 3


def test_improvement_is_mann_whitneys():
    first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0])
    expected = reference.mannwhitneyu(first, second).statistic / 6
    assert stats.improvement(first, second) == pytest.approx(expected)
    assert math.isnan(stats.improvement(first, second[:0]))
