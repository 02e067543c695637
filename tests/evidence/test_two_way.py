"""Intervals over seeds and images by simulation, McNemar against scipy's binomial test."""

import numpy as np
import pytest
from scipy import stats as reference

from bench.evidence import stats, two_way


def coverage(seeds, images, of_seeds, of_images, rest, draws=1000):
    random, hits, seeds_only = np.random.default_rng(seeds), 0, 0
    for _ in range(draws):
        values = random.normal(0, of_seeds, (seeds, 1)) + random.normal(0, of_images, (1, images))
        values = values + random.normal(0, rest, (seeds, images))
        low, high = two_way.interval(values)
        hits += low <= 0 <= high
        low, high = stats.interval(values.mean(1))
        seeds_only += low <= 0 <= high
    return hits, seeds_only, draws


@pytest.mark.parametrize("effects", [(8, 400, 0.01, 0.2, 0.4), (16, 200, 0.05, 0.05, 0.4), (30, 360, 0.02, 0.1, 0.3)])
def test_it_covers_the_truth_where_seeds_and_images_differ(effects):
    hits, _, draws = coverage(*effects)
    assert reference.binomtest(hits, draws, 0.95).pvalue > 1e-4


def test_it_covers_at_least_that_where_seeds_do_not_differ():
    hits, _, draws = coverage(8, 400, 0.0, 0.05, 0.4)
    assert reference.binomtest(hits, draws, 0.95, alternative="less").pvalue > 1e-4


def test_seeds_alone_cover_less_where_images_matter():
    _, hits, draws = coverage(8, 400, 0.01, 0.2, 0.4)
    assert hits / draws < 0.9


def test_differences_are_of_equal_seeds():
    right = {seed: np.array([True, False, seed > 1]) for seed in (1, 2, 3)}
    wrong = {seed: np.array([False, False, True]) for seed in (3, 2, 9)}
    assert two_way.differences(right, wrong).tolist() == [[1, 0, 0], [1, 0, 0]]
    assert two_way.differences(right, {}).shape == (0, 0)


def test_without_variance_or_enough_of_either():
    assert np.isnan(two_way.interval(np.zeros((1, 5)))).all()
    assert two_way.interval(np.ones((3, 5))) == (1.0, 1.0)


def test_mcnemar_is_a_binomial_test_of_the_discordant_images():
    random = np.random.default_rng(0)
    first, second = random.random(300) < 0.7, random.random(300) < 0.6
    only_first, only_second = (first & ~second).sum(), (second & ~first).sum()
    expected = reference.binomtest(int(only_first), int(only_first + only_second)).pvalue
    assert two_way.mcnemar_p(first, second) == pytest.approx(expected)
    assert two_way.mcnemar_p(first, first) == 1.0
