"""Tables of arms from records made by hand."""

import numpy as np
import pytest

from bench.evidence import columns, images, summary
from tests.factory import record_of


def test_summarise(quick):
    made = []
    for run in quick.values():
        accuracy = {"baseline": 70.0, "scalenorm": 71.0}.get(run.variant, 69.0) + run.seed
        diverged = run.variant == "on-skip" and run.seed == 0
        made.append(record_of(run, None if diverged else accuracy, "diverged" if diverged else "completed"))
    table = summary.of_study(columns.frame(made), "quick", {}).set_index(["variant", "epsilon"])
    assert len(table) == 12
    row = table.loc["scalenorm", "8"]
    assert (row["n"], row["diverged"], row["mean"], row["sd"]) == (3, 0, 72.0, 1.0)
    assert (row["against"], row["difference"], row["difference_low"]) == ("baseline", 1.0, 1.0)
    skip = table.loc["on-skip", "8"]
    assert (skip["n"], skip["diverged"], skip["mean"], skip["difference_n"]) == (2, 1, 70.5, 2)
    assert table.loc["baseline", "inf"]["against"] == ""
    assert set(table["budget"]) == {"calibrated"}
    assert table["without_average_mean"].isna().all()
    assert list(summary.of_study(columns.frame([]), "quick", {}).columns) == summary.SUMMARY_COLUMNS


def test_pairs_are_of_equal_data_and_mixed_means_are_told(quick):
    made = [record_of(run, 70.0 + run.seed + 5 * (run.variant == "scalenorm")) for run in quick.values()]
    for record in made:
        if record["run"]["id"].startswith("digits/resnet9-w8/scalenorm/eps8/") and record["run"]["seed"] == 2:
            record["data"]["digest"] = "e" * 64
            record["result"]["accuracy"] = 0.0  # a pair with this one would show
    made = summary.of_study(columns.frame(made), "quick", {})
    table = made.set_index(["variant", "epsilon"])
    assert table.loc["baseline", "8"]["dataset_digests"] == "d" * 12
    row = table.loc["scalenorm", "8"]
    assert row["dataset_digests"] == f"{'d' * 12}; {'e' * 12}"
    assert (row["n"], row["difference_n"], row["difference"]) == (3, 2, 5.0)
    (note,) = summary.mixed_data(made)
    assert note.startswith("quick: note: the runs of digits/resnet9-w8/scalenorm/eps8 were made from data that differ (dddd")
    assert summary.mixed_data(summary.of_study(columns.frame([]), "quick", {})) == []


def test_images_of_pairs_reach_the_table(quick):
    """Pairs of equal seeds, their bits matched by run and data; McNemar counts the pairs that differ by their images."""
    random = np.random.default_rng(0)
    made = []
    for run in quick.values():
        right = random.random(400) < (0.9 if run.variant == "scalenorm" else 0.5)
        record = record_of(run, 100.0 * right.mean())
        record["data"]["test_size"], record["result"]["correct"] = 400, images.pack(right)
        made.append(record)
    table = summary.of_study(columns.frame(made), "quick", summary.bits_of(made)).set_index(["variant", "epsilon"])
    better = table.loc["scalenorm", "8"]
    assert better["two_way_low"] < better["difference"] < better["two_way_high"]
    assert (better["mcnemar_better"], better["mcnemar_worse"]) == (3, 0)
    assert better["improvement"] == 1.0
    assert better["difference_p"] <= better["difference_p_holm"]
    assert better["detectable"] > 0
    none = summary.of_study(columns.frame(made), "quick", {}).set_index(["variant", "epsilon"]).loc["scalenorm", "8"]
    assert np.isnan(none["two_way_low"])
    assert none["difference"] == pytest.approx(better["difference"])
