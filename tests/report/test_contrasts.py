"""Differences between any two variants, on accuracies that are easy to subtract."""

import math

import pandas as pd
import pytest

from bench.report import contrasts


def runs(gains, seeds=4, **changes):
    rows = [
        {"recipe": "a", "arch": "wrn", "epsilon": "8", "status": "completed", "variant": variant, "seed": seed,
         "accuracy": 70.0 + seed + gain + 0.1 * (seed % 2) * len(variant), "dataset_digest": "d"}
        for variant, gain in gains.items()
        for seed in range(seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**changes)


def test_every_pair_of_variants_has_a_cell_and_its_mirror():
    (matrix,) = contrasts.matrices(runs({"base": 0.0, "up": 2.0, "longest": 3.0}))
    assert matrix["variants"] == ["base", "up", "longest"]
    cells = [[cell and round(cell["difference"], 2) for cell in row["cells"]] for row in matrix["rows"]]
    assert cells == [[None, -1.9, -3.15], [1.9, None, -1.25], [3.15, 1.25, None]]
    up, down = matrix["rows"][1]["cells"][0], matrix["rows"][0]["cells"][1]
    assert (up["low"], up["high"]) == (-down["high"], -down["low"])
    assert up["p_holm"] == down["p_holm"]
    assert up["pairs"] == 4


def test_holm_is_over_all_places_of_a_study():
    one = runs({"base": 0.0, "up": 0.05, "longest": 3.0})
    both = pd.concat([one, one.assign(epsilon="inf")])
    alone, first = contrasts.matrices(one)[0], contrasts.matrices(both)[0]
    p, q = (matrix["rows"][1]["cells"][0]["p_holm"] for matrix in (alone, first))
    assert p < q
    assert [matrix["epsilon"] for matrix in contrasts.matrices(both)] == ["8", "inf"]


def test_two_variants_and_too_many_have_none():
    assert contrasts.matrices(runs({"base": 0.0, "up": 1.0})) == []
    assert contrasts.matrices(runs({f"v{i}": float(i) for i in range(contrasts.MOST + 1)}, seeds=1)) == []


def test_one_pair_has_no_interval():
    (matrix,) = contrasts.matrices(runs({"base": 0.0, "up": 2.0, "longest": 3.0}, seeds=1))
    cell = matrix["rows"][1]["cells"][0]
    assert cell["difference"] == pytest.approx(2.0)
    assert math.isnan(cell["low"])
    assert math.isnan(cell["p_holm"])
