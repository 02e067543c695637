"""Removals on values whose answer is known, and against the interval of `stats`."""

import math
from itertools import combinations

import numpy as np
import pytest

from bench.evidence import fragility
from bench.evidence.stats import interval


def test_one_outlier_carries_or_breaks_a_verdict():
    # two pairs alone say little: their interval is thirteen standard errors wide to each side
    assert fragility.removal(np.array([1.0, 1.1, 0.9, 1.0, 1.2]), 0.0, math.inf) == (3, True)
    # without the last value the interval of the others lies above 0; with it, it crosses
    assert fragility.removal(np.array([1.0, 1.1, 0.9, 1.0, -3.0]), 0.0, math.inf) == (1, True)


@pytest.mark.parametrize("seed", range(6))
def test_the_number_is_the_smallest(seed):
    values = np.random.default_rng(seed).normal(1.2, 1.2, 8)

    def above(rest):
        low, high = interval(np.array(rest))
        return (low > 0) - (high < 0)

    found, exact = fragility.removal(values, 0.0, math.inf)
    changing = [k for k in range(1, 7) if any(above(rest) != above(values) for rest in combinations(values, 8 - k))]
    assert (found, exact) == (min(changing, default=None), True)


def test_beyond_the_sets_that_can_be_looked_at_it_says_so(monkeypatch):
    values = np.random.default_rng(0).normal(2.0, 2.0, 20)
    smallest, exact = fragility.removal(values, 0.0, math.inf)
    assert exact
    monkeypatch.setattr(fragility, "SETS", 0)
    enough, exact = fragility.removal(values, 0.0, math.inf)
    assert not exact
    assert enough >= smallest


def test_two_pairs_have_nothing_to_lose():
    assert fragility.removal(np.array([1.0, 2.0]), 0.0, math.inf) == (None, True)


def test_a_range_with_two_ends_counts_both():
    values = np.array([0.0, 0.1, -0.1, 0.05, 0.9])
    assert fragility.removal(values, -0.5, 0.5) == (1, True)
