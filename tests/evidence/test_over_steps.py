"""Differences over steps from curves made by hand."""

import pytest

from bench.evidence import over_steps, stats
from bench.plan import resolve
from tests.factory import record_of

LEADS = {40: [8.0, 4.0, 6.0], 80: [1.0, 2.0, 0.0]}  # by step and seed: a head start


@pytest.fixture
def made(shipped):
    """Runs of quick at epsilon 8 over three seeds; baselines have 50 and 90 %."""
    runs = [run for run in resolve.studies_of(shipped)["quick"].runs if run.epsilon == 8 and run.seed < 3]
    records = [record_of(run, 90.0) for run in runs if run.variant in ("baseline", "scalenorm")]
    for record in records:
        seed, ahead = record["run"]["seed"], "/scalenorm/" in record["run"]["id"]
        for point, base in zip(record["curve"], (50.0, 90.0), strict=True):
            point["accuracy"] = base + seed + (LEADS[point["step"]][seed] if ahead else 0.0)
    return records


def test_a_lead_is_told_for_every_step_with_its_interval(made):
    table = over_steps.differences(over_steps.evaluations(made))
    assert table[["variant", "epsilon", "step", "pairs"]].to_numpy().tolist() == [
        ["scalenorm", "8", 40, 3],
        ["scalenorm", "8", 80, 3],
    ]
    assert table["difference"].tolist() == pytest.approx([6.0, 1.0])
    assert (table["low"][0], table["high"][0]) == pytest.approx(stats.interval([8.0, 4.0, 6.0]))


def test_only_runs_with_the_same_seed_and_data_are_pairs(made):
    by_id = {record["run"]["id"]: record for record in made}
    by_id["digits/resnet9-w8/baseline/eps8/seed0"]["status"] = "diverged"
    by_id["digits/resnet9-w8/scalenorm/eps8/seed2"]["data"]["digest"] = "e" * 64
    table = over_steps.differences(over_steps.evaluations(made))
    assert table["pairs"].tolist() == [1, 1]
    assert table["difference"].tolist() == [4.0, 2.0]
    assert table["low"].isna().all()


def test_without_a_baseline_there_is_nothing_to_tell(made):
    alone = [record for record in made if "/scalenorm/" in record["run"]["id"]]
    for records in ([], alone, made[:1]):
        assert over_steps.differences(over_steps.evaluations(records)).empty
