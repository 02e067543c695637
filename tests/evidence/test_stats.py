"""Intervals and paired differences against hand-made numbers, scipy and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from bench.evidence import columns, stats
from tests.factory import record_of


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


def test_summarise(quick):
    made = []
    for run in quick.values():
        accuracy = {"baseline": 70.0, "scalenorm": 71.0}.get(run.variant, 69.0) + run.seed
        diverged = run.variant == "on-skip" and run.seed == 0
        made.append(record_of(run, None if diverged else accuracy, "diverged" if diverged else "completed"))
    table = stats.summarise(columns.frame(made), "quick").set_index(["variant", "epsilon"])
    assert len(table) == 12
    row = table.loc["scalenorm", "8"]
    assert (row["n"], row["diverged"], row["mean"], row["sd"]) == (3, 0, 72.0, 1.0)
    assert (row["against"], row["difference"], row["difference_low"]) == ("baseline", 1.0, 1.0)
    skip = table.loc["on-skip", "8"]
    assert (skip["n"], skip["diverged"], skip["mean"], skip["difference_n"]) == (2, 1, 70.5, 2)
    assert table.loc["baseline", "inf"]["against"] == ""
    assert set(table["budget"]) == {"calibrated"}
    assert table["without_average_mean"].isna().all()
    assert list(stats.summarise(columns.frame([]), "quick").columns) == stats.SUMMARY_COLUMNS


def test_pairs_are_of_equal_data_and_mixed_means_are_told(quick):
    made = [record_of(run, 70.0 + run.seed + 5 * (run.variant == "scalenorm")) for run in quick.values()]
    for record in made:
        if record["run"]["id"].startswith("digits/resnet9-w8/scalenorm/eps8/") and record["run"]["seed"] == 2:
            record["data"]["digest"] = "e" * 64
            record["result"]["accuracy"] = 0.0  # a pair with this one would show
    summary = stats.summarise(columns.frame(made), "quick")
    table = summary.set_index(["variant", "epsilon"])
    assert table.loc["baseline", "8"]["dataset_digests"] == "d" * 12
    row = table.loc["scalenorm", "8"]
    assert row["dataset_digests"] == f"{'d' * 12}; {'e' * 12}"
    assert (row["n"], row["difference_n"], row["difference"]) == (3, 2, 5.0)
    (note,) = stats.mixed_data(summary)
    assert note.startswith("quick: note: the runs of digits/resnet9-w8/scalenorm/eps8 were made from data that differ (dddd")
    assert stats.mixed_data(stats.summarise(columns.frame([]), "quick")) == []
