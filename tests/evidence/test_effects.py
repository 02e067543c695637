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
    rows += [ROW | {"variant": "on-skip"}, ROW | {"epsilon": "inf"}, ROW | {"private": False, "recipe": "clip-only"}]
    rows += [ROW | {"difference_n": 0, "recipe": "pocket"}]
    # a search for a learning rate, and a recipe of its own
    rows += [ROW | {"study": "d", "difference_n": 4, "recipe": "digits-lr"}, ROW | {"study": "e", "recipe": "long"}]
    run = SimpleNamespace(
        recipe_name="digits", recipe={"steps": 80, "optimizer": 1}, arch="r", variant="scalenorm", epsilon=8.0
    )
    runs = [SimpleNamespace(**vars(run) | {"seed": seed}) for seed in range(32)]
    others = [SimpleNamespace(**vars(run) | {"seed": seed, "epsilon": 1.0}) for seed in range(8)]
    apart = {"digits-lr": {"steps": 80, "optimizer": 2}, "long": {"steps": 800}, "pocket": {"steps": 8}, "clip-only": {}}
    more = [SimpleNamespace(**vars(run) | {"seed": 0, "recipe_name": name, "recipe": what}) for name, what in apart.items()]
    studies = {key: SimpleNamespace(runs=more) for key in "ade"}
    studies |= {"b": SimpleNamespace(runs=runs + others), "c": SimpleNamespace(runs=others)}
    found = effects.ours(pd.DataFrame(rows), studies)
    told = [(row["study"], row["epsilon"], row["pairs"], row["planned"]) for row in found]
    assert told == [("b", "8", 30, 32), ("c", "1", 8, 8), ("e", "8", 8, 1)]
    assert not any(row["alone"] for row in found)
    told = effects.ours(pd.DataFrame(rows).query("recipe != 'long'"), studies)
    assert [row["alone"] for row in told] == [True, True]
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
