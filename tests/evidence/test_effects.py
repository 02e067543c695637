"""Effects from hand-made summaries; the published ones against scipy's Welch interval."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
from scipy import stats as reference

from bench import ROOT
from bench.evidence import effects

ROW = {"study": "a", "dataset": "Digits", "recipe": "digits", "arch": "r", "epsilon": "8", "variant": "scalenorm"}
ROW |= {"against": "baseline", "private": True, "difference_n": 8, "difference": 1.5, "difference_low": 0.5}
ROW |= {"difference_high": 2.5, "detectable": 0.8, "parameters": 38322}


@pytest.mark.parametrize(
    ("low", "high", "detectable", "finding"),
    [
        (0.1, 2.0, 0.9, "gain"),
        (-2.0, -0.1, 3.0, "loss"),
        (-0.5, 0.9, 0.7, "no gain of one point"),
        (-0.5, 1.5, 0.9, "not resolved"),
        (-3.0, 4.0, 2.5, "too few pairs"),
        (math.nan, math.nan, math.nan, "too few pairs"),
    ],
)
def test_finding(low, high, detectable, finding):
    assert effects.finding(low, high, detectable) == finding


def test_a_place_is_told_once_by_the_study_with_the_most_pairs():
    rows = [ROW, ROW | {"study": "b", "difference_n": 30}, ROW | {"study": "c", "epsilon": "1"}]
    rows += [
        ROW | {"variant": "on-skip"},
        ROW | {"study": "d", "epsilon": "inf", "private": False},
        ROW | {"private": False, "recipe": "clip-only"},
    ]
    rows += [ROW | {"difference_n": 0, "recipe": "pocket"}]
    # a search for a learning rate, one of its rates in a study of its own, and another recipe
    rows += [ROW | {"study": "search", "difference_n": 40, "recipe": name} for name in ("digits", "digits-lr")]
    rows += [ROW | {"study": "rate", "difference_n": 3, "recipe": "digits-lr"}]
    recipes = {"digits": {"steps": 80, "optimizer": 1}, "digits-lr": {"steps": 80, "optimizer": 2}}

    def study(seeds, epsilon=8.0, names=("digits",)):
        arm = {"arch": "r", "variant": "scalenorm", "epsilon": epsilon}
        facts = [
            arm | {"recipe_name": name, "recipe": recipes[name], "seed": seed} for name in names for seed in range(seeds)
        ]
        return SimpleNamespace(runs=[SimpleNamespace(**fact) for fact in facts])

    studies = {"a": study(8), "b": study(32), "c": study(8, 1.0), "d": study(12, math.inf)}
    studies |= {"search": study(40, names=recipes), "rate": study(16, names=["digits-lr"])}
    found = effects.ours(pd.DataFrame(rows), studies)
    told = [(row["study"], row["recipe"], row["epsilon"], row["pairs"], row["planned"]) for row in found]
    assert told == [
        ("b", "digits", "8", 30, 32),
        ("c", "digits", "1", 8, 8),
        ("d", "digits", "inf", 8, 12),
        ("rate", "digits-lr", "8", 3, 16),
    ]
    assert {row["steps"] for row in found} == {80}
    assert [row["private"] for row in found] == [True, True, False, True]
    assert not any(row["alone"] for row in found)
    del studies["rate"]
    alone = effects.ours(pd.DataFrame(rows).query("study != 'rate'"), studies)
    assert [row["alone"] for row in alone] == [True, True, True]
    assert found[0]["finding"] == "gain"


def test_published_effects_have_welchs_interval():
    table = pd.read_csv(ROOT / "results/reference/published.csv", dtype=str, keep_default_na=False)
    found = {row["row"]["id"]: row for row in effects.published(table)}
    assert len(found) == 9
    row = found["rr-t6-scalenorm-relu-norm-both-eps8"]
    # 72.71 +- 1.2 and 71.68 +- 0.5, three runs each
    expected = reference.ttest_ind_from_stats(72.71, 1.2, 3, 71.68, 0.5, 3, equal_var=False)
    freedom = (1.2**2 / 3 + 0.5**2 / 3) ** 2 / ((1.2**2 / 3) ** 2 / 2 + (0.5**2 / 3) ** 2 / 2)
    half = reference.t.ppf(0.975, freedom) * 1.03 / expected.statistic
    assert (row["low"], row["high"]) == pytest.approx((1.03 - half, 1.03 + half))
    headline = found["scalenorm-v2-abstract-eps8"]
    assert headline["difference"] == pytest.approx(1.1)
    assert math.isnan(headline["low"])  # single values
