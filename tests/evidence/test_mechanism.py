"""Shares of a loss from accuracies made by hand."""

import numpy as np
import pytest

from bench.evidence import columns, mechanism
from bench.plan import resolve, spec
from tests.factory import record_of

COST = {"pocket": 6.0, "pocket-clip-only": 1.0, "pocket-noise-only": 3.0}  # what both, clipping and noise cost


@pytest.fixture
def study(shipped):
    runs = resolve.studies_of(shipped)["mechanism"].runs
    return runs, {run.recipe_name: spec.mechanism(run.recipe) for run in runs}


def accuracy(run):
    """Without either part 70 + seed; ScaleNorm mends two points of what both cost, and nothing else."""
    if run.epsilon == float("inf"):
        return 70.0 + run.seed
    mended = 2.0 if run.variant == "scalenorm" and run.recipe_name == "pocket" else 0.0
    return 70.0 + run.seed - COST[run.recipe_name] + mended + 0.01 * (run.seed % 3)


def test_shares_sum_to_the_loss_and_say_what_is_mended(study):
    runs, parts = study
    rows = mechanism.shares(columns.frame([record_of(run, accuracy(run)) for run in runs]), parts)
    found = {(row["variant"], row["part"]): row for row in rows}
    assert len(rows) == 3 * 4
    base = {part: found["baseline", part]["points"] for part in mechanism.PARTS}
    assert base["loss"] == pytest.approx(6.0, abs=0.02)
    assert base["clipping"] == pytest.approx((1 + 3) / 2, abs=0.02)
    assert base["noise"] == pytest.approx((3 + 5) / 2, abs=0.02)
    assert base["together"] == pytest.approx(2.0, abs=0.02)
    for variant in ("baseline", "scalenorm", mechanism.GAIN):
        parts_of = [found[variant, part]["points"] for part in ("clipping", "noise")]
        assert sum(parts_of) == pytest.approx(found[variant, "loss"]["points"])
    assert found[mechanism.GAIN, "loss"]["points"] == pytest.approx(-2.0)
    assert found[mechanism.GAIN, "loss"]["pairs"] == 12
    assert found["baseline", "loss"]["low"] < base["loss"] < found["baseline", "loss"]["high"]


def test_only_seeds_with_all_four_runs_count(study):
    runs, parts = study
    some = [run for run in runs if run.recipe_name != "pocket-noise-only" or run.seed > 15]
    rows = mechanism.shares(columns.frame([record_of(run, accuracy(run)) for run in some]), parts)
    assert {row["pairs"] for row in rows} == {4}
    none = [run for run in runs if run.recipe_name != "pocket-noise-only"]
    assert mechanism.shares(columns.frame([record_of(run, accuracy(run)) for run in none]), parts) == []
    assert not np.isnan([row["low"] for row in rows if row["part"] == "loss" and row["variant"] == "baseline"]).any()
