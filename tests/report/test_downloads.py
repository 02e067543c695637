"""The tables' files: what they hold, and that every column is explained."""

from urllib.parse import unquote

import pytest

from bench.evidence import columns, summary
from bench.report import downloads
from bench.report.dictionary import COLUMNS
from tests.factory import record_of


def test_every_column_is_explained(quick):
    made = [record_of(run, 70.0) for run in quick.values()]
    table = columns.frame(made)
    assert set(table) == set(COLUMNS["runs"]) - {"study"}
    assert set(summary.SUMMARY_COLUMNS) == set(COLUMNS["summary"]) - {"seed"}
    for name, means in downloads.measured(made).items():
        assert set(means) == set(COLUMNS[name]) - {"study"}, name


def test_curves_are_means_over_seeds(quick):
    made = [record_of(run, 70.0 + run.seed) for run in quick.values()]
    for record in made:
        for point in record["curve"]:
            point |= {"clipped": 0.5, "norms": [1.0, 2.0, 3.0], "snr": [0.1, 0.4, 0.2]}
    made[-1]["status"] = "diverged"
    found = downloads.measured(made)
    curves, mixing = found["curves"], found["mixing"]
    assert len(curves) == 4 * 3 * 2
    assert curves.iloc[0][["seeds", "accuracy", "norm", "snr"]].tolist() == pytest.approx([3, 71.0, 2.0, 0.2])
    assert curves["seeds"].min() == 2  # without the diverged run
    assert mixing.iloc[0][["block", "seeds", "branch"]].tolist() == ["res1", 3, 0.5]


def test_a_run_that_adds_noise_and_clips_nothing_has_a_row(quick):
    made = record_of(next(iter(quick.values())), 70.0)
    made["curve"][-1] |= {"snr": [0.1, 0.4, 0.2]}
    for point in made["curve"]:
        point.pop("clipped", None), point.pop("norms", None)
    curves = downloads.measured([made])["curves"]
    assert curves["snr"].dropna().tolist() == [0.2]
    assert curves["clipped"].isna().all()


def test_without_runs_the_tables_are_empty():
    assert all(table.empty for table in downloads.measured([]).values())


def test_an_address_holds_the_file():
    text = "a,b\n1,ε\n"
    head, body = downloads.address(text).split(",", 1)
    assert head == "data:text/csv;charset=utf-8"
    assert unquote(body) == text
    assert not {'"', "<", "&", "#", "\n"} & set(body)
